"""A latent model of the library diffusers, with a text for its condition or none (extra `diffusers`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.guides.cfg import nothing
from sfumato.nets import foreign
from sfumato.nets.text import TextEncoder, without
from sfumato.recipes import diffusers_unet
from sfumato.recipes.compvis_ldm import Coded

EXAMPLE = 'sfumato sample FOLDER --prompt "a red shoe" --guidance 7.5'


class Reading(nn.Module):
    """`net(u, c_noise, cond)` of a UNet2DConditionModel, which reads the condition's "text", (B, L, C)."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        if cond is None:
            raise ValueError(
                'the network reads a text: give it {"text": (B, L, C)}, the embedding that it has for one.'
            )
        out: Tensor = self.unet(u, c_noise, encoder_hidden_states=cond["text"].to(u)).sample
        return out


class Prompted(Coded):
    """The denoiser of codes, the autoencoder that makes them, and the encoder of its text; `Model` asks for `text`."""

    def __init__(self, inner: Denoiser, autoencoder: foreign.Coder, scale: float, text: TextEncoder) -> None:
        super().__init__(inner, autoencoder, scale)
        self.text = text


@dataclass(frozen=True)
class Recipe(diffusers_unet.Recipe):
    """What `sf.load` makes of a folder of diffusers with an autoencoder: LDMPipeline, StableDiffusionPipeline,
    LDMTextToImagePipeline, each with the library's own networks on our table.

    z = scale E(x), x = G(z / scale); on z the table, and the network's eps, z or v, as in `diffusers-unet`. E(x) is the
    mean of q(z | x), or with a codebook the code before it is rounded; G rounds. A text enters as the last hidden
    states of its encoder, which attention reads; no text is the empty one. Data in [0, 1], the autoencoder's own space
    [-1, 1].

    Guidance: D_null + scale (D_text - D_null), and `guidance_scale` of diffusers is the same number: `model.sample(4,
    cond="a red shoe", scale=7.5)`; w of the paper is scale - 1. There, a scale below 1 means none; here it is what the
    formula says, and 1 is none. A negative prompt takes the place of the empty text:
    `cond=model.prompts(["a red shoe"] * 4, negative="leather")`.

    Not taken over: the scheduler's way of drawing (its clipping, its own spacing of steps), the filter of pictures.

    Args:
        coder: the config of the autoencoder, an AutoencoderKL or, with `codebook`, a VQModel.
        scale: `scaling_factor`.
        text: the config of the encoder; none: a UNet2DModel, without a condition or with labels.
        encoder, tokenizer: names of their classes.
        files: bytes of the tokenizer's files.

    Source: Rombach et al. 2022 (2112.10752) sections 3.1 to 3.3; Ho & Salimans 2021 (2207.12598) eq. 6; public code of
    diffusers.
    """

    coder: dict[str, Any] = field(default_factory=dict)
    codebook: bool = False
    scale: float = 0.18215
    text: dict[str, Any] = field(default_factory=dict)
    encoder: str = "CLIPTextModel"
    tokenizer: str = "CLIPTokenizer"
    files: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0.0:
            raise ValueError(f"scale is above 0, got {self.scale}.")

    def model(self) -> Coded:  # type: ignore[override]
        """The untrained denoiser of codes and its autoencoder; of text, its encoder too.

        Raises:
            ImportError: without the extra.
        """
        coder = foreign.Coder(foreign.made("VQModel" if self.codebook else "AutoencoderKL", self.coder))
        if not self.text:
            return Coded(super().model(), coder, self.scale)
        net = Reading(foreign.made("UNet2DConditionModel", self.unet))
        places = self.text.get("max_position_embeddings", foreign.TOKENS)
        words = foreign.Words(foreign.made(self.encoder, self.text), self.tokenizer, self.files, places)
        return Prompted(self.denoiser(net), coder, self.scale, words)

    def null(self, cond: Any) -> Any:
        """The condition with the empty, or the negative, text; labels have none."""
        return without(cond) if self.text else nothing(cond)
