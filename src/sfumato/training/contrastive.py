"""Contrastive learning: codes of two views of one item attract, those of other items repel."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.noise import Noise


def views(x: Tensor, noise: Noise, *, shift: float = 0.1, zoom: float = 0.2, flip: bool = True) -> Tensor:
    """Each image moved, enlarged and flipped at random, (B, C, H, W); the border is reflected.

    Args:
        shift: the largest move, as a share of the side, each way.
        zoom: enlargement by 1 to 1 / (1 - zoom).
        flip: left and right, every second time.
    """
    u = noise.uniform(x.new_empty(len(x), 4))
    scale = 1.0 - zoom * u[:, 0]
    sign = torch.where(u[:, 1] < 0.5, -1.0, 1.0) if flip else torch.ones_like(scale)
    move = 2.0 * shift * (2.0 * u[:, 2:] - 1.0)
    zero = torch.zeros_like(scale)
    rows = [torch.stack([scale * sign, zero, move[:, 0]], 1), torch.stack([zero, scale, move[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


class Momentum(nn.Module):
    """InfoNCE against a queue of the keys of earlier batches, made by a slow copy of the encoder, (B,) in nats:

        -log exp(q.k / T) / (exp(q.k / T) + sum_j exp(q.k_j / T)),   q, k of unit length.

    Args:
        encoder: (B, *event) to (B, features).
        features: length of a code.
        length: of the queue, a multiple of the batch or not; the oldest keys leave.
        keep: share of itself that the slow copy keeps at each `advance`.
        temperature: T.

    Source: He et al. 2020 (1911.05722) eq. 1 and 2; MoCo v2: Chen et al. 2020 (2003.04297) for T = 0.2.
    """

    def __init__(
        self, encoder: nn.Module, features: int, *, length: int = 4096, keep: float = 0.99, temperature: float = 0.2
    ) -> None:
        super().__init__()
        self.slow = copy.deepcopy(encoder).requires_grad_(False)
        self.keep, self.temperature = keep, temperature
        queue = torch.empty(length, features)
        nn.init.normal_(queue)  # strangers to begin with
        self.register_buffer("queue", F.normalize(queue))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def advance(self, encoder: nn.Module) -> None:
        """Moves the slow copy towards the encoder."""
        torch._foreach_lerp_(list(self.slow.parameters()), list(encoder.parameters()), 1.0 - self.keep)

    def forward(self, code: Tensor, view: Tensor) -> Tensor:
        """The loss of each row's code with the slow copy's code of its other view; the new keys join the queue."""
        queue: Tensor = self.queue  # type: ignore[assignment]
        q = F.normalize(code)
        with torch.no_grad():
            key = F.normalize(self.slow(view))
        own = (q * key).sum(1, keepdim=True)
        logits = torch.cat([own, q @ queue.clone().T], 1) / self.temperature
        self._join(key)
        return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64), reduction="none")

    @torch.no_grad()
    def _join(self, key: Tensor) -> None:
        queue, place = self.queue, self.place
        assert isinstance(queue, Tensor) and isinstance(place, Tensor)
        index = (place + torch.arange(len(key), device=place.device)) % len(queue)
        queue[index] = key.to(queue)
        place.copy_((place + len(key)) % len(queue))
