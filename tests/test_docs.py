"""The pages run: every Python block of the documents and every script of the gallery, held to what it claims."""

import importlib.util
import json
import re
import runpy
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from sfumato import recipes

ROOT = Path(__file__).parent.parent


def run_blocks(page: str) -> dict[str, Any]:
    """Runs the Python blocks of a page one after the other, in one namespace, and returns it."""
    names: dict[str, Any] = {"__name__": "page"}
    text = (ROOT / page).read_text("utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks, f"{page} has no example"
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block.group(1), page, "exec", dont_inherit=True), names)
    return names


def shares(x: torch.Tensor) -> float:
    """Share of the left component of the README's world; the components are six standard deviations apart."""
    return float((x[:, 0] < 0).double().mean())


def test_readme(capsys: pytest.CaptureFixture[str]) -> None:
    page = run_blocks("README.md")
    world, posterior, x = page["world"], page["posterior"], page["x"]
    assert (ROOT / "README.md").read_text("utf-8").count("```python") == 5
    assert abs(shares(x) - 0.7) < 4 * (0.7 * 0.3 / 1000) ** 0.5
    assert torch.allclose(page["together"][3:4], page["alone"], atol=1e-4)
    assert len(capsys.readouterr().out.splitlines()) == 2 * 31  # the example prints each state of two runs of 30 steps
    std = posterior.cov.diagonal().sqrt()
    assert ((page["answers"].mean(0) - posterior.mean).abs() < 4 * std / 1000**0.5).all()
    assert ((page["answers"].std(0) / std - 1).abs() < 0.1).all()
    for t, limit in ((0.05, 0.1), (0.15, 0.25)):  # trained for a second, mostly at low levels
        xt = page["process"].marginal(page["Points"].points, t).sample(sf.Noise(0))
        expected, learned = (page[name](xt, t).mean for name in ("denoiser", "trained"))
        assert (learned - expected).norm() < limit * (expected - world.mean).norm()
    assert abs(shares(page["generated"]) - 0.7) < 0.15
    exact = world.marginal(page["process"], 1e-3).log_prob(x[:10])
    assert torch.allclose(page["log_p"], exact, atol=0.05)


@pytest.mark.parametrize("page", ["docs/index.md", "docs/formalism.md", "docs/latent.md", "docs/series.md"])
def test_pages(page: str) -> None:
    names = run_blocks(page)
    if page == "docs/index.md":
        assert names["x"].shape == (4, 3, 8, 8)
        assert abs(float(names["x"].std()) - 0.5) < 4 * 0.5 / (2 * 768) ** 0.5


def test_contributing() -> None:
    names = run_blocks("CONTRIBUTING.md")
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_contributing_shows_a_test_that_bites() -> None:
    """With the slope taken at the wrong time the worked example is of first order, and its test says so."""
    names = run_blocks("CONTRIBUTING.md")
    names["Midpoint"].step = lambda self, denoiser, xt, t, s, memory, noise: (
        xt + (s - t) * denoiser.process.velocity(xt, denoiser(xt, t).mean, t),
        memory,
    )
    with pytest.raises(AssertionError):
        names["test_midpoint_is_second_order"]()


def run_script(name: str, figure: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(sys, "argv", [name, str(figure)])
    names = runpy.run_path(str(ROOT / "gallery" / name))
    drawn = importlib.util.find_spec("matplotlib") is not None
    assert figure.exists() == drawn
    assert (str(figure) if drawn else "sfumato[plot]") in capsys.readouterr().out
    return names


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("MPLBACKEND", "agg")
    return lambda name: run_script(name, tmp_path / "figures" / "figure.png", monkeypatch, capsys)


def test_gallery_process(script: Any) -> None:
    names = script("01_process.py")
    weights = names["world"].weights
    # The flow through 40 steps errs by less than the sampling does: 4 standard errors of a share of 20,000.
    assert (names["shares"] - weights).abs().max() < 0.01 + 4 * 0.5 / 20_000**0.5
    assert len(names["paths"]) == 41


@pytest.mark.slow
def test_gallery_samplers(script: Any) -> None:
    errors = script("02_samplers.py")["errors"]
    for row in errors.values():
        assert all(b < a for a, b in pairwise(row))
    multistep = errors["DPM-Solver++ 2M", "log_snr"]
    assert multistep[-1] < 0.2 * errors["DPM-Solver++ 2M", "uniform"][-1]
    assert multistep[-1] < 0.1 * errors["DDIM", "log_snr"][-1]


def test_gallery_posterior(script: Any) -> None:
    names = script("03_posterior.py")
    assert names["mean_error"] < 5 / 4000**0.5
    assert names["std_error"] < 0.05
    assert abs(names["coverage"] - 0.9) < 0.01
    assert names["prior_spread"] < 0.5


@pytest.mark.slow
def test_gallery_likelihood(script: Any) -> None:
    names = script("04_likelihood.py")
    errors, estimates = names["errors"], names["estimates"]
    # What is left is the prior's: |mean of x_1| |x_1|, a few thousandths.
    assert errors[10] > errors[20] > errors[40] and errors[80] < 5 * names["gap"][1]
    assert estimates[16] < 0.5 * estimates[1]


def test_gallery_bridges(script: Any) -> None:
    names = script("05_bridges.py")
    errors, covariance = names["errors"], names["covariance"]
    assert errors["optimal", 1] < 1e-12 < 0.3 < errors["independent", 1]
    assert errors["independent", 64] < 0.1 * errors["independent", 4]
    # Two normals: the cheapest pairs are the increasing ones, sqrt(0.6 * 0.15); the bridge's are known too.
    assert covariance["optimal"] == pytest.approx(0.3)
    assert covariance["entropic"] == pytest.approx(0.5 * ((4 * 0.09 + 2.25**2) ** 0.5 - 2.25))
    assert names["coupled"] == pytest.approx(covariance["entropic"], abs=4 * (0.6 * 0.15 / 4000) ** 0.5)
    assert names["bent"]["optimal"] < 1e-12 < 0.1 < names["bent"]["independent"]
    assert float(names["restored"].var()) == pytest.approx(0.6, rel=0.1)


def test_gallery_editing(script: Any) -> None:
    names = script("06_editing.py")
    near, free, far = names["distances"]
    assert near < free < far  # the later the start, the less of the sketch is left
    assert max(names["held"].values()) < 0.02  # what a clipped picture may lose of its coarse content
    assert names["gain"] > 0.3


def test_gallery_tables(script: Any) -> None:
    names = script("07_tables.py")
    assert int(names["found"].known.sum()) == 420 - 47
    assert names["scores"]["sfumato"] < 0.7 * names["scores"]["a year ago"]
    assert names["text"].splitlines()[1] == "19580329,316.1"
    filled, kept = names["text"].splitlines(), names["table"].text().splitlines()
    assert all(new == old or old.endswith(",") for new, old in zip(filled, kept, strict=True))
    assert not any(line.endswith(",") for line in filled)


def test_gallery_categories(script: Any) -> None:
    names = script("08_categories.py")
    shares, bounds, entropy = names["shares"], names["bounds"], names["entropy"]
    assert shares[1] > shares[2] > shares[6] > shares[40] and shares[40] < 2 * names["exact"]
    assert bounds[1] > bounds[4] > bounds[16] > bounds[64]
    # What the bound misses falls as one over the steps, to the entropy; 4,000 rows scatter by a few hundredths.
    assert abs(bounds[64] - entropy) < 0.1 and bounds[1] - entropy > 1.0
    assert bool((names["back"] == names["data"][:500]).all())
    assert entropy - 0.2 < names["bits"] < entropy + 0.3


def test_gallery_is_tested() -> None:
    text = Path(__file__).read_text("utf-8")
    text += (ROOT / "tests" / "test_theory.py").read_text("utf-8")
    for path in (ROOT / "gallery").rglob("*.py"):
        assert f'"{path.relative_to(ROOT / "gallery")}"' in text
        assert path.read_text("utf-8").count("# %%") >= 3


def tool(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))


