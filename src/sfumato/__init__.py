"""sfumato: diffusion models under one formalism: the forward process, the denoiser, the sampler.

The parts are in `sf.processes`, `sf.denoisers`, `sf.samplers`, `sf.solvers`, `sf.operators`, `sf.guides`, `sf.grids`
and `sf.codecs`; the names below are those that a user types first. Everything is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sfumato import (
        codecs,
        data,
        denoisers,
        grids,
        guides,
        likelihood,
        metrics,
        nets,
        operators,
        processes,
        recipes,
        samplers,
        solvers,
        training,
        worlds,
        zoo,
    )
    from sfumato.denoisers import Estimate
    from sfumato.noise import Noise, Seeds
    from sfumato.operators import Measurement
    from sfumato.samplers import sample, trajectory
    from sfumato.worlds import GaussianWorld, MixtureWorld, TableWorld
    from sfumato.zoo import Model, load
    from sfumato.zoo.tables import forecast, impute

__version__ = "0.1.0"

_MODULES = (
    "codecs",
    "data",
    "denoisers",
    "grids",
    "guides",
    "likelihood",
    "metrics",
    "nets",
    "operators",
    "processes",
    "recipes",
    "samplers",
    "solvers",
    "training",
    "worlds",
    "zoo",
)
_NAMES = {
    "Estimate": "sfumato.denoisers",
    "GaussianWorld": "sfumato.worlds",
    "Measurement": "sfumato.operators",
    "MixtureWorld": "sfumato.worlds",
    "Model": "sfumato.zoo",
    "Noise": "sfumato.noise",
    "Seeds": "sfumato.noise",
    "TableWorld": "sfumato.worlds",
    "forecast": "sfumato.zoo.tables",
    "impute": "sfumato.zoo.tables",
    "load": "sfumato.zoo",
    "sample": "sfumato.samplers",
    "trajectory": "sfumato.samplers",
}

__all__ = [
    "Estimate",
    "GaussianWorld",
    "Measurement",
    "MixtureWorld",
    "Model",
    "Noise",
    "Seeds",
    "TableWorld",
    "codecs",
    "data",
    "denoisers",
    "forecast",
    "grids",
    "guides",
    "impute",
    "likelihood",
    "load",
    "metrics",
    "nets",
    "operators",
    "processes",
    "recipes",
    "sample",
    "samplers",
    "solvers",
    "training",
    "trajectory",
    "worlds",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"sfumato.{name}")
    else:
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_NAMES])
