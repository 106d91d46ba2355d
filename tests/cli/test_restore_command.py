"""sample, restore and run with a tiny model, in process and as real processes; bad input leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.cli.outputs import digest, grid
from sfumato.codecs import Affine
from sfumato.noise import Noise
from sfumato.operators import Blur, PhaseRetrieval
from sfumato.operators.nonlinear_blur import encoded, light
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model

read_image = pytest.importorskip("sfumato.data.images").read_image


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A color model of a few thousand random weights."""
    return _saved(tmp_path_factory.mktemp("tiny"), channels=3, widths=(8,), blocks=1)


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("classes"), channels=1, widths=(8,), blocks=1, classes=3)


def _saved(folder: Path, **fields: object) -> Path:
    torch.manual_seed(0)
    denoiser = Recipe(**fields).model()
    with torch.no_grad():
        for p in denoiser.parameters():
            p.add_(0.02 * torch.randn_like(p))
    event = [fields["channels"], None, None]
    Model(Affine.unit(), denoiser, {"recipe": "edm", "fields": fields, "event": event}).save(folder)
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A smooth color picture of 24 x 20 pixels with noise of 0.1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 24), indexing="ij")
    smooth = torch.stack([x, y, (x + y) / 2]) * 0.4 + 0.3
    noisy = (smooth + 0.1 * Noise(0).normal(smooth)).clamp(0, 1)
    path = tmp_path / "picture.png"
    Image.fromarray((noisy.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(path)
    return path


def call(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result


def restore(picture: Path, model: Path, *words: object, code: int = 0):
    return call("restore", picture, "--operator", "denoise", "--model", model, *words, code=code)


def test_restore_writes_the_picture_and_a_manifest(picture: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    result = restore(picture, tiny, "-o", out, "-q")
    assert sorted(os.listdir(out)) == ["input.png", "manifest.json", "restored.png", "sample-000.png"]
    assert sorted(os.listdir(tmp_path / "a")) == ["out"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sigma_estimated"] and manifest["sigma"] == pytest.approx(0.1, rel=0.15)
    assert manifest["inputs"] == {"file": digest(picture)} and manifest["nfe"] == 1
    assert manifest["outputs"]["restored.png"] == digest(out / "restored.png")
    assert manifest["settings"]["model"] == str(tiny) and manifest["restored"] == "the one sample"
    assert str(out / "restored.png") in result.stdout.splitlines()
    assert torch.equal(read_image(out / "input.png"), read_image(picture))


def test_samples_come_with_their_spread_and_a_stated_scale(picture: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = restore(picture, tiny, "--samples", 3, "--steps", 4, "--sigma", 0.1, "-o", out)
    assert "restored.png is the mean of 3 samples" in result.stderr
    samples = torch.stack([read_image(out / f"sample-00{i}.png") for i in range(3)])
    mean, spread = read_image(out / "restored.png"), read_image(out / "spread.png")
    assert (mean - samples.mean(0)).abs().max() < 1.5 / 255
    manifest = json.loads((out / "manifest.json").read_text())
    assert not manifest["sigma_estimated"] and manifest["sigma"] == 0.1 and manifest["nfe"] == 4
    assert spread.shape == (1, 20, 24) and spread.max() == 1.0
    assert (spread * manifest["spread_white"] - samples.std(0).mean(0)).abs().max() < 0.01
    # A later run in the same folder leaves no file of the earlier one.
    (out / "mine.txt").write_text("kept")
    restore(picture, tiny, "--sigma", 0.1, "-o", out)
    assert sorted(os.listdir(out)) == ["input.png", "manifest.json", "mine.txt", "restored.png", "sample-000.png"]


def test_run_repeats_a_manifest_bit_for_bit_and_checks_its_input(picture: Path, tiny: Path, tmp_path: Path) -> None:
    restore(picture, tiny, "--samples", 2, "--steps", 3, "--seed", 5, "--sigma", 0.1, "-o", tmp_path / "one")
    call("run", tmp_path / "one" / "manifest.json", "-o", tmp_path / "two")
    for name in ("sample-000.png", "sample-001.png", "spread.png"):
        assert digest(tmp_path / "one" / name) == digest(tmp_path / "two" / name)
    restore(picture, tiny, "--samples", 2, "--steps", 3, "--seed", 6, "--sigma", 0.1, "-o", tmp_path / "three")
    assert digest(tmp_path / "one" / "sample-000.png") != digest(tmp_path / "three" / "sample-000.png")
    call("run", tmp_path / "one" / "manifest.json")
    Image.new("RGB", (24, 20)).save(picture)
    result = call("run", tmp_path / "one" / "manifest.json", code=3)
    assert "has changed since" in result.stderr
    for content in ("", "{}", '{"command": "x", "settings": {}}', '{"command": "restore", "settings": {"a": 1}}', "[]"):
        (tmp_path / "bad.json").write_text(content)
        assert "is no manifest" in call("run", tmp_path / "bad.json", code=3).stderr
    call("run", tmp_path / "missing.json", code=3)


def test_simulate_degrades_first_and_scores(picture: Path, tiny: Path, tmp_path: Path) -> None:
    metrics = pytest.importorskip("sfumato.metrics")
    if not hasattr(metrics, "psnr"):
        pytest.skip("needs sfumato.metrics")
    out = tmp_path / "out"
    result = restore(picture, tiny, "--simulate", "--sigma", 0.2, "-o", out, "--json")
    done = json.loads(result.stdout.splitlines()[-1])
    gap = read_image(out / "restored.png") - read_image(picture)
    assert done["psnr"] == pytest.approx(-10 * float(gap.square().mean().log10()), abs=0.1)
    assert 0.0 < done["ssim"] < 1.0 and done["sigma"] == 0.2
    added = read_image(out / "input.png") - read_image(picture)
    assert 0.12 < float(added.std()) < 0.2  # less than 0.2: the picture file is held to [0, 1]
    assert "--simulate needs --sigma" in restore(picture, tiny, "--simulate", code=2).stderr


def test_json_lines_are_events_and_nothing_else(picture: Path, tiny: Path, tmp_path: Path) -> None:
    result = restore(picture, tiny, "--samples", 2, "--steps", 3, "--sigma", 0.1, "--json", "-o", tmp_path / "out")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "warning"]
    assert kinds == ["start", "step", "step", "step", *["item"] * 6, "done"]
    assert events[0]["settings"]["samples"] == 2 and "Direct(steps=3)" in events[0]["solver"]
    assert kinds and events[-1]["nfe"] == 3 and events[-1]["chi_square"] > 0


def test_dry_run_checks_and_writes_nothing(picture: Path, tiny: Path, tmp_path: Path) -> None:
    result = restore(picture, tiny, "--dry-run", "--sigma", 0.1, "-o", tmp_path / "out")
    assert "would restore" in result.stdout and "Direct(steps=1)" in result.stdout
    assert not (tmp_path / "out").exists()
    result = call("sample", tiny, "--dry-run", "-o", tmp_path / "out")
    assert "would draw 16" in result.stdout and not (tmp_path / "out").exists()
    restore(picture, tiny, "--dry-run", "--set", "stepps=3", "--sigma", 0.1, code=2)


def test_a_wrong_sigma_warns(picture: Path, tiny: Path, tmp_path: Path) -> None:
    result = restore(picture, tiny, "--samples", 2, "--steps", 3, "--sigma", 0.01, "-o", tmp_path / "out")
    assert result.stderr.count("warning: the result differs from the input by") <= 1
    from sfumato.cli.console import Console
    from sfumato.cli.restored import judge
    from sfumato.operators import Identity, Measurement
    from sfumato.zoo import Result

    pytest.importorskip("sfumato.metrics")
    y = Noise(0).normal(torch.empty(1, 3, 20, 20))
    for sigma, warned in ((1.0, ""), (0.5, "larger"), (3.0, "smaller")):
        words: list[str] = []
        console = Console()
        console.warn = words.append  # type: ignore[method-assign]
        found = judge(Measurement(Identity(), y, sigma), Result(torch.zeros(1, 1, 3, 20, 20)), None, console)
        assert found["chi_square"] == pytest.approx(float(y.square().mean()) / sigma**2)
        assert [warned in word for word in words] == ([True] if warned else [])
    exact = Result(torch.zeros(1, 1, 3, 20, 20), "Direct(steps=1)")
    console.warn = lambda text: pytest.fail(text)  # type: ignore[method-assign]
    judge(Measurement(Identity(), y, 3.0), exact, None, console)


OPERATORS = [
    ("inpaint", ["--mask", "MASK"]),
    ("deblur", ["--std", "1"]),
    ("deblur", ["--kernel", "KERNEL"]),
    ("deblur", ["--std", "0.8", "--border", "valid"]),
    ("deblur", ["--std", "0.8", "--border", "circular"]),
    ("deblur", ["--kernel", "KERNEL", "--border", "reflect"]),
    ("deblur", ["--kernel", "KERNEL", "--border", "zero", "--low-memory"]),
    ("enlarge", ["--factor", "2"]),
    ("enlarge", ["--factor", "2", "--filter", "bicubic"]),
    ("colorize", []),
]


@pytest.mark.parametrize("simulate", [True, False])
@pytest.mark.parametrize(("operator", "words"), OPERATORS)
def test_every_operator_runs_both_ways(
    picture: Path, tiny: Path, tmp_path: Path, operator: str, words: list[str], simulate: bool
) -> None:
    from sfumato import operators, recipes

    if not (hasattr(operators, "Blur") and {"ddrm", "ddnm"} <= set(recipes.names())):
        pytest.skip("needs the blur operators and DDRM")
    mask = tmp_path / "mask.png"
    Image.fromarray(np.tile(np.array([0, 255], np.uint8), (20, 12))).save(mask)
    np.save(tmp_path / "kernel.npy", np.array([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]))
    words = [{"MASK": str(mask), "KERNEL": str(tmp_path / "kernel.npy")}.get(word, word) for word in words]
    out = tmp_path / "out"
    extra = ["--simulate"] if simulate else []
    call(
        *("restore", picture, "--operator", operator, *words, *extra, "--sigma", 0.05, "--steps", 2),
        *("--model", tiny, "-o", out, "-q"),
    )
    height, width = (40, 48) if operator == "enlarge" and not simulate else (20, 24)
    valid = "valid" in words
    if valid and not simulate:
        height, width = 26, 30  # 7 taps: the scene goes on for 3 pixels on every side
    assert read_image(out / "restored.png").shape == (3, height, width)
    shape = read_image(out / "input.png").shape
    assert shape == {
        "colorize": (1, 20, 24),
        "deblur": (3, 14, 18) if valid and simulate else (3, 20, 24),
        "enlarge": (3, 10, 12) if simulate else (3, 20, 24),
    }.get(operator, (3, 20, 24))
    if operator == "inpaint":
        assert float(read_image(out / "input.png")[:, :, ::2].abs().max()) == 0.0


NONLINEAR = {
    "quantize": (["--bits", "2"], lambda x: ((4 * x).floor().clamp(max=3) + 0.5) / 4),
    "clip": (["--exposure", "2", "--sigma", "0"], lambda x: (2 * x).clamp(max=1)),
    "camera-blur": (
        ["--std", "1", "--exposure", "1.5", "--sigma", "0"],
        lambda x: encoded((1.5 * Blur.gaussian((20, 24), 1.0)(light(x))).clamp(max=1)),
    ),
}


@pytest.mark.parametrize("operator", NONLINEAR)
def test_operators_that_are_not_linear(picture: Path, tiny: Path, tmp_path: Path, operator: str) -> None:
    """A clean picture is damaged as the operator says and scored; a damaged one is taken as it is, what is quantized at
    the middles of its bins; DPS restores both."""
    words, damaged = NONLINEAR[operator]
    common = ("--operator", operator, *words, "--steps", 2, "--model", tiny, "-q")
    call("restore", picture, *common, "--simulate", "-o", tmp_path / "simulated")
    seen, clean = read_image(tmp_path / "simulated" / "input.png"), read_image(picture)
    torch.testing.assert_close(seen, damaged(clean[None])[0], atol=0.5 / 255 + 1e-5, rtol=0)
    content = json.loads((tmp_path / "simulated" / "manifest.json").read_text())
    assert content["solver"].startswith("DPS(") and "psnr" in content
    assert not content["sigma_estimated"] and content["sigma"] == 0.0
    call("restore", tmp_path / "simulated" / "input.png", *common, "-o", tmp_path / "real")
    torch.testing.assert_close(read_image(tmp_path / "real" / "input.png"), seen, atol=1e-6, rtol=0)
    assert read_image(tmp_path / "real" / "restored.png").shape == clean.shape


def test_phase_retrieval(picture: Path, tiny: Path, tmp_path: Path) -> None:
    """From a picture, and from the sizes of a spectrum in a NumPy file."""
    common = ("--operator", "phase", "--margin", 3, "--sigma", 0.01, "--steps", 2, "--model", tiny, "-q")
    call("restore", picture, *common, "--simulate", "-o", tmp_path / "simulated")
    assert read_image(tmp_path / "simulated" / "input.png").shape == (3, 26, 30)
    np.save(tmp_path / "sizes.npy", PhaseRetrieval(3)(read_image(picture)[None])[0].numpy())
    call("restore", tmp_path / "sizes.npy", *common, "-o", tmp_path / "real")
    assert read_image(tmp_path / "real" / "restored.png").shape == (3, 20, 24)
    result = call("restore", tmp_path / "sizes.npy", *common, "--margin", 13, "-o", tmp_path / "none", code=3)
    assert "30 x 26 leaves no picture inside a margin of 13" in result.stderr


def test_a_blind_solver_writes_the_kernel_and_is_judged_with_it(picture: Path, tiny: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", np.array([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]))
    out, words = tmp_path / "out", ("--steps", 3, "--set", "moves=1", "--set", "rounds=1", "--set", "begin=1.0")
    call(
        *("restore", picture, "--operator", "deblur", "--kernel", tmp_path / "kernel.npy", "--sigma", 0.05, *words),
        *("--solver", "gibbs-ddrm", "--samples", 2, "--model", tiny, "-o", out, "-q"),
    )
    kernel = read_image(out / "kernel.png")
    assert kernel.shape[1:] == (3, 3) and float(kernel.max()) == 1.0


@pytest.mark.parametrize("words", [[], ["--border", "circular"], ["--solver", "blind-dps"]])
def test_a_kernel_that_nobody_knows(picture: Path, tiny: Path, tmp_path: Path, words: list[str]) -> None:
    """One command: the picture in its own size, the kernel as a picture and in the manifest, of sum 1."""
    few = ["--set", "rounds=1", "--set", "moves=3"] if "--solver" not in words else ["--set", "examples=4"]
    out = tmp_path / "out"
    call(
        *("restore", picture, "--operator", "blind-deblur", "--width", 5, "--steps", 3, *words, *few),
        *("--model", tiny, "-o", out, "-q"),
    )  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    kernel = np.array(manifest["kernel_found"])
    assert kernel.shape == (5, 5) and kernel.sum() == pytest.approx(1.0, abs=1e-4)
    assert read_image(out / "kernel.png").shape[1:] == (5, 5)
    assert read_image(out / "restored.png").shape == read_image(picture).shape == (3, 20, 24)
    assert manifest["settings"]["width"] == 5 and manifest["sigma"] > 0.05
    assert manifest["solver"].startswith("BlindDPS" if "--solver" in words else "GibbsDDRM(steps=3")


def test_a_blind_restoration_supposes_some_noise(tiny: Path, tmp_path: Path) -> None:
    """A smooth picture without noise: 0.01 is taken, and said."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 20), torch.linspace(0, 1, 24), indexing="ij")
    np.save(tmp_path / "x.npy", torch.stack([x, y, x]).numpy())
    words = ["restore", tmp_path / "x.npy", "--model", tiny, "-o", tmp_path / "out", "--dry-run"]
    assert "sigma 0.01," in call(*words, "--operator", "blind-deblur").stdout
    assert "no one kernel fits so well" in call(*words, "--operator", "blind-deblur").stderr
    assert "sigma 0.003," in call(*words, "--operator", "blind-deblur", "--sigma", 0.003).stdout
    assert "sigma 0.01," not in call(*words, "--operator", "denoise").stdout
    assert "spread=True" in call(*words, "--operator", "blind-deblur").stdout


def test_a_result_with_kernels_is_judged_with_each() -> None:
    """y is the blur of the result by the kernel of its own sample: no residual but that of the second, of half."""
    from sfumato.cli.console import Console
    from sfumato.cli.restored import judge
    from sfumato.operators import Blur, Measurement
    from sfumato.zoo import Result

    x, sharp = Noise(0).normal(torch.empty(2, 1, 3, 20, 20)), torch.tensor([[[[1.0]]]])
    m = Measurement(Blur(sharp, (20, 20)), 2 * x[0], 1.0)
    same = torch.stack([2 * sharp, 2 * sharp])
    found = judge(m, Result(x[:1].expand(2, 1, 3, 20, 20), found=same), None, Console(quiet=True))
    assert found["chi_square"] == pytest.approx(0.0, abs=1e-6)
    other = torch.stack([2 * sharp, 1 * sharp])
    found = judge(m, Result(x[:1].expand(2, 1, 3, 20, 20), found=other), None, Console(quiet=True))
    assert found["chi_square"] == pytest.approx(0.5 * float(x[0].square().mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--operator", "inpaint"], "needs --mask"),
        (["--operator", "deblur"], "needs --kernel FILE or --std"),
        (["--operator", "deblur", "--std", "1", "--width", "9"], "--width does not belong to --operator deblur"),
        (["--operator", "blind-deblur", "--kernel", "k.png"], "--kernel does not belong to --operator blind-deblur"),
        (["--operator", "blind-deblur", "--simulate"], "has no --simulate"),
        (["--operator", "blind-deblur", "--border", "zero"], "has the borders valid and circular"),
        (["--operator", "blind-deblur", "--sigma", "0.1", "--solver", "dps"], "dps looks for no kernel"),
        (["--operator", "deblur", "--std", "1", "--kernel", "k.png"], "one of them"),
        (["--operator", "deblur", "--std", "1", "--border", "odd"], "circular, reflect, zero or valid, got 'odd'"),
        (["--operator", "inpaint", "--border", "zero"], "--border does not belong to --operator inpaint"),
        (["--operator", "quantize"], "needs --bits, 1 to 8"),
        (["--operator", "quantize", "--bits", "2", "--sigma", "0.1"], "has no --sigma"),
        (["--operator", "quantize", "--bits", "9"], "'--bits'"),
        (["--operator", "clip"], "needs --exposure, above 1"),
        (["--operator", "clip", "--exposure", "1"], "needs --exposure, above 1"),
        (["--operator", "deblur", "--std", "1", "--exposure", "2"], "--exposure does not belong to --operator deblur"),
        (["--operator", "clip", "--exposure", "2", "--bits", "2"], "--bits does not belong to --operator clip"),
        (["--operator", "clip", "--exposure", "2", "--margin", "2"], "--margin does not belong to --operator clip"),
        (["--operator", "camera-blur"], "camera-blur needs --kernel FILE or --std"),
        (["--operator", "phase", "--simulate"], "phase needs --sigma"),
        (["--operator", "phase", "--sigma", "0.1"], "with --simulate, and on the sizes of a spectrum"),
        (["--operator", "enlarge"], "needs --factor"),
        (["--operator", "enlarge", "--factor", "1"], "at least 2"),
        (["--operator", "enlarge", "--factor", "2", "--filter", "odd"], "box or bicubic"),
        (["--operator", "denoise", "--factor", "2"], "--factor does not belong to --operator denoise"),
        (["--operator", "colorize", "--mask", "m.png"], "--mask does not belong"),
        (["--operator", "dnoise"], "dnoise"),
        (["--operator", "denoise", "--sigma", "-1"], "'--sigma'"),
        (["--operator", "denoise", "--samples", "0"], "'--samples'"),
        (["--operator", "denoise", "--solver", "ddrmm"], "no solver 'ddrmm'"),
        (["--operator", "denoise", "--solver", "ddim"], "no solver 'ddim'"),
        (["--operator", "denoise", "--set", "stpes=3"], "Nearest: steps"),
        (["--operator", "denoise", "--set", "steps"], "FIELD=VALUE"),
        (["--operator", "denoise", "--set", "steps=many"], "does not fit"),
        (["--operator", "denoise", "--device", "cuda:77"], "not here"),
        (["--operator", "denoise", "--dtype", "int8"], "int8"),
        (["--operator", "denoise", "--unknown"], "unknown"),
    ],
)
def test_usage_errors_exit_with_2(picture: Path, tiny: Path, tmp_path: Path, words: list[str], part: str) -> None:
    result = call("restore", picture, *words, "--model", tiny, "-o", tmp_path / "out", code=2)
    assert part in " ".join(result.stderr.split()) and result.stdout == ""
    assert not (tmp_path / "out").exists()


def _bad(folder: Path, picture: Path) -> dict[str, tuple[Path, str]]:
    """Bad inputs by name: (file, what the message says)."""
    truncated, empty, text = (folder / f"{name}.png" for name in ("truncated", "empty", "text"))
    truncated.write_bytes(picture.read_bytes()[:300])
    empty.write_bytes(b"")
    text.write_text("this is no picture")
    nan, ints, many, words = (folder / name for name in ("nan.npz", "ints.npy", "many.npz", "words.npy"))
    np.savez(nan, np.full((3, 8, 8), np.nan, np.float32))
    np.save(ints, np.zeros((3, 8, 8), np.uint8))
    np.savez(many, a=np.zeros(3), b=np.zeros(3))
    np.save(words, np.array(["a", "b"]))
    (folder / "cut.npz").write_bytes(nan.read_bytes()[:100])
    (folder / "empty.npy").write_bytes(b"")
    return {
        "missing": (folder / "nowhere.png", "not there"),
        "truncated": (truncated, "truncated.png"),
        "empty": (empty, "empty (0 bytes)"),
        "text": (text, "text.png"),
        "nan": (nan, "NaN or infinite"),
        "ints": (ints, "whose range is not stated"),
        "many": (many, "holds 2 arrays"),
        "words": (words, "real numbers are expected"),
        "cut": (folder / "cut.npz", "no NumPy file"),
        "empty array": (folder / "empty.npy", "empty (0 bytes)"),
    }


@pytest.mark.parametrize(
    "name",
    ["missing", "truncated", "empty", "text", "nan", "ints", "many", "words", "cut", "empty array"],
)
def test_bad_input_is_one_sentence_exit_3_and_nothing_written(
    picture: Path, tiny: Path, tmp_path: Path, name: str
) -> None:
    path, part = _bad(tmp_path, picture)[name]
    before = sorted(os.listdir(tmp_path))
    result = restore(path, tiny, "--sigma", 0.1, "-o", tmp_path / "out", code=3)
    assert part in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert result.stdout == "" and sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        ("I;16", (8, 8)),
        ("CMYK", (8, 8)),
        ("P", (8, 8)),
        ("RGBA", (8, 8)),
        ("LA", (8, 8)),
        ("L", (1, 1)),
        ("RGB", (1, 1)),
    ],
)
def test_pictures_of_every_kind_are_restored(tiny: Path, tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = tmp_path / ("in.tif" if mode == "CMYK" else "in.png")
    Image.new(mode, size, 0 if mode in ("P", "L", "I;16") else None).save(path)
    out = tmp_path / "out"
    restore(path, tiny, "--sigma", 0.1, "-o", out)
    grey = mode in ("I;16", "LA", "L")
    assert read_image(out / "restored.png").shape == (1 if grey else 3, *size[::-1])


def test_a_strip_of_5000_pixels_is_restored(tiny: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5000, 3), (90, 120, 150)).save(tmp_path / "strip.png")
    restore(tmp_path / "strip.png", tiny, "--sigma", 0.1, "-o", tmp_path / "out")
    assert read_image(tmp_path / "out" / "restored.png").shape == (3, 3, 5000)


def test_arrays_are_read_as_they_are(tiny: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.full((3, 8, 8), 0.5))
    restore(tmp_path / "x.npz", tiny, "--sigma", 0.1, "-o", tmp_path / "out")
    np.save(tmp_path / "x.npy", np.full((8, 8), 0.5, np.float32))
    result = restore(tmp_path / "x.npy", tiny, "--sigma", 0.1, "-o", tmp_path / "out")
    assert "a grey picture and a color model" in result.stderr
    assert read_image(tmp_path / "out" / "restored.png").shape == (1, 8, 8)
    np.save(tmp_path / "x.npy", np.full((4, 8, 8), 0.5, np.float32))
    result = restore(tmp_path / "x.npy", tiny, "--sigma", 0.1, code=3)
    assert "the model is for data of the shape (3, any, any), the measurement is of (4, 8, 8)" in result.stderr


def test_bad_masks_kernels_and_models_exit_with_3(picture: Path, tiny: Path, tmp_path: Path) -> None:
    Image.new("L", (7, 9)).save(tmp_path / "mask.png")
    words = ("restore", picture, "--model", tiny, "--sigma", 0.1, "-o", tmp_path / "out")
    result = call(*words, "--operator", "inpaint", "--mask", tmp_path / "mask.png", code=3)
    assert "the mask is 7 x 9 pixels, the picture 24 x 20" in result.stderr
    result = call(*words, "--operator", "deblur", "--kernel", tmp_path / "mask.png", code=3)
    assert "needs a positive sum" in result.stderr
    result = restore(picture, tmp_path / "nomodel", code=3)
    assert "no model" in result.stderr
    (tmp_path / "file").write_text("")
    result = restore(picture, tiny, "--sigma", 0.1, "-o", tmp_path / "file", code=3)
    assert "is a file: name a folder" in result.stderr
    Image.new("RGB", (2, 2)).save(tmp_path / "small.png")
    assert "too few to estimate" in restore(tmp_path / "small.png", tiny, code=3).stderr


def test_a_hub_model_without_the_extra_exits_with_4(
    picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    result = restore(picture, Path("owner/name"), "-o", tmp_path / "out", code=4)
    assert "pip install 'sfumato[hub]'" in result.stderr


def test_sample_writes_a_sheet_and_its_samples(classes: Path, tmp_path: Path) -> None:
    words = ("sample", classes, "--steps", 2, "--size", 8)
    call(*words, "-n", 5, "--cond", 2, "--cond", 0, "-o", tmp_path / "one", "-q")
    names = [f"sample-00{i}.png" for i in range(5)]
    assert sorted(os.listdir(tmp_path / "one")) == ["grid.png", "manifest.json", *names]
    assert read_image(tmp_path / "one" / "grid.png").shape == (1, 28, 18)
    # The same samples in another batch, with their labels in turn.
    call(*words, "-n", 2, "--cond", 2, "--cond", 0, "--batch", 1, "-o", tmp_path / "two")
    for name in names[:2]:
        gap = read_image(tmp_path / "one" / name) - read_image(tmp_path / "two" / name)
        assert gap.abs().max() <= 1.1 / 255
    call("run", tmp_path / "one" / "manifest.json", "-o", tmp_path / "three", "--json")
    assert digest(tmp_path / "one" / "grid.png") == digest(tmp_path / "three" / "grid.png")
    call(*words, "-n", 1, "--sampler", "ddim", "--set", "eta=1", "--size", 6, "-o", tmp_path / "four")
    manifest = json.loads((tmp_path / "four" / "manifest.json").read_text())
    assert manifest["sampler"] == "DDIM(eta=1.0)" and manifest["settings"]["size"] == [8, 6]
    assert read_image(tmp_path / "four" / "sample-000.png").shape == (1, 8, 6)


def test_sample_refuses_labels_and_samplers_that_do_not_fit(classes: Path, tiny: Path) -> None:
    assert "between 0 and 2" in call("sample", classes, "--cond", 3, code=2).stderr
    assert "has no classes" in call("sample", tiny, "--cond", 1, code=2).stderr
    assert "no sampler 'cfg'" in call("sample", tiny, "--sampler", "cfg", code=2).stderr
    assert "Nearest: eta" in call("sample", tiny, "--sampler", "ddim", "--set", "etaa=1", code=2).stderr
    call("sample", tiny, "-n", 0, code=2)
    call("sample", "nomodel", code=3)
    call("sample", code=2)


def test_a_sheet_is_filled_row_by_row() -> None:
    x = torch.arange(3.0).reshape(3, 1, 1, 1) / 4
    sheet = grid(x)
    assert torch.equal(sheet, torch.tensor([[[0.0, 1, 1, 0.25], [1, 1, 1, 1], [1, 1, 1, 1], [0.5, 1, 1, 1]]]))


def _process(*words: object):
    # A shell's background jobs ignore SIGINT, and so would what they start: as at a terminal, it is heard here.
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_exit_codes_of_real_processes(picture: Path, tiny: Path, tmp_path: Path) -> None:
    for words, code in ((("show", "nothing"), 2), (("sample", tmp_path / "no"), 3), (("list", "-q"), 0)):
        process = _process(*words)
        process.communicate()
        assert process.returncode == code, words


def test_an_interrupt_exits_with_130_and_leaves_nothing(picture: Path, tiny: Path, tmp_path: Path) -> None:
    process = _process(
        *("restore", picture, "--operator", "denoise", "--sigma", 0.1, "--samples", 2, "--steps", 100000, "--json"),
        *("--model", tiny, "-o", tmp_path / "out"),
    )
    assert process.stdout is not None
    while '"step"' not in (line := process.stdout.readline()):
        assert line, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert sorted(os.listdir(tmp_path)) == ["picture.png"]


def test_the_memory_of_a_run_is_said_before_it(picture: Path, tiny: Path, tmp_path: Path) -> None:
    """Low memory asks for less, and gives the same picture."""
    words = ("--samples", 4, "--solver", "dps", "--steps", 2, "--sigma", 0.1)
    said, pictures = [], []
    for name, extra in (("plain", []), ("low", ["--low-memory"])):
        result = restore(picture, tiny, *words, *extra, "--json", "-o", tmp_path / name)
        start = json.loads(result.stdout.splitlines()[0])
        said.append(start["memory"])
        pictures.append(read_image(tmp_path / name / "restored.png"))
    assert start["event"] == "start" and 0 < said[1] < 0.5 * said[0]
    assert float((pictures[0] - pictures[1]).abs().max()) < 2 / 255
    result = restore(picture, tiny, *words, "--dry-run")
    assert f"memory: tensors of about {said[0] / 1e6:.0f} MB beside the weights" in result.stderr
