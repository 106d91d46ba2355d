"""The training loop, as a generator: logging, previews, checkpoints and stopping are loops in the caller's hands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.noise import Seeds
from sfumato.training.precision import Precision
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
    """One optimizer step.

    Attributes:
        index: from 1.
        loss: mean over the batch.
        norm: of the gradient, before clipping; in fp16 it is not finite where the step was left out.
        rate: the learning rate.
        row: what a run wrote to metrics.jsonl at this step, if it did.
        average: what follows the weights, live: `Average` as given to `fit`.
    """

    index: int
    loss: float
    norm: float
    rate: float
    row: Mapping[str, Any] | None = field(default=None, compare=False)
    average: Any = field(default=None, compare=False, repr=False)


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
    accumulate: int = 1,
    precision: Precision | None = None,
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
        accumulate: parts that a process's rows are cut into, whose gradients are summed before the step: memory of a
            part, weights of the whole to rounding (with the same two exceptions as `ranks`).
        precision: of the forward pass; float32 if not given.
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
    ranks, precision = ranks or Ranks(), precision or Precision()
    parts = ranks.parts(batch, accumulate)
    advance: Callable[[int], object] | None = getattr(objective, "advance", None)
    objective.train()
    losses = ranks.parallel(objective)
    for step in range(start + 1, steps + 1):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * (schedule(step) if schedule else 1.0)
        items = order.items(step)
        if advance is not None:
            advance(step)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for rows in parts:
            noise = Seeds.keyed(seed, ((step, row) for row in rows))
            x0, cond = data.batch([items[row] for row in rows], noise)
            share = len(rows) * ranks.world / batch  # the mean over processes of the sums of share x mean is the mean
            with ranks.summing(losses, last=rows is parts[-1]):
                with _keyed(seed, step, rows.start, x0.device), precision.running():
                    loss = losses(x0, cond, noise).mean() * share
                precision.backward(loss)
            total = total.to(loss) + loss.detach()
        value = float(ranks.mean(total))
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss at step {step} is {value}: lower the learning rate, or check the data.")
        norm = precision.move(optimizer, parameters, clip, step)
        if ema is not None:
            ema.update(objective)
        yield TrainStep(step, value, norm, optimizer.param_groups[0]["lr"], average=ema)


@contextmanager
def _keyed(seed: int, step: int, row: int, device: torch.device) -> Iterator[None]:
    """The global generator, which layers such as dropout draw from, seeded for this step and put back after it.

    Layers draw for all rows at once, from the batch's first row or from that of a process: its rows' key.
    """
    key = ("layers", step, row) if row else ("layers", step)
    own = Seeds.keyed(seed, [key]).seeds[0]
    if (
        device.type == "cpu"
    ):  # `fork_rng` and `manual_seed` see to every kind of device, which takes longer than the draws
        before = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(own)
            yield
        finally:
            torch.set_rng_state(before)
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(own)
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
