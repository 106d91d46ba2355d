"""Further solvers against the same table of scalar recursions and the same pinned instance as `test_exact`."""

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Matrix
from sfumato.samplers import DDIM
from sfumato.solvers import TMPD, PiGDM, PiGDMScore

C = torch.tensor([1.0, 0.1, 1.0]).double()
NOISE = torch.tensor([0.1, 0.1, 0.5]).double()


@pytest.fixture(scope="module")
def scalars():
    """Three scalar problems: prior variances 1, 0.1, 1 and noise 0.1, 0.1, 0.5 (0.1 through a gain of 0.2)."""
    world = sf.GaussianWorld(torch.zeros(3).double(), torch.diag(C))
    A = Matrix(torch.diag(0.1 / NOISE))
    return world, sf.Measurement(A, A(torch.ones(1, 3).double()), sigma=0.1)


def ratios(mean, cov):
    """Mean over the exact gain and variance over the exact one, at each of the three."""
    posterior = C * NOISE**2 / (C + NOISE**2)
    return torch.stack([mean / (C / (C + NOISE**2)), cov.diag() / posterior], 1).flatten()


TABLE = [
    (TMPD(sampler=DDIM(1.0)), 100, (1.000, 0.628, 1.000, 0.619, 1.000, 0.866)),
    (TMPD(sampler=DDIM(1.0)), 400, (1.000, 0.848, 1.000, 0.843, 1.000, 0.959)),
    (PiGDM(), 100, (1.010, 0.213, 1.096, 0.245, 1.250, 0.167)),
    (PiGDM(), 400, (1.010, 0.139, 1.100, 0.152, 1.250, 0.079)),
]


@pytest.mark.parametrize("solver, steps, expected", TABLE, ids=lambda v: str(v)[:24])
def test_scalar_recursions(scalars, ddpm, affine_law, solver, steps, expected):
    world, m = scalars
    mean, cov = affine_law(solver, world.denoiser(ddpm), m, grids.table(ddpm, steps, spacing="linspace"))
    torch.testing.assert_close(ratios(mean, cov), torch.tensor(expected).double(), atol=1e-3, rtol=0)
