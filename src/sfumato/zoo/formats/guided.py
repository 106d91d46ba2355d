"""Checkpoints of improved-diffusion and guided-diffusion: denoisers, upsamplers, classifiers."""

from __future__ import annotations

from typing import Any

from sfumato.zoo.formats.base import Found, State, count, states

CODE = "guided-diffusion or improved-diffusion"
FLAGS = {"heads": 4, "head_channels": 0, "ordered": False, "schedule": "linear", "steps": 1000}  # the defaults

# (name, what tells it from the others, what the file does not say): the flags in the README of each code.
RELEASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "ImageNet 64, guided-diffusion",
        {"base": 192, "widths": (192, 384, 576, 768), "blocks": 3, "resample": "block", "attention": (1, 2, 3)},
        {"head_channels": 64, "ordered": True, "schedule": "cosine", "size": 64},
    ),
    (
        "ImageNet 128, guided-diffusion",
        {"base": 256, "widths": (256, 256, 512, 768, 1024), "blocks": 2, "resample": "block", "attention": (2, 3, 4)},
        {"head_channels": 0, "size": 128},
    ),
    (
        "ImageNet or LSUN 256, guided-diffusion",
        {"base": 256, "widths": (256, 256, 512, 512, 1024, 1024), "resample": "block", "attention": (3, 4, 5)},
        {"head_channels": 64, "size": 256},
    ),
    (
        "ImageNet 512, guided-diffusion",
        {"base": 256, "widths": (128, 256, 256, 512, 512, 1024, 1024), "attention": (4, 5, 6), "resample": "block"},
        {"head_channels": 64, "size": 512},
    ),
    (
        "64 to 256 upsampler, guided-diffusion",
        {"base": 192, "widths": (192, 192, 384, 384, 768, 768), "attention": (3, 4, 5), "lowres": True}
        | {"resample": "block"},
        {"head_channels": 0, "size": 256},
    ),
    (
        "128 to 512 upsampler, guided-diffusion",
        {"base": 192, "widths": (192, 192, 384, 384, 768, 768), "attention": (4, 5), "lowres": True}
        | {"resample": "block"},
        {"head_channels": 64, "size": 512},
    ),
    (
        "FFHQ or AFHQ 256 of 128 channels, ilvr_adm",
        {"base": 128, "widths": (128, 128, 256, 256, 512, 512), "blocks": 1, "attention": (4,), "resample": "block"},
        {"head_channels": 64, "size": 256},
    ),
    (
        "CIFAR-10, improved-diffusion",
        {"base": 128, "widths": (128, 256, 256, 256), "blocks": 3, "attention": (1, 2), "resample": "conv"},
        {"schedule": "cosine", "steps": 4000, "head_channels": 0, "size": 32},
    ),
    (
        "ImageNet 64, improved-diffusion",
        {"widths": (128, 256, 384, 512), "blocks": 3, "attention": (2, 3), "resample": "conv", "classes": 0},
        {"schedule": "cosine", "steps": 4000, "head_channels": 0, "size": 64},
    ),
    (
        "ImageNet 64 with classes, improved-diffusion",
        {"widths": (192, 384, 576, 768), "blocks": 3, "attention": (2, 3), "resample": "conv", "classes": 1000},
        {"schedule": "cosine", "steps": 4000, "head_channels": 0, "size": 64},
    ),
    (
        "LSUN bedroom, improved-diffusion",
        {"base": 128, "widths": (128, 128, 256, 256, 512, 512), "attention": (4,), "resample": "conv", "film": False},
        {"heads": 1, "head_channels": 0, "size": 256},
    ),
    (
        "64 to 256 upsampler, improved-diffusion",
        {"base": 192, "widths": (192, 192, 384, 384, 768, 768), "resample": "conv", "lowres": True, "classes": 1000},
        {"steps": 4000, "head_channels": 0, "size": 256},
    ),
)


def find(content: Any) -> Found | None:
    """A denoiser or a classifier of these codes."""
    for state in states(content):
        if "time_embed.0.weight" in state and "input_blocks.0.0.weight" in state:
            return classifier(state) if "out.2.positional_embedding" in state else denoiser(state)
    return None


def denoiser(state: State) -> Found:
    """What the shapes say; heads, schedule and length of the chain from the release they are those of, if one is."""
    stages = count(state, "output_blocks")
    grows = [kind for i in range(stages) if (kind := _grows(state, i))]
    pooled = [i for i in range(stages) if not _has(state, f"input_blocks.{i}.")]
    levels = 1 + (len(pooled) or len(grows))
    entering, leaving = state["input_blocks.0.0.weight"].shape[1], len(state["out.2.weight"])
    # Six channels in: a picture and a small one beside it.
    lowres = entering == 6 and leaving in (3, 6)
    channels = entering // 2 if lowres else entering
    fields = {
        "channels": channels,
        **_trunk(state, levels, stages // levels - 1),
        "resample": "pool" if pooled else next(iter(grows), "block"),
        "classes": len(state["label_emb.weight"]) if "label_emb.weight" in state else 0,
        "lowres": lowres,
        "learned": leaving == 2 * channels,
    }
    for name, shapes, flags in RELEASES:
        if all(fields[key] == value for key, value in shapes.items()):
            return Found(CODE, "ablated", {**fields, **FLAGS, **flags}, state, release=name)
    return Found(CODE, "ablated", {**fields, "size": 0}, state, FLAGS)


def classifier(state: State) -> Found:
    """A classifier with attention pooling: heads of 64 channels and 1000 steps, as the code has them all.

    The runs of stages with attention are as long as a level has blocks, and the position embedding says the size.
    """
    stages = count(state, "input_blocks")
    seen = "".join("+" if _has(state, f"input_blocks.{i}.1.qkv.") else " " for i in range(stages))
    blocks = max(map(len, seen.split())) if seen.strip() else stages - 1
    levels = stages // (blocks + 1)
    positions = state["out.2.positional_embedding"].shape[1] - 1
    fields = {
        "size": round(positions**0.5) * 2 ** (levels - 1),
        "channels": state["input_blocks.0.0.weight"].shape[1],
        **_trunk(state, levels, blocks),
        "resample": "conv" if f"input_blocks.{blocks + 1}.0.op.weight" in state else "block",
        "classes": len(state["out.2.c_proj.weight"]),
        "head_channels": 64,
        "steps": 1000,
    }
    return Found(CODE, "noisy-classifier", fields, state)


def _trunk(state: State, levels: int, blocks: int) -> dict[str, Any]:
    """The fields that the way down says, of so many levels and blocks."""
    first = [f"input_blocks.{1 + level * (blocks + 1)}." for level in range(levels)]
    widths = tuple(_rows(state, f"{stage}0.out_layers.3.weight") for stage in first)
    return {
        "base": state["time_embed.0.weight"].shape[1],
        "widths": widths,
        "blocks": blocks,
        "attention": tuple(level for level, stage in enumerate(first) if _has(state, f"{stage}1.norm.")),
        "film": _rows(state, f"{first[0]}0.emb_layers.1.weight") == 2 * widths[0],
    }


def _grows(state: State, stage: int) -> str:
    """How a stage of the way up ends in twice the resolution: "block", "conv", or "" where it does not."""
    for part in (1, 2):
        if _has(state, f"output_blocks.{stage}.{part}.in_layers."):
            return "block"
        if _has(state, f"output_blocks.{stage}.{part}.conv."):
            return "conv"
    return ""


def _rows(state: State, key: str) -> int:
    return len(state[key]) if key in state else 0


def _has(state: State, start: str) -> bool:
    return any(key.startswith(start) for key in state)
