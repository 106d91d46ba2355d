"""Any order: positions of a masked sequence made known one after another, or several at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.laws import Categorical
from sfumato.noise import Noise
from sfumato.processes import Categories, Time
from sfumato.samplers.base import Sampler


@dataclass(frozen=True)
class AnyOrder(Sampler):
    """A step to s draws as many of the masked positions from p(x_0 | x_t) as leave round(s D) of D masked.

    Each step of 1 / D makes one position known, and the chain is an autoregressive model in a random order, with no
    error but the network's; larger steps draw positions as if they were independent. Unlike `Ancestral` on a masking
    process, no step is idle and the number that is known is not left to chance, which is its law given the numbers
    (first-hitting sampling), so a network that is told t sees the t of its training. What is known is never changed: a
    start with some positions known completes them.

    Categories are drawn in float64. In float32 with Gumbel noise the tails are cut, which samples at a temperature
    below 1 and flatters the perplexity of samples (Zheng et al. 2024).

    Args:
        order: "random", or "forward": from the first position to the last.

    Source: Hoogeboom et al. 2022 (2110.02037) algorithm 1; Zheng et al. 2024 (2409.02908) sections 3 and 4.
    """

    order: Literal["random", "forward"] = "random"

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        mask = process.mask if isinstance(process, Categories) else None
        if mask is None or not isinstance(s, float):
            raise ValueError(
                f"AnyOrder needs a process with a mask and one time for the batch, got {type(process).__name__}: "
                "take Ancestral."
            )
        masked = xt.flatten(1) == mask
        score = torch.zeros(masked.shape, dtype=torch.float64, device=xt.device)
        score = noise.uniform(score) if self.order == "random" else score + torch.arange(score.shape[1]).to(score)
        rank = torch.where(masked, score, torch.inf).argsort(1).argsort(1)
        chosen = masked & (rank < masked.sum(1, keepdim=True) - round(s * score.shape[1]))
        drawn = Categorical(denoiser(xt, t).mean).sample(noise)
        return torch.where(chosen.reshape(xt.shape), drawn, xt), memory
