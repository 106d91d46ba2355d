"""`sfumato train DATA --out RUN`: a model of a folder of pictures, a NumPy file or a text, resumable bit for bit."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli import shards
from sfumato.cli.console import Console
from sfumato.cli.options import Device, Dry, Json, Quiet, Set, Verbose, checked, one_of, pairs
from sfumato.cli.options import device as present
from sfumato.cli.stopping import asked_to_stop

if TYPE_CHECKING:
    from sfumato.data.arrays import Arrays
    from sfumato.data.images import ImageFolder
    from sfumato.data.levels import Levels
    from sfumato.data.text import Text
    from sfumato.training.ranks import Ranks

    Source = Arrays | ImageFolder | Levels | Text

ARRAYS = (".npy", ".npz")
TEXTS = (".txt",)
OURS = ("channels", "dims", "classes", "length")  # fields that the data decide
WINDOW = 128  # characters of a training item of text
REPORT = 50  # steps between JSON lines


def register(app: typer.Typer) -> None:
    """Adds the command to an app."""
    app.command("train")(train)


def train(
    data: Annotated[Path, typer.Argument(help="A folder of pictures, a .npy or .npz file, or a .txt file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: settings, checkpoint, metrics.")],
    recipe: Annotated[str | None, typer.Option(help="Key of the recipe; edm if not given.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps in all; chosen by the size of the data.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Items in a step; chosen by their size.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.0, help="Peak learning rate of AdamW; 0.001.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights, the order and the noise; 0.")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Pictures: side of the square crops; 64. Text: characters of a window; 128."),
    ] = None,
    channels: Annotated[int | None, typer.Option(min=1, max=3, help="Pictures: 1 grey, 3 color; 3.")] = None,
    fit: Annotated[str | None, typer.Option(help="Pictures: resize (whole things) or crop (texture); resize.")] = None,
    classes: Annotated[bool, typer.Option("--classes", help="Pictures: each subfolder is a class.")] = False,
    settings: Set = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its settings.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice if not given.")] = None,
    device: Device = "cpu",
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a model: a folder that `sfumato sample` and `restore` take as a model. Ctrl-C saves; --resume goes on."""
    import torch

    from sfumato.training.ranks import joined

    if threads is not None:
        torch.set_num_threads(threads)
    console, where = Console(as_json=as_json, quiet=quiet), present(shards.device(device))
    given = {"steps": steps, "batch": batch, "rate": rate, "seed": seed, "size": size, "channels": channels, "fit": fit}
    asked = {name: value for name, value in {**given, "classes": classes or None}.items() if value is not None}
    with joined(where) as ranks:
        if not ranks.first:
            console = Console(quiet=True, silent=True)
        _train(data, out, recipe, asked, pairs(settings), resume, every, where, dry, console, ranks)


def _train(
    data: Path,
    out: Path,
    recipe: str | None,
    asked: dict[str, Any],
    fields: dict[str, str],
    resume: bool,
    every: int,
    where: str,
    dry: bool,
    console: Console,
    ranks: Ranks,
) -> None:
    """Trains, as one of the processes that do."""
    import torch

    done, saved = _progress(out), _settings(out, resume)
    if saved is None:
        config, source = _begin(data, recipe or "edm", asked, fields)
    else:
        config, source = _again(data, out, saved, recipe, asked, fields)
        _prolonged(saved["training"]["steps"], config["training"]["steps"], done, console)
    ranks.wait()  # all have looked at the folder before one writes there
    plan, total = config["training"], config["training"]["steps"]
    torch.manual_seed(plan["seed"])  # the first weights, and no draw after them
    maker = _maker(config["recipe"])(**_frozen(config["fields"]))
    objective = maker.objective(maker.model())
    numbers = sum(p.numel() for p in objective.parameters())
    console.emit("start", command="train", data=str(data), out=str(out), config=config, step=done, parameters=numbers)
    shape = " x ".join(map(str, source.event))
    what = (
        f"{config['recipe']} with {numbers / 1e6:.2f} million weights on {len(source)} items of {shape}: "
        f"steps {done + 1} to {total}, {plan['batch']} items each ({total * plan['batch'] / len(source):.3g} epochs)"
    )
    if dry:
        console.data(f"would train {what}, in {out} on {where}.\n{json.dumps(config, indent=1)}")
        console.emit("done", dry_run=True)
        return
    if done >= total:
        console.note(f"{out} is trained: it is at step {done}; a larger --steps prolongs it.")
    else:
        console.note(f"training {what}.")
        if saved is not None and saved != config and ranks.first:
            _rewrite(out, config)
        _run(out, config, objective, source, every, where, console, ranks)
    console.data(str(out))
    console.emit("done", out=str(out), step=max(done, total))


