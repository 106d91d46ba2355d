"""`sfumato train` and `sample` on text and on levels of pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.denoisers import Denoiser, Estimate
from sfumato.operators import Identity
from sfumato.processes import Discrete, Rectified, Transitions
from sfumato.samplers import Ancestral, AnyOrder, Arc
from sfumato.zoo import defaults

WORDS = "the quick brown fox jumps over the lazy dog\n" * 4
TEXT = ["--set", "width=16", "--set", "depth=1", "--set", "heads=2", "--batch", "4", "--steps", "3", "-q"]
PICTURE = ["--set", "widths=[8]", "--set", "blocks=1", "--set", "attention=[]", "--batch", "4", "--steps", "2", "-q"]


def sfumato(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def book(tmp_path: Path) -> Path:
    (tmp_path / "book.txt").write_text(WORDS)
    return tmp_path / "book.txt"


@pytest.mark.parametrize("recipe", [["ardm"], ["mdlm"], ["d3pm", "--set", "transition=uniform", "--set", "steps=9"]])
def test_a_text_is_trained_on_and_written(book: Path, tmp_path: Path, recipe: list[str]) -> None:
    run = tmp_path / "run"
    done = sfumato("train", book, "-o", run, "--recipe", *recipe, "--size", 12, *TEXT)
    assert done.exit_code == 0, done.output
    config = json.loads((run / "config.json").read_text())
    assert config["codec"] == {"kind": "alphabet", "symbols": "".join(sorted(set(WORDS)))}
    assert config["event"] == [12] and config["fields"]["length"] == 12 and config["training"]["items"] == 14
    assert config["fields"]["levels"] == len(set(WORDS)) and config["fields"]["width"] == 16
    done = sfumato("sample", run, "-n", 3, "--steps", 3, "-o", tmp_path / "out", "-q")
    assert done.exit_code == 0, done.output
    texts = [(tmp_path / "out" / f"sample-{i:03d}.txt").read_bytes().decode() for i in range(3)]
    assert all(len(text) == 12 and set(text) <= set(WORDS) for text in texts)
    assert all(f"--- {i}\n{text}" in done.stdout for i, text in enumerate(texts))
    assert not (tmp_path / "out" / "grid.png").exists()
    again = sfumato("train", book, "-o", run, "--resume", "--steps", 5, "-q")
    assert again.exit_code == 0, again.output
    assert json.loads((run / "config.json").read_text())["training"]["steps"] == 5


def test_a_window_has_128_characters_and_a_small_network_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(WORDS * 2)
    done = sfumato("train", tmp_path / "book.txt", "-o", tmp_path / "run", "--recipe", "ardm", "--dry-run")
    fields = json.loads(done.stdout[done.stdout.index("{") :])["fields"]
    assert (fields["length"], fields["width"], fields["depth"], fields["heads"]) == (128, 128, 4, 4)
    assert fields["dropout"] == 0.1 and fields["logistic"] is False


def test_pictures_are_trained_on_as_levels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", x=x)
    run = tmp_path / "run"
    done = sfumato("train", tmp_path / "digits.npz", "-o", run, "--recipe", "ardm", "--set", "levels=5", *PICTURE)
    assert done.exit_code == 0, done.output
    config = json.loads((run / "config.json").read_text())
    assert config["codec"] == {"kind": "quantized", "levels": 5} and config["fields"]["levels"] == 5
    done = sfumato("sample", run, "-n", 2, "--steps", 4, "-o", tmp_path / "out", "-q")
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "sample-000.png",
        "sample-001.png",
        "grid.png",
    }
    model = sf.load(run)
    drawn = model.sample(3, seed=1, steps=36, batch=2)
    assert drawn.shape == (3, 1, 6, 6)
    assert bool(torch.isin(drawn, torch.arange(5) / 4).all())
    assert torch.equal(model.sample(3, seed=1, steps=36, batch=1), drawn)
    model.save(tmp_path / "saved")
    assert torch.equal(sf.load(tmp_path / "saved").sample(3, seed=1, steps=36, batch=2), drawn)
    again = sfumato("train", tmp_path / "digits.npz", "-o", run, "--resume", "--steps", 3, "-q")
    assert again.exit_code == 0, again.output


def test_default_levels_are_those_of_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", x=np.zeros((4, 6, 6), np.uint8))
    done = sfumato("train", tmp_path / "digits.npz", "-o", tmp_path / "run", "--recipe", "d3pm", "--dry-run")
    assert json.loads(done.stdout[done.stdout.index("{") :])["codec"] == {"kind": "quantized", "levels": 256}


def test_what_does_not_fit_is_refused(book: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "waves.npy", np.random.default_rng(0).normal(size=(9, 30)).astype(np.float32))
    for words, said in (
        ([book], "edm is not for text: ardm, mdlm and d3pm are"),
        ([book, "--recipe", "ardm", "--set", "levels=7"], "levels is decided by the text"),
        ([book, "--recipe", "ardm", "--set", "length=7"], "length is decided by the data"),
        (
            [book, "--recipe", "ardm", "--channels", 1],
            "--channels is for pictures and shards and pairs: these data are of the kind 'text'",
        ),
        ([tmp_path / "waves.npy", "--recipe", "ardm"], "ardm is for pictures of whole numbers, or text"),
    ):
        done = sfumato("train", *words, "-o", tmp_path / "run")
        assert (done.exit_code, said in " ".join(done.stderr.replace("│", " ").split())) == (2, True), done.stderr
    done = sfumato("train", book, "-o", tmp_path / "run", "--recipe", "ardm", "--size", 5000)
    assert done.exit_code == 3 and "has 176 characters, a window 5000" in done.stderr


def test_defaults_of_processes_on_categories() -> None:
    assert isinstance(defaults.sampler(), Arc) and isinstance(defaults.sampler(Rectified()), Arc)
    assert isinstance(defaults.sampler(Discrete(3)), Ancestral)
    assert isinstance(defaults.sampler(Discrete(3, absorbing=2)), AnyOrder)
    chain = Transitions.gaussian(3, [0.1] * 4)
    assert defaults.times(chain, 2) == (1.0, 0.5, 0.0)
    assert defaults.times(chain, 50) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert defaults.times(Discrete(3), 4) == (1.0, 0.75, 0.5, 0.25, 0.0)


def test_categories_cannot_be_restored() -> None:
    class Flat(Denoiser):
        process = Discrete(2)

        def forward(self, xt, t, cond=None):
            return Estimate(torch.full((*xt.shape, 2), 0.5))

    model = sf.Model(sf.codecs.Quantized(2), Flat(), {"event": [1, 2, 2]})
    with pytest.raises(ValueError, match="restoration needs a model of real numbers"):
        model.restore(sf.Measurement(Identity(), torch.zeros(1, 1, 2, 2), 0.1))
