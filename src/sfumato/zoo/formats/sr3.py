"""Checkpoints of the public re-implementation of SR3: `*_gen.pth`, with or without an image beside the data."""

from __future__ import annotations

from typing import Any

from sfumato.zoo.formats.base import BUFFERS, Found, State, count, states, table

CODE = "the re-implementation of SR3"
UNSAID = {"groups": 32}
SCHEDULE = {"first": 1e-6, "last": 1e-2, "steps": 2000}

# (name, its shapes, what the file does not say): the configurations of the code.
RELEASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "16 to 128 of SR3",
        {"base": 64, "widths": (64, 128, 256, 512, 512), "blocks": 2, "attention": (3,)},
        {"groups": 32, "size": 128},
    ),
    (
        "64 to 512 of SR3",
        {"base": 64, "widths": (64, 128, 256, 512, 1024), "blocks": 1, "attention": ()},
        {"groups": 16, "size": 512},
    ),
)


def find(content: Any) -> Found | None:
    """A network with its table; the groups of its norms from the configuration with these shapes, or asked for."""
    for state in states(content):
        inside = {key.removeprefix("denoise_fn."): value for key, value in state.items()}
        if "noise_level_mlp.1.weight" in inside and "downs.0.weight" in inside:
            return _found(inside)
    return None


def _found(state: State) -> Found:
    weights = {key: value for key, value in state.items() if not key.startswith(BUFFERS)}
    levels: list[list[int]] = [[]]  # the residual blocks of each level, on the way down
    for i in range(1, count(weights, "downs")):
        if f"downs.{i}.conv.weight" in weights:
            levels.append([])
        else:
            levels[-1].append(i)
    entering, leaving = weights["downs.0.weight"].shape[1], len(weights["final_conv.block.3.weight"])
    fields: dict[str, Any] = {
        "channels": leaving,
        "base": weights["noise_level_mlp.1.weight"].shape[1],
        "widths": tuple(len(weights[f"downs.{at[0]}.res_block.block1.block.3.weight"]) for at in levels),
        "blocks": len(levels[0]),
        "attention": tuple(i for i, at in enumerate(levels) if f"downs.{at[0]}.attn.qkv.weight" in weights),
        "image": entering == 2 * leaving,
    }
    schedule = table(state)
    unsaid: dict[str, Any] = {**UNSAID, **({} if schedule else SCHEDULE)}
    for name, shapes, said in RELEASES:
        if all(fields[key] == value for key, value in shapes.items()):
            open_ = {key: value for key, value in unsaid.items() if key not in said}
            return Found(CODE, "sr3-unet", {**fields, **schedule, **said}, weights, open_, release=name)
    return Found(CODE, "sr3-unet", {**fields, **schedule, "size": 0}, weights, unsaid)
