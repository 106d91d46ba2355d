"""Files that were cut, overwritten or filled with anything else: one sentence, an exit code, nothing half-written."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.codecs import Affine
from sfumato.recipes.edm import Recipe
from sfumato.zoo import Model

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture], "derandomize": True}
JSON = st.recursive(
    # Whole numbers stay small: a network of a billion blocks is no damaged file, and takes its time.
    st.none() | st.booleans() | st.integers(-40, 40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a few thousand weights."""
    folder = tmp_path_factory.mktemp("tiny")
    fields: dict[str, Any] = {"channels": 1, "widths": (8,), "blocks": 1}
    torch.manual_seed(0)
    config = {"recipe": "edm", "fields": fields, "event": [1, None, None]}
    Model(Affine.unit(), Recipe(**fields).model(), config).save(folder)
    return folder


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` cut, with bytes overwritten, with bytes inserted, or nothing but noise."""
    kind = draw(st.sampled_from(("cut", "overwritten", "inserted", "noise")))
    at = draw(st.integers(0, len(whole) - 1))
    piece = draw(st.binary(min_size=1, max_size=16))
    if kind == "cut":
        return whole[:at]
    if kind == "overwritten":
        return whole[:at] + piece + whole[at + len(piece) :]
    if kind == "inserted":
        return whole[:at] + piece + whole[at:]
    return piece


@st.composite
def altered(draw: st.DrawFn, content: Any) -> Any:
    """The JSON value with one value somewhere within it replaced or taken out."""
    if isinstance(content, dict) and content and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(content)))
        if draw(st.integers(0, 5)) == 0:
            return {k: v for k, v in content.items() if k != key}
        return {**content, key: draw(altered(content[key]))}
    if isinstance(content, list) and content and draw(st.booleans()):
        at = draw(st.integers(0, len(content) - 1))
        return [*content[:at], draw(altered(content[at])), *content[at + 1 :]]
    return draw(JSON)


def refused_or_done(words: list[object], out: Path) -> int:
    """The exit code of a run; a refusal is one sentence and leaves nothing."""
    shutil.rmtree(out, ignore_errors=True)
    result = CliRunner().invoke(app, [str(word) for word in words])
    said = result.stderr.strip().splitlines()
    assert result.exit_code in (0, 2, 3), (result.exit_code, said)
    if result.exit_code == 3:
        assert said[-1].startswith("error: ") and "Traceback" not in result.stderr, said
    if result.exit_code:
        assert not out.exists() or not any(out.iterdir()), sorted(out.iterdir())
    assert [p.name for p in out.parent.iterdir() if ".part" in p.name or ".tmp" in p.name] == []
    return result.exit_code


def written(save: Callable[[io.BytesIO], None]) -> bytes:
    """What `save` writes."""
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


PICTURE = Image.fromarray((np.arange(12 * 12) % 251).astype(np.uint8).reshape(12, 12))
FILES = {
    "p.png": written(lambda f: PICTURE.save(f, "PNG")),
    "p.jpg": written(lambda f: PICTURE.save(f, "JPEG", quality=30)),
    "p.tif": written(lambda f: PICTURE.save(f, "TIFF")),
    "p.npy": written(lambda f: np.save(f, np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12))),
    "p.npz": written(lambda f: np.savez(f, image=np.linspace(0, 1, 144, dtype=np.float32).reshape(12, 12))),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_pictures(name: str, model: Path, tmp_path: Path) -> None:
    path, out = tmp_path / name, tmp_path / "out"
    words = ["restore", path, "--operator", "denoise", "--sigma", 0.1, "--model", model, "--steps", 1, "-o", out, "-q"]

    @settings(max_examples=12, **QUIET)
    @given(damaged(FILES[name]))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        refused_or_done(words, out)

    check()
    path.write_bytes(FILES[name])
    assert refused_or_done(words, out) == 0


def test_damaged_weights(model: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(model, copy)
    (weights,) = copy.glob("*.safetensors")
    whole = weights.read_bytes()
    words = ["sample", copy, "--samples", 1, "--steps", 1, "--size", 8, "-o", out, "-q"]

    @settings(max_examples=12, **QUIET)
    @given(damaged(whole))
    def check(content: bytes) -> None:
        weights.write_bytes(content)
        refused_or_done(words, out)

    assert refused_or_done(words, out) == 0
    check()


def test_altered_configs(model: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(model, copy)
    config = copy / "config.json"
    content = json.loads(config.read_text())
    words = ["sample", copy, "--samples", 1, "--steps", 1, "--size", 8, "-o", out, "-q"]

    @settings(max_examples=40, **QUIET)
    @given(altered(content))
    def check(content: Any) -> None:
        config.write_text(json.dumps(content))
        refused_or_done(words, out)

    check()
    config.write_text(json.dumps(content))
    assert refused_or_done(words, out) == 0


def test_altered_manifests(model: Path, tmp_path: Path) -> None:
    first, out = tmp_path / "first", tmp_path / "out"
    assert refused_or_done(["sample", model, "--samples", 1, "--steps", 1, "--size", 8, "-o", first, "-q"], first) == 0
    content = json.loads((first / "manifest.json").read_text())
    path = tmp_path / "manifest.json"
    words = ["run", path, "-o", out, "--dry-run", "-q"]

    @settings(max_examples=40, **QUIET)
    @given(altered(content))
    def check(content: Any) -> None:
        path.write_text(json.dumps(content))
        refused_or_done(words, out)

    check()
    path.write_text(json.dumps(content))
    assert refused_or_done(words, out) == 0


# Settings that go through; of None no value does, since the data decide, or there is no such field.
SOUND = {
    "channels": None,
    "widths": "[8, 8]",
    "dropout": 0.1,
    "sigma_data": 0.5,
    "blocks": 1,
    "classes": None,
    "wdths": None,
}


@pytest.mark.parametrize("field", SOUND)
def test_settings_of_any_kind(field: str, tmp_path: Path) -> None:
    data, out = tmp_path / "data.npz", tmp_path / "out"
    # Small or not finite: a network of a billion blocks is no mistake of a kind, and takes its time.
    numbers = st.integers(-40, 40) | st.floats(-40, 40) | st.sampled_from((math.inf, -math.inf, math.nan))
    np.savez(data, images=np.zeros((20, 8, 8, 1), np.uint8))

    @settings(max_examples=12, **QUIET)
    @given(st.text("abe,.[]{}:\"'-+ \n", max_size=10) | numbers.map(str))
    def check(value: str) -> None:
        refused_or_done(words(value), out)

    def words(value: Any) -> list[Any]:
        return ["train", data, "--recipe", "edm", "--set", f"{field}={value}", "-o", out, "--dry-run", "-q"]

    check()
    if SOUND[field] is not None:
        assert refused_or_done(words(SOUND[field]), out) == 0


def test_checkpoints_of_anything(tmp_path: Path) -> None:
    path, out = tmp_path / "checkpoint.pt", tmp_path / "out"
    whole = written(lambda f: torch.save({"weight": torch.zeros(3)}, f))

    @settings(max_examples=12, **QUIET)
    @given(damaged(whole))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        assert refused_or_done(["convert", path, "-o", out], out) != 0

    check()
