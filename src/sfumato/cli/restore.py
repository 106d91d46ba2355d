"""`sfumato restore FILE`: a degraded picture, restored with a model as the prior."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli import restore_options as of
from sfumato.cli import shards
from sfumato.cli.building import build, plain, sensed, stored
from sfumato.cli.console import Console
from sfumato.cli.degradations import EXACT, Kind, check, table
from sfumato.cli.options import (
    Dataset,
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
    Split,
    Verbose,
    Workers,
    pairs,
    source,
)  # fmt: skip
from sfumato.cli.restore_options import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.engines import Cluster
    from sfumato.engines import Shard as Part
    from sfumato.operators import Measurement, Operator
    from sfumato.solvers import Solver
    from sfumato.zoo import Model


FAINTEST = 0.01  # the least noise that a blind restoration supposes (ours)


def _operators(wanted: bool) -> None:
    if wanted:
        typer.echo(table())
        raise typer.Exit()


def command(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The picture, NumPy file or scan (NIfTI, DICOM), already degraded unless --simulate; or a folder: of "
            "pictures, or of the files of one DICOM series."
        ),
    ] = None,
    *,
    operator: Annotated[
        Kind, typer.Option(help="What has happened to it, which is to be undone; --operators says more of each.")
    ],
    operators: Annotated[
        bool,
        typer.Option(
            "--operators", callback=_operators, is_eager=True, help="List the operators with their options, and stop."
        ),
    ] = False,
    dataset: Dataset = "",
    split: Split = "test",
    model: Annotated[
        str, typer.Option(help="A shipped name, a folder, or a Hub id; head for scans, mri and ct, else photo.")
    ] = "",
    mask: of.Mask = "",
    kernel: of.Kernel = "",
    std: of.Std = 0.0,
    width: of.Width = 0,
    factor: of.Factor = 0,
    filter_: of.Filter = "",
    border: of.Border = "",
    sigma: Annotated[
        float | None, typer.Option(min=0.0, help="Noise in the input, black 0 to white 1; estimated if not given.")
    ] = None,
    solver: Annotated[str, typer.Option(help="Key of a solver; chosen by the operator if not given.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Plausible results; from 2 on with their spread.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the solver.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples that run together.")] = 4,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="One row or window at a time, gradients computed twice.")
    ] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="The input is clean: degrade it first, and score.")
    ] = False,
    quality: of.Quality = 0,
    chroma: of.Chroma = "",
    acceleration: of.Acceleration = 0.0,
    sampling: of.Sampling = "",
    coils: of.Coils = 0,
    views: of.Views = 0,
    source_: of.Source = 0.0,
    bits: of.Bits = 0,
    exposure: of.Exposure = 0.0,
    margin: of.Margin = 0,
    ratio: of.Ratio = 0.0,
    basis: of.Basis = "",
    transmission: of.Transmission = "",
    airlight: of.Airlight = None,
    net: of.Net = "",
    code: of.Code = "",
    seed: Seed = 0,
    settings: Set = [],  # noqa: B006
    shard: Shard = "",
    engine: Engine = "",
    workers: Workers = 1,
    block: Annotated[int, typer.Option(min=1, help="Folders: pictures that are stored together.")] = 1,
    out: Out = Path("restored"),
    device: Device = "cpu",
    dtype: Dtype = Precision.float32,
    as_json: Json = False,
    dry: Dry = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Restore a picture: the result, the samples, a map of what is uncertain, and a manifest that repeats the run."""
    from sfumato.cli import scans

    console, part = Console(as_json=as_json, quiet=quiet), shards.asked(shard, engine, workers, device)
    file, name = source(file, dataset, "a picture")
    model = model or scans.model(file, operator.value, console)
    wanted = Settings(
        file=str(file.absolute()),
        operator=operator.value,
        model=str(Path(model).absolute()) if Path(model).is_dir() else model,
        mask=_absolute(mask),
        kernel=_absolute(kernel),
        std=std,
        factor=factor,
        filter=filter_,
        border=border,
        sigma=sigma,
        solver=solver,
        samples=samples,
        steps=steps,
        seed=seed,
        batch=batch,
        low_memory=low_memory,
        fields=pairs(settings),
        simulate=simulate,
        device=device,
        dtype=dtype.value,
        quality=quality,
        acceleration=acceleration,
        views=views,
        width=width,
        dataset=name,
        split=split,
        bits=bits,
        exposure=exposure,
        margin=margin,
        chroma=chroma,
        sampling=sampling,
        coils=coils,
        source=source_,
        ratio=ratio,
        basis=basis,
        transmission=transmission,
        airlight=airlight,
        net=_absolute(net),
        code=_absolute(code),
    )
    if wanted.transmission and wanted.share is None:
        wanted = replace(wanted, transmission=_absolute(transmission))
    if name or (file.is_dir() and not scans.is_scan(file)):
        folder(wanted, out, console, part, block, dry=dry)
    elif shard or engine:
        raise typer.BadParameter(f"--shard and --engine are for a folder of pictures, {file} is none.")
    else:
        run(wanted, out, console, dry=dry)


