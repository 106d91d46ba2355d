"""A resumable run in a folder: config.json, metrics.jsonl and checkpoint.safetensors around `fit`."""

from __future__ import annotations

import dataclasses
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data.files import beside
from sfumato.noise import Seeds
from sfumato.training import averages as snapshots_of
from sfumato.training import checkpoints, divergence, sharding
from sfumato.training.averages import Averages
from sfumato.training.divergence import Watch
from sfumato.training.fit import Data, TrainStep, fit
from sfumato.training.power_ema import PowerEma
from sfumato.training.precision import Precision
from sfumato.training.ranks import Ranks
from sfumato.training.validation import HeldOut, moved


def run(
    folder: Path,
    config: dict[str, Any],
    objective: nn.Module,
    data: Data,
    *,
    steps: int,
    batch: int,
    rate: float = 1e-3,
    seed: int = 0,
    recipe: type | None = None,
    ema_decay: float | Sequence[float] = 0.999,
    widths: Sequence[float] = (),
    snapshots: int = 1000,
    schedule: Callable[[int], float] | None = None,
    every: int = 250,
    accumulate: int = 1,
    precision: str = "fp32",
    held_out: HeldOut | None = None,
    only: checkpoints.Only | None = None,
    warn: Callable[[str], object] = warnings.warn,
    device: torch.device | str = "cpu",
    ranks: Ranks | None = None,
) -> Iterator[TrainStep]:
    """Trains in `folder` and yields each step; continues bit for bit from the folder's checkpoint if there is one.

    Closing the generator between two steps (`close()`, or leaving the loop over it) saves a checkpoint first. A step at
    which one is saved has its line of metrics.jsonl as `row`.

    Args:
        config: what rebuilds the model, written to config.json: {"recipe": key, "fields": {...}}, and what else must be
            the same when the run is continued.
        rate: peak learning rate of AdamW.
        recipe: the dataclass of the config's fields. A run that was begun before it had one of them goes on where the
            config has that field at its default, says so once, and keeps it in config.json.
        ema_decay: of the average that the model is made of; of several, the first.
        widths: relative widths of power-function averages, which are kept every `snapshots` steps in the subfolder
            `averages`, so that `averages.mixed` makes one of any width afterwards.
        every: steps between checkpoints, each with a line in metrics.jsonl (step, mean loss, hours, learning rate).
        accumulate: parts of a batch whose gradients are summed, as in `fit`.
        precision: "fp32", "bf16" or "fp16".
        held_out: items whose loss under the averaged weights joins each line: "held_out", and by noise "levels".
        only: which tensors are stored, by name, where most never change; all if not given.
        warn: told of fields that are new, and when the loss runs away; the last checkpoint is then kept as
            checkpoint.good.safetensors too.
        ranks: the processes that train together, `joined()`; all read the folder, the first alone writes. A run may go
            on with another number of them.

    Raises:
        ValueError: if the folder holds a run of another config, or a damaged one.
        OSError: if a checkpoint cannot be written; the one before it is kept.
    """
    path, ranks = folder / "checkpoint.safetensors", ranks or Ranks()
    if ranks.first:
        _settle(folder, config, recipe, warn)
    ranks.wait()
    if not ranks.first:
        _settle(folder, config, recipe, warn)
    objective.to(device)
    decays = [ema_decay] if isinstance(ema_decay, int | float) else ema_decay
    averages, half = Averages(objective, decays, widths), Precision(precision, device)
    for module in (objective, *averages.modules().values()):
        ranks.shard(module)
    optimizer = torch.optim.AdamW(objective.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    info: dict[str, Any] = {"step": 0, "hours": 0.0}
    if path.exists():
        info = checkpoints.load(path, objective, optimizer, averages, only=only)
        half.load(info.get("scaler", {}))
    before, began = float(info["hours"]), time.perf_counter()
    losses: list[float] = []
    watch = Watch()
    start = saved = int(info["step"])
    if ranks.first:
        _forget(folder / "metrics.jsonl", start)
    ranks.wait()  # all have read the checkpoint before the next one is written

    def keep(step: TrainStep) -> TrainStep:
        if not (ranks.first or ranks.sharded):
            return step
        hours = before + (time.perf_counter() - began) / 3600
        row: dict[str, Any] = {"step": step.index, "loss": sum(losses) / len(losses), "hours": hours, "rate": step.rate}
        if held_out is not None:
            row["held_out"] = held_out.loss(averages.average)
            if not ranks.sharded and (levels := held_out.by_level(averages.average)):
                row["levels"] = levels
        scaler = {"scaler": state} if (state := half.state()) else {}
        kept = checkpoints.gathered(
            objective, optimizer, averages, {"step": step.index, "hours": hours} | scaler, only=only
        )
        if ranks.first:
            # The line first: should the run die before the checkpoint is there, `_forget` takes the line back.
            with open(folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
            checkpoints.write(path, kept)
        losses.clear()
        return replace(step, row=row)

    placed = OnDevice(data, device)
    plan: dict[str, Any] = {"steps": steps, "batch": batch, "seed": seed, "start": start, "schedule": schedule}
    more: dict[str, Any] = {"accumulate": accumulate, "precision": half, "ranks": ranks}
    for step in fit(objective, placed, optimizer, **plan, **more, ema=averages):
        losses.append(step.loss)
        if (said := watch(step.loss)) and ranks.first:
            good = divergence.keep(path)
            warn(f"{said} The checkpoint before it is kept as {good}." if good else said)
        if averages.power and (step.index % snapshots == 0 or step.index == steps):
            _snapshot(folder, step.index, averages.power, only, ranks)
        if step.index % every == 0 or step.index == steps:
            step, saved = keep(step), step.index
        try:
            yield step
        except GeneratorExit:
            if saved < step.index:
                keep(step)
            raise


def _snapshot(folder: Path, step: int, power: PowerEma, only: checkpoints.Only | None, ranks: Ranks) -> None:
    states = [
        {k: sharding.whole(v) for k, v in average.state_dict().items() if only is None or only(k)}
        for average in power.averages
    ]
    if ranks.first:
        snapshots_of.write(folder, step, power.exponents, states)


def _settle(folder: Path, config: dict[str, Any], recipe: type | None, warn: Callable[[str], object]) -> None:
    """Writes config.json into a new folder, or checks that it says the same but for fields that are new."""
    path, text = folder / "config.json", json.dumps(config, indent=1)
    if not path.exists():
        if (folder / "checkpoint.safetensors").exists():
            raise ValueError(f"{folder} has a checkpoint but no config.json: take another folder.")
        with beside(path) as part:
            part.write_text(text)
        return
    try:
        there = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): take another folder.") from error
    here = json.loads(text)
    new = {k: v for k, v in gained(there, recipe).items() if k in here.get("fields", {})}
    full = {**there, "fields": there["fields"] | new} if new else there
    if full != here:
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(differences(full, here))}): "
            "take another folder, or its settings."
        )
    if new:
        warn(told(path, new))
        with beside(path) as part:
            part.write_text(text)


