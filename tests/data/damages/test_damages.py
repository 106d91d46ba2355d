"""What each damage does to a picture, against its formula where that has one answer, and the law of its draws."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import damages
from sfumato.data.damages.base import blurred, field
from sfumato.data.damages.sharpness import convolved, gaussian, walk
from sfumato.data.damages.weather import streak
from sfumato.noise import Noise

NAMES = [name if damages.KINDS[name][0] else f"{name}:3" for name in damages.KINDS]


def picture(h: int = 48, w: int = 40, channels: int = 3) -> torch.Tensor:
    rows = torch.linspace(0.0, 1.0, h)[:, None] * torch.linspace(0.3, 1.0, w)
    return torch.stack([rows**k for k in range(1, channels + 1)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_function_of_the_picture_and_the_stream(name: str, channels: int) -> None:
    x, damage = picture(channels=channels), damages.parse(name)
    first, again, other = (damage(x, Noise(seed)) for seed in (3, 3, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    y = first["image"]
    assert y.shape == x.shape and y.min() >= 0.0 and y.max() <= 1.0
    assert torch.allclose((y * 255).round() / 255, y)
    assert torch.equal(y, other["image"]) == (name in ("grey", "enlarge:3"))


@pytest.mark.parametrize("shape", [(2, 8, 8), (8, 8), (1, 3, 8, 8)])
def test_only_a_picture_is_damaged(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a picture is \(1 or 3, H, W\)"):
        damages.Grey()(torch.zeros(shape), Noise(0))


def test_a_streak_is_a_line_of_its_length_and_angle() -> None:
    light = streak(21, math.radians(30.0))
    assert light.max() == 1.0
    at = torch.arange(len(light), dtype=torch.float64) - len(light) // 2
    i, j = torch.meshgrid(at, at, indexing="ij")
    mass = light / light.sum()
    second = torch.stack([(mass * a * b).sum() for a, b in ((i, i), (i, j), (j, j))])
    values, vectors = torch.linalg.eigh(torch.stack([second[:2], second[1:]]))
    assert values[1] == pytest.approx(21**2 / 12 + 0.7**2, rel=0.02)  # of an even segment, and of the blur
    assert values[0] == pytest.approx(0.7**2, abs=0.25)  # and half a pixel of laying it down
    angle = math.degrees(math.atan2(float(vectors[1, 1]), float(vectors[0, 1]))) % 180
    assert angle == pytest.approx(30.0, abs=0.5)


def test_rain_lightens_by_a_screen_of_streaks() -> None:
    """Where s is known from a black picture, every other picture follows: 1 - y = (1 - x) (1 - 0.8 s)."""
    rain = damages.Rain((0.004, 0.004))
    black, x = torch.zeros(1, 96, 96), torch.full((1, 96, 96), 0.4)
    s = rain.apply(black, Noise(1))["image"] / 0.8
    assert torch.allclose(rain.apply(x, Noise(1))["image"], 1 - 0.6 * (1 - 0.8 * s), atol=1e-6)
    assert s.min() >= 0.0 and s.max() <= 1.0 and 0.05 < float((s > 0.1).double().mean()) < 0.6
    heavy = damages.Rain((0.012, 0.012)).apply(black, Noise(1))["image"]
    assert heavy.mean() > 1.5 * 0.8 * s.mean()


def test_a_flake_keeps_its_brightness_whatever_its_size() -> None:
    one = torch.zeros(64, 64, dtype=torch.float64)
    one[30, 33] = 0.7
    for std in (1.6, 3.0):
        assert float((blurred(one, std) * (2 * math.pi * std**2)).max()) == pytest.approx(0.7, rel=1e-3)
    assert float(blurred(one, 3.0).sum()) == pytest.approx(0.7)


def test_a_field_has_mean_0_variance_1_and_its_length() -> None:
    f = field((256, 256), 6.0, Noise(0)).double()
    assert float(f.mean()) == pytest.approx(0.0, abs=1e-6) and float(f.square().mean()) == pytest.approx(1.0)
    # correlation of white noise blurred by std l: exp(-d^2 / (4 l^2))
    for d in (3, 6):
        got = float((f * f.roll(d, 1)).mean())
        assert got == pytest.approx(math.exp(-(d**2) / (4 * 6.0**2)), abs=0.06)


def test_haze_mixes_with_air_by_depth() -> None:
    """With t and A known, the picture is found again; t falls towards the top, and everywhere with beta."""
    x = picture(64, 64)
    thin, thick = (damages.Haze((beta, beta), (0.9, 0.9), 0.0) for beta in (0.6, 1.2))
    t, air = thin.veil(x, Noise(2))
    y = thin.apply(x, Noise(2))["image"]
    assert torch.allclose((y - (1 - t) * air) / t, x, atol=1e-5)
    assert torch.allclose(air, torch.full((3, 1, 1), 0.9))
    assert torch.allclose(thick.veil(x, Noise(2))[0], t**2, atol=1e-5)
    assert t[0, 0].mean() < t[0, -1].mean() and float(t[0, 0].mean()) == pytest.approx(math.exp(-0.6), rel=0.1)


def test_fog_lies_over_the_rain() -> None:
    x = picture(64, 64)
    fog = damages.RainFog(damages.Rain((0.006, 0.006)), damages.Haze((30.0, 30.0), (0.9, 0.9), 0.0))
    top = fog.apply(x, Noise(0))["image"][:, :8]  # hidden behind the fog, streaks and all
    assert torch.allclose(top, torch.full_like(top, 0.9), atol=1e-3)


@pytest.mark.parametrize("soft", [0.0, 0.15])
def test_a_shadow_multiplies_by_its_mask(soft: float) -> None:
    x = picture(64, 64).clamp(min=0.1)
    found = damages.Shadow((soft,)).apply(x, Noise(5))
    m = found["mask"]
    for channel, tint in enumerate((0.9, 1.0, 1.1)):
        assert torch.allclose(found["image"][channel] / x[channel], 1 - m[0] * (1 - 0.4 * tint), atol=1e-5)
    assert bool(((m == 0.0) | (m == 1.0)).all()) == (soft == 0.0)
    assert 0.2 - 0.02 <= float((m >= 0.5).double().mean()) <= 0.5 + 0.02
    assert bool((found["rough"] <= (m >= 0.5).float()).all())  # an opening lies inside


def test_the_mask_is_opened_by_five_pixels() -> None:
    """What is narrower than 5 pixels goes, what is wider stays as it is."""
    from sfumato.data.damages import light

    mask = torch.zeros(1, 24, 24)
    mask[:, 2:6, 2:20] = 1.0  # 4 wide: goes
    mask[:, 10:16, 4:12] = 1.0  # 6 x 8: stays
    opened = light.opened(mask)
    want = torch.zeros(1, 24, 24)
    want[:, 10:16, 4:12] = 1.0
    assert torch.equal(opened, want)


def test_low_light_counts_photons() -> None:
    """mean u = e x^2.2, variance u / K + 0.004^2, of (undone gamma of) what is seen, where nothing is cut off."""
    x = torch.full((1, 200, 200), 0.8)
    seen = damages.LowLight((0.3, 0.3)).apply(x, Noise(0))["image"].double() ** 2.2
    u = 0.3 * 0.8**2.2
    variance = u / 400 + 0.004**2
    assert float(seen.mean()) == pytest.approx(u, abs=4 * math.sqrt(variance) / 200)
    assert float(seen.var()) == pytest.approx(variance, rel=4 * math.sqrt(2) / 200)
    dark = damages.LowLight((0.05, 0.05)).apply(x, Noise(0))["image"].double() ** 2.2
    assert float(dark.var()) == pytest.approx(0.05 * 0.8**2.2 / 100 + 0.004**2, rel=0.05)


def test_white_noise_has_its_sigma() -> None:
    x = torch.full((1, 256, 256), 0.5)
    noise = damages.White((25.0, 25.0)).apply(x, Noise(1))["image"] - x
    assert float(noise.std()) == pytest.approx(25 / 255, rel=0.01)


def test_a_jpeg_file_is_the_codec_s() -> None:
    x = picture()
    levels = (x * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=17, subsampling="4:2:0")
    want = torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255
    assert torch.allclose(damages.parse("jpeg:17")(x, Noise(0))["image"], want, atol=1e-6)


def test_grey_has_the_luma_in_all_channels() -> None:
    y = damages.Grey().apply(torch.eye(3)[:, :, None], Noise(0))["image"]
    assert torch.allclose(y[:, :, 0], torch.tensor([0.299, 0.587, 0.114]).expand(3, 3))


def test_a_walk_is_centred_and_reaches_its_size() -> None:
    for seed in range(4):
        taps = walk(15, Noise(seed))
        at = torch.arange(15, dtype=torch.float64) - 7
        assert float(taps.sum()) == pytest.approx(1.0) and bool((taps >= 0).all())
        for axis in (0, 1):
            assert float((taps.sum(1 - axis) * at).sum()) == pytest.approx(0.0, abs=1e-9)
        far = max(int(at[taps.sum(1 - axis) > 1e-12].abs().max()) for axis in (0, 1))
        assert far == 6  # (15 - 3) / 2


def test_a_blur_turns_its_taps_and_mirrors_the_border() -> None:
    taps = torch.zeros(3, 3)
    taps[1, 2] = 1.0  # light moves by one pixel to the right, as in a convolution
    x = torch.arange(12.0).reshape(1, 3, 4)
    assert convolved(x, taps)[0, 0].tolist() == [1.0, 0.0, 1.0, 2.0]
    long = gaussian(15, 3.0, 1.0, 0.0)
    at = torch.arange(15, dtype=torch.float64) - 7
    spread = [(long.sum(1 - axis) * at**2).sum() for axis in (0, 1)]
    assert spread[0] == pytest.approx(9.0, rel=0.1) and spread[1] == pytest.approx(1.0, rel=0.01)
    turned = gaussian(15, 3.0, 1.0, math.pi / 2)
    assert torch.allclose(turned, long.T)


def test_a_motion_blur_adds_its_noise() -> None:
    x = torch.full((1, 128, 128), 0.5)
    y = damages.parse("motion:9").apply(x, Noise(0))["image"]
    assert float((y - x).std()) == pytest.approx(0.01, rel=0.05)


def test_an_enlargement_reduced_again_is_the_small_picture() -> None:
    """Bicubic up and down leaves a smooth picture as it was; sizes that 4 does not divide are rounded up."""
    damage = damages.Enlarge(4.0)
    x = picture(50, 41)
    assert damage.small(x).shape == (3, 13, 11)
    assert damage(x, Noise(0))["image"].shape == x.shape
    smooth = blurred(Noise(0).normal(torch.empty(3, 64, 64)), 6.0)
    smooth = 0.5 + 0.2 * smooth / smooth.std()
    assert float((damage(smooth, Noise(0))["image"] - smooth).abs().mean()) < 0.01


def test_real_damage_is_worse_than_the_enlargement_it_ends_with() -> None:
    x = blurred(Noise(0).normal(torch.empty(3, 96, 96)), 2.0)
    x = (0.5 + 0.15 * x / x.std()).clamp(0.0, 1.0)
    plain = (damages.Enlarge(4.0)(x, Noise(0))["image"] - x).square().mean()
    real = [float((damages.Real()(x, Noise(seed))["image"] - x).square().mean()) for seed in range(4)]
    assert min(real) > float(plain)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ran", "rain?"),
        ("enlarge", "needs a level"),
        ("real:heavy", "has no levels"),
        ("rain:wet", "light, middle, heavy or a number"),
    ],
)
def test_what_is_no_damage_is_refused_with_what_is(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        damages.parse(text)


def test_levels_by_word_and_by_number() -> None:
    assert damages.parse("jpeg:heavy") == damages.parse("jpeg:10") == damages.Jpeg((10.0, 10.0))
    assert damages.parse("haze:middle") == damages.Haze((1.2, 1.2), (0.9, 0.9), 0.0)
    assert damages.parse("rainfog:light").rain.density == (0.002, 0.002)
    assert damages.parse("shadow:light") == damages.Shadow((0.0,))
