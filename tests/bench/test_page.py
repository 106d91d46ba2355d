"""docs/solvers.md and the choice of `restore` are what the script makes of the committed tables."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "tools" / "solvers_page.py"))


def test_page_and_choice_are_fresh(script):
    for path, text in script["outputs"]().items():
        assert path.read_text("utf-8") == text, f"{path} is stale: run tools/solvers_page.py"


def test_the_page_of_samplers_is_fresh():
    script = runpy.run_path(str(ROOT / "tools" / "samplers_page.py"))
    text = script["page"](script["cells"](), script["peers"]())
    assert (ROOT / "docs" / "samplers.md").read_text("utf-8") == text, "run tools/samplers_page.py"


def test_the_page_of_samplers_names_where_the_default_is_behind():
    script = runpy.run_path(str(ROOT / "tools" / "samplers_page.py"))
    ours = {("w", "P", n): {script["OURS"]: 0.5, script["DDIM"]: 0.4 if n == 5 else 0.6} for n in (5, 10)}
    theirs = {("w", "P", n): {"rms": rms, "by": "another"} for n, rms in ((5, 0.6), (10, 0.2))}
    said = script["_verdict"](ours, theirs)
    assert "ahead in 1 of the 2" in said and "- w, P, 10 calls: 0.5 against 0.2 (another)." in said
    assert "in 1 of 2 cells" in script["_ddim"](ours) and "Not in: w, P, 5 calls (0.5 against 0.4)." in script["_ddim"](
        ours
    )


def test_the_page_of_samplers_names_where_a_loop_of_ours_is_over_the_bar():
    script = runpy.run_path(str(ROOT / "tools" / "samplers_page.py"))
    rows = [
        {"size": size, "weights": weights, "batch": batch, "loop": loop, "ratio": ratio, "memory": memory,
         "images_per_second": 4.0}
        for size, weights, batch, loop, ratio, memory in (
            ("small", 300_000, 1, "sfumato DDIM", 1.04, 1.1),
            ("small", 300_000, 1, "another", 1.5, 1.3),
            ("small", 300_000, 32, "sfumato DDIM", 1.02, 1.2),
            ("small", 300_000, 32, "another", 1.2, 1.0),
            ("theirs", 4_000_000, 1, "its pipeline", 1.3, 2.0),
        )
    ]  # fmt: skip
    found = {"machine": "a machine", "device": "cpu", "calls": 20, "bar": 1.05, "rows": rows}
    said = script["_cost"](found)
    assert "| sfumato DDIM | 1.040 | 1.020 | 1.20 |" in said and "| another | 1.500 | 1.200 | 1.30 |" in said
    assert "| its pipeline | 4.00 | 1 | 4.00 | 1.300 | 2.00 |" in said and "No GPU was at hand" in said
    assert "The bar, 1.05, is met by ours in 2 of 2 cells." in said
    said = script["_cost"]({**found, "bar": 1.03, "device": "cuda"})
    assert "is met by ours in 1 of 2 cells; not in sfumato DDIM, 0.3M, 1 (1.040)." in said and "No GPU" not in said


def test_the_page_of_training_says_which_network_has_both_the_loss_and_the_time():
    script = runpy.run_path(str(ROOT / "tools" / "training_page.py"))

    def row(loss):
        return {"kept": {"0.001": loss, "0.003": loss + 1.0}, "rate": 0.001, "test": loss}

    networks = {"sfumato A": row(0.05), "sfumato B": row(0.06), "sfumato C": row(0.07), "diffusers": row(0.06)}
    step = {"sfumato A": 91.0, "sfumato B": 90.0, "sfumato C": 10.0, "diffusers": 100.0}
    found = {"loss": {"examples": 3200, "networks": networks}, "step": step}
    said = script["learning"](found)
    assert "at most 0.9 of its time: met by sfumato B. " in said and "rate of 0.001, 0.003" in said
    assert "| sfumato C | 0.0700 | 0.001 | 10 | 0.10 |" in said
    step["sfumato B"] = 95.0
    assert "missed by ours" in script["learning"](found)


def world_row(name, half, most, error=0.01, world="gaussian"):
    plain = {k: {"value": 1.0, "error": 0.1} for k in ("mean", "seen", "hidden", "sliced", "weights")}
    covers = {"half": {"value": half, "error": error}, "most": {"value": most, "error": error}}
    return {"world": world, "row": {"name": name, "draws": 4, "samples": 5, "nfe": 6, **plain, **covers}}


def test_verdicts_follow_from_coverage(script):
    worlds = {
        "floor": [world_row("exact samples", 0.2, 0.3, error=1.0)],
        "a": [world_row("good", 0.5, 0.9), world_row("good", 0.44, 0.96, world="mixture")],
        "b": [world_row("sure", 0.5, 0.9), world_row("sure", 0.5, 0.82, world="mixture")],
        "c": [world_row("shy", 0.58, 0.9)],
        "d": [world_row("unclear", 0.6, 0.9, error=0.03)],
    }
    said = script["_trust"](worlds, {})
    lines = [line for line in said.splitlines() if line.startswith("| ")][2:]
    assert lines[0].startswith("| exact samples |")
    verdicts = {line.split(" | ")[0][2:]: line.split(" | ")[-1].rstrip(" |") for line in lines}
    assert verdicts == {
        "exact samples": "honest", "good": "honest", "sure": "narrow", "shy": "wide", "unclear": "honest",
    }  # fmt: skip
    assert "| sure | mixture | 0.50 | 0.82 | narrow |" in said


def test_photographs_are_ordered_by_psnr_and_failures_are_named(script):
    def record(name, **figures):
        how = {"name": name, "side": 32, "pictures": 12, "calls": 20, "samples": 1}
        cells = {"ssim": 0.5, "gmsd": 0.1, "misfit": 12345.0, "nfe": 20.0, "seconds": 1.25, "megabytes": None}
        return {
            "task": "colorize",
            "row": {**how, **({"failed": "X diverged: more"} if not figures else {**cells, **figures})},
        }

    said = script["_photographs"](
        {"a": [record("low", psnr=20.0)], "b": [record("high", psnr=21.5)], "c": [record("bad")]}
    )
    rows = [line for line in said.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| method", "| ---", "| high", "| low", "| bad"]
    assert rows[2] == "| high | 21.50 | 0.500 | 0.100 | 1e+04 | 20 | 1.2 |  |"
    assert rows[4].startswith("| bad | failed: X diverged |")
    assert "The central 32 x 32 pixels of the 12 pictures" in said and "about 20 network calls" in said
