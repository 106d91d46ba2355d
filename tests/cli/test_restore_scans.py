"""restore of NIfTI files, DICOM files and series with a tiny model."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scans_for_tests import dicom
from typer.testing import CliRunner

from sfumato import zoo
from sfumato.cli import scans
from sfumato.cli.console import Console
from sfumato.cli.main import app
from sfumato.codecs import Affine
from sfumato.data import medical
from sfumato.data.images import read_image
from sfumato.operators import Fourier, Radon, kspace
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model

nibabel = pytest.importorskip("nibabel", reason="needs the extra medical")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    fields = {"channels": 1, "widths": (8,), "blocks": 1}
    folder = tmp_path_factory.mktemp("tiny")
    denoiser = Recipe(**fields).model()
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(0.02 * torch.randn_like(p))
    Model(Affine.unit(), denoiser, {"recipe": "edm", "fields": fields, "event": [1, None, None]}).save(folder)
    return folder


def volume(layers=3):
    """Smooth slices, each a little brighter than the one before, with noise; 16-bit, (12, 14, layers)."""
    rows, cols = np.linspace(0, 1, 12)[:, None, None], np.linspace(0, 1, 14)[:, None]
    smooth = 300 + 500 * rows * cols + 20 * np.arange(layers)
    return (smooth + np.random.default_rng(0).normal(0, 40, smooth.shape)).clip(0).astype("<i2")


@pytest.fixture
def nifti(tmp_path):
    path = tmp_path / "scan.nii.gz"
    affine = np.array([[0.0, -1.0, 0.0, 3.0], [1.2, 0.0, 0.0, 4.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    nibabel.Nifti1Image(volume(), affine).to_filename(path)
    return path


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for i, layer in enumerate(volume().transpose(2, 0, 1)):
        slice_of(folder / f"im{i}.dcm", layer, i)
    return folder


def slice_of(path, array, number=0, **fields):
    """A CT slice whose stored 0 is -1000 Hounsfield."""
    scaling = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1000, **fields}
    return dicom(path, array, number=number, position=(0, 0, 2.5 * number), **scaling)


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


def restore(file, operator, model, *words, code=0):
    return call("restore", file, "--operator", operator, "--model", model, *words, code=code)


def test_a_nifti_volume_comes_out_as_one(nifti, tiny, tmp_path):
    """Slices along the thick axis, in [0, 1] by the largest number; the same header but for the description."""
    result = restore(nifti, "denoise", tiny, "--sigma", 0.05, "-o", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "middle.png", "restored.nii.gz"]
    top = volume().max()
    assert (
        f"3 slices of 12 x 14, black is 0 and white {top}" in result.stderr and "no basis for a diag" in result.stderr
    )
    one, two = nibabel.load(nifti), nibabel.load(tmp_path / "out" / "restored.nii.gz")
    assert np.array_equal(one.affine, two.affine) and two.get_data_dtype() == np.int16
    assert b"not for diagnosis" in two.header["descrip"].item()
    model = zoo.load(tiny)
    x = torch.from_numpy(volume().transpose(2, 0, 1).astype("f4") / top)[:, None]
    t = model.denoiser.process.time_of(-2 * np.log(2 * 0.05))
    with torch.no_grad():
        expected = (model.denoiser(2 * x - 1, float(t)).mean + 1) / 2 * top
    np.testing.assert_allclose(np.asarray(two.dataobj).transpose(2, 0, 1), expected[:, 0].numpy(), atol=0.51)
    picture = np.asarray(Image.open(tmp_path / "out" / "middle.png"))
    assert picture.shape == (12, 28)
    np.testing.assert_allclose(picture[:, :14], x[1, 0].numpy() * 255, atol=0.6)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["range"] == [0.0, float(top)] and manifest["middle.png"] == "slice 2: the input, the result"
    call("run", tmp_path / "out" / "manifest.json", "-o", tmp_path / "again")
    again = (tmp_path / "again" / "restored.nii.gz").read_bytes()
    assert again == (tmp_path / "out" / "restored.nii.gz").read_bytes()


def test_a_series_comes_out_as_a_folder(series, tiny, tmp_path):
    """CT numbers: black is -1000 and white 1500; spread without the offset; a second run replaces the first."""
    words = ("--sigma", 0.05, "--samples", 2, "--solver", "ddnm", "--steps", 2, "-o", tmp_path / "out")
    for _ in range(2):
        result = restore(series, "denoise", tiny, *words)
    assert "black is -1000 and white 1500" in result.stderr
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["manifest.json", "middle.png", "restored", "sample-000", "sample-001", "spread"]
    before, after = (medical.read(folder) for folder in (series, tmp_path / "out" / "restored"))
    assert torch.equal(before.affine, after.affine) and after.values.shape == (3, 12, 14)
    one, two = (medical.read(tmp_path / "out" / f"sample-00{i}").values for i in (0, 1))
    assert float((after.values - (one + two) / 2).abs().max()) <= 1.0
    spread = medical.read(tmp_path / "out" / "spread").values
    assert float((spread - (one - two).abs() / 2**0.5).abs().max()) <= 1.5
    assert np.asarray(Image.open(tmp_path / "out" / "middle.png")).shape == (12, 42)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "restored/im0.dcm" in manifest["outputs"]
    assert manifest["middle.png"] == "slice 2: the input, the result, the spread"
    digest = manifest["inputs"]["file"]
    restore(series, "denoise", tiny, "--sigma", 0.05, "-o", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["manifest.json", "middle.png", "restored"]
    (series / "im0.dcm").rename(series / "im9.dcm")
    restore(series, "denoise", tiny, "--sigma", 0.05, "-o", tmp_path / "other")
    assert json.loads((tmp_path / "other" / "manifest.json").read_text())["inputs"]["file"] != digest


def test_one_dicom_slice_from_simulated_k_space(series, tiny, tmp_path, monkeypatch):
    """The whole way of magnetic resonance: one mask for all slices, noise of its own for each, scores of the mean."""
    seen = []
    real = Model.restore
    monkeypatch.setattr(Model, "restore", lambda self, m, **rest: seen.append((m, rest)) or real(self, m, **rest))
    words = ("--simulate", "--sigma", 0.02, "--acceleration", 2, "--solver", "ddnm", "--steps", 2)
    result = restore(series / "im1.dcm", "mri", tiny, *words, "-o", tmp_path / "out")
    assert "1 slices" in result.stderr and (tmp_path / "out" / "restored.dcm").exists()
    restore(series, "mri", tiny, *words, "-o", tmp_path / "all")
    (one, _), (m, rest) = seen
    assert isinstance(one.operator, Fourier) and one.event == m.event == (1, 12, 14) and len(m) == 3
    assert rest["same_noise"]
    noise = m.y - m.operator((medical.read(series).values.float()[:, None] + 1000) / 2500)
    assert float((noise[0] - noise[1]).abs().max()) > 0.01
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert 0.0 < manifest["psnr"] < 60.0


def test_like_slices_stay_alike(tmp_path, tiny):
    """Two equal slices are restored to the same numbers, in one batch or two; without the one noise they would not."""
    path = tmp_path / "two.nii"
    nibabel.Nifti1Image(np.repeat(volume(1), 2, 2), np.eye(4)).to_filename(path)
    for batch in (1, 2):
        words = ("--sigma", 0.05, "--solver", "ddnm", "--steps", 3, "--batch", batch, "--samples", 2)
        restore(path, "denoise", tiny, *words, "-o", tmp_path / "out")
        for name in ("sample-000", "sample-001"):
            x = medical.read(tmp_path / "out" / f"{name}.nii").values
            assert float((x[:, :, 0] - x[:, :, 1]).abs().max()) <= 1.0
    first, second = (medical.read(tmp_path / "out" / f"sample-00{i}.nii").values for i in (0, 1))
    assert float((first - second).abs().max()) > 5.0


def test_sigma_is_estimated_from_all_slices(nifti, tiny, tmp_path):
    result = restore(nifti, "denoise", tiny, "-o", tmp_path / "out")
    estimated = json.loads((tmp_path / "out" / "manifest.json").read_text())["sigma"]
    assert estimated == pytest.approx(40 / volume().max(), rel=0.3) and "estimated" in result.stderr


def test_which_model(nifti, tmp_path, capsys):
    console = Console()
    grey, color = tmp_path / "grey.png", tmp_path / "color.png"
    Image.new("L", (8, 8)).save(grey)
    Image.new("RGB", (8, 8)).save(color)
    cases = [(nifti, "denoise", "head", "this is a scan"), (grey, "mri", "head", "is for slices of scans")]
    cases += [
        (grey, "ct", "head", "is for slices"),
        (color, "ct", "photo", "is in color"),
        (grey, "denoise", "photo", ""),
    ]
    cases += [(tmp_path, "mri", "photo", ""), (tmp_path / "not there.png", "mri", "photo", "")]
    for path, operator, expected, words in cases:
        assert scans.model(path, operator, console) == expected
        said = capsys.readouterr().err
        assert words in said and bool(said) == bool(words)


@pytest.mark.parametrize("operator", ["colorize", "jpeg", "enlarge"])
def test_operators_that_do_not_serve(nifti, tiny, operator):
    result = restore(nifti, operator, tiny, code=2)
    assert "does not serve scans" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("case", ["truncated", "color", "time", "short", "mixed"])
def test_bad_input_is_one_sentence(tmp_path, tiny, nifti, series, case):
    path = tmp_path / "bad.nii"
    if case == "truncated":
        path = tmp_path / "bad.nii.gz"
        path.write_bytes(nifti.read_bytes()[:300])
    elif case == "color":
        path = slice_of(
            tmp_path / "c.dcm", np.zeros((4, 4, 3), "u1"), SamplesPerPixel=3, PhotometricInterpretation="RGB"
        )
    elif case == "time":
        nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), "i2"), np.eye(4)).to_filename(path)
    elif case == "short":
        path = series / "im0.dcm"
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path = series
        slice_of(series / "x.dcm", np.zeros((12, 14), "<i2"), 9, series="7.7")
    result = restore(path, "denoise", tiny, "--sigma", 0.1, "-o", tmp_path / "out", code=3)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and not (tmp_path / "out").exists()


def test_a_missing_extra_is_exit_4(nifti, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    result = restore(nifti, "denoise", tiny, "-o", tmp_path / "out", code=4)
    assert "pip install 'sfumato[medical]'" in result.stderr


def test_measured_k_space_and_projections(tmp_path, tiny):
    """A .npz file of what a scanner measured, without --simulate; white and the maps are said."""
    image = torch.from_numpy(volume(1)[:, :, 0].astype("f4"))
    np.savez(tmp_path / "k.npz", kspace=kspace.transform(image).numpy())
    result = restore(tmp_path / "k.npz", "mri", tiny, "--sigma", 0.01, "--steps", 3, "-o", tmp_path / "out")
    assert "one coil" in result.stderr and "white is" in result.stderr and "no basis for a diag" in result.stderr
    assert read_image(tmp_path / "out" / "restored.png").shape == (1, 12, 14)
    assert not (tmp_path / "out" / "input.png").exists()
    A = Radon.parallel((12, 14), 20)
    arrays = {"sinogram": A(image[None, None])[0, 0].numpy(), "angles": np.rad2deg(A.angles), "size": [12, 14]}
    np.savez(tmp_path / "p.npz", **arrays)
    result = restore(tmp_path / "p.npz", "ct", tiny, "--sigma", 0.1, "--steps", 3, "-o", tmp_path / "out")
    assert "parallel lines" in result.stderr
    result = restore(tmp_path / "p.npz", "ct", tiny, "-o", tmp_path / "out", code=3)
    assert "--sigma is needed" in result.stderr
    result = restore(tmp_path / "k.npz", "ct", tiny, "--sigma", 0.1, "-o", tmp_path / "out", code=3)
    assert "no array 'sinogram', only kspace" in result.stderr
    assert scans.model(tmp_path / "k.npz", "mri", Console(quiet=True)) == "head"
