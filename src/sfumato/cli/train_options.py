"""Options that `train` and `finetune` share, and what was asked for among them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer


class Half(StrEnum):
    """Precision of a forward pass in training."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Rates(StrEnum):
    """Schedules of the learning rate: the names of `training.rates`."""

    decay = "decay"
    constant = "constant"
    cosine = "cosine"
    linear = "linear"
    inverse_sqrt = "inverse-sqrt"


class Log(StrEnum):
    """Where metrics go beside metrics.jsonl."""

    tensorboard = "tensorboard"
    wandb = "wandb"


Steps = Annotated[int | None, typer.Option(min=1, help="Steps in all; chosen by the size of the data.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Items in a step; chosen by their size.")]
Rate = Annotated[float | None, typer.Option(min=0.0, help="Peak learning rate of AdamW.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the weights, the order and the noise; 0.")]
Size = Annotated[
    int | None,
    typer.Option(min=1, help="Pictures: side of the square crops; 64. Text, sound, tables: length of a window."),
]
Channels = Annotated[int | None, typer.Option(min=1, max=3, help="Pictures: 1 grey, 3 color; 3.")]
Fit = Annotated[str | None, typer.Option(help="Pictures: resize (whole things) or crop (texture); resize.")]
Classes = Annotated[bool, typer.Option("--classes", help="Pictures: each subfolder is a class; shards: .cls.")]
Schedule = Annotated[Rates | None, typer.Option(help="Of the learning rate; decay: level, then down over 30 %.")]
Warmup = Annotated[int | None, typer.Option(min=0, help="Steps over which the learning rate rises; 100.")]
Precision = Annotated[Half | None, typer.Option(help="Of the forward pass; auto: bf16 where the processor has it.")]
Accumulate = Annotated[int | None, typer.Option(min=1, help="Parts of a batch, one after the other: less memory.")]
Ema = Annotated[
    list[float],
    typer.Option(min=0.0, max=1.0, help="Decay of the averaged weights; 0.999. Repeated: the first is the model."),
]
EmaWidth = Annotated[
    list[float],
    typer.Option(help="Width of a power-function average (0.05, 0.10) to choose afterwards; `sfumato average`."),
]
Drop = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Share of conditions dropped, for guidance.")]
Augment = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Pictures: probability of each change; the network is told.")
]
Damage = Annotated[
    str | None,
    typer.Option(help="Recipes of pairs: NAME or NAME:LEVEL, done to clean pictures: rain, jpeg:10, enlarge:4 ..."),
]
Damaged = Annotated[
    str | None, typer.Option(help="Recipes of pairs: a folder of damaged pictures, of the names of the clean ones.")
]
HeldOut = Annotated[float | None, typer.Option(min=0.0, max=0.9, help="Share of the items that is validated on.")]
Preview = Annotated[int | None, typer.Option(min=0, help="Steps between samples, in RUN/samples; 1000, 0 for none.")]
Logs = Annotated[list[Log], typer.Option("--log", help="Metrics here too, beside metrics.jsonl.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the network: quicker steps, after minutes for the first on a CPU.")
]
Every = Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints; 250.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice if not given.")]
Sharded = Annotated[bool, typer.Option("--fsdp", help="Under torchrun: divide the weights too (FSDP2).")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its settings.")]

# What may change when a run goes on.
FREE = ("steps", "every", "preview", "log")
# What a run whose config does not say was trained with.
BEFORE: dict[str, Any] = {
    "schedule": "decay",
    "warmup": 100,
    "precision": "fp32",
    "accumulate": 1,
    "compile": False,
    "ema": [0.999],
    "ema_width": [],
    "held_out": 0.0,
    "augment": 0.0,
    "every": 250,
    "preview": 0,
    "log": [],
}


def asked(**options: Any) -> dict[str, Any]:
    """Those that were given, as JSON has them."""
    given = {name: value for name, value in options.items() if value is not None and value is not False and value != []}
    return {name: _plain(value) for name, value in given.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    return [_plain(each) for each in value] if isinstance(value, list) else value
