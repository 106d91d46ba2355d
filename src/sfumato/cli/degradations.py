"""The degradations of `sfumato restore`: what each is, the options it takes, and which of them do not go together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

import typer

from sfumato.cli.restore_options import Settings


class Kind(StrEnum):
    """What has happened to the picture."""

    denoise = "denoise"
    inpaint = "inpaint"
    deblur = "deblur"
    blind_deblur = "blind-deblur"
    enlarge = "enlarge"
    colorize = "colorize"
    jpeg = "jpeg"
    mri = "mri"
    ct = "ct"
    quantize = "quantize"
    clip = "clip"
    camera_blur = "camera-blur"
    phase = "phase"
    sensing = "sensing"
    haze = "haze"
    network_blur = "network-blur"


@dataclass(frozen=True)
class Damage:
    """What happened, and how it is said on the command line.

    Args:
        says: in a few words.
        forms: options of typical calls, each with the class of `sfumato.operators` that it makes.
        options: those that it may have.
        simulated: those that it may have with --simulate alone, for a measured file holds them.
    """

    says: str
    forms: tuple[tuple[str, str], ...]
    options: tuple[str, ...] = ()
    simulated: tuple[str, ...] = ()


DAMAGES: dict[str, Damage] = {
    "denoise": Damage("noise", (("--sigma 0.1", "Identity"),)),
    "inpaint": Damage("parts are missing", (("--mask mask.png --sigma 0", "Mask"),), ("mask",)),
    "deblur": Damage(
        "a blur that is known",
        (
            ("--std 2 --sigma 0.01", "Blur"),
            ("--std 2 --border valid --sigma 0.01", "Convolution"),
            ("--kernel kernel.png --border reflect --sigma 0.01", "Convolution"),
            ("--kernel kernels.npz --sigma 0.01", "VaryingBlur"),
        ),
        ("kernel", "std", "border"),
    ),
    "blind-deblur": Damage(
        "a blur that nobody knows",
        (("--width 15", "Convolution"), ("--border circular", "Blur")),
        ("width", "border"),
    ),
    "enlarge": Damage(
        "too small",
        (
            ("--factor 2 --sigma 0", "Downsample"),
            ("--factor 2 --filter bicubic --sigma 0", "Separable"),
            ("--factor 2 --std 1 --sigma 0.01", "DecimatedBlur"),
        ),
        ("factor", "filter", "kernel", "std"),
    ),
    "colorize": Damage("no colors", (("--sigma 0", "Gray"),)),
    "jpeg": Damage(
        "a JPEG file; its own tables are read",
        (("", "JPEG"), ("--simulate --quality 10 --chroma 4:2:0", "JPEG")),
        (),
        ("quality", "chroma"),
    ),
    "mri": Damage(
        "k-space with gaps (docs/medical.md: the .npz file)",
        (
            ("--simulate --acceleration 4 --sigma 0.01", "Fourier"),
            ("--simulate --sampling radial --sigma 0.01", "Fourier"),
            ("--simulate --coils 8 --sampling poisson-disc --sigma 0.01", "SENSE"),
        ),
        (),
        ("acceleration", "sampling", "coils"),
    ),
    "ct": Damage(
        "projections (docs/medical.md: the .npz file)",
        (
            ("--simulate --views 60 --sigma 0.1", "Radon"),
            ("--simulate --views 60 --source 300 --sigma 0.1", "Radon"),
        ),
        (),
        ("views", "source"),
    ),
    "quantize": Damage("few levels", (("--bits 3", "Quantize"),), ("bits",)),
    "clip": Damage("overexposed", (("--exposure 2 --sigma 0.01", "Clip"),), ("exposure",)),
    "camera-blur": Damage(
        "a blur of light, before the file's curve",
        (("--std 2 --exposure 1.5 --sigma 0.01", "CameraBlur"),),
        ("kernel", "std", "border", "exposure"),
    ),
    "phase": Damage(
        "the sizes of a spectrum, without its phases",
        (("--simulate --margin 64 --sigma 0.01", "PhaseRetrieval"),),
        ("margin",),
    ),
    "sensing": Damage(
        "a few random sums in place of pixels",
        (
            ("--simulate --ratio 0.25 --sigma 0.01", "BlockSensing"),
            ("--simulate --ratio 0.25 --basis hadamard --sigma 0.01", "Hadamard"),
        ),
        (),
        ("ratio", "basis"),
    ),
    "haze": Damage(
        "haze of a known density, or too dark",
        (
            ("--transmission 0.5 --airlight 0.9 --sigma 0.02", "Veil"),
            ("--transmission depth.png --airlight 0.9 --sigma 0.02", "Veil"),
            ("--transmission 0.2 --airlight 0 --sigma 0.01", "Veil"),
        ),
        ("transmission", "airlight"),
    ),
    "network-blur": Damage(
        "a blur by a network of your own",
        (("--net camera.py --code code.npy --sigma 0.02", "NetworkBlur"),),
        ("net", "code"),
    ),
}

# Operators without a word of their own here, and why
ELSEWHERE = {
    "Compose": "two operators, one after the other: an object of Python",
    "Decoded": "made by itself of any operator where --model names a model of codes (--model latent)",
    "Function": "any function, of Python",
    "LinearFunction": "any linear function, of Python",
    "Matrix": "of vectors, not of pictures: --operator sensing is its form for these",
}

EXACT = ("jpeg", "quantize")  # rounding is all the noise there is
BORDERS = ("circular", "reflect", "zero", "valid")
WORDS = {  # options that are one of a few words
    "border": BORDERS,
    "filter": ("box", "bicubic"),
    "chroma": ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"),
    "sampling": ("random", "equispaced", "poisson-disc", "radial"),
    "basis": ("block", "hadamard"),
}

# what can be simulated: the option, what it is without it (0: it must be given), the least it may be
SIMULATED = {"jpeg": ("quality", 0, 1), "mri": ("acceleration", 4.0, 1.0), "ct": ("views", 60, 1)}
OWN = sorted({name for damage in DAMAGES.values() for name in (*damage.options, *damage.simulated)})
UNSET = {field.name: field.default for field in fields(Settings)}


def table() -> str:
    """Every degradation with typical calls, for a terminal."""
    lines = ["sfumato restore FILE --operator ..."]
    for kind, damage in DAMAGES.items():
        lines += ["", f"{kind}: {damage.says}"]
        lines += [f"  --operator {' '.join((kind, words)):<66} {made}".rstrip() for words, made in damage.forms]
    lines += ["", "From Python alone, or by themselves:"]
    return "\n".join([*lines, *(f"  {name}: {why}" for name, why in ELSEWHERE.items())])


def check(wanted: Settings) -> None:
    """Refuses options that are missing, or that belong to another operator.

    Raises:
        typer.BadParameter: naming the option.
    """
    damage = DAMAGES[wanted.operator]
    for name in OWN:
        if getattr(wanted, name) == UNSET[name] or name in damage.options:
            continue
        if name not in damage.simulated:
            owners = [kind for kind, other in DAMAGES.items() if name in (*other.options, *other.simulated)]
            raise typer.BadParameter(
                f"--{name} does not belong to --operator {wanted.operator}, it is for {', '.join(owners)}."
            )
        if not wanted.simulate:
            raise typer.BadParameter(f"--{name} belongs to --operator {wanted.operator} --simulate.")
    for name, words in WORDS.items():
        if getattr(wanted, name) not in ("", *words):
            known = f"{', '.join(words[:-1])} or {words[-1]}"
            raise typer.BadParameter(f"--{name} is {known}, got {getattr(wanted, name)!r}.")
    _check_blur(wanted)
    _check_range(wanted)
    _check_files(wanted)
    _check_simulated(wanted)


def _check_blur(wanted: Settings) -> None:
    if wanted.operator in ("deblur", "camera-blur") and bool(wanted.kernel) == bool(wanted.std):
        raise typer.BadParameter(
            f"--operator {wanted.operator} needs --kernel FILE or --std PIXELS (a Gaussian), one of them."
        )
    if wanted.operator == "blind-deblur" and wanted.simulate:
        raise typer.BadParameter("--operator blind-deblur has no --simulate: blur a picture with a kernel of your own.")
    if wanted.operator == "blind-deblur" and wanted.border in ("reflect", "zero"):
        raise typer.BadParameter("--operator blind-deblur has the borders valid and circular.")
    if wanted.operator == "enlarge":
        if wanted.factor < 2:
            raise typer.BadParameter("--operator enlarge needs --factor, at least 2.")
        if sum(map(bool, (wanted.filter, wanted.kernel, wanted.std))) > 1:
            raise typer.BadParameter("--operator enlarge has one of --filter, --kernel and --std: how it was reduced.")


def _check_range(wanted: Settings) -> None:
    if wanted.operator == "quantize" and (not wanted.bits or wanted.sigma):
        raise typer.BadParameter("--operator quantize needs --bits, 1 to 8, and has no --sigma.")
    if wanted.operator == "clip" and not wanted.exposure > 1.0:
        raise typer.BadParameter("--operator clip needs --exposure, above 1: how many times too bright the picture is.")
    share = wanted.share
    if wanted.operator == "haze" and (not wanted.transmission or (share is not None and not 0.0 < share <= 1.0)):
        raise typer.BadParameter(
            "--operator haze needs --transmission, the share of the light that arrives: above 0 and at most 1, or a "
            "picture of it."
        )


def _check_files(wanted: Settings) -> None:
    arrays = wanted.file.endswith((".npy", ".npz"))
    if wanted.operator == "inpaint" and not wanted.mask:
        raise typer.BadParameter("--operator inpaint needs --mask FILE: white where the picture was seen, black else.")
    if wanted.operator in ("phase", "sensing") and wanted.sigma is None:
        raise typer.BadParameter(
            f"--operator {wanted.operator} needs --sigma: noise of what is no picture is not estimated (0 for none)."
        )
    if wanted.operator == "phase" and not wanted.simulate and not arrays:
        raise typer.BadParameter(
            "--operator phase works on pictures with --simulate, and on the sizes of a spectrum, zero frequency in the "
            "middle, in a NumPy file (H, W) or (C, H, W): H and W of the picture and twice the margin."
        )
    if wanted.operator == "sensing" and not wanted.simulate and not wanted.file.endswith(".npz"):
        raise typer.BadParameter(
            "--operator sensing works on pictures with --simulate, and on a .npz file: sensed (C, H / b, W / b, m) and "
            "orthogonal rows (b * b, b * b) of each block, or sensed (C, m), order and size of a Hadamard transform."
        )
    if wanted.operator in ("mri", "ct") and not wanted.simulate and not wanted.file.endswith(".npz"):
        raise typer.BadParameter(
            f"--operator {wanted.operator} works on pictures and scans with --simulate, and on measured data in a .npz "
            "file (docs/medical.md): kspace, or sinogram, angles and size."
        )
    if wanted.operator == "network-blur" and not (wanted.net and (wanted.code or wanted.simulate)):
        raise typer.BadParameter(
            "--operator network-blur needs --net FILE.py, which defines net(x, code), and --code FILE.npy, the numbers "
            "that say which blur it was (--simulate draws some)."
        )


def _check_simulated(wanted: Settings) -> None:
    if wanted.simulate and wanted.operator in SIMULATED:
        name, usual, least = SIMULATED[wanted.operator]
        if (getattr(wanted, name) or usual) < least:
            raise typer.BadParameter(f"--operator {wanted.operator} --simulate needs --{name}, at least {least}.")
    if wanted.operator == "jpeg" and (wanted.sigma or wanted.quality > 100):
        raise typer.BadParameter("--operator jpeg has no --sigma, and --quality goes up to 100.")
