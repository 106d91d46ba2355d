"""Networks: plain modules `net(u, c_noise, cond)` that a `Preconditioned` denoiser runs."""

from sfumato.nets.autoencoder import Autoencoder
from sfumato.nets.categories import Levels, Transformer, truncated_logistic
from sfumato.nets.coupling import RealNVP
from sfumato.nets.magnitude import normalize_weights
from sfumato.nets.mlp import MLP
from sfumato.nets.mpunet import MPUNet
from sfumato.nets.piggyback import Guider, Piggyback
from sfumato.nets.unet import UNet

__all__ = [
    "MLP",
    "Autoencoder",
    "Guider",
    "Levels",
    "MPUNet",
    "Piggyback",
    "RealNVP",
    "Transformer",
    "UNet",
    "normalize_weights",
    "truncated_logistic",
]
