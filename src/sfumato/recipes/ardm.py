"""ARDM: autoregressive diffusion models (Hoogeboom et al. 2022, 2110.02037)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Logits
from sfumato.likelihood import order_losses
from sfumato.likelihood.coding import Decoder, Encoder, frequencies
from sfumato.likelihood.discrete import known_after
from sfumato.noise import Noise
from sfumato.processes import Discrete
from sfumato.recipes.learned_steps import shortest
from sfumato.recipes.tokens import Tokens
from sfumato.samplers import AnyOrder
from sfumato.training import OrderAgnostic


@dataclass(frozen=True)
class Recipe(Tokens):
    """An autoregressive model in any order: a network that predicts every unknown position from the known ones.

        log p(x) >= E_k E_pi [ D / (D - k) sum over unknown i of log p(x_i | x_pi(1) .. x_pi(k)) ],  k = 0 .. D - 1

    It is the absorbing chain of D3PM in the limit of many steps. Sampling reveals positions in a random order, one at a
    time or several at once: a step from a to b known ones costs (b - a) L_a nats, L_a the mean loss of one position
    with a known, so the best grid of S steps is a shortest path (`times` with `losses`). Unlike a bound, the code
    length of one order is exact: `encode` and `decode` are a lossless code, some bytes longer than that.

    The paper's pictures go through a residual network of 32 blocks; here through the library's U-Net (ours). Its
    upscaling variant is not here.

    Source: Hoogeboom et al. 2022 (2110.02037) eq. 3 and 4, algorithms 1 and 2, section 4; public code.
    """

    weight: float = 1e-3  # of the plain cross-entropy; 1e-4 for text
    logistic: bool = False  # pictures: a truncated logistic law in place of free logits

    def process(self) -> Discrete:
        """Masking; the mask is category K."""
        return Discrete(self.levels + 1, absorbing=self.levels)

    def net(self) -> nn.Module:
        """The network of logits."""
        return self.network(masked=True, logistic=self.logistic)

    def model(self) -> Logits:
        """The untrained denoiser; the network is told 1000 times the share that is unknown."""
        return Logits(self.net(), self.process(), clock=lambda t: t * 1000.0)

    def objective(self, denoiser: Denoiser) -> OrderAgnostic:
        """The bound in bits per dimension, and the small plain cross-entropy."""
        return OrderAgnostic(denoiser, self.weight)

    def sampler(self) -> AnyOrder:
        """A random order."""
        return AnyOrder()

    def times(self, dims: int, steps: int | None = None, losses: Tensor | None = None) -> tuple[float, ...]:
        """The grid of `steps` calls for `dims` positions: evenly, or with the least total loss where losses are given.

        Args:
            losses: L_a for a = 0 .. D - 1 known positions, (D,), as `losses` gives them.
        """
        if losses is None or steps is None:
            return grids.levels_of(dims, steps or dims)
        path, _ = shortest(merged_costs(losses), steps)
        return tuple(1.0 - a / dims for a in path)

    def losses(self, denoiser: Denoiser, x0: Tensor, noise: Noise, calls: int | None = None) -> Tensor:
        """L_a, mean nats of one unknown position with a known ones, for a = 0 .. D - 1, (D,), a mean over the batch.

        Args:
            calls: of the denoiser, at evenly spread a, straight lines between; D by default, whose sum is a draw of the
                bound on -log p(x_0).
        """
        D = x0[0].numel()
        counts = sorted({round(i * (D - 1) / max(1, (calls or D) - 1)) for i in range(calls or D)})
        with torch.no_grad():
            found = order_losses(denoiser, x0, noise, counts).double().mean(0)
        # Straight between neighbours of the counts.
        place, at = torch.arange(D), torch.tensor(counts)
        right = torch.searchsorted(at, place).clamp(1 if len(counts) > 1 else 0, len(counts) - 1)
        left = (right - 1).clamp(min=0)
        share = (place - at[left]) / (at[right] - at[left]).clamp(min=1)
        return torch.lerp(found[left], found[right], share.double())

    def encode(self, denoiser: Denoiser, x: Tensor, seed: int = 0, steps: int | None = None) -> bytes:
        """A batch (B, *event) as bytes, by `steps` calls of the denoiser (D by default), in the orders of the seed.

        The receiver must compute the very same probabilities: `decode` needs the same weights, shape, seed and steps,
        and the same machine, library and number of threads, since another batch or kernel rounds differently.
        """
        coder = Encoder()
        for known, chosen in self._walk(x.shape, seed, steps):
            coder.push(frequencies(self._probabilities(denoiser, x, known, chosen)), x.flatten(1)[chosen])
        return coder.finish()

    def decode(
        self, denoiser: Denoiser, code: bytes, shape: Sequence[int], seed: int = 0, steps: int | None = None
    ) -> Tensor:
        """The batch of this shape, int64, that `encode` was given with the same seed and steps."""
        coder, x = Decoder(code), torch.zeros(tuple(shape), dtype=torch.int64)
        for known, chosen in self._walk(x.shape, seed, steps):
            x.flatten(1)[chosen] = coder.pop(frequencies(self._probabilities(denoiser, x, known, chosen)))
        return x

    def _walk(self, shape: Sequence[int], seed: int, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """(known, to be coded), both (B, D) bool, of each step of the orders of a seed."""
        B, D = shape[0], math.prod(shape[1:])
        order = Noise(seed).uniform(torch.empty(B, D, dtype=torch.float64)).argsort(1)
        counts = [round((1.0 - t) * D) for t in self.times(D, steps)]
        for a, b in pairwise(counts):
            known = known_after(order, a)
            yield known, known_after(order, b) & ~known

    def _probabilities(self, denoiser: Denoiser, x: Tensor, known: Tensor, chosen: Tensor) -> Tensor:
        """Of the categories of the data at the chosen positions, (n, K)."""
        xt = torch.where(known.reshape(x.shape), x, self.levels)
        with torch.no_grad():
            p = denoiser(xt, 1.0 - float(known[0].double().mean())).mean
        return p.flatten(1, -2)[chosen][:, : self.levels]


def merged_costs(losses: Tensor) -> Tensor:
    """(b - a) L_a for a < b, infinite elsewhere, (D + 1, D + 1): nats of a step from a to b known positions."""
    D = len(losses)
    place = torch.arange(D + 1, dtype=torch.float64)
    costs = torch.nn.functional.pad(losses.double(), (0, 1))[:, None] * (place - place[:, None])
    return costs.masked_fill(place <= place[:, None], math.inf)
