"""Any size: a denoiser run on overlapping windows and blended, inside every step of whatever sampler runs it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers.base import Denoiser, Wrapper, _twin
from sfumato.estimate import Estimate
from sfumato.processes import Process, Time


class Windowed(Wrapper):
    """`inner` on windows of the last axes of x_t, blended by weights that sum to one.

    Windows are placed evenly, the last one flush with the border, so any length of at least one window is covered; an
    axis shorter than a window is one window. Blending inside each step leaves no seams, and memory is bounded by
    `batch` windows at a time. Means and variances are averaged with the same weights (a variance so blended is an
    upper bound where windows disagree little).

    Args:
        inner: a denoiser for events of the window's size.
        size: length of a window along each of the last axes: an int for images (H and W), or a tuple, one per axis.
        overlap: numbers shared by neighbouring windows; less than `size`.
        batch: windows that run together.
        aligned: entries of a dict condition that are cropped with x_t (an image beside it); the others are repeated.
        position: adds the corner of each window to the condition as "position", (B, axes), in elements.
        flat: plain averages over the windows that cover a number, in place of weights that fall towards their borders.
    """

    def __init__(
        self,
        inner: Denoiser,
        size: int | Sequence[int],
        overlap: int = 16,
        *,
        batch: int = 8,
        aligned: Sequence[str] = (),
        position: bool = False,
        flat: bool = False,
    ) -> None:
        super().__init__(inner)
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        if not 0 <= overlap < min(self.size):
            raise ValueError(f"overlap must be at least 0 and below the window {self.size}, got {overlap}.")
        self.overlap, self.batch, self.aligned, self.position = overlap, batch, tuple(aligned), position
        self.flat = flat
        self._whole: Process | None = None

    @property
    def process(self) -> Process:  # type: ignore[override]
        return self._whole or self.inner.process

    def bind(self: Windowed, cond: Any) -> Windowed:
        """The whole picture enters the process that samplers see; `inner` binds its own window of it in each call."""
        process = self.process.bind(cond)
        if process is self.process:
            return self
        twin = _twin(self)
        twin._whole = process
        return twin

    def with_process(self: Windowed, process: Process) -> Windowed:
        twin = super().with_process(process)
        twin._whole = None
        return twin

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        lengths = xt.shape[-len(self.size) :]
        if all(n <= w for n, w in zip(lengths, self.size, strict=True)) and not self.position:
            return self.inner(xt, t, cond)
        spans = [_spans(n, w, self.overlap) for n, w in zip(lengths, self.size, strict=True)]
        corners = list(itertools.product(*spans))
        weight = self._ramp(xt, [min(n, w) for n, w in zip(lengths, self.size, strict=True)])
        mean, total, var = torch.zeros_like(xt), xt.new_zeros(lengths), None
        for start in range(0, len(corners), self.batch):
            part = corners[start : start + self.batch]
            crops = torch.cat([_crop(xt, c, weight.shape) for c in part])
            times = t.repeat(len(part), *[1] * (t.ndim - 1)) if isinstance(t, Tensor) and t.ndim else t
            estimate: Estimate = self.inner(crops, times, self._cond(cond, part, xt, weight.shape))
            for corner, m in zip(part, estimate.mean.chunk(len(part)), strict=True):
                _crop(mean, corner, weight.shape).add_(m * weight)
                _crop(total, corner, weight.shape).add_(weight)
            if estimate.var is not None:
                var = torch.zeros_like(xt) if var is None else var
                for corner, v in zip(part, estimate.var.chunk(len(part)), strict=True):
                    _crop(var, corner, weight.shape).add_(v * weight)
        return Estimate(mean / total, None if var is None else var / total)

    @staticmethod
    def count(length: int, window: int, overlap: int) -> int:
        """How many windows cover an axis."""
        return len(_spans(length, window, overlap))

    def _ramp(self, xt: Tensor, shape: Sequence[int]) -> Tensor:
        """Blending weight: rises as sin^2 over the overlap at each border, never to 0 (ours: two such add up to 1, and
        what a network makes of the border of its window hardly counts); 1 where `flat`."""
        weight = torch.ones(*shape, dtype=xt.dtype, device=xt.device)
        for axis, n in enumerate(() if self.flat else shape):
            i = torch.arange(n, dtype=xt.dtype, device=xt.device)
            rise = ((torch.minimum(i, n - 1 - i) + 1) / (self.overlap + 1)).clamp(max=1.0)
            weight = weight * (0.5 * math.pi * rise).sin().square().reshape(
                [-1 if a == axis else 1 for a in range(len(shape))]
            )
        return weight

    def _cond(self, cond: Any, corners: Sequence[tuple[int, ...]], xt: Tensor, shape: torch.Size) -> Any:
        if cond is None and not self.position:
            return None
        if isinstance(cond, Tensor):
            return cond.repeat(len(corners), *[1] * (cond.ndim - 1)) if cond.ndim else cond
        parts = {}
        for key, value in (cond or {}).items():
            if key in self.aligned:
                parts[key] = torch.cat([_crop(value, c, shape) for c in corners])
            else:
                parts[key] = value.repeat(len(corners), *[1] * (value.ndim - 1))
        if self.position:
            where = torch.tensor(corners, device=xt.device).repeat_interleave(xt.shape[0], 0)
            parts["position"] = where
        return parts


def _spans(length: int, window: int, overlap: int) -> list[int]:
    """Starts of windows that cover `length` evenly, overlapping by at least `overlap`."""
    if length <= window:
        return [0]
    count = -(-(length - overlap) // (window - overlap))
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _crop(x: Tensor, corner: Sequence[int], shape: Sequence[int]) -> Tensor:
    window: tuple[Any, ...] = (..., *(slice(a, a + n) for a, n in zip(corner, shape, strict=True)))
    return x[window]
