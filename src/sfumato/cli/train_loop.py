"""A run on the command line: what it says, draws and logs while it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sfumato.cli import loggers
from sfumato.cli.console import Console
from sfumato.cli.stopping import asked_to_stop
from sfumato.cli.train_options import BEFORE
from sfumato.cli.train_plan import Job

if TYPE_CHECKING:
    from sfumato.training.fit import TrainStep
    from sfumato.training.ranks import Ranks

REPORT = 50  # steps between JSON lines
DRAWN = 16  # samples of a preview
SHOWN = 4  # of pairs
CALLS = 20  # of the network for each
LOOKED = 64  # held-out items


def run(
    job: Job, config: dict[str, Any], objective: Any, source: Any, console: Console, ranks: Ranks, start: int
) -> None:
    """Trains to the end, or until it is asked to stop (exit 130)."""
    from tqdm import tqdm

    plan = BEFORE | config["training"]
    logs = loggers.opened(plan["log"] if ranks.first else [], job.out, config, start)
    steps = fitting(_steps(job, config, objective, source, console, ranks), config["recipe"], plan["shape"])
    average, total, began = math.nan, plan["steps"], time.perf_counter()
    with asked_to_stop() as stopping, tqdm(total=total, initial=start, disable=console.quiet, desc="train") as bar:
        for step in steps:
            average = step.loss if math.isnan(average) else 0.98 * average + 0.02 * step.loss
            bar.update(step.index - bar.n)
            shown = {"loss": f"{average:.4f}"}
            if step.row and "held_out" in step.row:
                shown["held_out"] = f"{step.row['held_out']:.4f}"
            bar.set_postfix(shown, refresh=False)
            if step.index % REPORT == 0 or step.index == total:
                left = (time.perf_counter() - began) / (step.index - start) * (total - step.index)
                console.emit(
                    "step", done=step.index, total=total, loss=average, rate=step.rate, seconds_left=round(left, 1)
                )
            if step.row:
                for log in logs:
                    log.write(step.row)
            if plan["preview"] and step.index % plan["preview"] == 0 and ranks.first and not ranks.sharded:
                preview(job.out, config, step, source)
            if ranks.any(stopping.is_set(), job.device) and step.index < total:
                steps.close()
                console.warn(f"stopped after step {step.index}, which is saved: --resume with --out {job.out} goes on.")
                raise typer.Exit(130)
    for log in logs:
        log.close()


def fitting(steps: Generator[TrainStep], recipe: str, shape: Sequence[int]) -> Generator[TrainStep]:
    """`steps`; a network that the items do not fit fails in its first one, and the message says so.

    Raises:
        ValueError: naming the recipe and the shape of the items.
    """
    began = False
    try:
        for step in steps:
            began = True
            yield step
    except (RuntimeError, TypeError, ValueError) as error:
        shapes = not isinstance(error, ValueError) or "values to unpack" in str(error)
        if began or not shapes or "memory" in str(error):
            raise
        size = " x ".join(map(str, shape))
        raise ValueError(
            f"recipe {recipe} cannot train on items of {size} ({error}): `sfumato show {recipe}` says what it takes."
        ) from error
    finally:
        steps.close()


def _steps(job: Job, config: dict[str, Any], objective: Any, source: Any, console: Console, ranks: Ranks) -> Any:
    from sfumato.data.augment import Augmented
    from sfumato.data.splits import split
    from sfumato.training import HeldOut, lora, rates
    from sfumato.training.runs import run as training

    plan = BEFORE | config["training"]
    data, held = source, None
    if plan["held_out"]:
        data, part = split(source, plan["held_out"], plan["seed"])
        batch = max(1, min(plan["batch"] // plan["accumulate"], 32))
        held = HeldOut(part, plan["seed"], batch=batch, most=LOOKED, device=job.device) if len(part) else None
    if plan["augment"]:
        data = Augmented(data, plan["augment"])
    return training(
        job.out,
        config,
        objective,
        data,
        steps=plan["steps"],
        batch=plan["batch"],
        rate=plan["rate"],
        seed=plan["seed"],
        ema_decay=plan["ema"],
        widths=plan["ema_width"],
        snapshots=plan.get("snapshots", 1000),
        schedule=rates.named(plan["schedule"], plan["steps"], plan["warmup"]),
        every=plan["every"],
        accumulate=plan["accumulate"],
        precision=plan["precision"],
        held_out=held,
        only=lora.is_adapter if "lora" in config else None,
        warn=console.warn,
        device=job.device,
        ranks=ranks,
    )


def preview(out: Path, config: dict[str, Any], step: TrainStep, source: Any) -> None:
    """Draws from the averaged model into RUN/samples: one sheet of pictures, a text, a sound or an array."""
    import os

    from sfumato.cli import outputs
    from sfumato.codecs import Alphabet
    from sfumato.codecs.alphabet import text
    from sfumato.zoo.files import read_codec
    from sfumato.zoo.model import Model

    denoiser = getattr(getattr(step.average, "average", None), "denoiser", None)
    if denoiser is None:
        return
    codec = read_codec(config)
    if inner := getattr(denoiser, "codec", None):
        codec = inner(codec)
    model = Model(codec, denoiser, config)
    cond = None
    if model.classes:
        import torch

        cond = torch.arange(DRAWN) % model.classes
    seed = config["training"]["seed"]
    if config["training"].get("kind") == "pairs" or "hertz" in config.get("fields", {}):
        x = pairs_of(model, source, seed)
    else:
        x = model.sample(DRAWN, seed=seed, steps=CALLS, cond=cond)
    folder = out / "samples"
    folder.mkdir(exist_ok=True)
    name = f"{step.index:08d}"
    with outputs.collecting() as (part, found):
        if isinstance(codec, Alphabet):
            (part / f"{name}.txt").write_text("\n\n".join(text(row) for row in x), "utf-8")
        elif "hertz" in config.get("fields", {}):
            outputs.write_sounds(part, x, name, config["hertz"])
        elif outputs.is_picture(x):
            outputs.write_picture(part / f"{name}.png", outputs.grid(x))
        elif not outputs.write_kind(part, x, name, config.get("data")):
            outputs.write_items(part, x, name)
    for file, content in found.items():
        half = folder / f".{file}.part"
        half.write_bytes(content)
        os.replace(half, folder / file)


def pairs_of(model: Any, source: Any, seed: int) -> Any:
    """Damaged pictures or sounds, what the model makes of them, and the clean ones, a row each."""
    import torch

    from sfumato.noise import Seeds

    items = [item % len(source) for item in range(SHOWN)]
    noise = Seeds.keyed(seed, (("preview", row) for row in range(SHOWN)))
    if hasattr(source, "damaged"):  # sounds
        clean, _ = source.batch(items, noise)
        y = model.codec.decode(source.damaged(clean, noise))
        steps = min(CALLS, model.config["fields"].get("steps", CALLS))
        return torch.cat([y, model.enhance(y, seed=seed, steps=steps).mean, model.codec.decode(clean)])
    clean, cond = source.batch(items, noise)
    parts = {key: model.codec.decode(value) for key, value in cond.items()}
    y = parts.pop("image")
    found = model.enhance(y, beside=parts, seed=seed, steps=CALLS)
    return torch.cat([y, found.mean, model.codec.decode(clean)])


def words(config: dict[str, Any], numbers: int, trained: int, items: int, done: int) -> str:
    """One sentence on what is trained."""
    plan = config["training"]
    part = f"{trained / 1e6:.2f} of {numbers / 1e6:.2f}" if trained < numbers else f"{numbers / 1e6:.2f}"
    shape = " x ".join(map(str, plan["shape"]))
    return (
        f"{config['recipe']} with {part} million weights on {items} items of {shape}: steps {done + 1} to "
        f"{plan['steps']}, {plan['batch']} items each ({plan['steps'] * plan['batch'] / items:,.1f} epochs)"
    )
