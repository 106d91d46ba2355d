"""Asymmetric numeral systems: what goes in comes out, at the length of its probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.likelihood.coding import PRECISION, Decoder, Encoder, frequencies
from sfumato.noise import Noise


def test_frequencies_are_whole_near_the_probabilities_and_never_zero() -> None:
    p = torch.tensor([[0.5, 0.5, 0.0], [1e-12, 0.3, 0.7], [2.0, 1.0, 1.0]], dtype=torch.float64)
    f = frequencies(p)
    assert f.sum(1).tolist() == [1 << PRECISION] * 3 and int(f.min()) == 1
    share = p / p.sum(1, keepdim=True)
    assert float((f / (1 << PRECISION) - share).abs().max()) < 4 / (1 << PRECISION)


@pytest.mark.parametrize("n", [0, 1, 5, 3000])
def test_symbols_come_back_in_their_order(n: int) -> None:
    probs = torch.softmax(6 * Noise(1).normal(torch.empty(n, 11)), -1)
    symbols = Noise(2).choice(probs)
    encoder = Encoder()
    half = n // 3
    encoder.push(frequencies(probs[:half]), symbols[:half])
    encoder.push(frequencies(probs[half:]), symbols[half:])
    code = encoder.finish()
    decoder = Decoder(code)
    assert torch.equal(torch.cat([decoder.pop(frequencies(p)) for p in (probs[:half], probs[half:])]), symbols)
    exact = -float(probs.double().gather(1, symbols[:, None]).log2().sum())
    assert exact / 8 - 1 <= len(code) <= exact / 8 + 8 + 4


def test_sure_symbols_are_free_and_unlikely_ones_cost_what_they_should() -> None:
    p = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(1000, 2)
    sure, odd = Encoder(), Encoder()
    sure.push(frequencies(p), torch.zeros(1000, dtype=torch.int64))
    assert len(sure.finish()) == 8
    odd.push(frequencies(p), torch.ones(1000, dtype=torch.int64))
    assert math.isclose(len(odd.finish()), 1000 * PRECISION / 8, rel_tol=0.01)


def test_broken_codes_are_named() -> None:
    for code in (b"", b"1234", b"123456789"):
        with pytest.raises(ValueError, match=f"at least two, got {len(code)} bytes"):
            Decoder(code)
    p = torch.full((500, 4), 0.25)
    encoder = Encoder()
    encoder.push(frequencies(p), Noise(0).choice(p))
    with pytest.raises(ValueError, match="ends too early"):
        Decoder(encoder.finish()[:-8]).pop(frequencies(p))
