"""CSDI: conditional score-based diffusion for time series imputation (Tashiro et al. 2021, 2107.03502)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps, predict_flow, predict_v
from sfumato.nets.two_axis import TwoAxis
from sfumato.processes import Gaussian, Rectified, Table
from sfumato.samplers import Ancestral, Sampler, Times
from sfumato.training import Steps, Uniform, eps_weight, masking, output_weight

SCHEMES = {"eps": predict_eps, "v": predict_v, "flow": predict_flow}


@dataclass(frozen=True)
class Recipe:
    """The law of the missing part of a table of series given the observed part, learned by hiding what is known.

    From M, what is known, draw M_co <= M, what is given, by a strategy; then on M_ta = M - M_co

        L = E |M_ta (eps - eps_hat(M_co x_0, (1 - M_co) x_n, M_co, side, n))|^2 / sum M_ta.

    Sampling is DDPM's on all entries; the observed ones are input to the network and overwritten at the end alone
    (`samplers.paths`), so that the law is not biased as replacement is. A forecast is the filling of the last columns.
    Strategies: "random" (a share U(0, 1) of the points), "historical" (the gaps of another sample), "mix" (of both),
    "forecast" (the last `horizon` steps), "prior" (all: an unconditional model of windows, for zero-shot solvers),
    "any" (ours: random, one gap, the last 1 .. `horizon` steps).

    Beside the paper's noise prediction, `scheme` "v" and "flow" (rectified flow, for flow matching) train the same
    network, at times between the steps too (ours). `patch`, `joint` and `linear` make it faster (ours: `TwoAxis`).
    Side information is dropped for guidance with probability `drop` (ours); `null` says what then stands for it.

    Source: Tashiro et al. 2021 (2107.03502) section 4, eq. 7 to 13, algorithms 1 and 2, appendix E.
    """

    channels: int = 1
    covariates: int = 0
    statics: int = 0
    width: int = 64
    blocks: int = 4
    heads: int = 8
    forward: int = 64  # of the layers between attentions
    dropout: float = 0.1  # PyTorch's default, which the public code keeps
    steps: int = 50  # N
    first: float = 1e-4  # beta_1
    last: float = 0.5  # beta_N, linear in the square root
    strategy: str = "random"
    horizon: int = 24
    scheme: str = "eps"
    patch: int = 1
    joint: bool = False
    linear: bool = False
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme is one of {', '.join(SCHEMES)}, got {self.scheme!r}.")
        if self.strategy not in self._strategies():
            raise ValueError(f"strategy is one of {', '.join(self._strategies())}, got {self.strategy!r}.")

    def process(self) -> Gaussian:
        """The table of N levels, sqrt(beta) linear; with "flow" the straight path."""
        return Rectified() if self.scheme == "flow" else Table.scaled_linear(self.steps, self.first, self.last)

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
        return Preconditioned(self.net(), self.process(), SCHEMES[self.scheme], clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> masking.Masked:
        """The loss on what is hidden; at the N steps for "eps", at any time otherwise."""
        eps = self.scheme == "eps"
        return masking.Masked(
            denoiser,
            self._strategies()[self.strategy],
            Steps(self.steps) if eps else Uniform(),
            eps_weight if eps else output_weight(SCHEMES[self.scheme]),
            drop=self.drop,
            null=self.null,
        )

    def null(self, cond: Any) -> Any:
        """The condition without side information: covariates and statics zero, the observed part kept."""
        return {k: torch.zeros_like(v) if k in ("covariates", "static") else v for k, v in cond.items()}

    def sampler(self) -> Sampler:
        """Ancestral sampling with the small variance."""
        return Ancestral()

    def times(self) -> Times:
        """All N levels and 0; with "flow" N equal steps."""
        process = self.process()
        return grids.table(process, self.steps) if isinstance(process, Table) else grids.uniform(self.steps)

    def _strategies(self) -> dict[str, masking.Hide]:
        return {
            "random": masking.random,
            "historical": masking.historical,
            "mix": masking.Mix((masking.random, masking.historical)),
            "forecast": masking.Last(self.horizon),
            "any": masking.Mix((masking.random, masking.block, masking.Last(self.horizon, vary=True))),
            "prior": masking.everything,
        }
