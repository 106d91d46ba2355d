"""DSM: a connection between score matching and denoising autoencoders (Vincent 2011)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Geometric, Process, Time
from sfumato.training import DenoisingScore, ImplicitScore

EXAMPLE = "sfumato train points.npy --recipe dsm -o run   # points.npy: floats, (N, 2)"


class TiedAutoencoder(Denoiser):
    """r(x) = W^T sigmoid(W x + b) + c, whose (r - x) / sigma^2 is the score -grad E of an energy.

    E(x) = -(c.x - |x|^2 / 2 + sum_j softplus(W_j x + b_j)) / sigma^2. W begins as repeated axes, so that r(x) is near x
    around r(0) = 0 (ours: no draw). Events are vectors, (B, dim).

    Source: Vincent 2011, section 4.2, eq. 12 to 14.
    """

    def __init__(self, dim: int, hidden: int, process: Process, sigma: float) -> None:
        super().__init__()
        self.process, self.sigma = process, sigma
        W = 2.0 * math.sqrt(dim / hidden) * torch.eye(dim).repeat(-(-hidden // dim), 1)[:hidden]
        b = torch.linspace(-1.0, 1.0, hidden)
        self.weight, self.hidden = nn.Parameter(W), nn.Parameter(b)
        self.visible = nn.Parameter(-torch.sigmoid(b) @ W)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        code = torch.sigmoid(F.linear(xt, self.weight, self.hidden))
        return Estimate(F.linear(code, self.weight.T, self.visible))

    def energy(self, x: Tensor) -> Tensor:
        """E(x), (B,)."""
        units = F.softplus(F.linear(x, self.weight, self.hidden)).sum(1)
        return -(x @ self.visible - 0.5 * x.square().sum(1) + units) / self.sigma**2


@dataclass(frozen=True)
class Recipe:
    """A denoising autoencoder learns a score: its regression equals score matching of the noised density, plus C.

    J_DSM = 0.5 E |psi(x~) - (x - x~) / sigma^2|^2 = J_ESM + C at one noise level sigma, with psi = (r - x~) / sigma^2
    and C independent of psi. The loss does not go to zero. What is learned is the score of the noised density, not of
    the data; one level gives no way to sample from far away (see ncsn).

    Source: Vincent 2011, Neural Computation 23 (7), eq. 4 to 14.
    """

    dim: int = 2
    hidden: int = 32
    sigma: float = 0.1
    t: float = 1.0  # any time: the process has one level

    def process(self) -> Geometric:
        """x~ = x + sigma eps at every time."""
        return Geometric(self.sigma, self.sigma)

    def model(self) -> TiedAutoencoder:
        """The autoencoder with tied weights; any other denoiser on `process` will do."""
        return TiedAutoencoder(self.dim, self.hidden, self.process(), self.sigma)

    def objective(self, denoiser: Denoiser) -> DenoisingScore:
        """J_DSM of each sample."""
        return DenoisingScore(denoiser, self.t)

    def implicit(self, denoiser: Denoiser, probes: int = 0) -> ImplicitScore:
        """J_ISM of each sample at the same level; sliced with `probes` vectors."""
        return ImplicitScore(denoiser, self.t, probes)
