"""One step of the public codes of ILVR, SDEdit (MIT), MCG and GDP (Apache-2.0), run on fixed inputs.

`tests/data/solver_updates.npz` holds a state x, a reference, one noise field z for every draw, a mask, and what each
code made of them at step index 399 of 1000 (linear betas, small variance, no clipping) with the noise predictor
0.3 x + 0.1: `ancestral` of jychoi118/ilvr_adm, `sdedit` of ermongroup/SDEdit, `mcg` of HJ-harry/MCG_diffusion (first
row, so that its norm over the batch is one sample's) and `gdp_x0`, `gdp_xt` of Fayeben/GenerativeDiffusionPrior with
the gradient of 50 times the mean square in [0, 1] under the mask; and `down`, `up`, ILVR's resizers by 4 of `picture`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.operators import Downsample, Identity, Mask
from sfumato.processes import Table
from sfumato.solvers import GDP, ILVR, MCG, SDEdit
from sfumato.solvers.ilvr import Bicubic

T, S = 0.4, 0.399  # index 399 counts from 0


class Affine(Denoiser):
    """D of the noise predictor 0.3 x + 0.1."""

    process = Table.linear()

    def forward(self, xt, t, cond=None):
        return sf.Estimate((xt - self.process.sigma(t) * (0.3 * xt + 0.1)) / self.process.alpha(t))


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).parents[1] / "data" / "solver_updates.npz") as file:
        return {key: torch.from_numpy(file[key]).double() for key in file}


@pytest.mark.parametrize("key", ["ancestral", "sdedit"])
def test_the_free_step(theirs, given, key):
    x, m = theirs["x"], sf.Measurement(Identity(), theirs["ref"], 0.0)
    solvers = {"ancestral": ILVR(until=1.0), "sdedit": SDEdit()}
    got, _ = solvers[key].step(Affine(), m, x, T, S, None, given(theirs["z"]))
    torch.testing.assert_close(got, theirs[key], atol=2e-6, rtol=0)


def test_mcg(theirs, given):
    """The null space agrees; what was seen is one step noisier there."""
    mask, x, z = theirs["mask"].bool().expand(1, -1, -1, -1), theirs["x"][:1], theirs["z"][:1]
    m = sf.Measurement(Mask(theirs["mask"]), theirs["ref"][:1] * theirs["mask"], 0.0)
    solver, process = MCG(), Affine.process
    got, _ = solver.step(Affine(), m, x, T, S, solver.init(Affine(), m, x), given(z))
    torch.testing.assert_close(got[~mask], theirs["mcg"][~mask], atol=2e-6, rtol=0)
    for states, level in ((got, S), (theirs["mcg"], T)):
        seen = process.alpha(level) * m.y + process.sigma(level) * z
        torch.testing.assert_close(states[mask], seen[mask], atol=2e-6, rtol=0)


@pytest.mark.parametrize("at", ["x0", "xt"])
def test_gdp(theirs, given, at):
    m = sf.Measurement(Mask(theirs["mask"]), theirs["ref"] * theirs["mask"], 0.0)
    got, _ = GDP(scale=50.0, at=at).step(Affine(), m, theirs["x"], T, S, None, given(theirs["z"]))
    torch.testing.assert_close(got, theirs[f"gdp_{at}"], atol=2e-6, rtol=0)


def test_resizers(theirs):
    """Their borders are mirrored where ours are cut and renormalised: the inner part agrees."""
    A = Downsample.bicubic(4, (32, 32))
    small = A(theirs["picture"])
    torch.testing.assert_close(small[..., 2:-2, 2:-2], theirs["down"][..., 2:-2, 2:-2], atol=1e-5, rtol=0)
    big = Bicubic(4)(theirs["down"])
    torch.testing.assert_close(big[..., 8:-8, 8:-8], theirs["up"][..., 8:-8, 8:-8], atol=1e-5, rtol=0)
