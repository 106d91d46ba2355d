"""`sfumato train` and `enhance` of recipes of sounds: a folder of WAV files in, a sound out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.data.wave import Heard, WaveFolder, peaked, read_wave, write_wave
from sfumato.noise import Seeds

TINY = [
    f"--set={field}"
    for field in ("hop=16", "window=64", "n_fft=64", "mels=6", "width=4", "blocks=2", "cycle=2", "high=4000")
]


@pytest.fixture
def wavs(tmp_path: Path) -> Path:
    n = torch.arange(1600.0)
    for k in (1, 2):
        write_wave(tmp_path / "wavs" / f"{k}.wav", (0.2 * k * torch.sin(0.1 * k * n))[None], 8000)
    return tmp_path / "wavs"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "wavs").mkdir()


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout + result.stderr


def trained(wavs: Path, recipe: str = "priorgrad", *more: object) -> Path:
    out = wavs.parent / "run"
    words = ("train", wavs, "--recipe", recipe, *TINY, "--size", 256, "--steps", 2, "--preview", 2, "-q", "-o", out)
    code, said = run(*words, *more)
    assert code == 0, said
    return out


def test_trained_previewed_resumed_and_used(wavs: Path) -> None:
    out = trained(wavs)
    config = json.loads((out / "config.json").read_text())
    assert config["event"] == [1, None] and config["size"] == [256] and config["hertz"] == 8000
    assert config["fields"]["hertz"] == 8000 and config["codec"]["scale"] == pytest.approx(0.4 / 0.95, rel=1e-3)
    source = WaveFolder(wavs, 256)
    recipe = sf.recipes.load("priorgrad").Recipe(
        hertz=8000, hop=16, window=64, n_fft=64, mels=6, width=4, blocks=2, cycle=2, high=4000.0
    )
    energy = recipe.energy(recipe.told(peaked(source).encode(source.windows[:, None]))["mel"])
    assert config["fields"]["least"] == pytest.approx(float(energy.min()), rel=1e-5)
    found = sorted(path.name for path in (out / "samples").glob("*.wav"))
    assert len(found) % 3 == 0 and read_wave(out / "samples" / found[0])[1] == 8000
    code, said = run("train", wavs, "-o", out, "--resume", "--steps", 4, "-q")
    assert code == 0 and json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 4, said
    write_wave(wavs.parent / "odd.wav", 0.1 * torch.ones(2, 333), 8000)
    code, said = run("enhance", wavs.parent / "odd.wav", "--model", out, "--steps", 6, "--samples", 2, "-o", out / "o")
    assert code == 0 and "the first of 2 samples" in said, said
    sound, hertz = read_wave(out / "o" / "restored.wav")
    assert sound.shape == (1, 333) and hertz == 8000
    first = read_wave(out / "o" / "sample-000.wav")[0]
    second = read_wave(out / "o" / "sample-001.wav")[0]
    assert (sound == first).all() and not (first == second).all()
    assert abs(read_wave(out / "o" / "mean.wav")[0] - (first + second) / 2).max() < 1e-4
    manifest = json.loads((out / "o" / "manifest.json").read_text())
    assert manifest["nfe"] == 6 and manifest["restored"] == "the first of 2 samples"


def test_one_sample_and_a_dry_run(wavs: Path) -> None:
    out = trained(wavs, "diffwave")
    code, said = run("enhance", wavs / "1.wav", "--model", out, "--steps", 2, "-o", out / "o", "--dry-run")
    assert code == 0 and "1600 samples" in said and not (out / "o").exists()
    code, said = run("enhance", wavs / "1.wav", "--model", out, "--steps", 2, "-o", out / "o")
    assert code == 0 and "restored.wav is the one sample" in said, said
    assert sorted(path.name for path in (out / "o").iterdir()) == ["manifest.json", "restored.wav"]


def test_a_model_draws_the_same_in_any_batch_and_padding_is_cut(wavs: Path) -> None:
    model = sf.load(trained(wavs))
    y = torch.stack([0.2 * torch.sin(0.3 * torch.arange(100.0)), torch.zeros(100)])[:, None]
    both = model.enhance(y, steps=6, seed=1, samples=2)
    alone = model.enhance(y[:1], steps=6, seed=1, samples=2, batch=1)
    assert both.samples.shape == (2, 2, 1, 100) and both.nfe == 6
    assert torch.allclose(both.samples[:, :1], alone.samples, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--recipe", "diffwave", "--size", 250), "a multiple of the hop of 16 samples: --size is 250"),
        (("--recipe", "diffwave", "--set", "hertz=9"), "hertz is decided by the data"),
        (("--recipe", "diffwave", "--damage", "rain"), "--damage is for pairs"),
    ],
)
def test_training_that_does_not_fit(wavs: Path, words: tuple[object, ...], sentence: str) -> None:
    code, said = run("train", wavs, *TINY, *words, "-o", wavs.parent / "run", "-q")
    assert code == 2 and sentence in said, said


def test_sounds_are_trained_on_sounds(tmp_path: Path) -> None:
    import numpy as np

    np.save(tmp_path / "x.npy", np.zeros((4, 8), np.float32))
    code, said = run("train", tmp_path / "x.npy", "--recipe", "diffwave", "-o", tmp_path / "run", "-q")
    assert code == 2 and "diffwave is trained on sounds: give a folder of them" in said


def test_files_that_do_not_fit(wavs: Path) -> None:
    out = trained(wavs, "diffwave")
    write_wave(wavs.parent / "fast.wav", torch.zeros(1, 100), 16000)
    write_wave(wavs.parent / "none.wav", torch.zeros(1, 0), 8000)
    for name, more, code, sentence in (
        ("fast.wav", (), 3, "for 8000 samples a second, the sound has 16000"),
        ("none.wav", (), 3, "holds no sound"),
        ("wavs/1.wav", ("--damage", "rain"), 2, "--damage is for pictures"),
        ("wavs/1.wav", ("--factor", 2), 2, "--factor is for pictures"),
        ("wavs/1.wav", ("--mask", "m.png"), 2, "--mask is for pictures"),
    ):
        got, said = run("enhance", wavs.parent / name, "--model", out, "-o", out / "o", *more)
        assert got == code and sentence in said, said
    assert not (out / "o").exists()


def test_the_window_is_the_recipe_s_unless_asked_otherwise(wavs: Path) -> None:
    code, said = run(
        "train", wavs, "--recipe", "diffwave", *TINY, "--set", "crop=160", "-o", wavs.parent / "run", "--dry-run"
    )
    assert code == 0 and "20 items of 1 x 160" in said, said


def test_items_are_windows_and_what_is_told_of_what_is_given(wavs: Path) -> None:
    source = WaveFolder(wavs, 400)
    heard = Heard(source, lambda x, noise: 2.0 * x + noise.uniform(x[:, :, :1]), lambda y: {"y": y + 1.0})
    x0, cond = heard.batch([0, 5], Seeds([1, 2]))
    assert len(heard) == 8 and heard.event == (1, 400) and heard.rate == 8000 and heard.names == ()
    assert float(heard.codec.encode(source.windows).abs().max()) == pytest.approx(0.95)
    assert torch.allclose(heard.codec.decode(x0)[:, 0], source.windows[[0, 5]])
    assert torch.allclose(cond["y"], 2.0 * x0 + Seeds([1, 2]).uniform(x0[:, :, :1]) + 1.0)
    assert math.isclose(heard.codec.shift, 0.0)
