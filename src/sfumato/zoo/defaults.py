"""What a user gets who does not choose: the sampler, the grid, the solver for a measurement. One place for each."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato import grids, recipes
from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import (
    JPEG,
    SENSE,
    BlockSensing,
    Blur,
    Convolution,
    DecimatedBlur,
    Downsample,
    Fourier,
    Gray,
    Identity,
    Linear,
    Mask,
    Measurement,
    Operator,
    Radon,
    Separable,
    Spectral,
    VaryingBlur,
)
from sfumato.processes import Binomial, Categories, Gaussian, Process, Time, Transitions
from sfumato.samplers import Ancestral, AnyOrder, Arc, Sampler, Step, Times
from sfumato.solvers import DDNM, DDRM, DiffPIR, Solver, Warm

STEPS = 50  # (ours)
CALLS = 20  # of a restoration of a picture (ours); the table that chooses its solver is made at as many
# Noise over signal, model space [-1, 1], at which it starts; that of an enlargement grows with the factor (ours).
LEVELS = {"inpaint": 3.0, "enlarge": 0.125, "deblur": 0.3, "colorize": 3.0}


def sampler(process: Process | None = None) -> Sampler:
    """The sampler of `Model.sample`: `Arc`, the least error on exact worlds (ours; `benchmarks/samplers.py`).

    On categories `AnyOrder` where there is a mask, `Ancestral` where there is none; on bits `Ancestral`.
    """
    if isinstance(process, Categories):
        return Ancestral() if process.mask is None else AnyOrder()
    if isinstance(process, Binomial):
        return Ancestral()
    return Arc()


def times(process: Process, steps: int) -> Times:
    """The grid of `Model.sample`; on categories and bits even steps, at the levels of the chain if it is one.

    Raises:
        ValueError: for a process whose start is not noise: a degradation, a bridge.
    """
    if isinstance(process, Transitions):
        return grids.levels_of(process.steps, min(steps, process.steps))
    if isinstance(process, Categories | Binomial):
        return grids.uniform(steps)
    if not isinstance(process, Gaussian):
        raise ValueError(
            f"a model on {type(process).__name__} begins at a measurement or a picture, not at noise, and "
            "draws nothing by itself: give its sampler a start, as `sfumato show` of its recipe says."
        )
    return grids.default(process, steps)


def own(denoiser: Denoiser) -> tuple[Sampler, Times] | None:
    """The sampler and grid that a denoiser names itself, by a method `drawing`, where no other draws from it well."""
    drawing = getattr(denoiser, "drawing", None)
    return None if drawing is None else drawing()


def solver(
    m: Measurement, samples: int = 1, steps: int | None = None, *, denoiser: Denoiser | None = None
) -> tuple[Solver, str]:
    """The solver for a measurement in model space when none is chosen, and why.

    For pictures it is the best of a table of all solvers (`docs/solvers.md`; `docs/medical.md` for k-space and
    projections); else it follows from the operator.

    Args:
        samples: for how many samples of each y; the posterior mean serves one alone.
        steps: replaces the solver's own number of steps.
        denoiser: one that is made for some measurements says so by a method `restoring`, with its solver or None.
    """
    restoring = getattr(denoiser, "restoring", None)
    found: Solver | None = None if restoring is None else restoring(m)
    if found is not None:
        return found if steps is None else replace(found, steps=steps), "the model was trained for it."  # type: ignore[type-var]
    operator = m.operator
    if isinstance(operator, Identity):
        if samples == 1:
            return Direct(1), "y is a noisy x_0: one call of the denoiser at its level is the posterior mean."
        own = Direct(STEPS if steps is None else steps)
        return own, "y is a noisy x_0: sampling from its level down is the posterior."
    kind, factor = damage(m)
    if kind:
        return warm(kind, CALLS if steps is None else steps, factor=factor), chosen()[kind]["why"]
    if isinstance(operator, JPEG):
        key, why = "ddrm-jpeg", "y is what a JPEG file holds"
    elif isinstance(operator, BlockSensing) and m.sigma > 0 and steps is None:
        return DDRM(steps=100), "blocks were sensed: DDRM, whose usual 20 steps are too few here."
    elif isinstance(operator, Spectral) and m.sigma > 0:
        key, why = "ddrm", "the operator has a closed-form SVD and y is noisy"
    elif isinstance(operator, Linear) and m.sigma == 0:
        key, why = "ddnm", "the operator is linear and y has no noise"
    elif isinstance(operator, Linear):
        key, why = "diffpir", "the operator is linear without a closed-form SVD"
    else:
        key, why = "dps", "the operator is not linear"
    method = recipes.load(key).Recipe
    return method() if steps is None else method(steps=steps), f"{why}."


def damage(m: Measurement) -> tuple[str, float]:
    """What has happened to a picture (C, H, W), and by which factor it was reduced; "" for other data or operators."""
    operator, event = m.operator, m.event
    if len(event) != 3:
        return "", 1.0
    if isinstance(operator, Mask):
        return "inpaint", 1.0
    if isinstance(operator, Gray):
        return "colorize", 1.0
    if isinstance(operator, Blur | Convolution | VaryingBlur):
        return "deblur", 1.0  # a convolution that keeps to the valid part is a little smaller, and no reduction
    if isinstance(operator, Fourier | SENSE | Radon):
        return ("ct" if isinstance(operator, Radon) else "mri"), 1.0
    if not isinstance(operator, Downsample | Separable | DecimatedBlur):
        return "", 1.0
    factor = math.sqrt(math.prod(event) / m.y[0].numel())
    return ("enlarge", factor) if factor > 1.0 else ("deblur", 1.0)


def warm(kind: str, steps: int = CALLS, solver: Solver | None = None, *, factor: float = 1.0) -> Warm:
    """The restoration of a picture: a solver started from the noised linear estimate.

    Args:
        kind: a key of `chosen()`: its level is in `LEVELS`, or was found with its solver.
        solver: the best of the table for the kind, unless given.
        factor: of an enlargement.
    """
    entry = chosen()[kind]
    level = LEVELS[kind] if kind in LEVELS else float(entry["level"])
    return Warm(solver or WAYS[entry["key"]], level * factor, steps)


# The steps that a warm start can take: with all noise fresh, so that the noise of the start is forgotten.
WAYS: dict[str, Solver] = {"ddnm": DDNM(eta=1.0), "diffpir": DiffPIR(zeta=1.0)}


@functools.cache
def chosen() -> dict[str, dict[str, Any]]:
    """For each kind of damage the key and name of the table's best solver, and the reason in words."""
    here = Path(__file__).parent
    texts = [(here / name).read_text("utf-8") for name in ("chosen.json", "chosen_medical.json")]
    return {kind: entry for text in texts for kind, entry in json.loads(text).items()}


