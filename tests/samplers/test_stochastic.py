"""SDE predictors, Langevin moves, compositions, CAS and consistency sampling, against scalar recursions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import GaussianWorld, MixtureWorld, Noise, Seeds, grids, sample
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import EDM, Anchored, Cosine, Geometric, LinearBeta, Rectified, Table
from sfumato.samplers import (
    CAS,
    DDIM,
    Ancestral,
    Blend,
    Chain,
    Consistency,
    EulerMaruyama,
    Langevin,
    ReverseDiffusion,
    Sampler,
    SNRLangevin,
    UniPC,
    simulate,
    trajectory,
)


def gaussian(v: float, m: float = 0.0) -> GaussianWorld:
    return GaussianWorld(torch.tensor([m], dtype=torch.float64), torch.tensor([[v]], dtype=torch.float64))


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


class Basis(Noise):
    """Row 0 sees no noise, row 1 + i sees 1.0 at draw i alone: a linear sampler's output is then its own expansion."""

    def __init__(self) -> None:
        super().__init__(0)
        self.draws = 0

    def normal(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        z[1 + self.draws] = 1.0
        self.draws += 1
        return z


def spread(D: Denoiser, sampler: Sampler, times: tuple[float, ...], start: float, draws: int) -> float:
    """Output variance on centred Gaussian data from a start of this variance, exactly."""
    x = torch.zeros(1 + draws, 1, dtype=torch.float64)
    x[0] = math.sqrt(start)
    return float(sample(D, sampler, x1=x, times=times, noise=Basis()).square().sum())


@pytest.mark.parametrize("sampler", [ReverseDiffusion(), Ancestral(), EulerMaruyama()], ids=repr)
def test_predictors_are_first_order(sampler: Sampler) -> None:
    """Data N(0, 0.25), LinearBeta, from the exact marginal at t = 1 to t = 0: the error in variance halves."""
    process = LinearBeta()
    start = process.alpha(1.0) ** 2 * 0.25 + process.sigma(1.0) ** 2
    D = Shrink(process, 0.25)
    errors = [spread(D, sampler, grids.uniform(n), start, n) - 0.25 for n in (1000, 2000)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.1)


def test_errors_of_the_predictors() -> None:
    """The recursion V <- A^2 V + b^2 of each, done by hand, at N = 1000.

    Reverse diffusion on the table beta_n = beta(n / N) / N: 1.4e-3. Euler-Maruyama with the marginals of the SDE:
    1 + beta / 2 - beta / S on x, S the variance of x_t.
    """
    N, v = 1000, 0.25
    betas = [(0.1 + 19.9 * n / N) / N for n in range(1, N + 1)]
    process = Table.from_betas(betas)
    start = process.alpha(1.0) ** 2 * v + process.sigma(1.0) ** 2
    V, W, sde = start, LinearBeta().alpha(1.0) ** 2 * v + LinearBeta().sigma(1.0) ** 2, LinearBeta()
    for n in range(N, 0, -1):
        beta, bar, bar_sde = betas[n - 1], process.alpha_bars[n - 1], math.exp(-sde.integral(n / N))
        V = (2 - math.sqrt(1 - beta) - beta / (bar * v + 1 - bar)) ** 2 * V + beta * (n > 1)
        W = (1 + beta / 2 - beta / (bar_sde * v + 1 - bar_sde)) ** 2 * W + beta * (n > 1)
    assert V - v == pytest.approx(1.4e-3, rel=0.05)
    out = spread(Shrink(process, v), ReverseDiffusion(), grids.uniform(N), start, N)
    assert out == pytest.approx(V, rel=1e-9)
    start = sde.alpha(1.0) ** 2 * v + sde.sigma(1.0) ** 2
    out = spread(Shrink(sde, v), EulerMaruyama(), grids.uniform(N), start, N)
    assert out == pytest.approx(W, rel=1e-9)


class Shrink(Denoiser):
    """The denoiser of N(0, v) in any number of dimensions, without its variance."""

    def __init__(self, process: Any, v: float) -> None:
        super().__init__()
        self.process, self.v = process, v

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        return Estimate(xt * (alpha * self.v / (alpha**2 * self.v + sigma**2)))


def test_reverse_diffusion_on_a_table_is_the_papers_step() -> None:
    """x (2 - sqrt(1 - beta)) + beta score + sqrt(beta) z, and its mean alone in the last step."""
    process, x = Table.linear(), column(0.3, -1.2)
    D = gaussian(0.25, 0.4).denoiser(process)
    n = 400
    beta = 1e-4 + (0.02 - 1e-4) * (n - 1) / 999
    bar = process.alpha_bars[n - 1]
    score = -(x - math.sqrt(bar) * 0.4) / (bar * 0.25 + 1 - bar)
    out, _ = ReverseDiffusion().step(D, x, n / 1000, (n - 1) / 1000, None, Noise(2))
    expected = x * (2 - math.sqrt(1 - beta)) + beta * score + math.sqrt(beta) * Noise(2).normal(x)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    for sampler in (ReverseDiffusion(), EulerMaruyama()):
        a, b = (sampler.step(D, x, 0.001, 0.0, None, Noise(k))[0] for k in (0, 1))
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_euler_maruyama_step() -> None:
    """x - (f x - g^2 score) dt + g sqrt(dt) z with f = -beta / 2, g^2 = beta."""
    process, x, t, dt = LinearBeta(), column(0.3, -1.2), 0.5, 0.25
    D = gaussian(0.25).denoiser(process)
    score = -x / (process.alpha(t) ** 2 * 0.25 + process.sigma(t) ** 2)
    expected = x + (0.5 * process.beta(t) * x + process.beta(t) * score) * dt
    expected = expected + math.sqrt(process.beta(t) * dt) * Noise(5).normal(x)
    out, memory = EulerMaruyama().step(D, x, t, t - dt, "kept", Noise(5))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert memory == "kept"


@pytest.mark.parametrize("sampler", [EulerMaruyama(), Langevin(), SNRLangevin(), CAS(0.5)], ids=repr)
def test_shift_and_scale_carry_over(sampler: Sampler) -> None:
    """x = k u + m at every time where x_0 = k v + m, since alpha x_0 + (1 - alpha) m + k sigma eps is."""
    inner, m, k = LinearBeta(), 0.7, 2.0
    process = Anchored(inner, anchor=torch.full((1, 1), m, dtype=torch.float64), scale=torch.full((1, 1), k).double())
    u = column(0.4, -1.1)
    plain, _ = sampler.step(gaussian(0.3, -0.2).denoiser(inner), u, 0.5, 0.48, None, Noise(1))
    moved, _ = sampler.step(gaussian(0.3 * k**2, -0.2 * k + m).denoiser(process), u * k + m, 0.5, 0.48, None, Noise(1))
    torch.testing.assert_close(moved, plain * k + m, rtol=1e-10, atol=1e-10)


def test_reverse_diffusion_moves_about_the_shift() -> None:
    """(2 - r) (x - shift_t) + shift_s + q^2 score + q z with a scale k in q and in the score."""
    inner, m, k, x = LinearBeta(), 0.7, 2.0, column(0.4, -1.1)
    process = Anchored(inner, anchor=torch.full((1, 1), m, dtype=torch.float64), scale=torch.full((1, 1), k).double())
    t, s = 0.5, 0.48
    (a, b), (p, q) = (inner.alpha(t), inner.alpha(s)), (inner.sigma(t), inner.sigma(s))
    spread = k * math.sqrt(p**2 - (a / b * q) ** 2)
    # data N(-0.2, 0.3): x_t ~ N(-0.2 a + (1 - a) m, 0.3 a^2 + k^2 p^2)
    score = -(x + 0.2 * a - (1 - a) * m) / (0.3 * a**2 + (k * p) ** 2)
    expected = (2 - a / b) * (x - (1 - a) * m) + (1 - b) * m + spread**2 * score + spread * Noise(1).normal(x)
    out, _ = ReverseDiffusion().step(gaussian(0.3, -0.2).denoiser(process), x, t, s, None, Noise(1))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def test_simulate_is_euler_maruyama_in_both_directions() -> None:
    """dx = -x dt + b dw: each step multiplies by 1 - dt and adds b sqrt|dt| z; without diffusion nothing is drawn."""
    x = column(1.0, 2.0)
    states = list(simulate(lambda x, t: -x, lambda x, t: 0.3, x, (0.0, 0.5, 0.6), Noise(0)))
    stream = Noise(0)
    first = 0.5 * x + 0.3 * math.sqrt(0.5) * stream.normal(x)
    second = 0.9 * first + 0.3 * math.sqrt(0.1) * stream.normal(x)
    assert len(states) == 2
    torch.testing.assert_close(states[0], first)
    torch.testing.assert_close(states[1], second)
    (back,) = simulate(lambda x, t: t * x, lambda x, t: torch.full_like(x, 2.0), x, (1.0, 0.75), Noise(4))
    torch.testing.assert_close(back, 0.75 * x + 2.0 * 0.5 * Noise(4).normal(x))
    stream = Noise(0)
    list(simulate(lambda x, t: x, lambda x, t: 0.0, x, (0.0, 1.0), stream))
    torch.testing.assert_close(stream.normal(x), Noise(0).normal(x), rtol=0, atol=0)


def test_langevin_settles_where_theory_says() -> None:
    """On x_t ~ N(0, V): AR(1) with factor 1 - e / V, stationary variance V / (1 - e / (2 V)) (SGLD card, e = a / 2)."""
    process, t = EDM(), 0.4
    V = 0.25 + process.sigma(t) ** 2
    D, size, moves = gaussian(0.25).denoiser(process), 0.3, 60
    e = size * process.sigma(t) ** 2
    x = torch.zeros(1 + moves, 1, dtype=torch.float64)
    x[0] = 1.5
    out, _ = Langevin(size, moves).step(D, x, t, t, None, Basis())
    assert out[0].item() == pytest.approx(1.5 * (1 - e / V) ** moves, rel=1e-9)
    assert out[1:].square().sum().item() == pytest.approx(
        V / (1 - e / (2 * V)) * (1 - (1 - e / V) ** (2 * moves)), rel=1e-9
    )


def test_annealed_langevin_ends_at_the_variances_of_the_card() -> None:
    """NCSN's ladder 1 -> 0.01, L = 10, T = 100, e = 2e-5, data N(0, 0.05), start 1 / 12: 0.05164 with the code's step
    (drift a), 0.05314 with the formula's (drift a / 2); target 0.0501."""
    process = Geometric(0.01, 1.0)
    D, times = gaussian(0.05).denoiser(process), (1.0, *grids.uniform(9))
    for size, card in ((0.2, 0.05164), (0.1, 0.05314)):
        assert spread(D, Langevin(size, 100), times, 1 / 12, 1000) == pytest.approx(card, abs=6e-6)


def test_ratio_of_ncsnv2() -> None:
    """Point data: Var / sigma_i^2 after T = 5 moves from the level before is 1.0555 for the CIFAR-10 values."""
    gamma = (50 / 0.01) ** (1 / 231)
    process = Geometric(0.01, 50.0)
    D = gaussian(0.0).denoiser(process)
    t = 1 - 100 / 231
    s = 1 - 101 / 231
    start = process.sigma(t) ** 2
    assert start == pytest.approx((gamma * process.sigma(s)) ** 2, rel=1e-9)
    x = torch.zeros(6, 1, dtype=torch.float64)
    x[0] = math.sqrt(start)
    out, _ = Langevin(6.2e-6 / 0.01**2, 5).step(D, x, t, s, None, Basis())
    assert out.square().sum().item() / process.sigma(s) ** 2 == pytest.approx(1.0555, abs=5e-5)


def test_snr_corrector_settles_at_v_times_one_plus_r_squared() -> None:
    """x_t ~ N(0, V) in many dimensions: the step adapts to |score|, and the variance settles at V (1 + r^2)."""
    process, d = EDM(1.0, 80.0), 2000
    V = 1.5 + 1.0
    D, stream = Shrink(process, 1.5), Noise(1)
    x = math.sqrt(V * 1.09) * Noise(0).normal(torch.zeros(40, d, dtype=torch.float64))
    seen = []
    for _ in range(12):
        x, _ = SNRLangevin(0.3, 8).step(D, x, 0.0, 0.0, None, stream)
        seen.append(x.square().mean().item() / V)
    # 12 nearly independent means over 80000 numbers: a standard error of 0.0016. A fixed step gives 1.0989.
    assert sum(seen) / 12 == pytest.approx(1 + 0.3**2, abs=4 * 0.0016)


@pytest.mark.parametrize("sampler", [Langevin(), SNRLangevin()], ids=repr)
def test_correctors_rest_where_there_is_no_noise(sampler: Sampler) -> None:
    D, x, stream = gaussian(0.3).denoiser(Rectified()), column(0.2), Noise(0)
    out, memory = sampler.step(D, x, 0.0, 0.0, "m", stream)
    assert out is x and memory == "m"
    torch.testing.assert_close(stream.normal(x), Noise(0).normal(x), rtol=0, atol=0)


@pytest.mark.parametrize("make", [Langevin, SNRLangevin])
def test_settings_of_correctors_are_checked(make: Any) -> None:
    for wrong in ((0.0, 1), (-0.1, 1), (0.1, 0)):
        with pytest.raises(ValueError, match=f"> 0 and moves >= 1, got {wrong[0]} and {wrong[1]}"):
            make(*wrong)


def test_chain_predicts_then_corrects_at_the_new_level() -> None:
    process, x = LinearBeta(), column(0.4, -0.6)
    D = gaussian(0.3).denoiser(process)
    chain = Chain(UniPC(2), Langevin(0.1, 2))
    steps = list(trajectory(D, chain, x, (0.9, 0.7, 0.5), Noise(1)))
    stream, memory, y = Noise(1), None, x
    for t, s in ((0.9, 0.7), (0.7, 0.5)):
        y, memory = UniPC(2).step(D, y, t, s, memory, stream)
        y, _ = Langevin(0.1, 2).step(D, y, s, s, None, stream)
    torch.testing.assert_close(steps[-1].x, y, rtol=0, atol=0)
    assert chain.restart(D, x, steps[-1].memory) == (None, None)
    blend = Blend(chain, torch.ones(1), torch.zeros(1))
    assert blend.init(D, x) == (None, None) and blend.restart(D, x, steps[-1].memory) == (None, None)


def test_blend_writes_fresh_draws_of_the_known_part() -> None:
    process = LinearBeta()
    world = GaussianWorld(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    D, x = world.denoiser(process), torch.tensor([[0.3, -0.4], [1.0, 0.2]], dtype=torch.float64)
    mask, y = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 5.0])
    out, _ = Blend(DDIM(), mask, y).step(D, x, 0.6, 0.4, None, Noise(7))
    free = DDIM().step(D, x, 0.6, 0.4, None, Noise(0))[0]
    known = process.alpha(0.4) * y.double() + process.sigma(0.4) * Noise(7).normal(x)
    torch.testing.assert_close(out[:, 0], known[:, 0])
    torch.testing.assert_close(out[:, 1], free[:, 1])
    end = sample(D, Blend(DDIM(), mask, y), x1=x, times=(0.6, 0.3, 0.0), noise=Noise(0))
    assert end[:, 0].tolist() == pytest.approx([0.8, 0.8], rel=1e-6)


