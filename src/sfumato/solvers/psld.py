"""PSLD: solving linear inverse problems provably with latent diffusion models (Rout et al. 2023, 2307.00619)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed
from sfumato.solvers.latent import linear_on_data, on_data

EXAMPLE = """\
sfumato sample latent -n 1 --seed 1 -o s   # a latent model of clothes, 28 x 28
sfumato restore s/sample-000.png --model latent --solver psld --operator enlarge --factor 2 \\
  --simulate --sigma 0.02 -o out"""


@dataclass(frozen=True)
class PSLD(Solver):
    """DPS in a latent space, held to points that the decoder G and the encoder E agree on:

    z_s = DDIM(z_t) - grad_{z_t} [ omega |y - A x| + gamma |z_0 - E(A^T y + x - A^T A x)| ],  z_0 = D(z_t), x = G(z_0).

    The second term glues what was seen into x, in pixels, and asks that z_0 be its code. It is neutral where y = A x
    and E undoes G, whatever A; where x fits only the part that y can tell, A^T A must be a projection (a mask, or
    another A with singular values of 0 and 1). Norms, not squares, of each sample: the public code takes them over the
    whole batch, and puts fresh noise on A x before it compares it with y, which is left out here. A^T is the true
    adjoint: the public one of super-resolution and blur is not.

    G and E are those of the measurement's operator (`Decoded`), which `Measurement.to_model` puts there for any codec
    that is not affine; without them, in a model of pixels, G and E are the identity.

    Args:
        steps: network evaluations; the table's own steps, or uniform in t.
        omega: weight of the measurement.
        gamma: weight of the gluing.
        eta: share of fresh noise in DDIM's sense.

    Source: Rout et al. 2023 (2307.00619) algorithm 1; weights of its public code for Stable Diffusion.
    """

    steps: int = 1000
    omega: float = 1.0
    gamma: float = 0.1
    eta: float = 0.0
    differentiates = True

    @classmethod
    def box(cls) -> PSLD:
        """The public weights for the inpainting of a box."""
        return cls(omega=0.1, gamma=0.01)

    def check(self, operator: Operator) -> None:
        linear_on_data("PSLD", operator)

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        with torch.enable_grad():
            zt = xt.detach().requires_grad_()
            z0 = denoiser(zt, t).mean
            (g,) = torch.autograd.grad(self.energy(m, z0).sum(), zt)
        law = denoiser.process.reverse(Estimate(z0.detach()), xt, t, s, self.eta)  # type: ignore[call-arg]
        return law.sample(noise) - g, memory

    def energy(self, m: Measurement, z0: Tensor) -> Tensor:
        """omega |y - A x| + gamma |z_0 - E(x + A^T (y - A x))| of each row, (B,)."""
        data, codec = on_data(m)
        A = data.operator
        assert isinstance(A, Linear)
        x = codec.decode(z0)
        r = m.y - A(x)
        gap = z0 - codec.encode(x + adjoint(A, r))
        return self.omega * r.flatten(1).norm(dim=1) + self.gamma * gap.flatten(1).norm(dim=1)


def adjoint(A: Linear, r: Tensor) -> Tensor:
    """A^T r, differentiable in r also where it comes from automatic differentiation."""
    if type(A).adjoint is not Linear.adjoint:
        return A.adjoint(r)
    return torch.autograd.functional.vjp(A, torch.zeros(len(r), *A.event(r), dtype=r.dtype, device=r.device), r, True)[
        1
    ]


Recipe = PSLD
