"""Variational dequantisation: noise inside each level that is learned, so that the bound of a density is tighter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.likelihood.decoders import level_values
from sfumato.noise import Noise


class Dequantizer(nn.Module):
    """u = sigmoid(m + e^s zeta), zeta logistic, m and s of the whole picture from a network: q(u | x).

    With m = s = 0, where a network begins whose last layer is zero, u is uniform. The elements of u are independent
    given the picture (ours; the papers have a flow, Flow++, in which they are not).

    Args:
        net: net(x, c_noise, cond) as in `nets`, x the middles of the levels in [-1, 1], (B, C, *size), c_noise 0, to
            (B, 2 C, *size): m, then s.
        levels: K, of each number.

    Source: Ho et al. 2019 (1902.00275) section 3.1; Song et al. 2021 (2101.09258) section 5.3.
    """

    def __init__(self, net: nn.Module, levels: int = 256) -> None:
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, k: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """(x, log q): numbers 2 (k + u) / K - 1 in [-1, 1) for levels k (B, *event), and log q(u | k) in nats, (B,)."""
        middle = level_values(self.levels, torch.empty((), device=k.device))[k]
        m, s = self.net(middle, middle.new_zeros(len(k)), None).chunk(2, 1)
        zeta = torch.logit(noise.uniform(m), eps=1e-7)
        z = m + s.exp() * zeta
        # Change of variables: the logistic density of zeta over e^s du/dz, du/dz = u (1 - u).
        log_q = -_log_slope_inverse(zeta) - s + _log_slope_inverse(z)
        return 2.0 * (k + torch.sigmoid(z)) / self.levels - 1.0, log_q.flatten(1).sum(1)

    def bound(self, log_prob: Callable[[Tensor], Tensor], k: Tensor, noise: Noise) -> Tensor:
        """log p(x) + d log(2 / K) - log q(u | k), (B,) in nats: its mean is at most the log mass of the levels k.

        Equality where q(u | k) is p(x) on the cell of k, normalised. Args: log_prob: of x in [-1, 1), (B,).
        """
        x, log_q = self(k, noise)
        return log_prob(x) + k[0].numel() * math.log(2.0 / self.levels) - log_q


def _log_slope_inverse(z: Tensor) -> Tensor:
    """-log(sigmoid(z) (1 - sigmoid(z))) = z + 2 softplus(-z)."""
    return z + 2.0 * F.softplus(-z)