def test_cas_keeps_the_noise_of_the_ladder() -> None:
    """Point data and exact score: after each level Var x is the next level's exactly; a Langevin move a level is not
    so (ladder 10 -> 0.1, L = 20, size 0.35: 2.229 sigma_L^2 at the end)."""
    process = Geometric(0.1, 10.0)
    D, times = gaussian(0.0).denoiser(process), grids.uniform(19)
    for n in (1, 7, 19):
        assert spread(D, CAS(0.35), times[: n + 1], 100.0, n) == pytest.approx(process.sigma(times[n]) ** 2, rel=1e-9)
    # ALD moves at all 20 levels, and does not reach consistency
    assert spread(D, Langevin(0.35, 1), (1.0, *times), 100.0, 20) == pytest.approx(2.229 * 0.01, rel=2e-3)


def test_cas_of_size_one_renoises_and_ends_clean() -> None:
    process, x = Cosine(), column(0.4, -0.6)
    D = gaussian(0.3, 0.2).denoiser(process)
    out, _ = CAS(1.0).step(D, x, 0.6, 0.4, None, Noise(3))
    torch.testing.assert_close(out, process.marginal(D(x, 0.6).mean, 0.4).sample(Noise(3)))
    torch.testing.assert_close(CAS(0.9).step(D, x, 0.2, 0.0, None, Noise(3))[0], D(x, 0.2).mean)
    with pytest.raises(ValueError, match=r"CAS with size 0.05 cannot reach the level of t = 0.4 from 0.6"):
        CAS(0.05).step(D, x, 0.6, 0.4, None, Noise(0))
    with pytest.raises(ValueError, match="larger size or a finer grid"):
        CAS(2.5).step(D, x, 0.6, 0.59, None, Noise(0))


