"""Checkpoints of EDM (NVlabs): DDPM++, NCSN++ and ADM networks, under any of its preconditionings but iDDPM's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sfumato.zoo.formats.base import Found, State, states

CODE = "EDM"
KINDS = {"EDMPrecond": "edm", "VPPrecond": "vp", "VEPrecond": "ve"}


def find(content: Any) -> Found | None:
    """A network with its preconditioning; which one is in the pickles of the code, and asked for elsewhere."""
    for state in states(content):
        if any(key.startswith("model.enc.") for key in state):
            named = content.get("class", "") if isinstance(content, Mapping) else ""
            if "u" in state or named not in (*KINDS, ""):
                raise ValueError(f"EDM's {named or 'iDDPMPrecond'} rounds its levels and is not converted.")
            return _found({k.removeprefix("model."): v for k, v in state.items()}, KINDS.get(named))
    return None


def _found(state: State, kind: str | None) -> Found:
    sides = sorted({int(m[1]) for key in state if (m := re.match(r"enc\.(\d+)x", key))}, reverse=True)
    adm = "out_conv.weight" in state
    levels = [f"{side}x{side}" for side in sides]
    blocks = len({m[0] for key in state if (m := re.match(rf"enc\.{levels[0]}_block\d+", key))})
    base = state["map_layer0.weight"].shape[1] // (2 if "map_noise.freqs" in state else 1)
    label = state.get("map_label.weight")
    filters = [v for k, v in state.items() if k.endswith("resample_filter")]
    fields: dict[str, Any] = {
        "net": "adm" if adm else "song",
        "channels": state[f"enc.{levels[0]}_conv.weight"].shape[1],
        "base": base,
        "widths": tuple(len(state[f"enc.{level}_block0.conv1.weight"]) for level in levels),
        "blocks": blocks,
        "attention": tuple(i for i, level in enumerate(levels) if f"enc.{level}_block0.qkv.weight" in state),
        "classes": 0 if label is None else label.shape[1],
        "size": sides[0],
    }
    if not adm:
        second = f"enc.{levels[-1]}"
        encoder = "residual" if f"{second}_aux_residual.weight" in state else "standard"
        fields |= {
            "embedding": "fourier" if "map_noise.freqs" in state else "positional",
            "encoder": "skip" if f"{second}_aux_skip.weight" in state else encoder,
            "decoder": "skip" if len(levels) > 1 and f"dec.{levels[-1]}_aux_conv.weight" in state else "standard",
            "taps": _taps(filters[0]) if filters else (1.0, 1.0),
        }
    rename = _adm_names(levels, blocks, fields["attention"]) if adm else _song_names(levels, blocks)
    weights, left = {}, []
    for key, value in state.items():
        stem, _, leaf = key.rpartition(".")
        if leaf == "resample_filter" or stem == "map_augment":
            continue  # constants, and the labels of augmented training pictures: not there when sampling
        if stem not in rename:
            left.append(f"model.{key}")
            continue
        weights[f"{rename[stem]}.{leaf}".removesuffix(".freqs")] = _laid(key, value, adm)
    if adm and label is not None:
        weights["label_emb.weight"] = label.T
    said, unsaid = ({"kind": kind}, {}) if kind else ({}, {"kind": "edm"})
    return Found(CODE, "published", {**fields, **said}, weights, unsaid, tuple(left))


def _laid(key: str, value: Tensor, adm: bool) -> Tensor:
    """A weight in our layout: the channels of qkv are (head, channel, which) there."""
    if key.endswith(("qkv.weight", "qkv.bias")):
        width = len(value) // 3
        if adm:
            value = value.reshape(width // 64, 64, 3, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
        else:
            value = value.reshape(width, 3, *value.shape[1:]).transpose(0, 1).reshape(value.shape)
    if adm and key.endswith(("qkv.weight", "proj.weight")):
        return value[..., 0]
    return value


def _taps(filter_: Tensor) -> tuple[float, ...]:
    """The separable filter of an outer product that sums to 1, in integers where it is one."""
    row = filter_[0, 0].sum(0)
    return tuple(round(float(v), 6) for v in row / row.min())


def _song_names(levels: list[str], blocks: int) -> dict[str, str]:
    """Their module to ours, for DDPM++ and NCSN++."""
    names = {"map_noise": "frequencies", "map_label": "label", "map_layer0": "clock.0", "map_layer1": "clock.1"}
    names[f"enc.{levels[0]}_conv"] = "enter"
    blocks_ = {f"dec.{levels[-1]}_in{i}": f"middle.{i}" for i in range(2)}
    for i, level in enumerate(levels):
        blocks_ |= {f"enc.{level}_block{j}": f"down.{i}.{j}" for j in range(blocks)}
        blocks_ |= {f"dec.{level}_block{j}": f"up.{i}.{j}" for j in range(blocks + 1)}
        blocks_ |= {f"enc.{level}_down": f"shrink.{i - 1}", f"dec.{level}_up": f"grow.{i}"}
        names |= {f"enc.{level}_aux_{kind}": f"beside.{i - 1}" for kind in ("skip", "residual")}
        names |= {f"dec.{level}_aux_norm": f"leave.{i}.0", f"dec.{level}_aux_conv": f"leave.{i}.2"}
    parts = ("norm0", "conv0", "affine", "norm1", "conv1", "skip", "norm2", "qkv", "proj")
    return names | {f"{theirs}.{part}": f"{ours}.{part}" for theirs, ours in blocks_.items() for part in parts}


def _adm_names(levels: list[str], blocks: int, attends: tuple[int, ...]) -> dict[str, str]:
    """Their module to that of `Ablated`, which ends a level with what EDM begins the next one with."""
    names = {"map_layer0": "time_embed.0", "map_layer1": "time_embed.2", "map_label": "label_emb"}
    names |= {f"enc.{levels[0]}_conv": "input_blocks.0.0", "out_norm": "out.0", "out_conv": "out.2"}
    blocks_ = {f"dec.{levels[-1]}_in0": "middle_block.0", f"dec.{levels[-1]}_in1": "middle_block.2"}
    attention = {f"dec.{levels[-1]}_in0": "middle_block.1"}
    for i, level in enumerate(levels):
        for j in range(blocks):
            blocks_[f"enc.{level}_block{j}"] = f"input_blocks.{1 + i * (blocks + 1) + j}.0"
            attention[f"enc.{level}_block{j}"] = f"input_blocks.{1 + i * (blocks + 1) + j}.1"
        for j in range(blocks + 1):
            blocks_[f"dec.{level}_block{j}"] = f"output_blocks.{(len(levels) - 1 - i) * (blocks + 1) + j}.0"
            attention[f"dec.{level}_block{j}"] = f"output_blocks.{(len(levels) - 1 - i) * (blocks + 1) + j}.1"
        blocks_[f"enc.{level}_down"] = f"input_blocks.{i * (blocks + 1)}.0"
        after = 2 if i + 1 in attends else 1
        blocks_[f"dec.{level}_up"] = f"output_blocks.{(len(levels) - 1 - i) * (blocks + 1) - 1}.{after}"
    parts = {"norm0": "in_layers.0", "conv0": "in_layers.2", "affine": "emb_layers.1", "norm1": "out_layers.0"}
    parts |= {"conv1": "out_layers.3", "skip": "skip_connection"}
    names |= {f"{theirs}.{part}": f"{ours}.{name}" for theirs, ours in blocks_.items() for part, name in parts.items()}
    heads = {"norm2": "norm", "qkv": "qkv", "proj": "proj_out"}
    return names | {f"{t}.{part}": f"{o}.{name}" for t, o in attention.items() for part, name in heads.items()}
