"""Latent, flow and two-stage models by the command that users type."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.codecs import Latent
from sfumato.recipes.schrodinger_generative import Recipe

SMALL = ["widths=[8]", "attention=[]"]


@pytest.mark.parametrize(
    ("recipe", "fields"),
    [("d2c", [*SMALL, "coder=[8]"]), ("rectified-flow", SMALL), ("schrodinger-generative", [*SMALL, "levels=3"])],
)
def test_a_recipe_is_trained_and_loaded(recipe: str, fields: list[str], tmp_path: Path) -> None:
    pixels = (np.arange(20 * 64).reshape(20, 8, 8) % 251).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    run = ["train", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), "--recipe", recipe, "--steps", "2", "-q"]
    done = CliRunner().invoke(app, [*run, "--batch", "4", *(v for f in fields for v in ("--set", f))])
    assert done.exit_code == 0, done.output
    model = sf.load(tmp_path / "run")
    if recipe == "schrodinger-generative":
        made = Recipe(channels=1, levels=3, draws=1)
        x = made.draw(model.denoiser, (2, 1, 8, 8), sf.Noise(0))  # type: ignore[arg-type]
    else:
        x = model.sample(2, steps=2)
    assert x.shape == (2, 1, 8, 8) and bool(torch.isfinite(x).all())
    assert isinstance(model.codec, Latent) == (recipe == "d2c")
