"""A function of a noisy picture and its level is a denoiser of every process."""

from __future__ import annotations

import pytest
import torch

import sfumato as sf
from sfumato.denoisers.borrowed import OfLevel

MEAN, VAR = 0.3, 0.7


def wiener(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """E[x_0 | x_0 + level n] for x_0 ~ N(MEAN, VAR)."""
    gain = VAR / (VAR + level[:, None] ** 2)
    return MEAN + gain * (noisy - MEAN)


@pytest.mark.parametrize("process", [sf.processes.LinearBeta(), sf.processes.EDM(), sf.processes.Rectified()])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.5, 0.25)])
def test_it_is_the_denoiser_of_the_world(process, scale: float, shift: float) -> None:
    # The function knows data of N(MEAN, VAR); in model space they are (data - shift) / scale.
    mean = torch.full((2,), (MEAN - shift) / scale, dtype=torch.float64)
    world = sf.GaussianWorld(mean, VAR / scale**2 * torch.eye(2, dtype=torch.float64))
    ours, exact = OfLevel(wiener, process, scale=scale, shift=shift), world.denoiser(process)
    xt = sf.Noise(0).normal(torch.zeros(3, 2, dtype=torch.float64))
    for t in (0.2, 0.9, torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)):
        assert torch.allclose(ours(xt, t).mean, exact(xt, t).mean, atol=1e-12)


def test_it_cannot_be_asked_where_nothing_is_left() -> None:
    with pytest.raises(ValueError, match="cannot be asked where alpha = 0"):
        OfLevel(wiener, sf.processes.Rectified())(torch.zeros(1, 2), 1.0)
