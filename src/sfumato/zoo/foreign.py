"""Published checkpoints of other codes as models of ours: a folder that `load` takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato import recipes
from sfumato.denoisers import Denoiser
from sfumato.zoo import files
from sfumato.zoo.formats import Found, compvis, diffusers, edm, guided, lucid, reading, score_sde, sr3
from sfumato.zoo.formats.base import PICTURES

FORMATS = (guided, edm, score_sde, lucid, sr3, compvis)
SHOWN = 12  # keys of each kind in a message


def convert(
    source: str | Path, folder: str | Path, *, trust: bool = False, settings: Mapping[str, Any] | None = None
) -> Found:
    """Writes a folder that `load` (or `load_classifier`) takes, from a file or folder of another code; what it was.

    The format is found by the keys, the architecture by the shapes. What neither says (heads, schedule) is that of the
    release whose shapes they are, or must be given.

    Args:
        source: a file of weights (.pt, .pth, .pkl, .safetensors), or a folder of diffusers.
        trust: read pickles that hold more than weights, which can run code.
        settings: fields of the recipe, over what is found.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file of an unknown code, with keys that have no place, or that leaves a field open.
    """
    found = find(Path(source), trust=trust)
    fields = settled(found, settings or {})
    files.write(Path(folder), config(found, fields), weights(found, fields))
    return dataclasses.replace(found, fields=fields)


def find(source: Path, *, trust: bool = False) -> Found:
    """What a file is.

    Raises:
        ValueError: if it is of no known code, with the first keys in it.
    """
    if source.is_dir():
        return diffusers.find(source, trust=trust)
    content = reading.read(source, trust=trust)
    for format in FORMATS:
        if (found := format.find(content)) is not None:
            return found
    keys = sorted(map(str, content)) if isinstance(content, Mapping) else [type(content).__name__]
    raise ValueError(
        f"{source} is of no code that can be converted: {_some(keys)}. "
        f"Known: {', '.join(format.CODE for format in (*FORMATS, diffusers))}."
    )


def assembled(folder: Path) -> tuple[dict[str, Any], Denoiser]:
    """The config and the denoiser, with its weights, of a pipeline of diffusers as it is: safetensors alone are read.

    Raises:
        FileNotFoundError: for a part that is not there, with its path.
        ValueError: for another kind of pipeline, or weights that do not fit.
    """
    found = diffusers.find(folder, pickles=False)
    fields = settled(found, {})
    content = config(found, fields)
    _, denoiser = files.build(content)
    denoiser.load_state_dict(weights(found, fields))
    return content, denoiser


def settled(found: Found, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the recipe, with the settings over those that were found.

    Raises:
        ValueError: for a setting that is no field, or a field that is still open.
    """
    known = [f.name for f in dataclasses.fields(recipes.load(found.recipe).Recipe)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{found.recipe!r} has no field {name!r}.{recipes.nearest(name, known)}")
    open_ = [name for name in found.unsaid if name not in settings]
    if open_:
        example = " ".join(f"--set {name}={_word(value)}" for name, value in found.unsaid.items())
        raise ValueError(
            f"a checkpoint of {found.format}, which does not say its {', '.join(open_)}, and its shapes are "
            f"those of no release that is known here. Give them as it was trained; that code's defaults are: {example}"
        )
    return {**found.fields, **settings}


def config(found: Found, fields: Mapping[str, Any]) -> dict[str, Any]:
    """config.json: pictures in [0, 1], model space [-1, 1], any side that the network takes."""
    size, origin = fields.get("size"), found.release or found.format
    side = size if found.recipe == "noisy-classifier" else None
    content: dict[str, Any] = {"recipe": found.recipe, "fields": dict(fields), "codec": PICTURES, "from": origin}
    content["fields"] |= files.unsaid(content)
    content["event"] = [fields["channels"], side, side]
    return {**content, "size": size} if size else content


def weights(found: Found, fields: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights under the names of our model, as float32.

    Raises:
        ValueError: if they do not fit the recipe, with the keys that are missing, left over, or of another shape.
    """
    made = recipes.load(found.recipe).Recipe(**fields)
    with torch.device("meta"):
        module: nn.Module = made.classifier() if hasattr(made, "classifier") else made.model()
    ours = {f"{found.prefix}{name}": value for name, value in found.weights.items()}
    want = module.state_dict()
    faults = (
        ("without a place", [*found.left, *(k.removeprefix(found.prefix) for k in ours if k not in want)]),
        ("missing", [k.removeprefix(found.prefix) for k in want if k not in ours]),
        (
            "of another shape",
            [
                f"{k.removeprefix('net.')} {tuple(ours[k].shape)}, not {tuple(v.shape)}"
                for k, v in want.items()
                if k in ours and ours[k].shape != v.shape
            ],
        ),
    )
    if any(keys for _, keys in faults):
        said = "; ".join(f"{len(keys)} {kind}: {_some(sorted(keys))}" for kind, keys in faults if keys)
        raise ValueError(f"the file looks like one of {found.format}, but its keys do not fit. {said}.")
    return {k: v.detach().float() if v.is_floating_point() else v.detach() for k, v in _apart(ours).items()}


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with its own memory, as safetensors wants them."""
    return {key: value.clone().contiguous() for key, value in state.items()}


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
