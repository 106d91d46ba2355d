"""Networks: plain modules `net(u, c_noise, cond)` that a `Preconditioned` denoiser runs."""

from sfumato.nets.unet import UNet

__all__ = ["UNet"]
