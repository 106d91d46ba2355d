"""docs/medical.md, the card of `head` and the choice of `restore` are what the script makes of the benchmark."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "tools" / "medical_page.py"))


def test_page_and_choice_are_fresh(script):
    if not (ROOT / "benchmarks" / "data" / "medical.json").exists():
        pytest.skip("benchmarks/medical.py has not been run")
    for path, text in script["files"]().items():
        assert path.read_text("utf-8") == text, f"{path} is stale: run tools/medical_page.py"


def row(task, method, psnr, **figures):
    plain = {"psnr_sample": psnr - 1, "ssim": 0.5, "misfit": 1.25, "coverage": 0.4, "nfe": 20, "seconds": 2.0}
    return {"task": task, "slice": "x", "method": method, "psnr": psnr, **plain, **figures}


@pytest.fixture
def found():
    rows = []
    for task in ("mri-4", "mri-8", "ct-10", "ct-20", "ct-60"):
        first = "FBP" if task.startswith("ct") else "zero-filling"
        rows += [row(task, first, 20.0, coverage=None), row(task, "total variation", 24.0, coverage=None)]
        rows += [row(task, "score-medical", 23.0), row(task, "DDNM, warm start", 25.0)]
        rows += [row(task, "DiffPIR, warm start", 26.0 if task == "mri-4" else 24.5)]
        rows += [row(task, "score-medical", 25.0, seconds=4.0)]
    return {"settings": {"side": 128, "steps": 20}, "minutes": 7.6, "rows": rows}


def test_means_are_over_slices_and_the_best_is_first(script, found):
    every = script["means"](found)
    assert list(every["mri-4"])[:2] == ["DiffPIR, warm start", "DDNM, warm start"]
    assert every["ct-10"]["score-medical"] == {
        "psnr": 24.0, "psnr_sample": 23.0, "ssim": 0.5, "misfit": 1.25, "coverage": 0.4, "nfe": 20.0, "seconds": 3.0,
        "slices": 1,
    }  # fmt: skip
    lines = script["table"]("mri-8", every["mri-8"]).splitlines()
    assert lines[0] == "**MR, an eighth of k-space**"
    assert lines[4] == "| DDNM, warm start | 25.00 | 24.00 | 0.500 | 1.25 | 0.40 | 20 | 2.0 |"
    assert lines[-1] == "| zero-filling | 20.00 | 19.00 | 0.500 | 1.25 |  | 20 | 2.0 |"


def test_the_verdict_says_who_is_ahead(script, found):
    said = script["verdict"](script["means"](found)).splitlines()
    assert said[0].startswith("- MR, a quarter of k-space: DiffPIR, warm start 26.00 dB, 2.0 dB above total variation")
    for one in found["rows"]:
        if one["method"] == "total variation":
            one["psnr"] = 27.5
    assert "DDNM, warm start 25.00 dB, 2.5 dB below total variation" in script["verdict"](script["means"](found))


def test_what_restore_takes_is_the_better_warm_start(script, found):
    taken = script["chosen"](script["means"](found), {"mri": {"level": 0.3}, "ct": {"level": 1.0}})
    assert taken["mri"]["key"] == "diffpir" and taken["ct"]["key"] == "ddnm"
    assert taken["mri"]["level"] == 0.3 and taken["ct"]["level"] == 1.0
    assert "25.25 dB on held-out k-space (DDNM, warm start: 25.00)" in taken["mri"]["why"]


def test_the_figure_of_score_medical(script, found):
    """Every row of the method, with what it is, beside the best of what needs no model and the best of all."""
    for task in ("mri-4", "mri-8", "ct-20"):
        found["rows"] += [row(task, "score-medical as published, 200 levels", 19.2)] * 2
    said = script["figure"](found, script["means"](found))
    assert said["minutes"] == 8 and "128 x 128" in said["data"]
    assert said["figure"].startswith(
        "MR, a quarter of k-space 24.0 dB (mean of samples of 20 ancestral levels), 19.2 dB (one sample as published, "
        "200 levels); total variation 24.0, best: DiffPIR, warm start 26.0; MR, an eighth of k-space 24.0 dB"
    )


def test_a_method_that_saw_fewer_slices_says_so(script, found):
    more = [{**one, "slice": "y"} for one in found["rows"] if one["method"] != "total variation"]
    every = script["means"]({**found, "rows": found["rows"] + more})
    lines = script["table"]("mri-8", every["mri-8"])
    assert "| total variation (1 of 2 slices) | 24.00 |" in lines and "| score-medical | 24.00 |" in lines


def test_the_spread_is_beside_that_of_the_network(script, found):
    world = {
        "methods": {
            "the exact posterior": {"coverage": 0.5, "psnr": 25.0},
            "score-medical": {"coverage": 0.45, "psnr": 24.0},
        }
    }
    lines = script["spread"](world, script["means"](found)).splitlines()
    assert lines[2:] == ["| the exact posterior | 0.50 | 25.00 |  |", "| score-medical | 0.45 | 24.00 | 0.40 |"]


def test_a_page_is_filled_between_its_marks(script):
    page = "a\n<!-- figures -->old<!-- end -->\nb"
    assert script["filled"](page, "new") == "a\n<!-- figures -->\n\nnew\n\n<!-- end -->\nb"
    two = f"{page}<!-- spread --><!-- end -->"
    assert script["filled"](two, "new", "spread") == f"{page}<!-- spread -->\n\nnew\n\n<!-- end -->"
