"""Networks of score SDEs and of EDM, as published weights have them (2011.13456, 2206.00364)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, edm, predict_eps, predict_score
from sfumato.denoisers.preconditioned import Parameterization, Scheme
from sfumato.nets.ablated import Ablated
from sfumato.nets.ncsnpp import NCSNpp
from sfumato.processes import EDM, Coefficient, Gaussian, Geometric, LinearBeta, SubVP, lib
from sfumato.training import Denoising, LogNormal, Uniform, edm_weight, eps_weight

EXAMPLE = "sfumato convert edm-cifar10-32x32-cond-vp.pkl -o model"


def of_bare(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = eps of the bare x_t, whatever alpha and sigma: as score SDEs have VP and sub-VP."""
    return predict_eps(alpha, sigma)._replace(c_in=1.0 + 0.0 * sigma)


def of_exploding(alpha: Coefficient, sigma: Coefficient) -> Scheme:
    """F = sigma score of the bare x_t, told log(sigma / 2): sigma in the unit of data in [0, 1]."""
    return predict_score(alpha, sigma)._replace(c_noise=lib(sigma).log(0.5 * sigma))


@dataclass(frozen=True)
class Recipe:
    """DDPM++, NCSN++ or EDM's ADM network: what `sfumato convert` makes of score_sde and EDM, and can be trained on.

    "edm": D = c_skip x + c_out F(c_in x, log(sigma) / 4), sigma up to 80. "vp" and "sub-vp": D = (x - sigma F) / alpha,
    told 999 t. "ve": D = x + sigma F(x, log(sigma / 2)). Data in [-1, 1], so that the levels of VE are twice those of
    score_sde, whose data are in [0, 1]: the same model. With classes, no label means no class.

    Args:
        kind: "edm", "vp", "sub-vp" or "ve".
        net: "song" (DDPM++ and NCSN++) or "adm", of 64 channels a head, blocks that resample, and no more settings.
        base: channels after the entrance, or of the clock's sinusoids.
        embedding, encoder, decoder, taps: of "song", as in `nets.ncsnpp`.
        sigma_min, sigma_max: of "edm" and "ve"; None: 0.002 and 80, or 0.02 and 100, the code's.
        size: side of the pictures that it was trained on; any side that the strides divide will run. 0: not known.

    Source: Song et al. 2021 (2011.13456) appendices C and H, public code; Karras et al. 2022 (2206.00364) tables 1, 7.
    """

    kind: str = "edm"
    net: str = "song"
    channels: int = 3
    base: int = 128
    widths: tuple[int, ...] = (256, 256, 256)
    blocks: int = 4
    attention: tuple[int, ...] = (1,)
    embedding: str = "positional"
    encoder: str = "standard"
    decoder: str = "standard"
    taps: tuple[float, ...] = (1.0, 1.0)
    classes: int = 0
    sigma_data: float = 0.5
    sigma_min: float | None = None
    sigma_max: float | None = None
    beta_min: float = 0.1
    beta_max: float = 20.0
    size: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("edm", "vp", "sub-vp", "ve"):
            raise ValueError(f"kind is 'edm', 'vp', 'sub-vp' or 've', got {self.kind!r}.")
        if self.net not in ("song", "adm"):
            raise ValueError(f"net is 'song' or 'adm', got {self.net!r}.")

    def process(self) -> Gaussian:
        """The process that `kind` names."""
        if self.kind in ("edm", "ve"):
            low, high = (0.002, 80.0) if self.kind == "edm" else (0.02, 100.0)
            low, high = self.sigma_min or low, self.sigma_max or high
            return EDM(low, high) if self.kind == "edm" else Geometric(low, high)
        return (LinearBeta if self.kind == "vp" else SubVP)(self.beta_min, self.beta_max)

    def scheme(self) -> Parameterization:
        """The parameterisation that `kind` names."""
        return {"edm": edm(self.sigma_data), "ve": of_exploding}.get(self.kind, of_bare)

    def network(self) -> nn.Module:
        """The untrained network."""
        shared: dict[str, Any] = {"attention": self.attention, "classes": self.classes, "dropout": self.dropout}
        if self.net == "adm":
            shared |= {"head_channels": 64, "resample": "block", "unlabelled": True, "least": 4}
            return Ablated(self.channels, self.base, self.widths, self.blocks, **shared)
        shared |= {"embedding": self.embedding, "encoder": self.encoder, "decoder": self.decoder, "taps": self.taps}
        return NCSNpp(self.channels, self.base, self.widths, self.blocks, **shared)

    def model(self) -> Preconditioned:
        """The untrained denoiser."""
        clock = (lambda t: 999.0 * t) if self.kind in ("vp", "sub-vp") else None
        return Preconditioned(self.network(), self.process(), self.scheme(), clock=clock)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The loss of the paper of its kind: EDM's, or the score loss with weight sigma^2."""
        if self.kind == "edm":
            return Denoising(denoiser, LogNormal(-1.2, 1.2), edm_weight(self.sigma_data))
        return Denoising(denoiser, Uniform(1e-5, 1.0), eps_weight)

    def null(self, cond: Any) -> Tensor:
        """The label that means no class, for every row."""
        assert isinstance(cond, Tensor)
        return torch.full_like(cond, self.classes)
