"""What y says of x_0 when x_0 is otherwise known to a Gaussian: N(x_0; x, rho^2 I) N(y; A x_0, sigma^2 I).

Several methods need this law: DAPS and split Gibbs draw from it, particle methods need its normalising constant. It is
normal with precision I / rho^2 + A^T A / sigma^2, and everything below goes through `Linear.ridge`, without matrices.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement


def sample_gaussian(m: Measurement, x: Tensor, rho: float, noise: Noise) -> Tensor:
    """A draw of x_0 given y and x_0 ~ N(x, rho^2 I), exact for a linear operator, (B, *event).

    Perturb, then optimise: the minimiser of |y' - A z|^2 / sigma^2 + |z - x'|^2 / rho^2 for x' = x + rho z_1,
    y' = y + sigma z_2 has the law wanted. Where sigma = 0 it is the projection of x' on A z = y.

    Source: Papandreou & Yuille 2010 (Gaussian sampling by local perturbations).
    """
    operator = m.operator
    assert isinstance(operator, Linear)
    x = torch.add(x, noise.normal(x), alpha=rho)
    gap = m.residual(x)
    if m.sigma > 0.0:
        gap = torch.add(gap, noise.normal(gap), alpha=m.sigma)
    return x + operator.ridge(gap, (m.sigma / rho) ** 2)


def misfit(m: Measurement, x: Tensor, rho: float) -> Tensor:
    """<r, (rho^2 A A^T + sigma^2 I)^{-1} r> with r = y - A x, (B,): -2 log N(y; A x, rho^2 A A^T + sigma^2 I), but for
    a constant that does not depend on x.

    Computed as min_z |r - A z|^2 / sigma^2 + |z|^2 / rho^2, a sum of positive terms. The minimiser carries no gradient
    and needs none: at a minimum the value does not move with it. Where sigma = 0 only the second term is left, and
    it carries no gradient.
    """
    operator = m.operator
    assert isinstance(operator, Linear)
    r = m.residual(x)
    with torch.no_grad():
        z = operator.ridge(r, (m.sigma / rho) ** 2)
    second = _power(z) / rho**2
    return second if m.sigma == 0.0 else _power(r - operator(z)) / m.sigma**2 + second


def langevin(m: Measurement, x: Tensor, rho: float, noise: Noise, *, sigma: float, moves: int, size: float) -> Tensor:
    """`moves` Langevin moves from x towards N(x_0; x, rho^2 I) p(y | A x_0), any differentiable operator; p is
    N(A x_0, sigma^2 I), or the likelihood of m where it has one.

    z <- z + size grad log p(z) + sqrt(2 size) noise; stable for size < 2 sigma^2 / |A|^2. Biased by O(size).
    """
    m = m if m.likelihood is not None else replace(m, sigma=sigma)
    z = x
    for _ in range(moves):
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (g,) = torch.autograd.grad(m.energy(z).sum(), z)
        z = z.detach() - size * (g + (z.detach() - x) / rho**2)
        z = torch.add(z, noise.normal(z), alpha=(2.0 * size) ** 0.5)
    return z


def _power(x: Tensor) -> Tensor:
    """|x|^2 of each row, (B,)."""
    return (x.conj() * x).real.reshape(len(x), -1).sum(1)
