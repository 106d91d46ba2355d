"""`sfumato enhance FILE --model RUN`: a damaged picture or sound, by a model that was trained on pairs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.console import Console
from sfumato.cli.options import Device, Dry, Dtype, Json, Out, Precision, Quiet, Seed, Set, Verbose, pairs

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.zoo import Model


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result."""

    file: str
    model: str
    damage: str = ""
    factor: float = 0.0
    mask: str = ""
    samples: int = 1
    steps: int | None = None
    sampler: str = ""
    batch: int = 4
    seed: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    dtype: str = "float32"

    def path(self, name: str) -> Path:
        """The path in a field."""
        return Path(getattr(self, name))


def command(
    file: Annotated[Path, typer.Argument(help="The damaged picture, or a sound; a clean picture with --damage.")],
    *,
    model: Annotated[str, typer.Option(help="A shipped name, a folder, a training run's folder, or a Hub id.")],
    damage: Annotated[
        str, typer.Option(help="The picture is clean: damage it first, and score: rain:heavy, jpeg:10 ...")
    ] = "",
    factor: Annotated[
        float, typer.Option(min=0.0, help="Enlarge by this first, as models of enlargement expect; theirs by default.")
    ] = 0.0,
    mask: Annotated[str, typer.Option(help="A picture of where it is damaged, white there, for models of masks.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Plausible results; from 2 on with their spread.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Network calls; the model's if not given.")] = None,
    sampler: Annotated[str, typer.Option(help="Key of a sampler; the model's if not given.")] = "",
    batch: Annotated[int, typer.Option(min=1, help="Samples that run together.")] = 4,
    seed: Seed = 0,
    settings: Set = [],  # noqa: B006
    out: Out = Path("enhanced"),
    device: Device = "cpu",
    dtype: Dtype = Precision.float32,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Restore a picture or a sound with a model that has seen such damage: the result, its samples, and a manifest.

    A vocoder is given a sound too, and makes one of its mel frames."""
    fields = pairs(settings)
    wanted = Settings(
        str(file), model, damage, factor, mask, samples, steps, sampler, batch, seed, fields, device, dtype.value
    )
    if fields and not sampler:
        raise typer.BadParameter("--set belongs to a sampler: name it with --sampler.")
    run(wanted, out, Console(as_json=as_json, quiet=quiet), dry=dry)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False) -> None:
    """Restores what the settings say, into `out`."""
    from sfumato import metrics, zoo
    from sfumato.cli import options, outputs, restored
    from sfumato.cli.methods import method
    from sfumato.samplers import Sampler

    began = time.perf_counter()
    model = zoo.load(wanted.model, device=options.device(wanted.device))
    y, beside, clean = given(wanted, model)
    kind = method(wanted.sampler, "samplers", Sampler) if wanted.sampler else None
    sampler: Any = kind and kind(**options.checked(kind, wanted.fields))
    console.emit("start", command="enhance", settings=asdict(wanted))
    if dry:
        size = " x ".join(map(str, y.shape[2:])) + (" samples" if y.ndim == 3 else "")
        console.data(f"would enhance {wanted.file}, {size}, with {wanted.model}, into {out}")
        console.emit("done", dry_run=True)
        return
    with console.progress("enhance") as tick:
        result = model.enhance(
            y, beside=beside, samples=wanted.samples, seed=wanted.seed, steps=wanted.steps, sampler=sampler,
            batch=wanted.batch, progress=tick,
        )  # fmt: skip
    found: dict[str, float] = {}
    if clean is not None:
        found = {"psnr": float(metrics.psnr(result.mean.clamp(0.0, 1.0), clean).mean())}
        found["psnr_input"] = float(metrics.psnr(y, clean).mean())
    several = "the first of" if y.ndim == 3 else "the mean of"  # phases of sounds differ: their mean is no sound
    content = {
        "command": "enhance",
        "settings": asdict(wanted),
        "sampler": result.solver,
        "restored": "the one sample" if wanted.samples == 1 else f"{several} {wanted.samples} samples",
        "streams": "Seeds.keyed(seed, (item, sample))",
        "nfe": result.nfe,
        "inputs": {name: outputs.digest_of(wanted.path(name)) for name in ("file", "mask") if getattr(wanted, name)},
        **found,
        "seconds": round(time.perf_counter() - began, 3),
    }
    with outputs.writing(out) as part:
        if y.ndim == 3:
            restored.sounds(part, result, model.config["hertz"])
        else:
            content |= restored.pictures(part, y, result)
        outputs.write_manifest(part, content)
        names = sorted(path.name for path in part.iterdir())
    for name in names:
        console.emit("item", path=str(out / name))
        console.data(str(out / name))
    for name, value in found.items():
        console.data(f"{name} {value:.4g}")
    console.note(f"restored.{'wav' if y.ndim == 3 else 'png'} is {content['restored']}.")
    console.emit("done", out=str(out), nfe=result.nfe, **found)


def given(wanted: Settings, model: Model) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """(y, what is told beside it, the clean picture where it is known), one row each, data space.

    Raises:
        typer.BadParameter: for an unknown damage, or an enlargement and a damage at once.
        ValueError: for a picture or a mask that does not fit.
    """
    import torch

    from sfumato.cli import inputs
    from sfumato.data import damages
    from sfumato.data.resizing import resized
    from sfumato.noise import Noise

    dtype = getattr(torch, wanted.dtype)
    if "hertz" in model.config:
        return heard(wanted, model).to(device=wanted.device, dtype=dtype), {}, None
    x = inputs.read(wanted.path("file"))
    if len(x) == 1 and model.event[0] == 3:
        x = x.expand(3, -1, -1)
    beside: dict[str, Tensor] = {}
    clean = None
    if wanted.damage:
        try:
            damage = damages.parse(wanted.damage)
        except ValueError as error:
            raise typer.BadParameter(f"--damage: {error}") from None
        parts = damage(x, Noise(wanted.seed))
        clean, x = x, parts.pop("image")
        beside = parts
    else:
        trained = str(model.config.get("training", {}).get("damage", ""))
        factor = wanted.factor or (getattr(damages.parse(trained), "factor", 1.0) if trained else 1.0)
        if factor > 1.0:
            size = tuple(round(n * factor) for n in x.shape[1:])
            x = resized(x, size, factor).clamp(0.0, 1.0)
    if wanted.mask:
        mask = inputs.read(wanted.path("mask")).mean(0, keepdim=True)
        if mask.shape[1:] != x.shape[1:]:
            sizes = " and ".join("{} x {}".format(*v.shape[1:]) for v in (mask, x))
            raise ValueError(f"the mask and the picture differ in size: {sizes}.")
        beside["mask"] = (mask >= 0.5).float()
    rows = {key: value[None].to(device=wanted.device, dtype=dtype) for key, value in beside.items()}
    return x[None].to(device=wanted.device, dtype=dtype), rows, None if clean is None else clean[None].to(dtype)


def heard(wanted: Settings, model: Model) -> Tensor:
    """The sound (1, 1, L) as the model takes it, data space, its channels averaged.

    Raises:
        typer.BadParameter: for an option of pictures.
        ValueError: for a sound that does not fit.
    """
    import torch

    from sfumato.data.wave import read_wave
    from sfumato.zoo import files

    for name in ("damage", "factor", "mask"):
        if getattr(wanted, name):
            raise typer.BadParameter(f"--{name} is for pictures: this model is for sounds; leave it out.")
    samples, hertz = read_wave(wanted.path("file"))
    if not samples.size:
        raise ValueError(f"{wanted.file} holds no sound: it has no samples.")
    recipe = files.made(model.config)
    if not hasattr(recipe, "received"):
        raise ValueError("this model makes sounds of nothing: `sfumato sample` draws from it.")
    found: Tensor = recipe.received(torch.from_numpy(samples.mean(0))[None, None], hertz)
    return found
