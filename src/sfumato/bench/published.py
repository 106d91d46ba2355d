"""Every solver at the settings of its own paper: as many network calls as it asks for.

Defaults of the solvers are their papers', so little stands here: what a paper sets by the task (the strength of DPS,
of GDP), what its public code takes for a smaller run, and what small pictures change. Calls differ by two orders of
magnitude: read the column.
"""

from __future__ import annotations

from sfumato.bench.budget import Budgeted, size
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

GDP_SCALES = {"inpaint": 4000.0, "enlarge": 2000.0, "deblur": 6000.0, "colorize": 6000.0, "denoise": 2000.0}


def published() -> tuple[Budgeted, ...]:
    """The solvers at their papers' settings, on the tasks that they claim. Particle methods have no row but for FPS,
    the one particle of FPS-SMC: those of 1000 steps and sets of particles are held against exact posteriors."""
    return (
        Budgeted("ccdf", "CCDF, t0 0.2, 200 steps", lambda m: CCDF(), ("inpaint", "enlarge"), True),
        Budgeted("copaint", "CoPaint, 250 steps of 2 moves", lambda m: CoPaint(), ("inpaint",), True),
        Budgeted("daps", "DAPS, 200 levels of 5 steps", lambda m: DAPS()),
        Budgeted("ddnm", "DDNM, 100 steps", lambda m: DDNM(), table=True),
        Budgeted("ddrm", "DDRM, 20 steps", lambda m: DDRM(), table=True),
        Budgeted("diffpir", "DiffPIR", _diffpir, table=True),
        Budgeted("dpnp", "DPnP, 40 rounds of 50", lambda m: DPnP()),
        Budgeted("dps", "DPS, 1000 steps", _dps, table=True),
        Budgeted("fps-smc", "FPS, 1000 steps", lambda m: FPSSMC(particles=1), table=True),
        Budgeted("gdp", "GDP, 1000 steps", _gdp, table=True),
        Budgeted("ilvr", "ILVR, 100 steps", lambda m: ILVR(), ("enlarge",), True),
        Budgeted("mcg", "MCG, 1000 steps", lambda m: MCG(), ("inpaint", "colorize"), True),
        Budgeted("mmps", "MMPS, 100 steps, 1 iteration", lambda m: MMPS(iterations=1)),
        Budgeted("pigdm", "PiGDM, 100 steps", lambda m: PiGDM(), table=True),
        # 100 steps from 80 down in the public code, of which 30 are below rho = 0.3
        Budgeted("pnp-dm", "PnP-DM, 100 rounds of 30", lambda m: PnPDM(prior_steps=30)),
        Budgeted("red-diff", "RED-diff, 1000 steps", lambda m: REDDiff(), table=True),
        Budgeted("repaint", "RePaint, 250 levels, 10 passes", lambda m: RePaint(), ("inpaint",), True),
        Budgeted("sitcom", "SITCOM, 20 levels of 20 moves", lambda m: SITCOM(moves=20), table=True),
        Budgeted("snips", "SNIPS, 500 levels of 5 moves", lambda m: SNIPS()),
        Budgeted("tmpd", "TMPD, 100 steps", lambda m: TMPD()),
    )


def _kind(m: Measurement) -> str:
    return defaults.damage(m)[0] or "denoise"


def _dps(m: Measurement) -> Solver:
    return DPS.inpainting() if _kind(m) == "inpaint" else DPS()


def _gdp(m: Measurement) -> Solver:
    return GDP(scale=GDP_SCALES[_kind(m)] * size(m))


def _diffpir(m: Measurement) -> Solver:
    kind = _kind(m)
    return DiffPIR.inpainting() if kind == "inpaint" else DiffPIR.super_resolution() if kind == "enlarge" else DiffPIR()
