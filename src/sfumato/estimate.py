"""What a denoiser says of x_0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """What is known of x_0 given x_t, in model space.

    Attributes:
        mean: E[x_0 | x_t], (B, *event); for a categorical law the class probabilities, (B, *event, K).
        var: elementwise Var[x_0 | x_t], (B, *event), or None where it is unknown (then it counts as 0). This is the
            diagonal; the action of the whole covariance on v is sigma^2 / alpha J v with J = d mean / d x_t.
        aux: what else a head says (interpolation weights of a learned variance, log uncertainty).
    """

    mean: Tensor
    var: Tensor | None = None
    aux: Mapping[str, Any] | None = None
