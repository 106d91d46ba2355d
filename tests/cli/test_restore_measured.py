"""restore of JPEG files, and of simulated scans, with a tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.codecs import Affine
from sfumato.data.images import read_image
from sfumato.data.photo12 import FIXTURE
from sfumato.operators import JPEG, Fourier, Radon
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    fields = {"channels": 3, "widths": (8,), "blocks": 1}
    folder = tmp_path_factory.mktemp("tiny")
    Model(Affine.unit(), Recipe(**fields).model(), {"recipe": "edm", "fields": fields, "event": [3, None, None]}).save(
        folder
    )
    return folder


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.open(FIXTURE).convert("RGB").crop((40, 40, 72, 64)).save(path)
    return path


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


def restore(file, operator, model, *words, code=0):
    return call("restore", file, "--operator", operator, "--model", model, *words, code=code)


def test_a_jpeg_file(photo, tiny, tmp_path):
    """Its own levels; the default solver follows them: with eta_b = 1 and no prior to speak of, they come out again."""
    path, out = tmp_path / "photo.jpg", tmp_path / "out"
    Image.open(photo).save(path, quality=20, subsampling=1)
    restore(path, "jpeg", tiny, "-o", out, "--set", "eta_b=1.0", "--steps", 5)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["solver"].startswith("DDRMJPEG(steps=5") and "what a JPEG file holds" in manifest["reason"]
    assert manifest["sigma"] == 0.0 and not manifest["sigma_estimated"] and manifest["nfe"] == 5
    A = JPEG.quality((24, 32), 20, "4:2:2", low=0.0, high=1.0)
    same = A(read_image(out / "restored.png")[None]) == A(read_image(photo)[None])
    assert float(same.double().mean()) > 0.97
    call("run", out / "manifest.json", "-o", tmp_path / "again")
    assert (tmp_path / "again" / "restored.png").read_bytes() == (out / "restored.png").read_bytes()


def test_a_grey_file_stays_grey_and_a_turned_one_is_said_so(photo, tiny, tmp_path):
    path = tmp_path / "grey.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.open(photo).convert("L").save(path, quality=20, exif=exif)
    result = restore(path, "jpeg", tiny, "-o", tmp_path / "out", "--steps", 2)
    assert read_image(tmp_path / "out" / "restored.png").shape == (1, 24, 32)
    assert "as it is stored" in result.stderr
    Image.open(photo).save(tmp_path / "color.jpg")
    result = restore(tmp_path / "color.jpg", "jpeg", tiny, "-o", tmp_path / "color", "--steps", 2)
    assert read_image(tmp_path / "color" / "restored.png").shape == (3, 24, 32) and "it is stored" not in result.stderr


@pytest.mark.parametrize(
    "operator, words, expected",
    [
        ("jpeg", ("--quality", 30), JPEG),
        ("mri", ("--sigma", 0.01, "--acceleration", 2), Fourier),
        ("mri", ("--sigma", 0), Fourier),
        ("ct", ("--sigma", 0.1, "--views", 3, "--solver", "dps"), Radon),
        ("ct", ("--sigma", 0.1, "--solver", "dps"), Radon),
    ],
)
def test_simulated(photo, tiny, tmp_path, monkeypatch, operator, words, expected):
    seen = []
    real = Model.restore
    monkeypatch.setattr(Model, "restore", lambda self, m, **rest: seen.append(m) or real(self, m, **rest))
    restore(photo, operator, tiny, "--simulate", *words, "--steps", 2, "-o", tmp_path / "out")
    (m,) = seen
    assert isinstance(m.operator, expected) and m.event == (3, 24, 32)
    x = read_image(photo)[None]
    if operator == "jpeg":
        assert torch.equal(m.operator.tables, JPEG.quality((8, 8), 30).tables) and torch.equal(m.y, m.operator(x))
    elif operator == "mri":
        columns = m.operator.mask[0]
        centre = 5 if "--acceleration" in words else 3  # 0.32 / acceleration of 32
        assert bool(columns[16 - centre // 2 : 16 + centre // 2].all())
        assert centre <= int(columns.sum()) <= 24
        assert float((m.y - m.operator(x)).abs().max()) < 0.06
    else:
        assert len(m.operator.angles) == (3 if "--views" in words else 60)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert 0.0 < manifest["psnr"] < 60.0


@pytest.mark.parametrize(
    "operator, words, message",
    [
        ("jpeg", ("--simulate",), "needs --quality, at least 1"),
        ("jpeg", ("--simulate", "--quality", 101), "--quality goes up to 100"),
        ("jpeg", ("--sigma", 0.1), "jpeg has no --sigma"),
        ("jpeg", ("--quality", 10), "--quality belongs to --operator jpeg --simulate"),
        ("denoise", ("--simulate", "--sigma", 0, "--views", 5), "it is for ct"),
        ("mri", ("--simulate", "--sigma", 0, "--acceleration", 0.5), "needs --acceleration, at least 1.0"),
        ("mri", (), "measured data in a .npz file"),
        ("ct", (), "measured data in a .npz file"),
        ("ct", ("--simulate",), "--simulate needs --sigma"),
    ],
)
def test_usage(photo, tiny, operator, words, message):
    result = restore(photo, operator, tiny, *words, code=2)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_that_is_no_jpeg(photo, tiny, tmp_path):
    result = restore(photo, "jpeg", tiny, "-o", tmp_path / "out", code=3)
    assert "no JPEG file" in result.stderr and not (tmp_path / "out").exists()
    assert Path(photo).exists() and np.array(Image.open(photo)).shape == (24, 32, 3)
