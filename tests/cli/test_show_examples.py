"""The command that `show` ends with is one that the method can run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sfumato import recipes
from sfumato.cli.main import app
from sfumato.cli.show import example_of
from sfumato.samplers import Sampler

ROOT = Path(__file__).parent.parent.parent


def _example(key: str) -> str:
    return example_of(recipes.describe(key))


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


@pytest.mark.parametrize("key", [key for key in sorted(recipes.names()) if _example(key).startswith("python -c")])
def test_examples_in_python_run(key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The code between the quotes, as a shell would hand it over; each prints what it found, and nothing is NaN."""
    torch.manual_seed(0)
    words = shlex.split(_example(key))
    assert words[:2] == ["python", "-c"] and len(words) == 3
    exec(compile(words[2], key, "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert said.strip() and "nan" not in said and "<class" not in said
