"""The demo: end to end with a small model, and its parts where the answer is known."""

import io
import json
import math

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from sfumato import GaussianWorld, Measurement, Noise
from sfumato.cli.demo import command
from sfumato.codecs import Affine
from sfumato.data import photo12
from sfumato.demo import pictures, run, tasks
from sfumato.demo.page import table
from sfumato.operators import Downsample, Mask
from sfumato.processes import EDM
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model

pytest.importorskip("skimage", reason="needs the extra `baselines`")
SIDE = 32


@pytest.fixture(scope="module")
def small():
    """An untrained model of 3-channel pictures of any size."""
    torch.manual_seed(0)
    recipe = Recipe(channels=3, widths=(8,), blocks=1, patch=2)
    fields = {"channels": 3, "widths": [8], "blocks": 1, "patch": 2}
    denoiser = recipe.model().eval().requires_grad_(False)
    return Model(Affine.unit(), denoiser, {"recipe": "edm", "fields": fields, "event": [3, None, None]})


@pytest.fixture(scope="module")
def picture():
    return photo12.fixture()[:, 80 : 80 + SIDE, 70 : 70 + SIDE].contiguous()


def demo(monkeypatch, model, picture, out, *more):
    monkeypatch.setattr(photo12, "fixture", lambda: picture)
    app = typer.Typer()
    app.command()(command)
    folder = out.parent / "model"
    model.save(folder)
    given = ["--out", str(out), "--model", str(folder), "--samples", "2", "--steps", "3", *more]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_demo_leaves_a_page_that_needs_nothing_else(monkeypatch, tmp_path, small, picture):
    said = demo(monkeypatch, small, picture, tmp_path / "demo", "--quiet")
    assert said.rstrip().endswith(f"open {tmp_path / 'demo/index.html'}")
    page = (tmp_path / "demo/index.html").read_text("utf-8")
    assert "http" not in page and page.count("data:image/gif;base64,") == 1
    manifest = json.loads((tmp_path / "demo/manifest.json").read_text("utf-8"))
    assert manifest["seed"] == 0 and manifest["samples"] == 2
    for task in tasks.tasks(3):
        assert f"<h2>{task.title}</h2>" in page and task.title in said
        for name in ("measured", "restored", "baseline", *(["spread"] if task.steps > 1 else [])):
            with Image.open(tmp_path / f"demo/{task.key}-{name}.png") as saved:
                assert saved.size == (SIDE, SIDE) and saved.mode == "RGB"
        entry = manifest["tasks"][task.key]
        assert entry["nfe"] == task.steps and next(iter(entry["scores"])) == "as measured"
        assert set(task.baselines) <= set(entry["scores"]) and all(s["psnr"] > 0 for s in entry["scores"].values())
        assert f"{entry['scores']['sfumato']['psnr']:.2f}" in said
    with Image.open(tmp_path / "demo/process.gif") as film:
        assert film.n_frames <= 2 * 4 + 1 and film.info["loop"] == 0
    assert not list((tmp_path / "demo").glob(".*"))


