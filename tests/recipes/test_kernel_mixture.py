"""The kernel mixture against scipy's multivariate t, conditionals by the precision matrix, and exact mixture worlds."""

import math

import pytest
import torch

from sfumato import Noise, grids
from sfumato.recipes.kernel_mixture import KernelMixture, Recipe
from sfumato.samplers import Arc, paths
from sfumato.worlds import MixtureWorld


def mixture(shapes=2, flat=2, periods=(4, 6)):
    return Recipe(shapes=shapes, flat=flat, periods=periods).model()


def lone(part, nu=1e6, reach=()):
    """One flat kernel that is one part alone: 0 level, 1 wandering, 3 short memory, 4 smooth, 5 noise."""
    model = mixture(0, 1, ())
    model.share.data.fill_(-40.0)
    model.share.data[0, part] = 0.0
    for which, value in reach:
        model.log_reach.data[0, which] = math.log(value)
    model.log_dof.data.fill_(math.log(nu))
    return model


def window(L=9, seed=0):
    x = Noise(seed).normal(torch.empty(L, dtype=torch.float64))
    return x, Noise(seed + 1).uniform(torch.empty(L)) < 0.6


@pytest.mark.parametrize(
    ("part", "reach", "at"),
    [
        (0, (), {1: 1.0, 7: 1.0}),
        (1, [(0, 5.0)], {5: math.exp(-1)}),
        (3, [(3, 2.0)], {2: math.exp(-1), 4: math.exp(-2)}),
        (4, [(4, 2.0)], {2: math.exp(-0.5), 4: math.exp(-2.0)}),
        (5, (), {1: 0.0, 3: 0.0}),
    ],
)
def test_each_part_of_a_kernel(part, reach, at):
    tables, log_pi = (x.detach() for x in lone(part, reach=reach).tables(8))
    assert tables.shape == (1, 8) and log_pi.tolist() == [0.0]
    assert float(tables[0, 0]) == pytest.approx(1.0001)
    for lag, value in at.items():
        assert float(tables[0, lag]) == pytest.approx(value, abs=1e-6)


def test_what_is_no_mixture():
    for fields in ({"shapes": 0, "flat": 0}, {"shapes": 2, "periods": ()}):
        with pytest.raises(ValueError, match="a mixture has a shape at least, and those with a season need periods"):
            Recipe(**fields)


