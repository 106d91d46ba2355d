"""A resumable run in a folder: config.json, metrics.jsonl and checkpoint.safetensors around `fit`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.noise import Seeds
from sfumato.training import checkpoints
from sfumato.training.ema import Ema
from sfumato.training.fit import Data, TrainStep, fit


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
    ema_decay: float = 0.999,
    schedule: Callable[[int], float] | None = None,
    every: int = 250,
    device: torch.device | str = "cpu",
) -> Iterator[TrainStep]:
    """Trains in `folder` and yields each step; continues bit for bit from the folder's checkpoint if there is one.

    Args:
        config: what rebuilds the model, written to config.json: {"recipe": key, "fields": {...}}.
        rate: peak learning rate of AdamW.
        every: steps between checkpoints, each with a line in metrics.jsonl (step, mean loss, hours, learning rate).

    Raises:
        ValueError: if the folder holds a run of another config.
    """
    path, before = folder / "checkpoint.safetensors", folder / "config.json"
    text = json.dumps(config, indent=1)
    if before.exists() and json.loads(before.read_text()) != json.loads(text):
        raise ValueError(f"{folder} holds a run with other settings: take another folder, or the settings of {before}.")
    objective.to(device)
    optimizer = torch.optim.AdamW(objective.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema = Ema(objective, ema_decay)
    info = {"step": 0, "hours": 0.0}
    if path.exists():
        info = checkpoints.load(path, objective, optimizer, ema)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        before.write_text(text)
    began, losses = time.perf_counter(), []
    start, placed = int(info["step"]), OnDevice(data, device)
    for step in fit(
        objective, placed, optimizer, steps=steps, batch=batch, seed=seed, start=start, ema=ema, schedule=schedule
    ):
        losses.append(step.loss)
        if step.index % every == 0 or step.index == steps:
            hours = info["hours"] + (time.perf_counter() - began) / 3600
            row = {"step": step.index, "loss": sum(losses) / len(losses), "hours": hours, "rate": step.rate}
            checkpoints.save(path, objective, optimizer, ema, {"step": step.index, "hours": hours})
            with open(folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
            losses.clear()
        yield step


class OnDevice:
    """`data` whose batches are moved to a device."""

    def __init__(self, data: Data, device: torch.device | str) -> None:
        self.data, self.device = data, device

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]:
        x0, cond = self.data.batch(items, noise)
        return x0.to(self.device), _moved(cond, self.device)


def _moved(cond: Any, device: torch.device | str) -> Any:
    if cond is None:
        return None
    return cond.to(device) if isinstance(cond, Tensor) else {key: value.to(device) for key, value in cond.items()}