def gained(config: Mapping[str, Any], recipe: type | None) -> dict[str, Any]:
    """The fields of a recipe that a config does not have, at their defaults, as JSON holds them.

    A recipe gains a field at a default that leaves what it was before, so that this is how the config's model was made.
    Fields without a default are left out; so are all of a config without fields, or where no recipe is given.
    """
    if recipe is None or "fields" not in config:
        return {}
    default = {
        field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        for field in dataclasses.fields(recipe)
        if field.init and field.name not in config["fields"]
    }
    known: dict[str, Any] = {name: value for name, value in default.items() if value is not dataclasses.MISSING}
    return json.loads(json.dumps(known))  # type: ignore[no-any-return]


def told(path: Path, new: Mapping[str, Any]) -> str:
    """What is said of the fields that the config in `path` does not have."""
    values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in new.items())
    return f"{path} was written before its recipe had all of its fields; these take their defaults: {values}."


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What differs between two JSON values, as sentences such as "fields.blocks: 2 there, 3 here"."""
    if isinstance(there, dict) and isinstance(here, dict):
        prefix, absent = f"{name}." if name else "", "nothing"
        keys = [*there, *(key for key in here if key not in there)]
        parts = (differences(there.get(k, absent), here.get(k, absent), prefix + k) for k in keys)
        return [line for part in parts for line in part]
    return [] if there == here else [f"{name}: {there} there, {here} here"]


def _forget(path: Path, step: int) -> None:
    """Drops the lines of metrics.jsonl that are torn or lie beyond `step`: steps that are about to run again."""
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        with beside(path) as part:
            part.write_text("".join(kept))


def _step_of(line: str) -> float:
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


class OnDevice:
    """`data` whose batches are moved to a device."""

    def __init__(self, data: Data, device: torch.device | str) -> None:
        self.data, self.device = data, device

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]:
        x0, cond = self.data.batch(items, noise)
        return x0.to(self.device), moved(cond, self.device)
