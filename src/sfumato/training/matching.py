"""Bridge and flow matching: a denoiser of x_0 learned on paths between coupled ends, and the pairs it then makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise, Seeds
from sfumato.processes import Process
from sfumato.samplers import Sampler, Times, sample
from sfumato.training.couplings import Coupling, independent
from sfumato.training.fit import Data
from sfumato.training.objectives import Denoising, Weight
from sfumato.training.times import TimeLaw

Source = Callable[[int, Noise], Tensor]  # n draws of a law, (n, *event), model space: `world.sample` is one


def normal(event: Sequence[int]) -> Source:
    """Draws from N(0, I) of this shape."""
    return lambda n, noise: noise.normal(torch.empty(n, *event))


def items(data: Data) -> Source:
    """Draws from a data set, with replacement."""

    def draw(n: int, noise: Noise) -> Tensor:
        index = (noise.uniform(torch.empty(n, dtype=torch.float64)) * len(data)).long()
        rows = noise if isinstance(noise, Seeds) else Seeds.keyed(0, range(n))
        return data.batch(index.tolist(), rows)[0]

    return draw


class Matching(Denoising):
    """w(t) mean (x_0 - D(x_t, t, cond))^2 with x_t on a path between x_0 and a coupled x_1.

    x_t ~ path.bind(x_1).marginal(x_0, t), and D sees x_t alone. With the straight path, `Anchored(Rectified(),
    scale=0.0)`, and D on `Rectified()`, D = E[x_0 | x_t] gives the velocity (x_t - D) / t = E[x_1 - x_0 | x_t] whatever
    the coupling and the law of x_1: flow matching, and every sampler of the flow runs it. With a Brownian bridge,
    `Pinned(Brownian(sigma))`, and D on `Brownian(sigma)`, `Ancestral` runs the bridge from x_1 back to x_0.

    Args:
        path: an anchored process without an anchor: x_1 is bound to it.
        source: where x_1 comes from; None: N(0, I).
        coupling: of x_0 and x_1, batch by batch.
        paired: x_1 comes with x_0, as the entry "end" of the condition.
        times, weight: as of `Denoising`; alpha and sigma in the weight are those of the denoiser's process.

    Source: Lipman et al. 2023 (2210.02747) eq. 9; Liu et al. 2023 (2209.03003) eq. 1; Tong et al. 2024 (2302.00482)
    eq. 10 for the coupling.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        path: Process,
        source: Source | None = None,
        coupling: Coupling = independent,
        times: TimeLaw | None = None,
        weight: Weight | None = None,
        *,
        paired: bool = False,
        drop: float = 0.0,
        null: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(denoiser, times, weight, drop=drop, null=null)
        self.path, self.source, self.coupling, self.paired = path, source, coupling, paired

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        if self.paired:
            x1, cond = cond["end"], {k: v for k, v in cond.items() if k != "end"} or None
        else:
            x1 = noise.normal(x0) if self.source is None else self.source(len(x0), noise).to(x0)
        x0, x1 = self.coupling(x0, x1, noise)
        return self.residual(x0, cond, self.path.bind(x1), noise)


class Pairs:
    """Data that come in pairs, held in memory: items as (x0, {"end": x1}).

    Args:
        x0, x1: (N, *event) each, model space.

    Raises:
        ValueError: if they are not as many.
    """

    def __init__(self, x0: Tensor, x1: Tensor) -> None:
        if len(x0) != len(x1):
            raise ValueError(f"pairs are as many x_0 as x_1, got {len(x0)} and {len(x1)}.")
        self.x0, self.x1 = x0, x1

    def __len__(self) -> int:
        return len(self.x0)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, {"end": x1}) of these items; nothing is drawn."""
        return self.x0[items], {"end": self.x1[items]}


def reflow(
    denoiser: Denoiser, sampler: Sampler, source: Source, n: int, *, times: Times, noise: Noise, batch: int = 1000
) -> Pairs:
    """n pairs (x_0, x_1) that the flow of a trained denoiser makes: what the next rectified flow is trained on.

    Source: Liu et al. 2023 (2209.03003) section 2.2 and algorithm 1, "reflow".

    Args:
        sampler: deterministic.
        source: draws x_1, where the flow begins.
        times: from 1 to 0.
    """
    starts = [source(min(batch, n - first), noise) for first in range(0, n, batch)]
    ends = [sample(denoiser, sampler, x1=x1, times=times, noise=noise) for x1 in starts]
    return Pairs(torch.cat(ends), torch.cat(starts))


def straightness(x0: Tensor, x1: Tensor, denoiser: Denoiser, levels: int = 20) -> Tensor:
    """integral_0^1 |x_1 - x_0 - v(x_t, t)|^2 dt along straight lines between pairs, mean over the event, (B,).

    0 for a flow whose paths are straight lines between these ends; for other couplings it is the variance that the
    velocity leaves. v = (x_t - D) / t on `Rectified`. Times are the midpoints of `levels` equal parts.
    Source: Liu et al. 2023 (2209.03003) eq. 6.
    """
    total = torch.zeros(len(x0), dtype=x0.dtype, device=x0.device)
    for i in range(levels):
        t = (i + 0.5) / levels
        xt = (1.0 - t) * x0 + t * x1
        velocity = (xt - denoiser(xt, t).mean) / t
        total = total + (x1 - x0 - velocity).flatten(1).square().mean(1) / levels
    return total
