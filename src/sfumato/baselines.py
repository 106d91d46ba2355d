"""What a user would otherwise pick, to compare with: classical restoration (extra `baselines`), naive forecasts.

Pictures and measurements are in data space, (B, C, H, W) in [0, 1]; every function returns the picture, clipped to
[0, 1]. Each method's one constant was tuned for PSNR on training photographs, never on photo12, by
`python benchmarks/tune_baselines.py --root ROOT`, which prints the five constants below.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sfumato.noise import Noise
from sfumato.operators import Identity, Linear, Measurement

TV_DENOISE = 0.7  # weight of total variation over sigma, for y = x_0 + n
TV_RESTORE = 0.08  # the same, through another operator
NLM = 0.6  # cut-off distance of non-local means over sigma
WIENER = 0.08  # standard deviation of the signal around its mean
LUCY = 30  # iterations of Richardson and Lucy


def bicubic(y: Tensor, factor: int) -> Tensor:
    """y enlarged `factor` times by cubic convolution (a = -0.5, pixel centres aligned).

    Source: Keys 1981 (10.1109/TASSP.1981.1163711) eq. 15.
    """
    # antialias changes nothing in an enlargement but the cubic's parameter: -0.75 without, -0.5 with it.
    return F.interpolate(y, scale_factor=factor, mode="bicubic", antialias=True).clamp(0, 1)


def biharmonic(y: Tensor, mask: Tensor) -> Tensor:
    """y with the pixels where `mask` is 0 filled by the smoothest surface through those around them.

    Args:
        mask: (H, W), 1 where seen.

    Source: Damelin and Hoang 2018 (10.1155/2018/3950312); scikit-image's inpaint_biharmonic.
    """
    fill = _skimage("restoration").inpaint_biharmonic
    holes = mask.numpy() == 0
    return _each(y, lambda x: fill(x, holes, channel_axis=-1))


def non_local_means(y: Tensor, sigma: float, *, cutoff: float | None = None) -> Tensor:
    """y denoised by averaging alike 5 x 5 patches within 6 pixels.

    Args:
        sigma: standard deviation of the noise.
        cutoff: the distance h of alike patches; `NLM` sigma by default.

    Source: Buades et al. 2005 (10.1109/CVPR.2005.38); scikit-image's denoise_nl_means.
    """
    h, average = NLM * sigma if cutoff is None else cutoff, _skimage("restoration").denoise_nl_means
    return _each(y, lambda x: average(x, patch_size=5, patch_distance=6, h=h, sigma=sigma, channel_axis=-1))


def total_variation(m: Measurement, *, weight: float | None = None, steps: int = 40) -> Tensor:
    """argmin_x |A x - y|^2 / 2 + weight TV(x), channel by channel.

    For y = x_0 + n this is scikit-image's denoise_tv_chambolle; otherwise `steps` steps of ADMM around it, with the
    penalty rho = weight / 0.05 (ours), so that each step denoises gently.

    Args:
        weight: `TV_DENOISE` or `TV_RESTORE` times sigma by default; needed where sigma is 0.

    Source: Rudin et al. 1992 (10.1016/0167-2789(92)90242-F); Chambolle 2004 (10.1023/B:JMIV.0000011325.36760.1e).
    """
    shrink = _skimage("restoration").denoise_tv_chambolle
    operator, plain = m.operator, isinstance(m.operator, Identity)
    weight = (TV_DENOISE if plain else TV_RESTORE) * m.sigma if weight is None else weight
    if weight <= 0.0:
        raise ValueError(f"total variation needs a weight above 0, got {weight}: with sigma = 0 it has no default.")
    if plain:
        return _each(m.y, lambda x: shrink(x, weight=weight, eps=1e-5, channel_axis=-1))
    operator = _linear(operator)
    rho, back = weight / 0.05, operator.adjoint(m.y)
    z = u = torch.zeros_like(back)
    for _ in range(steps):
        x = operator.solve(back + rho * (z - u), rho)
        z = _each(x + u, lambda v: shrink(v, weight=0.05, eps=1e-4, max_num_iter=30, channel_axis=-1), clip=False)
        u = u + x - z
    return z.clamp(0, 1)


def wavelet(m: Measurement, *, weight: float, steps: int = 60, levels: int = 4) -> Tensor:
    """argmin_x |A x - y|^2 / 2 + weight |W x|_1 over the details of Haar wavelets: compressed sensing.

    FISTA; in each step the grid of the wavelets lies elsewhere (cycle spinning), so that no blocks show.

    Args:
        levels: of the wavelets; each halves the resolution.

    Source: Beck and Teboulle 2009 (10.1137/080716542); Lustig et al. 2007 (10.1002/mrm.21391); Coifman and Donoho 1995
    for the shifts.
    """
    operator = _linear(m.operator)
    back = operator.adjoint(m.y)
    probe = back.clone()
    for _ in range(20):  # power iterations: the largest eigenvalue of A^T A
        probe = probe / probe.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, 1, 1, 1)
        probe = operator.adjoint(operator(probe))
    top = 1.05 * max(float(probe.flatten(1).norm(dim=1).max()), 1e-12)
    x = z = torch.zeros_like(back)
    momentum, side = 1.0, 2**levels
    for i in range(steps):
        shift = (7 * i % side, 11 * i % side)
        step = (z + (back - operator.adjoint(operator(z))) / top).roll(shift, (-2, -1))
        new = _shrunk(step, weight / top, levels).roll((-shift[0], -shift[1]), (-2, -1))
        following = 0.5 * (1 + math.sqrt(1 + 4 * momentum**2))
        z, x, momentum = new + (momentum - 1) / following * (new - x), new, following
    return x.clamp(0, 1)


def _shrunk(x: Tensor, threshold: float, levels: int) -> Tensor:
    """x with its Haar details held back by `threshold`; borders grow by their edge to whole blocks."""
    H, W = x.shape[-2:]
    if levels == 0:
        return x
    x = F.pad(x, (0, W % 2, 0, H % 2), mode="replicate")
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = [F.softshrink(0.5 * v, threshold) for v in (a - b + c - d, a + b - c - d, a - b - c + d)]
    s, (h, v, g) = _shrunk(0.5 * (a + b + c + d), threshold, levels - 1), details
    corners = torch.stack([s + h + v + g, s - h + v - g, s + h - v - g, s - h - v + g], 2)
    return 0.5 * F.pixel_shuffle(corners.flatten(1, 2), 2)[..., :H, :W]


def wiener(m: Measurement, *, spread: float | None = None) -> Tensor:
    """The linear estimate of least squared error for x_0 ~ N(m, spread^2 I), m the mean of y in each picture.

    x = m + (A^T A + rho I)^{-1} A^T (y - A m),  rho = (sigma / spread)^2.

    Args:
        spread: standard deviation of the signal around its mean; `WIENER` by default.
    """
    operator, spread = _linear(m.operator), WIENER if spread is None else spread
    mean = m.y.mean((1, 2, 3), keepdim=True).expand(len(m), *m.event)
    rho = max(m.sigma / spread, 1e-4) ** 2
    return (mean + operator.solve(operator.adjoint(m.residual(mean)), rho)).clamp(0, 1)


def richardson_lucy(m: Measurement, *, steps: int | None = None) -> Tensor:
    """x <- x A^T (y / A x) / A^T 1, from x = 1/2: the likeliest picture under Poisson noise, stopped early.

    Args:
        steps: iterations; `LUCY` by default.

    Source: Richardson 1972 (10.1364/JOSA.62.000055); Lucy 1974 (10.1086/111605).
    """
    operator, small = _linear(m.operator), 1e-6
    x = torch.full((len(m), *m.event), 0.5, dtype=m.y.dtype)
    whole = operator.adjoint(torch.ones_like(m.y)).clamp(min=small)
    for _ in range(LUCY if steps is None else steps):
        x = x * operator.adjoint(m.y.clamp(min=0) / operator(x).clamp(min=small)).clamp(min=0) / whole
    return x.clamp(0, 1)


def _each(x: Tensor, function: Callable[[NDArray[Any]], NDArray[Any]], *, clip: bool = True) -> Tensor:
    """`function` of each picture as (H, W, C)."""
    done = [function(picture.movedim(0, -1).numpy()) for picture in x]
    out = torch.from_numpy(np.stack(done)).movedim(-1, 1).to(x.dtype)
    return out.clamp(0, 1) if clip else out


def _linear(operator: object) -> Linear:
    if not isinstance(operator, Linear):
        raise TypeError(f"this baseline needs a Linear operator, got {type(operator).__name__}.")
    return operator


# Series, (C, L), NaN where missing


def seasonal_naive(past: Tensor, horizon: int, season: int, samples: int, noise: Noise) -> Tensor:
    """What was one season ago, plus errors that this would have made in the past, drawn with equal probability.

    The k-th season ahead takes k such errors. A missing number is looked for further seasons back.

    Args:
        past: (C, L).
        season: steps; 1 repeats the last value.
        samples: S.

    Returns:
        (S, C, horizon).

    Source: Hyndman and Athanasopoulos 2021, Forecasting: principles and practice, sections 5.2 and 5.5 (bootstrap).
    """
    C, L = past.shape
    if not 0 < season < L:
        raise ValueError(f"a season is at least 1 step and less than the past of {L}, got {season}.")
    last = past[:, -season:].clone()
    for k in range(2, L // season + 1):
        last = torch.where(last.isnan(), past[:, L - k * season : L - (k - 1) * season], last)
    last = torch.where(last.isnan(), past.nanmean(1, keepdim=True), last)
    out = torch.empty(samples, C, horizon, dtype=past.dtype)
    for c in range(C):
        errors = past[c, season:] - past[c, :-season]
        errors = errors[~errors.isnan()]
        u = noise.uniform(torch.empty(samples, horizon, dtype=torch.float64))
        drawn = errors[(u * len(errors)).long()]
        for h in range(horizon):
            before = last[c, h] if h < season else out[:, c, h - season]
            out[:, c, h] = before + drawn[:, h]
    return out


def interpolate(values: Tensor, *, spline: bool = False) -> Tensor:
    """The missing numbers of each series by a line, or a natural cubic spline (scipy), through its neighbours, (C, L).

    Beyond the first and the last known number these are repeated; a series with none is 0.
    """
    filled, place = values.clone(), np.arange(values.shape[1])
    for row in filled:
        known = ~row.isnan().numpy()
        if not known.any():
            row[:] = 0.0
            continue
        x, y = place[known], row[known].numpy()
        line = np.interp(place, x, y)
        if spline and len(x) > 2:
            cubic = importlib.import_module("scipy.interpolate").CubicSpline(x, y, bc_type="natural")(place)
            line = np.where((place >= x[0]) & (place <= x[-1]), cubic, line)
        row[:] = torch.from_numpy(line)
    return filled


def _skimage(part: str) -> Any:
    try:
        return importlib.import_module(f"skimage.{part}")
    except ImportError as error:
        raise ImportError("the classical baselines need scikit-image: pip install 'sfumato[baselines]'.") from error