def folder(
    wanted: Settings,
    out: Path,
    console: Console,
    part: Part | Cluster | None = None,
    block: int = 1,
    *,
    dry: bool = False,
) -> None:
    """Restores every picture of a folder into `out`: a shard's blocks, or all of them and then joined."""
    from sfumato.cli import merge
    from sfumato.cli.folders import Pictures
    from sfumato.engines.serial import Shard

    check(wanted)
    work = Pictures.of(replace(wanted, device=shards.device(wanted.device)))
    if dry:
        console.data(f"would restore {len(work.names)} pictures of {wanted.file}, in blocks of {block}, into {out}.")
        console.emit("done", dry_run=True)
        return
    shards.run(work, len(work.names), block, part or Shard(), out, console)
    if part is None:
        merge.run([out], out, console)


def run(wanted: Settings, out: Path, console: Console, *, dry: bool = False, model: Model | None = None) -> None:
    """Restores what the settings say, into `out`; with `model`, where it is loaded already."""
    from sfumato import zoo
    from sfumato.cli import options, outputs, restored, scans

    scan = scans.opened(wanted) if not wanted.dataset and scans.is_scan(wanted.path("file")) else None
    if wanted.path("file").is_dir() and scan is None:
        folder(wanted, out, console, dry=dry)
        return
    check(wanted)
    if wanted.simulate and wanted.sigma is None and wanted.operator not in EXACT:
        raise typer.BadParameter("--simulate needs --sigma: how much noise to add (0 for none).")
    began = time.perf_counter()
    where = options.device(wanted.device)
    model = model or zoo.load(wanted.model, device=where)
    m, clean, grey = measure(wanted, model.event, console) if scan is None else scans.measure(scan, wanted, console)
    solved = plain(m)
    method, reason = choose(wanted, model, solved)
    need = model.memory(solved, method, samples=wanted.samples, batch=wanted.batch, low_memory=wanted.low_memory)
    console.emit(
        "start",
        command="restore",
        settings=asdict(wanted),
        solver=repr(method),
        reason=reason,
        sigma=m.sigma,
        memory=need,
    )
    console.note(f"memory: tensors of about {need / 1e6:.0f} MB beside the weights.")
    if dry:
        console.data(f"would restore {wanted.file} with {method!r}, sigma {m.sigma:.4g}, into {out}. {reason}".strip())
        console.emit("done", dry_run=True)
        return
    if reason:
        console.note(f"solver: {method!r}: {reason}")
    with console.progress("restore") as tick:
        result = model.restore(
            solved,
            solver=method,
            samples=wanted.samples,
            seed=wanted.seed,
            batch=wanted.batch,
            low_memory=wanted.low_memory,
            same_noise=scan is not None,
            progress=tick,
        )
    found = restored.judge(m, result, clean, console)
    content = {
        "command": "restore",
        "settings": asdict(wanted),
        "solver": repr(method),
        "reason": reason,
        "sigma": m.sigma,
        "sigma_estimated": wanted.sigma is None and wanted.operator not in EXACT,
        "restored": "the one sample" if wanted.samples == 1 else f"the mean of {wanted.samples} samples",
        "streams": "Seeds.keyed(seed, (item, sample))",
        "nfe": result.nfe,
        "inputs": {name: outputs.digest_of(wanted.path(name)) for name in wanted.files},
        **found,
        "seconds": round(time.perf_counter() - began, 3),
    }
    with outputs.writing(out) as part:
        content |= restored.write(part, m, result, grey) if scan is None else scans.write(part, scan, result)
        outputs.write_manifest(part, content)
        names = sorted(path.name for path in part.iterdir())
    for name in names:
        console.emit("item", path=str(out / name))
        console.data(str(out / name))
    for name, value in found.items():
        console.data(f"{name} {value:.4g}")
    console.note(f"{'restored.png' if scan is None else 'restored'} is {content['restored']}.")
    console.emit("done", out=str(out), nfe=result.nfe, sigma=m.sigma, **found)


