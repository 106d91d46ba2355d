"""MS-SSIM, the luma protocols, LPIPS and intervals: by hand, in closed form, and against other codes."""

import math

import numpy as np
import pytest
import torch
from metric_peers import KEPT, lpips, pictures
from public_codes import kept

from sfumato import Noise
from sfumato.metrics import LPIPS, Protocol, bootstrap, jackknife, luma, ms_ssim, psnr, ssim

# MS-SSIM


def test_ms_ssim_is_pytorch_msssims():
    x = pictures(6, 2, 176, 192).double()
    y = (x + 0.1 * Noise(7).normal(x)).clamp(0, 1)
    # Its window is float32.
    assert ms_ssim(x, y).tolist() == pytest.approx(kept(KEPT)["ms_ssim"].tolist(), rel=1e-5)
    assert ms_ssim(255 * x, 255 * y, data_range=255.0).tolist() == pytest.approx(ms_ssim(x, y).tolist(), rel=1e-9)


def test_ms_ssim_of_constants_is_the_luminance_term_of_the_coarsest_scale():
    x, y = (torch.full((1, 2, 176, 176), level, dtype=torch.float64) for level in (0.2, 0.6))
    light = (2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert float(ms_ssim(x, y)[0]) == pytest.approx(light**0.1333, rel=1e-9)


def test_a_negative_structure_counts_as_none():
    x = pictures(8, 1, 176, 176, 1).double()
    assert float(ms_ssim(x, 1 - x)[0]) == 0.0 and float(ssim(x, 1 - x)[0]) < 0.0


def test_ms_ssim_needs_five_scales():
    small = torch.zeros(1, 1, 48, 47)
    for shapes in ((small, small), (torch.zeros(1, 1, 176, 176), torch.zeros(1, 3, 176, 176))):
        with pytest.raises(ValueError, match="sides of at least 176"):
            ms_ssim(*shapes)
    with pytest.raises(ValueError, match="sides of at least 48"):
        ms_ssim(small, small, window=3)
    ms_ssim(small[..., :47, :], torch.zeros(1, 1, 47, 47), window=2)


# The protocols


def test_luma_is_that_of_the_standard():
    x = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]], dtype=torch.float64)
    got = 255 * luma(x.reshape(5, 3, 1, 1)).flatten()
    assert got.tolist() == pytest.approx([16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966])
    assert 255 * float(luma(torch.full((1, 1, 1, 1), 0.5).double())) == pytest.approx(125.5)
    color = pytest.importorskip("skimage.color")
    picture = pictures(1, 1, 6, 5).double()
    expected = color.rgb2ycbcr(picture[0].permute(1, 2, 0).numpy())[..., 0]
    assert np.allclose(255 * luma(picture)[0, 0].numpy(), expected, atol=1e-9)
    for shape in ((1, 2, 3, 3), (3, 3, 3)):
        with pytest.raises(ValueError, match=r"luma is of pictures \(B, 1 or 3, H, W\)"):
            luma(torch.zeros(shape))


def test_an_error_of_grey_gains_1_32_decibels_in_luma():
    x = torch.full((1, 3, 12, 12), 100 / 255, dtype=torch.float64)
    y = x + 10 / 255
    gain = float(psnr(*map(Protocol(y=True), (x, y)))) - float(psnr(*map(Protocol(), (x, y))))
    assert gain == pytest.approx(20 * math.log10(255 / 219), abs=1e-9) and gain == pytest.approx(1.32, abs=0.005)


def test_a_border_is_left_out_on_each_side_and_numbers_are_rounded_first():
    x = torch.zeros(1, 1, 7, 8)
    x[:, :, 2:-2, 2:-2] = 0.5
    assert torch.equal(Protocol(crop=2, levels=0)(x), torch.full((1, 1, 3, 4), 0.5))
    assert torch.equal(Protocol(levels=0)(x), x)
    assert float(Protocol(crop=3)(x + 0.4 / 255).unique() * 255) == pytest.approx(128.0)  # 127.9 to the nearest
    assert Protocol()(torch.tensor([[[[-0.2, 1.3, 0.4]]]])).flatten().tolist() == pytest.approx([0, 1, 0.4])
    assert Protocol(levels=2)(torch.tensor([[[[0.4, 0.6]]]])).flatten().tolist() == [0, 1]
    with pytest.raises(ValueError, match="a border of 4 leaves nothing of a picture of 7 x 8"):
        Protocol(crop=4)(x)
    with pytest.raises(ValueError, match="leaves nothing"):
        Protocol(crop=4)(torch.zeros(1, 1, 8, 20))


@pytest.mark.parametrize("settings", [{"crop": -1}, {"levels": 1}, {"levels": -1}])
def test_settings_that_mean_nothing(settings):
    with pytest.raises(ValueError, match="crop is at least 0, levels 0 or from 2 on"):
        Protocol(**settings)


# LPIPS


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_is_the_lpips_packages(name):
    trunk, heads = lpips(name)
    net = LPIPS.of(heads, trunk)
    got = net(pictures(3, 2, 64, 70), pictures(4, 2, 64, 70))
    assert net.name == f"lpips-{name}"
    assert got.tolist() == pytest.approx(kept(KEPT)[f"lpips_{name}"].tolist(), rel=1e-5)


