"""Several denoisers as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser, Self, _twin
from sfumato.estimate import Estimate
from sfumato.processes import Process, Time


class Ensemble(Denoiser):
    """The mean of the members' estimates; its variance is theirs on average and the spread of their means.

    Var = mean(var_k) + mean((D_k - D)^2), elementwise: the law of total variance, where each member is equally
    likely to be right. A member without a variance counts as one of 0. One call of each.

    Args:
        members: denoisers of one process.

    Raises:
        ValueError: without members, or for members of different processes.
    """

    def __init__(self, members: Sequence[Denoiser]) -> None:
        super().__init__()
        if not members or any(member.process != members[0].process for member in members):
            raise ValueError("an ensemble needs at least one denoiser, all of one process.")
        self.members = nn.ModuleList(members)

    @property
    def process(self) -> Process:  # type: ignore[override]
        return self.members[0].process  # type: ignore[return-value]

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimates: list[Estimate] = [member(xt, t, cond) for member in self.members]
        means = torch.stack([estimate.mean for estimate in estimates])
        within = sum(estimate.var for estimate in estimates if estimate.var is not None)
        return Estimate(means.mean(0), within / len(estimates) + means.var(0, unbiased=False))

    def with_process(self: Self, process: Process) -> Self:
        twin = _twin(self)
        twin.members = nn.ModuleList(m.with_process(process) for m in self.members)  # type: ignore[union-attr, operator]
        return twin
