"""Networks: plain modules `net(u, c_noise, cond)` that a `Preconditioned` denoiser runs, and autoencoders."""

from sfumato.nets.autoencoder import Autoencoder
from sfumato.nets.mlp import MLP
from sfumato.nets.unet import UNet

__all__ = ["MLP", "Autoencoder", "UNet"]
