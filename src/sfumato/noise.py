"""Randomness as a value: every draw of the package comes from one of these streams.

`Noise(seed)` is one stream for a whole batch; `Seeds(range(16))` is one stream per sample, so that sample 3 is the
same in any batch, on any worker. Draws are made on the CPU and moved, so that a seed means the same picture on every
device; `Noise(seed, device="cuda")` opts out where speed matters more. A stream moves on with every draw.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Noise:
    """One stream of random numbers for the whole batch.

    Args:
        seed: an integer; the stream is a function of it alone.
        device: where numbers are drawn; the result is always moved to the device of `like`.
    """

    def __init__(self, seed: int = 0, *, device: torch.device | str = "cpu") -> None:
        self.seed = int(seed)
        self.generator = torch.Generator(device).manual_seed(self.seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers with the shape, dtype and device of `like` (complex: unit total variance)."""
        return self._draw(like, torch.randn)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers uniform on [0, 1) with the shape, dtype and device of `like`."""
        return self._draw(like, torch.rand)

    def gamma(self, concentration: Tensor) -> Tensor:
        """Gamma numbers of unit rate and the given concentration (above 0), elementwise: mean and variance equal it."""
        drawn = torch._standard_gamma(concentration.to(self.generator.device), generator=self.generator)
        return drawn.to(concentration.device)

    def poisson(self, rate: Tensor) -> Tensor:
        """Counts of the given mean (at least 0), elementwise, in the dtype of `rate`."""
        return torch.poisson(rate.to(self.generator.device), generator=self.generator).to(rate.device)

    def binomial(self, count: Tensor, prob: float) -> Tensor:
        """Of `count` trials those that succeed, elementwise, in the dtype of `count`, whole numbers."""
        there = count.to(self.generator.device)
        return torch.binomial(there, torch.full_like(there, prob), generator=self.generator).to(count.device)

    def choice(self, probs: Tensor) -> Tensor:
        """Category indices (...), int64, drawn with probabilities `probs` (..., K); they need not sum to one."""
        cdf = probs.double().cumsum(-1)
        u = self.uniform(like=cdf[..., 0]) * cdf[..., -1]
        return torch.searchsorted(cdf, u.unsqueeze(-1), right=True).squeeze(-1).clamp_(max=probs.shape[-1] - 1)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0 .. n-1, int64 on the CPU."""
        return torch.randperm(n, generator=self.generator, device=self.generator.device).cpu()

    def at(self, key: object) -> Noise:
        """The stream of a key: a function of the seed and the key alone, not of how far this stream has moved."""
        return Noise(_hash(self.seed, key), device=self.generator.device)

    def _draw(self, like: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        g = self.generator
        x = draw(like.shape, generator=g, dtype=like.dtype, device=g.device)
        return x if x.device == like.device else x.to(like.device)


class Seeds(Noise):
    """One stream per sample: row `i` of every draw depends on `seeds[i]` alone, whatever the batch.

    Raises:
        ValueError: on a draw whose first axis has another length than `seeds`.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self.seeds = list(seeds)

    @functools.cached_property
    def streams(self) -> list[Noise]:
        """The streams, made on the first draw: generators are dear where nothing is drawn."""
        return [Noise(seed) for seed in self.seeds]

    @classmethod
    def keyed(cls, seed: int, ids: Iterable[object]) -> Seeds:
        """One stream per id, from a hash of `(seed, id)`.

        Training keys by `(seed, (step, item))` and jobs by `(seed, (item, sample))`, never by rank or worker. An id is
        anything whose `repr` is stable: integers, strings, tuples of them.
        """
        return cls(_hash(seed, key) for key in ids)

    def __len__(self) -> int:
        return len(self.seeds)

    def gamma(self, concentration: Tensor) -> Tensor:
        self._check(concentration)
        return torch.stack([n.gamma(c) for n, c in zip(self.streams, concentration, strict=True)])

    def poisson(self, rate: Tensor) -> Tensor:
        self._check(rate)
        return torch.stack([n.poisson(r) for n, r in zip(self.streams, rate, strict=True)])

    def binomial(self, count: Tensor, prob: float) -> Tensor:
        self._check(count)
        return torch.stack([n.binomial(c, prob) for n, c in zip(self.streams, count, strict=True)])

    def permutation(self, n: int) -> Tensor:
        """One order per sample: (B, n)."""
        return torch.stack([stream.permutation(n) for stream in self.streams])

    def at(self, key: object) -> Seeds:
        """The streams of a key, one per sample: a function of each seed and the key alone."""
        return Seeds(_hash(stream.seed, key) for stream in self.streams)

    def _draw(self, like: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        self._check(like)
        rows = torch.empty(like.shape, dtype=like.dtype)
        for row, stream in zip(rows, self.streams, strict=True):
            draw(row.shape, generator=stream.generator, dtype=like.dtype, out=row)
        return rows.to(like.device)

    def _check(self, like: Tensor) -> None:
        if like.ndim == 0 or like.shape[0] != len(self):
            raise ValueError(
                f"Seeds has {len(self)} streams but the batch has shape {tuple(like.shape)}: "
                "give one seed per row (several samples of one y are rows too)."
            )


def _hash(seed: int, key: object) -> int:
    digest = hashlib.blake2b(repr((int(seed), key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