def test_the_demo_is_a_function_of_its_seed(monkeypatch, tmp_path, small, picture):
    first, again, other = (tmp_path / name for name in "abc")
    for out, seed in ((first, "5"), (again, "5"), (other, "6")):
        demo(monkeypatch, small, picture, out, "--seed", seed, "-q")
    names = sorted(path.name for path in first.iterdir() if path.suffix != ".html")
    assert names and all((first / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert (first / "enlarge-4-restored.png").read_bytes() != (other / "enlarge-4-restored.png").read_bytes()


def test_without_scikit_image_the_demo_goes_on_and_says_so(monkeypatch, tmp_path, small, picture):
    import sys

    monkeypatch.setitem(sys.modules, "skimage.restoration", None)
    said = demo(monkeypatch, small, picture, tmp_path / "demo", "-q")
    assert "pip install 'sfumato[baselines]'" in said and "non-local means" in said
    assert not (tmp_path / "demo/denoise-25-baseline.png").exists()
    assert (tmp_path / "demo/enlarge-2-baseline.png").exists()  # bicubic needs torch alone


def test_denoising_is_the_posterior_mean(picture):
    x0 = picture[None, :, :12, :12].double()
    mean = Affine.unit().encode(x0[0])
    world = GaussianWorld(mean, 0.04 * torch.eye(mean.numel(), dtype=torch.float64))
    model = Model(Affine.unit(), world.denoiser(EDM()), {"event": [3, None, None]})
    task = tasks.denoise(50)
    m = task.measure(x0, Noise(1))
    drawn, _, nfe = run.restore(model, m, task, samples=5, seed=0)
    gain = 0.01 / (0.01 + (50 / 255) ** 2)  # data space: the world's variance is 0.04 / 4
    assert nfe == 1 and torch.allclose(drawn, x0 + gain * (m.y - x0), atol=1e-9)


def test_sample_0_is_the_same_whatever_their_number(small, picture):
    task = tasks.enlarge(2, 3)
    m = task.measure(picture[None], Noise(0))
    one, two = (run.restore(small, m, task, samples=n, seed=3)[0] for n in (1, 2))
    assert torch.allclose(one[0], two[0], atol=1e-5) and not torch.allclose(two[0], two[1], atol=1e-3)


@pytest.mark.parametrize("index", [1, 4, 5])
def test_noiseless_tasks_meet_the_measurement(small, picture, index):
    task = tasks.tasks(4)[index]
    m = task.measure(picture[None], Noise(0))
    drawn, states, nfe = run.restore(small, m, task, samples=2, seed=0)
    # what is left is the noise of EDM's cleanest level, 0.002 in model space
    assert float(m.residual(drawn).abs().max()) < 0.01
    assert nfe == 4 and len(states) == 5 and states[-1][0] == 0.0
    start = EDM().time_of(-2 * math.log(task.solver.level))
    assert states[0][0] == pytest.approx(start)


def test_progress_counts_the_steps(small, picture):
    seen = []
    run.run(small, picture, tasks.enlarge(2, 3), samples=1, seed=0, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_scores_are_those_of_the_pictures(small, picture):
    from sfumato.metrics import psnr

    outcome = run.run(small, picture, tasks.enlarge(2, 2), samples=2, seed=0)
    by_name = {score.method: score.psnr for score in outcome.scores}
    assert list(by_name) == ["as measured", "bicubic", "sfumato, one sample", "sfumato"]
    truth = picture[None]
    assert by_name["sfumato"] == pytest.approx(float(psnr(outcome.samples.mean(0, keepdim=True), truth)))
    each = [float(psnr(sample[None], truth)) for sample in outcome.samples]
    assert by_name["sfumato, one sample"] == pytest.approx(sum(each) / 2)
    assert torch.allclose(outcome.spread, (outcome.samples[0] - outcome.samples[1]).abs().mean(0) / math.sqrt(2))


def test_a_single_sample_has_no_spread(small, picture):
    outcome = run.run(small, picture, tasks.enlarge(2, 2), samples=1, seed=0)
    assert outcome.spread is None and [s.method for s in outcome.scores] == ["as measured", "bicubic", "sfumato"]


def test_measurements_are_shown_at_full_size():
    x0 = torch.zeros(1, 3, 4, 4)
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(2, 2)
    shown = run.view(Measurement(Mask(mask), mask.expand(1, 3, 4, 4) * 0.9, 0.0), x0)
    assert torch.allclose(shown, torch.where(mask == 1, 0.9, 0.5).expand(1, 3, 4, 4))
    y = torch.tensor([[0.1, 0.2], [0.3, 2.0]]).expand(1, 3, 2, 2)
    shown = run.view(Measurement(Downsample(2), y, 0.0), x0)
    assert torch.allclose(
        shown[0, 0], torch.tensor([[0.1, 0.2], [0.3, 1.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    )


def test_scribbles_hide_some_pixels_at_any_size():
    mask = tasks.scribbles(256, 256)
    assert 0.02 < float((mask == 0).double().mean()) < 0.15
    small_mask = tasks.scribbles(64, 128)
    assert small_mask.shape == (64, 128) and torch.equal(small_mask, mask[2::4, 1::2])


def test_forward_frames_hold_the_picture_and_then_noise(small, picture):
    clean, noisy = run.forward(small, picture, [0.0, 1.0], seed=0)
    assert float((clean - picture).abs().max()) < 0.01
    assert float((noisy - 0.5).abs().mean()) > 0.2  # unit noise, clipped


def test_heat_goes_from_black_to_light():
    x = torch.tensor([[0.0, 0.5, 1.0, 9.0]])
    drawn = [pictures.heat(x, 1.0).getpixel((i, 0)) for i in range(4)]
    assert drawn == [(0, 0, 4), (188, 55, 84), (252, 255, 164), (252, 255, 164)]
    assert pictures.heat(torch.zeros(1, 1), 0.0).getpixel((0, 0)) == (0, 0, 4)
    assert pictures.heat(torch.full((1, 1), 0.125), 1.0).getpixel((0, 0)) == (44, 8, 57)  # halfway, half to even


def test_an_image_rounds_to_the_nearest_level():
    x = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).reshape(1, 2, 2).expand(3, 2, 2)
    drawn = Image.open(io.BytesIO(pictures.png(pictures.image(x))))
    assert [drawn.getpixel(p) for p in ((0, 0), (1, 0), (0, 1), (1, 1))] == [(v,) * 3 for v in (0, 0, 1, 255)]


def test_the_last_frame_is_held():
    frames = [Image.new("RGB", (4, 4), (60 * i, 0, 0)) for i in range(3)]
    film, durations = Image.open(io.BytesIO(pictures.gif(frames, milliseconds=50, hold=4))), []
    for i in range(film.n_frames):
        film.seek(i)
        durations.append(film.info["duration"])
    assert durations == [50, 50, 200]


def test_the_table_has_a_line_for_every_method(small, picture):
    outcome = run.run(small, picture, tasks.enlarge(4, 2), samples=2, seed=0)
    lines = table([outcome, outcome]).splitlines()
    assert len(lines) == 1 + 2 * len(outcome.scores)
    assert lines[1].startswith("Enlarge 4 times  as measured") and lines[2].startswith(" " * 17 + "bicubic")
    assert lines[2].split()[-2:] == [f"{outcome.scores[1].psnr:.2f}", f"{outcome.scores[1].ssim:.3f}"]
