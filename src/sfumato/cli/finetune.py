"""`sfumato finetune MODEL DATA --out RUN`: a trained model on data of one's own, in full or by adapters (LoRA)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli import train_data
from sfumato.cli import train_options as T
from sfumato.cli.console import Console
from sfumato.cli.options import Device, Dry, Json, Quiet, Set, Verbose, checked, pairs
from sfumato.cli.train import DATA, Out, start
from sfumato.cli.train_plan import OURS, Job, how, maker

RATES = {"full": 1e-4, "lora": 1e-3}  # (ours)


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command("finetune")(finetune)


def finetune(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder of `convert`, a run's folder, or a Hub id.")],
    data: Annotated[Path, typer.Argument(help=DATA)],
    out: Out,
    lora: Annotated[
        int | None, typer.Option(min=1, help="Rank of adapters, which alone are trained and stored.")
    ] = None,
    steps: T.Steps = None,
    batch: T.Batch = None,
    rate: T.Rate = None,
    seed: T.Seed = None,
    size: T.Size = None,
    fit: T.Fit = None,
    classes: T.Classes = False,
    schedule: T.Schedule = None,
    warmup: T.Warmup = None,
    precision: T.Precision = None,
    accumulate: T.Accumulate = None,
    compiled: T.Compile = False,
    ema: T.Ema = [],  # noqa: B006
    ema_width: T.EmaWidth = [],  # noqa: B006
    drop: T.Drop = None,
    augment: T.Augment = None,
    held_out: T.HeldOut = None,
    preview: T.Preview = None,
    log: T.Logs = [],  # noqa: B006
    settings: Set = [],  # noqa: B006
    resume: T.Resume = False,
    every: T.Every = None,
    threads: T.Threads = None,
    sharded: T.Sharded = False,
    device: Device = "cpu",
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on training a model on data of your own: tens of pictures will do. The run's folder is a model."""
    asked = T.asked(
        steps=steps, batch=batch, rate=rate, seed=seed, size=size, fit=fit, classes=classes, schedule=schedule,
        warmup=warmup, precision=precision, accumulate=accumulate, compile=compiled, ema=ema,
        ema_width=ema_width, augment=augment,
        held_out=held_out, preview=preview, log=log, every=every,
    )  # fmt: skip
    fields = pairs(settings) | ({} if drop is None else {"drop": str(drop)})
    job = Job(data, out, None, asked, fields, resume, base=model, lora=lora)
    start(job, Console(as_json=as_json, quiet=quiet), device, threads=threads, sharded=sharded, dry=dry)


def begin(job: Job, console: Console) -> tuple[dict[str, Any], Any]:
    """The config of a new run that begins with a model's weights, and its data."""
    from sfumato.zoo import files, tuned

    assert job.base is not None
    base = files.read_config(files.find(job.base))
    make = maker(base["recipe"])
    chosen = checked(make, job.fields)
    for name in OURS:
        if name in chosen:
            raise typer.BadParameter(f"{name} is decided by the model: leave --set {name} out.")
    fields = dataclasses.asdict(make(**{k: tuple(v) if isinstance(v, list) else v for k, v in base["fields"].items()}))
    what = train_data.kind(job.data)
    first, *sizes = base["event"]
    side = next((n for n in sizes if n is not None), job.asked.get("size", _one(base.get("size")) or 64))
    if sizes and sizes[0] is not None and job.asked.get("size", side) != side:
        raise typer.BadParameter(f"{job.base} makes data of the size {sizes} only: leave --size out.")
    pictures = {"channels": first} if what in ("pictures", "shards") else {}
    held = {"size": side} if what not in ("array",) else {}
    plan = train_data.settle(what, {**job.asked, **pictures, **held})
    augment = job.asked.get("augment", 0.12 if fields.get("augment") else 0.0)
    if augment and not fields.get("augment"):
        raise typer.BadParameter(f"{job.base} was not told of augmentations in training: leave --augment out.")
    config: dict[str, Any] = {
        **{k: v for k, v in base.items() if k not in ("training", "base", "lora")},
        "fields": fields | chosen,
        "base": tuned.origin(job.base),
        **({"lora": job.lora} if job.lora else {}),
    }
    config = json.loads(json.dumps({"names": [], **config}))
    source = fitted(train_data.opened(job.data, what, plan | {"augment": augment}), config, console)
    n = len(source)
    count = job.asked.get("batch", min(n, 16))
    steps = job.asked.get("steps", min(max(20 * n // count, 400), 5000))
    plan |= {"kind": what, "preset": "lora" if job.lora else "full", "items": n, "shape": list(source.event)}
    plan |= {"steps": steps, "batch": count, "rate": job.asked.get("rate", RATES[plan["preset"]])}
    plan |= {"seed": job.asked.get("seed", 0)} | how(job, n, steps) | {"augment": augment}
    # Short runs: an average that follows soon, a rise that is over soon, and a few items to see when it is enough.
    short = {"ema": [0.99], "warmup": min(100, steps // 10), "held_out": 0.2 if 10 <= n < 500 else plan["held_out"]}
    plan |= {k: v for k, v in short.items() if k not in job.asked} | {"preview": job.asked.get("preview", 200)}
    return json.loads(json.dumps({**config, "training": plan})), source


def fitted(source: Any, config: dict[str, Any], console: Console | None = None) -> Any:
    """The data as the base model knows them: its codec, and its classes or none.

    Raises:
        ValueError: if the model is for data of another shape or kind, or of fewer classes.
    """
    from sfumato.zoo.files import read_codec

    make = maker(config["recipe"])
    known = [each.name for each in dataclasses.fields(make)]
    source = train_data.categories(source, make, config["recipe"], known, config["fields"])
    event, codec = config["event"], read_codec(config)
    if len(event) != len(source.event) or any(w not in (None, n) for w, n in zip(event, source.event, strict=True)):
        raise ValueError(f"the model is for data of the shape {event}, these are {list(source.event)}.")
    if type(codec).__name__ in ("Alphabet", "Quantized") and codec != source.codec:
        raise ValueError(f"the model writes {codec}, the data {source.codec}: they must be the same.")
    classes = int(config["fields"].get("classes", 0))
    if len(source.names) > max(classes, 0) and classes:
        raise ValueError(f"the model has {classes} classes, the data {len(source.names)}: leave some out.")
    if source.names and not classes and console is not None:
        console.warn("the model has no classes: those of the data are not used.")
    return train_data.Recoded(source, codec, labelled=bool(classes))


def _one(size: Any) -> int | None:
    return size[0] if isinstance(size, list) and size else size
