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

EXAMPLE = "sfumato restore picture.png --operator blind-deblur --width 15 -o out"

# Numbers of y, of the kernel, and noise on [-1, 1], that the paper's `rate` was tuned for.
_SIZE, _TAPS, _SIGMA = 3 * 256 * 256, 64 * 64, 0.04

Pair = tuple[Tensor, Tensor]


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

    D is smoother than x_0, so a kernel fitted to it is too sharp, and where D is smooth the two end at the picture as
    it was seen and a point. That passes where the prior nearly knows the picture, as one of faces does. `spread` (ours)
    fits phi to E |y - A_phi x_0|^2 given x_s in place of |y - A_phi D|^2, with Cov[x_0 | x_s] = sigma^2 / alpha dD/dx_s
    along one random direction, a call more for each round; on photographs with the shipped prior it is needed, and
    even so the mean of six crops became worse (`benchmarks/blind.py`): the prior is too weak for a kernel not known.

    The stable step h goes as sigma_y^2 over the numbers of y and of taps: at the paper's sizes and noise h is `rate`
    (ours). For a `Blur` the moves go by the lags of D and y, which cost no more for a large picture (ours).
    Borders are circular for `Blur`. With a `Convolution` that keeps to what is "valid", as in a camera, x_0 is larger
    than y, and y beyond its borders is drawn before each step, A_phi D + sigma_y z, as in the public code: there x_0
    has the size of y and is 0 beyond, and y stands for D until `begin`.

    Args:
        steps: of DDRM; network evaluations are steps + rounds for each step taken at or below `begin`, but the last.
        eta_b: weight of y against D where y is sharper than the state.
        eta_c: weight of (y - D) / k where it is not.
        eta_d: share of fresh noise where A sees nothing.
        begin: phi moves in steps that start at this time or below; the public code's first is at index 700, so 0.701.
        rounds: of moves and a new x_s, in each step.
        moves: Langevin moves in a round.
        rate: step h at the paper's sizes and noise.
        sparsity: of the Laplace prior of phi.
        unit: scale phi to a sum of 1 after each round, as a kernel.
        least: singular values up to this are taken as 0.
        spread: take the spread of x_0 into account where phi moves (ours); for a `Blur` or a `Convolution`.

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
    spread: bool = False
    needs = Linear

    def __post_init__(self) -> None:
        share(self, "eta_b", "eta_c", "eta_d", "begin")

    @classmethod
    def photographs(cls) -> GibbsDDRM:
        """For a prior that knows textures, not things (ours): with the spread, in a step that its larger curvature
        allows, and fewer calls: 60 steps of 2 rounds."""
        return cls(steps=60, rounds=2, rate=8e-12, spread=True)

    @staticmethod
    def kernel(width: int) -> Tensor:
        """The paper's first kernel, (width, width): exp(-r / 10 taps), r the distance from the middle."""
        at = torch.arange(width, dtype=torch.float64) - width // 2
        taps = torch.exp(-torch.hypot(at[:, None], at[None]) / 10.0)
        return taps / taps.sum()

    def check(self, operator: Operator) -> None:
        if isinstance(operator, Convolution) and operator.padding == "valid":
            return
        if self.spread and not isinstance(operator, Blur):
            raise TypeError(f"GibbsDDRM(spread=True) looks for a kernel, {type(operator).__name__} has none.")
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
            phi = self._moved(m, *self._moments(denoiser, xs, s, noise), phi, noise)
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
        y[m.operator.inside(m.y)] = m.y.to(y)
        return replace(m, operator=blur, y=y)

    def _moments(self, denoiser: Denoiser, xs: Tensor, s: Time, noise: Noise) -> tuple[Tensor, Pair | None]:
        """D, and where the spread counts a random v and Cov[x_0 | x_s] v, by a difference of 0.05 sigma."""
        D, process = denoiser(xs, s).mean, denoiser.process
        if not self.spread:
            return D, None
        assert isinstance(process, Gaussian)
        v, level = noise.normal(xs), process.sigma(s)
        ahead = denoiser(xs + 0.05 * level * v, s).mean
        return D, (v, (ahead - D) * (level / (0.05 * process.alpha(s))))

    def _moved(self, m: Measurement, D: Tensor, pair: Pair | None, phi: Tensor, noise: Noise) -> Tensor:
        """phi after a round of Langevin moves at this estimate of x_0."""
        h = self.rate * _SIZE / m.y[0].numel() * _TAPS / phi[0].numel() * (m.sigma / _SIGMA) ** 2
        gradient = self._gradient(self._now(m, phi, D, noise), D, pair)
        for _ in range(self.moves):
            g = gradient(phi) + self.sparsity * phi.sign()
            phi = phi - 0.5 * h * g + h**0.5 * noise.normal(phi)
        return unit_sum(phi) if self.unit else phi

    @staticmethod
    def _gradient(m: Measurement, D: Tensor, pair: Pair | None) -> Callable[[Tensor], Tensor]:
        """The gradient of |y - A_phi D|^2 / (2 sigma_y^2) in phi."""
        if isinstance(m.operator, Blur):
            slope = m.operator.taps_gradient(D, m.y, pair)
            return lambda phi: slope(phi) / m.sigma**2

        def gradient(phi: Tensor) -> Tensor:
            with torch.enable_grad():
                phi = phi.detach().requires_grad_()
                (g,) = torch.autograd.grad(replace(m, operator=m.operator.at(phi)).energy(D).sum(), phi)
            return g

        return gradient


def _spread(m: Measurement) -> Tensor:
    """y, in the size of x_0: its border repeated outwards where a valid convolution makes it smaller."""
    if not isinstance(m.operator, Convolution):
        return m.y
    sides = [n for k in reversed(m.operator.taps) for n in (k - 1 - k // 2, k // 2)]
    return pad(m.y, sides, mode="replicate")


Recipe = GibbsDDRM
