"""Features by name: what the distances of sets of pictures are measured on."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.inception import Inception


@dataclass(frozen=True)
class Features:
    """A function from pictures (B, C, H, W) in [0, 1] to features (B, d).

    Attributes:
        name: how they were named; it belongs to every figure that is measured on them.
        inception: whether they are those of the Inception of FID: only then is the Frechet distance called FID.
        any_size: whether pictures of all sizes have features that can be compared.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    inception: bool = False
    any_size: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, d), float32.

        Raises:
            ValueError: if the function does not give one row a picture, or gives what is no number.
        """
        with torch.no_grad():
            found = self.function(x)
        if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != len(x):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"the features {self.name} of {len(x)} pictures are to be ({len(x)}, d), got {what}.")
        found = found.flatten(1).float()
        if not bool(torch.isfinite(found).all()):
            raise ValueError(f"the features {self.name} hold NaN or infinite numbers.")
        return found


def named(name: str, weights: Mapping[str, Tensor] | None = None, *, device: torch.device | str = "cpu") -> Features:
    """The features of a name.

    Args:
        name: "pixels"; "inception", with its weights; or "module:attribute", a callable of yours (or an nn.Module)
            from pictures (B, C, H, W) in [0, 1] to (B, d), looked for in the working folder too.
        weights: the state dict of the Inception of FID, which is not shipped.
        device: where the network is put.

    Raises:
        ValueError: for another name, a module that does not have it, or weights that are missing or not asked for.
    """
    if name == "inception":
        if weights is None:
            raise ValueError(
                "the features inception need their weights, which are not shipped: give the file "
                "pt_inception-2015-12-05-6726825d.pth with --weights."
            )
        return Features(name, Inception.load(weights).to(device), inception=True, any_size=True)
    if weights is not None:
        raise ValueError(f"weights are for the features inception, got them for {name!r}: leave them out.")
    if name == "pixels":
        return Features(name, pixels)
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"no features {name!r}: pixels, inception (with its weights), or module:attribute of yours.")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the features {name!r} cannot be imported: {error}.") from None
    if isinstance(found, nn.Module):
        found = found.to(device).eval()
    if not callable(found):
        raise ValueError(f"{name} is no function of pictures, got {type(found).__name__}.")
    return Features(name, found)


def pixels(x: Tensor) -> Tensor:
    """The pictures themselves, (B, C H W)."""
    return x.flatten(1)


def resized(x: Tensor, size: int) -> Tensor:
    """Pictures (B, C, H, W) as (B, C, size, size), bicubic with antialiasing, held to [0, 1]."""
    return F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0.0, 1.0)
