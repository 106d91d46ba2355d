"""CSDI: conditional score-based diffusion for time series imputation (Tashiro et al. 2021, 2107.03502)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.denoisers import Denoiser, Preconditioned
from sfumato.nets.two_axis import TwoAxis
from sfumato.processes import Table
from sfumato.recipes.series import SCHEMES, Series
from sfumato.training import masking

EXAMPLE = "sfumato impute gaps.csv -o filled.csv   # by this network; benchmarks/winds.py csdi has another use"


@dataclass(frozen=True)
class Recipe(Series):
    """The law of the missing part of a table of series given the observed part, learned by hiding what is known.

    From M, what is known, draw M_co <= M, what is given, by a strategy; then on M_ta = M - M_co

        L = E |M_ta (eps - eps_hat(M_co x_0, (1 - M_co) x_n, M_co, side, n))|^2 / sum M_ta.

    Sampling is DDPM's on all entries; the observed ones are input to the network and overwritten at the end alone
    (`samplers.paths`), so that the law is not biased as replacement is. A forecast is the filling of the last columns.
    Strategies: "random" (a share U(0, 1) of the points), "historical" (the gaps of another sample), "mix" (of both),
    "forecast" (the last `horizon` steps), "prior" (all: an unconditional model of windows, for zero-shot solvers),
    "any" (ours: random, one gap, the last 1 .. `horizon` steps).

    Beside the paper's noise prediction, `scheme` "v" and "flow" (rectified flow, for flow matching) train the same
    network, at times between the steps too (ours): with "eps" D = (x_t - sigma eps_hat) / alpha has the network's error
    times sigma / alpha, 170 at the first step, which the ancestral sampler forgets again and deterministic ones in few
    steps do not, so that a small model wants "v" or "flow" with those. `patch`, `joint` and `linear` make it faster
    (ours: `TwoAxis`). Side information is dropped for guidance with probability `drop` (ours); `null` says what then
    stands for it.
    Data are standardised by the caller.

    Source: Tashiro et al. 2021 (2107.03502) section 4, eq. 7 to 13, algorithms 1 and 2, appendix E.
    """

    steps: int = 50  # N
    last: float = 0.5  # beta_N; beta is linear in its square root
    width: int = 64
    blocks: int = 4
    heads: int = 8
    forward: int = 64  # of the layers between attentions
    dropout: float = 0.1  # PyTorch's default, which the public code keeps
    strategy: str = "random"
    patch: int = 1
    joint: bool = False
    linear: bool = False
    drop: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy not in self._strategies():
            raise ValueError(f"strategy is one of {', '.join(self._strategies())}, got {self.strategy!r}.")

    def table(self) -> Table:
        """beta_n = (sqrt(beta_1) + (n - 1) / (N - 1) (sqrt(beta_N) - sqrt(beta_1)))^2, "quadratic"."""
        return Table.scaled_linear(self.steps, self.first, self.last)

    def net(self) -> nn.Module:
        """The two-axis transformer."""
        return TwoAxis(
            self.channels,
            self.width,
            self.blocks,
            heads=self.heads,
            forward=self.forward,
            covariates=self.covariates,
            statics=self.statics,
            steps=self.steps,
            patch=self.patch,
            joint=self.joint,
            prior=self.strategy == "prior",
            linear=self.linear,
            dropout=self.dropout,
        )

    def model(self) -> Preconditioned:
        """The untrained denoiser of (B, channels, L), its condition a dict: observed, mask, and side information."""
        return Preconditioned(self.net(), self.process(), SCHEMES[self.scheme], clock=self.clock)

    def objective(self, denoiser: Denoiser) -> masking.Masked:
        """The loss on what is hidden; x_0 (B, C, L), cond a dict with "valid" where entries are unknown."""
        hide = self._strategies()[self.strategy]
        return masking.Masked(denoiser, hide, *self.law(), drop=self.drop, null=self.null)

    def _strategies(self) -> dict[str, masking.Hide]:
        return {
            "random": masking.random,
            "historical": masking.historical,
            "mix": masking.Mix((masking.random, masking.historical)),
            "forecast": masking.Last(self.horizon),
            "any": masking.Mix((masking.random, masking.block, masking.Last(self.horizon, vary=True))),
            "prior": masking.everything,
        }
