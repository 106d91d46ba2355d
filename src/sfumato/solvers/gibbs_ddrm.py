"""GibbsDDRM: a partially collapsed Gibbs sampler for blind inverse problems (Murata et al. 2023, 2301.12686)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement, Spectral
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.blind import rows, unit_sum
from sfumato.solvers.ddrm import DDRM, directions, spectral_step

EXAMPLE = "sfumato restore picture.png --operator deblur --std 2 --sigma 0.02 --solver gibbs-ddrm -o out"

_SIZE, _SIGMA = 3 * 256 * 256, 0.04  # numbers of y and noise, on [-1, 1], that the paper's `rate` was tuned for


@dataclass(frozen=True)
class GibbsDDRM(Solver):
    """DDRM's step given the operator's parameters phi, and Langevin moves of phi given the estimate of x_0, in turn:

    x_s ~ p(x_s | x_t, phi, y),   then `rounds` times:   D = D(x_s, s),
        phi <- phi - (h / 2) grad (|y - A_phi D|^2 / (2 sigma_y^2) + sparsity |phi|_1) + sqrt(h) z,   `moves` of them,
        x_s ~ p(x_s | x_t, phi, y) once more, from the same x_t.

    The step is DDRM's with its own shares of y and of noise; eta_A, a share of the old noise in directions that y sees
    less sharply than the state, is 0 as in the paper's deblurring. phi starts at the operator's `parameters` (a kernel
    of the right width, a Gaussian say), has a value for each row, and ends in `step.memory`. The last step, to t = 0,
    moves no phi. Scaling to a sum of 1 after each round breaks detailed balance; x and phi shift against each other.

    The stable step h goes as sigma_y^2 over the size of y: h = rate (196608 / n) (sigma_y / 0.04)^2 for n numbers of
    y, which at the paper's size and noise is its rate (ours). Borders are those of the operator, circular for `Blur`:
    the public code completes y beyond its borders with A D.

    It finds taps where the prior nearly knows the picture. On a photograph of 64 x 64 with the shipped prior, begun
    at a kernel much too wide (std 2.5 for 1.5) with far fewer moves than the paper's, it did not: the result was worse
    than y. Begin near, look at the kernel, and mind the check of the residual.

    Args:
        steps: of DDRM; network evaluations are steps + rounds for each step taken at or below `begin`, but the last.
        eta_b: weight of y against D where y is sharper than the state.
        eta_c: weight of (y - D) / k where it is not.
        eta_d: share of fresh noise where A sees nothing.
        begin: phi moves in steps that start at this time or below.
        rounds: of moves and a new x_s, in each step.
        moves: Langevin moves in a round.
        rate: step h at the paper's size and noise.
        sparsity: of the Laplace prior of phi.
        unit: scale phi to a sum of 1 after each round, as a kernel.

    Source: Murata et al. 2023 (2301.12686) eq. 9 and algorithm 1; settings of its public code for FFHQ.
    """

    steps: int = 100
    eta_b: float = 0.9
    eta_c: float = 0.8
    eta_d: float = 0.8
    begin: float = 0.7
    rounds: int = 3
    moves: int = 500
    rate: float = 1e-11
    sparsity: float = 1000.0
    unit: bool = True
    needs = Spectral

    def __post_init__(self) -> None:
        share(self, "eta_b", "eta_c", "eta_d", "begin")

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "leading")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        return DDRM().start(denoiser, m, t, noise)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Tensor:
        """phi of each row; y must have noise where it is to move."""
        if m.sigma == 0.0 and self.rounds:
            raise ValueError("GibbsDDRM: without noise phi has no likelihood to move in: state sigma.")
        return rows(m.operator.parameters, xt)

    def found(self, memory: Any) -> Tensor:
        phi: Tensor = memory
        return phi

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        D, phi = denoiser(xt, t).mean, memory
        xs = self._state(denoiser, m, xt, t, s, D, phi, noise)
        for _ in range(self.rounds if t <= self.begin and s > 0.0 else 0):
            phi = self._moved(m, denoiser(xs, s).mean, phi, noise)
            xs = self._state(denoiser, m, xt, t, s, D, phi, noise)
        return xs, phi

    def _state(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, D: Tensor, phi: Tensor, noise: Noise
    ) -> Tensor:
        """A draw of p(x_s | x_t, phi, y)."""
        process, now = denoiser.process, replace(m, operator=m.operator.at(phi))
        assert isinstance(process, Gaussian)
        known = directions(now, process, xt)
        return spectral_step(
            denoiser, now, xt, t, s, known, noise, eta=self.eta_d, eta_b=self.eta_b, eta_c=self.eta_c, D=D
        )

    def _moved(self, m: Measurement, D: Tensor, phi: Tensor, noise: Noise) -> Tensor:
        """phi after a round of Langevin moves at this estimate of x_0."""
        h = self.rate * _SIZE / m.y[0].numel() * (m.sigma / _SIGMA) ** 2
        for _ in range(self.moves):
            with torch.enable_grad():
                phi = phi.detach().requires_grad_()
                energy = replace(m, operator=m.operator.at(phi)).energy(D)
                (g,) = torch.autograd.grad((energy + self.sparsity * phi.abs().flatten(1).sum(1)).sum(), phi)
            phi = phi.detach() - 0.5 * h * g + h**0.5 * noise.normal(phi)
        return unit_sum(phi) if self.unit else phi


Recipe = GibbsDDRM
