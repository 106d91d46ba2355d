"""Puts what benchmarks/evaluate.py found on docs/evaluate.md, with the table of layouts, and draws its picture.

    python benchmarks/evaluate.py --root ROOT
    python tools/evaluate_page.py

No number by hand. `--check` writes nothing and fails where the page is stale.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from sfumato.data.layouts import LAYOUTS

ROOT = Path(__file__).parent.parent
PAGE, PICTURE = ROOT / "docs" / "evaluate.md", ROOT / "docs" / "pictures" / "evaluate.png"


def shown(commands: dict[str, str], chosen: list[str]) -> str:
    """Commands and what they print."""
    body = "\n\n".join(f"$ {command}\n{commands[command]}" for command in chosen)
    return f"```console\n{body}\n```"


def layouts() -> str:
    """The names of the sets, by their splits."""
    by: dict[str, list[str]] = {}
    for name, splits in LAYOUTS.items():
        by.setdefault(", ".join(splits), []).append(f"`{name}`")
    rows = [f"| {splits} | {', '.join(names)} |" for splits, names in by.items()]
    return "\n".join(["| splits | sets |", "| --- | --- |", *rows])


def filled(text: str, found: dict[str, Any]) -> str:
    """The page with its blocks."""
    commands = found["commands"]
    groups: dict[str, list[str]] = {"sets": [], "pairs": [], "bits": []}
    for command in commands:
        kind = "pairs" if "--paired" in command else "bits" if "--bits" in command else "sets"
        groups[kind].append(command)
    blocks = {kind: shown(commands, chosen) for kind, chosen in groups.items()} | {"layouts": layouts()}
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda m, block=block: f"{m[1]}\n{block}\n\n{m[2]}", text, flags=re.DOTALL)
    return text


def draw(bias: dict[str, list[dict[str, float]]]) -> None:
    """Distances of real from real, by n."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), constrained_layout=True)
    for name, color in (("classifier", "tab:blue"), ("pixels", "tab:orange")):
        n = [row["n"] for row in bias[name]]
        first = bias[name][-1]["fd"]
        label = f"64 features ({first:.2g} at n = {n[-1]})" if name == "classifier" else f"pixels ({first:.2g})"
        axes[0].loglog(n, [row["fd"] for row in bias[name]], "o-", color=color, label=label)
    n = [row["n"] for row in bias["pixels"]]
    axes[1].semilogx(n, [row["kd"] for row in bias["pixels"]], "o-", color="tab:orange")
    axes[0].set(title="Frechet distance: above 0, falling", xlabel="pictures in each set, n")
    axes[1].set(title="kernel distance of pixels: around 0", xlabel="pictures in each set, n")
    axes[1].axhline(0.0, color="0.5", linewidth=0.8)
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Writes the page and its picture, or checks the page."""
    found = json.loads((ROOT / "benchmarks" / "data" / "evaluate.json").read_text("utf-8"))
    text = PAGE.read_text("utf-8")
    new = filled(text, found)
    if "--check" in sys.argv:
        raise SystemExit(int(new != text))
    PAGE.write_text(new, "utf-8")
    draw(found["bias"])


if __name__ == "__main__":
    main()
