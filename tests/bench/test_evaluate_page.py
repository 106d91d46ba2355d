"""The page on evaluating holds what was measured, and the sets that there are."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from sfumato.data.layouts import LAYOUTS

ROOT = Path(__file__).parent.parent.parent


def test_the_page_is_fresh() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "evaluate_page.py"))
    found = json.loads((ROOT / "benchmarks" / "data" / "evaluate.json").read_text("utf-8"))
    text = (ROOT / "docs" / "evaluate.md").read_text("utf-8")
    assert page["filled"](text, found) == text, "docs/evaluate.md is stale: run tools/evaluate_page.py"
    assert all(f"`{name}`" in text for name in LAYOUTS)
    assert all(command in text and output in text for command, output in found["commands"].items())
