"""`sfumato sample MODEL`: draws from a model, as files and as one sheet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli import shards
from sfumato.cli.console import Console
from sfumato.cli.options import (
    Device,
    Dry,
    Dtype,
    Engine,
    Json,
    Out,
    Precision,
    Quiet,
    Seed,
    Set,
    Shard,
    Verbose,
    Workers,
    pairs,
)

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.zoo import Model


@dataclass(frozen=True)
class Settings:
    """Everything that decides the samples."""

    model: str
    n: int = 16
    cond: list[int] = field(default_factory=list)
    prompt: list[str] = field(default_factory=list)
    negative: str = ""
    steps: int = 50
    sampler: str = ""
    scale: float = 1.0
    size: list[int] = field(default_factory=list)
    batch: int = 16
    seed: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str = "float32"


def command(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder, a training run's folder, or a Hub id.")],
    n: Annotated[int, typer.Option("-n", "--samples", min=1, help="How many.")] = 16,
    cond: Annotated[list[int], typer.Option(help="Class of all samples; repeated: of each in turn.")] = [],  # noqa: B006
    prompt: Annotated[list[str], typer.Option(help="Text of all samples; repeated: of each in turn.")] = [],  # noqa: B006
    negative: Annotated[str, typer.Option(help="Text that guidance leads away from; by default the empty one.")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler.")] = 50,
    sampler: Annotated[str, typer.Option(help="Key of a sampler; one that suits the model if not given.")] = "",
    scale: Annotated[float, typer.Option("--scale", "--guidance", help="Classifier-free guidance; 1: none.")] = 1.0,
    size: Annotated[list[int], typer.Option(min=1, help="Side, or height and width, where the model is for any.")] = [],  # noqa: B006
    batch: Annotated[int, typer.Option(min=1, help="Samples that run together.")] = 16,
    seed: Seed = 0,
    settings: Set = [],  # noqa: B006
    shard: Shard = "",
    engine: Engine = "",
    workers: Workers = 1,
    out: Out = Path("samples"),
    device: Device = "cpu",
    dtype: Dtype = Precision.float32,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw samples: PNG files and a sheet of them, texts, or arrays, and a manifest that repeats the run."""
    wanted = Settings(
        model,
        n,
        list(cond),
        list(prompt),
        negative,
        steps,
        sampler,
        scale,
        list(size),
        batch,
        seed,
        pairs(settings),
        device,
        dtype.value,
    )
    console = Console(as_json=as_json, quiet=quiet)
    if (part := shards.asked(shard, engine, workers, device)) and not dry:
        shards.run(Blocks(replace(wanted, device=shards.device(device))), wanted.n, wanted.batch, part, out, console)
    else:
        run(wanted, out, console, dry=dry)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Draws what the settings say, into `out`."""
    from sfumato.cli import outputs
    from sfumato.codecs import Alphabet
    from sfumato.codecs.alphabet import text

    model, sampler, own = prepare(wanted)
    cond = _condition(wanted, model, range(wanted.n))
    console.emit("start", command="sample", settings=asdict(wanted), sampler=repr(sampler))
    if said := averaged(wanted.model):
        console.note(said)
    if dry:
        console.data(f"would draw {wanted.n} from {wanted.model} with {sampler!r} in {wanted.steps} steps, into {out}")
        console.emit("done", dry_run=True)
        return
    written: list[str] = []
    began = time.perf_counter()
    with console.progress(f"sample {wanted.model}") as tick:
        x = draw(wanted, model, None if own else sampler, range(wanted.n), cond, tick)
    with outputs.writing(out) as part:
        if isinstance(model.codec, Alphabet):
            written = [text(row) for row in x]
            outputs.write_texts(part, written, "sample")
        elif "hertz" in model.config:
            outputs.write_sounds(part, x, "sample", model.config["hertz"])
        elif not outputs.write_kind(part, x, "sample", model.config.get("data")):
            outputs.write_items(part, x, "sample")
        if outputs.is_picture(x):
            outputs.write_picture(part / "grid.png", outputs.grid(x))
        content = {"command": "sample", "settings": asdict(wanted), "sampler": repr(sampler), "seconds": _since(began)}
        outputs.write_manifest(part, content)
        names = sorted(path.name for path in part.iterdir())
    for name in names:
        console.emit("item", path=str(out / name))
        console.data(str(out / name))
    for i, words in enumerate(written):
        console.data(f"\n--- {i}\n{words}")
    console.emit("done", out=str(out))


def averaged(name: str) -> str:
    """What is drawn from, where the model is the folder of a run; "" elsewhere."""
    from sfumato.training import checkpoints
    from sfumato.zoo import files

    folder = files.find(name)
    if (folder / "model.safetensors").exists() or not (folder / "checkpoint.safetensors").exists():
        return ""
    plan, step = (
        files.read_config(folder).get("training", {}),
        checkpoints.info(folder / "checkpoint.safetensors")["step"],
    )
    decay = plan.get("ema", [0.999])[0]
    return f"{name} is a run at step {step}: samples are drawn with its averaged weights (EMA, decay {decay:g})."


def prepare(wanted: Settings) -> tuple[Model, Any, bool]:
    """The model, the sampler in words or as an object, and whether that is the model's own with its own grid."""
    from sfumato import zoo
    from sfumato.cli import options
    from sfumato.cli.methods import method
    from sfumato.samplers import Sampler

    where = options.device(wanted.device)
    asked = method(wanted.sampler, "samplers", Sampler) if wanted.sampler else None
    model = zoo.load(wanted.model, device=where)
    own = None if asked or wanted.fields else zoo.defaults.own(model.denoiser)
    kind: Any = asked or type(zoo.defaults.sampler(model.denoiser.process))
    return model, own[0] if own else kind(**options.checked(kind, wanted.fields)), own is not None


