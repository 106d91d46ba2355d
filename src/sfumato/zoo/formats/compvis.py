"""Checkpoints of CompVis' latent diffusion: autoencoder and U-Net in one file, without a condition or with classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sfumato.zoo.formats import guided
from sfumato.zoo.formats.base import BUFFERS, Found, State, count, states, table

CODE = "latent-diffusion"
NET, FIRST, CLASS, AVERAGE = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "model_ema."
UNSAID: dict[str, Any] = {"heads": 8, "head_channels": 32}
SCHEDULE: dict[str, Any] = {"first": 0.0015, "last": 0.0195, "steps": 1000}
DROPPED = 1001  # ImageNet's labels, and one that means no class

# (name, what tells it from the others, what the file does not say): the configurations of the code.
RELEASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "faces or bedrooms 256, latent-diffusion",
        {"base": 224, "widths": (224, 448, 672, 896), "attention": (1, 2, 3), "context": 0},
        {"heads": 8, "head_channels": 32},
    ),
    (
        "churches 256, latent-diffusion",
        {"base": 192, "widths": (192, 384, 384, 768, 768), "attention": (0, 1, 2, 3), "resample": "block"},
        {"heads": 8, "head_channels": 0},
    ),
    (
        "ImageNet 256, latent-diffusion",
        {"base": 256, "widths": (256, 512, 1024), "attention": (0, 1, 2), "context": 512},
        {"heads": 8, "head_channels": 32},
    ),
)


def find(content: Any) -> Found | None:
    """A latent model, with the averaged weights of its U-Net where they are kept.

    Raises:
        ValueError: for a U-Net whose condition is no class, or a file without its autoencoder.
    """
    for state in states(content):
        if f"{NET}time_embed.0.weight" in state:
            return _found(state)
    return None


def _found(state: State) -> Found:
    unet, coder = _under(state, NET), _under(state, FIRST)
    if "decoder.conv_in.weight" not in coder:
        raise ValueError("the file has the U-Net of a latent model without its autoencoder: `first_stage_model` lacks.")
    for key in unet:  # kept under names without their dots
        unet[key] = state.get(AVERAGE + f"diffusion_model.{key}".replace(".", ""), unet[key])
    latent = coder["post_quant_conv.weight"].shape[1]
    entering = unet["input_blocks.0.0.weight"].shape[1]
    if entering != latent:
        raise ValueError(
            f"the U-Net takes {entering} channels and a code has {latent}: a picture is laid beside it, which is not "
            "converted."
        )
    read = guided.denoiser(unet).fields
    crossing = next((v for k, v in unet.items() if k.endswith("attn2.to_k.weight")), None)
    labels = state.get(f"{CLASS}embedding.weight")
    if (crossing is None) != (labels is None):
        raise ValueError("the U-Net reads a condition that is no class (a text, a layout), which is not converted.")
    rows = 0 if labels is None else len(labels)
    fields: dict[str, Any] = {key: read[key] for key in ("base", "widths", "blocks", "attention", "resample", "film")}
    fields |= _coder(coder, latent) | table(state, root=True)
    fields |= {"context": 0 if crossing is None else crossing.shape[1], "dropped": rows == DROPPED}
    fields["classes"] = rows - fields["dropped"]
    weights = {f"inner.net.{key}": value for key, value in unet.items()}
    weights |= {f"autoencoder.{key}": value for key, value in coder.items() if not key.startswith("loss.")}
    if labels is not None:
        weights["inner.net.label_emb.weight"] = labels
    unsaid = {} if "steps" in fields else dict(SCHEDULE)
    if "scale_factor" in state:
        fields["scale"] = float(state["scale_factor"])
    elif not fields["entries"]:  # with a codebook it is 1 in every configuration
        unsaid["scale"] = 1.0
    known = (NET, FIRST, AVERAGE, f"{CLASS}embedding.weight", "scale_factor", "logvar", *BUFFERS)
    left = tuple(key for key in state if not key.startswith(known))
    for name, shapes, said in RELEASES:
        if all(fields[key] == value for key, value in shapes.items()):
            return Found(CODE, "compvis-ldm", {**fields, **said}, weights, unsaid, left, name, prefix="")
    return Found(CODE, "compvis-ldm", fields, weights, {**UNSAID, **unsaid}, left, prefix="")


def _coder(state: State, latent: int) -> dict[str, Any]:
    """The fields that the autoencoder's shapes say."""
    levels = range(count(state, "encoder.down"))
    book: Tensor | None = state.get("quantize.embedding.weight")
    return {
        "channels": len(state["decoder.conv_out.weight"]),
        "latent": latent,
        "inner": len(state["post_quant_conv.weight"]),
        "coder": tuple(len(state[f"encoder.down.{i}.block.0.conv1.weight"]) for i in levels),
        "coder_base": len(state["encoder.conv_in.weight"]),
        "coder_blocks": count(state, "encoder.down.0.block"),
        "coder_attention": tuple(i for i in levels if f"encoder.down.{i}.attn.0.norm.weight" in state),
        "coder_middle": "encoder.mid.attn_1.norm.weight" in state,
        "entries": 0 if book is None else len(book),
    }


def _under(state: State, start: str) -> State:
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
