"""DGLSB on N(0, s^2), where score, ratio and both drifts are known: the figures are recursions of the paper's steps."""

import math

import pytest
import torch
from basis import Basis
from torch import Tensor

from sfumato.noise import Noise
from sfumato.processes import Brownian
from sfumato.recipes.schrodinger_generative import Objective, Recipe, TwoStage
from sfumato.worlds import GaussianWorld

S2, TAU = 0.3, 2.0
V = S2 + 1.0  # of q_sigma, sigma = 1
A = 1 / V - 1 / TAU  # log f = -A x^2 / 2 + a constant


class Ratio(torch.nn.Module):
    """log N(x; 0, V) - log N(x; 0, tau), `a` and `c` as parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(A, dtype=torch.float64))
        self.c = torch.nn.Parameter(torch.tensor(0.5 * math.log(TAU / V), dtype=torch.float64))

    def forward(self, x: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        return self.c - 0.5 * self.a * x.square()


def exact(center: Tensor | None = None) -> TwoStage:
    world = GaussianWorld(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), S2, dtype=torch.float64))
    return TwoStage(
        world.denoiser(Brownian(1.0)), Ratio(), torch.zeros((), dtype=torch.float64) if center is None else center
    )


class Nodes(Basis):
    """The draws inside the drift are the midpoint quantiles of N(0, 1); every (m + 1)-th draw is a column."""

    def __init__(self, m: int) -> None:
        super().__init__()
        self.m, self.count = m, 0
        u = (torch.arange(m, dtype=torch.float64) + 0.5) / m
        self.nodes = torch.special.ndtri(u)

    def normal(self, like: Tensor) -> Tensor:
        place, self.count = self.count % (self.m + 1), self.count + 1
        return super().normal(like) if place == self.m else torch.full_like(like, float(self.nodes[place]))


def variance(x: Tensor) -> float:
    return float(x.square().mean())


@torch.no_grad()
def test_the_drift_of_stage_one_is_the_gradient_of_the_smoothed_log_ratio() -> None:
    x, m = torch.tensor([[-1.5], [0.2], [0.9]], dtype=torch.float64), 4000
    for s in (0.0, 0.4, 0.9):
        pull = Recipe(draws=m).pull(exact(), x, s, Nodes(m))
        torch.testing.assert_close(pull, -A * x / (1 + A * TAU * (1 - s)), atol=2e-3, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("levels", "var"), [(10, 1.3590), (100, 1.3058)])
def test_stage_one_ends_with_the_variance_of_its_recursion(levels: int, var: float) -> None:
    x = torch.zeros(levels, 1, dtype=torch.float64)
    end = Recipe(levels=levels, draws=500).first(exact(), x, Nodes(500))
    assert variance(end) == pytest.approx(var, abs=3e-3)


@torch.no_grad()
@pytest.mark.parametrize(("levels", "var"), [(10, 0.3527), (100, 0.3048)])
def test_stage_two_ends_with_the_variance_of_its_recursion(levels: int, var: float) -> None:
    noise = Basis()
    start = noise.start(math.sqrt(V))(levels + 1, noise)
    assert variance(Recipe(levels=levels).second(exact(), start, noise)) == pytest.approx(var, abs=5e-5)


@torch.no_grad()
def test_one_shared_draw_cancels_the_ratio_and_errs_as_stated() -> None:
    x = torch.zeros(200, 1, dtype=torch.float64)
    end = Recipe(levels=100, draws=1).first(exact(), x, Basis())
    # X <- (1 - tau A / K) X - tau A / K sqrt(tau (1 - s)) z + sqrt(tau / K) dW
    expected, h = 0.0, TAU * A / 100
    for k in range(100):
        expected = (1 - h) ** 2 * expected + h**2 * TAU * (1 - k / 100) + TAU / 100
    assert variance(end) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(1.231, abs=1e-3)


@torch.no_grad()
def test_two_sets_of_draws_are_biased_by_the_product_of_both_means() -> None:
    """E[f (s + z')] E[1 / f]: with R = E[f] E[1/f] the pull is (-a x / (1 + a w) - x / tau) R + x / tau."""
    recipe = Recipe.paper()
    assert (recipe.draws, recipe.shared) == (1, False)
    s, at, n = 0.5, 0.7, 200_000
    w = TAU * (1 - s)
    R = math.exp(0.5 * A * at**2 * (1 / (1 - A * w) - 1 / (1 + A * w))) / math.sqrt(1 - (A * w) ** 2)
    pulls = recipe.pull(exact(), torch.full((n, 1), at, dtype=torch.float64), s, Noise(0))
    expected = (-A * at / (1 + A * w) - at / TAU) * R + at / TAU
    error = 4 * float(pulls.std()) / math.sqrt(n)
    assert float(pulls.mean()) == pytest.approx(expected, abs=error)
    assert abs(-A * at / (1 + A * w) - expected) > 3 * error


@torch.no_grad()
def test_more_draws_in_two_sets_come_nearer() -> None:
    x = torch.full((20_000, 1), 0.7, dtype=torch.float64)
    truth = -A * 0.7 / (1 + A * TAU * 0.5)
    errors = [abs(float(Recipe(draws=m, shared=False).pull(exact(), x, 0.5, Noise(0)).mean()) - truth) for m in (1, 16)]
    assert errors[1] < 0.25 * errors[0]


@torch.no_grad()
def test_a_draw_is_both_stages_a_last_move_without_noise_and_the_mean_put_back() -> None:
    recipe = Recipe(levels=10, draws=1)
    noise = Basis()
    whole = recipe.draw(exact(), (30, 1), noise)
    assert noise.next == 30  # 2 a step in stage 1, 1 in stage 2, none at the end
    again = Basis()
    x = recipe.second(exact(), recipe.first(exact(), torch.zeros(30, 1, dtype=torch.float64), again), again)
    # The last move multiplies by 1 - (sigma^2 / K) / (s^2 + sigma^2 / K).
    torch.testing.assert_close(whole, (1 - 0.1 / 0.4) * x)
    moved = recipe.draw(exact(torch.tensor(5.0, dtype=torch.float64)), (30, 1), Basis())
    torch.testing.assert_close(moved, whole + 5.0)


def test_the_logistic_loss_is_least_at_the_true_ratio_and_the_score_loss_is_added() -> None:
    model, n = exact(torch.tensor(2.0, dtype=torch.float64)), 100_000
    objective = Objective(model, TAU, 1000)
    x0 = 2.0 + math.sqrt(S2) * Noise(1).normal(torch.empty(n, 1, dtype=torch.float64))
    loss = objective(x0, None, Noise(2))
    for value in (model.ratio.a, model.ratio.c):
        (slope,) = torch.autograd.grad(loss.mean(), value, retain_graph=True)
        assert abs(float(slope)) < 4 / math.sqrt(n)  # each term's derivative is of order 1
    with torch.no_grad():
        model.ratio.c.add_(0.3)
        more = objective(x0, None, Noise(2)).mean()
        assert float(more - loss.mean()) > 0.005
    # At the truth the logistic part is 2 log 2 less twice a Jensen-Shannon divergence: above 1.3, below 2 log 2.
    logistic = float((loss.detach() - objective.matching(x0, None, Noise(3)).detach()).mean())
    assert 1.2 < logistic < 2 * math.log(2)


def test_the_denoiser_works_about_the_centre_and_a_batch_is_two_batches_of_one() -> None:
    center = torch.tensor(3.0, dtype=torch.float64)
    x = torch.tensor([[3.5], [2.0]], dtype=torch.float64)
    torch.testing.assert_close(exact(center)(x, 0.5).mean, exact()(x - 3.0, 0.5).mean + 3.0)
    recipe = Recipe(channels=1, widths=(8, 8), blocks=1, attention=(), ratio_width=8, levels=3, draws=2)
    model = recipe.model(torch.tensor(0.1))
    out = recipe.draw(model, (2, 1, 8, 8), Noise(0))
    assert out.shape == (2, 1, 8, 8) and float(model.center) == pytest.approx(0.1)
    loss = recipe.objective(model)(out, None, Noise(0))
    loss.sum().backward()
    assert loss.shape == (2,) and all(p.grad is not None for p in model.ratio.leave.parameters())
