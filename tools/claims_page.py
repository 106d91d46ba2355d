"""Writes docs/claims.md from benchmarks/data/claims.json: what papers say of one choice against another (`make docs`).

A claim holds where the paper's best is ahead of each other by two standard errors of their difference, fails where
another is ahead of it by as much, and is undecided between; the page prints the numbers whatever they say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sfumato.metrics.intervals import left_out_error

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "claims.md", ROOT / "benchmarks" / "data" / "claims.json"
HEAD = """# Claims of papers, at small size

Written by `tools/claims_page.py` from `benchmarks/data`; do not edit.

What papers report of one choice against another, measured on {data}.

The same U-Net (widths 32 and 64) for all, one run of each. FD is the Frechet distance of a classifier's 64 features, of
{count:,} samples to {others:,} test images; as many real images come to {real:.2f}. Bits per dimension are bounds on 64
test images (16 with 4,000 steps). Less is better everywhere. A difference is decided from two standard errors on: of
the same items under both methods, leaving out a tenth at a time. What another training run of the nets would change is
not in it. A claim that does not hold here may hold at its paper's size: these nets are trained for minutes.

    {command}

| claim | source | measured | best of the paper ahead of the next by | holds here |
| --- | --- | --- | --- | --- |
"""


class Claim(NamedTuple):
    """Names of the numbers of one entry, and which of them the paper has best."""

    entry: str
    text: str
    source: str
    names: tuple[str, ...]
    best: int


def claims(table: dict[str, Any]) -> list[Claim]:
    """The claims whose numbers are in the table."""
    found = []
    for entry in table:
        if entry.startswith("FD of DDIM and DDPM"):
            steps = entry.split(" in ")[1]
            text = f"DDIM is better than ancestral sampling in {steps}"
            found.append(Claim(entry, text, "Song et al. 2021 (2010.02502) table 1", ("DDIM", "DDPM"), 0))
        elif entry.startswith("FD of linear and cosine"):
            text = f"the cosine schedule keeps more of its quality in {entry.split(' in ')[1]} than the linear one"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.2, figure 8"
            found.append(Claim(entry, text, source, ("linear", "cosine"), 1))
        elif entry.startswith("FD of eps weight and min-SNR"):
            text = "min-SNR weights learn faster: better after the same steps"
            found.append(
                Claim(entry, text, "Hang et al. 2023 (2303.09556) figure 1", ("weight 1 on eps", "min-SNR"), 1)
            )
        elif entry.startswith("bits/dim of DDPM"):
            text = "of the fixed variances, beta has the better likelihood"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.1"
            found.append(Claim(entry, text, source, ("beta", "btilde"), 0))
        elif entry.startswith("bits/dim of one net"):
            text = "a learned variance has a better likelihood than the fixed ones (4,000 steps)"
            source = "Nichol & Dhariwal 2021 (2102.09672) section 3.1, figure 10"
            found.append(Claim(entry, text, source, ("beta", "btilde", "learned"), 2))
        elif entry.startswith("FD of one net"):
            text = (
                f"a learned variance samples better than the fixed ones in {entry.split(' in ')[1].split(', var')[0]}"
            )
            source = "Nichol & Dhariwal 2021 (2102.09672) section 4, figure 8"
            found.append(Claim(entry, text, source, ("beta", "btilde", "learned"), 2))
    return found


def line(claim: Claim, found: dict[str, Any]) -> str:
    """One row: the claim, its source, the numbers, the narrowest lead of the paper's best, what that says."""
    values, without = torch.tensor(found["values"]), torch.tensor(found["without"])
    others = [k for k in range(len(values)) if k != claim.best]
    leads = torch.tensor([values[k] - values[claim.best] for k in others])
    errors = left_out_error(torch.stack([without[:, k] - without[:, claim.best] for k in others], 1))
    least = int((leads / errors).argmin())
    lead, error = float(leads[least]), float(errors[least])
    verdict = "yes" if lead > 2 * error else "no" if lead < -2 * error else "too close to say"
    said = ", ".join(f"{name} {value:.2f}" for name, value in zip(claim.names, values.tolist(), strict=True))
    unit = "bits/dim" if claim.entry.startswith("bits") else "FD"
    return f"| {claim.text} | {claim.source} | {unit}: {said} | {lead:.2f} +- {error:.2f} | {verdict} |"


def main() -> None:
    """Writes the page."""
    found = json.loads(DATA.read_text(encoding="utf-8"))
    table = found["table"]
    rows = [line(claim, table[claim.entry]) for claim in claims(table)]
    head = HEAD.format(
        data=found["data"], **{key: table[key] for key in ("real", "count", "others")}, command=found["command"]
    )
    PAGE.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
