"""Discrete processes: each position keeps its category or is resampled (Austin et al. 2021, 2107.03006)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.processes.base import Time, expand
from sfumato.processes.categories import Jumping
from sfumato.processes.keeps import LINEAR, Keep


@dataclass(frozen=True)
class Discrete(Jumping):
    """Each position keeps its category or is resampled from `rest`: uniform over K, or one absorbing state (the mask).

        q(x_t | x_0) = keep(t) [x_t = x_0] + (1 - keep(t)) rest(x_t)

    On times n / N this is D3PM's uniform or absorbing chain with beta_n = 1 - keep(n / N) / keep((n - 1) / N); with
    `keeps.Linear` that is its beta_n = 1 / (N - n + 1).

    Args:
        classes: K, the number of categories, the absorbing one included.
        absorbing: the state that replaces a lost category, or None: uniform over all K.
        schedule: keep(t), of `sfumato.processes.keeps`.
        published: see `Categories`.

    Source: Austin et al. 2021 (2107.03006) sections 3.1 and 3.2; Shi et al. 2024 (2406.04329), in continuous time.
    """

    classes: int
    absorbing: int | None = None
    schedule: Keep = LINEAR
    published: bool = False

    @property
    def mask(self) -> int | None:
        return self.absorbing

    def rest(self, like: Tensor) -> Tensor:
        if self.absorbing is None:
            return torch.full((self.classes,), 1.0 / self.classes, dtype=like.dtype, device=like.device)
        return torch.nn.functional.one_hot(torch.tensor(self.absorbing), self.classes).to(like)

    def moved(self, p: Tensor, t: Time, s: Time) -> Tensor:
        kept = expand(self._kept(t, s), p)
        return kept * p + (1 - kept) * self.rest(p) * p.sum(-1, keepdim=True)

    def reach(self, xs: Tensor, t: Time, s: Time, like: Tensor) -> Tensor:
        kept = expand(self._kept(t, s), like)
        return kept * self.one_hot(xs).to(like) + (1 - kept) * self.rest(like)[xs].unsqueeze(-1)

    def pull(self, xt: Tensor, like: Tensor) -> Tensor:
        return self.rest(like)[xt].unsqueeze(-1) * (1 - self.one_hot(xt).to(like))
