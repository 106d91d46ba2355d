"""Folders of diffusers with a UNet2DModel: a pipeline, or the network alone; of a latent pipeline, `pipelines`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfumato.zoo.formats import reading
from sfumato.zoo.formats.base import Found, State

CODE = "diffusers (folders of a UNet2DModel, and of latent pipelines)"
INDEX = "model_index.json"
STEM = "diffusion_pytorch_model"
SCHEDULE = {"beta_schedule": "schedule", "beta_start": "first", "beta_end": "last", "num_train_timesteps": "steps"}
SCHEDULE |= {"prediction_type": "predicts", "rescale_betas_zero_snr": "zero"}
# Layers of attention by their names in files from before 2023.
OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def find(folder: Path, *, trust: bool = False, pickles: bool = True) -> Found:
    """The network and its schedule; of a pipeline with an autoencoder, all that it needs.

    Args:
        pickles: weights may be read from .bin files, where there are no safetensors.

    Raises:
        FileNotFoundError: for a folder that lacks a part, with its path.
        ValueError: for a folder of another kind of model.
    """
    from sfumato.zoo.formats import pipelines

    if (folder / INDEX).is_file() and (parts := pipelines.latent(settings(folder / INDEX))):
        return pipelines.find(folder, parts, trust=trust, pickles=pickles)
    at = folder / "unet" if (folder / "unet").is_dir() else folder
    config = settings(at / "config.json")
    if config.get("_class_name") != "UNet2DModel":
        raise ValueError(f"{at} holds a {config.get('_class_name')}: of diffusers, a UNet2DModel can be converted.")
    state = weights(at, STEM, trust=trust, pickles=pickles)
    size = config.get("sample_size")
    fields = {
        "unet": plain(config),
        "channels": config["in_channels"],
        "classes": config.get("num_class_embeds") or 0,
        "size": size if isinstance(size, int) else 0,
    }
    path, unsaid = folder / "scheduler" / "scheduler_config.json", {"schedule": "linear", "steps": 1000}
    if path.is_file():
        fields, unsaid = fields | schedule(path), {}
    return Found("diffusers", "diffusers-unet", fields, {f"unet.{key}": value for key, value in state.items()}, unsaid)


def schedule(path: Path) -> dict[str, Any]:
    """The fields that a scheduler's config says.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: for a scheduler without a table of betas.
    """
    said = settings(path)
    if "num_train_timesteps" not in said or "beta_schedule" not in said:
        raise ValueError(f"{path} is of a {said.get('_class_name')}, which has no table of betas.")
    betas = said.get("trained_betas") or ()
    own: dict[str, Any] = {"betas": tuple(betas), "steps": len(betas)} if betas else {}
    return {ours: said[theirs] for theirs, ours in SCHEDULE.items() if theirs in said} | own | {"scheduler": said}


def weights(at: Path, stem: str, *, trust: bool, pickles: bool) -> State:
    """The weights of one network: of stem.safetensors, of its parts, of the half precision, or of stem.bin.

    Raises:
        FileNotFoundError: if none of these is there.
    """
    whole, index, half = (
        at / f"{stem}{end}" for end in (".safetensors", ".safetensors.index.json", ".fp16.safetensors")
    )
    pickle = at / f"{'pytorch_model' if stem == 'model' else stem}.bin"
    if whole.is_file():
        state = reading.read(whole)
    elif index.is_file():
        names = sorted(set(settings(index)["weight_map"].values()))
        state = {key: value for name in names for key, value in reading.read(at / Path(name).name).items()}
    elif half.is_file():
        state = reading.read(half)
    elif pickle.is_file():
        if not pickles:
            raise ValueError(
                f"{pickle} is a pickle, which is not loaded: `sfumato convert` makes a model of the folder, with "
                "--trust if it holds more than weights."
            )
        state = reading.read(pickle, trust=trust)
    else:
        raise FileNotFoundError(f"{at} has no weights: neither {whole.name} nor {pickle.name}.")
    return {_today(key): value for key, value in state.items()}


def settings(path: Path) -> dict[str, Any]:
    """A config.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: this is no folder of diffusers, or not all of it.") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    return content


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A config without what the library notes of itself."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def _today(key: str) -> str:
    stem, dot, leaf = key.rpartition(".")
    block, _, name = stem.rpartition(".")
    return f"{block}.{OLD[name]}{dot}{leaf}" if name in OLD and "attentions" in block else key
