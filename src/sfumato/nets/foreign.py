"""Networks of diffusers and transformers under the calls of ours (extra `diffusers`)."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.nets.text import TextEncoder
from sfumato.nets.unet import pad_to

TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "BertTokenizer", "BertTokenizerFast")
TOKENS = 77  # places of a text, where neither the tokenizer nor the encoder says another number


def made(name: str, config: Mapping[str, Any]) -> nn.Module:
    """The untrained network that a config of diffusers or transformers describes.

    Args:
        name: UNet2DModel, UNet2DConditionModel, AutoencoderKL, VQModel, CLIPTextModel or LDMBertModel.

    Raises:
        ImportError: without the extra.
    """
    if name == "CLIPTextModel":
        transformers = library("transformers")
        net: nn.Module = transformers.CLIPTextModel(transformers.CLIPTextConfig.from_dict(dict(config)))
        return getattr(net, "text_model", net)  # transformers 4 has one more module around it
    if name == "LDMBertModel":
        bert = library("diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion")
        return bert.LDMBertModel(bert.LDMBertConfig.from_dict(dict(config)))
    return getattr(library("diffusers"), name).from_config(dict(config))


def library(name: str) -> Any:
    """A module of the extra `diffusers`.

    Raises:
        ImportError: without it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"a network of diffusers needs that library: pip install 'sfumato[diffusers]' ({error})."
        ) from error


class Coder(nn.Module):
    """An AutoencoderKL or VQModel as an autoencoder of ours, of the calls of `Taming`.

    Sizes that the strides do not divide are padded by reflection on the way in, and `decode` crops to the size it is
    told. A VQModel rounds to its codebook inside `decode`; its code is the encoder's output itself.
    """

    def __init__(self, coder: nn.Module) -> None:
        super().__init__()
        self.coder = coder
        said: Any = coder.config
        self.codebook = hasattr(said, "num_vq_embeddings")
        self.latent = int(getattr(said, "vq_embed_dim", None) or said.latent_channels)
        self.stride = 2 ** (len(said.block_out_channels) - 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(mean, log variance) of q(z | x)."""
        found = self._call("encode", pad_to(x, self.stride))
        if self.codebook:
            return found.latents, torch.full_like(found.latents, -30.0)
        return found.latent_dist.mean, found.latent_dist.logvar

    def decode(self, z: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The picture of a code, cropped to `size`."""
        window: tuple[Any, ...] = (..., *(slice(n) for n in size or ()))
        x: Tensor = self._call("decode", z).sample
        return x[window]

    def shape(self, event: Sequence[int]) -> tuple[int, ...]:
        """Shape of the code of an event (channels, H, W)."""
        return (self.latent, *(math.ceil(n / self.stride) for n in event[1:]))

    def _call(self, name: str, x: Tensor) -> Any:
        call: Callable[[Tensor], Any] = getattr(self.coder, name)
        return call(x)


class Words(TextEncoder):
    """A tokenizer and an encoder of transformers: the encoder's last hidden states, (B, L, C).

    Every text is cut or filled to L tokens, and encoded by itself. The tokenizer's files are among the weights, as
    bytes, so that a model of ours stays one file of tensors.

    Args:
        encoder: called with indices of tokens, (1, L); the first of what it returns is taken.
        tokenizer: name of a class of transformers, one of `TOKENIZERS`.
        size: bytes that `packed` makes of its files.
        length: L where the tokenizer names no smaller number; as a rule the places that the encoder knows.

    Raises:
        ValueError: for another tokenizer.
    """

    def __init__(self, encoder: nn.Module, tokenizer: str, size: int, length: int = TOKENS) -> None:
        super().__init__()
        if tokenizer not in TOKENIZERS:
            raise ValueError(f"tokenizer is one of {', '.join(TOKENIZERS)}, got {tokenizer!r}.")
        self.encoder, self.kind, self.length = encoder, tokenizer, length
        self.register_buffer("files", torch.zeros(size, dtype=torch.uint8))
        self.files: Tensor

    def forward(self, texts: Sequence[str]) -> Tensor:
        tokenizer = self.tokenizer()
        length = min(self.length, tokenizer.model_max_length)
        said = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return torch.cat([self.encoder(row[None])[0] for row in said.input_ids.to(self.files.device)])

    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        transformers = library("transformers")
        with tempfile.TemporaryDirectory() as place:
            for name, text in json.loads(bytes(self.files.cpu().numpy())).items():
                (Path(place) / Path(name).name).write_text(text, "utf-8")
            return getattr(transformers, self.kind).from_pretrained(place, local_files_only=True)


def packed(files: Mapping[str, str]) -> Tensor:
    """The texts of a tokenizer's files by their names, as bytes: what `Words` keeps."""
    return torch.frombuffer(bytearray(json.dumps(files).encode("utf-8")), dtype=torch.uint8)
