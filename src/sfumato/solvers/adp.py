"""ADP: adversarial purification with score-based generative models (Yoon et al. 2021, 2106.06041)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Identity, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver

EXAMPLE = "sfumato restore picture.png --operator denoise --solver adp --samples 4 -o out"


@dataclass(frozen=True)
class ADP(Solver):
    """Noise is added to an attacked picture, a few deterministic score steps take it off, a classifier reads the rest.

    In the unit interval, u = (x - low) / (high - low): u <- clip(u + noise z), then `steps` times

        g = S(u),  r = <g, S(u + delta g)> / <g, g>,  a = clip(rate delta / (1 - r), least, most),  u <- clip(u + a g),

    for each picture until a <= stop, where it is left alone. Where log p is quadratic along g with curvature -1 / v,
    rate delta / (1 - r) is the share `rate` of a Newton step. S is sigma times the score at one small level, as the
    paper's network without its division by sigma; the score of a library's denoiser is at `level` (ours).

    The public code squeezes u by 255 / 256 about 1/2 once and stretches it back in every step, 4 % in ten: left out.

    The measurement is the picture: `Measurement(Identity(), y, sigma=0.0)`; its sigma is not used. Each call is one
    draw: take the mean of a classifier's probabilities over draws, `classified`. Two calls of the denoiser a step. It
    defends nothing by itself: an attacker who differentiates through the loop does better than one who takes it for the
    identity, and one who ignores it says little (see `metrics.attacks`).

    Args:
        noise: sigma of the noise, of the unit interval; 0.25 against strong attacks, 0.1 for clean accuracy.
        rate: lambda.
        delta: the step that measures the curvature.
        least, most: ends of a.
        stop: a picture is left alone once a is no larger.
        level: sigma / alpha of the score, of the unit interval (ours).
        low, high: ends of the unit interval in model space.

    Source: Yoon et al. 2021 (2106.06041) algorithm 1 and section 4; public code.
    """

    steps: int = 10
    noise: float = 0.25
    rate: float = 0.05
    delta: float = 1e-3
    least: float = 1e-5
    most: float = 0.1
    stop: float = 1e-3
    level: float = 0.25
    low: float = -1.0
    high: float = 1.0
    warm: ClassVar[bool] = True

    def check(self, operator: Operator) -> None:
        if not isinstance(operator, Identity):
            raise TypeError(f"ADP purifies a picture: it needs an Identity, got {type(operator).__name__}. Use DPS.")

    def times(self, process: Gaussian) -> Times:
        """One level, `steps` times."""
        log_snr = -2.0 * torch.tensor(self.level * (self.high - self.low), dtype=torch.float64).log()
        return (float(process.time_of(float(log_snr))),) * (self.steps + 1)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        span = self.high - self.low
        y = m.y.to(self.like(denoiser, m))
        return (y + self.noise * span * noise.normal(y)).clamp(self.low, self.high)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Any:
        """Which pictures still move."""
        return torch.ones(len(xt), dtype=torch.bool, device=xt.device)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        span = self.high - self.low
        g = self._score(denoiser, xt, t)
        flat, ahead = g.flatten(1), self._score(denoiser, xt + self.delta * span * g, t).flatten(1)
        r = (flat * ahead).sum(1) / (flat * flat).sum(1)
        # Where r > 1, along a direction that is not concave, a is negative, so the least: the picture is left alone.
        size = (self.rate * self.delta / (1.0 - r)).clamp(self.least, self.most)
        moving = memory & (size > self.stop)
        size = torch.where(moving, size, 0.0).reshape(-1, *[1] * (xt.ndim - 1))
        moved = (xt + span * size * g).clamp(self.low, self.high)
        return moved, moving

    def classified(
        self, classifier: Callable[[Tensor], Tensor], denoiser: Denoiser, y: Tensor, draws: int, noise: Noise
    ) -> Tensor:
        """Class probabilities of pictures y, (B, K), model space: the mean of softmax over `draws` purifications."""
        rows = Measurement(Identity(), y, sigma=0.0)
        probs = [torch.softmax(classifier(self(denoiser, rows, noise)), 1) for _ in range(draws)]
        return torch.stack(probs).mean(0)

    @staticmethod
    def _score(denoiser: Denoiser, x: Tensor, t: Time) -> Tensor:
        """sigma grad log p of the state whose clean part is x: -eps_hat of alpha x."""
        process = denoiser.process
        assert isinstance(process, Gaussian)
        xt = process.alpha(t) * x
        return -process.eps(xt, denoiser(xt, t).mean, t)


Recipe = ADP
