"""The operators of `sfumato restore`, built from its settings and files."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.cli.degradations import SIMULATED

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.console import Console
    from sfumato.cli.restore_options import Settings
    from sfumato.operators import Measurement, Operator

WIDTH = 15  # taps of a kernel that is to be found
RATIO = 0.25  # share of the numbers that compressed sensing measures


def build(wanted: Settings, x: Tensor) -> Operator:
    """The operator for an input x (C, H, W): the degraded picture, or the clean one with --simulate.

    Raises:
        ValueError: if the mask has another size, the kernel is no kernel, or a margin leaves no picture.
    """
    from sfumato import operators

    kind, (height, width) = wanted.operator, x.shape[-2:]
    if kind == "denoise":
        return operators.Identity()
    if kind == "inpaint":
        mask = _map(wanted, "mask", (height, width))
        return operators.Mask((mask >= 0.5).float())
    if kind == "colorize":
        return operators.Gray.luma()
    if kind in ("deblur", "blind-deblur", "camera-blur"):
        return _blurred(wanted, (height, width))
    if kind == "quantize":
        return operators.Quantize(wanted.bits, low=0.0, high=1.0)
    if kind == "clip":
        return operators.Clip(wanted.exposure, low=0.0, high=1.0)
    if kind == "phase":
        if not wanted.simulate and min(height, width) <= 2 * wanted.margin:
            raise ValueError(f"a spectrum of {width} x {height} leaves no picture inside a margin of {wanted.margin}.")
        return operators.PhaseRetrieval(wanted.margin)
    if kind == "haze":
        light = 1.0 if wanted.airlight is None else wanted.airlight
        share = wanted.share
        return operators.Veil.haze(_map(wanted, "transmission", (height, width)) if share is None else share, light)
    if kind == "network-blur":
        return _network(wanted)
    if kind == "enlarge":
        return _reduced(wanted, (height, width))
    return _simulated(wanted, x)


def plain(m: Measurement) -> Measurement:
    """The linear problem that a known veil is, y - veil = factor x + n, which any solver serves; another m itself."""
    import torch

    from sfumato.operators import Blur, Identity, Measurement, VaryingBlur, Veil
    from sfumato.operators.base import cast

    if not isinstance(m.operator, Veil):
        return m
    factor, veil = m.operator.parameters
    y = m.y - cast(veil, m.y)
    if isinstance(factor, float):
        return Measurement(Identity(), y / factor, m.sigma / factor)
    pixel = Blur(torch.ones(1, 1), (y.shape[-2], y.shape[-1]))
    return Measurement(VaryingBlur((pixel,), factor.unsqueeze(0)), y, m.sigma)  # times the map, pixel by pixel


def stored(wanted: Settings, event: tuple[int | None, ...], console: Console) -> Measurement:
    """What a JPEG file holds, with its own tables and sampling, for a model of this event."""
    import torch

    from sfumato.data.jpeg import read_jpeg, turned

    m = read_jpeg(wanted.path("file"), channels=event[0])
    if turned(wanted.path("file")):
        console.warn("the file says that viewers turn it: the result lies as it is stored.")
    return replace(m, y=m.y.to(device=wanted.device, dtype=getattr(torch, wanted.dtype)))


def sensed(wanted: Settings, console: Console) -> Measurement:
    """What a compressing camera measured, of a picture in [0, 1]."""
    import torch

    from sfumato.data import sensed

    assert wanted.sigma is not None
    m = sensed.read(wanted.path("file"), wanted.sigma)
    console.note(f"{m.y[0].numel()} numbers were measured for a picture of {math.prod(m.event)}.")
    return replace(m, y=m.y.to(device=wanted.device, dtype=getattr(torch, wanted.dtype)))


def _map(wanted: Settings, name: str, size: tuple[int, int]) -> Tensor:
    """A number for each pixel, (H, W), from the file that an option names.

    Raises:
        ValueError: if it has another size.
    """
    from sfumato.cli import inputs

    found = inputs.read(wanted.path(name)).mean(0)
    if tuple(found.shape) != size:
        raise ValueError(
            f"the {name} is {found.shape[1]} x {found.shape[0]} pixels, the picture {size[1]} x {size[0]}: take one "
            "size."
        )
    return found


def _blurred(wanted: Settings, size: tuple[int, int]) -> Operator:
    from sfumato import operators
    from sfumato.solvers import GibbsDDRM

    if wanted.operator == "blind-deblur":
        first = GibbsDDRM.kernel(wanted.width or WIDTH)
        return operators.Blur(first, size) if wanted.border == "circular" else operators.Convolution(first, "valid")
    blur = _blur(wanted, size)
    return blur if wanted.operator == "deblur" else operators.CameraBlur(blur, wanted.exposure or 1.0)


def _blur(wanted: Settings, size: tuple[int, int]) -> Operator:
    from sfumato import operators

    borders: Any = wanted.border or "circular"
    if wanted.std:
        if borders == "circular":
            return operators.Blur.gaussian(size, wanted.std)
        taps = min(61, 2 * int(4 * wanted.std + 0.5) + 1)
        return operators.Convolution.gaussian(wanted.std, width=taps, padding=borders)
    if wanted.kernel.endswith(".npz") and (varying := _varying(wanted, size)) is not None:
        if borders != "circular":
            raise ValueError(f"kernels that vary go with --border circular, got {borders}.")
        return varying
    kernel = _kernel(wanted)
    return operators.Blur(kernel, size) if borders == "circular" else operators.Convolution(kernel, borders)


def _kernel(wanted: Settings) -> Tensor:
    """The taps in a file, of sum 1."""
    from sfumato.cli import inputs

    kernel = inputs.read(wanted.path("kernel")).mean(0)
    if not float(kernel.sum()) > 0.0:
        raise ValueError(f"the kernel {wanted.kernel} is black: it needs a positive sum.")
    return kernel / kernel.sum()


def _varying(wanted: Settings, size: tuple[int, int]) -> Operator | None:
    """A blur that changes over the picture, of a .npz file that holds `kernels` and `weights`; None for another."""
    import torch

    from sfumato import operators
    from sfumato.data.numpy_files import read_arrays

    held = read_arrays(wanted.path("kernel"))
    if set(held) != {"kernels", "weights"}:
        return None
    kernels, weights = (torch.from_numpy(held[name]).float() for name in ("kernels", "weights"))
    if kernels.ndim != 3 or not bool((kernels.sum((1, 2)) > 0).all()):
        raise ValueError(
            f"kernels are (K, h, w), each of a positive sum, got {tuple(kernels.shape)} in {wanted.kernel}."
        )
    return operators.VaryingBlur(tuple(operators.Blur(k / k.sum(), size) for k in kernels), weights)


def _reduced(wanted: Settings, size: tuple[int, int]) -> Operator:
    """The reduction by which the input was made, or is to be made."""
    from sfumato import operators

    r = 1 if wanted.simulate else wanted.factor
    large = (size[0] * r, size[1] * r)
    if wanted.filter == "bicubic":
        return operators.Downsample.bicubic(wanted.factor, large)
    if wanted.std:
        return operators.DecimatedBlur(operators.Blur.gaussian(large, wanted.std).kernel, large, wanted.factor)
    if wanted.kernel:
        return operators.DecimatedBlur(_kernel(wanted), large, wanted.factor)
    return operators.Downsample(wanted.factor)


def _network(wanted: Settings) -> Operator:
    """The user's own network, with the code of a file or one that is drawn."""
    import importlib.util

    import torch

    from sfumato import operators
    from sfumato.cli import inputs
    from sfumato.data.files import present
    from sfumato.noise import Seeds

    path = present(wanted.path("net"))
    spec = importlib.util.spec_from_file_location("camera", path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file: --net names one that defines net(x, code).")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = getattr(module, "net", None)
    if not callable(net):
        raise ValueError(f"{path} defines no function or module net(x, code).")
    if isinstance(net, torch.nn.Module):
        net = net.to(wanted.device)
    if wanted.code:
        return operators.NetworkBlur(net, inputs.read(wanted.path("code"))[None])
    size = getattr(module, "SIZE", (512, 2, 2))
    return operators.NetworkBlur.drawn(net, Seeds.keyed(wanted.seed, ["code"]).streams[0], size)


def _simulated(wanted: Settings, x: Tensor) -> Operator:
    """What is measured of a clean picture: a JPEG file, k-space, projections, sums."""
    import torch

    from sfumato import operators
    from sfumato.noise import Seeds
    from sfumato.operators.sense import birdcage

    size = (x.shape[-2], x.shape[-1])
    if wanted.operator == "jpeg":
        return operators.JPEG.quality(size, wanted.quality, wanted.chroma or "4:2:0", low=0.0, high=1.0)
    if wanted.operator == "ct":
        views = wanted.views or int(SIMULATED["ct"][1])
        if wanted.source:
            return operators.Radon.fan(size, views, source=wanted.source)
        return operators.Radon.parallel(size, views)
    if wanted.operator == "sensing":
        noise, ratio = Seeds.keyed(wanted.seed, ["rows"]).streams[0], wanted.ratio or RATIO
        if wanted.basis == "hadamard":
            order = noise.permutation(math.prod(size))
            others = order != 0  # the mean is always measured: without it the colors are anyone's guess
            return operators.Hadamard(torch.cat([order[~others], order[others]]), round(ratio * len(order)), size)
        return operators.BlockSensing.random(noise, ratio=ratio)
    mask = _mask(wanted, size)
    if not wanted.coils:
        return operators.Fourier(mask)
    if len(x) != 1:
        raise ValueError(f"coils see a picture of one channel, got {len(x)}: take a grey picture and --model head.")
    return operators.SENSE(birdcage(size, wanted.coils), mask)


def _mask(wanted: Settings, size: tuple[int, int]) -> Tensor:
    """The points of k-space that are measured."""
    from sfumato.noise import Seeds
    from sfumato.operators import kspace

    acceleration = wanted.acceleration or SIMULATED["mri"][1]
    noise = Seeds.keyed(wanted.seed, ["columns"]).streams[0]
    if wanted.sampling == "radial":
        return kspace.radial(size, max(1, round(min(size) / acceleration)))
    centre = 0.32 / acceleration  # fastMRI's centres, 0.08 of the columns at 4 and 0.04 at 8
    if wanted.sampling == "equispaced":
        return kspace.equispaced(size, acceleration=acceleration, centre=centre)
    if wanted.sampling == "poisson-disc":
        return kspace.poisson_disc(size, noise, acceleration=acceleration, centre=centre)
    return kspace.columns(size, noise, acceleration=acceleration, centre=centre)
