"""GibbsDDRM: a partially collapsed Gibbs sampler for blind inverse problems (Murata et al. 2023, 2301.12686)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Blur, Convolution, Linear, Measurement, Operator, Spectral
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.blind import rows, unit_sum
from sfumato.solvers.ddrm import directions, spectral_start, spectral_step

EXAMPLE = "sfumato restore picture.png --operator deblur --std 2 --sigma 0.02 --solver gibbs-ddrm -o out"

_SIZE, _TAPS, _SIGMA = 3 * 256 * 256, 64 * 64, 0.04  # of y, kernel and noise ([-1, 1]) that the paper's `rate` is for


@dataclass(frozen=True)
class GibbsDDRM(Solver):
    """DDRM's step given the operator's parameters phi, and Langevin moves of phi given the estimate of x_0, in turn:

    x_s ~ p(x_s | x_t, phi, y),   then `rounds` times:   D = D(x_s, s),
        phi <- phi - (h / 2) grad (|y - A_phi D|^2 / (2 sigma_y^2) + sparsity |phi|_1) + sqrt(h) z,   `moves` of them,
        x_s ~ p(x_s | x_t, phi, y) once more, from the same x_t.

    The step is DDRM's with its own shares of y and of noise; eta_A, a share of the old noise in directions that y sees
    less sharply than the state, is 0 as in the paper's deblurring. phi starts at the operator's `parameters`, has a
    value for each row, and ends in `step.memory`. The last step, to t = 0, moves no phi. Scaling to a sum of 1 after
    each round breaks detailed balance; x and phi shift against each other.

    Directions whose singular value is not above `least` are taken as unseen. All hangs on it: where a kernel that is
    too wide hardly sees, y divided by it is not x_0 but noise or worse. So begin with a wide kernel, `kernel`: it sees
    coarse things alone, and finer ones come in as it is mended; begun too narrow, it stays so.

    The stable step h goes as sigma_y^2 over the numbers of y and of taps: at the paper's sizes and noise h is `rate`
    (ours). For a `Blur` the moves go by the lags of D and y, which cost no more for a large picture (ours).
    Borders are circular for `Blur`. With a `Convolution` that keeps to what is "valid", as in a camera, x_0 is larger
    than y, and y beyond its borders is drawn before each step, A_phi D + sigma_y z, as in the public code.

    Args:
        steps: of DDRM; network evaluations are steps + rounds for each step taken at or below `begin`, but the last.
        eta_b: weight of y against D where y is sharper than the state.
        eta_c: weight of (y - D) / k where it is not.
        eta_d: share of fresh noise where A sees nothing.
        begin: phi moves in steps that start at this time or below.
        rounds: of moves and a new x_s, in each step.
        moves: Langevin moves in a round.
        rate: step h at the paper's sizes and noise.
        sparsity: of the Laplace prior of phi.
        unit: scale phi to a sum of 1 after each round, as a kernel.
        least: singular values up to this are taken as 0.

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
    least: float = 0.05
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "eta_b", "eta_c", "eta_d", "begin")

    @staticmethod
    def kernel(width: int) -> Tensor:
        """The paper's first kernel, (width, width): exp(-r / 10 taps), r the distance from the middle."""
        at = torch.arange(width, dtype=torch.float64) - width // 2
        taps = torch.exp(-torch.hypot(at[:, None], at[None]) / 10.0)
        return taps / taps.sum()

    def check(self, operator: Operator) -> None:
        if isinstance(operator, Convolution) and operator.padding == "valid":
            return
        if not isinstance(operator, Spectral):
            raise TypeError(
                f"GibbsDDRM needs a Spectral operator, or a Convolution with valid borders, got "
                f"{type(operator).__name__}. Use BlindDPS or GDP."
            )

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "leading")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        like, process = self.like(denoiser, m), denoiser.process
        assert isinstance(process, Gaussian)
        now = self._now(m, rows(m.operator.parameters, like), _spread(m), noise)
        return spectral_start(denoiser, now, like, t, directions(now, process, like, self.least), noise)

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
        process, now = denoiser.process, self._now(m, phi, D, noise)
        assert isinstance(process, Gaussian)
        known = directions(now, process, xt, self.least)
        return spectral_step(
            denoiser, now, xt, t, s, known, noise, eta=self.eta_d, eta_b=self.eta_b, eta_c=self.eta_c, D=D
        )

    @staticmethod
    def _now(m: Measurement, phi: Tensor, x: Tensor, noise: Noise) -> Measurement:
        """m with these parameters; what a valid convolution leaves out of y is drawn, given x, on a circle."""
        if not isinstance(m.operator, Convolution):
            return replace(m, operator=m.operator.at(phi))
        blur = Blur(phi, tuple(x.shape[2:]))
        y = blur(x)
        y = y + m.sigma * noise.normal(y)
        y[_inside(m)] = m.y.to(y)
        return replace(m, operator=blur, y=y)

    def _moved(self, m: Measurement, D: Tensor, phi: Tensor, noise: Noise) -> Tensor:
        """phi after a round of Langevin moves at this estimate of x_0."""
        h = self.rate * _SIZE / m.y[0].numel() * _TAPS / phi[0].numel() * (m.sigma / _SIGMA) ** 2
        gradient = self._gradient(self._now(m, phi, D, noise), D)
        for _ in range(self.moves):
            g = gradient(phi) + self.sparsity * phi.sign()
            phi = phi - 0.5 * h * g + h**0.5 * noise.normal(phi)
        return unit_sum(phi) if self.unit else phi

    @staticmethod
    def _gradient(m: Measurement, D: Tensor) -> Callable[[Tensor], Tensor]:
        """The gradient of |y - A_phi D|^2 / (2 sigma_y^2) in phi."""
        if isinstance(m.operator, Blur):
            slope = m.operator.taps_gradient(D, m.y)
            return lambda phi: slope(phi) / m.sigma**2

        def gradient(phi: Tensor) -> Tensor:
            with torch.enable_grad():
                phi = phi.detach().requires_grad_()
                (g,) = torch.autograd.grad(replace(m, operator=m.operator.at(phi)).energy(D).sum(), phi)
            return g

        return gradient


def _inside(m: Measurement) -> tuple[Any, ...]:
    """Where y lies in x_0, for a valid convolution."""
    assert isinstance(m.operator, Convolution)
    return (..., *(slice(k - 1 - k // 2, k - 1 - k // 2 + n) for k, n in zip(m.operator.taps, m.y.shape[2:], strict=True)))


def _spread(m: Measurement) -> Tensor:
    """y, in the size of x_0: its border repeated outwards where a valid convolution makes it smaller."""
    if not isinstance(m.operator, Convolution):
        return m.y
    sides = [n for k in reversed(m.operator.taps) for n in (k - 1 - k // 2, k // 2)]
    return pad(m.y, sides, mode="replicate")


Recipe = GibbsDDRM
