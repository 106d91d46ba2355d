"""Every solver at one budget: about the same number of network calls for each sample.

Papers spend between 20 and 2400 calls; here all get `calls`, and what a field must be for that is set from the paper's
rule where there is one (a strength that adds up over the steps grows as the steps get fewer), by trial on photographs
that are not measured where there is none. Calls of a particle count once for each; backward passes do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfumato.operators import Measurement
from sfumato.solvers import (
    CCDF,
    DAPS,
    DDNM,
    DDRM,
    DPS,
    FPSSMC,
    GDP,
    ILVR,
    MCG,
    MMPS,
    SITCOM,
    SNIPS,
    TDS,
    TMPD,
    CoPaint,
    DiffPIR,
    DPnP,
    PiGDM,
    PnPDM,
    REDDiff,
    RePaint,
    Solver,
)
from sfumato.zoo import defaults

# Strengths over 1000 steps, from trials on four photographs that are not measured; the papers' are 0.3, 2000 and 1.
DPS_ZETA, GDP_SCALE, MCG_ZETA = 0.15, 5000.0, 0.3
ALL = ("denoise", "inpaint", "enlarge", "deblur", "colorize")


@dataclass(frozen=True)
class Budgeted:
    """A solver at a budget.

    Attributes:
        key, name: of the method, and of this setting of it.
        make: the solver for a measurement in model space.
        kinds: of tasks that the method claims.
        table: whether it runs on the table of 1000 steps that its strengths were made for (`Denoiser.with_process`: the
            same network), rather than on the model's own process.
        noisy: whether it needs noise in the measurement.
    """

    key: str
    name: str
    make: Callable[[Measurement], Solver]
    kinds: tuple[str, ...] = ALL
    table: bool = False
    noisy: bool = False


def budgeted(calls: int) -> tuple[Budgeted, ...]:
    """The solvers at `calls` network calls for each sample. `SDEdit` edits, and has no row."""
    return (
        Budgeted("direct", "the denoiser itself, one call", lambda m: defaults.Direct(1), ("denoise",)),
        *_on_levels(calls),
        *_on_table(calls),
        *(
            _warm(key, name, kind, calls)
            for key, name in (("ddnm", "DDNM"), ("diffpir", "DiffPIR"))
            for kind in defaults.LEVELS
        ),
    )


def _warm(key: str, name: str, kind: str, n: int) -> Budgeted:
    """What `restore` can choose for a kind of damage."""

    def make(m: Measurement) -> Solver:
        return defaults.warm(kind, n, defaults.WAYS[key], factor=defaults.damage(m)[1])

    return Budgeted(key, f"{name}, warm start", make, (kind,))


def _on_levels(n: int) -> tuple[Budgeted, ...]:
    """Methods that think in noise over signal."""
    few = max(n // 5, 2)

    def rounds(first: float, rho: float) -> dict[str, Any]:
        return {"steps": few, "prior_steps": 5, "first": first, "rho": rho, "decay": (rho / first) ** (1 / (few - 1))}

    return (
        Budgeted("daps", "DAPS", lambda m: DAPS(few, high=10.0)),
        Budgeted("dpnp", "DPnP", lambda m: DPnP(**rounds(3.0, 0.1))),
        Budgeted("mmps", "MMPS, one iteration", lambda m: MMPS(n, iterations=1)),
        Budgeted("pnp-dm", "PnP-DM", lambda m: PnPDM(**rounds(10.0, 0.3))),
        Budgeted("snips", "SNIPS", lambda m: SNIPS(n, moves=1, high=3.0, size=0.8)),
        Budgeted("tds", "TDS, two particles", lambda m: TDS(max(n // 2, 2), particles=2), noisy=True),
        Budgeted("tmpd", "TMPD", lambda m: TMPD(n)),
    )


def size(m: Measurement) -> float:
    """x_0 over the 3 x 256 x 256 that GDP's scales were made for: its mean is over y lifted to the size of x_0."""
    return math.prod(m.event) / (3 * 256**2)


def _on_table(n: int) -> tuple[Budgeted, ...]:
    """Methods that count the steps of a table."""
    less = 1000 / n
    return (
        Budgeted("ccdf", "CCDF", lambda m: CCDF(0.2, RePaint.projection(5 * n)), ("inpaint", "enlarge"), True),
        Budgeted("copaint", "CoPaint", lambda m: CoPaint(max(n // 4, 2), lr=0.3, lr_decay=1.0), ("inpaint",), True),
        Budgeted("ddnm", "DDNM", lambda m: DDNM(n), table=True),
        Budgeted("ddrm", "DDRM", lambda m: DDRM(n), table=True),
        Budgeted("diffpir", "DiffPIR", lambda m: DiffPIR(n), table=True),
        Budgeted("dps", "DPS", lambda m: DPS(n, zeta=DPS_ZETA * less), table=True),
        Budgeted("fps-smc", "FPS-SMC, one particle", lambda m: FPSSMC(n, particles=1), table=True),
        Budgeted("gdp", "GDP", lambda m: GDP(n, scale=GDP_SCALE * less * size(m)), table=True),
        Budgeted("ilvr", "ILVR", lambda m: ILVR(n), ("enlarge",), True),
        Budgeted("mcg", "MCG", lambda m: MCG(n, zeta=MCG_ZETA * less), ("inpaint", "colorize"), True),
        Budgeted("pigdm", "PiGDM", lambda m: PiGDM(n), table=True),
        Budgeted("red-diff", "RED-diff", lambda m: REDDiff(n), table=True),
        Budgeted("repaint", "RePaint", lambda m: RePaint(max(n // 3, 2), jump=2, repeats=4), ("inpaint",), True),
        Budgeted("sitcom", "SITCOM", lambda m: SITCOM(max(n // 5, 2), moves=4, lr=0.1), table=True),
    )
