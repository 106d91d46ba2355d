"""Which variance a reverse step has: the law of x_s given x_t under an estimate of x_0, for Gaussian processes.

All share the mean of the bridge q(x_s | x_t, x_0 = D). For a step t -> s the variance lies between

    btilde = sigma_{t|s}^2 sigma_s^2 / sigma_t^2     (exact where x_0 is a point)
    beta   = sigma_{t|s}^2                           (exact where x_0 ~ N(0, I), variance preserving),

the entropy bounds of Sohl-Dickstein et al. 2015 (1503.03585) section 2.6. A step to s without noise has btilde = 0: it
is a point, unless `floor` says what stands for btilde there, as the decoder term of a likelihood needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law, Normal
from sfumato.processes.base import Coefficient, Process, Time, lib

Reverse = Callable[..., Law]  # (process, estimate, xt, t, s, floor=0.0) -> Law


def known(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Law:
    """The law with all that the estimate knows: btilde + c^2 Var[x_0 | x_t]; any process.

    Source: Bao et al. 2022 (2201.06503) theorem 1.
    """
    return process.reverse(estimate, xt, t, s)


def small(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
    """Variance btilde ("fixedsmall"). Source: Ho et al. 2020 (2006.11239) section 3.2."""
    return _law(process, estimate, xt, t, s, floor, lambda beta, btilde: lib(btilde).sqrt(btilde))


def large(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
    """Variance beta ("fixedlarge"), as is in the step to s = 0 where there is a floor; the papers' code has the floor
    itself there. Source: Ho et al. 2020 (2006.11239) section 3.2.
    """
    return _law(process, estimate, xt, t, s, floor, lambda beta, btilde: lib(beta).sqrt(beta))


def none(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
    """Variance 0: the mean alone, and nothing is drawn. On Gaussian data such a chain ends at E[x_0 | x_1]."""
    return Normal(_law(process, estimate, xt, t, s, floor, lambda beta, btilde: btilde).mean, 0.0)


def learned(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
    """Variance exp(v log beta + (1 - v) log btilde), v = estimate.aux["v"], elementwise and not clamped.

    Raises:
        ValueError: for an estimate without v.

    Source: Nichol & Dhariwal 2021 (2102.09672) eq. 15.
    """
    if estimate.aux is None or "v" not in estimate.aux:
        raise ValueError('a learned variance needs Estimate.aux["v"], got none: use the denoiser LearnedVariance.')
    v: Tensor = estimate.aux["v"]

    def between(beta: Any, btilde: Any) -> Tensor:
        return torch.exp(0.5 * (v * lib(beta).log(beta) + (1.0 - v) * lib(btilde).log(btilde)))

    return _law(process, estimate, xt, t, s, floor, between)


def between(share: float) -> Reverse:
    """The law whose standard deviation is share sqrt(beta) + (1 - share) sqrt(btilde), share in [0, 1].

    Source: Luo & Hu 2021 (2103.01458), public code ("flexibility").
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"the share of the large deviation lies in [0, 1], got {share}.")

    def law(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
        def mixed(beta: Any, btilde: Any) -> Any:
            return share * lib(beta).sqrt(beta) + (1.0 - share) * lib(btilde).sqrt(btilde)

        return _law(process, estimate, xt, t, s, floor, mixed)

    return law


def _law(
    process: Process,
    estimate: Estimate,
    xt: Tensor,
    t: Time,
    s: Time,
    floor: Coefficient,
    std: Callable[[Coefficient, Coefficient], Coefficient],
) -> Normal:
    law = process.reverse(Estimate(estimate.mean), xt, t, s)
    away = process.forward(xt, s, t)
    if not isinstance(law, Normal) or not isinstance(away, Normal):
        raise TypeError(f"this variance is that of a Gaussian process, got {type(process).__name__}: use `known`.")
    beta, btilde = away.std**2, law.std**2
    if isinstance(btilde, float):
        btilde = btilde or floor
        return Normal(law.mean, std(beta, btilde) if btilde else 0.0)
    btilde = torch.where(btilde > 0, btilde, floor)
    alive = btilde > 0
    safe = (torch.where(alive, value, 1.0) for value in (torch.as_tensor(beta), btilde))
    return Normal(law.mean, torch.where(alive, std(*safe), 0.0))
