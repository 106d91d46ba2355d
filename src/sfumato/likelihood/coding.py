"""Lossless coding: asymmetric numeral systems, a stack of symbols whose length is their -log2 p, to within a few bytes.

A state s and a symbol that owns the `f` numbers from `c` of 2^PRECISION: s' = (s // f) 2^PRECISION + c + s % f, which
the decoder undoes, last in, first out. So the encoder keeps the intervals and pushes them backwards. Words of 32 bits
leave the state where it would pass 2^64.

Source: Duda 2013 (1311.2540) section 3; Townsend et al. 2019 (1901.04866) section 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

PRECISION = 24
LOW, WORD = 1 << 32, 32


def frequencies(probs: Tensor) -> Tensor:
    """Whole numbers near 2^24 p, each at least 1, rows that sum to 2^24: (n, K), int64."""
    K = probs.shape[-1]
    share = probs.double() / probs.double().sum(-1, keepdim=True)
    f = (share * ((1 << PRECISION) - K)).floor().long() + 1
    # What flooring left goes to the largest.
    f.scatter_add_(-1, f.argmax(-1, keepdim=True), (1 << PRECISION) - f.sum(-1, keepdim=True))
    return f


class Encoder:
    """Takes symbols in the order in which the decoder will give them."""

    def __init__(self) -> None:
        self.intervals: list[tuple[int, int]] = []

    def push(self, freqs: Tensor, symbols: Tensor) -> None:
        """Adds symbols (n,), each with the frequencies of its row, (n, K)."""
        f = freqs.gather(-1, symbols.unsqueeze(-1)).squeeze(-1)
        start = freqs.cumsum(-1).gather(-1, symbols.unsqueeze(-1)).squeeze(-1) - f
        self.intervals.extend(zip(f.tolist(), start.tolist(), strict=True))

    def finish(self) -> bytes:
        """The code."""
        state, words = LOW, []
        for f, start in reversed(self.intervals):
            if state >= f << (64 - PRECISION):
                words.append(state & (LOW - 1))
                state >>= WORD
            state = (state // f << PRECISION) + start + state % f
        words += [state & (LOW - 1), state >> WORD]
        return b"".join(word.to_bytes(4, "big") for word in reversed(words))


class Decoder:
    """Gives symbols back in the order in which the encoder took them."""

    def __init__(self, code: bytes) -> None:
        if len(code) < 8 or len(code) % 4:
            raise ValueError(f"a code is whole words of 4 bytes, at least two, got {len(code)} bytes.")
        words = [int.from_bytes(code[i : i + 4], "big") for i in range(0, len(code), 4)]
        self.state, self.words = words[0] << WORD | words[1], words[:1:-1]

    def pop(self, freqs: Tensor) -> Tensor:
        """The next n symbols, (n,), from the frequencies of their rows, (n, K).

        Raises:
            ValueError: where the code ends too early: it is cut short, or was made with other probabilities.
        """
        ends, found = freqs.cumsum(-1), []
        for row in ends:
            place = self.state & ((1 << PRECISION) - 1)
            symbol = int(torch.searchsorted(row, place, right=True))
            start = int(row[symbol - 1]) if symbol else 0
            self.state = (int(row[symbol]) - start) * (self.state >> PRECISION) + place - start
            if self.state < LOW:
                if not self.words:
                    raise ValueError("the code ends too early: it is cut short, or made with other probabilities.")
                self.state = self.state << WORD | self.words.pop()
            found.append(symbol)
        return torch.tensor(found, dtype=torch.int64)
