"""`sfumato train DATA --out RUN`: a model of pictures, sounds, a table, arrays or a text, resumable bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli import shards
from sfumato.cli import train_options as T
from sfumato.cli.console import Console
from sfumato.cli.options import Dataset, Device, Dry, Json, Quiet, Set, Verbose, pairs, source
from sfumato.cli.options import device as present
from sfumato.cli.train_plan import Job

if TYPE_CHECKING:
    from sfumato.training.ranks import Ranks

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: settings, checkpoint, metrics, samples.")]
DATA = "A folder of pictures, sounds, shapes, strokes or .tar shards; a .npy, .npz, .csv, .parquet, .tar or .txt file."


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command("train")(train)


def train(
    data: Annotated[Path | None, typer.Argument(help=DATA)] = None,
    *,
    out: Out,
    dataset: Dataset = "",
    recipe: Annotated[str | None, typer.Option(help="Key of the recipe; edm, csdi for a table.")] = None,
    steps: T.Steps = None,
    batch: T.Batch = None,
    rate: T.Rate = None,
    seed: T.Seed = None,
    size: T.Size = None,
    channels: T.Channels = None,
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
    damage: T.Damage = None,
    damaged: T.Damaged = None,
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
    """Train a model: a folder that `sfumato sample` and `restore` take as a model. Ctrl-C saves; --resume goes on."""
    asked = T.asked(
        steps=steps, batch=batch, rate=rate, seed=seed, size=size, channels=channels, fit=fit, classes=classes,
        schedule=schedule, warmup=warmup, precision=precision, accumulate=accumulate, compile=compiled, ema=ema,
        ema_width=ema_width,
        augment=augment, damage=damage, damaged=damaged, held_out=held_out, preview=preview, log=log, every=every,
    )  # fmt: skip
    fields = pairs(settings) | ({} if drop is None else {"drop": str(drop)})
    folder, name = source(data, dataset, "the data")
    job = Job(Path(f"{name}:{folder}") if name else folder, out, recipe, asked, fields, resume)
    start(job, Console(as_json=as_json, quiet=quiet), device, threads=threads, sharded=sharded, dry=dry)


def start(job: Job, console: Console, device: str, *, threads: int | None, sharded: bool, dry: bool) -> None:
    """Trains, alone or as one of the processes that torchrun has started."""
    import torch

    from sfumato.training.ranks import joined

    if threads is not None:
        torch.set_num_threads(threads)
    job = replace(job, device=present(shards.device(device)))
    with joined(job.device, sharded=sharded) as ranks:
        if sharded and ranks.world == 1:
            raise typer.BadParameter("--fsdp divides weights among processes: start them with torchrun.")
        if not ranks.first:
            console = Console(quiet=True, silent=True)
        _train(job, dry, console, ranks)


def _train(job: Job, dry: bool, console: Console, ranks: Ranks) -> None:
    from sfumato.cli import train_loop
    from sfumato.cli import train_plan as plans

    done, saved = plans.progress(job.out), plans.saved(job.out, job.resume)
    if saved is None:
        config, source = plans.begin(job) if job.base is None else _tuning(job, console)
    else:
        config, source = plans.again(job, saved, console)
        plans.prolonged(saved["training"], config["training"], done, console)
    ranks.wait()  # all have looked at the folder before one writes there
    _check(job, config, ranks, console)
    plan, total = config["training"], config["training"]["steps"]
    objective = built(config, resumed=done > 0)
    numbers = sum(p.numel() for p in objective.parameters())
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    console.emit(
        "start",
        command="train",
        data=str(job.data),
        out=str(job.out),
        config=config,
        step=done,
        parameters=numbers,
        trained=trained,
        processes=ranks.world,
        fsdp=ranks.sharded,
    )
    what = train_loop.words(config, numbers, trained, plan["items"], done)
    if dry:
        console.data(f"would train {what}, in {job.out} on {job.device}.\n{json.dumps(config, indent=1)}")
        console.emit("done", dry_run=True)
        return
    if done >= total:
        console.note(f"{job.out} is trained: it is at step {done}; a larger --steps prolongs it.")
    else:
        console.note(f"training {what}.")
        if saved is not None and saved != config and ranks.first:
            plans.rewrite(job.out, config)
        ranks.wait()
        train_loop.run(job, config, objective, source, console, ranks, done)
    console.data(str(job.out))
    console.emit("done", out=str(job.out), step=max(done, total))


def built(config: dict[str, Any], *, resumed: bool = False) -> Any:
    """The objective of a run's first step: fresh weights, or those of the model that it begins with.

    One that goes on needs that model no more, unless its checkpoints hold adapters alone.
    """
    import torch

    from sfumato.cli.train_plan import frozen, maker
    from sfumato.training import lora
    from sfumato.zoo import tuned

    torch.manual_seed(config["training"]["seed"])  # the first weights, and no draw after them
    recipe = maker(config["recipe"])(**frozen(config["fields"]))
    denoiser = recipe.model()
    if "base" in config and ("lora" in config or not resumed):
        try:
            denoiser.load_state_dict(tuned.weights(config["base"]))
        except RuntimeError as error:
            raise ValueError(
                f"the weights of {config['base']['model']} do not fit these fields: {' '.join(str(error).split())}"
            ) from None
    objective = recipe.objective(denoiser)
    if "lora" in config:
        lora.adapt(objective, config["lora"])
    if config["training"].get("compile"):
        net = getattr(denoiser, "net", None)
        if net is None:
            raise ValueError(f"{config['recipe']} has no network of its own to compile: leave --compile out.")
        net.compile()
    return objective


def _tuning(job: Job, console: Console) -> tuple[dict[str, Any], Any]:
    from sfumato.cli.finetune import begin

    return begin(job, console)


def _check(job: Job, config: dict[str, Any], ranks: Ranks, console: Console) -> None:
    """What cannot run, and what runs slowly, said before it does."""
    from sfumato.training.precision import best

    half = config["training"].get("precision", "fp32")
    if ranks.sharded and half == "fp16":
        raise typer.BadParameter("--fsdp does not run in fp16: take --precision bf16 or fp32.")
    if half != "fp32" and job.device == "cpu" and best("cpu") == "fp32":
        console.warn(f"this processor does not multiply {half} numbers itself: steps take about twice as long.")