@torch.no_grad()
def test_a_season_returns_and_flat_shapes_have_none():
    model = mixture(1, 1, (4, 6))
    model.share.data.fill_(-40.0)
    model.share.data[:, 2] = 0.0
    model.share.data[1, 3] = -2.0
    model.log_reach.data[0, 1:3] = torch.tensor([1.0, 3.0]).log()
    tables, log_pi = (x.detach() for x in model.tables(13))
    for row, P in zip(tables, (4, 6), strict=False):
        assert float(row[P]) == pytest.approx(math.exp(-1 / 3))
        assert float(row[2 * P]) == pytest.approx(math.exp(-2 / 3))
        assert float(row[P // 2]) == pytest.approx(math.exp(-2 - 1 / 6))
    assert float(tables[2, 4]) == pytest.approx(float(torch.exp(-4 / model.log_reach[1, 3].exp())))
    torch.testing.assert_close(log_pi.exp(), torch.tensor([0.25, 0.25, 0.5]).double())
    model.weight.data = torch.tensor([math.log(3.0), 0.0])
    torch.testing.assert_close(model.tables(3)[1].exp(), torch.tensor([0.375, 0.375, 0.25]).double())


def test_every_kernel_is_a_covariance():
    tables, _ = Recipe().model().tables(60)
    place = torch.arange(60)
    assert float(torch.linalg.eigvalsh(tables[:, (place[:, None] - place).abs()]).min()) > 9e-5
    assert torch.allclose(tables[:, 0], torch.tensor(1.0001).double())
    assert len(tables) == 12 * len(Recipe().periods) + 12


def test_evidence_is_that_of_multivariate_t_laws():
    stats = pytest.importorskip("scipy.stats")
    model = mixture()
    x = Noise(0).normal(torch.empty(3, 7, dtype=torch.float64))
    tables, log_pi = model.tables(7)
    place = torch.arange(7)
    K = tables[:, (place[:, None] - place).abs()]
    log_w, q, _ = model.evidence(K, x, log_pi)
    nu = float(model.log_dof.exp())
    for k in range(len(K)):
        expected = stats.multivariate_t(shape=K[k].detach().numpy(), df=nu).logpdf(x.numpy())
        assert log_w[k].tolist() == pytest.approx((expected + float(log_pi[k])).tolist(), rel=1e-6)
        assert float(q[k, 1]) == pytest.approx(float(x[1] @ torch.linalg.inv(K[k].detach()) @ x[1]))
    loss = Recipe().objective(model)(x[:, None].float(), {}, Noise(0))
    torch.testing.assert_close(loss.double(), -log_w.logsumexp(0) / 7, atol=1e-5, rtol=1e-5)


def test_one_kernel_gives_the_conditional_and_the_scale_that_is_seen():
    x, known = window()
    model = lone(3, nu=3.0, reach=[(3, 4.0)])
    part = model.posterior(x, known)
    place = torch.arange(9).double()
    K = torch.exp(-(place[:, None] - place).abs() / 4.0) + 1e-4 * torch.eye(9).double()
    P, h = torch.linalg.inv(K), ~known
    S = torch.linalg.inv(P[h][:, h])
    torch.testing.assert_close(part.m[0], -S @ P[h][:, known] @ x[known], atol=1e-6, rtol=1e-6)
    q = float(x[known] @ torch.linalg.inv(K[known][:, known]) @ x[known])
    found = (part.V * part.c[:, None]) @ part.V.mT
    torch.testing.assert_close(found[0], S * (3 + q) / (3 + int(known.sum())), atol=1e-6, rtol=1e-5)
    assert part.places.tolist() == h.nonzero()[:, 0].tolist()


def test_the_kernel_that_explains_what_is_known_weighs_most_and_weak_ones_are_left_out():
    model = mixture(2, 2, (4, 6, 8))
    model.share.data[0, 2], model.log_reach.data[0, 2] = 5.0, 6.0
    wave = torch.sin(2 * math.pi * torch.arange(48) / 6).double()
    known = torch.arange(48) < 36
    part = model.posterior(wave, known)
    assert float((part.log_w.exp() @ part.m - wave[36:]).abs().max()) < 0.1
    assert len(part.log_w) < 8 and float(part.log_w.exp().sum()) > 0.99
    turned = model.posterior(wave.flip(0), known.flip(0))
    torch.testing.assert_close(turned.log_w, part.log_w)
    assert len(model.posterior(wave, torch.zeros(48, dtype=torch.bool)).log_w) == 8  # nothing known: all as they were
    assert len(Recipe().model().posterior(wave[:6], torch.zeros(6, dtype=torch.bool)).log_w) == 12  # at most


def worlds(model, x, known):
    part = model.posterior(x, known)
    return MixtureWorld(part.log_w.exp(), part.m, (part.V * part.c[:, None]) @ part.V.mT)


@pytest.mark.parametrize("t", [0.02, 0.3, 0.9, torch.tensor([0.2, 0.7])])
def test_the_estimate_is_that_of_the_mixture(t):
    model, process = mixture(), mixture().process
    rows = [window(seed=0), window(seed=5)]
    xt = Noise(9).normal(torch.empty(2, 1, 9, dtype=torch.float64))
    cond = {"observed": torch.stack([x for x, _ in rows])[:, None], "mask": torch.stack([k for _, k in rows])[:, None]}
    for found in (model(xt, t, cond).mean, model.given(cond)(xt, t).mean):
        for b, (x, known) in enumerate(rows):
            exact = worlds(model, x, known).denoiser(process)
            at = float(t[b]) if isinstance(t, torch.Tensor) else t
            torch.testing.assert_close(found[b, 0, ~known], exact(xt[b : b + 1, 0, ~known], at).mean[0])
            assert torch.equal(found[b, 0, known], x[known])


def test_without_a_condition_nothing_is_known():
    model = mixture()
    xt = Noise(0).normal(torch.empty(2, 1, 6, dtype=torch.float64))
    nothing = {"observed": torch.full_like(xt, 7.0), "mask": torch.zeros_like(xt)}
    assert torch.equal(model(xt, 0.4).mean, model(xt, 0.4, nothing).mean)
    torch.testing.assert_close(model(-xt, 0.4).mean, -model(xt, 0.4).mean)
    everything = {"observed": xt, "mask": torch.ones_like(xt)}
    assert torch.equal(model(0 * xt, 0.4, everything).mean, xt)


def test_samples_have_the_moments_of_the_posterior():
    model = mixture()
    x, known = window(L=8)
    world = worlds(model, x, known)
    cond = {"observed": x[None, None], "mask": known[None, None]}
    times = grids.default(model.process, 40)
    drawn = paths(model, cond, 3000, times=times, sampler=Arc(), batch=3000)[:, 0, 0]
    assert torch.equal(drawn[:, known], x[known].expand(3000, -1))
    error = world.cov.diagonal().sqrt() / math.sqrt(3000)
    assert ((drawn[:, ~known].mean(0) - world.mean).abs() < 4 * error).all()
    assert ((drawn[:, ~known].var(0) / world.cov.diagonal() - 1).abs() < 0.15).all()


def test_learning_raises_the_likelihood_of_what_follows_a_law():
    torch.manual_seed(0)
    model = mixture(1, 2, (5,))
    assert isinstance(model, KernelMixture)
    eps = Noise(0).normal(torch.empty(256, 40, dtype=torch.float64))
    x = eps.clone()
    for k in range(1, 40):
        x[:, k] = 0.8 * x[:, k - 1] + 0.6 * eps[:, k]
    objective = Recipe().objective(model)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss = objective(x[:128, None], {}, Noise(0)).mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    # Entropy of the chain: (h(1) + 39 h(0.36)) / 40, h(v) = log(2 pi e v) / 2.
    best = (0.5 * math.log(2 * math.pi * math.e) * 40 + 39 * math.log(0.6)) / 40
    found = float(objective(x[128:, None], {}, Noise(0)).mean().detach())
    assert best - 0.05 < found < best + 0.06
