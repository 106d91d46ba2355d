"""Draws by a model of pairs: keyed by item and sample, whatever the batch, with what it is told; and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.codecs import Affine
from sfumato.data import damages
from sfumato.data.images import read_image, write_image
from sfumato.noise import Noise, Seeds
from sfumato.recipes.sr3 import Recipe
from sfumato.samplers import DDIM, sample
from sfumato.zoo import Model

FIELDS = {"channels": 1, "widths": (8,), "calls": 4}


def made(**more: object) -> Model:
    torch.manual_seed(0)
    D = Recipe(**FIELDS).model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    config = {"recipe": "sr3", "fields": dict(FIELDS), "event": [1, None, None], **more}
    return Model(Affine.unit(), D.eval(), config)


def test_a_draw_is_the_recipe_s_own_of_the_encoded_picture() -> None:
    model, y = made(), torch.rand(2, 1, 8, 8)
    result = model.enhance(y, samples=3, seed=5)
    recipe = Recipe(**FIELDS)
    assert result.samples.shape == (3, 2, 1, 8, 8) and result.nfe == 4
    for s in range(3):
        for item in range(2):
            noise = Seeds.keyed(5, [(item, s)])
            x1 = noise.normal(torch.empty(1, 1, 8, 8))
            D = recipe.guide(model.denoiser).given({"image": y[item : item + 1] * 2 - 1})
            x0 = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
            assert torch.allclose(result.samples[s, item], x0[0] * 0.5 + 0.5, atol=1e-5)


def test_batches_change_nothing_and_settings_do() -> None:
    model, y = made(), torch.rand(3, 1, 8, 8)
    ticks: list[tuple[int, int]] = []
    whole = model.enhance(y, samples=2, progress=lambda *at: ticks.append(at))
    assert ticks[-1][0] == ticks[-1][1] == 4
    assert torch.allclose(model.enhance(y, samples=2, batch=1).samples, whole.samples, atol=1e-5)
    assert torch.allclose(model.enhance(y[:2]).samples[0], whole.samples[0, :2], atol=1e-5)
    few = model.enhance(y, steps=2, sampler=DDIM())
    assert few.nfe == 2 and "DDIM" in few.solver and not torch.allclose(few.samples[0], whole.samples[0], atol=1e-3)


def test_what_is_no_model_of_pairs_is_refused() -> None:
    plain = Model(Affine.unit(), made().denoiser, {"recipe": "edm", "fields": {"channels": 1}, "event": [1, 2, 2]})
    with pytest.raises(ValueError, match="not trained on pairs"):
        plain.enhance(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="samples is at least 1"):
        made().enhance(torch.zeros(1, 1, 8, 8), samples=0)
    with pytest.raises(ValueError, match="the model is for data of the shape"):
        made().enhance(torch.zeros(1, 3, 8, 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made(training={"damage": "enlarge:2"}).save(tmp_path / "model")
    write_image(tmp_path / "p.png", (torch.arange(144.0) % 37 / 37).reshape(1, 12, 12))
    return tmp_path


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["enhance", *(str(word) for word in words)])
    return result.exit_code, result.stdout + result.stderr


def test_the_command_enlarges_first_where_the_model_expects_it(folder: Path) -> None:
    code, said = run(folder / "p.png", "--model", folder / "model", "--samples", 2, "-o", folder / "out", "-q")
    assert code == 0, said
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == ["input.png", "manifest.json", "restored.png", "sample-000.png", "sample-001.png", "spread.png"]
    assert read_image(folder / "out" / "restored.png").shape == (1, 24, 24)
    code, said = run(folder / "p.png", "--model", folder / "model", "--factor", 1, "-o", folder / "same", "-q")
    assert code == 0 and read_image(folder / "same" / "restored.png").shape == (1, 12, 12), said
    repeated = CliRunner().invoke(
        app, ["run", str(folder / "out" / "manifest.json"), "-o", str(folder / "again"), "-q"]
    )
    assert repeated.exit_code == 0
    for name in names[2:]:
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()


@pytest.mark.parametrize(
    ("damage", "side"), [("real", 48), ("enlarge:middle", 48), ("haze:middle", 12), ("motion", 12), ("", 12)]
)
def test_what_a_model_was_trained_on_says_by_how_much(folder: Path, damage: str, side: int) -> None:
    made(training={"damage": damage} if damage else {}).save(folder / "other")
    code, said = run(folder / "p.png", "--model", folder / "other", "--steps", 1, "-o", folder / "out", "-q")
    assert code == 0, said
    assert read_image(folder / "out" / "restored.png").shape == (1, side, side)


def test_a_clean_picture_is_damaged_and_scored(folder: Path) -> None:
    words = (folder / "p.png", "--model", folder / "model", "--damage", "noise:50", "-o", folder / "out", "--seed", 3)
    code, said = run(*words)
    assert code == 0 and "psnr_input" in said, said
    y = damages.parse("noise:50")(read_image(folder / "p.png"), Noise(3))["image"]
    assert torch.allclose(read_image(folder / "out" / "input.png"), y)
    found = json.loads((folder / "out" / "manifest.json").read_text())
    assert found["psnr_input"] == pytest.approx(
        float(sf.metrics.psnr(y[None], read_image(folder / "p.png")[None])), abs=1e-3
    )


def test_bad_words_are_refused(folder: Path) -> None:
    model = ("--model", folder / "model", "-o", folder / "out", "-q")
    write_image(folder / "mask.png", torch.ones(1, 5, 5))
    for words, code, sentence in (
        ((folder / "none.png", *model), 3, "is not there"),
        ((folder / "p.png", *model, "--damage", "ran"), 2, "rain?"),
        ((folder / "p.png", *model, "--set", "eta=1"), 2, "--set belongs to a sampler"),
        ((folder / "p.png", *model, "--mask", folder / "mask.png"), 3, "differ in size"),
    ):
        got, said = run(*words)
        assert got == code and sentence in said, said
    assert not (folder / "out").exists()
    code, said = run(folder / "p.png", *model[:4], "--dry-run")
    assert code == 0 and "would enhance" in said and not (folder / "out").exists()