def measure(
    wanted: Settings, event: tuple[int | None, ...], console: Console
) -> tuple[Measurement, Tensor | None, bool]:
    """The measurement in data space, the clean picture where it is known, and whether the result is to be grey.

    A grey picture is given to a color model three times over.
    """
    import torch

    from sfumato.cli import inputs, scans
    from sfumato.noise import Seeds
    from sfumato.operators import Measurement

    if wanted.operator == "jpeg" and not wanted.simulate:
        m = stored(wanted, event, console)
        return m, None, len(m.operator.tables) < m.event[0]  # type: ignore[attr-defined]
    if wanted.operator in ("mri", "ct") and not wanted.simulate:
        return scans.measured(wanted, console), None, False
    if wanted.operator == "sensing" and not wanted.simulate:
        return sensed(wanted, console), None, False
    x = inputs.read(wanted.path("file")).to(device=wanted.device, dtype=getattr(torch, wanted.dtype))
    single = x.ndim == 3 and x.shape[0] == 1
    grey = single and len(event) == 3 and event[0] == 3 and wanted.operator != "colorize"
    if grey:
        console.note("a grey picture and a color model: it sees the one channel three times, the result is grey again.")
        x = x.expand(3, *x.shape[1:])
    operator, x = build(wanted, x), x.unsqueeze(0)
    if wanted.simulate:
        noise = Seeds.keyed(wanted.seed, ["measurement"])
        return Measurement.simulate(operator, x, sigma=wanted.sigma or 0.0, noise=noise), x, grey
    if wanted.operator == "colorize" and not single:
        console.warn("the input has colors: its luma is taken.")
        x = operator(x)
    if wanted.operator == "quantize":
        return Measurement(operator, operator(x)), None, grey  # its file's numbers, at the middles of their bins
    faintest = 0.0
    if wanted.operator == "blind-deblur":
        faintest = FAINTEST
        console.warn("blind deblurring often makes photographs worse (`sfumato show gibbs-ddrm`): look at kernel.png.")
    return observed(operator, x, wanted.sigma, console, faintest), None, grey


def observed(
    operator: Operator, x: Tensor, sigma: float | None, console: Console, faintest: float = 0.0
) -> Measurement:
    """The measurement that a degraded input x (B, *event) is; noise not stated is estimated, `faintest` at least."""
    from sfumato.operators import Measurement
    from sfumato.operators.levels import estimate_sigma

    seen = getattr(operator, "seen", None)
    y = x if seen is None else x * seen(x)
    if sigma is None:
        sigma = estimate_sigma(y, None if seen is None else seen(y))
        if sigma < faintest:
            console.note(
                f"sigma is not given: {sigma:.4g} estimated; {faintest} taken, for no one kernel fits so well."
            )
            return Measurement(operator, y, faintest)
        console.note(f"sigma is not given: {sigma:.4g} estimated from the finest details (texture counts as noise).")
    return Measurement(operator, y, sigma)


def choose(wanted: Settings, model: Model, m: Measurement) -> tuple[Solver, str]:
    """The solver with its settings, and why, where it was not named."""
    from sfumato.cli import options
    from sfumato.cli.methods import method
    from sfumato.solvers import GibbsDDRM, Solver
    from sfumato.zoo import defaults

    texts, z = (
        {**wanted.fields, **({} if wanted.steps is None else {"steps": str(wanted.steps)})},
        m.to_model(model.codec),
    )
    if wanted.solver:
        make = method(wanted.solver, "solvers", Solver)
        solver, reason = make(**options.checked(make, texts)), ""
    else:
        if wanted.operator == "blind-deblur":
            solver, reason = GibbsDDRM.photographs(), "the kernel is not known."
        else:
            solver, reason = defaults.solver(z, wanted.samples, denoiser=model.denoiser)
        solver = replace(solver, **options.checked(type(solver), texts))  # type: ignore[type-var]
    if wanted.operator == "blind-deblur" and type(solver).found is Solver.found:
        raise typer.BadParameter(f"--solver {wanted.solver} looks for no kernel: take gibbs-ddrm or blind-dps.")
    try:
        solver.check(z.operator)
    except TypeError as error:
        raise typer.BadParameter(str(error)) from None
    return solver, reason


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""
