"""SUD2: what a prior's supervision does to a regression, in closed form on Gaussian data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers.regressed import Regressed
from sfumato.noise import Noise
from sfumato.processes import LinearBeta
from sfumato.recipes.sud2 import Recipe, Supervised, Supervision
from sfumato.zoo import Model

MEAN, COV = torch.tensor([0.3, -0.5]).double(), torch.tensor([[0.5, 0.2], [0.2, 0.3]]).double()
SMALL = {"channels": 1, "widths": (8,), "levels": 50}


class At:
    """One time for all."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, process: object, batch: int, noise: Noise) -> Tensor:
        return torch.full((batch,), self.t, dtype=torch.float64)


class Signed(Noise):
    """The noise of a seed, or its negative."""

    def __init__(self, sign: float) -> None:
        super().__init__(0)
        self.sign = sign

    def normal(self, like: Tensor) -> Tensor:
        return self.sign * super().normal(like)


def supervised(net: nn.Module, t: float, weight: float = 1.0) -> Supervision:
    process = LinearBeta()
    prior = sf.GaussianWorld(MEAN, COV).denoiser(process)
    return Supervision(Supervised(net, process, prior), At(t), weight)


def gradient(objective: Supervision, x0: Tensor, cond: dict, of: Tensor) -> Tensor:
    """The mean gradient over eps: D is linear here, so that two opposite draws give it exactly."""
    both = [torch.autograd.grad(objective(x0, cond, Signed(sign)).sum(), of)[0] for sign in (1.0, -1.0)]
    assert not torch.allclose(*both)
    return sum(both) / 2