def test_lpips_of_equals_is_zero_and_grey_counts_three_times():
    net = LPIPS.of(*lpips("alex"))
    x, y = pictures(3, 2, 64, 64, 1), pictures(4, 2, 64, 64, 1)
    assert net(x, x).tolist() == [0.0, 0.0]
    assert torch.allclose(net(x, y), net(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


def test_files_that_are_no_lpips():
    trunk, heads = lpips("alex")
    for states in ((trunk,), (heads,), (), ({"features.0.weight": torch.zeros(3, 3, 3, 3)}, heads)):
        with pytest.raises(ValueError, match="LPIPS takes two files of weights"):
            LPIPS.of(*states)
    with pytest.raises(ValueError, match=r"no weights of alex: features\.3\.bias missing"):
        LPIPS.of({k: v for k, v in trunk.items() if k != "features.3.bias"}, heads)
    with pytest.raises(ValueError, match=r"no weights of alex: features\.3\.bias missing or of another shape"):
        LPIPS.of(trunk | {"features.3.bias": torch.zeros(1)}, heads)
    with pytest.raises(ValueError, match=r"heads of alex are of \[64, 192, 384, 256, 256\] channels, got \[64, 192"):
        LPIPS.of(trunk, {k: v for k, v in heads.items() if "4" not in k})


def test_pictures_that_are_not_for_lpips():
    net = LPIPS.of(*lpips("alex"))
    x = torch.zeros(1, 3, 64, 64)
    for other in (torch.zeros(1, 3, 64, 63), torch.zeros(1, 2, 64, 64)):
        with pytest.raises(ValueError, match=r"LPIPS compares two batches"):
            net(other if other.shape[1] == 2 else x, other)
    with pytest.raises(ValueError, match="too small for alex: nothing is left at layer 2"):
        net(x[..., :8, :], x[..., :8, :])


# Intervals


def test_the_bootstrap_of_normals_is_students_interval_nearly():
    values = Noise(1).normal(torch.empty(400, dtype=torch.float64)) + 3.0
    got = bootstrap(values, Noise(2), level=0.9)
    half = 1.6449 * float(values.std()) / 20.0
    assert got.mean == pytest.approx(float(values.mean())) and got.level == 0.9
    assert (got.low, got.high) == pytest.approx((got.mean - half, got.mean + half), abs=0.1 * half)


def test_the_bootstrap_covers_at_its_level():
    hits = 0
    for i in range(200):
        got = bootstrap(Noise(i).uniform(torch.empty(60)), Noise(1000 + i), level=0.8, resamples=400)
        hits += got.low <= 0.5 <= got.high
    assert abs(hits / 200 - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 200)


def test_a_paired_interval_is_narrower_where_items_are_hard_for_both():
    noise = Noise(4)
    hard, gap = 5.0 * noise.normal(torch.empty(50)), 0.1 * noise.normal(torch.empty(50)) + 0.2
    paired, alone = bootstrap(gap, Noise(1)), bootstrap(hard + gap, Noise(1))
    assert paired.low > 0.1 and paired.high - paired.low < 0.05 * (alone.high - alone.low)


def test_the_bootstrap_is_its_noises_alone(monkeypatch):
    values = torch.arange(10.0)
    whole = bootstrap(values, Noise(3))
    monkeypatch.setattr("sfumato.metrics.intervals.CHUNK", 1)  # a mean at a time
    assert bootstrap(values, Noise(3)) == whole and bootstrap(values, Noise(4)) != whole


def test_intervals_that_do_not_exist():
    for values, mean in ((torch.tensor([2.0]), 2.0), (torch.tensor([1.0, math.inf]), math.inf)):
        got = bootstrap(values, Noise(0))
        assert got.mean == mean and math.isnan(got.low) and math.isnan(got.high)
    for values in (torch.empty(0), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="give one value an item"):
            bootstrap(values, Noise(0))


def test_the_jackknife_of_a_gap_of_means_is_its_standard_error():
    noise = Noise(1)
    a, b = 2.0 * noise.normal(torch.empty(900, 1).double()), noise.normal(torch.empty(600, 1).double())
    got = jackknife(lambda x, y: torch.stack([x.mean() - y.mean(), x.mean()]), a, b, Noise(2), groups=100)
    expected = [math.sqrt(4 / 900 + 1 / 600), math.sqrt(4 / 900)]
    assert got.tolist() == pytest.approx(expected, rel=0.25)  # an error from 100 groups is known to 7 %
    # With one item a group it is the standard error itself: std / sqrt(n).
    each = jackknife(lambda x, y: x.mean().reshape(1), a[:50], a[:50], Noise(2), groups=50)
    assert float(each) == pytest.approx(float(a[:50].std()) / math.sqrt(50), rel=1e-9)


def test_groups_that_do_not_exist():
    a, b = torch.zeros(5, 1), torch.zeros(4, 1)
    for groups in (1, 5):
        with pytest.raises(ValueError, match=f"groups are from 2 to the items of the smaller set, 4, got {groups}"):
            jackknife(lambda x, y: x.mean(0), a, b, Noise(0), groups=groups)
    assert jackknife(lambda x, y: x.mean(0) + len(y), a, b, Noise(0), groups=4).tolist() == [0.0]
