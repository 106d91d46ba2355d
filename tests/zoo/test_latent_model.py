"""A model of codes, used as one of data: any size, the spread of samples, less memory, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import sfumato as sf
from sfumato import metrics
from sfumato.cli.main import app
from sfumato.noise import Noise
from sfumato.operators import Blur, Downsample, Mask, Measurement
from sfumato.recipes.d2c import Recipe
from sfumato.solvers import DDRM, DPS, PSLD, STSL, ReSample
from sfumato.zoo.files import find
from sfumato.zoo.memory import Live, decoding

QUICK = {"pixel_moves": 3, "latent_moves": 3, "every": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model whose codec does something: its last layers are not zero."""
    torch.manual_seed(0)
    fields = {"channels": 1, "coder": [8, 8], "patch": 1, "widths": [8], "blocks": 1, "attention": []}
    prior = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}).model()
    torch.nn.init.normal_(prior.inner.net.leave.weight, std=0.1)
    prior.var.copy_(torch.tensor([0.04, 0.09, 0.01, 0.02]))
    at = tmp_path_factory.mktemp("model") / "latent"
    config = {"recipe": "d2c", "fields": fields, "event": [1, None, None], "size": 9}
    sf.Model(prior.codec(sf.codecs.Affine.unit()), prior, config).save(at)
    return at


@pytest.fixture(scope="module")
def model(folder: Path) -> sf.Model:
    return sf.load(folder)


@pytest.mark.parametrize("solver", [PSLD(4), ReSample(6, **QUICK), STSL(2, moves=1, omega=0.1), DPS(4)])
@pytest.mark.parametrize("size", [(10, 12), (9, 7)])
def test_a_picture_of_any_size(model: sf.Model, solver: sf.solvers.Solver, size: tuple[int, int]) -> None:
    """What the solver finds in codes, decoded and cropped; by rows of the seed, the item and the sample."""
    x = Noise(1).uniform(torch.zeros(2, 1, *size))
    mask = (Noise(2).uniform(torch.zeros(2, 1, *size)) < 0.6).float()
    m = Measurement.simulate(Mask(mask), x, sigma=0.05, noise=Noise(3))
    result = model.restore(m, solver=solver, samples=3, seed=4)
    assert result.samples.shape == (3, 2, 1, *size) and result.std.shape == x.shape
    codec = model.codec.sized((1, *size))
    z = m.to_model(codec).rows([1])
    found = solver(model.denoiser, z, sf.Seeds.keyed(4, [(1, 2)]))
    with torch.no_grad():
        torch.testing.assert_close(result.samples[2, 1], codec.decode(found)[0], atol=1e-4, rtol=1e-3)
    assert float(result.std.mean()) > 1e-4


def test_draws_of_any_size(model: sf.Model) -> None:
    assert model.sample(1, steps=2).shape == (1, 1, 9, 9)
    drawn = model.sample(3, steps=2, size=(7, 6))
    assert drawn.shape == (3, 1, 7, 6)
    torch.testing.assert_close(model.sample(1, first=2, steps=2, size=(7, 6)), drawn[2:], atol=1e-5, rtol=1e-4)


def test_low_memory_is_the_same_result_for_less(model: sf.Model) -> None:
    """The decoder, too, sees one row at a time; the estimate of the need counts it, and is about what is used."""
    x = Noise(5).uniform(torch.zeros(6, 1, 32, 32))
    m = Measurement.simulate(Downsample(2), x, sigma=0.05, noise=Noise(6))
    solver, found, peaks = PSLD(2), [], []
    for low in (False, True):
        with Live() as live:
            found.append(model.restore(m, solver=solver, batch=6, low_memory=low).samples)
        peaks.append(live.peak)
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
    assert peaks[1] < 0.4 * peaks[0]
    need = model.memory(m, solver, batch=6), model.memory(m, solver, batch=6, low_memory=True)
    for bound, peak in zip(need, peaks, strict=True):
        assert 0.4 * peak < bound < 2.5 * peak
    assert model.memory(m, solver, batch=6) > 5 * decoding(model.codec, m.event, gradient=True)


def test_what_the_decoder_takes_grows_with_the_area(model: sf.Model) -> None:
    small, large = (decoding(model.codec, (1, n, n), gradient=True) for n in (64, 256))
    assert large == 16 * small > 16 * decoding(model.codec, (1, 64, 64), gradient=False) > 0
    with Live() as live:
        z = torch.zeros(1, 4, 48, 40, requires_grad=True)
        torch.autograd.grad(model.codec.decode(z).sum(), z)
    assert decoding(model.codec, (1, 96, 80), gradient=True) == pytest.approx(live.peak, rel=0.1)
    assert decoding(sf.codecs.Affine.unit(), (1, 64, 64), gradient=True) == 0


