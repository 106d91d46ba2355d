"""`sfumato sample MODEL`: draws from a model, as files and as one sheet."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Device, Dry, Dtype, Json, Out, Precision, Quiet, Seed, Set, Verbose, pairs


@dataclass(frozen=True)
class Settings:
    """Everything that decides the samples."""

    model: str
    n: int = 16
    cond: list[int] = field(default_factory=list)
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
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler.")] = 50,
    sampler: Annotated[str, typer.Option(help="Key of a sampler; one that suits the model if not given.")] = "",
    scale: Annotated[float, typer.Option(help="Classifier-free guidance; 1: none.")] = 1.0,
    size: Annotated[list[int], typer.Option(min=1, help="Side, or height and width, where the model is for any.")] = [],  # noqa: B006
    batch: Annotated[int, typer.Option(min=1, help="Samples that run together.")] = 16,
    seed: Seed = 0,
    settings: Set = [],  # noqa: B006
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
        model, n, list(cond), steps, sampler, scale, list(size), batch, seed, pairs(settings), device, dtype.value
    )
    run(wanted, out, Console(as_json=as_json, quiet=quiet), dry=dry)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Draws what the settings say, into `out`."""
    import torch

    from sfumato import zoo
    from sfumato.cli import options, outputs
    from sfumato.cli.methods import method
    from sfumato.codecs import Alphabet
    from sfumato.codecs.alphabet import text
    from sfumato.samplers import Sampler

    where = options.device(wanted.device)
    asked = method(wanted.sampler, "samplers", Sampler) if wanted.sampler else None
    model = zoo.load(wanted.model, device=where)
    own = None if asked or wanted.fields else zoo.defaults.own(model.denoiser)
    kind: Any = asked or type(zoo.defaults.sampler(model.denoiser.process))
    sampler = own[0] if own else kind(**options.checked(kind, wanted.fields))
    cond = _labels(wanted, model)
    console.emit("start", command="sample", settings=asdict(wanted), sampler=repr(sampler))
    if dry:
        console.data(f"would draw {wanted.n} from {wanted.model} with {sampler!r} in {wanted.steps} steps, into {out}")
        console.emit("done", dry_run=True)
        return
    written: list[str] = []
    began = time.perf_counter()
    with console.progress(f"sample {wanted.model}") as tick:
        x = model.sample(
            wanted.n,
            seed=wanted.seed,
            cond=cond,
            steps=wanted.steps,
            sampler=None if own else sampler,
            scale=wanted.scale,
            size=tuple(wanted.size * 2 if len(wanted.size) == 1 else wanted.size) or None,
            batch=wanted.batch,
            dtype=getattr(torch, wanted.dtype),
            progress=tick,
        )
    with outputs.writing(out) as part:
        if isinstance(model.codec, Alphabet):
            written = [text(row) for row in x]
            outputs.write_texts(part, written, "sample")
        else:
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


def _labels(wanted: Settings, model: Any) -> Any:
    """One label for each sample, from those given, in turn; None where none were."""
    import torch

    if not wanted.cond:
        return None
    if not model.classes:
        raise typer.BadParameter(f"the model {wanted.model!r} has no classes: leave --cond out.")
    if not all(0 <= label < model.classes for label in wanted.cond):
        raise typer.BadParameter(f"--cond is between 0 and {model.classes - 1}, got {wanted.cond}.")
    return torch.tensor([wanted.cond[i % len(wanted.cond)] for i in range(wanted.n)])


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
