"""`sfumato evaluate`: how good samples, restorations or a model are, with how sure that is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli import shards
from sfumato.cli.console import Console
from sfumato.cli.options import (
    Dataset,
    Device,
    Dry,
    Engine,
    Json,
    Quiet,
    Seed,
    Shard,
    Split,
    Verbose,
    Workers,
    one_of,
    source,
)

if TYPE_CHECKING:
    from sfumato.engines import Cluster
    from sfumato.engines import Shard as Part

RESULT = "result.json"
KNOWN = {  # metrics of each mode, and those that are taken where none are named
    "sets": (("fd", "kd", "pr", "dc"), ("fd", "kd", "pr", "dc")),
    "paired": (("psnr", "ssim", "ms-ssim", "gmsd", "lpips"), ("psnr", "ssim")),
    "bits": (("bound", "flow"), ("bound",)),
}
SHORT = {"prdc": ("pr", "dc"), "precision": ("pr",), "recall": ("pr",), "density": ("dc",), "coverage": ("dc",)}


@dataclass(frozen=True)
class Settings:
    """Everything that decides the figures; files by their absolute paths."""

    mode: str
    first: str
    second: str
    metrics: list[str] = field(default_factory=list)
    features: str = "pixels"
    weights: list[str] = field(default_factory=list)
    size: int = 0
    against: str = ""
    dataset: str = ""
    split: str = "test"
    y: bool = False
    crop: int = 0
    levels: int = 256
    subset: int = 1000
    groups: int = 10
    level: float = 0.95
    points: int = 100
    tolerance: float = 1e-4
    items: int = 0
    seed: int = 0
    block: int = 32
    device: str = "cpu"

    def path(self, name: str) -> Path:
        """The path in a field."""
        return Path(getattr(self, name))


def command(
    first: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLES|RESTORED|MODEL",
            help="A folder of pictures, a .npy or .npz file, an IDX file; with --bits a model.",
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="[REFERENCE|TRUTH|DATA]", help="The same, of real or true pictures; or --dataset."),
    ] = "",
    paired: Annotated[bool, typer.Option("--paired", help="Restored pictures against the truth, by name.")] = False,
    bits: Annotated[bool, typer.Option("--bits", help="Bits per dimension of pictures under a model.")] = False,
    metrics: Annotated[
        str, typer.Option(help="Of sets: fd,kd,prdc. Paired: psnr,ssim,ms-ssim,gmsd,lpips. Bits: bound,flow.")
    ] = "",
    features: Annotated[
        str, typer.Option(help="Of sets: pixels, module:attribute of yours, or inception with --weights.")
    ] = "pixels",
    weights: Annotated[
        list[Path], typer.Option(help="File of weights: of inception; for lpips of its trunk, and of its heads.")
    ] = [],  # noqa: B006
    size: Annotated[int, typer.Option(min=0, help="Of sets: bring pictures to this side first.")] = 0,
    against: Annotated[str, typer.Option(help="Paired: another method's results, compared picture by picture.")] = "",
    dataset: Dataset = "",
    split: Split = "test",
    y: Annotated[bool, typer.Option("--y", help="Paired: score the luma of BT.601, not RGB.")] = False,
    crop: Annotated[int, typer.Option(min=0, help="Paired: pixels left out on each side.")] = 0,
    levels: Annotated[int, typer.Option(min=0, help="Paired: round to so many levels first; 0: not.")] = 256,
    subset: Annotated[int, typer.Option(min=2, help="Of kd: pictures of a block of its mean.")] = 1000,
    groups: Annotated[int, typer.Option(min=0, help="Of the jackknife for errors of fd and prdc; 0: none.")] = 10,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the intervals over pictures.")] = 0.95,
    points: Annotated[int, typer.Option(min=1, help="Bits: noise levels of the bound for each picture.")] = 100,
    tolerance: Annotated[float, typer.Option(min=1e-12, help="Bits: of the flow.")] = 1e-4,
    items: Annotated[int, typer.Option("-n", min=0, help="Bits: only the first so many pictures; 0: all.")] = 0,
    block: Annotated[int, typer.Option(min=1, help="Pictures that run together, and are stored together.")] = 32,
    seed: Seed = 0,
    shard: Shard = "",
    engine: Engine = "",
    workers: Workers = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file of the result; with --shard and --engine a folder.")
    ] = None,
    device: Device = "cpu",
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare samples with real pictures, restorations with the truth, or a model with data; with errors."""
    if paired and bits:
        raise typer.BadParameter("--paired and --bits exclude each other.")
    mode = "paired" if paired else "bits" if bits else "sets"
    other, name = source(Path(second) if second else None, dataset, "two sets")
    if name and bits:
        raise typer.BadParameter("--dataset is for sets and --paired: name the data of --bits.")
    for wrong, option in (
        (against and not paired, "--against"),
        (y and not paired, "--y"),
        (crop and not paired, "--crop"),
    ):
        if wrong:
            raise typer.BadParameter(f"{option} is for --paired.")
    if weights and mode == "bits":
        raise typer.BadParameter("--weights are for inception and lpips.")
    wanted = Settings(
        mode=mode,
        first=first if bits and not Path(first).is_dir() else _absolute(first),
        second=str(other.absolute()),
        metrics=_metrics(metrics, mode, lpips=bool(weights)),
        features=features,
        weights=[str(path.absolute()) for path in weights],
        size=size,
        against=_absolute(against),
        dataset=name,
        split=split,
        y=y,
        crop=crop,
        levels=levels,
        subset=subset,
        groups=groups,
        level=level,
        points=points,
        tolerance=tolerance,
        items=items,
        seed=seed,
        block=block,
        device=device,
    )
    console, part = Console(as_json=as_json, quiet=quiet), shards.asked(shard, engine, workers, device)
    if part is not None and out is None:
        raise typer.BadParameter("--shard and --engine need --out: the folder of the parts.")
    run(wanted, out, console, dry=dry, part=part)


