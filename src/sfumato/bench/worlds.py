"""Small problems whose posterior is known in closed form, fixed once, so that figures can be reproduced.

Four dimensions; Q is the orthonormal DCT-IV, A = U diag(1, 0.25) V^T with U = [[1, 1], [1, -1]] / sqrt 2 and the
columns of V (1, 1, 1, 1) / 2 and (1, -1, 1, -1) / 2; sigma_y = 0.1 unless said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Seeds
from sfumato.operators import Linear, Mask, Matrix, Measurement
from sfumato.worlds import GaussianWorld, MixtureWorld

MEANS = ((1.2, 0.6, -0.9, 0.3), (-1.0, 1.4, 0.2, -0.8), (0.4, -1.3, 1.1, 1.0), (-0.6, -0.4, -1.5, 0.7))


@dataclass(frozen=True, eq=False)
class Instance:
    """A world and a way to measure it.

    Attributes:
        name, title: its key, and what it is in words.
    """

    name: str
    title: str
    world: MixtureWorld
    operator: Linear
    sigma: float = 0.1

    @property
    def seen(self) -> Tensor:
        """A^+ A as a matrix, (d, d): the projection on what A sees."""
        d = self.world.means.shape[1]
        return self.operator.project(torch.eye(d, dtype=self.world.means.dtype))

    def measured(self, n: int, seed: int = 0) -> tuple[Tensor, Measurement]:
        """n draws of x_0, (n, d), and their measurements. Draw i is the same whatever n."""
        draws, noise = Seeds.keyed(seed, [("x0", i) for i in range(n)]), Seeds.keyed(seed, [("y", i) for i in range(n)])
        x0 = torch.cat([self.world.sample(1, stream) for stream in draws.streams])
        return x0, Measurement.simulate(self.operator, x0, sigma=self.sigma, noise=noise)


def instances() -> dict[str, Instance]:
    """The problems, by name."""
    gauss, mixture, A = gaussian(), modes(), matrix()
    normal = GaussianWorld(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    first_two = Mask(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    every = (
        Instance("gaussian", "Gaussian, general A", gauss, A),
        Instance("mixture", "four modes, general A", mixture, A),
        Instance("mixture-noisy", "four modes, general A, sigma_y 0.5", mixture, A, 0.5),
        Instance("mixture-inpainting", "four modes, two of four numbers seen", mixture, first_two),
        Instance("normal", "N(0, I), general A", normal, A),
    )
    return {instance.name: instance for instance in every}


def gaussian() -> GaussianWorld:
    """N(0.3 (1, -1, 1, 1), Q diag(1, 0.215, 0.0464, 0.01) Q^T)."""
    mean = 0.3 * torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    return GaussianWorld(mean, _turned(torch.tensor([1.0, 0.215, 0.0464, 0.01], dtype=torch.float64)))


def modes() -> MixtureWorld:
    """Weights 0.4, 0.3, 0.2, 0.1 at `MEANS`; C_k = Q diag(e_k) Q^T, e_0 = 10^(-0.7, -1.1333, -1.5667, -2), e_k = e_0
    rolled by k places to the right."""
    e = 10.0 ** torch.tensor([-0.7, -3.4 / 3, -4.7 / 3, -2.0], dtype=torch.float64)
    covs = torch.stack([_turned(e.roll(k)) for k in range(4)])
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    return MixtureWorld(weights, torch.tensor(MEANS, dtype=torch.float64), covs)


def matrix() -> Matrix:
    """The general A of the head of this file, (2, 4)."""
    U = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2.0)
    Vt = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]], dtype=torch.float64) / 2.0
    return Matrix(U @ torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64)) @ Vt)


def _turned(e: Tensor) -> Tensor:
    """Q diag(e) Q^T, Q_jk = sqrt(1/2) cos(pi/4 (j + 1/2)(k + 1/2))."""
    i = torch.arange(4, dtype=torch.float64) + 0.5
    Q = math.sqrt(0.5) * torch.cos(math.pi / 4 * i[:, None] * i)
    return Q @ torch.diag(e) @ Q.T
