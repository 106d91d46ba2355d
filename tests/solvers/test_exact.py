"""Solvers against the exact numbers of their theory: closed recursions on Gaussian data, and a pinned instance."""

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.operators import Matrix
from sfumato.processes import LinearBeta, Rectified
from sfumato.samplers import DDIM
from sfumato.solvers import DDNM, DDRM, DPS, MMPS, TMPD, DiffPIR, PiGDM, PiGDMScore

# Mean over the exact gain and variance over the exact one, at each of the three; computed apart from this code.
TABLE = [
    (MMPS(sampler=DDIM(1.0), iterations=3), 100, (1.000, 0.628, 1.000, 0.619, 1.000, 0.866)),
    (MMPS(sampler=DDIM(1.0), iterations=3), 400, (1.000, 0.848, 1.000, 0.843, 1.000, 0.959)),
    pytest.param(
        MMPS(sampler=DDIM(1.0), iterations=3),
        1000,
        (1.000, 0.927, 1.000, 0.924, 1.000, 0.983),
        marks=pytest.mark.slow,
    ),
    (MMPS(sampler=DDIM(0.0), iterations=3), 400, (0.999, 0.929, 0.999, 0.926, 0.997, 0.984)),
    (DDRM(), 20, (0.978, 2.082, 0.832, 1.342, 0.975, 0.360)),
    (DDRM(), 100, (0.998, 0.421, 0.985, 0.404, 1.058, 0.230)),
    (DDNM(), 100, (0.998, 0.421, 0.985, 0.404, 1.058, 0.230)),
    (DDRM(), 400, (1.001, 0.281, 1.011, 0.277, 1.139, 0.126)),
    (DiffPIR(lambda_=8.0, zeta=0.3), 100, (0.943, 5.802, 0.744, 3.239, 0.549, 2.649)),
    (DiffPIR(lambda_=1.0, zeta=1.0), 100, (1.000, 0.381, 1.008, 0.359, 1.013, 0.436)),
    (PiGDMScore(sampler=DDIM(1.0)), 100, (1.000, 0.628, 0.906, 0.792, 1.000, 0.866)),
    pytest.param(
        PiGDMScore(sampler=DDIM(1.0)), 400, (1.000, 0.848, 0.916, 0.997, 1.000, 0.959), marks=pytest.mark.slow
    ),
    (TMPD(sampler=DDIM(1.0)), 100, (1.000, 0.628, 1.000, 0.619, 1.000, 0.866)),
    (PiGDM(), 100, (1.010, 0.213, 1.096, 0.245, 1.250, 0.167)),
    pytest.param(PiGDM(), 400, (1.010, 0.139, 1.100, 0.152, 1.250, 0.079), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("solver, steps, expected", TABLE, ids=lambda v: str(v)[:24])
def test_scalar_recursions(scalars, scalar_ratios, ddpm, affine_law, solver, steps, expected):
    world, m = scalars
    times = grids.table(ddpm, steps, spacing="linspace")
    if isinstance(solver, DiffPIR):
        times = (*times[:-1], 1e-12)  # the table keeps the data step at the end; the solver leaves it out at t = 0
    mean, cov = affine_law(solver, world.denoiser(ddpm), m, times)
    torch.testing.assert_close(scalar_ratios(mean, cov), torch.tensor(expected).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("solver", [DDRM(), DDNM()], ids=["ddrm", "ddnm"])
@pytest.mark.parametrize("steps, variance", [(20, 0.633), (100, 0.724), (400, 0.749)])
def test_fixed_ratio_loses_variance_where_nothing_is_seen(ddpm, affine_law, solver, steps, variance):
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    blind = sf.Measurement(Matrix(torch.zeros(1, 1).double()), torch.zeros(1, 1).double(), sigma=0.1)
    _, cov = affine_law(solver, world.denoiser(LinearBeta()), blind, grids.uniform(steps))
    assert float(cov) == pytest.approx(variance, abs=1e-3)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.55, 0.85, 1.0])
@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=["vp", "straight"])
def test_limit_of_the_fixed_ratio_step(affine_law, eta, process):
    """(1 + sqrt(1 - eta^2)) / 2, whatever the schedule; the error of first order is extrapolated away."""
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    blind = sf.Measurement(Matrix(torch.zeros(1, 1).double()), torch.zeros(1, 1).double(), sigma=0.0)
    rough, fine = (
        float(
            affine_law(DDNM(eta=eta), world.denoiser(process), blind, grids.log_snr(process, n, low=-14.0, high=14.0))[
                1
            ]
        )
        for n in (200, 400)
    )
    assert 2 * fine - rough == pytest.approx((1 + math.sqrt(1 - eta**2)) / 2, abs=1e-3)


