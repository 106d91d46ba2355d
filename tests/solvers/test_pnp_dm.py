import pytest
import torch

import sfumato as sf
from sfumato.operators import Function, Identity
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.samplers import DDIM, Ancestral
from sfumato.solvers import DPnP, PnPDM


@pytest.mark.parametrize("rho, expected", [(0.3, (0.918, 9.182, 0.550, 5.500, 0.933, 1.269)), (0.1, None)])
def test_the_stationary_law_is_the_inflated_posterior(scalars, scalar_ratios, ddpm, affine_law, rho, expected):
    """Exact prior draws (independent elements, known variance); numbers of the table, computed apart from this code."""
    expected = expected or (0.990, 1.980, 0.917, 1.833, 0.992, 1.032)
    world, m = scalars
    solver = PnPDM(steps=250, rho=rho, first=rho, prior_steps=1)
    mean, cov = affine_law(solver, world.denoiser(ddpm), m, draws=9)
    torch.testing.assert_close(scalar_ratios(mean, cov), torch.tensor(expected).double(), atol=1e-3, rtol=0)


def test_an_ode_is_no_draw(affine_law):
    """The trap: with a deterministic prior step the chain loses most of its spread; with an ancestral one little."""
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    m = sf.Measurement(Identity(), torch.ones(1, 1).double(), 0.1)
    inflated = 0.1 / 1.1  # noise 0.1^2 + 0.3^2 = 0.1
    ratio = {}
    for eta in (0.0, 1.0):
        solver = PnPDM(steps=10, rho=0.3, first=0.3, prior_steps=100, sampler=DDIM(eta))
        _, cov = affine_law(solver, world.denoiser(LinearBeta()), m, draws=102)
        ratio[eta] = float(cov) / inflated
    assert ratio[0.0] < 0.4 and 0.9 < ratio[1.0] < 1.0


def test_the_grid_of_widths_and_the_state(world, matrix, ddpm):
    times = PnPDM(steps=3, rho=0.9, first=2.0, decay=0.5).times(EDM())
    assert [EDM().sigma(t) for t in times[:-1]] == pytest.approx([2.0, 1.0, 0.9]) and times[-1] == 0.0
    m = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.1)
    counted = sf.denoisers.Counted(world.denoiser(ddpm))
    steps = list(PnPDM(steps=3, rho=0.01, first=0.01, prior_steps=4).trajectory(counted, m, sf.Noise(0)))
    held = torch.linalg.inv(matrix.A @ matrix.A.T + 0.01 * torch.eye(2).double())
    torch.testing.assert_close(steps[0].x, m.y @ held @ matrix.A)
    assert len(steps) == 4 and counted.calls == 12


def test_a_level_that_no_process_reaches_is_its_highest(world, matrix):
    x = PnPDM(steps=2, first=1e9, rho=1e9, prior_steps=3)(
        world.denoiser(Rectified()), sf.Measurement(matrix, torch.ones(1, 2).double(), 0.1), sf.Noise(0)
    )
    assert torch.isfinite(x).all()


def test_any_operator_by_langevin_moves():
    """|x| seen at 1 with noise 0.2: two modes, each at distance about 1, in the right shares by symmetry."""
    world = sf.GaussianWorld(torch.zeros(1).double(), torch.eye(1).double())
    m = sf.Measurement(Function(lambda x: x.abs(), (1,)), torch.ones(400, 1).double(), 0.2)
    solver = PnPDM(steps=15, first=2.0, decay=0.8, rho=0.1, prior_steps=1, moves=30, size=2e-3, sampler=Ancestral())
    x = solver(world.denoiser(LinearBeta()), m, sf.Noise(0))
    assert float((x > 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    grid = torch.linspace(0, 3, 3001).double()
    weight = torch.softmax(-0.5 * grid**2 - 0.5 * (1 - grid) ** 2 / (0.04 + 0.01), 0)
    mean = float((weight * grid).sum())
    assert float(x.abs().mean()) == pytest.approx(mean, abs=0.04)
    assert float(x.abs().std()) == pytest.approx(float((weight * (grid - mean) ** 2).sum()) ** 0.5, rel=0.2)
    with pytest.raises(ValueError, match="PnPDM: Langevin moves need sigma_y > 0"):
        solver(world.denoiser(LinearBeta()), sf.Measurement(m.operator, m.y, 0.0), sf.Noise(0))


def test_fields():
    s, d = PnPDM(), DPnP()
    assert (s.steps, s.rho, s.first, s.decay, s.prior_steps, s.curve) == (100, 0.3, 10.0, 0.9, 100, 7.0)
    assert (d.steps, d.rho, d.first, d.decay, d.prior_steps) == (40, 0.1, 0.5, 0.9, 50)
    for wrong in ({"rho": 0.0}, {"first": 0.0}, {"decay": 0.0}, {"decay": 1.1}):
        with pytest.raises(ValueError, match="DPnP: rho > 0, first > 0 and decay in"):
            DPnP(**wrong)