@dataclass(frozen=True)
class Direct(Solver):
    """Denoising: y = x_0 + n is itself a state of the process, alpha y at the time whose sigma / alpha is sigma_y.

    One step returns D, the posterior mean E[x_0 | y]. More steps sample p(x_0 | y) with the ancestral sampler from that
    time down, exact in the limit of many steps (ours). With sigma_y = 0 the answer is y.

    Args:
        steps: network evaluations.
    """

    steps: int = 1

    def trajectory(
        self, denoiser: Denoiser, m: Measurement, noise: Noise, *, x1: Tensor | None = None, times: Times | None = None
    ) -> Iterator[Step]:
        self.check(m.operator)
        process = denoiser.process
        assert isinstance(process, Gaussian)
        t = self.entry(process, m.sigma)
        x = process.marginal(m.y, t).mean if t > 0.0 else m.y
        grid: Times = (t,) if t == 0.0 else (t, 0.0) if self.steps == 1 else grids.log_snr(process, self.steps, start=t)
        yield from super().trajectory(denoiser, m, noise, x1=x1 if x1 is not None else x, times=times or grid)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if self.steps == 1:
            return denoiser(xt, t).mean, memory
        return Ancestral().step(denoiser, xt, t, s, memory, noise)

    def times(self, process: Gaussian) -> Times:
        """Of `steps` steps, whatever y: the run itself starts at the level of y."""
        return (1.0, 0.0) if self.steps == 1 else super().times(process)

    def check(self, operator: Operator) -> None:
        if not isinstance(operator, Identity):
            raise TypeError(f"Direct denoises: it needs an Identity, got {type(operator).__name__}. Use DDRM or DPS.")

    def entry(self, process: Gaussian, sigma: float) -> float:
        """The time at which the process is as noisy as y; 0 where y is cleaner than the process ever is.

        Raises:
            ValueError: if y is noisier than the process at t = 1.
        """
        log_snr = math.inf if sigma == 0.0 else -2.0 * math.log(sigma)
        if log_snr >= process.log_snr(0.0):
            return 0.0
        if log_snr < process.log_snr(1.0) - 1e-9:
            top = math.exp(-0.5 * process.log_snr(1.0))
            raise ValueError(
                f"sigma = {sigma:.4g} in model space is above the noisiest state of the process ({top:.4g}): "
                "nothing of x_0 is left in y. Check the unit of sigma."
            )
        return float(process.time_of(log_snr))
