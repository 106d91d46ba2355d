"""The denoising loss of EDM2: weighed at each noise level by an uncertainty that is learned beside the network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, log_snr
from sfumato.nets.magnitude import MPFourier, MPLayer, normalize_weights
from sfumato.processes import Gaussian
from sfumato.training.objectives import Denoising


class Uncertainty(nn.Module):
    """u(sigma): a linear map of `width` Fourier features of log(sigma / alpha) / 4, (B,) to (B,).

    Source: Karras et al. 2024 (2312.02696) appendix B.2 and public code.
    """

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.fourier, self.linear = MPFourier(width), MPLayer(width, 1)

    def forward(self, c_noise: Tensor) -> Tensor:
        return self.linear(self.fourier(c_noise)).squeeze(-1)


class Uncertain(Denoising):
    """w / exp(u) mean (x_0 - D)^2 + u, u(sigma) learned: at its best exp(u) is the expected weighted loss of a level.

    Every level then weighs the same in the gradient of the network, whatever `weight` is, without a history. u is
    trained with the network and no part of the model. `advance` normalises the weights of magnitude-preserving layers
    before each step.

    Args:
        denoiser, times, weight, drop, null: as of `Denoising`.
        features: Fourier features of u.

    Source: Karras et al. 2024 (2312.02696) eq. 21 and appendix B.2.
    """

    def __init__(self, denoiser: Denoiser, *args: Any, features: int = 128, **options: Any) -> None:
        super().__init__(denoiser, *args, **options)
        self.uncertainty = Uncertainty(features)

    def weighed(self, error: Tensor, process: Gaussian, t: Tensor) -> Tensor:
        """The loss of each sample from its mean square error at its time, (B,)."""
        loss = super().weighed(error, process, t)
        c_noise = -0.125 * torch.as_tensor(log_snr(process.alpha(t), process._level(t)))
        u = self.uncertainty(c_noise.to(loss))
        return loss / u.exp() + u

    def advance(self, step: int) -> None:
        """Forced weight normalisation."""
        normalize_weights(self)
