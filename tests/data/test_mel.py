"""Log-mel frames: the numbers of librosa, and what a pure tone must give."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from sfumato.data.mel import LogMel, bank

LIBROSA = json.loads((Path(__file__).parent / "mel_librosa.json").read_text())
VARIANTS = {
    "hifi-gan": LogMel(),
    "diffwave": LogMel("diffwave", low=20.0, high=11025.0),
    "wavegrad": LogMel("wavegrad", 24000, 300, 1200, 2048, 128, 20.0, 12000.0),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_frames_are_librosa_s(name: str) -> None:
    """The signal: three sweeps, made by the same formula there."""
    n = torch.arange(4096 if name != "wavegrad" else 3600, dtype=torch.float64)
    x = 0.3 * torch.sin(0.05 * n) + 0.2 * torch.sin(0.31 * n + 0.5 * torch.sin(0.004 * n))
    x = x + 0.05 * torch.sin(1.3 * n * n / 4096)
    mel, known = VARIANTS[name](x.reshape(1, 1, -1))[0], LIBROSA[name]
    assert list(mel.shape) == known["shape"]
    found = mel[known["bands"]][:, known["frames"]]
    assert torch.allclose(found, torch.tensor(known["values"], dtype=torch.float64), atol=1e-6)
    assert float(mel.mean()) == pytest.approx(known["mean"], abs=1e-6)
    assert float(mel.square().mean()) == pytest.approx(known["square"], abs=1e-5)


def test_a_batch_is_each_of_its_rows() -> None:
    x = torch.randn(2, 1, 2048, generator=torch.Generator().manual_seed(0))
    both = LogMel()(x)
    assert both.shape == (2, 80, 8) and both.dtype == x.dtype
    assert torch.allclose(both[1:], LogMel()(x[1:]), atol=1e-5)


def test_twice_as_loud() -> None:
    """ln 2 more in every band, or 20 log10(2) / 100 more; silence is at the floor."""
    x = torch.randn(1, 1, 4096, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.1
    for name, step in (("hifi-gan", math.log(2.0)), ("diffwave", 0.2 * math.log10(2.0))):
        mel = VARIANTS[name]
        assert torch.allclose(mel(2 * x) - mel(x), torch.tensor(step).double(), atol=1e-9)
    assert float(VARIANTS["hifi-gan"](0 * x).max()) == pytest.approx(math.log(1e-5))
    assert VARIANTS["diffwave"](0 * x).abs().max() == 0.0
    assert VARIANTS["diffwave"](1e6 * x).min() == 1.0


def test_a_tone_is_in_its_band_and_the_bank_ends_at_half_the_rate() -> None:
    hertz = torch.arange(8192, dtype=torch.float64) / 8000
    mel = LogMel(hertz=8000, hop=64, window=256, n_fft=256, mels=20)(torch.sin(2000 * math.pi * hertz)[None, None])
    assert mel.shape == (1, 20, 128)
    edges = torch.linspace(0.0, 15.0 + 27.0 * math.log(4.0) / math.log(6.4), 22)  # 4 kHz on Slaney's scale; 1 kHz is 15
    assert int(mel.mean(-1).argmax()) == int((edges[1:-1] - 15.0).abs().argmin())
    assert bank(8000, 256, 20, 0.0, 4000.0)[-1, -1] == 0.0


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="variant is"):
        LogMel("mine")
    for wrong in ({"hop": 2048}, {"window": 2048}, {"low": 9000.0}, {"low": -1.0}, {"hop": 0}, {"high": 0.0}):
        with pytest.raises(ValueError, match="hop <= window <= n_fft and low < high"):
            LogMel(**wrong)
    for length in (1000, 512):
        with pytest.raises(ValueError, match="multiple of the hop of 256 samples, longer than 512"):
            LogMel()(torch.zeros(1, 1, length))
