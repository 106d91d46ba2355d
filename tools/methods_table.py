"""Writes docs/methods.md: every method of the catalogue, where it is and which test holds it to its paper.

Nothing in the table is typed by hand: keys and papers come from the catalogue, files from the recipes, tests from the
text of the test files. `make docs` writes it; a test fails where it is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

from sfumato import recipes

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods.md"
# Tests and folders of tests that use methods by name and test something else: costs, pages, look-ups, the command line.
ABOUT_THE_FRAME = {"test_project", "test_docs", "test_cost", "test_recipes", "cli", "zoo"}
HEAD = """# Methods

Written by `tools/methods_table.py` (`make docs`); do not edit.

*works*: a file binds `Recipe` for the key, and a test file names the method. *partly*: the file is there, and no test
names it. *not yet*: neither. {counts}
"""


class Row(NamedTuple):
    """One line of the table."""

    key: str
    title: str
    venue: str
    reference: str
    kind: str
    recipe: str
    test: str

    @property
    def status(self) -> str:
        """works, partly or not yet."""
        return ("works" if self.test else "partly") if self.recipe else "not yet"

    def line(self) -> str:
        """The row in Markdown."""
        cells = (f"`{self.key}`", self.title, self.venue, _link(self.reference), self.kind)
        files = (f"[{Path(p).name}](../{p})" if p else "" for p in (self.recipe, self.test))
        return f"| {' | '.join((*cells, *files, self.status))} |"


def table() -> str:
    """The text of the page."""
    found = recipes.names()
    tests = _tests()
    rows = []
    for entry in recipes.catalogue():
        recipe, test = _files(entry.key, found.get(entry.key), tests)
        rows.append(Row(entry.key, entry.title, entry.venue, entry.reference, entry.kind, recipe, test))
    known = {row.key for row in rows}
    others = []
    for key in sorted(set(found) - known):
        recipe, test = _files(key, found[key], tests)
        others.append(Row(key, recipes.describe(key).title, "", "", "", recipe, test))
    counts = {status: sum(row.status == status for row in rows) for status in ("works", "partly", "not yet")}
    text = HEAD.format(counts=f"Of {len(rows)}: " + ", ".join(f"{n} {status}" for status, n in counts.items()) + ".")
    text += "\n| key | paper | venue | reference | kind | recipe | test | status |\n" + "| --- " * 8 + "|\n"
    text += "".join(row.line() + "\n" for row in rows)
    if others:
        text += "\n## Beyond the catalogue\n\n| key | method | recipe | test | status |\n" + "| --- " * 5 + "|\n"
        for row in others:
            cells = row.line().split(" | ")
            text += " | ".join((*cells[:2], *cells[5:])) + "\n"
    return text


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


if __name__ == "__main__":
    page = table()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != page and "docs/methods.md is stale: run make docs")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, "utf-8")
    print(PAGE.relative_to(ROOT))
