"""Writes docs/methods.md, every method of the catalogue, and docs/methods/KEY.md, a page for each that is here.

Nothing in them is typed by hand: keys and papers come from the catalogue, files and what they say from the recipes,
tests from the text of the test files, figures from benchmarks/data (figures/KEY.json and solvers_world.json), pictures
from docs/pictures/KEY.png and captions.json beside them. `make docs` writes them; a test fails where they are stale.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from sfumato import recipes
from sfumato.cli.show import example_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods.md"
PAGES = ROOT / "docs" / "methods"
# Kinds of the catalogue whose methods are networks that learn from data
TRAINED = r"\b(trained|supervised|series|audio|speech|music|ink|3d|video|editing|text-to-image)\b"
FIGURES = ROOT / "benchmarks" / "data" / "figures"
CAPTIONS = ROOT / "docs" / "pictures" / "captions.json"  # of the pictures that do not speak for themselves, by hand
WORLDS = ROOT / "benchmarks" / "data" / "solvers_world.json"
# Tests and folders of tests that use methods by name and test something else: costs, pages, look-ups, the command line.
ABOUT_THE_FRAME = {"test_project", "test_docs", "test_cost", "test_recipes", "cli", "zoo"}
HEAD = """# Methods

Written by `tools/methods_table.py` (`make docs`); do not edit.