def draw(wanted: Settings, model: Model, sampler: Any, rows: range, cond: Any, progress: Any = None) -> Tensor:
    """The samples of these numbers."""
    import torch

    return model.sample(
        len(rows),
        first=rows.start,
        seed=wanted.seed,
        cond=cond,
        steps=wanted.steps,
        sampler=sampler,
        scale=wanted.scale,
        size=wanted.size[0] if len(wanted.size) == 1 else tuple(wanted.size) or None,
        batch=wanted.batch,
        dtype=getattr(torch, wanted.dtype),
        progress=progress,
    )


@dataclass(frozen=True)
class Blocks:
    """The samples in blocks: what a shard, a rank or an actor runs. Names are those of the command without shards."""

    wanted: Settings
    command = "sample"

    def __hash__(self) -> int:
        return hash(repr(self))

    def __call__(self) -> Callable[[range], dict[str, bytes]]:
        """Loads the model, and returns the function from a block's numbers to its files."""
        from sfumato.cli import outputs
        from sfumato.codecs import Alphabet
        from sfumato.codecs.alphabet import text

        model, sampler, own = prepare(self.wanted)

        def block(rows: range) -> dict[str, bytes]:
            cond = _condition(self.wanted, model, rows)
            x = draw(self.wanted, model, None if own else sampler, rows, cond)
            with outputs.collecting() as (part, found):
                if isinstance(model.codec, Alphabet):
                    outputs.write_texts(part, [text(row) for row in x], "sample", rows.start)
                elif "hertz" in model.config:
                    outputs.write_sounds(part, x, "sample", model.config["hertz"], rows.start)
                elif outputs.write_kind(part, x, "sample", model.config.get("data"), rows.start):
                    pass
                elif outputs.is_picture(x):
                    outputs.write_items(part, x, "sample", rows.start)
                else:  # one array a block
                    outputs.write_items(part, x, f"sample-{rows.start:08d}")
            return found

        return block


def _condition(wanted: Settings, model: Model, rows: range) -> Any:
    """One label or text for each sample of `rows`, from those given, in turn; None where none were."""
    import torch

    if wanted.prompt and wanted.cond:
        raise typer.BadParameter("a sample has a class, --cond, or a text, --prompt: give one of them.")
    if wanted.negative and (not wanted.prompt or wanted.scale == 1.0):
        raise typer.BadParameter("--negative is what guidance leads away from: give --prompt, and --guidance above 1.")
    if wanted.prompt:
        if not model.reads:
            raise typer.BadParameter(f"the model {wanted.model!r} reads no text: leave --prompt out.")
        return model.prompts([wanted.prompt[i % len(wanted.prompt)] for i in rows], wanted.negative)
    if not wanted.cond:
        return None
    if not model.classes:
        raise typer.BadParameter(f"the model {wanted.model!r} has no classes: leave --cond out.")
    if not all(0 <= label < model.classes for label in wanted.cond):
        raise typer.BadParameter(f"--cond is between 0 and {model.classes - 1}, got {wanted.cond}.")
    return torch.tensor([wanted.cond[i % len(wanted.cond)] for i in rows])


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
