"""Conditioning by multiplication: a reverse step p(x_s | x_t) times a second distribution r(x_s), normalised.

Inpainting is an r that is a point at the known elements and flat elsewhere; denoising is a normal r; a smooth r enters
by its gradient, which is the root of classifier guidance. Each function turns the law of a step into that of the
conditioned step, for `Ancestral`: r is the same at all levels, as in the paper's code.

Source: Sohl-Dickstein et al. 2015 (1503.03585) section 2.5 and appendix C.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.estimate import Estimate
from sfumato.laws import Law, Normal
from sfumato.processes.base import Coefficient, Process, Time
from sfumato.processes.binomial import Bernoulli
from sfumato.processes.variances import Reverse


def multiplied(reverse: Reverse, r: Law) -> Reverse:
    """The law of `reverse` times r, exactly: two normals by their precisions, two laws of bits by their odds.

    Args:
        r: broadcastable to the state. A Normal's std may be 0 (known) or infinite (flat) in places; a Bernoulli's mean
            is -1 or 1 where the bit is known, 0 where r is flat.
    """

    def law(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Law:
        return product(reverse(process, estimate, xt, t, s, floor), r)

    return law


def product(a: Law, r: Law) -> Law:
    """The normalised product of two normals, or of two laws of bits.

    N(m, s^2) N(y, w^2) ~ N(m + k (y - m), s^2 (1 - k)), k = s^2 / (s^2 + w^2); where w = 0 it is y.

    Raises:
        TypeError: for other pairs.
    """
    if isinstance(a, Bernoulli) and isinstance(r, Bernoulli):
        return a.times(r)
    if not (isinstance(a, Normal) and isinstance(r, Normal)):
        raise TypeError(
            f"a product is known of two normals or two laws of bits, got {type(a).__name__} and {type(r).__name__}."
        )
    mean, y = a.mean, r.mean.to(a.mean)
    own, other = (torch.as_tensor(law.std, dtype=mean.dtype, device=mean.device) ** 2 for law in (a, r))
    share = torch.where(other == 0.0, 1.0, own / torch.where(other == 0.0, 1.0, own + other))
    return Normal(mean + share * (y - mean), (own * (1.0 - share)).sqrt())


def tilted(reverse: Reverse, log_r: Callable[[Tensor], Tensor]) -> Reverse:
    """The law of `reverse` with its mean moved by variance x grad log r(mean): log_r is taken as linear over the step.

    Exact for normals where log r is linear. Of bits, the log odds of 1 move by 2 d log r / dx at the mean (ours), exact
    in the same case.

    Args:
        log_r: (B, *event) to (B,), differentiable.
    """

    def law(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Law:
        plain = reverse(process, estimate, xt, t, s, floor)
        with torch.enable_grad():
            x = plain.mean.detach().requires_grad_()
            (slope,) = torch.autograd.grad(log_r(x).sum(), x)
        if isinstance(plain, Bernoulli):
            return plain.times(Bernoulli(torch.tanh(slope)))
        if not isinstance(plain, Normal):
            raise TypeError(f"a step is tilted where its law is normal or of bits, got {type(plain).__name__}.")
        return Normal(plain.mean + plain.std**2 * slope, plain.std)

    return law
