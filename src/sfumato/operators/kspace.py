"""k-space: the centred unitary Fourier transform of images, and which of its points a scanner visits.

Zero frequency is at (H // 2, W // 2). A complex image or spectrum is held in two real channels, (..., 2, H, W), the
real part first, so that every number of a measurement is real and has the same noise. Masks are (H, W), true where
k-space is sampled; they depend on the noise they are given alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.noise import Noise


def transform(image: Tensor) -> Tensor:
    """Spectrum of real or complex images (..., H, W), complex; unitary, zero frequency in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(image, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))


def inverse(spectrum: Tensor) -> Tensor:
    """Complex images (..., H, W) of spectra: the inverse and the adjoint of `transform`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))


def to_channels(z: Tensor) -> Tensor:
    """(..., 2, H, W) real of (..., H, W) complex."""
    return torch.stack([z.real, z.imag], -3)


def to_complex(x: Tensor) -> Tensor:
    """(..., H, W) complex of (..., 2, H, W) real."""
    return torch.complex(x.select(-3, 0), x.select(-3, 1))


def mirrored(z: Tensor) -> Tensor:
    """(..., H, W) at the opposite frequencies: z(-k); the spectrum of a real image equals its conjugate."""
    for axis in (-2, -1):
        n = z.shape[axis]
        z = z.index_select(axis, (2 * (n // 2) - torch.arange(n, device=z.device)) % n)
    return z


def columns(size: tuple[int, int], noise: Noise, *, acceleration: float = 4.0, centre: float = 0.08) -> Tensor:
    """Random columns: the middle ones, and each other one with the probability that makes 1 / acceleration expected.

    Args:
        centre: share of the columns, in the middle, that are always seen; 0.08 at 4, 0.04 at 8 in fastMRI.

    Source: fastMRI, Zbontar et al. 2018 (1811.08839), and its public code.
    """
    W, low = size[1], _middle(size, centre)
    share = (W / acceleration - low) / max(W - low, 1)
    if not 0.0 <= share <= 1.0:
        raise ValueError(
            f"{low} of {W} columns in the middle and an acceleration of {acceleration} do not go together: lower one."
        )
    seen = noise.uniform(torch.empty(W, dtype=torch.float64)) < share
    return _with_middle(seen, low).expand(size)


def equispaced(
    size: tuple[int, int], *, acceleration: float = 4.0, centre: float = 0.08, offset: int | None = None
) -> Tensor:
    """Columns at equal distances beside the middle ones, set so that about 1 / acceleration of all are seen.

    Args:
        offset: first column of the lattice; half a distance in, unless given.

    Source: the public code of fastMRI (1811.08839) and of Song et al. 2022 (2111.08005), whose `n_keep` columns are an
    acceleration of W / n_keep and a centre of n_keep / 1000.
    """
    W, low = size[1], _middle(size, centre)
    if low * acceleration >= W:
        raise ValueError(
            f"{low} of {W} columns in the middle and an acceleration of {acceleration} do not go together: lower one."
        )
    distance = acceleration * (low - W) / (low * acceleration - W)
    first = round(distance) // 2 if offset is None else offset
    at = torch.arange(first, W - 1, distance, dtype=torch.float64).round().long()
    return _with_middle(torch.zeros(W, dtype=torch.bool).index_fill(0, at, True), low).expand(size)


def poisson_disc(
    size: tuple[int, int], noise: Noise, *, acceleration: float = 4.0, centre: float = 0.08, slope: float = 1.0
) -> Tensor:
    """Random points no two of which are close, denser in the middle, and a square in the middle that is always seen.

    Points are tried in a random order and kept where none lies nearer than r (1 + slope |k| / k_max); r is the largest
    that still sees 1 / acceleration of all, found by bisection (ours: dart throwing on the lattice).

    Args:
        centre: side of the square, in parts of each side of k-space.
    """
    if acceleration <= 1.0:
        raise ValueError(f"an acceleration above 1 is needed, got {acceleration}.")
    H, W = size
    order = noise.permutation(H * W).tolist()
    rows, cols = torch.meshgrid(torch.arange(H) - H // 2, torch.arange(W) - W // 2, indexing="ij")
    far = (rows / (H / 2)).square().add((cols / (W / 2)).square()).sqrt()
    square = _block(H, _middle((H, H), centre))[:, None] & _block(W, _middle(size, centre))
    low, high, found = 0.5, float(max(size)), torch.ones(size, dtype=torch.bool)
    for _ in range(12):
        middle = 0.5 * (low + high)
        mask = _darts(size, order, middle * (1.0 + slope * far)) | square
        if float(mask.double().mean()) >= 1.0 / acceleration:
            low, found = middle, mask
        else:
            high = middle
    return found


def radial(size: tuple[int, int], spokes: int, *, golden: bool = False) -> Tensor:
    """Lines through the middle, at equal angles or a golden angle apart, each point moved to the lattice.

    By the Fourier slice theorem one of them is the spectrum of one parallel projection.

    Args:
        golden: successive angles differ by 111.246 degrees, so that any number of spokes is spread.
    """
    if spokes < 1:
        raise ValueError(f"at least 1 spoke is needed, got {spokes}.")
    H, W = size
    turn = math.pi * (math.sqrt(5.0) - 1.0) / 2.0 if golden else math.pi / spokes
    angles = turn * torch.arange(spokes, dtype=torch.float64)[:, None]
    # half a step along the line: no lattice point of it is missed
    far = math.ceil(math.hypot(H, W))
    r = torch.arange(-far, far + 1, dtype=torch.float64) / 2
    at = [(n // 2 + (r * f(angles))).round().long() for n, f in ((H, torch.sin), (W, torch.cos))]
    inside = (at[0] >= 0) & (at[0] < H) & (at[1] >= 0) & (at[1] < W)
    mask = torch.zeros(size, dtype=torch.bool)
    mask[at[0][inside], at[1][inside]] = True
    return mask


def _middle(size: tuple[int, int], centre: float) -> int:
    """How many columns the share `centre` is."""
    if not 0.0 <= centre <= 1.0:
        raise ValueError(f"the centre is a share, from 0 to 1, got {centre}.")
    return round(size[1] * centre)


def _block(n: int, low: int) -> Tensor:
    """True at the `low` middle places of n."""
    at, first = torch.arange(n), (n - low + 1) // 2
    return (at >= first) & (at < first + low)


def _with_middle(seen: Tensor, low: int) -> Tensor:
    return seen | _block(len(seen), low)


def _darts(size: tuple[int, int], order: list[int], radius: Tensor) -> Tensor:
    """Lattice points kept in this order, each of which forbids those nearer than its radius."""
    H, W = size
    kept, free, radii = torch.zeros(size, dtype=torch.bool), torch.ones(size, dtype=torch.bool), radius.tolist()
    open_, kept_, at = free.numpy(), kept.numpy(), torch.arange(max(size)).numpy()
    for place in order:
        i, j = divmod(place, W)
        if not open_[i, j]:
            continue
        kept_[i, j] = True
        r = radii[i][j]
        a, b, c, d = max(0, i - int(r)), min(H, i + int(r) + 1), max(0, j - int(r)), min(W, j + int(r) + 1)
        open_[a:b, c:d] &= (at[a:b, None] - i) ** 2 + (at[c:d] - j) ** 2 >= r * r
        open_[i, j] = False
    return kept
