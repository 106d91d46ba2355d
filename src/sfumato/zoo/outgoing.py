"""Models of ours as folders of diffusers: a UNet2DModel, and a scheduler on the same noise levels."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.data.files import beside
from sfumato.denoisers import Denoiser, Parameterization, Preconditioned, predict_eps, predict_v, predict_x0
from sfumato.nets import ablated
from sfumato.processes import Table
from sfumato.recipes.diffusers_unet import Borrowed
from sfumato.zoo import files
from sfumato.zoo.model import load

SAYS: dict[Parameterization, str] = {predict_eps: "epsilon", predict_x0: "sample", predict_v: "v_prediction"}
KINDS = {"": "{}Block2D", "+": "Attn{}Block2D", "block": "Resnet{}sampleBlock2D"}
LAYERS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "op": "conv",
    "conv": "conv",
}
OUTSIDE = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
OUTSIDE |= {
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True)
class Outgoing:
    """A pipeline's parts.

    Attributes:
        unet, scheduler: the two configs.
        weights: of the UNet2DModel.
    """

    unet: dict[str, Any]
    scheduler: dict[str, Any]
    weights: dict[str, Tensor]

    def write(self, folder: str | Path) -> None:
        """Writes the folder of a pipeline, the file that names it last."""
        at = Path(folder)
        index = {
            "_class_name": "DDIMPipeline",
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", self.scheduler["_class_name"]],
        }
        with beside(at / "unet" / "diffusion_pytorch_model.safetensors") as path:
            own = {k: v.detach().cpu().contiguous().clone() for k, v in self.weights.items()}
            save_file(own, path, {"format": "pt"})
        parts = {"unet/config": self.unet, "scheduler/scheduler_config": self.scheduler, "model_index": index}
        for name, content in parts.items():
            with beside(at / f"{name}.json") as path:
                path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def outgoing(name: str | Path) -> Outgoing:
    """A model of ours as a pipeline of diffusers, which `DDIMPipeline.from_pretrained` takes once it is written.

    The library's own DDIM then makes of a start what ours makes of it on the levels of `grids.table(spacing=
    "trailing")`, where the number of steps divides that of the table. A learned variance is left out: it has no place
    there. A model that came from diffusers goes back as it was.

    Args:
        name: a shipped name, a folder, a training run's folder, or a Hub id.

    Raises:
        ValueError: for a model that is no UNet2DModel on a table, with all that keeps it from being one.
    """
    model = load(name)
    denoiser, made = model.denoiser, files.made(model.config)
    if faults := obstacles(denoiser):
        raise ValueError(
            f"{name} cannot be said as a UNet2DModel of diffusers with a scheduler: {'; '.join(faults)}. "
            "`sf.load` and `sfumato sample` run it as it is."
        )
    assert isinstance(denoiser, Preconditioned)
    scheduler = getattr(made, "scheduler", None) or _scheduler(denoiser)
    if isinstance(denoiser.net, Borrowed):
        return Outgoing({"_class_name": "UNet2DModel", **made.unet}, scheduler, dict(denoiser.net.unet.state_dict()))
    assert isinstance(denoiser.net, ablated.Ablated)
    return Outgoing(_unet(made, denoiser.net), scheduler, _weights(made, denoiser.net))


def obstacles(denoiser: Denoiser) -> list[str]:
    """What keeps a denoiser from being a UNet2DModel on a table of betas: nothing, if it is one."""
    net = getattr(denoiser, "net", None)
    faults = []
    if isinstance(net, ablated.Ablated):
        faults += _net_obstacles(net)
    elif not isinstance(net, Borrowed):
        what = type(denoiser if net is None else net).__name__
        faults.append(f"its network, {what}, is made of other blocks")
    if not isinstance(denoiser.process, Table):
        faults.append(f"its noise levels are those of {type(denoiser.process).__name__}, no table of betas")
    if not isinstance(denoiser, Preconditioned) or denoiser.scheme not in SAYS:
        faults.append("its network says neither eps nor x_0 nor v")
    elif isinstance(denoiser.process, Table) and not _counts(denoiser, denoiser.process.steps):
        faults.append("its network is not told the index of a step")
    return faults


def _net_obstacles(net: ablated.Ablated) -> list[str]:
    faults = []
    if net.image:
        faults.append("it enlarges an image")
    if net.unlabelled:
        faults.append("it knows a label for no class")
    if net.base != net.input_blocks[0][0].out_channels:  # type: ignore[index, union-attr]
        faults.append("its clock has other channels than its entrance")
    heads = {m.qkv.in_channels // m.heads for m in net.modules() if isinstance(m, ablated.Attention)}
    if len(heads) > 1:
        faults.append(f"its heads have {', '.join(map(str, sorted(heads)))} channels, not all as many")
    groups = {m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)}
    if len(groups) > 1:
        faults.append(f"its norms have {', '.join(map(str, sorted(groups)))} groups, not all as many")
    if any(isinstance(m, nn.AvgPool2d) for m in net.modules()):
        faults.append("it halves the resolution by a mean")
    return faults


def _counts(denoiser: Preconditioned, steps: int) -> bool:
    clock = denoiser.clock
    return clock is not None and all(abs(float(clock(n / steps)) - (n - 1)) < 1e-6 * steps for n in (1, steps))


def _unet(made: Any, net: ablated.Ablated) -> dict[str, Any]:
    """The config of the UNet2DModel that the network is."""
    attention = next(m for m in net.modules() if isinstance(m, ablated.Attention))
    block = "resnet" if made.resample == "block" else "conv"
    kinds = ["+" if level in made.attention else made.resample for level in range(len(made.widths))]
    down, up = ([KINDS.get(kind, KINDS[""]).format(way) for kind in kinds] for way in ("Down", "Up"))
    return {
        "_class_name": "UNet2DModel",
        "sample_size": made.size or None,
        "in_channels": made.channels,
        "out_channels": made.channels,
        "time_embedding_type": "positional",
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": down,
        "up_block_types": up[::-1],
        "block_out_channels": list(made.widths),
        "layers_per_block": made.blocks,
        "downsample_padding": 1,
        "downsample_type": block,
        "upsample_type": block,
        "attention_head_dim": attention.qkv.in_channels // attention.heads,
        "norm_num_groups": attention.norm.num_groups,
        "attn_norm_num_groups": attention.norm.num_groups,
        "norm_eps": attention.norm.eps,
        "resnet_time_scale_shift": "scale_shift" if made.film else "default",
        "num_class_embeds": made.classes or None,
    }


def _weights(made: Any, net: ablated.Ablated) -> dict[str, Tensor]:
    """The weights under the names of a UNet2DModel; of a head for the variance nothing."""
    state, levels, blocks = net.state_dict(), len(made.widths), made.blocks
    places = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    places["middle_block.1"] = "mid_block.attentions.0"
    for level in range(levels):
        for i in range(blocks):
            at, to = f"input_blocks.{1 + level * (blocks + 1) + i}", f"down_blocks.{level}"
            places |= {f"{at}.0": f"{to}.resnets.{i}", f"{at}.1": f"{to}.attentions.{i}"}
        places[f"input_blocks.{(level + 1) * (blocks + 1)}.0"] = f"down_blocks.{level}.downsamplers.0"
        for i in range(blocks + 1):
            at, to = f"output_blocks.{level * (blocks + 1) + i}", f"up_blocks.{level}"
            grows = 2 if levels - 1 - level in made.attention else 1
            places |= {f"{at}.0": f"{to}.resnets.{i}", f"{at}.1": f"{to}.attentions.{i}"}
            if i == blocks:
                places[f"{at}.{grows}"] = f"{to}.upsamplers.0"
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        stem, _, leaf = key.rpartition(".")
        place = next((p for p in places if stem.startswith(f"{p}.")), "")
        if stem in OUTSIDE:
            kept = value[: made.channels] if stem == "out.2" else value
            found[f"{OUTSIDE[stem]}.{leaf}"] = kept
        else:
            found |= _laid(f"{places[place]}.", stem.removeprefix(f"{place}."), leaf, value, net)
    return found


def _laid(start: str, part: str, leaf: str, value: Tensor, net: ablated.Ablated) -> dict[str, Tensor]:
    """The weights of one layer under the names of a block there; q, k and v are three layers, of matrices."""
    if part == "norm":
        return {f"{start}group_norm.{leaf}": value}
    if part == "proj_out":
        return {f"{start}to_out.0.{leaf}": value.flatten(1) if leaf == "weight" else value}
    if part == "qkv":
        first = next(m for m in net.modules() if isinstance(m, ablated.Attention))
        c = first.qkv.in_channels // first.heads
        flat = value.flatten(1) if leaf == "weight" else value
        order = (3, -1, c) if first.ordered else (-1, 3, c)
        parts = flat.reshape(*order, *flat.shape[1:]).unbind(0 if first.ordered else 1)
        return {f"{start}to_{word}.{leaf}": v.flatten(0, 1) for word, v in zip("qkv", parts, strict=True)}
    return {f"{start}{LAYERS[part]}.{leaf}": value}


def _scheduler(denoiser: Preconditioned) -> dict[str, Any]:
    """The config of a DDIMScheduler on the same levels, whose last step ends at the data."""
    assert isinstance(denoiser.process, Table)
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": denoiser.process.steps,
        **_betas(denoiser.process),
        "prediction_type": SAYS[denoiser.scheme],
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 0,
    }


def _betas(table: Table) -> dict[str, Any]:
    """The table by the name of its betas there, or the betas themselves."""
    bars = torch.tensor((1.0, *table.alpha_bars), dtype=torch.float64)
    betas = (1.0 - bars[1:] / bars[:-1]).tolist()
    first, last = betas[0], betas[-1]
    named = {
        "linear": lambda: Table.linear(table.steps, first, last),
        "scaled_linear": lambda: Table.scaled_linear(table.steps, first, last),
        "squaredcos_cap_v2": lambda: Table.cosine(table.steps),
    }
    for name, make in named.items():
        bare = make() if last < 1.0 else None
        if bare and all(
            math.isclose(a, b, rel_tol=1e-7) for a, b in zip(bare.alpha_bars, table.alpha_bars, strict=True)
        ):
            return {"beta_schedule": name, "beta_start": float(f"{first:.9g}"), "beta_end": float(f"{last:.9g}")}
    return {"beta_schedule": "linear", "trained_betas": betas}