def test_saved_and_loaded(model: sf.Model, tmp_path: Path) -> None:
    """Also from a codec that was sized: what is written is the codec around the autoencoder."""
    sf.Model(model.codec.sized((1, 7, 6)), model.denoiser, model.config).save(tmp_path / "again", half=True)
    again = sf.load(tmp_path / "again")
    assert again.codec.outer == sf.codecs.Affine.unit() and again.codec.size is None
    torch.testing.assert_close(again.sample(2, steps=2), model.sample(2, steps=2), atol=0.02, rtol=0)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray((Noise(7).uniform(torch.zeros(11, 9)) * 255).byte().numpy()).save(path)
    return path


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("key", "extra"),
    [
        ("psld", ()),
        ("resample", ("--set", "latent_moves=2", "--set", "pixel_moves=2", "--set", "every=2")),
        ("stsl", ()),
    ],
)
def test_one_command(folder: Path, picture: Path, tmp_path: Path, key: str, extra: tuple[str, ...]) -> None:
    """`sfumato restore FILE --model latent --solver KEY`: the result in the file's size, samples, spread, manifest."""
    out = tmp_path / "out"
    words = [
        "restore",
        picture,
        "--model",
        folder,
        "--solver",
        key,
        "--operator",
        "deblur",
        "--std",
        1,
        "--sigma",
        0.02,
    ]
    code, text = run(*words, "--steps", 4, "--samples", 2, "--low-memory", *extra, "-o", out, "-q")
    assert code == 0, text
    assert {path.name for path in out.iterdir()} >= {"restored.png", "sample-001.png", "spread.png", "manifest.json"}
    assert Image.open(out / "restored.png").size == (9, 11)
    manifest = json.loads((out / "manifest.json").read_text())
    expected = {"psld": PSLD(4), "resample": ReSample(4, latent_moves=2, pixel_moves=2, every=2), "stsl": STSL(4)}
    assert manifest["solver"] == repr(expected[key])


def test_a_solver_that_cannot_work_on_codes_says_so(folder: Path, picture: Path, tmp_path: Path) -> None:
    words = [
        "restore",
        picture,
        "--model",
        folder,
        "--operator",
        "deblur",
        "--std",
        1,
        "--sigma",
        0.02,
        "-o",
        tmp_path / "o",
    ]
    code, text = run(*words, "--solver", "ddrm")
    assert code == 2 and "DDRM needs a Spectral operator, got Decoded" in text and "PSLD" in text
    assert not (tmp_path / "o").exists()
    file = tmp_path / "stored.jpg"
    Image.open(picture).save(file, quality=20)
    code, text = run("restore", file, "--model", folder, "--operator", "jpeg", "--solver", "psld", "-o", tmp_path / "o")
    assert code == 2 and "PSLD needs a Linear operator on data, got JPEG" in text


def test_the_solver_that_is_chosen(model: sf.Model) -> None:
    m = Measurement(Blur.gaussian((8, 8), 1.0), torch.zeros(1, 1, 8, 8), 0.1).to_model(model.codec)
    solver, why = sf.zoo.defaults.solver(m, steps=7)
    assert isinstance(solver, DPS) and solver.steps == 7 and why == "the operator is not linear."
    with pytest.raises(TypeError, match="DDRM needs a Spectral operator, got Decoded"):
        DDRM().check(m.operator)


def test_the_shipped_model(tmp_path: Path) -> None:
    """`latent` knows its own draws: the autoencoder copies them, and of their codes under as much noise the prior
    leaves less than half of the error of a scalar estimate, v / (1 + v). By command too, in the size of the file."""
    model = sf.load("latent")
    assert sum(path.stat().st_size for path in find("latent").iterdir()) < 3_000_000
    x = model.sample(8, seed=3, steps=20)
    with torch.no_grad():
        z = model.codec.encode(x)
        copies = model.codec.decode(z)
        t = model.denoiser.process.time_of(0.0)
        denoised = model.denoiser(model.denoiser.process.marginal(z, t).sample(Noise(4)), t).mean
    assert x.shape == (8, 1, 28, 28) and float(metrics.psnr(copies, x).mean()) > 25.0
    v = float(z.var())
    assert v == pytest.approx(1.0, rel=0.5) and float((denoised - z).square().mean()) < 0.5 * v / (1.0 + v)
    m = Measurement.simulate(Downsample(2), x, sigma=0.02, noise=Noise(4))
    Image.fromarray((m.y[0, 0].clamp(0, 1) * 255).byte().numpy()).save(tmp_path / "small.png")
    words = ["restore", tmp_path / "small.png", "--model", "latent", "--operator", "enlarge", "--factor", 2]
    code, text = run(*words, "--sigma", 0.02, "--solver", "psld", "--steps", 3, "-o", tmp_path / "out", "-q")
    assert code == 0, text
    assert Image.open(tmp_path / "out" / "restored.png").size == (28, 28)
    code, text = run("sample", "latent", "-n", 2, "--steps", 2, "-o", tmp_path / "drawn", "-q")
    assert code == 0 and Image.open(tmp_path / "drawn" / "sample-001.png").size == (28, 28), text