def _run(
    out: Path,
    config: dict[str, Any],
    objective: Any,
    source: Source,
    every: int,
    where: str,
    console: Console,
    ranks: Ranks,
) -> None:
    from tqdm import tqdm

    from sfumato.training import warmup_decay
    from sfumato.training.runs import run

    plan = config["training"]
    steps = run(
        out,
        config,
        objective,
        source,
        steps=plan["steps"],
        batch=plan["batch"],
        rate=plan["rate"],
        seed=plan["seed"],
        schedule=warmup_decay(plan["steps"]),
        every=every,
        device=where,
        ranks=ranks,
    )
    average = math.nan
    with asked_to_stop() as stopping, tqdm(total=plan["steps"], disable=console.quiet, desc="train") as bar:
        for step in steps:
            average = step.loss if math.isnan(average) else 0.98 * average + 0.02 * step.loss
            bar.update(step.index - bar.n)
            bar.set_postfix(loss=f"{average:.4f}", refresh=False)
            if step.index % REPORT == 0 or step.index == plan["steps"]:
                console.emit("step", done=step.index, total=plan["steps"], loss=average, rate=step.rate)
            if ranks.any(stopping.is_set(), where) and step.index < plan["steps"]:
                steps.close()  # type: ignore[attr-defined]  # saves a checkpoint
                console.warn(f"stopped after step {step.index}, which is saved: --resume with --out {out} goes on.")
                raise typer.Exit(130)


# Settings


