"""Networks: plain modules `net(u, c_noise, cond)` that a `Preconditioned` denoiser runs."""

from sfumato.nets.categories import Levels, Transformer, truncated_logistic
from sfumato.nets.unet import UNet

__all__ = ["Levels", "Transformer", "UNet", "truncated_logistic"]
