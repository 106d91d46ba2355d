"""Writes docs/claims.md from benchmarks/data/claims.json: what papers say of one choice against another (`make docs`).

A claim holds where the numbers are ordered as the paper has them; the page prints both, held or not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "claims.md", ROOT / "benchmarks" / "data" / "claims.json"
HEAD = """# Claims of papers, at small size

Written by `tools/claims_page.py` from `benchmarks/data`; do not edit.

What papers report of one choice against another, measured on {data}.

The same U-Net (widths 32 and 64) for all, one run of each. FD is the Frechet distance of a classifier's 64 features, of
500 samples to 9,500 test images; 500 real images come to {real:.2f}. Bits per dimension are bounds on 64 test images
(16 with 4,000 steps). Less is better everywhere. A claim that does not hold here may hold at its paper's size: these
nets are trained for minutes.

    {command}

| claim | source | measured | holds here |
| --- | --- | --- | --- |
"""


class Claim(NamedTuple):
    """Names of the numbers of one entry, the best first as the paper has it."""

    entry: str
    text: str
    source: str
    names: tuple[str, ...]
    order: tuple[int, ...]
    digits: int = 2


def claims(table: dict[str, Any]) -> list[Claim]:
    """The claims whose numbers are in the table."""
    found = []
    for entry in table:
        if entry.startswith("FD of DDIM and DDPM"):
            steps = entry.split(" in ")[1]
            text = f"DDIM is better than ancestral sampling in {steps}"
            found.append(Claim(entry, text, "Song et al. 2021 (2010.02502) table 1", ("DDIM", "DDPM"), (0, 1)))
        elif entry.startswith("FD of linear and cosine"):
            text = f"the cosine schedule keeps more of its quality in {entry.split(' in ')[1]} than the linear one"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.2, figure 8"
            found.append(Claim(entry, text, source, ("linear", "cosine"), (1, 0)))
        elif entry.startswith("FD of eps weight and min-SNR"):
            text = "min-SNR weights learn faster: better after the same steps"
            found.append(
                Claim(entry, text, "Hang et al. 2023 (2303.09556) figure 1", ("weight 1 on eps", "min-SNR"), (1, 0))
            )
        elif entry.startswith("bits/dim of DDPM"):
            text = "of the fixed variances, beta has the better likelihood"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.1"
            found.append(Claim(entry, text, source, ("beta", "btilde"), (0, 1)))
        elif entry.startswith("bits/dim of one net"):
            text = "a learned variance has a better likelihood than the fixed ones (4,000 steps)"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.1, figure 10"
            found.append(Claim(entry, text, source, ("beta", "btilde", "learned"), (2, 0)))
        elif entry.startswith("FD of one net"):
            text = (
                f"a learned variance samples better than the fixed ones in {entry.split(' in ')[1].split(', var')[0]}"
            )
            source = "Nichol & Dhariwal 2021 (2102.09672) section 4, figure 8"
            found.append(Claim(entry, text, source, ("beta", "btilde", "learned"), (2, 0)))
    return found


def line(claim: Claim, values: list[float]) -> str:
    """One row: the claim, its source, the numbers, yes or no."""
    best = values[claim.order[0]]
    holds = all(best < value for k, value in enumerate(values) if k != claim.order[0])
    said = ", ".join(f"{name} {value:.{claim.digits}f}" for name, value in zip(claim.names, values, strict=True))
    unit = "bits/dim" if claim.entry.startswith("bits") else "FD"
    return f"| {claim.text} | {claim.source} | {unit}: {said} | {'yes' if holds else 'no'} |"


def main() -> None:
    """Writes the page."""
    found = json.loads(DATA.read_text(encoding="utf-8"))
    table = found["table"]
    rows = [line(claim, table[claim.entry]) for claim in claims(table)]
    head = HEAD.format(data=found["data"], real=table["real"], command=found["command"])
    PAGE.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
