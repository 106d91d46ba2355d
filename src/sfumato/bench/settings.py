"""The settings at which solvers are held against exact posteriors: those of the figures that their theory gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from sfumato import grids
from sfumato.bench.worlds import Instance
from sfumato.denoisers import Counted, MeanOnly
from sfumato.noise import Noise
from sfumato.operators import Mask, Measurement
from sfumato.processes import Table
from sfumato.samplers import DDIM
from sfumato.solvers import (
    CCDF,
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
    PiGDMScore,
    PnPDM,
    REDDiff,
    RePaint,
    SDEdit,
    Solver,
)
from sfumato.solvers.daps import DAPS, Conditional
from sfumato.solvers.particles import Particles, multinomial, pick

PASTING = ("repaint", "mcg", "copaint")  # inpainting: what was seen is replaced by y itself

# Methods for measurements or aims of their own (attacks, files, unknown kernels, faces, latent spaces), which neither
# the worlds nor the tasks here have: their own tests and benchmarks measure them.
ELSEWHERE = frozenset(
    {
        "adir", "adp", "blind-dps", "ddrm-jpeg", "difface", "dr2", "gibbs-ddrm", "principled-priors", "psld",
        "resample", "score-medical", "stsl",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A solver with its fields, and the grid it runs on.

    Attributes:
        key, name: of the method, and of this setting of it.
        table: whether it runs on equal steps of the table, 999 to 0 and then to clean, rather than on its own grid.
        last: where that grid ends; above 0 for a solver that leaves the data out of a step to 0.
    """

    key: str
    name: str
    solver: Solver
    table: bool = False
    last: float = 0.0

    def suits(self, instance: Instance) -> bool:
        """Whether the method is meant for the problem."""
        return self.key not in PASTING or isinstance(instance.operator, Mask)


def settings() -> tuple[Setting, ...]:
    """Every setting, by method."""
    ancestral, gibbs = DDIM(1.0), PnPDM(steps=70, prior_steps=25, curve=3.0, sampler=DDIM(1.0))
    diffpir, own = DiffPIR(steps=100), DDRM(steps=400)
    return (
        *(Setting("mmps", f"MMPS, {n} steps", MMPS(n, ancestral), table=True) for n in (100, 400)),
        Setting("tmpd", "TMPD, 400 steps", TMPD(400, ancestral), table=True),
        Setting("pigdm", "PiGDM's score form, 400 steps", PiGDMScore(400, ancestral), table=True),
        *(Setting("pigdm", f"PiGDM, {n} steps", PiGDM(n), table=True) for n in (100, 400)),
        *(Setting("dps", f"DPS, zeta {z:g}, 1000 steps", DPS(zeta=z)) for z in (0.03, 0.1, 0.3, 1.0)),
        *(Setting("ddrm", f"DDRM, {n} steps", DDRM(n), table=True) for n in (20, 100, 400)),
        *(Setting("ddrm", f"DDRM, eta {e:g}, 400 steps", replace(own, eta=e), table=True) for e in (0.0, 1.0)),
        *(Setting("ddnm", f"DDNM+, {n} steps", DDNM(n), table=True) for n in (100, 400)),
        *(
            Setting(
                "diffpir",
                f"DiffPIR, lambda {l:g}, zeta {z:g}, 100 steps",
                replace(diffpir, lambda_=l, zeta=z),
                True,
                1e-12,
            )
            for l, z in ((8.0, 0.3), (1.0, 1.0))
        ),
        Setting("daps", "DAPS, exact draws, 100 levels", Conditional(steps=100, low=0.02)),
        Setting("daps", "DAPS, Langevin moves, 50 levels", DAPS(steps=50, tau=0.1, size=1e-3)),
        *(Setting("pnp-dm", f"PnP-DM, rho {r:g}, 70 rounds", replace(gibbs, rho=r)) for r in (0.3, 0.1, 0.03)),
        Setting(
            "pnp-dm", "PnP-DM, rho 0.1, slow, 260 rounds", replace(gibbs, steps=260, rho=0.1, first=3.0, decay=0.985)
        ),
        Setting("dpnp", "DPnP, 40 rounds", DPnP(prior_steps=25)),
        *(Setting("red-diff", f"RED-diff, {r}, 1000 steps", REDDiff(reduction=r)) for r in ("sum", "mean")),
        Setting("tds", "TDS, 400 steps", TDS(400), table=True),
        Setting("fps-smc", "FPS-SMC, 5 particles, 100 steps", FPSSMC(100)),
        Setting("fps-smc", "FPS-SMC, telescoping, 100 steps", FPSSMC(100, c=1.0, ancestral=True, telescoping=True)),
        Setting("snips", "SNIPS, 100 levels of 10 moves", SNIPS(steps=100, moves=10, size=0.1)),
        Setting("sitcom", "SITCOM, 20 levels", SITCOM()),
        Setting("repaint", "RePaint, 100 steps, 10 passes of 10", RePaint(100)),
        Setting("mcg", "MCG, 1000 steps", MCG()),
        Setting("copaint", "CoPaint, 100 steps", CoPaint.fast()),
        Setting("gdp", "GDP, 1000 steps, the scale for two numbers", GDP(scale=2000.0 * 2 / (3 * 256**2))),
        Setting("ilvr", "ILVR, 100 steps", ILVR()),
        Setting("ccdf", "CCDF, t0 0.2, 200 steps", CCDF()),
        Setting("sdedit", "SDEdit, t0 0.5, one pass of 500 steps", SDEdit(passes=1)),
    )


def draw(
    setting: Setting, instance: Instance, m: Measurement, samples: int, *, noise: Noise, steps: int | None = None
) -> tuple[Tensor, int]:
    """Samples of x_0 given each y, (S, n, d), and the calls of the denoiser for each.

    A particle method that is exact as the number grows runs one set of S particles for each y; the published FPS-SMC
    runs S sets of its few.

    Args:
        steps: replaces those of the setting.
    """
    process, solver, times = Table.linear(), setting.solver, None
    exact = instance.world.denoiser(process)
    denoiser = Counted(MeanOnly(exact) if isinstance(solver, TDS) else exact)
    if steps is not None:
        solver = replace(solver, steps=steps)  # type: ignore[type-var]
    if setting.table:
        times = (*grids.table(process, solver.steps, spacing="linspace")[:-1], setting.last)
    together = isinstance(solver, TDS) or (isinstance(solver, FPSSMC) and solver.telescoping)
    if together:
        solver = replace(solver, particles=samples)  # type: ignore[type-var]
    step = None
    for step in solver.trajectory(denoiser, m if together else m.repeat(samples), noise, times=times):
        pass
    assert step is not None
    x = step.x
    if isinstance(solver, Particles):
        # A draw by weight: as many as there are particles, or one.
        index = multinomial(step.memory.log_weight, noise)
        x = pick(x, index).transpose(0, 1) if together else pick(x, index[:, :1])
    return x.reshape(samples, len(m), -1), denoiser.calls
