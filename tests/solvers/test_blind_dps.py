import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Counted, Examples, MeanOnly
from sfumato.operators import Blur
from sfumato.processes import LinearBeta, Table
from sfumato.samplers import Ancestral
from sfumato.solvers import DPS, BlindDPS

SIZE = 12
TAPS = torch.tensor([[0.7, 0.3, 0.0], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]]).double()


def scaled(taps):
    """Kernels of sum 1 as the prior's data, (K, 1, taps)."""
    return (2 * taps / taps.amax(-1, keepdim=True) - 1)[:, None]


@pytest.fixture(scope="module")
def blurred():
    """Rough signals with a mean, two of them blurred by the first kernel; the operator starts at another."""
    mean = 0.8 * sf.Noise(2).normal(torch.zeros(1, SIZE).double())
    world = sf.GaussianWorld(mean, 0.2 * torch.eye(SIZE).double())
    m = sf.Measurement.simulate(Blur(TAPS[0], (SIZE,)), world.sample(2, sf.Noise(1)), sigma=0.1, noise=sf.Noise(2))
    return world, sf.Measurement(Blur(torch.ones(3).double() / 3, (SIZE,)), m.y, 0.1)


class Pictures(sf.Noise):
    """Draws for states of the picture's shape; zeros for kernels."""

    def normal(self, like):
        return super().normal(like) if like.shape[-1] == SIZE else torch.zeros_like(like)


def test_where_the_prior_knows_the_kernel_it_is_dps(blurred):
    world, m = blurred
    D = world.denoiser(LinearBeta())
    known = sf.Measurement(Blur(TAPS[0], (SIZE,)), m.y, m.sigma)
    blind = BlindDPS(steps=12, zeta=0.2, prior=Examples(scaled(TAPS[:1]), LinearBeta()))
    last = list(blind.trajectory(D, m, Pictures(3)))[-1]
    torch.testing.assert_close(last.x, DPS(steps=12, zeta=0.2)(D, known, Pictures(3)), atol=1e-12, rtol=0)
    torch.testing.assert_close(last.memory.kernel, TAPS[:1, None].expand(2, 1, 3), atol=1e-12, rtol=0)


def objective(D, prior, m, x, k, t, sparsity):
    """The norm, by a convolution written out."""
    kernel = (prior(k, t).mean + 1) / 2
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    picture = D(x, t).mean
    blur = sum(kernel[:, :, i : i + 1] * picture.roll(i - 1, 2) for i in range(3))
    return (m.y - blur).pow(2).sum((1, 2)).sqrt() + sparsity * kernel.abs().sum((1, 2))


@pytest.mark.parametrize("ramp", [False, True])
def test_both_chains_go_down_the_gradient_of_one_norm(blurred, ramp):
    """Central differences through both denoisers, row by row; negative taps are pulled up by the l1 term."""
    world, m = blurred
    process, other = LinearBeta(), LinearBeta(0.2, 15.0)
    D = world.denoiser(process)
    prior = sf.GaussianWorld(torch.tensor([[-1.4, 0.5, -0.2]]).double(), 0.3 * torch.eye(3).double()).denoiser(other)
    x, k = (sf.Noise(i).normal(torch.zeros(2, 1, n).double()) for i, n in ((4, SIZE), (5, 3)))
    t, s = 0.5, 0.45
    settings = {"ramp": ramp, "prior": prior}
    start = BlindDPS(**settings).init(D, m, x)._replace(state=k)
    free, still = BlindDPS(zeta=0.0, **settings).step(D, m, x, t, s, start, sf.Noise(0))
    got, moved = BlindDPS(zeta=0.3, sparsity=0.4, **settings).step(D, m, x, t, s, start, sf.Noise(0))
    law = other.reverse(sf.Estimate(prior(k, t).mean), k, t, s)
    noise = sf.Noise(0)
    noise.normal(x)
    torch.testing.assert_close(still.state, law.mean + law.std * noise.normal(k), atol=1e-12, rtol=0)
    zeta = 0.3 * process.alpha(t) if ramp else 0.3
    h = 1e-5
    assert float((prior(k, t).mean + 1).amin()) < 0

    def slope(which, i):
        e = torch.zeros_like((x, k)[which])
        e[..., i] = h
        values = [objective(D, prior, m, *((x + d * e, k) if which == 0 else (x, k + d * e)), t, 0.4) for d in (1, -1)]
        return (values[0] - values[1]) / (2 * h)

    for which, change in ((0, got - free), (1, moved.state - still.state)):
        numeric = torch.stack([slope(which, i) for i in range(change.shape[-1])], -1)[:, None]
        torch.testing.assert_close(change, -zeta * numeric, atol=1e-8, rtol=0)