def test_cas_step_is_the_papers() -> None:
    """x + eta sigma_i^2 score + sigma_{i+1} b z, b = sqrt(1 - ((1 - eta) / g)^2), under alpha = 1."""
    process, x, eta = Geometric(0.1, 10.0), column(0.4, -3.0), 0.3
    D = gaussian(0.3).denoiser(process)
    t, s = 0.5, 0.45
    g = process.sigma(s) / process.sigma(t)
    score = -x / (0.3 + process.sigma(t) ** 2)
    expected = x + eta * process.sigma(t) ** 2 * score
    expected = expected + process.sigma(s) * math.sqrt(1 - ((1 - eta) / g) ** 2) * Noise(1).normal(x)
    torch.testing.assert_close(CAS(eta).step(D, x, t, s, None, Noise(1))[0], expected, rtol=1e-10, atol=1e-10)


class Flow(Denoiser):
    """The exact consistency function of N(0, c) under alpha = 1: x sqrt((c + s_min^2) / (c + sigma^2))."""

    def __init__(self, process: EDM, c: float) -> None:
        super().__init__()
        self.process, self.c = process, c

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        return Estimate(xt * math.sqrt((self.c + self.process.sigma(0.0) ** 2) / (self.c + self.process.sigma(t) ** 2)))