class Constant(nn.Module):
    """The result itself, whatever y is."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x)

    def forward(self, y: Tensor) -> Tensor:
        return self.x + 0.0


@pytest.mark.parametrize("t", [0.05, 0.3, 1.0])
def test_the_pull_of_a_gaussian_prior(t: float) -> None:
    """2 w / d sigma^2 (alpha^2 S + sigma^2 I)^-1 (x - m), d = 2 numbers: 0 at the mean, all of x - m at t = 1."""
    x, y = torch.tensor([[1.0, 2.0], [0.3, -0.5]]).double(), torch.zeros(2, 2).double()
    net = Constant(x)
    got = gradient(supervised(net, t, 0.7), y, {"image": y, "paired": torch.zeros(2)}, net.x)
    a, s = LinearBeta().alpha(t), LinearBeta().sigma(t)
    pull = s * s * torch.linalg.solve(a * a * COV + s * s * torch.eye(2).double(), (x - MEAN).T).T
    assert torch.allclose(got, 2 * 0.7 / 2 * pull, atol=1e-12)
    assert torch.allclose(got[1], torch.zeros(2).double(), atol=1e-12)


def test_no_gradient_goes_through_the_prior() -> None:
    """The gradient at one eps is 2 w (x - D) / d: there is no path through D."""
    x = torch.tensor([[1.0, 2.0]]).double()
    net = Constant(x)
    objective = supervised(net, 0.3)
    y = torch.zeros(1, 2).double()
    (got,) = torch.autograd.grad(objective(y, {"image": y, "paired": torch.zeros(1)}, Noise(4)).sum(), net.x)
    with torch.no_grad():
        law = LinearBeta().marginal(x, 0.3)
        D = sf.GaussianWorld(MEAN, COV).denoiser(LinearBeta())(law.mean + law.std * Noise(4).normal(x), 0.3).mean
    assert torch.allclose(got, x - D, atol=1e-12)


def test_pairs_alone_are_a_regression() -> None:
    net = nn.Linear(2, 2).double()
    y, x0 = Noise(0).normal(torch.empty(2, 5, 2).double())
    want = (net(y) - x0).square().mean(1)
    for cond in ({"image": y}, {"image": y, "paired": torch.ones(5)}):
        assert torch.allclose(supervised(net, 0.3, 9.0)(x0, cond, Noise(0)), want)
    mixed = supervised(net, 0.3)(x0, {"image": y, "paired": torch.tensor([1, 0, 1, 1, 0])}, Noise(0))
    assert torch.equal(torch.isclose(mixed, want), torch.tensor([True, False, True, True, False]))


def test_the_mix_has_a_closed_form() -> None:
    """A linear m(y) = B (y, 1) at whose solution the mean gradient of pairs and others together is 0:

    sum_pairs (B y - x) y^T + w G sum_others (B y - m) y^T = 0,  G = sigma^2 (alpha^2 S + sigma^2 I)^-1.
    """
    t, w, d = 0.2, 0.6, 2
    y, x0 = Noise(0).normal(torch.empty(2, 12, d).double())
    ones = torch.cat([y, torch.ones(12, 1).double()], 1)
    paired = torch.arange(12) < 4
    a, s = LinearBeta().alpha(t), LinearBeta().sigma(t)
    G = w * s * s * torch.linalg.inv(a * a * COV + s * s * torch.eye(d).double())
    P, Q = ones[paired].T @ ones[paired], ones[~paired].T @ ones[~paired]
    right = x0[paired].T @ ones[paired] + G @ (MEAN[:, None] * ones[~paired].sum(0))
    # B P + G B Q = right, row by row of vec(B)
    left = torch.kron(torch.eye(d).double(), P.contiguous()) + torch.kron(G.contiguous(), Q.contiguous())
    B = torch.linalg.solve(left, right.flatten()).reshape(d, d + 1)

    class Affine2(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.B = nn.Parameter(B.clone())

        def forward(self, y: Tensor) -> Tensor:
            return torch.cat([y, torch.ones(len(y), 1).to(y)], 1) @ self.B.T

    net = Affine2()
    objective = supervised(net, t, w)
    assert float(gradient(objective, x0, {"image": y, "paired": paired}, net.B).abs().max()) < 1e-10
    assert float(gradient(objective, x0, {"image": y, "paired": ~paired}, net.B).abs().max()) > 1e-2


def test_the_prior_is_trained_first_and_then_stays() -> None:
    recipe = Recipe(**SMALL, prior_steps=3)
    D = recipe.model()
    objective = recipe.objective(D)
    x0 = Noise(0).normal(torch.empty(64, 1, 4, 4))
    cond = {"image": -x0, "paired": torch.zeros(64)}
    for step, trained in ((3, "prior"), (4, "net")):
        objective.advance(step)
        D.zero_grad()
        loss = objective(x0, cond, Noise(1))
        loss.sum().backward()
        # untrained: the noise is guessed as 0
        assert step == 4 or float(loss.detach().mean()) == pytest.approx(1.0, abs=0.2)
        moved = {
            name.split(".")[0] for name, p in D.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
        }
        assert moved == {trained}
    t = objective.times(recipe.process(), 500, Noise(0))
    assert 0.02 <= float(t.min()) < 0.05 and 0.27 < float(t.max()) <= 0.3
    assert objective.weight == 1.0


def test_enhance_is_one_pass() -> None:
    recipe = Recipe(**SMALL)
    torch.manual_seed(0)
    config = {"recipe": "sud2", "fields": {**SMALL, "widths": [8]}, "event": [1, None, None]}
    model = Model(Affine.unit(), recipe.model(), config)
    y = torch.rand(2, 1, 6, 6)
    untrained = model.enhance(y, samples=2)
    assert untrained.nfe == 1
    assert torch.allclose(untrained.samples, y.expand(2, -1, -1, -1, -1), atol=1e-6)  # a regression begins as y itself
    with torch.no_grad():
        for p in model.denoiser.parameters():
            p.add_(0.1)
    got = model.enhance(y)
    want = (model.denoiser.net(2 * y - 1) + 1) / 2
    assert torch.allclose(got.mean, want, atol=1e-5) and not torch.allclose(got.mean, y, atol=0.01)
    with pytest.raises(ValueError, match="needs a damaged picture"):
        Regressed(nn.Identity(), LinearBeta())(y, 0.5)
