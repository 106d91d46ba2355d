"""Weights of published architectures by a rule from their names, and what the authors' code makes of them.

`published.npz` and `published_CODE.npz` (`make_published.py`) hold, for small settings of each code, the names and
shapes of its state dict, inputs and the outputs of the authors' network with `filled` weights: no weights, no code.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sfumato as sf
from sfumato.zoo import convert
from sfumato.zoo.formats import Found

HERE = Path(__file__).parent


def filled(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict: normal numbers seeded by each name, scaled so that no layer shrinks or blows up its input."""
    state = {}
    for key, shape in shapes.items():
        z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(shape))
        z = z / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1 * z + key.endswith("weight")
        state[key] = torch.tensor(z, dtype=torch.float32)
    return state


def picture(side: int = 16) -> Tensor:
    """The input of every case, (2, 3, side, side), about N(0, 1)."""
    shape = (2, 3, side, side)
    return filled({"picture": shape})["picture"] * float(np.sqrt(np.prod(shape[1:])))


def case(name: str, code: str = "", side: int = 16) -> dict[str, Any]:
    """What is kept of one setting: `state`, filled, and its arrays as tensors."""
    with np.load(HERE / f"published{code and '_'}{code}.npz") as data:
        found: dict[str, Any] = {
            key.partition("/")[2]: torch.from_numpy(data[key]) if data[key].dtype.kind in "fi" else str(data[key])
            for key in data.files
            if key.partition("/")[0] == name
        }
    return {**found, "x": picture(side), "state": filled(json.loads(found["shapes"]))}


def folder(at: Path, content: Any, **settings: Any) -> Found:
    """What `convert` finds in a file with this content; the model is in `at / "model"`."""
    torch.save(content, at / "weights.pt")
    return convert(at / "weights.pt", at / "model", settings=settings)


def converted(at: Path, content: Any, **settings: Any) -> sf.Model:
    """The model that `convert` makes of a file with this content."""
    folder(at, content, **settings)
    return sf.load(at / "model")