def test_pages_of_methods_are_fresh() -> None:
    names = tool("methods_table")
    assert not names["stale"](), "run make docs"
    keys = re.findall(
        r"^\| (?:\[`|`)([a-z0-9-]+)`.*\| (?:works|partly: [a-z, ]+|not yet) \|$", names["table"](), re.MULTILINE
    )
    assert {entry.key for entry in recipes.catalogue()} <= set(keys)
    for key, page in names["pages"]().items():
        for link in re.findall(r"\]\((\.\./[^)]+)\)", page):
            assert (ROOT / "docs" / "methods" / link).resolve().exists(), (key, link)


def test_captions_stand_below_pictures_that_differ() -> None:
    """A caption of a picture that is not there is never read, and one picture must not pass for that of two methods."""
    pictures = {path.stem: path.read_bytes() for path in (ROOT / "docs" / "pictures").glob("*.png")}
    captions = json.loads((ROOT / "docs" / "pictures" / "captions.json").read_text("utf-8"))
    assert captions.keys() <= pictures.keys() and len(set(pictures.values())) == len(pictures)
    pages = tool("methods_table")["pages"]()
    for key, text in captions.items():
        assert f"(../pictures/{key}.png)\n\n{text}\n" in pages[key]


def test_a_trained_method_without_a_figure_works_only_partly() -> None:
    row = tool("methods_table")["Row"]
    figure = {"data": "digits", "figure": "1.2 bits/dim", "command": "x"}
    assert row("k", "", "", "", "trained, sampler", "a.py", "b.py", {}).status == "partly: no figure"
    assert row("k", "", "", "", "trained, sampler", "a.py", "b.py", figure).status == "works"
    assert row("k", "", "", "", "sampler", "a.py", "", {}).status == "partly: no test"
    assert row("k", "", "", "", "supervised", "a.py", "", {}).status == "partly: no test, no figure"
    assert row("k", "", "", "", "zero-shot", "a.py", "b.py", {}).status == "works"
    assert row("k", "", "", "", "zero-shot", "", "", {}).status == "not yet"


def test_table_says_works_only_where_a_test_names_the_method() -> None:
    files = tool("methods_table")["_files"]
    named = {"tests/samplers/test_ddim.py": "", "tests/other.py": "DDIM() DDIM() 'ddim'"}
    assert files("ddim", "sfumato.samplers.ddim", named) == (
        "src/sfumato/samplers/ddim.py",
        "tests/samplers/test_ddim.py",
    )
    assert files("ddim", "sfumato.samplers.ddim", {"tests/other.py": "x = DDIM(eta=1.0)"})[1] == "tests/other.py"
    assert files("edm", "sfumato.recipes.edm", {"tests/other.py": 'load("edm")'})[1] == "tests/other.py"
    assert files("ddim", "sfumato.samplers.ddim", {"tests/other.py": "MyDDIM() ddim 'ddims'"})[1] == ""
    assert files("ddim", None, named) == ("", "")


@pytest.mark.slow
def test_picture_is_drawn() -> None:
    names = tool("teaser")
    forward, reverse = names["rows"]()
    data, generated = forward[1][0], reverse[1][-1 - (len(names["SHOWN"]) - 1)]
    assert float((data.std(0) - generated.std(0)).abs().max()) < 0.05
    assert names["draw"]().size[0] > 600
