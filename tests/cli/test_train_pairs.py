"""`sfumato train` of recipes of pairs: what damages the pictures is said, kept in the run, and cannot change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.data.images import write_image


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    for folder in ("clean", "worn"):
        (tmp_path / folder).mkdir()
        for n in range(2):
            write_image(tmp_path / folder / f"{n}.png", (torch.arange(600.0) * (n + 1) % 91 / 91).reshape(1, 20, 30))
    return tmp_path / "clean"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout + result.stderr


SMALL = ("--recipe", "sr3", "--size", 16, "--channels", 1, "--set", "widths=[8]", "--set", "calls=3", "-q")


def test_trained_previewed_resumed_and_used(clean: Path) -> None:
    out = clean.parent / "run"
    words = ("train", clean, *SMALL, "--damage", "enlarge:2", "-o", out, "--batch", 3, "--every", 2)
    assert run(*words, "--steps", 4, "--preview", 2)[0] == 0
    config = json.loads((out / "config.json").read_text())
    assert config["training"]["damage"] == "enlarge:2" and config["event"] == [1, None, None]
    assert len(list((out / "samples").glob("*.png"))) == 2
    assert run(*words, "--steps", 6, "--resume")[0] == 0
    code, said = run("train", clean, "--damage", "rain", "-o", out, "--resume", "-q")
    assert code == 2 and "training.damage: enlarge:2 there, rain here" in said
    code, said = run("enhance", clean / "0.png", "--model", out, "-o", clean.parent / "bigger", "-q")
    assert code == 0 and (clean.parent / "bigger" / "restored.png").exists(), said


def test_the_damage_is_drawn_by_the_seed_of_the_run(clean: Path) -> None:
    """Two runs of one seed have one loss curve; another seed damages otherwise."""
    curves = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = clean.parent / name
        code, said = run("train", clean, *SMALL, "--damage", "rain", "-o", out, "--steps", 2, "--seed", seed)
        assert code == 0, said
        curves.append([json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()])
    assert curves[0] == curves[1] != curves[2]


def test_pairs_of_two_folders(clean: Path) -> None:
    out = clean.parent / "run"
    code, said = run("train", clean, *SMALL, "--damaged", clean.parent / "worn", "-o", out, "--steps", 1)
    assert code == 0, said


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--recipe", "sr3"), 2, "say what damages the clean pictures"),
        (("--recipe", "sr3", "--damage", "rain", "--damaged", "x"), 2, "one of them"),
        (("--recipe", "edm", "--damage", "rain"), 2, "--damage is for pairs"),
        (("--recipe", "sr3", "--damage", "ran"), 3, "rain?"),
        (("--recipe", "sr3", "--damage", "rain", "--classes"), 2, "--classes is for"),
    ],
)
def test_what_is_missing_or_too_much(clean: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    got, said = run("train", clean, *words, "-o", clean.parent / "run", "-q")
    assert got == code and sentence in said, said
    assert not (clean.parent / "run").exists()


def test_pairs_are_pictures(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("words " * 100)
    code, said = run("train", tmp_path / "x.txt", "--recipe", "sr3", "--damage", "rain", "-o", tmp_path / "run", "-q")
    assert code == 2 and "trained on pairs of pictures" in said
