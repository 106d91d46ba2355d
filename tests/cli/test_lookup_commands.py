"""list, show, cite, doctor, help: what is printed, in what form, and without torch."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sfumato import recipes
from sfumato.cli.cite import bibtex
from sfumato.cli.doctor import CORE, EXTRAS
from sfumato.cli.main import app

run = CliRunner().invoke


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("words", [["--help"], ["list"], ["show", "ddim"], ["cite", "ddpm"], ["restore", "--help"]])
def test_nothing_that_only_looks_up_imports_torch(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['sfumato', *{words!r}]\n"
        "from sfumato.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_names_every_command_that_is_there() -> None:
    text = run(app, ["--help"]).stdout
    for name in ("restore", "sample", "run", "list", "show", "cite", "doctor"):
        assert f"\n  {name} " in text
    assert "130" in text and "interrupted" in text


def test_version() -> None:
    from sfumato import __version__

    assert run(app, ["--version"]).stdout == f"{__version__}\n"


def test_list_has_the_catalogue_and_the_parts_of_this_library() -> None:
    rows = lines(run(app, ["list", "--json"]).stdout)
    items = {row["key"]: row for row in rows if row["event"] == "item"}
    assert {entry.key for entry in recipes.catalogue()} | set(recipes.names()) == set(items)
    assert rows[-1] == {"event": "done", "count": len(items)}
    for key, row in items.items():
        assert row["status"] == ("works" if key in recipes.names() else "planned")
    assert items["ddim"]["title"] == "Denoising diffusion implicit models"
    assert items["heun"]["kind"] == "sampler" and "churn" in items["heun"]["title"]


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [("--task", "INPAINT", "tasks"), ("--kind", "zero-shot", "kind"), ("--venue", "2022", "venue")],
)
def test_list_filters_by_text(option: str, value: str, field: str) -> None:
    found = [row["key"] for row in lines(run(app, ["list", "--json", option, value]).stdout)[:-1]]
    want = [e.key for e in recipes.catalogue() if value.lower() in getattr(e, field).lower()]
    assert found == want and 0 < len(want) < 110


def test_list_filters_by_modality_with_those_for_any_and_by_status() -> None:
    rows = lines(run(app, ["list", "--json", "--modality", "speech"]).stdout)[:-1]
    assert {row["modality"] for row in rows} == {"speech", "any"}
    works = {row["key"] for row in lines(run(app, ["list", "--json", "--status", "works"]).stdout)[:-1]}
    assert works == set(recipes.names())
    planned = {row["key"] for row in lines(run(app, ["list", "--json", "--status", "planned"]).stdout)[:-1]}
    assert planned and not planned & works
    assert run(app, ["list", "--status", "wroks"]).exit_code == 2


def test_list_for_people_has_a_line_each_and_more_on_request() -> None:
    result = run(app, ["list", "--task", "inpainting"])
    assert any("repaint" in line and "arXiv 2201.09865" in line for line in result.stdout.splitlines())
    assert "Lugmayr" not in result.stdout
    assert "`sfumato show KEY` explains one" in result.stderr
    assert "`sfumato show KEY`" not in run(app, ["list", "-q"]).stderr
    assert "Andreas Lugmayr" in run(app, ["list", "--task", "inpainting", "-v"]).stdout


def test_show_says_what_a_method_is() -> None:
    text = run(app, ["show", "ddim"]).stdout
    for part in ("x_s = alpha_s D", "eta: float = 0.0", "arXiv 2010.02502", "sfumato sample", "--sampler ddim"):
        assert part in text, part
    rows = lines(run(app, ["show", "ddim", "--json"]).stdout)
    assert rows[1]["fields"][0]["name"] == "eta" and rows[0]["module"] == "sfumato.samplers.ddim"
    assert "churn_noise: float = 1.0  # S_noise, factor" in run(app, ["show", "heun"]).stdout
    assert "sfumato sample fashion --cond 9 --scale 2" in run(app, ["show", "cfg"]).stdout


def test_show_of_a_planned_method_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "names", dict)
    text = run(app, ["show", "ddim"]).stdout
    assert "Denoising diffusion implicit models" in text and "does not work here yet" in text


@pytest.mark.parametrize("command", ["show", "cite"])
def test_unknown_keys_are_usage_errors_that_name_the_nearest(command: str) -> None:
    result = run(app, [command, "ddimm"])
    assert result.exit_code == 2 and "Nearest: ddim" in result.stderr and result.stdout == ""


def test_cite_prints_bibtex() -> None:
    text = run(app, ["cite", "ddim", "ddrm"]).stdout
    assert text.startswith("@inproceedings{ddim,\n  title = {{Denoising diffusion implicit models}},\n")
    assert "author = {Jiaming Song and Chenlin Meng and Stefano Ermon}" in text
    assert "booktitle = {ICLR},\n  year = {2021},\n  eprint = {2010.02502},\n  archivePrefix = {arXiv}\n}" in text
    assert "author = {Bahjat Kawar and others}" in text
    assert lines(run(app, ["cite", "ddim", "--json"]).stdout)[0]["bibtex"] in text
    assert run(app, ["cite", "heun"]).exit_code == 2


def test_every_paper_has_a_bibtex_entry_with_balanced_braces() -> None:
    kinds = {}
    for entry in recipes.catalogue():
        text = bibtex(entry)
        assert (text.count("{") == text.count("}") and "year = {" in text) or entry.key in ("annotated", "theory"), text
        kinds[entry.key] = text[1 : text.index("{")]
    assert kinds["dsm"] == "article" and "note = {Vincent, Neural Computation 2011}" in bibtex(_entry("dsm"))
    assert kinds["neural-sde"] == "article" and kinds["ddpm"] == "inproceedings"


def _entry(key: str) -> recipes.Entry:
    return next(entry for entry in recipes.catalogue() if entry.key == key)


def test_doctor_reports_the_installation() -> None:
    import torch

    rows = {row["name"]: row["value"] for row in lines(run(app, ["doctor", "--json"]).stdout) if row["event"] == "item"}
    assert f"torch {torch.__version__}" in rows["versions"] and len(rows["versions"]) == 2 + len(CORE)
    assert "cpu" in rows["devices"] and f"{torch.get_num_threads()} threads" in rows["system"]
    missing = {word.split(" ")[0] for word in rows["missing"]}
    assert missing | set(rows["extras"]) == set(EXTRAS) and not missing & set(rows["extras"])
    assert "models" in run(app, ["doctor"]).stdout


def test_extras_of_doctor_are_those_of_the_package() -> None:
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(project["optional-dependencies"]) - {"all", "dev"} == set(EXTRAS)
    assert {word.split(">")[0] for word in project["dependencies"]} == set(CORE)
