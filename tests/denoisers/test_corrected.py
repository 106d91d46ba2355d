"""A correction is added to the state, and the network is told the clock and the condition."""

from __future__ import annotations

import torch

from sfumato.denoisers import Corrected
from sfumato.processes import Rectified


class Told(torch.nn.Module):
    def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: object) -> torch.Tensor:
        assert u.shape[0] == len(c_noise)
        return c_noise.reshape(-1, 1).expand_as(u) + (0.0 if cond is None else cond)


class Single(torch.nn.Module):
    """Of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)

    def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: object) -> torch.Tensor:
        return self.layer(u) * c_noise.reshape(-1, 1)


def test_a_correction_is_added_to_the_state() -> None:
    D, x = Corrected(Told(), Rectified()), torch.randn(2, 3, dtype=torch.float64)
    assert torch.allclose(D(x, 0.25).mean, x + 2.5)
    assert torch.allclose(D(x, torch.tensor([0.1, 0.2]), 1.0).mean, x + torch.tensor([[2.0], [3.0]]))
    assert torch.allclose(Corrected(Told(), Rectified(), clock=lambda t: -t)(x, 0.25).mean, x - 0.25)


def test_the_state_keeps_its_precision() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    assert Corrected(Single(), Rectified())(x, 0.5).mean.dtype == torch.float64