def _begin(data: Path, recipe: str, asked: dict[str, Any], fields: dict[str, str]) -> tuple[dict[str, Any], Source]:
    """The config of a new run, and its data."""
    make = _maker(recipe)
    known = [field.name for field in dataclasses.fields(make)]
    chosen = checked(make, fields)
    for name in OURS:
        if name in chosen:
            raise typer.BadParameter(f"{name} is decided by the data: leave --set {name} out.")
    pictures = {"size": 64, "channels": 3, "fit": "resize", "classes": False}
    plan = {k: asked.get(k, v) for k, v in pictures.items()} if data.is_dir() else {}
    seed = asked.get("seed", 0)
    source = _categories(_open(data, plan, asked), recipe, known, chosen)
    guess = _guess(source, whole=plan.get("fit", "resize") == "resize")
    if "sigma_data" in known and "sigma_data" not in chosen:
        guess["sigma_data"] = _spread(source, seed)
    from sfumato.zoo.files import codec_config

    whole = make(**{**{k: v for k, v in guess.items() if k in known}, **chosen})
    count = asked.get("batch", min(len(source), 64 if math.prod(source.event) <= 4096 else 16))
    plan |= {
        "items": len(source),
        "shape": list(source.event),
        "steps": asked.get("steps", min(max(100 * len(source) // count, 2000), 50_000)),
        "batch": count,
        "rate": asked.get("rate", 1e-3),
        "seed": seed,
    }
    first, *sizes = source.event
    anywhere = not getattr(whole, "attention", ()) and len(sizes) == 2
    config: dict[str, Any] = {
        "recipe": recipe,
        "fields": dataclasses.asdict(whole),
        "codec": codec_config(source.codec),
        "event": [first, *([None] * len(sizes) if anywhere else sizes)],
        **({"size": sizes} if anywhere else {}),  # of what is sampled, unless another is asked for
        "names": list(source.names),
        "training": plan,
    }
    return json.loads(json.dumps(config)), source


def _again(
    data: Path, out: Path, saved: dict[str, Any], recipe: str | None, asked: dict[str, Any], fields: dict[str, str]
) -> tuple[dict[str, Any], Source]:
    """The config of the run in `out`, with more or fewer steps if they were asked for, and its data."""
    from sfumato.training.runs import differences

    config: dict[str, Any] = json.loads(json.dumps(saved))
    chosen = json.loads(json.dumps(checked(_maker(config["recipe"]), fields)))
    wanted = {**config, "recipe": recipe or config["recipe"], "fields": {**config["fields"], **chosen}}
    wanted["training"] = {**config["training"], **{k: v for k, v in asked.items() if k != "steps"}}
    if lines := differences(config, wanted):
        raise typer.BadParameter(f"the run in {out} has other settings ({', '.join(lines)}): leave them out.")
    config["training"]["steps"] = asked.get("steps", config["training"]["steps"])
    known = [field.name for field in dataclasses.fields(_maker(config["recipe"]))]
    plan = config["training"] | {"size": config["event"][0]} if data.suffix.lower() in TEXTS else config["training"]
    source = _categories(_open(data, plan, {}), config["recipe"], known, config["fields"])
    found = {"items": len(source), "shape": list(source.event), "names": list(source.names)}
    want = {"items": saved["training"]["items"], "shape": saved["training"]["shape"], "names": saved["names"]}
    if lines := differences(want, found):
        raise ValueError(f"{data} is not what {out} was trained on ({', '.join(lines)}).")
    return config, source


def _settings(out: Path, resume: bool) -> dict[str, Any] | None:
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


def _progress(out: Path) -> int:
    """The step of the checkpoint in `out`, 0 without one."""
    from sfumato.training import checkpoints

    path = out / "checkpoint.safetensors"
    return int(checkpoints.info(path)["step"]) if path.exists() else 0


def _prolonged(before: int, now: int, done: int, console: Console) -> None:
    from sfumato.training import warmup_decay

    factor, other = warmup_decay(before), warmup_decay(now)
    if any(factor(step) != other(step) for step in range(1, done + 1)):
        console.warn(
            f"steps 1 to {done} ran with the rates of a run of {before} steps: the result differs from that of "
            f"{now} steps from the start."
        )


def _rewrite(out: Path, config: dict[str, Any]) -> None:
    from sfumato.data.files import beside

    with beside(out / "config.json") as part:
        part.write_text(json.dumps(config, indent=1), "utf-8")


# Defaults by the data


def _open(data: Path, plan: dict[str, Any], asked: dict[str, Any]) -> Source:
    from sfumato.data import text
    from sfumato.data.arrays import Arrays
    from sfumato.data.images import ImageFolder

    if data.is_dir():
        return ImageFolder(data, plan["size"], plan["channels"], fit=plan["fit"], classes=plan["classes"])
    if not data.exists():
        raise FileNotFoundError(f"{data} is not there.")
    written = data.suffix.lower() in TEXTS
    if data.suffix.lower() not in ARRAYS and not written:
        raise ValueError(f"training data are a folder of pictures, a .npy, .npz or .txt file, got {data.name}.")
    for name in ("channels", "fit", "classes") if written else ("size", "channels", "fit", "classes"):
        if name in asked:
            raise typer.BadParameter(
                f"--{name} is for folders of pictures: {'a text' if written else 'an array'} is taken as it is."
            )
    if written:
        return text.Text(text.read(data), plan.get("size", asked.get("size", WINDOW)))
    return Arrays.read(data)


def _categories(source: Source, recipe: str, known: list[str], chosen: dict[str, Any]) -> Source:
    """The source as the recipe takes it: levels of pictures, or symbols of text, where it is one on categories."""
    from sfumato.data.arrays import Arrays
    from sfumato.data.levels import Levels
    from sfumato.data.text import Text
    from sfumato.recipes.tokens import Tokens

    if isinstance(source, Text):
        if "length" not in known:
            raise typer.BadParameter(f"{recipe} is not for text: ardm, mdlm and d3pm are.")
        if "levels" in chosen and chosen["levels"] != len(source.codec.symbols):
            raise typer.BadParameter("levels is decided by the text: leave --set levels out.")
        return source
    if not issubclass(_maker(recipe), Tokens):  # a field `levels` may also count levels of noise
        return source
    if isinstance(source, Arrays) and not source.pictures:
        raise typer.BadParameter(f"{recipe} is for pictures of whole numbers, or text: these are real numbers.")
    return Levels(source, chosen.get("levels", 256))  # type: ignore[arg-type]


def _guess(source: Source, *, whole: bool) -> dict[str, Any]:
    """Fields that the data decide, or suggest."""
    from sfumato.data.text import Text

    if isinstance(source, Text):
        few = {"width": 128, "depth": 4, "heads": 4, "dropout": 0.1 if len(source) < 5000 else 0.0}  # (ours)
        return {**few, "length": source.event[0], "levels": len(source.codec.symbols), "logistic": False}
    sizes = {"channels": source.event[0], "dims": len(source.event) - 1, "classes": len(source.names)}
    return _network(source.event, len(source), whole=whole) | sizes


def _network(event: tuple[int, ...], items: int, *, whole: bool) -> dict[str, Any]:
    """Fields of the U-Net for items of this shape (ours): levels down to about 4 positions a side; attention on the
    coarsest where things are seen whole; dropout where there are few."""
    side, dims = min(event[1:]), len(event) - 1
    patch = 2 if side >= 24 else 1
    levels = min(3, max(1, int(math.log2(max(side / patch / 4, 1))) + 1))
    coarse = math.prod(math.ceil(n / (patch * 2 ** (levels - 1))) for n in event[1:])
    return {
        "widths": {1: (64,), 2: (64, 128), 3: (64, 96, 128)}[levels],
        "patch": patch,
        "attention": (levels - 1,) if whole and coarse <= 256 else (),
        "dims": dims,
        "dropout": 0.1 if items < 5000 else 0.0,
    }


def _spread(source: Source, seed: int) -> float:
    """Standard deviation of the data in model space, two digits, from up to 256 items."""
    from sfumato.noise import Seeds

    items = list(range(0, len(source), max(1, len(source) // 256)))[:256]
    x0, _ = source.batch(items, Seeds.keyed(seed, (("spread", item) for item in items)))
    return max(0.05, round(float(x0.std()), 2))


def _maker(key: str) -> Any:
    """The recipe class of a key, if it can be trained."""
    from sfumato import recipes

    one_of(key, recipes.names(), "recipe")
    make = recipes.load(key).Recipe
    if not (hasattr(make, "model") and hasattr(make, "objective")):
        raise typer.BadParameter(
            f"{key} is not trained: it has no model and objective. `sfumato show {key}` says more."
        )
    return make


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
