"""The pages of gallery/theory and the annotated script run, and every number they print is the exact one."""

import gzip
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sfumato import recipes

ROOT = Path(__file__).parent.parent
SLOW = pytest.mark.slow
PAGES = {  # how many numbers each page compares
    "theory/1_expectation.py": 13,
    "theory/2_reparameterisation.py": 8,
    "theory/3_divergence.py": 9,
    "theory/4_bound.py": 9,
    "theory/5_forward_and_reverse.py": 4,
    "theory/6_score.py": 9,
    "theory/7_schedules.py": 8,
}
LONG = {"theory/4_bound.py", "theory/5_forward_and_reverse.py", "theory/6_score.py"}


def run(page: str, figure: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(sys, "argv", [page, str(figure)])
    dtype = torch.get_default_dtype()
    try:
        return runpy.run_path(str(ROOT / "gallery" / page))
    finally:
        torch.set_default_dtype(dtype)


@pytest.mark.parametrize("page", [pytest.param(p, marks=[SLOW] if p in LONG else []) for p in PAGES])
def test_every_number_of_a_page_is_exact(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(page, tmp_path / "figure.png", monkeypatch)
    checks = names["checks"]
    assert len(checks) == PAGES[page]
    for what, (measured, exact, error) in checks.items():
        assert abs(measured - exact) <= 4 * error, what
    # The allowed errors are small beside what they judge, or beside one where that is zero.
    assert all(error <= 0.06 * max(abs(exact), 0.5) for _, exact, error in checks.values())
    assert (tmp_path / "figure.png").exists() == (importlib.util.find_spec("matplotlib") is not None)
    assert len(capsys.readouterr().out.splitlines()) > len(checks)
    if page.startswith("theory/5"):
        steps, distances = names["steps"], names["distances"]
        assert steps[0.4] > 0.5 and steps[0.1] < 0.1 and steps[0.025] < 0.01 and steps[0.00625] < 0.002
        for name in ("SDE", "ODE"):  # two exact samples differ as much
            assert max(distances[name]) < 1.6 * max(distances["exact"])
    if page.startswith("theory/6"):
        shares = names["shares"]
        assert abs(shares["plain"] - 0.5) < 4 * 0.5 / 4000**0.5  # it keeps what it was given
        assert abs(shares["annealed"] - 0.8) < 0.03
    if page.startswith("theory/7"):
        costs = names["costs"]
        assert costs["table of 300, beta to 0.020"] > 1e4 * costs["table of 300, beta to 0.067"]


def test_theory_shows_every_page() -> None:
    text = recipes.describe("theory").text
    assert re.findall(r"^(\d_\w+)", text, re.MULTILINE) == [Path(page).stem for page in PAGES]
    assert recipes.load("theory").Recipe().folder == "gallery/theory"
    example = recipes.describe("theory").example.partition("#")[0].split()
    assert example[0] == "python" and (ROOT / example[1]).exists()


def write_idx(path: Path, data: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(n.to_bytes(4, "big") for n in data.shape)
    path.write_bytes(gzip.compress(b"\x00\x00\x08" + bytes([data.ndim]) + sizes + bytes(data.flatten().tolist())))


@pytest.mark.slow
def test_annotated_script_trains_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ "annotated_ddpm.py" on images of one grey square: its loss falls, its picture has two rows of five."""
    folder = tmp_path / "usr/share/datasets/fashion-mnist"
    images = torch.zeros(64, 28, 28, dtype=torch.uint8)
    images[:, 8:20, 8:20] = 200
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    write_idx(folder / "train-labels-idx1-ubyte.gz", torch.zeros(64, dtype=torch.uint8))
    arguments = ["--root", str(tmp_path), "--steps", "12", "--batch", "8", str(tmp_path / "sheet.png")]
    monkeypatch.setattr(sys, "argv", ["annotated_ddpm.py", *arguments])
    names = runpy.run_path(str(ROOT / "gallery" / "annotated_ddpm.py"))
    losses = names["losses"]
    assert len(losses) == 12 and losses[-1] < 0.9 * losses[0]
    assert abs(losses[0] - 0.4247) < 0.05  # the net begins by guessing nothing
    assert names["process"].alpha(1.0) ** 2 < 1e-4
    assert len(names["path"]) == 6 and names["samples"].shape == (16, 1, 28, 28)
    assert Image.open(tmp_path / "sheet.png").size == (2 * 8 * 28, 2 * 11 * 28)
    assert "sheet.png" in capsys.readouterr().out
