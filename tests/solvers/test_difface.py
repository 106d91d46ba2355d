from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import Counted, MeanOnly
from sfumato.laws import Normal
from sfumato.operators import Clip, Identity
from sfumato.processes import LinearBeta, Table
from sfumato.samplers import DDIM
from sfumato.solvers import DifFace
from sfumato.solvers.difface import Absolute


@pytest.fixture
def damaged(world):
    """Three pictures scaled by 0.2 into the range, seen at half of that."""
    return sf.Measurement(Identity(), 0.1 * world.sample(3, sf.Noise(1)), 0.0)


def restorer(m):
    return 2 * m.y + 0.1


def test_the_start_and_its_distance_from_a_perfect_one(world, damaged, given):
    """N(alpha f, sigma^2), f held to [-1, 1]; KL to the start from the truth alpha^2 |f - x_0|^2 / (2 sigma^2)."""
    process = LinearBeta()
    D, shape = world.denoiser(process), damaged.y.shape
    f, kls = restorer(damaged), []
    for t in (0.2, 0.4, 0.7):
        solver = DifFace(estimate=restorer)
        mean, up = (solver.start(D, damaged, t, given(torch.full(shape, v).double())) for v in (0.0, 1.0))
        torch.testing.assert_close(mean, process.alpha(t) * f, atol=1e-12, rtol=0)
        truth = process.marginal(2 * damaged.y, t)
        kl = Normal(mean, up - mean).kl(Normal(truth.mean, process.sigma(t)))
        want = process.alpha(t) ** 2 * (f - 2 * damaged.y).square().sum(1) / (2 * process.sigma(t) ** 2)
        torch.testing.assert_close(kl, want, atol=1e-12, rtol=1e-10)
        kls.append(float(kl[0]))
    assert kls[0] > kls[1] > kls[2]
    far = sf.Measurement(Identity(), torch.tensor([[-3.0, 0.2, 4.0]]).double(), 0.0)
    still = given(torch.zeros(1, 3).double())
    held = DifFace().start(D, far, 0.3, still) / process.alpha(0.3)
    torch.testing.assert_close(held, torch.tensor([[-1.0, 0.2, 1.0]]).double())
    wide = DifFace(low=-2.0, high=3.0).start(D, far, 0.3, still) / process.alpha(0.3)
    torch.testing.assert_close(wide, torch.tensor([[-2.0, 0.2, 3.0]]).double())


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_way_down_is_ddim_of_the_mean(world, damaged, eta):
    D, x1 = world.denoiser(LinearBeta()), sf.Noise(2).normal(damaged.y)
    solver = DifFace(steps=7, eta=eta)
    got = list(solver.trajectory(D, damaged, sf.Noise(3), x1=x1))[-1].x
    times = grids.uniform(7, start=0.4)
    assert solver.times(LinearBeta()) == times
    want = sf.sample(MeanOnly(D), DDIM(eta), x1=x1, times=times, noise=sf.Noise(3))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def test_nothing_noised_is_the_restorer(world, damaged):
    solver = DifFace(t0=0.0, estimate=restorer)
    torch.testing.assert_close(solver(world.denoiser(LinearBeta()), damaged, sf.Noise(0)), restorer(damaged))


def test_the_error_of_the_restorer_contracts(world, damaged):
    """Chains from f(y) and from the truth with one noise: their distance at the end falls as t0 rises."""
    D, gaps = world.denoiser(LinearBeta()), []
    for t0 in (0.0, 0.2, 0.5, 0.9):
        a, b = (DifFace(t0=t0, steps=40, estimate=f)(D, damaged, sf.Noise(4)) for f in (restorer, lambda m: 2 * m.y))
        gaps.append(float((a - b).norm()))
    assert gaps[0] == pytest.approx(0.3, rel=1e-6)
    assert all(late < 0.9 * early for early, late in pairwise(gaps))


def test_calls_settings_and_batches(world, damaged, alone):
    D = Counted(world.denoiser(Table.linear()))
    DifFace()(D, damaged, sf.Noise(0))
    assert D.calls == 100
    assert (DifFace().t0, DifFace().eta) == (0.4, 0.5)
    masked = DifFace.inpainting()
    assert (masked.t0, masked.steps, masked.eta) == (0.48, 120, 1.0)
    alone(DifFace(steps=5, estimate=restorer), world.denoiser(LinearBeta()), damaged)
    for name in ("t0", "eta"):
        with pytest.raises(ValueError, match=f"{name} is a share"):
            DifFace(**{name: 1.1})
    with pytest.raises(TypeError, match="Clip is not linear: give `estimate`"):
        DifFace().check(Clip())
    DifFace(estimate=restorer).check(Clip())


def test_the_restorer_learns_the_median():
    """L1 on a law of two values in the ratio 3 : 1 settles at the commoner one, where squares would give the mean."""
    bias = torch.nn.Parameter(torch.tensor(0.5))

    class Constant(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = bias

        def forward(self, y):
            return self.bias.expand_as(y)

    x0 = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    objective = Absolute(Constant())
    assert objective(x0, torch.zeros(4, 2), sf.Noise(0)).tolist() == [0.5, 0.5, 0.5, 0.5]
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        objective(x0, torch.zeros(4, 2), sf.Noise(0)).mean().backward()
        optimizer.step()
    assert abs(bias.item()) < 0.02