*works*: a file binds `Recipe` for the key, a test file names the method and, where the method is trained, a figure on
real data or on a world with a known answer was measured. *partly*: one of these is missing, and the row says which.
*not yet*: no file. {counts}
"""
COLUMNS = ("key", "paper", "venue", "reference", "kind", "recipe", "test", "measured", "status")


class Row(NamedTuple):
    """One line of the table."""

    key: str
    title: str
    venue: str
    reference: str
    kind: str
    recipe: str
    test: str
    figure: dict[str, Any]

    @property
    def status(self) -> str:
        """works, partly (with what is missing) or not yet."""
        if not self.recipe:
            return "not yet"
        trained = re.search(TRAINED, self.kind)
        missing = (["no test"] if not self.test else []) + (["no figure"] if trained and not self.figure else [])
        return f"partly: {', '.join(missing)}" if missing else "works"

    def line(self) -> str:
        """The row in Markdown."""
        key = f"[`{self.key}`](methods/{self.key}.md)" if self.recipe else f"`{self.key}`"
        cells = (key, self.title, self.venue, _link(self.reference), self.kind)
        files = (f"[{Path(p).name}](../{p})" if p else "" for p in (self.recipe, self.test))
        figure = f"{self.figure['figure']} ({self.figure['data']})" if self.figure else ""
        return f"| {' | '.join((*cells, *files, figure, self.status))} |"


@functools.cache
def rows() -> tuple[list[Row], list[Row]]:
    """The methods of the catalogue, and those beyond it."""
    found, tests = recipes.names(), _tests()
    entries = {entry.key: entry for entry in recipes.catalogue()}

    def row(key: str) -> Row:
        entry, files = entries.get(key), _files(key, found.get(key), tests)
        if entry is None:
            return Row(key, recipes.describe(key).title, "", "", "", *files, _figure(key))
        return Row(key, entry.title, entry.venue, entry.reference, entry.kind, *files, _figure(key))

    return [row(key) for key in entries], [row(key) for key in sorted(set(found) - set(entries))]


def table() -> str:
    """The text of docs/methods.md."""
    inside, beyond = rows()
    states = [row.status.partition(":")[0] for row in inside]
    counts = ", ".join(f"{states.count(status)} {status}" for status in ("works", "partly", "not yet"))
    text = HEAD.format(counts=f"Of {len(inside)}: {counts}.")
    text += f"\n| {' | '.join(COLUMNS)} |\n" + "| --- " * len(COLUMNS) + "|\n"
    text += "".join(row.line() + "\n" for row in inside)
    if beyond:
        text += (
            "\n## Beyond the catalogue\n\n| key | method | recipe | test | measured | status |\n" + "| --- " * 6 + "|\n"
        )
        for row in beyond:
            cells = row.line().split(" | ")
            text += " | ".join((*cells[:2], *cells[5:])) + "\n"
    return text


def pages() -> dict[str, str]:
    """The text of docs/methods/KEY.md for every method that is here, by its key."""
    inside, beyond = rows()
    worlds = json.loads(WORLDS.read_text("utf-8")) if WORLDS.exists() else {}
    return {row.key: _page(row, worlds.get(row.key, [])) for row in (*inside, *beyond) if row.recipe}


def _page(row: Row, worlds: list[dict[str, Any]]) -> str:
    """What the method is, its paper, its fields, a command, what was measured, which test holds it."""
    said = recipes.describe(row.key)
    entry = next((entry for entry in recipes.catalogue() if entry.key == row.key), None)
    lines = [f"# {said.title}", "", "Written by `tools/methods_table.py` (`make docs`); do not edit.", ""]
    if entry:
        code = f" Code: <https://github.com/{entry.code}>." if entry.code else ""
        lines += [f"{entry.title}. {entry.authors.rstrip('.')}. {entry.venue}. {_link(entry.reference)}.{code}", ""]
    lines += [f"Status: {row.status}. `{said.module}`", ""]
    if said.text:
        lines += ["```text", said.text, "```", ""]
    if said.fields:
        lines += ["| field | type | default | |", "| --- | --- | --- | --- |"]
        for field in said.fields:
            cells = (
                f"`{field.name}`",
                f"`{field.annotation}`",
                f"`{field.default}`" if field.default else "",
                field.comment,
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += ["## Run it", "", "```bash", example_of(said), "```", ""]
    if row.figure:
        minutes = f" ({row.figure['minutes']} minutes on one core)" if "minutes" in row.figure else ""
        lines += ["## Measured", "", f"{row.figure['data']}: {row.figure['figure']}.", ""]
        lines += [f"Reproduce{minutes}:", "", "```bash", row.figure["command"], "```", ""]
    if worlds:
        lines += ["## On worlds whose posterior is known", "", f"| {' | '.join(MEASURES.values())} |"]
        lines += ["| --- " * len(MEASURES) + "|"]
        lines += [f"| {' | '.join(_cell(name, world) for name in MEASURES)} |" for world in worlds]
        lines += [
            "",
            "Best is 0 for the mean, the distance and the weights, 1 for the two ratios of variances; docs/solvers.md",
        ]
        lines += ["has every solver side by side.", "", "```bash"]
        lines += [f"sfumato bench solvers --world all --solver {row.key}", "```", ""]
    if (ROOT / "docs" / "pictures" / f"{row.key}.png").exists():
        lines += [f"![{row.key}](../pictures/{row.key}.png)", ""]
        caption = json.loads(CAPTIONS.read_text("utf-8")).get(row.key)
        lines += [caption, ""] if caption else []
    lines += ["## Held to its paper by", "", *(f"- [{Path(p).name}](../../{p})" for p in (row.test,) if p), ""]
    return "\n".join(lines)


MEASURES = {
    "world": "world",
    "name": "solver",
    "nfe": "calls",
    "mean": "error of the mean",
    "seen": "variance, seen",
    "hidden": "variance, hidden",
    "sliced": "sliced W2",
    "weights": "mode weights",
}


def _cell(name: str, world: dict[str, Any]) -> str:
    """One measure of a row: a name, a count, or a figure with its standard error."""
    value = world["world"] if name == "world" else world["row"].get(name, "")
    return f"{value['value']:.2f} ± {value['error']:.2f}" if isinstance(value, dict) else str(value)


def _figure(key: str) -> dict[str, Any]:
    """What was measured of a method: data, figure, command; {} where nothing was."""
    path = FIGURES / f"{key}.json"
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def _files(key: str, module: str | None, tests: dict[str, str]) -> tuple[str, str]:
    """(recipe file, the test file that names the method), relative to the repository, '' where there is none."""
    if module is None:
        return "", ""
    path = ROOT / "src" / Path(*module.split(".")).with_suffix(".py")
    stem = path.stem
    marks = [
        rf"[\"']{re.escape(key)}[\"']",
        rf"\b{path.parent.name}\.{stem}\b",
        rf"\b{path.parent.name} import {stem}\b",
    ]
    name = _bound(path)
    if name:
        marks.append(rf"\b{name}\(")
    counts = {
        file: 1000 * (Path(file).stem == f"test_{stem}") + sum(len(re.findall(mark, text)) for mark in marks)
        for file, text in tests.items()
    }
    best = max(counts, key=lambda file: (counts[file], file), default="")
    return str(path.relative_to(ROOT)), best if best and counts[best] else ""


def _bound(path: Path) -> str:
    """The class that `Recipe = ...` stands for, or '' where the file defines `class Recipe`."""
    for node in ast.parse(path.read_text("utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) else []
        if any(isinstance(target, ast.Name) and target.id == "Recipe" for target in targets):
            return node.value.id
    return ""


def _tests() -> dict[str, str]:
    """Text of every test file that can hold a method to its paper, by its path."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    kept = [p for p in paths if p.stem not in ABOUT_THE_FRAME and p.parent.name not in ABOUT_THE_FRAME]
    return {str(p.relative_to(ROOT)): p.read_text("utf-8") for p in kept}


def _link(reference: str) -> str:
    """The reference, as a link where it is an arXiv identifier."""
    number = re.search(r"\b\d{4}\.\d{4,5}\b", reference)
    return f"[{number.group()}](https://arxiv.org/abs/{number.group()})" if number else reference


def stale() -> list[str]:
    """The pages on disk that are not what would be written, with those that are too many."""
    wanted = {PAGE: table(), **{PAGES / f"{key}.md": text for key, text in pages().items()}}
    there = {PAGE, *PAGES.glob("*.md")}
    wrong = [p for p, text in wanted.items() if not p.exists() or p.read_text("utf-8") != text]
    return sorted(str(p.relative_to(ROOT)) for p in (*wrong, *(there - set(wanted))))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale())}: run make docs" if stale() else 0)
    PAGES.mkdir(parents=True, exist_ok=True)
    for page in PAGES.glob("*.md"):
        page.unlink()
    PAGE.write_text(table(), "utf-8")
    for name, text in pages().items():
        (PAGES / f"{name}.md").write_text(text, "utf-8")
    print(PAGE.relative_to(ROOT), PAGES.relative_to(ROOT))
