"""Streams: what a draw depends on, and the laws it follows."""

from __future__ import annotations

import pytest
import torch
from worlds_for_tests import close, normal, tensor

from sfumato.noise import Noise, Seeds

LIKE = torch.empty(3, 5, dtype=torch.float64)
PROBS = tensor(0.1, 0.2, 0.3, 0.4).expand(3, 5, 4)
DRAWS = {
    "normal": lambda n, rows: n.normal(LIKE[rows]),
    "uniform": lambda n, rows: n.uniform(LIKE[rows]),
    "gamma": lambda n, rows: n.gamma(1.5 + LIKE[rows].fill_(0.5)),
    "choice": lambda n, rows: n.choice(PROBS[rows]),
}
every = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())


@every
def test_a_seed_is_a_stream_that_moves(draw) -> None:
    first, again, other = Noise(7), Noise(7), Noise(8)
    a, b = draw(first, slice(None)), draw(first, slice(None))
    assert torch.equal(draw(again, slice(None)), a) and torch.equal(draw(again, slice(None)), b)
    assert not torch.equal(a, b) and not torch.equal(draw(other, slice(None)), a)


@every
def test_a_row_depends_on_its_seed_alone(draw) -> None:
    whole, pair = Seeds([4, 9, 2]), Seeds([2, 4])
    for _ in range(2):  # the streams stay in step as they move
        rows, permuted = draw(whole, slice(None)), draw(pair, slice(2))
        assert torch.equal(permuted[0], rows[2]) and torch.equal(permuted[1], rows[0])
    assert torch.equal(draw(Seeds([9]), slice(1))[0], draw(Seeds([4, 9, 2]), slice(None))[1])
    # and equals the one stream of that seed, drawn without a batch axis
    if draw is DRAWS["normal"]:
        assert torch.equal(Seeds([4, 9, 2]).normal(LIKE)[1], Noise(9).normal(LIKE[0]))


def test_permutations() -> None:
    orders = Seeds([4, 9]).permutation(50)
    assert torch.equal(orders[1], Noise(9).permutation(50)) and not torch.equal(orders[0], orders[1])
    assert torch.equal(orders.sort(1).values, torch.arange(50).expand(2, 50))


def test_draws_take_shape_and_dtype_of_like() -> None:
    for like in (torch.empty(2, 3), torch.empty(2, 3, dtype=torch.float64), torch.empty(2, 0)):
        for noise in (Noise(0), Seeds([0, 1])):
            assert noise.normal(like).dtype == like.dtype and noise.uniform(like).shape == like.shape
    z = Noise(0).normal(torch.empty(40000, dtype=torch.complex128))
    assert z.abs().square().mean() == pytest.approx(1.0, abs=4 / 200)  # |z|^2 is exponential: standard error 1 / 200


def test_laws_within_four_standard_errors() -> None:
    n = 100_000
    like, error = torch.empty(n, dtype=torch.float64), 4 / n**0.5
    z, u, g = Noise(1).normal(like), Noise(2).uniform(like), Noise(3).gamma(torch.full_like(like, 2.5))
    assert abs(z.mean()) < error and abs(z.var() - 1) < error * 2**0.5
    assert abs(u.mean() - 0.5) < error / 12**0.5 and u.min() >= 0 and u.max() < 1
    assert abs(g.mean() - 2.5) < error * 2.5**0.5 and abs(g.var() - 2.5) < 10 * error
    k = Noise(4).choice(torch.tensor([1.0, 0.0, 3.0, 4.0, 0.0]).expand(n, -1))  # need not sum to one
    assert k.dtype == torch.int64
    shares = torch.bincount(k, minlength=5) / n
    assert shares[1] == 0 and shares[4] == 0
    assert float((shares[[0, 2, 3]] - torch.tensor([0.125, 0.375, 0.5])).abs().max()) < 0.5 * error


def test_keyed_streams_hash_seed_and_id() -> None:
    like = torch.empty(2, 4)
    a = Seeds.keyed(5, [(0, 1), "x"]).normal(like)
    assert torch.equal(Seeds.keyed(5, ["x", (0, 1)]).normal(like), a.flip(0))
    assert not torch.equal(Seeds.keyed(6, [(0, 1), "x"]).normal(like), a)
    assert not torch.equal(a[0], a[1])
    seeds = [n.seed for n in Seeds.keyed(0, range(2000)).streams]
    assert len(set(seeds)) == 2000 and min(seeds) >= 0 and max(seeds) < 2**63
    assert max(seeds) > 2**62  # all of the range is used
    # seed and id do not run together
    assert Seeds.keyed(1, [23]).streams[0].seed != Seeds.keyed(12, [3]).streams[0].seed


def test_a_batch_of_another_length_is_an_error() -> None:
    seeds = Seeds(range(3))
    assert len(seeds) == 3
    for draw in (seeds.normal, seeds.uniform, seeds.gamma):
        with pytest.raises(ValueError, match=r"Seeds has 3 streams but the batch has shape \(2, 4\)"):
            draw(torch.ones(2, 4))
    with pytest.raises(ValueError, match="one seed per row"):
        seeds.normal(torch.ones(()))


def test_batch_noise_of_one_seed_is_not_repeated_over_rows() -> None:
    z = Noise(0).normal(LIKE)
    assert not torch.equal(z[0], z[1])
    close(normal(3, 5), z, 0.0)


def test_the_stream_of_a_key_depends_on_seed_and_key_alone() -> None:
    x = torch.empty(2, 3)
    noise, seeds = Noise(5), Seeds([5, 6])
    first, rows = noise.at("a").normal(x), seeds.at("a").normal(x)
    noise.normal(x)
    seeds.normal(x)
    assert torch.equal(noise.at("a").normal(x), first) and torch.equal(seeds.at("a").normal(x), rows)
    assert not torch.equal(noise.at("b").normal(x), first)
    assert torch.equal(rows[0], noise.at("a").normal(x[0])) and not torch.equal(rows[0], rows[1])
    assert noise.at("a").seed != noise.at("b").seed != noise.seed


def test_binomial_counts_are_whole_and_a_row_s_own() -> None:
    count = torch.tensor([[40.0], [7.0], [0.0]]).expand(3, 20_000).contiguous()
    x = Noise(0).binomial(count, 0.3)
    assert torch.equal(x, x.round()) and bool((x <= count).all()) and x.dtype == count.dtype
    assert torch.allclose(x.mean(1), 0.3 * count[:, 0], atol=0.1)
    assert torch.allclose(x.var(1), 0.21 * count[:, 0], rtol=0.06)
    assert torch.equal(Seeds([1, 2, 3]).binomial(count, 0.3)[1:2], Seeds([2]).binomial(count[1:2], 0.3))
    with pytest.raises(ValueError, match="Seeds has 2 streams"):
        Seeds([1, 2]).binomial(count, 0.3)
