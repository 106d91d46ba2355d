"""Networks of sounds: the answers of the public code on the same weights, what they see, and where they begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from filled_weights import fill, signal
from torch.nn import functional as F

from sfumato.nets.film_unet import FilmUNet
from sfumato.nets.steps import StepEmbedding
from sfumato.nets.wavenet import LevelEmbedding, Lifted, Upsampler, WaveNet, strides_of

PUBLIC = json.loads((Path(__file__).parents[1] / "data" / "public_sounds.json").read_text())


def agrees(name: str, y: torch.Tensor, tolerance: float) -> None:
    y, known = y.detach().reshape(-1), PUBLIC[name]
    want = torch.tensor(known["values"], dtype=torch.float64)
    size = known["square"] ** 0.5
    assert float((y[::37][:24] - want).abs().max()) < tolerance * size
    assert float(y.mean()) == pytest.approx(known["mean"], abs=tolerance * size)
    assert float(y.square().mean()) == pytest.approx(known["square"], rel=2 * tolerance)


def wavenet() -> WaveNet:
    return WaveNet(4, 4, 3, StepEmbedding(50, width=512), read=Upsampler((16, 16)), beside=6)


@pytest.mark.parametrize("step", [7, 10.45])
def test_diffwave_is_that_of_the_public_code(step: float) -> None:
    """github.com/lmnt-com/diffwave, model.py, with the table of sinusoids in float64; integer and real steps."""
    cond = {"mel": signal(24, 3.0).reshape(1, 6, 4)}
    agrees(f"diffwave {step}", fill(wavenet())(signal(1024), torch.tensor([step]).double(), cond), 1e-7)


def test_nu_wave_is_that_of_the_public_code() -> None:
    """github.com/mindslab-ai/nuwave, model.py; the sinusoids of 50000 a are those of float32."""
    net = WaveNet(4, 4, 3, LevelEmbedding(), read=Lifted(4, "low"), beside=4, taps=3, activation=F.silu, zero=False)
    y = fill(net)(signal(1024), torch.tensor([0.83]).double(), {"low": signal(1024, 0.5)})
    agrees("nu-wave 0.83", y, 1e-3)


def test_wavegrad_is_that_of_the_public_code() -> None:
    """github.com/ivanvovk/WaveGrad, model/nn.py."""
    net = fill(FilmUNet(6, 12, (4, 2, 2), (10, 8, 6), 32, (6, 8)))
    y = net(signal(64), torch.tensor([0.83]).double(), {"mel": signal(24, 3.0).reshape(1, 6, 4)})
    agrees("wavegrad 0.83", y, 1e-4)


def test_base_sizes() -> None:
    """DiffWave Base has 2.62 million weights, WaveGrad Base about 15.8 (80 mels, as the code counts)."""
    base = WaveNet(64, 30, 10, StepEmbedding(50, width=512), read=Upsampler((16, 16)), beside=80)
    assert sum(p.numel() for p in base.parameters()) == 2_619_971
    with torch.device("meta"):
        net = FilmUNet(80, 768, (4, 4, 4, 2, 2), (512, 512, 256, 128, 128), 32, (128, 128, 256, 512))
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(15.81, abs=0.01)


def test_the_untrained_answer_is_zero_unless_asked_otherwise() -> None:
    cond, u, level = {"mel": torch.ones(2, 6, 4)}, torch.randn(2, 1, 1024), torch.tensor([3.0, 9.0])
    assert wavenet()(u, level, cond).abs().max() == 0.0
    assert WaveNet(4, 2, 2, StepEmbedding(50, width=512), zero=False)(u, level).abs().max() > 0.0


def test_what_one_sample_sees() -> None:
    """1 + 2 (1 + 2 + 4 + 1) samples for four blocks of cycle 3, and no fewer; the frames come from one stack."""
    net = fill(wavenet())
    u = signal(1024).requires_grad_()
    (g,) = torch.autograd.grad(
        net(u, torch.tensor([7.0]).double(), {"mel": torch.zeros(1, 6, 4).double()})[0, 0, 512], u
    )
    seen = g[0, 0].nonzero()[:, 0]
    assert (int(seen.min()), int(seen.max())) == (512 - 8, 512 + 8)


def test_shifts_in_the_interior() -> None:
    net = fill(WaveNet(4, 4, 3, StepEmbedding(50, width=512)))
    u, level = signal(256), torch.tensor([7.0]).double()
    there, here = net(torch.roll(u, 5, -1), level), torch.roll(net(u, level), 5, -1)
    assert torch.allclose(there[..., 20:-20], here[..., 20:-20], atol=1e-12)


def test_frames_are_raised_to_the_rate_of_the_signal() -> None:
    assert strides_of(256) == (16, 16) and strides_of(64) == (8, 8) and strides_of(300) == (10, 30)
    up = Upsampler(strides_of(300))
    assert up({"mel": torch.zeros(1, 3, 5)}).shape == (1, 3, 1500)
    with pytest.raises(ValueError, match="two even strides"):
        strides_of(150)
    with pytest.raises(ValueError, match="strides are even"):
        Upsampler((3, 2))


def test_large_repeats_each_way_up() -> None:
    net = FilmUNet(6, 12, (4, 2), (8, 6), 4, (8,), repeats=2)
    assert len(net.again) == 2
    cond, u, level = {"mel": torch.randn(1, 6, 4)}, torch.randn(1, 1, 32), torch.tensor([0.5])
    first = net(u, level, cond)
    assert first.shape == u.shape
    for i in range(2):  # each of them is in the chain
        with torch.no_grad():
            net.again[i].straight.weight.mul_(1.5)
        second = net(u, level, cond)
        assert not torch.allclose(first, second)
        first = second


def test_factors_widths_and_downs_belong_together() -> None:
    with pytest.raises(ValueError, match="2 factors need as many widths and one fewer downs, got 2 and 2"):
        FilmUNet(6, 12, (4, 2), (8, 6), 4, (8, 8))
