"""CCDF: come closer, diffuse faster (Chung et al. 2022, 2112.05146)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.around import Around
from sfumato.solvers.base import Solver
from sfumato.solvers.repaint import RePaint


@dataclass(frozen=True)
class CCDF(Around):
    """Any solver, started at t0 << 1 from a first estimate noised to that level: x_{t0} = alpha x_init + sigma z.

    The paper's solver is the projection, x = (I - P) x' + P r with r ~ q(x_s | A^+ y) at the new level and P = A^+ A.
    P and I - P have norm at most 1, so that two chains that share their noise come together; this is no bound on the
    distance to the posterior: the bias of the solver stays. Where x_init is decent, the error against t0 has the shape
    of a U.

    Args:
        t0: where the reverse process starts, in (0, 1]. The paper: 0.1 for super-resolution by 4, more for larger
            factors, 0.2 for inpainting, 0.02 for MRI. Tune it, since it depends on the process.
        solver: runs from t0 on the part of its own grid below t0, so in about t0 times its steps.
        estimate: x_init from the measurement, (B, *event), say a feed-forward network; A^+ y unless given.

    Source: Chung et al. 2022 (2112.05146) (no public code is known, and the values of t0 are of the right size only).
    """

    t0: float = 0.2
    solver: Solver = field(default_factory=RePaint.projection)
    estimate: Callable[[Measurement], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.t0 <= 1.0:
            raise ValueError(f"CCDF: 0 < t0 <= 1 is needed, got {self.t0}.")

    def check(self, operator: Operator) -> None:
        super().check(operator)
        if self.estimate is None and not isinstance(operator, Linear):
            raise TypeError(
                f"CCDF starts from A^+ y, and {type(operator).__name__} is not linear: give `estimate`, a first x_0."
            )

    def times(self, process: Gaussian) -> Times:
        below = [t if t < self.t0 else self.t0 for t in self.solver.times(process)]
        return tuple(t for t, _ in groupby(below))

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        if self.estimate is not None:
            x = self.estimate(m)
        else:
            assert isinstance(m.operator, Linear)
            x = m.operator.pinv(m.y)
        return denoiser.process.marginal(x, t).sample(noise)  # type: ignore[attr-defined]


Recipe = CCDF