# The pinned instance: 4 dimensions, 2 measurements; mean error / range and null variance ratios of each solver from an
# independent experiment of 40 measurements with 200 samples each, whose own error is 0.03 on the ratios.


def _one(m, i):
    return sf.Measurement(m.operator, m.y[i : i + 1], m.sigma)


PINNED = [
    pytest.param(MMPS(sampler=DDIM(1.0)), 400, 0.06, 0.88, 0.94, marks=pytest.mark.slow),
    (MMPS(sampler=DDIM(1.0)), 100, 0.05, 0.73, 0.86),
    (DDRM(), 20, 0.17, 0.83, 0.58),
    (DDRM(), 100, 0.09, 0.41, 0.69),
    (DDRM(), 400, 0.14, 0.34, 0.72),
    (DDRM(eta=0.0), 400, 0.30, 0.16, 1.09),
    (DDRM(eta=1.0), 400, 0.24, 1.52, 0.52),
    (DDNM(), 100, 0.09, 0.41, 0.69),
    (DDNM(), 400, 0.14, 0.34, 0.73),
    (DiffPIR(lambda_=8.0, zeta=0.3), 100, 0.24, 2.35, 1.00),
    (DiffPIR(lambda_=1.0, zeta=1.0), 100, 0.07, 0.39, 0.46),
    (PiGDM(), 100, 0.29, 0.50, 0.74),
    pytest.param(PiGDM(), 400, 1.13, 0.31, 0.61, marks=pytest.mark.slow),
    pytest.param(PiGDMScore(sampler=DDIM(1.0)), 400, 0.10, 0.91, 0.96, marks=pytest.mark.slow),
    pytest.param(TMPD(sampler=DDIM(1.0)), 400, 0.21, 0.95, 0.99, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("solver, steps, error, seen, hidden", PINNED, ids=lambda v: str(v)[:24])
def test_pinned_instance(pinned_figures, ddpm, solver, steps, error, seen, hidden):
    times = grids.table(ddpm, steps, spacing="linspace")
    if isinstance(solver, DiffPIR):
        times = (*times[:-1], 1e-12)
    got, spread = pinned_figures(solver, times)
    assert got[1] == pytest.approx(seen, rel=0.03, abs=0.04)
    assert got[2] == pytest.approx(hidden, abs=0.04)
    # The mean error of the experiment is the average over 40 measurements.
    assert abs(got[0] - error) < 0.015 + 3 * spread / math.sqrt(40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "zeta, error, seen, hidden", [(0.03, 0.22, 0.46, 0.94), (0.1, 0.77, 0.10, 0.76), (0.3, 1.28, 0.76, 0.57)]
)
def test_pinned_instance_of_dps(pinned, ddpm, zeta, error, seen, hidden):
    """A growing scale first takes the spread along A away, then makes it explode; the mean only gets worse."""
    world, m, range_ = pinned
    n, null = 120, torch.eye(4).double() - range_
    m = sf.Measurement(m.operator, m.y[:n], m.sigma)
    x = DPS(zeta=zeta)(world.denoiser(ddpm), m.repeat(200), sf.Noise(1)).reshape(200, n, 4)
    truth = [world.posterior(_one(m, i)) for i in range(n)]
    cov, spread = truth[0].cov, float(truth[0].cov.trace())
    covs = torch.stack([torch.cov(x[:, i].T) for i in range(n)])
    errors = torch.stack([(x[:, i].mean(0) - truth[i].mean).norm() for i in range(n)]) / math.sqrt(spread)
    # A median or mean over the experiment's 40 measurements has this standard error; the spread over y is wide.
    for part, expected in ((range_, seen), (null, hidden)):
        ratios = (part @ covs).diagonal(dim1=1, dim2=2).sum(1) / (part @ cov).trace()
        assert abs(float(ratios.median()) - expected) < 0.03 + 3 * 1.25 * float(ratios.std()) / math.sqrt(40)
    assert abs(float(errors.mean()) - error) < 0.015 + 3 * float(errors.std()) / math.sqrt(40)
