"""Likelihood along the flow, against densities that are known."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import PROCESSES, close, full_world, mixture_world, normal

from sfumato import grids
from sfumato.denoisers import Counted
from sfumato.likelihood import bits_per_dim, log_prob
from sfumato.noise import Noise
from sfumato.worlds import MixtureWorld


@pytest.mark.parametrize("name", ["LinearBeta", "Cosine", "Rectified", "EDM", "SubVP", "Anchored", "Anchored.scaled"])
def test_likelihood_of_a_normal(name: str) -> None:
    """log p_t(x) exactly, when the prior's own mismatch at t = 1, which is known, is put back."""
    process, world = PROCESSES[name], full_world()
    first, last = 0.05, 1.0
    x = world.marginal(process, first).sample(4, Noise(0))
    got = log_prob(world.denoiser(process), x, grids.uniform(80, start=first, end=last))
    x1 = world.flow(x, first, last, process)
    mismatch = process.prior(x1).log_prob(x1) - world.marginal(process, last).log_prob(x1)
    close(got, world.marginal(process, first).log_prob(x) + mismatch, 2e-5)


def test_likelihood_of_a_mixture() -> None:
    """Rectified flow has no mismatch: its x_1 is pure noise."""
    process, world = PROCESSES["Rectified"], mixture_world()
    x = world.marginal(process, 0.1).sample(6, Noise(0))
    got = log_prob(world.denoiser(process), x, grids.uniform(100, start=0.1, end=1.0))
    close(got, world.marginal(process, 0.1).log_prob(x), 1e-5)


def test_it_is_of_fourth_order_with_four_calls() -> None:
    process, world = PROCESSES["Rectified"], full_world()
    x = world.marginal(process, 0.3).sample(4, Noise(0))
    truth, errors = world.marginal(process, 0.3).log_prob(x), []
    for n in (8, 16):
        counted = Counted(world.denoiser(process))
        errors.append(float((log_prob(counted, x, grids.uniform(n, start=0.3, end=1.0)) - truth).norm()))
        assert counted.calls == 4 * n
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.4)


class Signs(Noise):
    """Every pattern of signs once, one a row: the expectation over Rademacher vectors, exactly."""

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        rows = torch.cartesian_prod(*[torch.tensor([0.25, 0.75], dtype=like.dtype)] * like.shape[1])
        return rows.roll(int(torch.randint(8, (), generator=self.generator)), 0)


@pytest.mark.parametrize("probes", [1, 3])
def test_hutchinson_is_unbiased(probes: int) -> None:
    """Averaged over all 2^d sign vectors it is the exact trace; one vector alone is not."""
    process, world = PROCESSES["LinearBeta"], mixture_world()
    denoiser, times = world.denoiser(process), grids.uniform(10, start=0.2, end=1.0)
    x = normal(1, 3).expand(8, 3).contiguous()
    exact = log_prob(denoiser, x, times)
    got = log_prob(denoiser, x, times, noise=Signs(0), probes=probes)
    close(got.mean(), exact[0], 1e-10)
    spread = float(got.std())
    assert spread > 1e-3
    if probes == 3:
        assert spread < float(log_prob(denoiser, x, times, noise=Signs(0)).std())


def test_rademacher_is_exact_on_a_diagonal() -> None:
    """Hutchinson's variance is 2 sum_{i != j} a_ij^2 for signs: none where elements are independent."""
    world = MixtureWorld(
        torch.ones(1).double(), torch.zeros(1, 2).double(), torch.diag(torch.tensor([0.3, 2.0]))[None].double()
    )
    denoiser, x, times = world.denoiser(PROCESSES["Rectified"]), normal(3, 2), grids.uniform(8, start=0.3, end=1.0)
    close(log_prob(denoiser, x, times, noise=Noise(0)), log_prob(denoiser, x, times), 1e-10)


def test_times_must_rise() -> None:
    denoiser = full_world().denoiser(PROCESSES["Rectified"])
    for times in ((1.0, 0.5), (0.1, 0.1, 1.0), (0.1, 0.9, 0.8)):
        with pytest.raises(ValueError, match="likelihood runs from data to noise: give times that rise"):
            log_prob(denoiser, normal(2, 3), times)


def test_bits_per_dimension() -> None:
    """Pictures without any structure cost 8 bits: the density is 2^-d on [-1, 1]^d, and 1 on [0, 1]^d."""
    d = 12
    close(bits_per_dim(torch.tensor(-d * math.log(2.0), dtype=torch.float64), d), 8.0)
    close(bits_per_dim(torch.tensor(0.0), d, width=1 / 256), 8.0)
    close(bits_per_dim(torch.tensor(0.0), d), 7.0)
    # one nat for each dimension is 1 / log 2 bits
    close(bits_per_dim(torch.tensor(-2.0 * d, dtype=torch.float64), d, width=1.0), 2 / math.log(2))
