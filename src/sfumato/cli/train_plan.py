"""The settings of a run: chosen by the data for a new one, read from its folder for one that goes on."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from sfumato.cli import train_data
from sfumato.cli.console import Console
from sfumato.cli.options import checked, one_of
from sfumato.cli.train_options import BEFORE, FREE

OURS = ("channels", "dims", "classes", "length", "hertz")  # fields that the data decide


@dataclass(frozen=True)
class Job:
    """What was asked for: `base` is the model that a fine-tuning begins with, `lora` the rank of its adapters."""

    data: Path
    out: Path
    recipe: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    resume: bool = False
    device: str = "cpu"
    base: str | None = None
    lora: int | None = None


def begin(job: Job) -> tuple[dict[str, Any], Any]:
    """The config of a new run, and its data."""
    from sfumato.zoo.files import codec_config

    what = train_data.kind(job.data)
    recipe = job.recipe or {"table": "csdi", **train_data.SUITED}.get(what, "edm")
    make = maker(recipe)
    what = train_data.suited(what, recipe, make)
    heard = getattr(make, "heard", False)
    if heard and what != "sound":
        raise typer.BadParameter(f"{recipe} is trained on sounds: give a folder of them.")
    if getattr(make, "paired", False) and not heard:
        what = train_data.of_pairs(job.data, what, job.asked, recipe)
    known = [each.name for each in dataclasses.fields(make)]
    chosen = checked(make, job.fields)
    for name in OURS:
        if name in chosen:
            raise typer.BadParameter(f"{name} is decided by the data: leave --set {name} out.")
    plan = train_data.settle(what, job.asked)
    if heard:
        plan.setdefault("size", chosen.get("crop", make.crop))
    seed = job.asked.get("seed", 0)
    source = train_data.opened(job.data, what, plan | {"augment": job.asked.get("augment"), "seed": seed})
    for name in getattr(source, "decided", ()):
        if name in chosen:
            raise typer.BadParameter(f"{name} is decided by the data: leave --set {name} out.")
    small = len(source) < train_data.FEW
    augment = job.asked.get("augment", 0.12 if small and what in ("pictures", "shards") and "augment" in known else 0.0)
    if augment:
        if "augment" not in known:
            raise typer.BadParameter(f"{recipe} is not told of augmentations: edm is; leave --augment out.")
        source.flip = False  # the augmentation mirrors, and says so
    source = train_data.categories(source, make, recipe, known, chosen)
    guess = train_data.guess(source, whole=what != "pairs" and plan.get("fit", "resize") == "resize") | {
        "augment": augment > 0.0
    }
    if "sigma_data" in known and "sigma_data" not in chosen:
        guess["sigma_data"] = train_data.spread(source, seed)
    if "patch" in guess and "patch" in known and hasattr(source, "columns"):
        guess["patch"] = max(1, source.event[1] // 32)  # of the two-axis network: 32 tokens a window
    whole = make(**{**{k: v for k, v in guess.items() if k in known}, **chosen})
    if heard:
        whole, source = train_data.heard(source, whole)
    # A picture has many crops: a batch of pairs may hold several of one.
    few = 16 if what == "pairs" else len(source)
    count = job.asked.get("batch", min(few, 64 if math.prod(source.event) <= 4096 else 16))
    steps = job.asked.get("steps", min(max(100 * len(source) // count, 2000), 50_000))
    if len(source.event) < 3 and what != "array":
        plan["size"] = source.event[-1]
    first, *sizes = source.event
    anywhere = not getattr(whole, "attention", ()) and not getattr(whole, "groups", 0) and len(sizes) == 2
    anywhere |= heard or getattr(make, "unsized", False)
    config: dict[str, Any] = {
        "recipe": recipe,
        "fields": dataclasses.asdict(whole),
        "codec": codec_config(source.codec),
        "event": [first, *([None] * len(sizes) if anywhere else sizes)],
        **({"size": sizes} if anywhere else {}),  # of what is sampled, unless another is asked for
        **({"hertz": source.rate} if what == "sound" else {}),
        **({"data": what} if what in train_data.SUITED else {}),
        **({"columns": list(source.columns)} if what == "table" else {}),
        "names": list(source.names),
        "training": plan
        | {"kind": what, "preset": "small" if small else "large", "items": len(source), "shape": list(source.event)}
        | {"steps": steps, "batch": count, "rate": job.asked.get("rate", 1e-3), "seed": seed}
        | how(job, len(source), steps)
        | {"augment": augment},
    }
    return json.loads(json.dumps(config)), source


def how(job: Job, items: int, steps: int) -> dict[str, Any]:
    """The settings of a new run that do not depend on what is trained."""
    from sfumato.training import precision

    half = job.asked.get("precision", "auto")
    chosen = BEFORE | {"held_out": 0.0 if items < 50 else round(min(0.1, 500 / items), 4), "preview": 1000}
    chosen |= {"snapshots": max(1, steps // 16)} if job.asked.get("ema_width") else {}
    found = {name: job.asked.get(name, value) for name, value in chosen.items()}
    return found | {"precision": precision.best(job.device) if half == "auto" else half}


def again(job: Job, saved: dict[str, Any], console: Console) -> tuple[dict[str, Any], Any]:
    """The config of the run in `out`, with more or fewer steps if they were asked for, and its data.

    Fields that its recipe has gained since take their defaults, and are named.
    """
    from sfumato.training.runs import differences, gained, told
    from sfumato.zoo import tuned

    config: dict[str, Any] = json.loads(json.dumps(saved))
    plan = config["training"]
    make = maker(config["recipe"])
    if new := gained(config, make):
        config["fields"] |= new
        console.warn(told(job.out / "config.json", new))
    chosen = json.loads(json.dumps(checked(make, job.fields)))
    wanted = {**config, "recipe": job.recipe or config["recipe"], "fields": {**config["fields"], **chosen}}
    fixed = {k: v for k, v in job.asked.items() if k not in FREE and (k, v) != ("precision", "auto")}
    wanted["training"] = BEFORE | plan | fixed
    if job.base is not None:
        wanted["base"] = {**config.get("base", {}), "model": tuned.called(job.base)}
    if job.lora is not None:
        wanted["lora"] = job.lora
    if lines := differences(config | {"training": BEFORE | plan}, wanted):
        raise typer.BadParameter(f"the run in {job.out} has other settings ({', '.join(lines)}): leave them out.")
    plan |= {name: job.asked[name] for name in FREE if name in job.asked}
    source = _same(job, config)
    found = {"items": len(source), "shape": list(source.event), "names": list(source.names)}
    want = {"items": plan["items"], "shape": plan["shape"], "names": saved["names"]}
    if job.base is not None or "base" in config:  # the names are the base model's
        found["names"] = want["names"]
    if lines := differences(want, found):
        raise ValueError(f"{job.data} is not what {job.out} was trained on ({', '.join(lines)}).")
    return config, source


def _same(job: Job, config: dict[str, Any]) -> Any:
    """The data of a run that goes on, read as it read them."""
    from sfumato.cli.finetune import fitted

    plan, what = config["training"], train_data.kind(job.data)
    what = "pairs" if plan.get("kind") == "pairs" else what
    what = train_data.suited(what, config["recipe"], maker(config["recipe"]))
    if "kind" not in plan and what == "text":
        plan = plan | {"size": config["event"][0]}
    source = train_data.opened(job.data, what, plan)
    make = maker(config["recipe"])
    if "base" in config:
        return fitted(source, config)
    if getattr(make, "heard", False):
        return train_data.heard(source, make(**frozen(config["fields"])))[1]
    known = [each.name for each in dataclasses.fields(make)]
    return train_data.categories(source, make, config["recipe"], known, config["fields"])


def saved(out: Path, resume: bool) -> dict[str, Any] | None:
    """The config of the run that is to be continued; None for a new one."""
    path = out / "config.json"
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file: name a folder with --out.")
    if not resume:
        if path.exists() or (out / "checkpoint.safetensors").exists():
            raise typer.BadParameter(f"{out} holds a run: --resume continues it, another --out begins a new one.")
        return None
    if not path.exists():
        raise FileNotFoundError(f"there is no run in {out}: leave --resume out to begin one.")
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        _ = config["fields"], config["names"], config["training"]["shape"], config["training"]["steps"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or no run of `sfumato train` ({error}).") from None
    return config


def progress(out: Path) -> int:
    """The step of the checkpoint in `out`, 0 without one."""
    from sfumato.training import checkpoints

    path = out / "checkpoint.safetensors"
    return int(checkpoints.info(path)["step"]) if path.exists() else 0


def prolonged(before: dict[str, Any], now: dict[str, Any], done: int, console: Console) -> None:
    """Warns where a run goes on that ran with the learning rates of another length."""
    from sfumato.training import rates

    made = [rates.named(each["schedule"], each["steps"], each["warmup"]) for each in (BEFORE | before, BEFORE | now)]
    if any(made[0](step) != made[1](step) for step in range(1, done + 1)):
        console.warn(
            f"steps 1 to {done} ran with the rates of a run of {before['steps']} steps: the result differs from that "
            f"of {now['steps']} steps from the start."
        )


def rewrite(out: Path, config: dict[str, Any]) -> None:
    """Writes the config of a run that was changed, beside and renamed."""
    from sfumato.data.files import beside

    with beside(out / "config.json") as part:
        part.write_text(json.dumps(config, indent=1), "utf-8")


def maker(key: str) -> Any:
    """The recipe class of a key, if it can be trained."""
    from sfumato import recipes

    one_of(key, recipes.names(), "recipe")
    make = recipes.load(key).Recipe
    if not (hasattr(make, "model") and hasattr(make, "objective")):
        raise typer.BadParameter(
            f"{key} is not trained: it has no model and objective. `sfumato show {key}` says more."
        )
    return make


def frozen(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as a recipe takes them: lists as tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
