"""The neural SDE on b = 0, X_0 = 0, y ~ N(X_1, r^2): control, value and evidence are known."""

import math

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.noise import Noise, Seeds
from sfumato.recipes.neural_sde import Girsanov, LatentSDE, Recipe, clock
from sfumato.training import fit

R = 0.5


class Scaled(torch.nn.Module):
    """c (y - x) / (1 - t + r^2): Foellmer's drift at c = 1, no control at 0."""

    def __init__(self, c: float) -> None:
        super().__init__()
        self.c = torch.nn.Parameter(torch.tensor(c, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.c * (y - x) / (1 - t.unsqueeze(1) + R**2)


class Same(torch.nn.Module):
    def forward(self, x: Tensor, t: Tensor, cond: object) -> Tensor:
        return x


class Constant(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, cond: object) -> Tensor:
        return self.value.expand(x.shape)


def world(c: float, drift: torch.nn.Module | None = None) -> LatentSDE:
    model = LatentSDE(drift, Same(), Scaled(c), 1, R)
    return model.double()


def evidence(y: Tensor, mean: float = 0.0) -> Tensor:
    """log N(y; mean, 1 + r^2)."""
    return torch.distributions.Normal(mean, math.sqrt(1 + R**2)).log_prob(y).sum(1).double()


def test_at_the_true_control_the_bound_is_the_evidence_and_its_variance_falls_with_the_step() -> None:
    y = tensor(0.3, -1.7, 2.0).reshape(3, 1).repeat(2000, 1)
    gaps, spreads = [], []
    for steps in (25, 100):
        bound = Girsanov(world(1.0), steps)(y, None, Noise(0)).detach()
        gaps.append(float((bound + evidence(y)).mean()))
        spreads.append(float((bound + evidence(y)).std()))
    # Euler's error is first order in the mean, and of order one half path by path.
    assert abs(gaps[1]) < 0.01 and abs(gaps[1]) < 0.4 * abs(gaps[0]) + 0.003
    assert spreads[1] == pytest.approx(0.5 * spreads[0], rel=0.15) and spreads[1] < 0.15


def test_without_the_martingale_term_the_mean_is_the_same_and_the_variance_is_not() -> None:
    y = tensor(0.8).repeat(4000, 1)
    with_it, without = (Girsanov(world(1.0), 50, martingale=m)(y, None, Noise(0)).detach() for m in (True, False))
    error = 4 * float(without.std()) / math.sqrt(4000)
    assert float(with_it.mean()) == pytest.approx(float(without.mean()), abs=error)
    assert float(without.std()) > 3 * float(with_it.std())


def test_the_gap_of_another_control_is_the_relative_entropy_of_the_paths() -> None:
    """No control: E[-log p(y | X_1)] = 0.5 log(2 pi r^2) + (y^2 + 1) / (2 r^2), the paths being Brownian."""
    y = tensor(0.8).repeat(40_000, 1)
    bound = Girsanov(world(0.0), 20)(y, None, Noise(1)).detach()
    truth = 0.5 * math.log(2 * math.pi * R**2) + (0.64 + 1.0) / (2 * R**2)
    assert float(bound.mean()) == pytest.approx(truth, abs=4 * float(bound.std()) / 200)
    assert truth > -float(evidence(y)[0]) + 0.5


def test_a_drift_moves_the_prior_and_the_control_comes_on_top_of_it() -> None:
    """b = 0.7: X_1 ~ N(0.7, 1); u = 0 costs nothing, and draws follow."""
    model, recipe = world(0.0, Constant(0.7)), Recipe(dim=1, observed=1, steps=10)
    y = recipe.draw(model, 50_000, Noise(2))
    assert y.shape == (50_000, 1) and y.dtype == torch.float64
    assert float(y.mean()) == pytest.approx(0.7, abs=4 * math.sqrt(1.25 / 50_000))
    assert float(y.var()) == pytest.approx(1.25, abs=0.03)
    bound = Girsanov(model, 10)(y[:20_000], None, Noise(3)).detach()
    # y and X_1 independent draws about one mean: E (y - X_1)^2 = 2 + r^2.
    truth = 0.5 * math.log(2 * math.pi * R**2) + (2 + R**2) / (2 * R**2)
    assert float(bound.mean()) == pytest.approx(truth, abs=4 * float(bound.std()) / math.sqrt(20_000))


@pytest.mark.parametrize("c", [0.6, 1.0])
def test_importance_weights_of_paths_estimate_the_evidence(c: float) -> None:
    """Girsanov's weights are exact on the grid too: b = 0 gives X_1 ~ N(0, 1) for any number of steps."""
    y = tensor(0.3, -1.2).reshape(2, 1)
    found = Recipe(dim=1, observed=1, steps=8).evidence(world(c), y, Noise(4), paths=20_000)
    close(found, evidence(y), 0.01)


def test_inference_ends_in_the_posterior() -> None:
    """X_1 | y ~ N(y / (1 + r^2), r^2 / (1 + r^2)); the other control is left at the prior."""
    y, n = tensor(1.5).repeat(40_000, 1), 40_000
    recipe = Recipe(dim=1, observed=1, steps=200)
    x = recipe.infer(world(1.0), y, Noise(5))
    var = R**2 / (1 + R**2)
    assert float(x.mean()) == pytest.approx(1.5 / (1 + R**2), abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=0.05)
    moved = Recipe(dim=1, observed=1, steps=10).infer(world(0.0, Constant(0.7)), y, Noise(5))
    assert float(moved.mean()) == pytest.approx(0.7, abs=0.02) and float(moved.var()) == pytest.approx(1.0, abs=0.03)


def test_gradients_flow_through_the_whole_path() -> None:
    """One noise gives one path: autograd agrees with finite differences, for control and drift."""
    y, h = tensor(0.3, -1.0).reshape(2, 1), 1e-5
    model = world(0.7, Constant(0.2))
    for value in (model.control.c, model.drift.value, model.log_noise):
        (slope,) = torch.autograd.grad(Girsanov(model, 12)(y, None, Noise(6)).sum(), value)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                value.add_(sign * h)
                ends.append(float(Girsanov(model, 12)(y, None, Noise(6)).sum()))
                value.add_(-sign * h)
        assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_rows_are_their_own_whatever_the_batch() -> None:
    y = tensor(0.3, -1.0).reshape(2, 1)
    both = Girsanov(world(0.7), 12)(y, None, Seeds([3, 4])).detach()
    each = [Girsanov(world(0.7), 12)(y[i : i + 1], None, Seeds([3 + i])).detach() for i in range(2)]
    close(both, torch.cat(each), 1e-12)
    assert clock(4) == (0.0, 0.25, 0.5, 0.75, 1.0)


class Observed:
    """y ~ N(W x, r^2), x ~ N(0, 1), one number seen twice."""

    def __len__(self) -> int:
        return 4096

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        fixed = Seeds.keyed(7, items)
        x = fixed.normal(torch.empty(len(items), 1))
        return torch.cat([x, -0.5 * x], 1) + 0.5 * fixed.normal(torch.empty(len(items), 2)), None


def test_a_control_learns_the_posterior_of_a_linear_world() -> None:
    torch.manual_seed(0)
    recipe = Recipe(dim=1, observed=2, width=32, depth=1, steps=10, drift=False)
    model = recipe.model()
    assert model.drift is None
    linear = torch.nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0], [-0.5]])
    model.decoder = Decode(linear)
    model.requires_grad_(False)
    model.control.requires_grad_(True)
    objective = recipe.objective(model)
    optimizer = torch.optim.Adam(model.control.parameters(), 1e-2)
    first = float(objective(Observed().batch(list(range(2000)), None)[0], None, Noise(1)).detach().mean())
    for _ in fit(objective, Observed(), optimizer, steps=120, batch=64):
        pass
    y = Observed().batch(list(range(2000)), None)[0]
    cov = 0.25 * torch.eye(2) + torch.outer(linear.weight[:, 0], linear.weight[:, 0])
    truth = -float(torch.distributions.MultivariateNormal(torch.zeros(2), cov).log_prob(y).mean())
    bound = float(objective(y, None, Noise(1)).detach().mean())
    # Nine tenths of the gap are closed; part of the rest is the grid's.
    assert first > truth + 1.0 and truth - 0.03 < bound < truth + 0.1 * (first - truth)
    tighter = -float(recipe.evidence(model, y[:200], Noise(2)).mean())
    exact = -float(torch.distributions.MultivariateNormal(torch.zeros(2), cov).log_prob(y[:200]).mean())
    assert tighter == pytest.approx(exact, abs=0.03)


class Decode(torch.nn.Module):
    def __init__(self, linear: torch.nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor, t: Tensor, cond: object) -> Tensor:
        return self.linear(x)
