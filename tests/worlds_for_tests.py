"""Processes, worlds and probes that the closed-form tests run over. A new process adds a line to `PROCESSES`."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import (
    EDM,
    Anchored,
    Brownian,
    ConstantPull,
    Cosine,
    CosinePull,
    Gaussian,
    Geometric,
    LinearBeta,
    LinearPull,
    Rectified,
    Reverting,
    SigmoidBeta,
    SubVP,
    Table,
    Tent,
    Trigonometric,
)
from sfumato.samplers import Sampler, trajectory
from sfumato.worlds import GaussianWorld, MixtureWorld

DIM = 3  # numbers in one event of the worlds below


def tensor(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


ANCHOR = tensor(0.7, -1.1, 0.4).reshape(1, DIM)
SCALE = tensor(0.5, 1.0, 1.7).reshape(1, DIM)

PROCESSES: dict[str, Gaussian] = {
    "LinearBeta": LinearBeta(),
    "SigmoidBeta": SigmoidBeta(),
    "Cosine": Cosine(),
    "Geometric": Geometric(),
    "EDM": EDM(),
    "Rectified": Rectified(),
    "SubVP": SubVP(),
    "Trigonometric": Trigonometric(),
    "Table.linear": Table.linear(),
    "Table.cosine": Table.cosine(100),
    "Table.zero_terminal": Table.scaled_linear(50).zero_terminal(),
    "Anchored": Anchored(LinearBeta(), ANCHOR),
    "Anchored.scaled": Anchored(Rectified(), ANCHOR, SCALE),
    "Brownian": Brownian(1.5),
    "Reverting": Reverting(ConstantPull(), ANCHOR),
    "LinearPull": LinearPull(2.0, 0.05, 0.5),
    "CosinePull": CosinePull(),
    "Tent": Tent(),
}


def diagonal_world() -> GaussianWorld:
    """A normal whose elements are independent, one of them certain."""
    return GaussianWorld(tensor(0.3, -0.8, 1.2), torch.diag(tensor(0.25, 1.6, 0.0)))


def full_world() -> GaussianWorld:
    """A correlated normal, eigenvalues 0.06 to 1.2."""
    root = torch.tensor([[0.9, 0.0, 0.0], [0.5, 0.4, 0.0], [-0.3, 0.2, 0.3]], dtype=torch.float64)
    return GaussianWorld(tensor(0.3, -0.8, 1.2), root @ root.T)


def mixture_world() -> MixtureWorld:
    """Two correlated normals and a third apart, in three dimensions."""
    full = full_world().covs[0]
    means = torch.tensor([[0.3, -0.8, 1.2], [-1.0, 0.4, 0.0], [1.5, 1.0, -1.0]], dtype=torch.float64)
    covs = torch.stack([full, 0.5 * torch.eye(DIM, dtype=full.dtype) + 0.2, torch.diag(tensor(0.1, 0.6, 0.3))])
    return MixtureWorld(tensor(0.5, 0.3, 0.2), means, covs)


def point_world() -> GaussianWorld:
    """One point: the exact denoiser is constant, and every step that is exact for a constant one is exact."""
    return GaussianWorld(tensor(0.3, -0.8, 1.2), torch.zeros(DIM, DIM, dtype=torch.float64))


class Impulses(Noise):
    """Draw k is zero but for row k + 1, where it is one: the response of a linear sampler to each of its draws.

    Row 0 never sees noise. If a sampler's output is affine, elementwise, in its normal draws, then row 0 is its mean
    and the squares of the other rows, less row 0, add up to its variance: both exact, without sampling.
    """

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn = 0

    def normal(self, like: Tensor) -> Tensor:
        self.drawn += 1
        z = torch.zeros_like(like)
        z[self.drawn] = 1.0
        return z


def moments(
    denoiser: Denoiser, sampler: Sampler, times: tuple[float, ...], mean: Tensor, std: Tensor | float, draws: int = 0
) -> tuple[Tensor, Tensor]:
    """Mean and variance, (*event), of a sampler's output when it starts from N(mean, std^2): exact where it is affine.

    `draws`: the most normal draws that the run makes, one a step by default.
    """
    noise = Impulses()
    rows = 2 + (draws or len(times) - 1)
    x1 = mean.expand(rows, *mean.shape) + std * noise.normal(torch.zeros(rows, *mean.shape, dtype=mean.dtype))
    for step in trajectory(denoiser, sampler, x1, times, noise):
        x = step.x
    return x[0], ((x[1:] - x[0]) ** 2).sum(0)


def close(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-12) -> None:
    """Asserts |a - b| <= tolerance (1 + |b|), elementwise, shapes broadcast."""
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    a, b = torch.broadcast_tensors(a, b)
    assert not bool(torch.isnan(a).any() or torch.isnan(b).any()), (a, b)
    gap = torch.where(a == b, 0.0, (a - b).abs() / (1.0 + b.abs()))
    assert float(gap.max()) <= tolerance, f"off by {float(gap.max()):.3g}: {a} against {b}"


Net = TypeVar("Net", bound=nn.Module)


def shaken(net: Net, share: float = 0.05) -> Net:
    """A network in float64 whose weights were all moved by a normal draw (torch's own stream): none is 0 any more."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(share * torch.randn_like(p))
    return net.double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return Noise(seed).normal(torch.empty(*shape, dtype=torch.float64))


def law_of_marginal(world: MixtureWorld, process: Gaussian, t: float) -> tuple[Tensor, Tensor]:
    """Mean and elementwise standard deviation of x_t for a world of one component."""
    at = world.marginal(process, t)
    return at.mean, at.cov.diagonal().sqrt().reshape(world.event)
