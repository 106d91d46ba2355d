import math
from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Counted, Denoiser
from sfumato.recipes.dirac import Blurring, Degrading, Hole, Incremental, Recipe, Reconstruct
from sfumato.samplers import Ancestral

N = 8


@pytest.fixture
def x():
    return sf.Noise(1).normal(torch.zeros(3, 2, N, N).double())


class Known(Denoiser):
    """The exact denoiser of signals N(0, c) in each frequency under a blur: all is a product there."""

    def __init__(self, process, power):
        super().__init__()
        self.process, self.power = process, power

    def gain(self, t):
        f = torch.fft.fftfreq(N).double()
        h = torch.exp(-2 * (math.pi * self.process.degrade.std * t * f) ** 2)
        return h, self.power * h / (self.power * h**2 + self.process.sigma(t) ** 2)

    def forward(self, xt, t, cond=None):
        return sf.Estimate(torch.fft.ifft(self.gain(t)[1] * torch.fft.fft(xt)).real)


class Perfect(Denoiser):
    def __init__(self, process, x0):
        super().__init__()
        self.process, self.x0 = process, x0

    def forward(self, xt, t, cond=None):
        return sf.Estimate(self.x0)


def test_blurs_make_a_semigroup(x):
    """Standard deviations 1.2 and then 0.9 are one of 1.5; 0 is nothing; a time for each row; the mean stays."""
    blur = Blurring(2.0)
    torch.testing.assert_close(blur(blur(x, 0.6), 0.45), blur(x, 0.75), atol=1e-12, rtol=0)
    torch.testing.assert_close(blur(x, 0.0), x, atol=1e-12, rtol=0)
    rows = blur(x, torch.tensor([0.1, 0.5, 0.9]).double())
    torch.testing.assert_close(rows, torch.cat([blur(x[i : i + 1], t) for i, t in enumerate((0.1, 0.5, 0.9))]))
    torch.testing.assert_close(blur(x, 1.0).mean((2, 3)), x.mean((2, 3)))


def test_a_blur_is_the_normal_kernel():
    """A unit impulse becomes the normal density of the stated width, along each axis."""
    dot = torch.zeros(1, 1, 64, 32).double()
    dot[0, 0, 0, 0] = 1.0
    got = Blurring(4.0)(dot, 0.5)[0, 0]
    row, column = (torch.exp(-0.5 * (torch.arange(6).double() / 2.0) ** 2) for _ in range(2))
    want = row[:, None] * column / (2 * math.pi * 4.0)
    torch.testing.assert_close(got[:6, :6], want, atol=1e-9, rtol=0)


