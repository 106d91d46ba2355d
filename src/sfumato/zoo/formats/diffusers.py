"""Folders of diffusers with a UNet2DModel: a pipeline, or the network alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfumato.zoo.formats import reading
from sfumato.zoo.formats.base import Found

CODE = "diffusers (folders of a UNet2DModel)"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
SCHEDULE = {"beta_schedule": "schedule", "beta_start": "first", "beta_end": "last", "num_train_timesteps": "steps"}
SCHEDULE |= {"prediction_type": "predicts", "rescale_betas_zero_snr": "zero"}


def find(folder: Path, *, trust: bool = False) -> Found:
    """The network and its schedule.

    Raises:
        ValueError: for a folder of another kind of model, or without weights.
    """
    at = folder / "unet" if (folder / "unet").is_dir() else folder
    config = _json(at / "config.json")
    if config.get("_class_name") != "UNet2DModel":
        raise ValueError(f"{at} holds a {config.get('_class_name')}: of diffusers, a UNet2DModel can be converted.")
    file = next((at / name for name in WEIGHTS if (at / name).is_file()), None)
    if file is None:
        raise ValueError(f"{at} has no weights: neither {' nor '.join(WEIGHTS)}.")
    state = reading.read(file, trust=trust)
    unet = {key: value for key, value in config.items() if not key.startswith("_")}
    size = config.get("sample_size")
    fields: dict[str, Any] = {
        "unet": unet,
        "channels": config["in_channels"],
        "classes": config.get("num_class_embeds") or 0,
        "size": size if isinstance(size, int) else 0,
    }
    path, unsaid = folder / "scheduler" / "scheduler_config.json", {"schedule": "linear", "steps": 1000}
    if path.is_file():
        said, unsaid = _json(path), {}
        if said.get("trained_betas"):
            raise ValueError(f"{path} has betas of its own, which are not converted.")
        if "num_train_timesteps" not in said or "beta_schedule" not in said:
            raise ValueError(f"{path} is of a {said.get('_class_name')}, which has no table of betas.")
        fields |= {ours: said[theirs] for theirs, ours in SCHEDULE.items() if theirs in said}
        fields["scheduler"] = said
    weights = {f"unet.{key}": value for key, value in state.items()}
    return Found("diffusers", "diffusers-unet", fields, weights, unsaid)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is not there: this is no folder of diffusers.") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from None
    return content
