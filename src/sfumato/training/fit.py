"""The training loop, as a generator: logging, previews, checkpoints and stopping are loops in the caller's hands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.noise import Seeds
from sfumato.training.ranks import Ranks


class Data(Protocol):
    """What is trained on: items by number, each made with its own stream (crops, flips, noise of a simulation)."""

    def __len__(self) -> int: ...

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]:
        """(x0, cond) of these items: x0 (B, *event) in model space, cond None, a tensor or a dict of tensors."""
        ...


class Average(Protocol):
    """What follows the weights: `Ema`, or `PowerEma` of the whole objective."""

    def update(self, module: nn.Module) -> None: ...


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step: its number (from 1), the mean loss, the gradient norm before clipping, the learning rate."""

    index: int
    loss: float
    norm: float
    rate: float


def fit(
    objective: nn.Module,
    data: Data,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    batch: int,
    seed: int = 0,
    start: int = 0,
    ema: Average | None = None,
    schedule: Callable[[int], float] | None = None,
    clip: float = 1.0,
    ranks: Ranks | None = None,
) -> Iterator[TrainStep]:
    """Trains `objective` for the steps start+1 .. steps and yields each.

    Everything drawn is keyed by (seed, step, row), or by (seed, step) where a layer draws for itself (dropout): step n
    is the same however often the run was stopped, and given the weights and optimizer state after step `start`, it
    continues bit for bit. Items come in a new random order each epoch. An objective that has `advance(step)` is told
    each step before it runs.

    Args:
        objective: module (x0, cond, noise) -> (B,).
        optimizer: over the objective's parameters; its learning rates are multiplied by `schedule(step)`.
        ema: updated after each step.
        clip: the largest gradient norm let through; math.inf for none.
        ranks: the processes that divide each batch; every one of them yields every step. The weights are those of one
            process, to rounding, where a row's loss depends on no other row and layers draw nothing (no dropout).

    Raises:
        ValueError: if there is nothing to train on, or the batch is empty.
        FloatingPointError: at a loss or gradient that is not finite, before it reaches the weights.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least 1 item, got {batch}.")
    base = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, base, strict=True):
        group["initial_lr"] = lr
    parameters = [p for p in objective.parameters() if p.requires_grad]
    order = Order(len(data), batch, seed)
    ranks = ranks or Ranks()
    rows = ranks.rows(batch)
    share = len(rows) * ranks.world / batch  # the mean over processes of share x their means is the batch's mean
    advance: Callable[[int], object] | None = getattr(objective, "advance", None)
    objective.train()
    losses = ranks.parallel(objective)
    for step in range(start + 1, steps + 1):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * (schedule(step) if schedule else 1.0)
        noise = Seeds.keyed(seed, ((step, row) for row in rows))
        items = order.items(step)
        x0, cond = data.batch([items[row] for row in rows], noise)
        if advance is not None:
            advance(step)
        with _keyed(seed, step, rows.start, x0.device):
            loss = losses(x0, cond, noise).mean() * share
        value = float(ranks.mean(loss.detach()))
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss at step {step} is {value}: lower the learning rate, or check the data.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(parameters, clip))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient at step {step} has the norm {norm}: lower the learning rate.")
        optimizer.step()
        if ema is not None:
            ema.update(objective)
        yield TrainStep(step, value, norm, optimizer.param_groups[0]["lr"])


@contextmanager
def _keyed(seed: int, step: int, row: int, device: torch.device) -> Iterator[None]:
    """The global generator, which layers such as dropout draw from, seeded for this step and put back after it.

    Layers draw for all rows at once, from the batch's first row or from that of a process: its rows' key.
    """
    key = ("layers", step, row) if row else ("layers", step)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(Seeds.keyed(seed, [key]).streams[0].seed)
        yield


class Order:
    """Which items step n sees: each epoch a random order of its own, cut into batches, the next epoch following on."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        if count < 1:
            raise ValueError("there is nothing to train on: the data set is empty.")
        self.count, self.size, self.seed = count, batch, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def items(self, step: int) -> list[int]:
        """The item numbers of step `step` (from 1)."""
        first = (step - 1) * self.size
        return [self._item(position) for position in range(first, first + self.size)]

    def _item(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if epoch != self._epoch:
            self._order = Seeds.keyed(self.seed, [("epoch", epoch)]).streams[0].permutation(self.count)
            self._epoch = epoch
        return int(self._order[place])


def warmup_decay(steps: int, *, warmup: int = 100, decay: float = 0.3) -> Callable[[int], float]:
    """A factor of the learning rate: up over `warmup` steps, level, then down to 0 over the last `decay` of the run.

    A run may be prolonged before its decay begins: until then no step depends on `steps`.
    """
    tail = max(1, round(decay * steps))

    def factor(step: int) -> float:
        return min(1.0, step / max(1, warmup), (steps - step + 1) / tail)

    return factor


def inverse_sqrt(reference: int, *, warmup: int = 0) -> Callable[[int], float]:
    """A factor of the learning rate: up over `warmup` steps, level to `reference`, then sqrt(reference / step).

    It never needs to know how long the run is. Source: Karras et al. 2024 (2312.02696) section 2.3 and public code.
    """

    def factor(step: int) -> float:
        return min(1.0, step / max(1, warmup)) / math.sqrt(max(1.0, step / reference))

    return factor
