"""Consistency models: a function that takes every point of a flow to its end, distilled or trained from nothing.

f(x_t, t) is a denoiser whose mean is the clean end of the flow through x_t, not E[x_0 | x_t]: of N(0, c) under alpha =
1 it is x sqrt(c / (c + sigma^2)). It obeys f(x_s, s) = f(x_t, t) along the flow, and f(x_0, 0) = x_0 by its scheme.
Levels are t = n / (N - 1), n = 0 .. N - 1: Karras' grid on `EDM()`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process, expand

Distance = Callable[[Tensor, Tensor], Tensor]
LevelLaw = Callable[[Process, int], Tensor]


def squared(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 of each row, summed over the event, (B,)."""
    return (a - b).flatten(1).square().sum(1)


def pseudo_huber(factor: float = 0.00054) -> Distance:
    """sqrt(|a - b|^2 + c^2) - c, c = factor sqrt(d). Source: Song & Dhariwal 2024 (2310.14189) section 3.3."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        c = factor * math.sqrt(a[0].numel())
        return (squared(a, b) + c**2).sqrt() - c

    return distance


def growing(iterations: int, first: int = 2, last: int = 150) -> Callable[[int], int]:
    """N(k) = ceil(sqrt(k / K ((last + 1)^2 - first^2) + first^2) - 1) + 1 levels at step k.

    Source: Song et al. 2023 (2303.01469) appendix C.
    """

    def levels(step: int) -> int:
        return math.ceil(math.sqrt(step / iterations * ((last + 1) ** 2 - first**2) + first**2) - 1) + 1

    return levels


def doubling(iterations: int, first: int = 10, last: int = 1280) -> Callable[[int], int]:
    """N(k) = min(first 2^floor(k / K'), last) + 1 levels, K' = floor(K / (log2(last / first) + 1)).

    Source: Song & Dhariwal 2024 (2310.14189) section 3.4.
    """
    each = max(1, math.floor(iterations / (math.log2(last // first) + 1)))

    def levels(step: int) -> int:
        return int(min(first * 2 ** (step // each), last)) + 1

    return levels


def equally(process: Process, levels: int) -> Tensor:
    """Every pair of neighbouring levels with the same probability, (N - 1,)."""
    return torch.ones(levels - 1, dtype=torch.float64)


def log_normal(mean: float = -1.1, std: float = 2.0) -> LevelLaw:
    """Pair n with the mass of log(sigma / alpha) ~ N(mean, std^2) between its two levels.

    Source: Song & Dhariwal 2024 (2310.14189) section 3.5.
    """

    def law(process: Process, levels: int) -> Tensor:
        assert isinstance(process, Gaussian)
        t = torch.linspace(0.0, 1.0, levels, dtype=torch.float64)
        return torch.special.ndtr((-0.5 * process.log_snr(t) - mean) / std).diff()

    return law


class ConsistencyTraining(nn.Module):
    """w d(f(x_t, t), f^-(x_s, s)) at two neighbouring levels s < t of one flow.

    x_s is x_0 with the noise of x_t (consistency training), or the end of one Heun step of a teacher from x_t
    (consistency distillation). f^- is a moving average of f, or f itself, and gets no gradient; dropout is the same in
    both. Training from nothing is biased at finite N: its fixed point on N(0, c) has the slope
    prod (c + s_n s_{n+1}) / (c + s_{n+1}^2), which nears the flow's as 1 / N.

    Args:
        denoiser: f, on a scheme with f(x, 0) = x: `consistency`.
        levels: N at each step, as `growing` or `doubling`, or a number.
        teacher: a denoiser E[x_0 | x_t] of the same process; None: consistency training.
        distance: `squared`, `pseudo_huber()`, or a perceptual one.
        law: of the pair of levels: `equally` or `log_normal()`.
        improved: w = 1 / (sigma_t - sigma_s); 1 otherwise.
        decay: mu(N), of f^-; None: f itself.

    Source: Song et al. 2023 (2303.01469) algorithms 2 and 3; Song & Dhariwal 2024 (2310.14189) table 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        levels: Callable[[int], int] | int,
        *,
        teacher: Denoiser | None = None,
        distance: Distance = squared,
        law: LevelLaw = equally,
        improved: bool = False,
        decay: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__()
        self.denoiser, self.levels, self.distance, self.law = denoiser, levels, distance, law
        self.improved, self.decay = improved, decay
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()
        self.average = None if decay is None else copy.deepcopy(denoiser).requires_grad_(False)
        self.count = levels if isinstance(levels, int) else levels(1)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); one pair of levels and one noise drawn for each."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        chances = self.law(process, self.count)
        n = noise.choice(chances.expand(x0.shape[0], -1)).to(x0.device).double()
        s, t = n / (self.count - 1), (n + 1) / (self.count - 1)
        eps = noise.normal(x0)
        xt = process.perturb(x0, t, eps)
        with torch.no_grad():
            xs = process.perturb(x0, s, eps) if self.teacher is None else heun(self.teacher, xt, t, s, cond)
            # The generator is put back afterwards: dropout is the same in both.
            with torch.random.fork_rng([x0.device] if x0.is_cuda else []):
                target = (self.average or self.denoiser)(xs, s, cond).mean
        loss = self.distance(self.denoiser(xt, t, cond).mean, target)
        return loss / (process.sigma(t) - process.sigma(s)).to(loss) if self.improved else loss

    @torch.no_grad()
    def advance(self, step: int) -> None:
        """The levels of this step; the average moves towards the weights."""
        self.count = self.levels if isinstance(self.levels, int) else self.levels(step)
        if self.average is not None and self.decay is not None:
            share = 1.0 - self.decay(self.count)
            torch._foreach_lerp_(list(self.average.parameters()), list(self.denoiser.parameters()), share)

    def train(self, mode: bool = True) -> ConsistencyTraining:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self


def heun(denoiser: Denoiser, xt: Tensor, t: Tensor, s: Tensor, cond: Any = None) -> Tensor:
    """x_s after one step of Heun's method along the flow, a time for each row; two calls.

    As `samplers.Heun` without churn and guard. Source: Karras et al. 2022 (2206.00364) algorithm 1.
    """
    process = denoiser.process.bind(cond)
    assert isinstance(process, Gaussian)
    D = denoiser(xt, t, cond)._replace(var=None)
    first = process.reverse(D, xt, t, s, 0.0).mean
    h = 0.5 * (process.log_snr(s) - process.log_snr(t))
    weight = expand(0.5 * process.alpha(s) * torch.expm1(h), xt)
    return torch.addcmul(first, weight, denoiser(first, s, cond).mean - D.mean)
