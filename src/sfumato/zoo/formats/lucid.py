"""Checkpoints of denoising-diffusion-pytorch (version 2): its Unet alone, or inside one of its diffusions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.recipes.rms_unet import TABLES
from sfumato.zoo.formats.base import BUFFERS, Found, State, count, states

CODE = "denoising-diffusion-pytorch"
DEFAULTS = {"predicts": "v", "schedule": "sigmoid", "steps": 1000}  # of a Unet whose file has no schedule
CONTINUOUS = {"predicts": "eps", "schedule": "linear"}


def find(content: Any) -> Found | None:
    """A network with its table of betas, or without: then schedule and objective are asked for."""
    for state in states(content):
        whole = {k.removeprefix("ema_model."): v for k, v in state.items() if not k.startswith("online_model.")}
        unet = {k.removeprefix("model."): v for k, v in whole.items()}
        if "init_conv.weight" in unet and "final_res_block.block1.proj.weight" in unet:
            return _found(unet)
    return None


def _found(state: State) -> Found:
    """What the shapes and the buffers say."""
    weights = {k: v for k, v in state.items() if not k.startswith(BUFFERS) and k not in ("initted", "step")}
    levels = count(weights, "downs")
    base = weights["time_mlp.3.weight"].shape[0] // 4
    entrance, leave = weights["init_conv.weight"], weights["final_conv.weight"]
    outs = [_last(weights, f"downs.{level}.3.") for level in range(levels)]
    linear = [f"downs.{level}.2.to_out.0.weight" in weights for level in range(levels)]
    heads = [_heads(weights, level) for level in range(levels)]
    frequencies = weights.get("time_mlp.0.weights")
    # Twice the channels of the data come in where an estimate lies beside them, or leave where a variance does.
    entering, leaving = entrance.shape[1], leave.shape[0]
    selfed = entering == 2 * leaving
    fields: dict[str, Any] = {
        "channels": min(entering, leaving),
        "base": base,
        "widths": (entrance.shape[0], *outs),
        "full": tuple(level for level in range(levels) if not linear[level]),
        "heads": tuple(h for h, _ in heads),
        "head_channels": tuple(c for _, c in heads),
        "selfed": selfed,
        "learned": leaving == 2 * entering,
        "frequencies": 0 if frequencies is None else len(frequencies),
    }
    if frequencies is not None:
        return Found(CODE, "rms-unet", {**fields, "steps": 0}, weights, CONTINUOUS)
    if "betas" not in state:
        return Found(CODE, "rms-unet", fields, weights, DEFAULTS)
    fields |= _schedule(state["betas"])
    said = _objective(state)
    unsaid = {} if said else {"predicts": "v"}
    return Found(CODE, "rms-unet", {**fields, **said}, weights, unsaid)


def _last(state: Mapping[str, Tensor], start: str) -> int:
    """Channels that the end of a level leaves: a convolution, or one after a rearrangement."""
    return len(state[f"{start}1.weight"] if f"{start}1.weight" in state else state[f"{start}weight"])


def _heads(state: Mapping[str, Tensor], level: int) -> tuple[int, int]:
    """Heads of a level's attention, and the channels of one."""
    heads = state[f"downs.{level}.2.mem_kv"].shape[1]
    return heads, len(state[f"downs.{level}.2.to_qkv.weight"]) // (3 * heads)


def _schedule(betas: Tensor) -> dict[str, Any]:
    """The name of the schedule that these betas are, to float32, else the betas themselves."""
    found = tuple(betas.double().tolist())
    for name, make in TABLES.items():
        bars = torch.tensor(make(len(found)).alpha_bars, dtype=torch.float64)
        want = 1.0 - bars / torch.cat([bars.new_ones(1), bars[:-1]])
        if torch.allclose(betas.double(), want, rtol=1e-4, atol=1e-8):
            return {"schedule": name, "steps": len(found)}
    return {"steps": len(found), "betas": found}


def _objective(state: Mapping[str, Tensor]) -> dict[str, str]:
    """What the network says, from the weight of the loss: 1, SNR or SNR / (SNR + 1) where SNR is below 1."""
    bars = state["alphas_cumprod"].double()
    snr = bars / (1.0 - bars)
    weight, low = state["loss_weight"].double(), (snr > 0.0) & (snr < 0.9)
    for name, want in (("eps", torch.ones_like(snr)), ("x0", snr), ("v", snr / (snr + 1.0))):
        if torch.allclose(weight[low], want[low], rtol=1e-3, atol=0.0):
            return {"predicts": name}
    return {}