def test_consistency_sampling_keeps_the_marginal() -> None:
    """Each visit returns N(0, c + s_min^2); noise sqrt(tau^2 - s_min^2) makes it N(0, c + tau^2), and so on."""
    process = EDM(0.2, 80.0)
    D, times = Flow(process, 0.25), (1.0, 0.5, 0.3, 0.0)
    start = 0.25 + 80.0**2
    for n, t in ((1, 0.5), (2, 0.3)):
        assert spread(D, Consistency(), times[: n + 1], start, n) == pytest.approx(
            0.25 + process.sigma(t) ** 2, rel=1e-9
        )
    assert spread(D, Consistency(), times, start, 2) == pytest.approx(0.25 + 0.04, rel=1e-9)


NOISY = [EulerMaruyama(), ReverseDiffusion(), Chain(Ancestral(), SNRLangevin()), Langevin(0.1, 2), CAS(0.9)]


@pytest.mark.parametrize("sampler", [*NOISY, Blend(DDIM(), torch.tensor([1.0, 0.0]), torch.ones(2))], ids=repr)
def test_rows_do_not_see_each_other(sampler: Sampler) -> None:
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    world = MixtureWorld(torch.ones(2, dtype=torch.float64), means, 0.1 * torch.eye(2).double().repeat(2, 1, 1))
    D, x = world.denoiser(LinearBeta()), Seeds([1, 2, 3]).normal(torch.zeros(3, 2, dtype=torch.float64))
    times = grids.uniform(6, start=0.9, end=0.3)
    whole = sample(D, sampler, x1=x, times=times, noise=Seeds([4, 5, 6]))
    for i in range(3):
        alone = sample(D, sampler, x1=x[i : i + 1], times=times, noise=Seeds([4 + i]))
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 2.0])
def test_every_share_of_noise_has_the_marginals_of_the_process(eta: float) -> None:
    """Exact score, N(0.4, 0.3): mean and variance at t = 0.3 from t = 0.9, to first order in the step."""
    process, world = LinearBeta(), gaussian(0.3, 0.4)
    D = world.denoiser(process)
    start, end = (world.marginal(process, t) for t in (0.9, 0.3))
    errors = []
    for n in (400, 800):
        x = torch.full((2 + n, 1), float(start.mean), dtype=torch.float64)
        x[1] += float(start.cov.sqrt())

        class Rest(Basis):
            def __init__(self) -> None:
                super().__init__()
                self.draws = 1

        noise = Rest()
        out = sample(D, EulerMaruyama(eta), x1=x, times=grids.uniform(n, start=0.9, end=0.3), noise=noise)
        assert noise.draws == 1 + (n if eta else 0)
        variance = float((out[1:] - out[0]).square().sum())
        if eta:
            assert float((out[2:] - out[0]).square().sum()) > 0.1 * eta * variance
        errors.append((abs(float(out[0]) - float(end.mean)), abs(variance - float(end.cov))))
    assert max(errors[1]) < 0.01
    for a, b in zip(*errors, strict=True):
        assert math.log2(a / b) == pytest.approx(1.0, abs=0.1)