def test_a_hole_only_grows(x):
    hole = Hole(low=0.1, high=5.0, power=4.0)
    assert torch.equal(hole(x, 0.0), x)
    shares = [hole(torch.ones_like(x), t) for t in (1e-6, 0.2, 0.5, 1.0)]
    assert all(bool((b <= a).all()) for a, b in pairwise(shares))
    assert float(shares[1][0, 0, N // 2, N // 2]) == 0.0
    width = 0.1 + 0.5 * 4.9
    at = (1 - math.exp(-0.5 * (1 + 4) / width**2)) ** 4
    assert float(shares[2][0, 0, N // 2 + 1, N // 2 - 2]) == pytest.approx(at, rel=1e-12)
    rows = hole(x, torch.tensor([0.0, 0.5, 1.0]).double())
    torch.testing.assert_close(rows, torch.stack([x[0], hole(x, 0.5)[1], hole(x, 1.0)[2]]))


def test_a_perfect_estimate_walks_the_path_of_the_damage(x):
    """y = A_t x_0 + n goes to A_s x_0 + (sigma_s / sigma_t)^2 n, with fresh variance sigma_t^2 - sigma_s^2."""
    process = Degrading(Blurring(2.0), 0.1, 0.4)
    assert (process.sigma(0.0), process.sigma(1.0)) == (pytest.approx(0.1), pytest.approx(0.4))
    assert process.sigma(0.5) == pytest.approx(0.2)
    n = sf.Noise(2).normal(x)
    y = process.degrade(x, 0.8) + n
    law = process.reverse(sf.Estimate(x), y, 0.8, 0.3)
    ratio = (process.sigma(0.3) / process.sigma(0.8)) ** 2
    torch.testing.assert_close(law.mean, process.degrade(x, 0.3) + ratio * n, atol=1e-12, rtol=0)
    assert law.std == pytest.approx(math.sqrt(process.sigma(0.8) ** 2 - process.sigma(0.3) ** 2))
    marginal = process.marginal(x, 0.3)
    torch.testing.assert_close(marginal.mean, process.degrade(x, 0.3))
    assert marginal.std == pytest.approx(process.sigma(0.3))
    for way in (lambda: process.forward(x, 0.1, 0.2), lambda: process.prior(x)):
        with pytest.raises(TypeError, match="Degrading"):
            way()


def test_the_law_of_the_state_is_kept():
    """On Gaussian signals the reverse run has the variance h^2 c + sigma^2, as steps shrink: by recursion."""
    process = Degrading(Blurring(1.5), 0.1, 0.5)
    power = 1 / (1 + 20 * torch.fft.fftfreq(N).double() ** 2)
    D = Known(process, power)

    def worst(steps):
        h, _ = D.gain(1.0)
        var = h**2 * power + process.sigma(1.0) ** 2
        for t, s in pairwise(sf.grids.uniform(steps, end=0.1)):
            unit = torch.eye(N).double()[:, None]
            law = process.reverse(D(unit, t), unit, t, s)
            slope = torch.fft.fft(law.mean[0, 0]).real / torch.fft.fft(unit[0, 0]).real
            var = slope**2 * var + law.std**2
        h, _ = D.gain(0.1)
        return float((var / (h**2 * power + process.sigma(0.1) ** 2) - 1).abs().max())

    few, many = worst(50), worst(200)
    assert many < 0.02 and few / many == pytest.approx(4.0, rel=0.15)


def test_guidance_goes_down_the_misfit():
    """In one frequency D = k y, A_1 D = h k y: the pull is c (sigma_t^2 - sigma_s^2) 2 h k (h k x - y), both scales."""
    process = Degrading(Blurring(1.5), 0.1, 0.5)
    D = Known(process, torch.ones(N).double())
    y, x = (sf.Noise(i).normal(torch.zeros(2, 1, N).double()) for i in (1, 2))
    t, s = 0.6, 0.5
    free = Reconstruct(y, 0.0, guidance=0.0).step(D, x, t, s, None, sf.Noise(3))[0]
    hk = D.gain(1.0)[0] * D.gain(t)[1]
    gap = hk * torch.fft.fft(x) - torch.fft.fft(y)
    g = torch.fft.ifft(2 * hk * gap).real
    fresh = process.sigma(t) ** 2 - process.sigma(s) ** 2
    size = torch.fft.ifft(gap).real.flatten(1).norm(dim=1).reshape(2, 1, 1)
    for relative, c in ((False, 0.5 * 0.8 / 0.5**2), (True, 0.8 / size)):
        got = Reconstruct(y, 0.0, 0.8, relative).step(D, x, t, s, None, sf.Noise(3))[0]
        torch.testing.assert_close(got, free - c * fresh * g, atol=1e-12, rtol=0)
    plain = Ancestral().step(D, x, t, s, None, sf.Noise(3))[0]
    torch.testing.assert_close(free, plain, atol=1e-12, rtol=0)


def test_early_stops_and_calls():
    """One call a step, down to the first time below `stop`; the estimate is the end, or the state if not `clean`."""
    recipe = Recipe(degradation="blur", width=1.5, guidance=0.0)
    times = recipe.times()
    assert times[0] == 1.0 and times[-1] == pytest.approx(0.24) and len(times) == 39
    assert Recipe(stop=0.0).times()[-1] == 0.0 and len(Recipe(stop=0.0).times()) == 51
    assert Recipe(stop=1.0).times() == (1.0, pytest.approx(0.98))
    assert len(Recipe(dt=0.3, stop=0.0).times()) == 5 and Recipe(dt=0.3, stop=0.0).times()[-1] == 0.0
    process = recipe.process()
    D = Counted(Known(process, torch.ones(N).double()))
    y = sf.Noise(1).normal(torch.zeros(2, 1, N).double())
    out = recipe.restore(D, y, sf.Noise(0))
    assert D.calls == 38
    x0 = sf.Noise(5).normal(y)
    torch.testing.assert_close(recipe.restore(Perfect(process, x0), y, sf.Noise(0)), x0)
    once = Recipe(width=1.5, stop=1.0).restore(D, y, sf.Noise(0))
    torch.testing.assert_close(once, D(y, 1.0).mean)
    assert float((out - once).norm()) > 0.1
    state = Recipe(width=1.5, guidance=0.0, stop=0.0, clean=False, low=0.01, high=0.05)
    process = state.process()
    zero = torch.zeros(1000, 1, N).double()
    path = state.restore(Perfect(process, zero), zero, sf.Noise(0))
    var = 0.0
    for t, s in pairwise(state.times()):
        var = (process.sigma(s) / process.sigma(t)) ** 4 * var + process.sigma(t) ** 2 - process.sigma(s) ** 2
    assert float(path.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / path.numel()))


@pytest.mark.parametrize("increment", [0.0, 0.3, 1.0])
def test_the_loss(x, increment):
    """|A_tau (D - x_0)|^2 over sigma^2 for an estimate that errs by a known picture."""
    process = Degrading(Blurring(2.0), 0.1, 0.4)
    wrong = sf.Noise(3).normal(x)
    loss = Incremental(Perfect(process, x + wrong), increment)(x, None, sf.Noise(4))
    t = sf.Noise(4).uniform(torch.empty(3, dtype=torch.float64))
    for i in range(3):
        tau = max(float(t[i]) - increment, 0.0)
        want = Blurring(2.0)(wrong[i : i + 1], tau).square().mean() / (0.1 * 4.0 ** float(t[i])) ** 2
        assert float(loss[i]) == pytest.approx(float(want), rel=1e-9)


def test_it_learns_to_sharpen():
    """A tiny network on one family of signals: the restored ones err less than the blurred."""
    recipe = Recipe(channels=1, widths=(8, 8), blocks=1, attention=(), dims=1, dropout=0.0, width=2.0, guidance=0.0)
    torch.manual_seed(0)
    model = recipe.model()
    phase = sf.Noise(1).uniform(torch.zeros(24, 1, 1))
    x0 = torch.sign(torch.sin(2 * math.pi * (torch.arange(32) / 16 + phase)))
    objective = recipe.objective(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for i in range(60):
        optimizer.zero_grad()
        objective(x0, None, sf.Noise(i)).mean().backward()
        optimizer.step()
    y = model.process.marginal(x0, 1.0).sample(sf.Noise(7))
    out = recipe.restore(model, y, sf.Noise(8))
    before, after = ((v - x0).square().mean().item() for v in (y, out))
    assert after < 0.7 * before


def test_settings():
    assert Recipe().process() == Degrading(Blurring(3.0), 0.02, 0.1)
    hole = Recipe.inpainting()
    assert hole.process().degrade == Hole(0.1, 50.0, 4.0)
    assert (hole.dt, hole.relative, hole.clean, hole.guidance) == (0.005, True, False, 0.5)
    for wrong, words in (({"degradation": "rain"}, "blur or hole"), ({"dt": 0.0}, "0 < dt"), ({"stop": 1.5}, "stop")):
        with pytest.raises(ValueError, match=words):
            Recipe(**wrong)
