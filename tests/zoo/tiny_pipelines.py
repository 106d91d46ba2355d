"""Small pipelines of diffusers with random weights, as that library writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PLACES = 9
WIDTHS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}
STABLE |= {"steps_offset": 1}


def clip_tokenizer(at: Path) -> Any:
    """Letters and three words."""
    from transformers import CLIPTokenizer

    at.mkdir(parents=True)
    merges = ["c a", "ca t</w>", "d o", "do g</w>", "r e", "re d</w>"]
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    (at / "vocab.json").write_text(json.dumps(vocabulary))
    (at / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (at / "tokenizer_config.json").write_text(json.dumps({"model_max_length": PLACES, "pad_token": "<|endoftext|>"}))
    return CLIPTokenizer.from_pretrained(at)


def coder(library: Any, kind: str, **settings: Any) -> Any:
    torch.manual_seed(1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return getattr(library, kind)(**WIDTHS, **blocks, **settings).eval()


def reading_unet(library: Any, width: int, **settings: Any) -> Any:
    """A network on which a text has a large effect."""
    torch.manual_seed(2)
    unet = library.UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=2,
        **WIDTHS,
        **settings,
    ).eval()
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "attn2.to_out" in name or "attn2.to_v" in name:
                weight.mul_(6.0)
    return unet


def stable(library: Any, folder: Path, schedule: dict, *, save: bool = True, scaling_factor: float = 0.18215) -> Any:
    """A StableDiffusionPipeline."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = clip_tokenizer(folder / "words")
    torch.manual_seed(3)
    end = len(tokenizer) - 1
    said = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=PLACES, **said, **ends))
    with torch.no_grad():
        for embedding in (m for m in text.modules() if isinstance(m, torch.nn.Embedding)):
            embedding.weight.mul_(50.0)
    pipe = library.StableDiffusionPipeline(
        vae=coder(library, "AutoencoderKL", latent_channels=4, scaling_factor=scaling_factor),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=reading_unet(library, 8),
        scheduler=library.DDIMScheduler(50, clip_sample=False, **schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _ready(pipe, folder / "p" if save else None)


def latent(library: Any, folder: Path, kind: str, classes: int | None = None) -> Any:
    """An LDMPipeline, of codes without a text."""
    torch.manual_seed(4)
    unet = library.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        num_class_embeds=classes,
        **WIDTHS,
    ).eval()
    more = {"num_vq_embeddings": 16} if kind == "VQModel" else {}
    scheduler = library.DDIMScheduler(50, clip_sample=False, timestep_spacing="trailing")
    code = coder(library, kind, latent_channels=3, scaling_factor=0.7, **more)
    return _ready(library.LDMPipeline(vqvae=code, unet=unet, scheduler=scheduler), folder / "p")


def text_to_image(library: Any, folder: Path) -> Any:
    """An LDMTextToImagePipeline, whose text is read by a BERT."""
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
    from transformers import BertTokenizer

    (folder / "words").mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "cat", "dog", *LETTERS, *(f"##{a}" for a in LETTERS)]
    (folder / "words" / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(5)
    said = {"d_model": 8, "encoder_layers": 1, "encoder_ffn_dim": 16, "encoder_attention_heads": 2, "head_dim": 4}
    pipe = library.LDMTextToImagePipeline(
        vqvae=coder(library, "AutoencoderKL", latent_channels=4),
        bert=LDMBertModel(LDMBertConfig(vocab_size=len(words), init_std=1.0, **said)).eval(),
        tokenizer=BertTokenizer.from_pretrained(folder / "words"),
        unet=reading_unet(library, 8),
        scheduler=library.DDIMScheduler(50, clip_sample=False, **STABLE),
    )
    return _ready(pipe, folder / "p")


def _ready(pipe: Any, folder: Path | None) -> Any:
    pipe.set_progress_bar_config(disable=True)
    if folder:
        pipe.save_pretrained(folder)
    return pipe
