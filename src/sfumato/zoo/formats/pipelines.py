"""Folders of diffusers with an autoencoder: latent pipelines, without a text and with one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sfumato.nets.foreign import TOKENIZERS, packed
from sfumato.zoo.formats import diffusers
from sfumato.zoo.formats.base import Found, State

# What a part may be. The names of a part differ from pipeline to pipeline.
CODERS = ("AutoencoderKL", "VQModel")
NETS = ("UNet2DModel", "UNet2DConditionModel")
ENCODERS = ("CLIPTextModel", "LDMBertModel")
NAMES = {"coder": ("vae", "vqvae"), "net": ("unet",), "encoder": ("text_encoder", "bert"), "tokenizer": ("tokenizer",)}
NAMES["scheduler"] = ("scheduler",)
UNUSED = ("safety_checker", "feature_extractor", "requires_safety_checker")  # they look at pictures that are done
# Conditions beside a text and the time: what a UNet2DConditionModel has for them.
BESIDE = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
TOKENS = ["tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json", "special_tokens_map.json"]
TOKENS += ["tokenizer_config.json"]
SCALE = 0.18215  # of both autoencoders, where their config is from before it was written there


def latent(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The parts of a pipeline by our names, each with its folder and its class; {} if it has no autoencoder.

    Raises:
        ValueError: for a pipeline with a part that has no place, or one of an unknown class.
    """
    there = {name: value[1] for name, value in index.items() if isinstance(value, list) and value[1]}
    parts = {ours: (name, there[name]) for ours, names in NAMES.items() for name in names if name in there}
    if "coder" not in parts:
        return {}
    kind, known = index.get("_class_name"), {*UNUSED, *(name for names in NAMES.values() for name in names)}
    if strange := sorted(set(there) - known):
        raise ValueError(f"a {kind} of diffusers has parts that have no place here: {', '.join(strange)}.")
    for ours, classes in (("coder", CODERS), ("net", NETS), ("encoder", ENCODERS), ("tokenizer", TOKENIZERS)):
        if ours in parts and parts[ours][1] not in classes:
            name, made = parts[ours]
            raise ValueError(f"the {name} of a {kind} is one of {', '.join(classes)}, got {made}.")
    reads = parts.get("net", ("", ""))[1] == "UNet2DConditionModel"
    needed = [*(("encoder", "tokenizer") if reads else ()), "net", "scheduler"]
    if lack := [ours for ours in needed if ours not in parts]:
        raise ValueError(f"a {kind} of diffusers has no {', '.join(NAMES[ours][0] for ours in lack)}.")
    return parts


def find(folder: Path, parts: Mapping[str, tuple[str, str]], *, trust: bool, pickles: bool) -> Found:
    """The networks of a latent pipeline, its schedule and its tokenizer.

    Raises:
        FileNotFoundError: for a part that is not there, with its path.
        ValueError: for a network that needs more than a text, or takes no code.
    """
    at = {ours: folder / name for ours, (name, _) in parts.items()}
    net, coder = (diffusers.settings(at[ours] / "config.json") for ours in ("net", "coder"))
    if beside := [key for key in BESIDE if parts["net"][1] == NETS[1] and net.get(key)]:
        raise ValueError(f"{at['net']} has a condition beside its text ({', '.join(beside)}), which has no place here.")
    if coder.get("shift_factor") or coder.get("latents_mean"):
        raise ValueError(f"{at['coder']} shifts its codes, which no pipeline of this kind does.")
    width = coder.get("vq_embed_dim") or coder.get("latent_channels")
    if net.get("in_channels") != width:
        raise ValueError(
            f"{at['net']} takes {net.get('in_channels')} channels and a code has {width}: a picture is laid beside it, "
            "which has no place here."
        )
    side = net.get("sample_size")
    fields: dict[str, Any] = {
        "unet": diffusers.plain(net),
        "channels": coder.get("in_channels", 3),
        "classes": net.get("num_class_embeds") or 0,
        "size": side * 2 ** (len(coder["block_out_channels"]) - 1) if isinstance(side, int) else 0,
        "coder": diffusers.plain(coder),
        "codebook": parts["coder"][1] == "VQModel",
        "scale": coder.get("scaling_factor", SCALE),
        **diffusers.schedule(at["scheduler"] / "scheduler_config.json"),
    }
    options = {"trust": trust, "pickles": pickles}
    state = {f"inner.net.unet.{k}": v for k, v in diffusers.weights(at["net"], diffusers.STEM, **options).items()}
    state |= {f"autoencoder.coder.{k}": v for k, v in diffusers.weights(at["coder"], diffusers.STEM, **options).items()}
    if parts["net"][1] == NETS[1]:
        said, words = _text(parts, at, **options)
        fields, state = fields | said, state | words
    return Found("diffusers", "diffusers-latent", fields, state, prefix="")


def _text(
    parts: Mapping[str, tuple[str, str]], at: Mapping[str, Path], *, trust: bool, pickles: bool
) -> tuple[dict[str, Any], State]:
    """The fields and the weights of what reads a text."""
    config = diffusers.settings(at["encoder"] / "config.json")
    if config.get("use_attention_mask"):
        raise ValueError(f"{at['encoder']} leaves out the tokens that fill a text, which is not done here.")
    found = {name: (at["tokenizer"] / name).read_text("utf-8") for name in TOKENS if (at["tokenizer"] / name).is_file()}
    if not {"tokenizer.json", "vocab.json", "vocab.txt"} & set(found):
        raise FileNotFoundError(f"{at['tokenizer']} has no words: neither tokenizer.json nor vocab.json nor vocab.txt.")
    state = diffusers.weights(at["encoder"], "model", trust=trust, pickles=pickles)
    # Names from before transformers 5 begin with the module that it took away; positions were a buffer once.
    kept = {k.removeprefix("text_model."): v for k, v in state.items() if not k.endswith("position_ids")}
    files = packed(found)
    fields = {"text": config, "encoder": parts["encoder"][1], "tokenizer": parts["tokenizer"][1]}
    return fields | {"files": files.numel()}, {
        "text.files": files,
        **{f"text.encoder.{key}": value for key, value in kept.items()},
    }
