"""Attacks on a classifier within a box of L-infinity radius eps, and the interval of an accuracy.

    FGSM: one step of size eps;  PGD: 40 steps of eps / 4, or as asked;  x <- clip_box(x + step sign(gradient))

The gradient is a function, so that one attack serves them all: of the classifier alone (blind to a purifier before
it), of the classifier at the purified point (BPDA: the purifier is the identity in the backward pass), averaged over
draws of the purifier (EOT), or through the whole of it.

Source: Goodfellow et al. 2015 (1412.6572); Madry et al. 2018 (1706.06083); Athalye et al. 2018 (1802.00420).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.noise import Noise

Gradient = Callable[[Tensor, Tensor], Tensor]  # (x, labels) to the gradient of the loss, shaped as x


def linf_attack(
    gradient: Gradient,
    x: Tensor,
    labels: Tensor,
    eps: float,
    *,
    steps: int = 40,
    size: float | None = None,
    start: Noise | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """x moved against its labels, (B, *event): within eps of x and inside [low, high].

    Args:
        gradient: of the loss that is to rise.
        steps: 1 with `size=eps` is FGSM.
        size: of a step; eps / 4 if not given.
        start: draws a uniform start in the box; x itself if not given.
    """
    if eps < 0.0 or steps < 1:
        raise ValueError(f"an attack needs eps >= 0 and at least 1 step, got {eps} and {steps}.")
    size = eps / 4.0 if size is None else size
    moved = x if start is None else x + eps * (2.0 * start.uniform(x) - 1.0)
    for _ in range(steps):
        moved = moved + size * gradient(moved, labels).sign()
        moved = (x + (moved - x).clamp(-eps, eps)).clamp(low, high)
    return moved


def classifier_gradient(classifier: Callable[[Tensor], Tensor]) -> Gradient:
    """The gradient of the cross entropy of the classifier's logits, summed over rows."""

    def gradient(x: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(F.cross_entropy(classifier(x), labels, reduction="sum"), x)
        return slope

    return gradient


def through(purify: Callable[[Tensor], Tensor], gradient: Gradient, draws: int = 1) -> Gradient:
    """BPDA + EOT: the gradient at purify(x), as if it were the gradient at x, summed over `draws` of the purifier.

    Source: Athalye et al. 2018 (1802.00420) sections 4.1.1 and 4.2.
    """

    def averaged(x: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([gradient(purify(x), labels) for _ in range(draws)]).sum(0)

    return averaged


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: the shares p with |successes / trials - p| <= z sqrt(p (1 - p) / trials).

    Source: Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"a share needs 0 <= successes <= trials and a trial, got {successes} of {trials}.")
    share, scale = successes / trials, 1.0 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)
