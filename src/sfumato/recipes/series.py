"""What recipes of time series share: the table of levels, the ways to predict, the null of side information."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sfumato import grids
from sfumato.denoisers import Parameterization, predict_eps, predict_flow, predict_v
from sfumato.processes import Gaussian, Rectified, Table
from sfumato.processes.base import Time
from sfumato.samplers import Ancestral, Sampler, Times
from sfumato.training import Steps, Uniform, eps_weight, output_weight
from sfumato.training.objectives import Weight
from sfumato.training.times import TimeLaw

SCHEMES: Mapping[str, Parameterization] = {"eps": predict_eps, "v": predict_v, "flow": predict_flow}


@dataclass(frozen=True)
class Series(ABC):
    """The process and the prediction: the paper's table and noise; ours: "v", or "flow" on the straight path."""

    channels: int = 1
    covariates: int = 0
    statics: int = 0
    steps: int = 100  # N
    first: float = 1e-4  # beta_1
    last: float = 0.1  # beta_N
    horizon: int = 24
    scheme: str = "eps"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme is one of {', '.join(SCHEMES)}, got {self.scheme!r}.")

    @abstractmethod
    def table(self) -> Table:
        """The paper's N levels."""

    def process(self) -> Gaussian:
        """The table of N levels; with "flow" the straight path."""
        return Rectified() if self.scheme == "flow" else self.table()

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

    def clock(self, t: Time) -> Time:
        """The step that the network is told, 0 .. N - 1."""
        return t * self.steps - 1.0

    def law(self) -> tuple[TimeLaw, Weight]:
        """Times and weight of the loss on what the network predicts: the N steps for "eps", any time otherwise."""
        if self.scheme == "eps":
            return Steps(self.steps), eps_weight
        return Uniform(), output_weight(SCHEMES[self.scheme])
