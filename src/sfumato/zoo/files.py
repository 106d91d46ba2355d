"""Models on disk: a folder with config.json and model.safetensors. Nothing is unpickled.

config.json holds the recipe's key and fields, never a class path: {"recipe": "edm", "fields": {...}, "codec": {"kind":
"affine", "scale": 0.5, "shift": 0.5}, "event": [3, null, null]}, null where any size will do. A training run's folder
(config.json with recipe and fields, checkpoint.safetensors) serves too: its averaged weights are taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato import recipes
from sfumato.codecs import Affine, Alphabet, Channels, Codec, Quantized
from sfumato.codecs.bars import Bars
from sfumato.denoisers import Denoiser
from sfumato.training import runs
from sfumato.zoo import hub

SHIPPED = Path(__file__).parent
PIPELINE = "model_index.json"  # in the place of config.json, the folder of a pipeline of diffusers
EMA = "ema.denoiser."  # the averaged denoiser inside the objective, in a run's checkpoint


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def find(name: str | Path) -> Path:
    """The folder of a shipped name, of a path, or of a Hub id (owner/name or hf://owner/name, downloaded; extra `hub`).

    Raises:
        FileNotFoundError: for a name that is none of these, with the nearest shipped ones.
        ImportError: for a Hub id without the extra.
    """
    inside, path, word = SHIPPED / str(name), Path(name), str(name)
    if word in shipped():
        return inside
    if on_hub := re.fullmatch(r"hf:/+([^/]+/[^/]+)", word):  # a Path has folded the slashes
        return hub.download(on_hub[1])
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", PIPELINE)):
            raise FileNotFoundError(f"{path} is no model: it has no config.json.")
        return path
    if word.count("/") == 1 and all(word.split("/")) and not word.startswith((".", "~")) and not path.exists():
        return hub.download(word)
    have = ", ".join(shipped()) or "none"
    raise FileNotFoundError(
        f"no model {word!r}: it is neither a shipped name ({have}) nor a folder.{recipes.nearest(word, shipped())}"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, with the defaults of a training run's: data in [0, 1], model space in [-1, 1], any size.

    Fields that the recipe has gained since it was written take their defaults, with one warning that names them.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        key, fields = config["recipe"], config["fields"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is no model\'s config: it needs {{"recipe": key, "fields": {{...}}}} ({error}).'
        ) from None
    with _sound(f"{path} does not hold together"):
        if not (isinstance(key, str) and isinstance(fields, dict)):
            raise ValueError(f"{path}: recipe is a key and fields a table, got {key!r} and {fields!r}.")
        config.setdefault("codec", {"kind": "affine", "scale": 0.5, "shift": 0.5})
        config.setdefault("event", [fields.get("channels", 3), *[None] * fields.get("dims", 2)])
        read_codec(config)
        if not all(n is None or (type(n) is int and n > 0) for n in config["event"]):
            raise ValueError(f"{path}: event is a list of sizes, null where any will do, got {config['event']}.")
    if new := unsaid(config):
        warnings.warn(runs.told(path, new), stacklevel=2)
    return {**config, "recipe": key, "fields": fields | new}


def unsaid(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config's recipe that it does not have, at their defaults.

    Raises:
        ValueError: for an unknown recipe, with the nearest ones.
    """
    return runs.gained(config, recipes.load(config["recipe"]).Recipe)


@contextlib.contextmanager
def _sound(what: str) -> Iterator[None]:
    """A config that was edited by hand fails anywhere: a ValueError that says where, in place of any other error."""
    try:
        yield
    except (ValueError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what} ({type(error).__name__}: {error}).") from error


def build(config: Mapping[str, Any]) -> tuple[Any, Denoiser]:
    """The recipe and the untrained denoiser of a config.

    Raises:
        ValueError: for an unknown recipe or field, with the nearest ones, or a recipe that is no model.
    """
    recipe = made(config)
    if not hasattr(recipe, "model"):
        use = "zoo.load_classifier takes it" if hasattr(recipe, "classifier") else "it has nothing to load"
        raise ValueError(f"the recipe {config['recipe']!r} makes no denoiser: {use}.")
    with _sound(f"the recipe {config['recipe']!r} makes no network of the fields {config['fields']}"):
        return recipe, recipe.model()


def made(config: Mapping[str, Any]) -> Any:
    """The recipe of a config.

    Raises:
        ValueError: for an unknown recipe or field, with the nearest ones.
    """
    make = recipes.load(config["recipe"]).Recipe
    known = [field.name for field in dataclasses.fields(make)]
    for name in config["fields"]:
        if name not in known:
            raise ValueError(
                f"the recipe {config['recipe']!r} has no field {name!r}.{recipes.nearest(name, known)} "
                f"Its fields: {', '.join(known)}."
            )
    with _sound(f"the recipe {config['recipe']!r} does not take the fields {config['fields']}"):
        return make(**{k: tuple(v) if isinstance(v, list) else v for k, v in config["fields"].items()})


def read_codec(config: Mapping[str, Any]) -> Codec:
    """The codec of a config."""
    codec = config["codec"]
    kind = codec.get("kind")
    if kind == "quantized":
        return Quantized(int(codec["levels"]))
    if kind == "alphabet":
        return Alphabet(str(codec["symbols"]))
    if kind == "channels":
        return Channels(tuple(codec["scale"]), tuple(codec["shift"]))
    if kind == "bars":
        rows = tuple(tuple(row) for row in codec["basis"])
        return Bars(rows, *(tuple(codec[name]) for name in ("mean", "low", "high")))
    if kind != "affine":
        raise ValueError(
            f"codecs of kind 'affine', 'channels', 'quantized', 'alphabet' and 'bars' can be read, got {kind!r}."
        )
    return Affine(float(codec["scale"]), float(codec["shift"]))


def codec_config(codec: Codec) -> dict[str, Any]:
    """What `read_codec` makes the codec of.

    Raises:
        ValueError: for a codec that a config cannot hold.
    """
    if not isinstance(codec, Affine | Channels | Quantized | Alphabet | Bars):
        raise ValueError(
            f"a config holds an Affine codec, Channels, Quantized, Alphabet, Bars, got {type(codec).__name__}."
        )
    return {"kind": type(codec).__name__.lower(), **dataclasses.asdict(codec)}


def read_weights(folder: Path, denoiser: nn.Module) -> None:
    """Loads the weights in place, cast to the denoiser's dtype; a run's averaged ones where it is a run.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if the file is damaged, or is that of another network.
    """
    path, prefix = folder / "model.safetensors", ""
    if not path.exists():
        path, prefix = folder / "checkpoint.safetensors", EMA
    if not path.exists():
        raise FileNotFoundError(f"{folder} has no weights: neither model.safetensors nor checkpoint.safetensors.")
    try:
        with safe_open(path, "pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
            state = {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from None
    try:
        denoiser.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} are not those of its config: {' '.join(str(error).split())}") from None


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
    """Writes both files beside their places and renames them, the weights first."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f".{name}.{os.getpid()}.part" for name in ("model.safetensors", "config.json")}
    try:
        save_file(dict(weights), parts["model.safetensors"])
        parts["config.json"].write_text(json.dumps(config, indent=1) + "\n", "utf-8")
        for name, part in parts.items():
            os.replace(part, folder / name)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
