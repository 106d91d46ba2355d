"""DSB on normals, where every regression is exact: orthogonal columns take the place of random numbers."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from basis import Basis
from torch import Tensor

from sfumato.nets import MLP
from sfumato.noise import Noise
from sfumato.recipes.dsb import Half, Recipe
from sfumato.samplers.sde import last
from sfumato.training.chains import LearnedMove, Reference, Reversal, Transitions, walk

V0, V1 = 1.0, 0.25


class Linear:
    """mean = gain(t) x, a standard deviation for each time."""

    def __init__(self, gains: dict[float, float], stds: dict[float, float]) -> None:
        self.gains, self.stds = gains, stds

    def mean(self, x: Tensor, t: float) -> Tensor:
        return self.gains[t] * x

    def std(self, x: Tensor, t: float) -> float:
        return self.stds[t]


def least_squares(exact: bool) -> Callable[..., Linear]:
    def fitter(times: tuple[float, ...], refill: Callable[[int], Transitions], index: int) -> Linear:
        data, gains, stds = refill(0), {}, {}
        for t, s in pairwise(times):
            rows = data.time == t
            x, y = data.new[rows], (data.old if exact else data.target)[rows]
            gains[t] = float((x * y).sum() / x.square().sum())
            # The published losses leave the variance of the step as it is.
            stds[t] = float((y - gains[t] * x).square().mean().sqrt()) if exact else math.sqrt(2 * abs(s - t))
        return Linear(gains, stds)

    return fitter


def law(move: Linear, times: tuple[float, ...], variance: float) -> tuple[float, float]:
    """(variance at the end, covariance of the ends) of a linear chain."""
    cross = variance
    for t in times[:-1]:
        variance = move.gains[t] ** 2 * variance + move.stds[t] ** 2
        cross *= move.gains[t]
    return variance, cross


def halves(recipe: Recipe, exact: bool) -> list[Half]:
    noise = Basis()
    return list(recipe.alternate(noise.start(math.sqrt(V0)), noise.start(math.sqrt(V1)), least_squares(exact), noise))


def bridge(recipe: Recipe) -> float:
    v = 2 * recipe.times()[-1]
    return 0.5 * (math.sqrt(4 * V0 * V1 + v**2) - v)


def test_learned_variances_make_ipf_exact_on_normals() -> None:
    recipe = Recipe(rounds=11, cache=21, learned=True)
    c = bridge(recipe)
    assert c == pytest.approx(0.338516, abs=1e-6)
    for half in halves(recipe, exact=True):
        move, times, start = (
            (half.forward, recipe.times(), V0) if half.index % 2 == 0 else (half.backward, recipe.times()[::-1], V1)
        )
        end, cross = law(move, times, start)
        if half.index == 1:
            assert abs(cross - c) > 0.1
    assert cross == pytest.approx(c, abs=5e-8)
    assert end == pytest.approx(V1, abs=1e-6)


def test_mean_matching_nears_the_bridge_and_then_drifts_from_it() -> None:
    recipe = Recipe(rounds=100, cache=21)
    c, errors, ends = bridge(recipe), {}, {}
    for half in halves(recipe, exact=False):
        if half.index % 2:
            ends["data"], cross = law(half.backward, recipe.times()[::-1], V1)
            errors[(half.index + 1) // 2] = cross - c
        else:
            ends["prior"], _ = law(half.forward, recipe.times(), V0)
    for rounds, error in ((1, -0.160), (2, -0.047), (5, -0.0215), (20, -0.0307), (100, -0.0345)):
        assert errors[rounds] == pytest.approx(error, abs=6e-5 if rounds > 2 else 6e-4), rounds
    # Both directions keep the variance 2 g: neither end is reached.
    assert ends["prior"] == pytest.approx(0.266, abs=5e-4)
    assert ends["data"] == pytest.approx(0.921, abs=5e-4)


def test_finer_steps_err_less() -> None:
    recipe = Recipe(steps=200, first=0.001, last=0.001, rounds=5, cache=201)
    for half in halves(recipe, exact=False):
        if half.index % 2:
            _, cross = law(half.backward, recipe.times()[::-1], V1)
    assert cross - bridge(recipe) == pytest.approx(-0.0027, abs=6e-5)


def test_the_schedule_rises_and_falls_again() -> None:
    def steps(recipe: Recipe) -> list[float]:
        return [b - a for a, b in pairwise(recipe.times())]

    assert steps(Recipe(steps=4, first=1.0, last=3.0)) == [1.0, 3.0, 3.0, 1.0]
    assert steps(Recipe(steps=5, first=1.0, last=3.0)) == [1.0, 2.0, 3.0, 2.0, 1.0]
    assert steps(Recipe(steps=1, first=1.0, last=3.0)) == [1.0]
    assert Recipe().times()[-1] == pytest.approx(0.2)


def test_what_is_recorded_of_an_uneven_chain() -> None:
    """X' = X + h f(X) + sqrt(2 h) Z with f = -x: target = X' + (1 - h) X - (1 - h) X', and the time of X'."""
    times = (0.0, 0.1, 0.4)
    x = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    data = Transitions.record(Reference(times, lambda x: -x), x, times, Noise(3))
    z = Noise(3)
    first = 0.9 * x + math.sqrt(0.2) * z.normal(x)
    second = 0.7 * first + math.sqrt(0.6) * z.normal(x)
    torch.testing.assert_close(data.new, torch.cat([first, second]))
    torch.testing.assert_close(data.old, torch.cat([x, first]))
    torch.testing.assert_close(data.target, torch.cat([0.1 * first + 0.9 * x, 0.3 * second + 0.7 * first]))
    new, cond = data.batch([3, 0], None)
    assert cond["time"].tolist() == [0.4, 0.1] and len(data) == 4
    torch.testing.assert_close(new, torch.stack([second[1], first[0]]))
    torch.testing.assert_close(cond["old"], torch.stack([first[1], x[0]]))


def test_a_quiet_walk_ends_at_its_mean() -> None:
    times = (0.0, 0.1, 0.4)
    x = torch.ones(3, 1, dtype=torch.float64)
    move = Reference(times, lambda x: -x)
    loud, quiet = (list(walk(move, x, times, Noise(0), quiet=q)) for q in (False, True))
    torch.testing.assert_close(loud[0], quiet[0])
    torch.testing.assert_close(quiet[1], 0.7 * quiet[0])
    assert not torch.allclose(loud[1], quiet[1])


class Constant(torch.nn.Module):
    """Says 0.3 of everything, and 0.5 in the second half of the channels; notes the clock."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.clocks = channels, []

    def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        self.clocks.append(c_noise)
        out = torch.full((len(u), self.channels), 0.3, dtype=u.dtype)
        out[:, u.shape[1] :] = 0.5
        return out


