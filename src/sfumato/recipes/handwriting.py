"""Diffusion models for handwriting generation (Luhman & Luhman 2020, 2011.06704)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.nets.pen import PenUNet
from sfumato.noise import Noise
from sfumato.processes import Process, Table, Time, expand
from sfumato.processes.variances import large
from sfumato.samplers import Ancestral, Consistency, Sampler

EXAMPLE = "sfumato train STROKES --size 64 -o run && sfumato sample run -o ink   # a folder of KanjiVG's .svg files"


class Penned(Denoiser):
    """The denoiser of sequences (B, 3, L): dx, dy noised; in place of the flag, the probability that the pen is up.

    The flag is not noised and not looked at: the third row of a state says nothing until the end, where every sampler
    returns the estimate. aux["pen"]: its logits, (B, 1, L).

    Args:
        net: told alpha, not the time.
        recipe: whose sampler and times `sf.Model` draws with.
    """

    def __init__(self, net: nn.Module, process: Table, recipe: Recipe) -> None:
        super().__init__()
        self.net, self.process, self.recipe = net, process, recipe

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process
        assert isinstance(process, Table)
        alpha, sigma = process.alpha(t), process.sigma(t)
        eps, pen = self.net(xt[:, :2], torch.as_tensor(alpha, device=xt.device), cond)
        mean = (xt[:, :2] - expand(sigma, xt) * eps) / expand(alpha, xt)
        return Estimate(torch.cat([mean, torch.sigmoid(pen)], 1), aux={"pen": pen})

    def drawing(self) -> tuple[Sampler, tuple[float, ...]]:
        """The recipe's sampler and its times."""
        return self.recipe.sampler(), self.recipe.times()


@dataclass(frozen=True)
class Between:
    """alpha^2 uniform between two neighbours of a table, of the N - 1 pairs: never above alpha_1^2.

    Source: Chen et al. 2020 (2009.00713) section 2.2, without the interval to 1; public code of Luhman & Luhman.
    """

    bars: tuple[float, ...]

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor:
        assert isinstance(process, Table)
        bars = torch.tensor(self.bars, dtype=torch.float64)
        u = noise.uniform(torch.empty(batch, 2, dtype=torch.float64))
        pair = (u[:, 0] * (len(bars) - 1)).long()
        square = bars[pair] + u[:, 1] * (bars[pair + 1] - bars[pair])
        times: Tensor = process.time_of(torch.logit(square))
        return times


class Written(nn.Module):
    """mean_l sum_xy (eps - eps_hat)^2 + alpha^2 mean_l BCE(pen, pen_hat), (B,): no weight on the pen at pure noise.

    Args:
        times: law of t.
        drop, null: share of the samples whose text is replaced, and by what.

    Source: Luhman & Luhman 2020 (2011.06704) eq. 6 to 8.
    """

    def __init__(self, denoiser: Penned, times: Between, drop: float, null: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.denoiser, self.times, self.drop, self.null = denoiser, times, drop, null

    def forward(self, x0: Tensor, cond: Tensor | None, noise: Noise) -> Tensor:
        process = self.denoiser.process
        assert isinstance(process, Table)
        t = self.times(process, len(x0), noise).to(x0.device)
        if cond is not None and self.drop > 0.0:
            lost = (noise.uniform(torch.empty(len(x0))) < self.drop).to(x0.device)
            cond = torch.where(lost.reshape(-1, *[1] * (cond.ndim - 1)), self.null(cond), cond)
        eps = noise.normal(x0)[:, :2]
        alpha, sigma = expand(process.alpha(t), x0), expand(process.sigma(t), x0)
        xt = torch.cat([alpha * x0[:, :2] + sigma * eps, torch.zeros_like(x0[:, 2:])], 1)
        estimate = self.denoiser(xt, t, cond)
        assert estimate.aux is not None
        error = (alpha / sigma * (x0[:, :2] - estimate.mean[:, :2])).square().sum(1).mean(1)
        pen = F.binary_cross_entropy_with_logits(estimate.aux["pen"], x0[:, 2:], reduction="none").flatten(1).mean(1)
        loss: Tensor = error + alpha.flatten() ** 2 * pen
        return loss


@dataclass(frozen=True)
class Recipe:
    """Offsets of a pen that diffuse, and the flag of each, a Bernoulli number that the network gives beside the noise.

        L = E |eps - eps_hat(x_n, alpha_n, text)|^2 + E alpha_n^2 BCE(pen, pen_hat),
        x_{n-1} = (x_n - sigma_n eps_hat) / sqrt(1 - beta_n) + sqrt(1 - alpha_{n-1}^2) z  ("new"),
        the pen that of the last call.

    The new sampler forgets x_n, so that it shrinks the spread of what it draws: of data N(0, 1) and an exact D the
    variance is 0.468 at the end, where ancestral sampling has 0.919 and the paper's "standard" one, of variance beta,
    0.980: variety traded for quality. Flags are 1 where the offset itself is travelled with the pen up. `classes` is
    the number of symbols that the text is of (73 in the paper; 0: no text): labels (B,), or (B, T), `classes` for none.
    Lengths are multiples of 8; offsets have standard deviation 1.

    The features of a writer's picture are left out, for want of recordings of pens (ours). The pen's loss is weighed by
    the alpha^2 of its own sample, as written, where the code multiplies two means. The last two steps are the
    formula's: the code takes alpha = 1 a step early. Adam, its schedule and 60,000 steps are the caller's.

    Source: Luhman & Luhman 2020 (2011.06704) sections 2 and 3, algorithms 1 and 2; public code.
    """

    takes: ClassVar[str] = "strokes"  # the data that `sfumato train` reads for it

    classes: int = 0
    length: int = 488
    widths: tuple[int, ...] = (128, 192, 256, 384)
    heads: int = 8
    dropout: float = 0.0
    steps: int = 60  # N
    way: Literal["new", "standard"] = "new"
    drop: float = 0.0  # share of texts dropped in training, for guidance (ours)

    def process(self) -> Table:
        """beta_n = 0.02 + exp(linspace(log 1e-5, log 0.4, N)): 0.02001 .. 0.42."""
        low, high = math.log(1e-5), math.log(0.4)
        return Table.from_betas([0.02 + math.exp(low + (high - low) * n / (self.steps - 1)) for n in range(self.steps)])

    def model(self) -> Penned:
        """The untrained denoiser."""
        net = PenUNet(tuple(self.widths), symbols=self.classes, heads=self.heads, dropout=self.dropout)
        return Penned(net, self.process(), self)

    def objective(self, denoiser: Penned) -> Written:
        """The loss on sequences (B, 3, L), cond symbols (B,) or (B, T) where there is a text."""
        return Written(denoiser, Between(self.process().alpha_bars), self.drop if self.classes else 0.0, self.null)

    def null(self, cond: Tensor) -> Tensor:
        """The text of no symbol."""
        return torch.full_like(cond, self.classes)

    def sampler(self) -> Sampler:
        """Noise anew from each estimate, or ancestral sampling with variance beta."""
        return Consistency() if self.way == "new" else Ancestral(large)

    def times(self) -> tuple[float, ...]:
        """All N levels and 0."""
        return grids.table(self.process(), self.steps)
