"""Levels and characters as categories."""

from __future__ import annotations

import re

import pytest
import torch

from sfumato.codecs import Alphabet, Quantized
from sfumato.codecs.alphabet import points, text


def test_bytes_come_back_from_256_levels() -> None:
    x = torch.arange(256) / 255
    codec = Quantized()
    assert codec.encode(x).tolist() == list(range(256))
    assert torch.equal((codec.decode(codec.encode(x)) * 255).round().long(), torch.arange(256))


def test_few_levels_are_equal_bins_with_black_and_white_at_the_ends() -> None:
    codec = Quantized(4)
    x = torch.tensor([-0.1, 0.0, 0.24, 0.26, 0.49, 0.51, 0.74, 0.76, 1.0, 1.2])
    assert codec.encode(x).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
    back = codec.decode(torch.arange(4))
    assert torch.allclose(back, torch.tensor([0, 1 / 3, 2 / 3, 1]))
    assert codec.encode(back).tolist() == [0, 1, 2, 3]
    assert codec.affine is None and codec.latent((1, 2, 3)) == (1, 2, 3)
    with pytest.raises(ValueError, match="at least 2 levels, got 1"):
        Quantized(1)
    assert Quantized(2).encode(torch.tensor([0.3, 0.6])).tolist() == [0, 1]


def test_characters_and_their_places() -> None:
    codec = Alphabet("cab é")
    x = points("a bé").unsqueeze(0)
    assert codec.encode(x).tolist() == [[1, 3, 2, 4]]
    assert text(codec.decode(codec.encode(x))[0]) == "a bé"
    for strange in ("x", "\x01", "ﬀ"):
        with pytest.raises(ValueError, match=re.escape(f"the alphabet lacks {strange!r}")):
            codec.encode(points("a" + strange))
    for bad in ("", "aba"):
        with pytest.raises(ValueError, match="at least one character, each once"):
            Alphabet(bad)