def test_without_a_pull_the_kernel_is_a_draw_of_its_prior(blurred):
    """zeta = 0: the kernel's chain is ancestral sampling from its own start, whatever y."""
    world, m = blurred
    prior = sf.GaussianWorld(torch.ones(1, 3).double(), 0.01 * torch.eye(3).double()).denoiser(LinearBeta())
    D, tape = world.denoiser(LinearBeta()), []

    class Kernels(sf.Noise):
        def normal(self, like):
            z = super().normal(like)
            if like.shape[-1] == 3:
                tape.append(z)
            return z

    last = list(BlindDPS(steps=8, zeta=0.0, prior=prior).trajectory(D, m, Kernels(1)))[-1]

    class Replay(sf.Noise):
        def normal(self, like):
            return tape.pop(0)

    start = prior.process.sigma(1.0) * tape.pop(0)
    want = sf.sample(MeanOnly(prior), Ancestral(), x1=start, times=sf.grids.uniform(8), noise=Replay(0))
    torch.testing.assert_close(last.memory.state, want, atol=1e-12, rtol=0)


def test_it_finds_which_kernel_it_was(blurred):
    """Three kernels, of which y decides one (its evidence is known); most of the chains end there."""
    world, m = blurred
    cov, eye = 0.2 * torch.eye(SIZE).double(), torch.eye(SIZE).double()
    evidence = []
    for taps in TAPS:
        A = Blur(taps, (SIZE,))(eye[:, None])[:, 0].T
        law = torch.distributions.MultivariateNormal(A @ world.mean.flatten(), A @ cov @ A.T + 0.01 * eye)
        evidence.append(law.log_prob(m.y[0, 0]))
    share = torch.softmax(torch.stack(evidence), 0)
    assert float(share[0]) > 0.95
    one = sf.Measurement(m.operator, m.y[:1], m.sigma)
    solver = BlindDPS(steps=100, zeta=0.3, prior=Examples(scaled(TAPS), LinearBeta()))
    last = list(solver.trajectory(world.denoiser(LinearBeta()), one.repeat(60), sf.Noise(6)))[-1]
    right = ((last.memory.kernel[:, 0] - TAPS[0]).abs().amax(1) < 0.05).double().mean()
    blind = list(
        BlindDPS(steps=100, zeta=0.0, prior=solver.prior).trajectory(
            world.denoiser(LinearBeta()), one.repeat(60), sf.Noise(6)
        )
    )[-1]
    chance = ((blind.memory.kernel[:, 0] - TAPS[0]).abs().amax(1) < 0.05).double().mean()
    print(share, right, chance)
    assert float(right) > 0.8 and float(chance) < 0.55


def test_the_usual_prior_and_calls(blurred):
    """Square kernels, each from -1 to 1; a call of each denoiser for each step."""
    world = sf.GaussianWorld(torch.zeros(1, 8, 8).double(), torch.eye(64).double())
    m = sf.Measurement(Blur(torch.ones(5, 5).double(), (8, 8)), torch.zeros(2, 1, 8, 8).double(), 0.1)
    D = Counted(world.denoiser(Table.linear()))
    solver = BlindDPS(steps=4, examples=9)
    last = list(solver.trajectory(D, m, sf.Noise(0)))[-1]
    known = last.memory.prior.examples
    assert known.shape == (9, 1, 5, 5) and D.calls == 4 and len(solver.times(D.process)) == 5
    torch.testing.assert_close(known.amax((1, 2, 3)), torch.ones(9).double())
    assert float(known.amin()) >= -1.0
    torch.testing.assert_close(last.memory.kernel.sum((1, 2, 3)), torch.ones(2).double())
    # five normal kernels, none narrower than half a tap or wider than a quarter of the width, then four shakes
    middle, beside = (known[:5, 0, 2, i] for i in (2, 3))
    ratio = torch.log((middle + 1) / (beside + 1))
    assert bool(((ratio > 0.5 / 1.25**2 - 1e-6) & (ratio < 0.5 / 0.5**2 + 1e-6)).all())
    uneven = (known - known.flip(3)).abs().amax((1, 2, 3))
    assert float(uneven[:5].max()) < 1e-6 and float(uneven[5:].min()) > 1e-4
    flat = sf.Measurement(Blur(torch.ones(3).double(), (SIZE,)), blurred[1].y, 0.1)
    with pytest.raises(ValueError, match="square"):
        solver.init(D, flat, flat.y)


def test_batches_and_settings(blurred, alone):
    world, m = blurred
    alone(BlindDPS(steps=6, prior=Examples(scaled(TAPS), LinearBeta())), world.denoiser(LinearBeta()), m)
    assert (BlindDPS().zeta, BlindDPS().ramp, BlindDPS().steps) == (0.3, False, 1000)
    assert (BlindDPS.public().zeta, BlindDPS.public().ramp) == (1.0, True)
    with pytest.raises(TypeError, match="Veil has other parameters"):
        BlindDPS().check(sf.operators.Veil(0.5, torch.zeros(3)))
    with pytest.raises(TypeError, match="no parameters"):
        BlindDPS().check(sf.operators.Identity())
