import math

import pytest
import torch

import sfumato as sf
from sfumato import grids
from sfumato.denoisers import MeanOnly
from sfumato.operators import Downsample, Identity, Mask
from sfumato.processes import LinearBeta
from sfumato.samplers import Ancestral
from sfumato.solvers import ILVR
from sfumato.solvers.ilvr import Bicubic


@pytest.fixture(scope="module")
def pictures():
    """Smooth Gaussian pictures of 16 x 16."""
    i = torch.arange(16).double()
    K = torch.exp(-0.5 * ((i[:, None] - i) / 2.0) ** 2)
    return sf.GaussianWorld(torch.zeros(1, 16, 16).double(), torch.kron(K, K))


def _bicubic(pictures, n=2):
    A = Downsample.bicubic(4, (16, 16))
    return sf.Measurement.simulate(A, pictures.sample(n, sf.Noise(1)), sigma=0.0, noise=sf.Noise(2))


def test_coarse_content_is_exact_with_a_projection(pictures):
    reference = pictures.sample(2, sf.Noise(1))
    m = sf.Measurement.simulate(Downsample(4), reference, sigma=0.0, noise=sf.Noise(2))
    x = ILVR(steps=20)(pictures.denoiser(LinearBeta()), m, sf.Noise(0))
    torch.testing.assert_close(m.operator(x), m.y, atol=1e-12, rtol=0)
    assert float((x - reference).norm()) > 0.1
    whole = sf.Measurement(Identity(), reference, 0.0)
    assert torch.equal(ILVR(steps=3)(pictures.denoiser(LinearBeta()), whole, sf.Noise(0)), reference)


def test_the_reference_of_a_step_has_the_level_just_reached(pair, given):
    """Not the level before it, one step too noisy; and the last one is clean."""
    world, m = pair
    process, z = LinearBeta(), torch.tensor([[0.5, 0.5]]).double()
    D, x = world.denoiser(process), torch.tensor([[0.1, 0.2]]).double()
    for t, s in [(0.7, 0.4), (0.4, 0.0)]:
        xs, _ = ILVR().step(D, m, x, t, s, m.y, given(z))
        expected = process.alpha(s) * 1.3 + process.sigma(s) * 0.5
        assert float(xs[0, 0]) == pytest.approx(expected, abs=1e-12)


def test_the_step_with_bicubic_both_ways(pictures, given):
    """x' - up(down(x')) + up(down(r)) of the whole reference, r at the new level, from y = down(reference) alone."""
    process, reference = LinearBeta(), pictures.sample(2, sf.Noise(1))
    m, D, up = _bicubic(pictures), pictures.denoiser(process), Bicubic(4)
    x, z = (sf.Noise(i).normal(reference) for i in (7, 8))
    t, s = 0.5, 0.4
    a, b = process.alpha(t), process.alpha(s)
    beta = 1 - (a / b) ** 2
    mean = (b * beta * D(x, t).mean + a / b * (1 - b**2) * x) / (1 - a**2)
    free = mean + math.sqrt(beta * (1 - b**2) / (1 - a**2)) * z
    r = b * reference + math.sqrt(1 - b**2) * z
    solver = ILVR(up=up)
    got, _ = solver.step(D, m, x, t, s, solver.init(D, m, x), given(z))
    phi = lambda v: up(m.operator(v))  # noqa: E731
    torch.testing.assert_close(got, free - phi(free) + phi(r), atol=1e-10, rtol=0)


def test_bicubic_is_not_idempotent(pictures):
    """|phi(phi(x)) - phi(x)| is small and not 0, so the result has phi(x_0) near phi(reference) only."""
    A, up = Downsample.bicubic(4, (16, 16)), Bicubic(4)
    x = pictures.sample(2, sf.Noise(1))
    once = up(A(x))
    again = float((up(A(once)) - once).norm() / once.norm())
    assert 1e-3 < again < 0.2
    m = _bicubic(pictures)
    out = ILVR(steps=20, up=up)(pictures.denoiser(LinearBeta()), m, sf.Noise(0))
    gap = float((up(A(out)) - up(m.y)).norm() / up(m.y).norm())
    assert 1e-3 < gap < 0.5


def test_bicubic_enlargement_reproduces_a_ramp():
    """The cubic kernel is exact on straight lines, away from the borders; and averages to the same mean."""
    ramp = torch.arange(8).double().expand(1, 1, 8, 8)
    big = Bicubic(4)(ramp)
    at = (torch.arange(32).double() + 0.5) / 4 - 0.5
    torch.testing.assert_close(big[0, 0, 16, 8:24], at[8:24], atol=1e-6, rtol=0)


def test_steps_below_until_are_free(world, measured):
    """From `until` on the chain is the ancestral sampler."""
    D, times = world.denoiser(LinearBeta()), (0.4, 0.3, 0.2, 0.1, 0.0)
    x = sf.Noise(9).normal(torch.zeros(3, 3).double())
    held, free = ILVR(until=0.2), ILVR(until=1.0)
    for t, s in [(0.4, 0.3), (0.3, 0.2)]:
        a, b = (v.step(D, measured, x, t, s, v.init(D, measured, x), sf.Noise(1))[0] for v in (held, ILVR()))
        assert torch.equal(a, b)
    for t, s in [(0.2, 0.1), (0.1, 0.0)]:
        a, b = (v.step(D, measured, x, t, s, v.init(D, measured, x), sf.Noise(1))[0] for v in (held, free))
        assert torch.equal(a, b)
    whole = list(free.trajectory(D, measured, sf.Noise(1), x1=x, times=times))[-1].x
    want = sf.sample(MeanOnly(D), Ancestral(), x1=x, times=times, noise=sf.Noise(1))
    torch.testing.assert_close(whole, want, atol=0, rtol=0)


def test_defaults(ddpm):
    """The public example: 100 of 1000 steps, a factor of 32; conditioned while the step's index of 100 exceeds 20."""
    example = ILVR.bicubic()
    assert (example.steps, example.up) == (100, Bicubic(32))
    times = example.times(ddpm)
    ends = [s for s in times[1:] if s >= example.until]
    assert len(ends) == 99 - 20  # indices 99 to 21
    assert ILVR().until == 0.0 and ILVR().up is None


def test_batches(world, measured, pictures, alone):
    alone(ILVR(steps=6), world.denoiser(LinearBeta()), measured)
    alone(ILVR(steps=4, up=Bicubic(4), until=0.3), pictures.denoiser(LinearBeta()), _bicubic(pictures))


def test_until_is_a_time():
    with pytest.raises(ValueError, match="ILVR: until"):
        ILVR(until=20.0)


def test_a_mask_needs_no_enlargement(world):
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0, 1.0])), torch.tensor([[0.5, 0.0, 0.1]]).double(), 0.0)
    x = list(ILVR().trajectory(world.denoiser(LinearBeta()), m, sf.Noise(0), times=grids.uniform(5)))[-1].x
    assert torch.equal(x[:, ::2], m.y[:, ::2])
