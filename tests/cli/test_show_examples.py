"""The command that `show` ends with is one that the method can run."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sfumato import recipes
from sfumato.cli.main import app
from sfumato.samplers import Sampler

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("key", sorted(recipes.names()))
def test_examples_fit_the_method(key: str) -> None:
    result = CliRunner().invoke(app, ["show", key])
    assert result.exit_code == 0
    recipe, example = recipes.load(key).Recipe, result.stdout.rpartition("Run it:\n")[2].strip()
    if own := recipes.describe(key).example:  # the method's own: a script that is there, or a command
        assert example == own
        script = own.split()[1]
        assert not own.startswith("python ") or script == "-c" or (ROOT / script).exists()
    elif example.startswith("sfumato train"):
        assert hasattr(recipe, "model") and hasattr(recipe, "objective")
    elif example.startswith("sfumato sample"):
        assert issubclass(recipe, Sampler)
    elif example.startswith("python"):
        assert not hasattr(recipe, "model") and not issubclass(recipe, Sampler)
