"""Metrics to TensorBoard or Weights & Biases, beside metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Logger(Protocol):
    """Takes the rows of metrics.jsonl."""

    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def opened(kinds: Sequence[str], out: Path, config: Mapping[str, Any], start: int) -> list[Logger]:
    """The loggers of these names.

    Raises:
        ImportError: for one whose package is missing.
    """
    made: dict[str, type] = {"tensorboard": TensorBoard, "wandb": Wandb}
    return [made[kind](out, config, start) for kind in kinds]


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir RUN`. Steps that run again replace what was there."""

    def __init__(self, out: Path, config: Mapping[str, Any], start: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("--log tensorboard needs TensorBoard: pip install 'sfumato[train]'.") from error
        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        for name, value in flat(row).items():
            self.writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, named for the folder; its own settings (WANDB_MODE=offline ...) hold."""

    def __init__(self, out: Path, config: Mapping[str, Any], start: int) -> None:
        try:
            import wandb  # type: ignore[import-not-found]
        except ImportError as error:
            raise ImportError("--log wandb needs the package of Weights & Biases: pip install wandb.") from error
        self.run = wandb.init(
            project="sfumato", name=out.name, id=out.name, dir=str(out), resume="allow", config=dict(config)
        )

    def write(self, row: Mapping[str, Any]) -> None:
        self.run.log(flat(row), step=row["step"])

    def close(self) -> None:
        self.run.finish()


def flat(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row but the step, those by level as "levels/LOG SNR"."""
    levels = {f"levels/{level}": value for level, value in row.get("levels", {}).items()}
    return {name: value for name, value in row.items() if name not in ("step", "levels")} | levels
