"""Score matching as it was before diffusion: explicit targets, and forms that need none. All in nats, (B,).

With psi = (alpha D + shift - x_t) / sigma^2 the model's score at one level t:

    J_ESM = 0.5 E |psi - grad log p_t|^2,    J_DSM = J_ESM + C,    J_ISM = J_ESM - 0.5 E |grad log p_t|^2,

C not depending on psi. The least value of J_DSM is C, not 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.likelihood import rademacher, with_divergence
from sfumato.noise import Noise
from sfumato.processes import Gaussian


class DenoisingScore(nn.Module):
    """0.5 |psi(x_t) + eps / sigma|^2: regression of the score of q(x_t | x_0); of large variance where sigma is small.

    Source: Vincent 2011, eq. 11.
    """

    def __init__(self, denoiser: Denoiser, t: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.t = denoiser, t

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), summed over the event."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        xt = process.marginal(x0, self.t).sample(noise)
        psi = process.score(xt, self.denoiser(xt, self.t, cond).mean, self.t)
        return 0.5 * (psi - process.score(xt, x0, self.t)).flatten(1).square().sum(1)


class ImplicitScore(nn.Module):
    """0.5 |psi|^2 + div psi at x_t: no target; sliced where `probes` is given.

    Args:
        probes: Rademacher vectors for the divergence; 0: the exact trace, one product for each dimension.

    Source: Hyvarinen 2005; Vincent 2011, eq. 4; Song et al. 2019 (1905.07088) eq. 8 for the sliced form.
    """

    def __init__(self, denoiser: Denoiser, t: float = 1.0, probes: int = 0) -> None:
        super().__init__()
        self.denoiser, self.t, self.probes = denoiser, t, probes

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), summed over the event; differentiable in the model."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        xt = process.marginal(x0, self.t).sample(noise).requires_grad_()
        vectors = rademacher(xt, noise, self.probes) if self.probes else None
        psi, div = with_divergence(
            lambda x: process.score(x, self.denoiser(x, self.t, cond).mean, self.t),
            xt,
            vectors,
            graph=torch.is_grad_enabled(),
        )
        return 0.5 * psi.flatten(1).square().sum(1) + div
