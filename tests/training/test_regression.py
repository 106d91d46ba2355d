"""Regression of x_0: its value at known answers, for each power, and a process that is bound to its condition."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.denoisers import Corrected, Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Anchored, Rectified, entry
from sfumato.training.regression import Regression


class Seen(Denoiser):
    """Answers the state itself, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Anchored(Rectified(), scale=0.5, read=entry("image"))

    def forward(self, xt: torch.Tensor, t: torch.Tensor, cond: dict | None = None) -> Estimate:
        self.t, self.cond = t, cond
        return Estimate(xt)


def test_the_loss_of_the_state_itself() -> None:
    """x_t - x_0 = t (y - x_0 + eps n): at y = x_0 the losses are t eps E|n| and t^2 eps^2."""
    D, x0 = Seen(), torch.full((60, 2000), 0.3)
    for power, want in ((1.0, lambda t: 0.5 * t * math.sqrt(2 / math.pi)), (2.0, lambda t: 0.25 * t**2)):
        loss = Regression(D, power=power)(x0, {"image": x0}, Noise(0))
        assert loss.shape == (60,)
        assert torch.allclose(loss.double() / want(D.t), torch.ones(60).double(), atol=5 * math.sqrt(2 / 2000))
    assert 0.0 < float(D.t.min()) < 0.1 and float(D.t.max()) > 0.9
    loss = Regression(D, lambda process, n, noise: torch.full((n,), 0.5))(x0, {"image": x0 + 8.0}, Noise(0))
    assert float(loss.mean()) == pytest.approx(4.0, abs=0.01)


def test_a_correction_is_added_to_the_state() -> None:
    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: object) -> torch.Tensor:
            assert u.shape[0] == len(c_noise)
            return c_noise.reshape(-1, 1).expand_as(u) + (0.0 if cond is None else cond)

    D, x = Corrected(Told(), Rectified()), torch.randn(2, 3, dtype=torch.float64)
    assert torch.allclose(D(x, 0.25).mean, x + 2.5)
    assert torch.allclose(D(x, torch.tensor([0.1, 0.2]), 1.0).mean, x + torch.tensor([[2.0], [3.0]]))
    assert torch.allclose(Corrected(Told(), Rectified(), clock=lambda t: -t)(x, 0.25).mean, x - 0.25)
    single = torch.nn.Linear(3, 3)

    class Single(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = single

        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: object) -> torch.Tensor:
            return self.layer(u) * c_noise.reshape(-1, 1)

    assert Corrected(Single(), Rectified())(x, 0.5).mean.dtype == torch.float64
