"""DifFace: blind face restoration with diffused error contraction (Yue & Loy 2022, 2212.06512)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, share

EXAMPLE = "sfumato restore picture.png --operator denoise --sigma 0.1 --solver difface --set t0=0.2 --samples 4 -o out"


@dataclass(frozen=True)
class DifFace(Solver):
    """A restorer's first estimate f(y), noised to t0, and the reverse process of the prior from there:

    x_{t0} ~ N(alpha f(y), sigma^2),   then DDIM with `eta` down to 0.

    What f gets wrong is shrunk by alpha(t0): the start differs from that of a perfect restorer by
    KL = alpha^2 |f(y) - x_0|^2 / (2 sigma^2), which falls as t0 rises, while the prior is ever freer in what it adds.
    With t0 = 0 the result is f(y). Nothing holds to y but f: the damage need not be known, and `Identity` serves as the
    operator. f is trained alone, on pairs, with `Absolute`. The paper's inpainting starts at 0.48 with eta = 1 and
    adds a term for the known region, which is left out: RePaint and DDNM hold to it exactly.

    The public code's levels are 0.001, 0.005, ..., 0.397, and it noises f(y) to 0.401, one level above the first that
    it takes; here the start is noised to the level it is taken at. It also holds D, not its eps_hat, to [-1, 1].

    Args:
        t0: where the reverse process starts, in [0, 1].
        steps: network evaluations.
        eta: share of fresh noise in DDIM's sense.
        estimate: f, from a measurement in model space to x_0, (B, *event); A^+ y unless given (ours).
        low, high: f(y) is held to this range, of model space.

    Source: Yue & Loy 2022 (2212.06512) eq. 6 to 9; 400 of 1000 levels in 100 steps, as in its public code.
    """

    t0: float = 0.4
    steps: int = 100
    eta: float = 0.5
    estimate: Callable[[Measurement], Tensor] | None = field(default=None, compare=False)
    low: float = -1.0
    high: float = 1.0
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        share(self, "t0", "eta")

    @classmethod
    def inpainting(cls) -> DifFace:
        """The public settings of inpainting, without its term for the known region."""
        return cls(t0=0.48, steps=120, eta=1.0)

    def check(self, operator: Operator) -> None:
        if self.estimate is None and not isinstance(operator, Linear):
            raise TypeError(f"DifFace starts from A^+ y, and {type(operator).__name__} is not linear: give `estimate`.")

    def times(self, process: Gaussian) -> Times:
        return grids.uniform(self.steps, start=self.t0) if self.t0 > 0.0 else (0.0,)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        x = self.estimate(m) if self.estimate is not None else m.operator.pinv(m.y)  # type: ignore[attr-defined]
        return denoiser.process.marginal(x.clamp(self.low, self.high), t).sample(noise)  # type: ignore[attr-defined]

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        law = denoiser.process.reverse(Estimate(denoiser(xt, t).mean), xt, t, s, self.eta)  # type: ignore[call-arg]
        return law.sample(noise), memory


class Absolute(nn.Module):
    """The objective of f: the mean of |f(y) - x_0| of each row, on items (x_0, y).

    Source: Yue & Loy 2022 (2212.06512) section 3.4.
    """

    def __init__(self, restorer: nn.Module) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        return (self.restorer(cond) - x0).abs().flatten(1).mean(1)


Recipe = DifFace
