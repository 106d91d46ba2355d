"""Text as a condition: its embedding, and what stands for no text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Texts to (B, L, C): a vector of C numbers for each of L places, which a network reads as its condition "text".

    A denoiser of text carries its encoder as the attribute `text`: `Model.sample` then takes texts for conditions.
    """

    @abstractmethod
    def forward(self, texts: Sequence[str]) -> Tensor:
        """The embeddings of the texts, (B, L, C); that of one does not depend on the others."""


def embedded(encoder: TextEncoder, texts: Sequence[str], negative: str = "") -> dict[str, Tensor]:
    """{"text": the embeddings of the texts, (B, L, C), "null": that of `negative` for each of them, as many}.

    With both in the condition, what guidance leads away from is a function of the condition alone: `without`. Each
    distinct text is embedded once.

    Args:
        negative: what stands for no text, in training the empty one.

    Source: Ho & Salimans 2021 (2207.12598) section 3.2 for the null; Rombach et al. 2022 (2112.10752) section 3.3.
    """
    distinct = list(dict.fromkeys([*texts, negative]))
    rows = encoder(distinct)
    return {
        "text": rows[[distinct.index(text) for text in texts]],
        "null": rows[[distinct.index(negative)] * len(texts)],
    }


def without(cond: Mapping[str, Any]) -> dict[str, Any]:
    """The condition without its text: "text" is what was "null", all else stays. The `null` of `CFG`.

    Raises:
        ValueError: for a condition that has none.
    """
    if "null" not in cond:
        raise ValueError(f'guidance by text needs "null" in the condition, which `embedded` gives; got {sorted(cond)}.')
    return {**cond, "text": cond["null"]}