def run(
    wanted: Settings, out: Path | None, console: Console, *, dry: bool = False, part: Part | Cluster | None = None
) -> None:
    """Evaluates what the settings say, into the file `out`; the blocks of a part into the folder `out`."""
    from sfumato.cli import evaluations, options, outputs

    wanted = replace(wanted, device=options.device(shards.device(wanted.device)))
    kinds: dict[str, Any] = {"sets": evaluations.Sets, "paired": evaluations.Pairs, "bits": evaluations.Bits}
    work = kinds[wanted.mode](wanted)
    work.check()
    count = len(work)
    if dry:
        console.data(f"would evaluate {count} pictures ({', '.join(wanted.metrics)}) in blocks of {wanted.block}.")
        console.emit("done", dry_run=True)
        return
    if part is not None and out is not None:
        shards.run(work, count, wanted.block, part, out, console)
        return
    if out is not None and out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a JSON file.")
    job = shards.job(work, count, wanted.block)
    console.emit("start", command="evaluate", settings=asdict(wanted))
    block, files = work(), []
    with console.progress("evaluate") as tick:
        for i in range(len(job)):
            files += block(job.items(i)).values()
            tick(job.items(i).stop, count)
    result = figures(job.settings, job.inputs, files)
    if out is not None:
        kept = [name for name in ("first", "second", "against") if wanted.path(name).is_file()]
        with outputs.writing_beside(out) as folder:
            write(folder / out.name, result)
            inputs = {name: outputs.digest(wanted.path(name)) for name in kept}
            content = {"command": "evaluate", "settings": asdict(wanted), "inputs": inputs}
            outputs.write_manifest(folder, content)
    show(result, console)
    console.emit("done", **_plain({k: v for k, v in result.items() if k != "items"}))


def figures(settings: dict[str, Any], inputs: dict[str, Any], files: Iterable[bytes]) -> dict[str, Any]:
    """The result, from the files of all blocks in their order."""
    from sfumato.cli import evaluations

    wanted = Settings(**settings)
    of = evaluations.of_sets(wanted, inputs, files) if wanted.mode == "sets" else evaluations.of_items(wanted, files)
    return {"command": "evaluate", "settings": settings, "inputs": inputs, **of}


def write(path: Path, result: dict[str, Any]) -> None:
    """The result as JSON: what is infinite as "inf", what is not known as null."""
    path.write_text(json.dumps(_plain(result), indent=1, ensure_ascii=False) + "\n", "utf-8")


def show(result: dict[str, Any], console: Console) -> None:
    """A table of the figures."""
    wanted = Settings(**result["settings"])
    for line in lines(wanted, result):
        console.data(line)
    if wanted.mode != "sets":
        return
    if min(result["samples"], result["reference"]) < 10 * wanted.groups:
        console.note(
            f"no errors of fd and prdc: they take {10 * wanted.groups} pictures of each set, or fewer --groups."
        )
    if "fd" in wanted.metrics and min(result["samples"], result["reference"]) <= result["dimensions"]:
        console.warn(
            f"a Frechet distance of {result['dimensions']} features from {result['samples']} and {result['reference']} "
            "pictures is mostly bias: compare it only with figures of the same numbers, or take kd."
        )


def lines(wanted: Settings, result: dict[str, Any]) -> list[str]:
    """The table."""
    if wanted.mode == "sets":
        head = f"{result['samples']} samples, {result['reference']} of reference, {result['dimensions']} features: "
        rows = [[name, _number(f["value"]), f"+- {_number(f['error'])}" if _known(f["error"]) else ""]
                for name, f in result["figures"].items()]  # fmt: skip
        return [head + wanted.features, *_table(rows)]
    what = "luma" if wanted.y else "RGB or grey"
    how = f", {what}, border {wanted.crop}" if wanted.mode == "paired" else ""
    rows = []
    for name, f in result["figures"].items():
        rows.append([name, *_interval(f)])
        for other in ("against", "difference"):
            if other in f:
                rows.append([f"  {other}", *_interval(f[other])])
    return [f"{result['count']} pictures{how}; mean and {100 * wanted.level:g} % interval", *_table(rows)]


def _interval(figure: dict[str, float]) -> list[str]:
    known = _known(figure["low"])
    return [_number(figure["value"]), f"[{_number(figure['low'])}, {_number(figure['high'])}]" if known else ""]


def _table(rows: list[list[str]]) -> list[str]:
    wide = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c}".rstrip() for a, b, c in rows]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _known(value: float) -> bool:
    return not math.isnan(value)


def _plain(value: Any) -> Any:
    """What JSON holds."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _metrics(words: str, mode: str, *, lpips: bool) -> list[str]:
    """The metrics of a mode, from words with commas between."""
    known, usual = KNOWN[mode]
    if not words:
        return [*usual, *(["lpips"] if lpips and mode == "paired" else [])]
    found: list[str] = []
    for word in words.split(","):
        for name in SHORT.get(word.strip().lower(), (word.strip().lower(),)):
            one_of(name, known, f"metric of {'restored pictures' if mode == 'paired' else mode}")
            found += [name] if name not in found else []
    return found


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""
