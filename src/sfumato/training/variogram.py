"""The covariance of stationary series from data with gaps, by their mean squared differences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def covariance(series: Sequence[Tensor], lags: int) -> Tensor:
    """K(c, d, lag) = 1 - E (x_c(t + lag) - x_d(t))^2 / 2 at lags -M .. M, (C, C, 2 M + 1).

    For stationary series of mean 0 and variance 1 it is their covariance. For series that wander or rise it is a
    generalized covariance: differences do not feel a level that the series have not settled on, where products would.

    Args:
        series: each (C, L), evenly spaced, standardized over all of them; NaN where missing. Their squared differences
            are averaged together.
        lags: M. Lags at which no two numbers are known take the value of the nearest lag that has some.

    Source: Cressie 1993 (10.1002/9781119115151) section 2.4 for the variogram and its classical estimator.
    """
    C = series[0].shape[0]
    total, count = torch.zeros(C, C, lags + 1, dtype=torch.float64), torch.zeros(C, C, lags + 1, dtype=torch.float64)
    for x in series:
        known = (~x.isnan()).double()
        value = x.double().nan_to_num(0.0)
        square, size = value**2 * known, 1 << (x.shape[1] + lags).bit_length()
        f_one, f_x, f_sq = (torch.fft.rfft(part, size) for part in (known, value, square))

        def correlate(a: Tensor, b: Tensor, size: int = size) -> Tensor:
            """sum_t a_c(t + lag) b_d(t), lag 0 .. M."""
            return torch.fft.irfft(a[:, None] * b[None].conj(), size)[..., : lags + 1]

        count += correlate(f_one, f_one).round()
        total += correlate(f_sq, f_one) + correlate(f_one, f_sq) - 2.0 * correlate(f_x, f_x)
    K = 1.0 - 0.5 * total.clamp(min=0.0) / count.clamp(min=1.0)
    for lag in range(1, lags + 1):
        K[..., lag] = torch.where(count[..., lag] > 0, K[..., lag], K[..., lag - 1])
    K = torch.where(count[..., :1] > 0, K, 0.0)
    return torch.cat([K.transpose(0, 1).flip(-1)[..., :-1], K], -1)
