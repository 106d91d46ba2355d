"""Chains, particles and points on the pinned instance; and that no row of theirs knows its batch."""

import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.operators import LinearFunction
from sfumato.processes import LinearBeta
from sfumato.samplers import DDIM
from sfumato.solvers import FPSSMC, SITCOM, SNIPS, TDS, TMPD, DPnP, PiGDM, PiGDMScore, PnPDM, REDDiff
from sfumato.solvers.daps import DAPS, Conditional
from sfumato.solvers.particles import multinomial, pick

CHAINS = [
    (Conditional(steps=100, low=0.02), 10, 0.13, 1.44, 1.84),
    pytest.param(
        PnPDM(steps=70, rho=0.3, prior_steps=25, curve=3.0, sampler=DDIM(1.0)),
        106,
        0.17,
        2.74,
        0.92,
        marks=pytest.mark.slow,
    ),
    pytest.param(
        PnPDM(steps=70, rho=0.1, prior_steps=25, curve=3.0, sampler=DDIM(1.0)),
        106,
        0.08,
        1.16,
        0.91,
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("solver, draws, error, seen, hidden", CHAINS, ids=lambda v: str(v)[:24])
def test_pinned_instance_of_annealed_chains(pinned_figures, solver, draws, error, seen, hidden):
    """Over-dispersed by 1.4 to 1.8 (DAPS, about the end of an ODE); inflated along A by rho (split Gibbs)."""
    got, spread = pinned_figures(solver, None, draws=draws)
    assert got[1:] == pytest.approx((seen, hidden), rel=0.05, abs=0.05)
    assert abs(got[0] - error) < 0.015 + 3 * spread / math.sqrt(40)


SAMPLED = [
    (REDDiff(reduction="sum"), 0.64, 0.00, 0.03),
    (REDDiff(), 0.58, 0.02, 0.20),
    (TDS(particles=200), 0.07, 0.93, 0.94),
]


@pytest.mark.slow
@pytest.mark.parametrize("solver, error, seen, hidden", SAMPLED, ids=lambda v: str(v)[:24])
def test_pinned_instance_by_sampling(pinned, ddpm, solver, error, seen, hidden):
    """40 measurements with 200 samples, or sets of 200 particles, each."""
    world, m, range_ = pinned
    n, D, null = 40, world.denoiser(ddpm), torch.eye(4).double() - range_
    m = sf.Measurement(m.operator, m.y[:n], m.sigma)
    if isinstance(solver, TDS):
        times = grids.table(ddpm, 400, spacing="linspace")
        *_, last = solver.trajectory(MeanOnly(D), m, sf.Noise(1), times=times)
        x = pick(last.x, multinomial(last.memory.log_weight, sf.Noise(2))).transpose(0, 1)
    else:
        x = solver(D, m.repeat(200), sf.Noise(1)).reshape(200, n, 4)
    truth = [world.posterior(sf.Measurement(m.operator, y[None], m.sigma)) for y in m.y]
    cov = truth[0].cov
    covs = torch.stack([torch.cov(x[:, i].T) for i in range(n)])
    for part, expected in ((range_, seen), (null, hidden)):
        ratios = (part @ covs).diagonal(dim1=1, dim2=2).sum(1) / (part @ cov).trace()
        assert abs(float(ratios.median()) - expected) < 0.05
    gaps = torch.stack([x[:, i].mean(0) - truth[i].mean for i in range(n)]).norm(dim=1) / float(cov.trace()) ** 0.5
    assert abs(float(gaps.mean()) - error) < 0.015 + 3 * 1.4 * float(gaps.std()) / math.sqrt(40)


EVERY = [
    PiGDM(steps=10),
    PiGDMScore(steps=10),
    TMPD(steps=10),
    SNIPS(steps=5),
    REDDiff(steps=10),
    DAPS(steps=4, moves=5),
    Conditional(steps=4),
    PnPDM(steps=4, prior_steps=4),
    DPnP(steps=4, prior_steps=4),
    TDS(steps=10, particles=5),
    FPSSMC(steps=10, particles=5),
    FPSSMC(steps=10, particles=5, telescoping=True),
    SITCOM(steps=4, moves=5),
]


@pytest.mark.parametrize("solver", EVERY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("wrapped", [False, True], ids=["spectral", "linear"])
def test_a_sample_does_not_know_its_batch(world, matrix, alone, solver, wrapped):
    if wrapped and isinstance(solver, SNIPS):
        pytest.skip("needs singular vectors")
    A = LinearFunction(lambda x: x @ matrix.A.to(x.dtype).T, (3,)) if wrapped else matrix
    m, D = sf.Measurement(A, torch.tensor([[0.5, -0.2], [1.0, 0.3]]).double(), 0.2), world.denoiser(LinearBeta())
    alone(solver, D, m)
    assert not solver(D, m, sf.Noise(0)).requires_grad
    with pytest.raises(ValueError, match="Seeds has 3 streams"):
        solver(D, m, sf.Seeds(range(3)))


def test_recipes():
    load = sf.recipes.load
    assert [load(k).Recipe for k in ("pigdm", "snips", "red-diff")] == [PiGDM, SNIPS, REDDiff]
