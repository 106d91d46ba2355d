"""Learning to fill gaps from what was observed: hide some of it, and ask for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.processes import Gaussian
from sfumato.training.objectives import Denoising, Weight
from sfumato.training.times import TimeLaw

Hide = Callable[[Tensor, Noise], Tensor]  # M (B, C, L) of what is known, and a stream, to M_co <= M of what is given


def random(valid: Tensor, noise: Noise) -> Tensor:
    """M_co: a share r ~ U(0, 1) of the known entries of each sample is hidden, round(r n) of n. Source: CSDI 4.3."""
    share = noise.uniform(torch.empty(valid.shape[0]))
    draw = noise.uniform(torch.empty(valid.shape)).to(valid.device).masked_fill(~valid, 2.0)
    rank = draw.flatten(1).argsort(1).argsort(1).reshape(valid.shape)  # unknown entries last
    hidden = (share.to(valid.device) * valid.flatten(1).sum(1)).round()
    return valid & (rank >= hidden[:, None, None])


def historical(valid: Tensor, noise: Noise) -> Tensor:
    """M_co: what the sample before it in the batch lacks is hidden too; a row depends on the batch, by design."""
    return valid & valid.roll(1, 0)


@dataclass(frozen=True)
class Mix:
    """Each sample by one of the strategies, with equal probability."""

    strategies: tuple[Hide, ...]

    def __call__(self, valid: Tensor, noise: Noise) -> Tensor:
        masks = torch.stack([hide(valid, noise) for hide in self.strategies], 1)
        which = noise.choice(torch.ones(masks.shape[:2])).to(valid.device)
        return masks[torch.arange(len(valid), device=valid.device), which]


@dataclass(frozen=True)
class Last:
    """The last steps of every series are hidden: the test pattern of forecasting.

    Args:
        horizon: how many.
        vary: 1 .. horizon of them, uniform for each sample (ours).
    """

    horizon: int
    vary: bool = False

    def __call__(self, valid: Tensor, noise: Noise) -> Tensor:
        L = valid.shape[-1]
        count = torch.full((len(valid),), self.horizon)
        if self.vary:
            count = 1 + noise.choice(torch.ones(len(valid), self.horizon))
        return valid & (torch.arange(L, device=valid.device) < L - count.to(valid.device)[:, None, None])


def block(valid: Tensor, noise: Noise) -> Tensor:
    """M_co: one gap, from a uniform start, of a uniform length, in each series with probability 1/2 (ours)."""
    B, C, L = valid.shape
    u = noise.uniform(torch.empty(B, 2))
    length = 1 + (u[:, 0] * L).floor()
    start = (u[:, 1] * (L - length + 1)).floor()
    at = torch.arange(L)
    gap = (at >= start[:, None]) & (at < (start + length)[:, None])
    lost = noise.uniform(torch.empty(B, C)) < 0.5
    lost |= ~lost.any(1, keepdim=True)
    return valid & ~(gap[:, None] & lost[:, :, None]).to(valid.device)


def everything(valid: Tensor, noise: Noise) -> Tensor:
    """M_co = 0: nothing is given, for an unconditional prior."""
    return torch.zeros_like(valid)


class Masked(Denoising):
    """w sum M_ta (x_0 - D(x_t, t, cond))^2 / sum M_ta, M_ta = M - M_co: the loss on what was known and is hidden.

    The sum of M_ta is that of the batch, as in the public code, so that every hidden number counts the same; the mean
    of the rows is the batch's loss. Values where M is 0 are read nowhere: they are set to 0 first, as x_t = (1 - M_co)
    x_t covers them too.

    `cond` is a dict with "valid", M (B, C, L), and what else the network takes; the denoiser is called with
    "observed", M_co x_0, and "mask", M_co, in its place.

    Args:
        hide: M and a stream to M_co.
        weight: w(alpha, sigma).
        drop, null: share of samples whose side information becomes `null(cond)`, for classifier-free guidance.

    Source: Tashiro et al. 2021 (2107.03502) eq. 11 and algorithm 2.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        hide: Hide,
        times: TimeLaw,
        weight: Weight,
        *,
        drop: float = 0.0,
        null: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(denoiser, times, weight, drop=drop, null=null)
        self.hide = hide

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); their mean is the loss of the batch."""
        rest = dict(cond or {})
        valid = rest.pop("valid", torch.ones_like(x0)).bool()
        x0 = torch.where(valid, x0, 0.0)
        given = self.hide(valid, noise)
        known = rest | {"observed": x0 * given, "mask": given.to(x0)}
        known = self.dropped(x0, known, noise)
        process = self.denoiser.process.bind(known)
        assert isinstance(process, Gaussian)
        t = self.times(process, len(x0), noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        target = (valid & ~given).to(x0)
        error = (target * (x0 - self.denoiser(xt, t, known).mean) ** 2).flatten(1).sum(1)
        return len(x0) * self.weighed(error, process, t) / target.sum().clamp(min=1.0)