def test_a_learned_move_is_told_its_time_and_takes_the_step_that_begins_there() -> None:
    falling = (0.4, 0.1, 0.0)
    x, t = torch.ones(2, 1, dtype=torch.float64), torch.tensor([0.4, 0.1], dtype=torch.float64)
    move = LearnedMove(Constant(1), falling)
    mean, std = move.both(x, t)
    torch.testing.assert_close(mean, x + 0.3)
    torch.testing.assert_close(std, torch.tensor([[0.6], [0.2]], dtype=torch.float64).sqrt())
    torch.testing.assert_close(move.net.clocks[-1], torch.tensor([1.0, 0.25], dtype=torch.float64))
    assert move.std(x, 0.1) == pytest.approx(math.sqrt(0.2))
    torch.testing.assert_close(LearnedMove(Constant(1), falling, drift=False).mean(x, 0.4), 0.3 * x)
    own = LearnedMove(Constant(2), falling, learned=True)
    assert own.std(x, 0.1).flatten().tolist() == pytest.approx([math.sqrt(0.2) * math.exp(0.5)] * 2)
    cond = {"time": t, "target": x - 1.0, "old": x + 0.2}
    torch.testing.assert_close(Reversal(move)(x, cond, Noise(0)), torch.full((2,), 1.69, dtype=torch.float64))
    var = 2 * torch.tensor([0.3, 0.1], dtype=torch.float64) * math.e
    expected = -torch.distributions.Normal(1.3, var.sqrt()).log_prob(torch.tensor(1.2)) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(Reversal(own)(x, cond, Noise(0)), expected.double())


def normals() -> list[Callable[[int, Noise], Tensor]]:
    return [lambda n, noise, std=std: std * noise.normal(torch.empty(n, 1)) for std in (1.0, 0.5)]


def test_a_half_round_trains_on_renewed_caches_and_gives_the_average() -> None:
    torch.manual_seed(0)
    made, asked, seen = [], [], []

    def net() -> MLP:
        made.append(MLP(1, 8, 1))
        return made[-1]

    def refill(i: int) -> Transitions:
        asked.append(i)
        x = Noise(i).normal(torch.empty(50, 1))
        return Transitions.record(Reference(times), x, times, Noise(10 + i))

    recipe = Recipe(steps=2, iterations=5, refresh=2, batch=8, rate=0.1, warm=True)
    times = recipe.times()
    fitter = recipe.fitter(net, 3, lambda *words: seen.append(words[:2]))
    first = fitter(times[::-1], refill, 1)
    assert asked == [0, 1, 2] and seen == [(1, i) for i in range(1, 6)] and len(made) == 1
    trained = next(iter(made[0].parameters()))
    averaged = next(iter(first.net.parameters()))
    assert not torch.equal(trained, averaged) and not averaged.requires_grad
    fitter(times, refill, 2)
    assert len(made) == 2
    again = fitter(times[::-1], refill, 3)  # goes on from the trained weights, not from new ones
    assert len(made) == 2 and first.net is not again.net
    torch.testing.assert_close(next(iter(made[0].parameters())), trained)
    cold = Recipe(steps=2, iterations=1, batch=8).fitter(net)
    cold(times, refill, 1), cold(times, refill, 2)
    assert len(made) == 4


@pytest.mark.slow
@pytest.mark.parametrize("learned", [False, True])
def test_networks_do_what_the_linear_maps_do(learned: bool) -> None:
    torch.manual_seed(0)
    recipe = Recipe(
        steps=5, first=0.04, last=0.04, rounds=3, iterations=400, refresh=50, batch=256, rate=5e-3, decay=0.98,
        cache=1000, learned=learned, warm=True,
    )  # fmt: skip
    start, end = normals()
    for half in recipe.train(lambda: MLP(1, 32, 1, out=2 if learned else None), start, end):
        pass
    assert half.index == 6
    x0, x1 = start(20_000, Noise(5)), end(20_000, Noise(7))
    x = last(walk(half.forward, x0, recipe.times(), Noise(6)))
    z = last(walk(half.backward, x1, recipe.times()[::-1], Noise(6)))
    linear = halves(Recipe(steps=5, first=0.04, last=0.04, rounds=3, cache=6), exact=learned)[-1]
    there, back = law(linear.forward, recipe.times(), V0), law(linear.backward, recipe.times()[::-1], V1)
    assert (float(x.var()), float((x0 * x).mean())) == pytest.approx(there, abs=0.04)
    assert (float(z.var()), float((x1 * z).mean())) == pytest.approx(back, abs=0.06)
    assert recipe.transport(half.forward, x0, Noise(6)).var() < x.var()
    assert recipe.transport(half.backward, x1, Noise(6), down=True).var() < z.var()
