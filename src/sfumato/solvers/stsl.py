"""STSL: beyond first-order Tweedie: solving inverse problems using latent diffusion (Rout et al. 2024, 2312.00852)."""

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
sfumato restore s/sample-000.png --model latent --solver stsl --operator enlarge --factor 2 \\
  --simulate --sigma 0.02 -o out"""


@dataclass(frozen=True)
class STSL(Solver):
    """At each level `moves` steps down a loss with the curvature of the density in it, then one step of DDIM:

    z <- z - grad_z [ omega |y - A G(D(z))| + curvature / d <eps, score(z + eps) - score(z)> ],   eps ~ N(0, I),

    d the numbers of z. The second term estimates the trace of the Hessian of log p_t by one probe: exactly so where
    the score is linear, and there its gradient is 0, so on Gaussian data it does nothing; in general its mean is that
    trace averaged over z + eps (Stein). The run starts from z_1 ~ q(z_1 | E(A^T y)).

    No public code. The paper squares the first norm and says of its weight that it follows DPS and PSLD: here it is
    their norm, with PSLD's weight (unsure). It counts `moves` calls a step; here they are 2 moves + 1, each counted:
    the probe is a call as well, and DDIM asks the denoiser where the moves have ended.

    Args:
        steps: levels; the table's own steps, or uniform in t.
        moves: at each level, with a new probe each (stochastic averaging).
        omega: weight of the measurement.
        curvature: weight of the trace, eta in the paper; 0 saves its calls.

    Source: Rout et al. 2024 (2312.00852) eq. 4 and algorithm 1; steps, moves and curvature of its section 5.
    """

    steps: int = 50
    moves: int = 5
    omega: float = 1.0
    curvature: float = 0.02
    warm = True
    differentiates = True

    def check(self, operator: Operator) -> None:
        linear_on_data("STSL", operator)

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "trailing")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """A draw of q(z_t | E(A^T y))."""
        (data, codec), process = on_data(m), denoiser.process
        assert isinstance(process, Gaussian) and isinstance(data.operator, Linear)
        with torch.no_grad():
            seen = codec.encode(data.operator.adjoint(m.y))
        return process.marginal(self.like(denoiser, m) + seen, t).sample(noise)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        z = xt
        for _ in range(self.moves):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                z0 = denoiser(z, t).mean
                loss = self.omega * m.residual(z0).abs().flatten(1).norm(dim=1)
                if self.curvature:
                    bend = curvature(denoiser, z, z0, t, noise)
                    loss = loss + self.curvature / z[0].numel() * bend
                (g,) = torch.autograd.grad(loss.sum(), z)
            z = z.detach() - g
        z0 = denoiser(z, t).mean
        return denoiser.process.reverse(Estimate(z0), z, t, s, 0.0).mean, memory  # type: ignore[call-arg]


def curvature(denoiser: Denoiser, z: Tensor, z0: Tensor, t: Time, noise: Noise) -> Tensor:
    """<eps, score(z + eps) - score(z)> of each row, (B,), for one eps ~ N(0, I): one call, differentiable in z.

    Args:
        z0: D(z), known already.
    """
    process, eps = denoiser.process, noise.normal(z)
    assert isinstance(process, Gaussian)
    moved = z + eps
    rise = process.score(moved, denoiser(moved, t).mean, t) - process.score(z, z0, t)
    return (eps * rise).flatten(1).sum(1)


Recipe = STSL
