"""Computed tomography: line integrals of images, parallel or from a point source."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.operators.base import Linear, conjugate_gradients

CHUNK = 2**20  # (ours) numbers of the image that are looked up at once
SMALL = 2**23  # (ours) numbers of the matrix up to which it is kept, some 200 MB: 15 times as fast


@dataclass(frozen=True, eq=False)
class Radon(Linear):
    """y(theta, u) = integral of x along the line at u, for each channel: (B, C, H, W) to (B, C, views, detectors).

    Lengths are in pixels (in y times `unit`), the origin is the middle of the image. The line at angle theta and place
    u has the points (column, row) = u (cos, -sin) + v (sin, cos), so that theta = 0 sums along columns, as in
    scikit-image. Joseph's rule: a step per row (per column for flat lines), linear interpolation between the two
    nearest pixels, zero outside.

    With `source` the lines of one view come from a point at v = -source and end on a flat detector at v = `behind`:
    a fan; u is then the place on the detector.

    `adjoint` is the exact transpose (an unfiltered backprojection), `fbp` the usual reconstruction, which is only near
    the pseudo-inverse; that one and `solve` come by conjugate gradients, slowly: of few views the last of them change
    the image where next to nothing was measured, and stopping early holds back noise.

    Args:
        size: (H, W).
        angles: theta of each view, radians.
        detectors: how many; ceil of the diagonal unless given.
        spacing: distance of two detectors.
        source: distance of the source from the origin, None for parallel lines; beyond half the diagonal.
        behind: distance of the detector from the origin, for a fan.
        rounds: most steps of conjugate gradients.
        unit: length of a pixel's side in y; solvers whose steps go by |y - A x| want A of a norm near 1: see `norm`.

    Raises:
        ValueError: for a source inside the image, or data of another size.

    Source: Joseph 1982, IEEE Transactions on Medical Imaging 1(3).
    """

    size: tuple[int, int]
    angles: tuple[float, ...]
    detectors: int | None = None
    spacing: float = 1.0
    source: float | None = None
    behind: float = 0.0
    rounds: int = 200
    unit: float = 1.0

    def __post_init__(self) -> None:
        if self.source is not None and self.source <= 0.5 * math.hypot(*self.size):
            raise ValueError(f"the source lies outside the image, beyond {math.hypot(*self.size) / 2:.4g} pixels.")
        if not self.angles or self.spacing <= 0.0 or self.unit <= 0.0:
            raise ValueError("at least one view, a spacing and a unit above 0 are needed.")
        count = math.ceil(math.hypot(*self.size)) if self.detectors is None else self.detectors
        object.__setattr__(self, "detectors", count)

    @classmethod
    def parallel(cls, size: tuple[int, int], views: int, *, detectors: int | None = None) -> Radon:
        """`views` equally spaced angles from 0 up to half a turn."""
        return cls(size, tuple(math.pi * i / views for i in range(views)), detectors)

    @classmethod
    def fan(
        cls, size: tuple[int, int], views: int, *, source: float, behind: float = 0.0, detectors: int | None = None
    ) -> Radon:
        """`views` equally spaced angles of a whole turn; the detector as wide as the image's diagonal seen on it."""
        count = math.ceil(math.hypot(*size)) if detectors is None else detectors
        half = 0.5 * math.hypot(*size)
        width = 2 * half * (source + behind) / math.sqrt(max(source**2 - half**2, 1e-12))
        angles = tuple(2 * math.pi * i / views for i in range(views))
        return cls(size, angles, count, width / count, source, behind)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1:-2], *self.size)

    def __call__(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != tuple(self.size):
            raise ValueError(f"this operator was made for size {self.size}, got data {tuple(x.shape)}: make another.")
        flat = x.reshape(-1, *self.size)
        if (kept := self._matrix(x)) is not None:
            return (kept[0] @ flat.flatten(1).mT).mT.reshape(*x.shape[:-2], len(self.angles), -1)
        y = flat.new_zeros(len(flat), len(self.angles) * self._count)
        for upright, rays, at, weight in self._pieces(x):
            image = flat if upright else flat.mT
            y = y.index_add(1, rays, (image.gather(2, at.expand(len(flat), -1, -1)) * weight).sum(1))
        return y.reshape(*x.shape[:-2], len(self.angles), -1)

    def adjoint(self, y: Tensor) -> Tensor:
        flat = y.reshape(-1, len(self.angles) * self._count)
        H, W = self.size
        if (kept := self._matrix(y)) is not None:
            return (kept[1] @ flat.mT).mT.reshape(*y.shape[:-2], H, W)
        sums = {True: flat.new_zeros(len(flat), H, W), False: flat.new_zeros(len(flat), W, H)}
        for upright, rays, at, weight in self._pieces(y):
            spread = weight * flat[:, None, rays]
            sums[upright] = sums[upright].scatter_add(2, at.expand(len(flat), -1, -1), spread)
        return (sums[True] + sums[False].mT).reshape(*y.shape[:-2], H, W)

    def pinv(self, y: Tensor) -> Tensor:
        return conjugate_gradients(lambda x: self.adjoint(self(x)), self.adjoint(y), steps=self.rounds)

    def solve(self, b: Tensor, rho: float) -> Tensor:
        return conjugate_gradients(lambda x: self.adjoint(self(x)) + rho * x, b, steps=self.rounds)

    def fbp(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """Filtered backprojection, (B, C, H, W): (pi / views) sum over views of (h * y_theta)(u of the pixel) / U^2.

        Angles are equally spaced, over half a turn for parallel lines, a whole one for a fan. h is the ramp |f| up to
        the detectors' own limit, in the band-limited form of its taps (1/4, 0, -1 / (pi n)^2), which keeps the mean
        right. Of a fan, y is first weighted by the cosine of each line's angle to the middle one, and U is
        (source + v) / source for a pixel at v along that one; of parallel lines U = 1.

        Args:
            filter: "ramp", or "hann": the ramp times a Hann window, smoother and less noisy.

        Raises:
            ValueError: for another filter.

        Source: Kak & Slaney 1988, Principles of Computerized Tomographic Imaging, eq. 3.61 and section 3.3; 3.4.2 for
        the fan.
        """
        if filter not in ("ramp", "hann"):
            raise ValueError(f'the filter is "ramp" or "hann", got {filter!r}.')
        n, views, spacing = y.shape[-1], len(self.angles), self.spacing
        if self.source is not None:
            spacing *= self.source / (self.source + self.behind)  # of the detector moved to the middle of the image
            place = (torch.arange(n, dtype=y.dtype, device=y.device) - (n - 1) / 2) * spacing
            y = y * self.source / (self.source**2 + place**2).sqrt()
        wide = 2 ** math.ceil(math.log2(2 * n))
        at = torch.arange(wide, dtype=y.dtype, device=y.device)
        at = torch.minimum(at, wide - at)
        taps = torch.where(at % 2 == 1, -1.0 / (math.pi * at.clamp(min=1)) ** 2, 0.0)
        taps[0] = 0.25
        gain = torch.fft.rfft(taps).real
        if filter == "hann":
            gain = gain * 0.5 * (1 + torch.cos(math.pi * torch.arange(len(gain)).to(gain) / (len(gain) - 1)))
        smooth = torch.fft.irfft(torch.fft.rfft(y, wide) * gain, wide)[..., :n] / spacing
        rows, cols = _centred(self.size, y)
        image = y.new_zeros(*y.shape[:-2], *self.size)
        for view, theta in zip(smooth.unbind(-2), self.angles, strict=True):
            u, near = cols * math.cos(theta) - rows[:, None] * math.sin(theta), y.new_ones(())
            if self.source is not None:
                near = self.source / (self.source + cols * math.sin(theta) + rows[:, None] * math.cos(theta))
            for at_u, share in _nearest(u * near / spacing + (n - 1) / 2, n):
                image = image + share * near**2 * view[..., at_u]
        return image * (math.pi / views / self.unit)

    def norm(self, steps: int = 20) -> float:
        """The largest singular value, from `steps` power iterations on an even image."""
        x = torch.ones(1, 1, *self.size, dtype=torch.float64)
        for _ in range(steps):
            x = self.adjoint(self(x / x.norm()))
        return float(x.norm().sqrt())

    @property
    def _count(self) -> int:
        assert self.detectors is not None
        return self.detectors

    def _matrix(self, like: Tensor) -> tuple[Tensor, Tensor] | None:
        """A and A^T in the precision and on the device of `like`; None where they would be large."""
        H, W = self.size
        if len(self.angles) * self._count * max(H, W) > SMALL:
            return None
        key = (like.dtype, like.device)
        if key not in self._kept:
            parts = []
            for upright, rays, at, weight in self._pieces(like):
                along = torch.arange(len(at), device=at.device)[:, None]
                pixel = along * W + at if upright else at * W + along
                parts.append((rays.expand_as(at)[weight != 0], pixel[weight != 0], weight[weight != 0]))
            ray, pixel, weight = (torch.cat(column) for column in zip(*parts, strict=True))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that sparse rows are new in torch
                size = (len(self.angles) * self._count, H * W)
                A = torch.sparse_coo_tensor(torch.stack([ray, pixel]), weight, size)
                self._kept[key] = A.to_sparse_csr(), A.mT.to_sparse_csr()
        return self._kept[key]

    @functools.cached_property
    def _kept(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]:
        return {}

    def _pieces(self, like: Tensor) -> Iterator[_Piece]:
        """Where lines take their numbers from: steep ones from rows of the image, the others from its transpose's."""
        theta = torch.tensor(self.angles, dtype=torch.float64)[:, None]
        cos, sin = theta.cos(), theta.sin()
        u = (torch.arange(self._count, dtype=torch.float64) - (self._count - 1) / 2) * self.spacing
        if self.source is None:
            lines = [u * cos, -u * sin, sin.expand(-1, len(u)), cos.expand(-1, len(u))]
        else:
            col, row = u * cos + self.behind * sin, -u * sin + self.behind * cos
            lines = [col, row, col + self.source * sin, row + self.source * cos]
        col, row, d_col, d_row = (line.flatten() for line in lines)
        steep = d_row.abs() >= d_col.abs()
        for upright, own, (p, q, dp, dq), (n, m) in (
            (True, steep, (row, col, d_row, d_col), self.size),
            (False, ~steep, (col, row, d_col, d_row), self.size[::-1]),
        ):
            along = torch.arange(n, dtype=torch.float64)[:, None] - (n - 1) / 2
            for rays in own.nonzero()[:, 0].split(max(1, CHUNK // n)):
                slope = dq[rays] / dp[rays]
                across = q[rays] + (along - p[rays]) * slope + (m - 1) / 2
                length = (1.0 + slope**2).sqrt()
                for at, share in _nearest(across, m):
                    yield _Piece(
                        upright, rays.to(like.device), at.to(like.device), (self.unit * share * length).to(like)
                    )


class _Piece(NamedTuple):
    """y_(rays[j]) += sum_i weight[i, j] image[i, at[i, j]], of the image itself or of its transpose."""

    upright: bool
    rays: Tensor
    at: Tensor
    weight: Tensor


def _centred(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Places of rows and columns, the middle at 0."""
    H, W = (torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2 for n in size)
    return H, W


def _nearest(place: Tensor, n: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The two indices beside each place among 0 .. n - 1 with their shares, 0 where there is none."""
    floor = place.floor()
    for at, share in ((floor, floor + 1 - place), (floor + 1, place - floor)):
        inside = (at >= 0) & (at < n)
        yield at.clamp(0, n - 1).long(), torch.where(inside, share, 0.0)
