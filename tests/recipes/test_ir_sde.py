"""IR-SDE: the schedule, the best reverse step and the Euler step of the paper and its code, and what draws come out."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import Reverting
from sfumato.recipes.ir_sde import Likelihood, Recipe, ReverseEuler, euler
from sfumato.samplers import DDIM, Ancestral, Sampler, sample

LAM = 20.0 / 255.0  # of model space
SMALL = {"channels": 1, "widths": (8,), "levels": 10, "calls": 5}


def cumulated(T: int, end: float = 0.005) -> list[float]:
    """Theta_0 .. Theta_T of the paper's schedule: theta_i = 1 - cos^2(..), dt such that e^-Theta_T = end."""
    angle = [((i / (T + 2)) + 0.008) / 1.008 * math.pi / 2 for i in range(T + 3)]
    theta = [1.0 - math.cos(a) ** 2 / math.cos(angle[0]) ** 2 for a in angle][1:-1]
    total = [sum(theta[1 : i + 1]) for i in range(T + 1)]
    return [v * -math.log(end) / total[-1] for v in total]


def bound(recipe: Recipe, y: float | torch.Tensor) -> Reverting:
    process = recipe.process().bind({"image": torch.as_tensor(y, dtype=torch.float64).reshape(1, -1)})
    assert isinstance(process, Reverting)
    return process


def one(x: float) -> torch.Tensor:
    return torch.full((1, 1), x, dtype=torch.float64)


# i, e^-Theta, sigma_bar, best step and its std, Euler mean, flow step, noise of a step; of the public code (commit
# 2598d73, float32 schedule) with lam 10/255, T 100, at x_0 = 0.3, y = 0.7, x_i = 0.62, eps = -0.4
PUBLIC = [
    (1, 0.9998236298561096, 0.0007365247583948076, 0.3, 0.0, 0.6202805369413931, 0.6201332127425593, 0.000736572896130),
    (2, 0.9994864463806152, 0.0012566221412271261, 0.40989075422, 0.000596858502831, 0.6203032273296714,
     0.620138122655988, 0.001018514041788876),
    (50, 0.3608216941356659, 0.03657391294836998, 0.6078750684857368, 0.012298345565795898, 0.6175573237816866,
     0.6166711523785652, 0.012730034068226814),
    (100, 0.004999999888241291, 0.039215195924043655, 0.6274903599824756, 0.01699920929968357, 0.614939405983154,
     0.613306922662207, 0.017891081050038338),
]  # fmt: skip


@pytest.mark.parametrize("row", PUBLIC, ids=[str(row[0]) for row in PUBLIC])
def test_steps_are_those_of_the_public_code(row: tuple[float, ...]) -> None:
    i, B, spread, best, std, mean, flow, fresh = row
    t, s = i / 100, (i - 1) / 100
    process = bound(Recipe(lam=5.0 / 255.0), 0.7)  # twice 5 / 255: the numbers are in the unit of the state
    xt, y = one(0.62), 0.7
    assert process.alpha(t) == pytest.approx(B, rel=2e-5) and process.sigma(t) == pytest.approx(spread, rel=2e-3)
    law = process.reverse(Estimate(one(0.3)), xt, t, s)
    assert float(law.mean) == pytest.approx(best, abs=2e-6) and float(law.std) == pytest.approx(std, abs=1e-6)
    D = one(y + (0.62 - y - spread * -0.4) / B)
    assert float(euler(process, D, xt, t, s)) == pytest.approx(mean, abs=2e-6)
    assert float(euler(process, D, xt, t, s, 0.0)) == pytest.approx(flow, abs=2e-6)

    class Known(Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt: torch.Tensor, t: object, cond: object = None) -> Estimate:
            return Estimate(D.expand_as(xt))

    x = one(0.62).expand(4000, 1)
    noise = ReverseEuler().step(Known(), x, t, s, None, Noise(0))[0] - float(euler(process, D, xt, t, s))
    assert float(noise.std()) == pytest.approx(fresh, rel=4 / math.sqrt(8000))
    still = ReverseEuler(0.0).step(Known(), x, t, s, None, Noise(0))[0]
    assert float(still[0]) == pytest.approx(flow, abs=2e-6) and float((still - still[0]).abs().max()) == 0.0


@pytest.mark.parametrize("T", [10, 100])
def test_marginals_are_those_of_the_chain(T: int) -> None:
    """x_i = y + e^(-theta_i dt) (x_(i-1) - y) + lam sqrt(1 - e^(-2 theta_i dt)) z, moment by moment."""
    process, Theta = bound(Recipe(levels=T), 0.4), cumulated(T)
    mean, var = -0.7, 0.0
    for i in range(1, T + 1):
        A = math.exp(Theta[i - 1] - Theta[i])
        mean, var = 0.4 + A * (mean - 0.4), A**2 * var + LAM**2 * (1 - A**2)
        law = process.marginal(one(-0.7), i / T)
        assert float(law.mean) == pytest.approx(mean, abs=1e-12)
        assert float(law.std) == pytest.approx(math.sqrt(var), rel=1e-9)
        step = process.forward(one(0.1), (i - 1) / T, i / T)
        assert float(step.mean) == pytest.approx(0.4 + A * (0.1 - 0.4), abs=1e-12)
        assert float(step.std) == pytest.approx(LAM * math.sqrt(1 - A**2), rel=1e-9)
    assert process.alpha(1.0) == pytest.approx(0.005, rel=1e-12)


def test_the_start_is_the_picture_and_noise_of_lam() -> None:
    law = bound(Recipe(), 0.4).prior(torch.zeros(2, 1).double())
    assert torch.equal(law.mean, torch.full((2, 1), 0.4, dtype=torch.float64)) and law.std == pytest.approx(LAM)


def test_the_posterior_is_ddpm_s_of_the_standardised_residual() -> None:
    """With z = (x - y) / lam and alpha_bar = e^(-2 Theta): eq. 7 of Ho et al. 2020, and the paper's A, B, C."""
    process, Theta, y = bound(Recipe(), 0.4), cumulated(100), 0.4
    xt, x0 = 0.47, -0.3
    for i in (2, 40, 100):
        law = process.reverse(Estimate(one(x0)), one(xt), i / 100, (i - 1) / 100)
        A, B, C = (math.exp(-v) for v in (Theta[i] - Theta[i - 1], Theta[i], Theta[i - 1]))
        best = A * (1 - C**2) / (1 - B**2) * (xt - y) + C * (1 - A**2) / (1 - B**2) * (x0 - y) + y
        assert float(law.mean) == pytest.approx(best, abs=1e-11)
        assert float(law.std) ** 2 == pytest.approx(LAM**2 * (1 - A**2) * (1 - C**2) / (1 - B**2), rel=1e-9)
        bar, before = B**2, C**2
        beta = 1 - bar / before
        z = math.sqrt(before) * beta / (1 - bar) * (x0 - y) / LAM
        z += math.sqrt(1 - beta) * (1 - before) / (1 - bar) * (xt - y) / LAM
        assert (float(law.mean) - y) / LAM == pytest.approx(z, abs=1e-10)


def test_the_best_steps_end_at_x0_from_anywhere() -> None:
    process, x = bound(Recipe(), 0.4), one(55.0)
    for i in range(100, 0, -1):
        x = process.reverse(Estimate(one(-0.3)), x, i / 100, (i - 1) / 100, 1.0).mean
    assert float(x) == pytest.approx(-0.3, abs=1e-12)


def test_the_noise_that_the_likelihood_asks_for_is_not_eps() -> None:
    """e = eps (1 - A^2) / (2 A h) + z (1 + h - 1/A) sqrt(1 - B^2) / (2 h) makes Euler's step the best one."""
    process, Theta, y, x0 = bound(Recipe(), 0.4), cumulated(100), 0.4, -0.3
    largest = 0.0
    for i in (1, 30, 60, 100):
        t, s, h = i / 100, (i - 1) / 100, Theta[i] - Theta[i - 1]
        A, B = math.exp(-h), math.exp(-Theta[i])
        spread, xt = LAM * math.sqrt(1 - B**2), 0.45
        eps, z = (xt - y - B * (x0 - y)) / spread, (xt - y) / LAM
        e = eps * (1 - A**2) / (2 * A * h) + z * (1 + h - 1 / A) * math.sqrt(1 - B**2) / (2 * h)
        D = one(y + (xt - y - spread * e) / B)
        best = process.reverse(Estimate(one(x0)), one(xt), t, s).mean
        assert float(euler(process, D, one(xt), t, s)) == pytest.approx(float(best), abs=1e-11)
        largest = max(largest, abs(e - eps))
    assert largest > 0.01
    fine = cumulated(20_000)
    h = fine[10_000] - fine[9_999]
    assert (1 - math.exp(-2 * h)) / (2 * math.exp(-h) * h) == pytest.approx(1.0, abs=1e-6)  # towards eps


def variance(way: str, v: float, T: int) -> tuple[float, float]:
    """Mean and variance of a draw of N(e, v), e - y = 0.2, by the paper's own steps with the exact estimate."""
    Theta, r = cumulated(T), 0.2
    mean, var = 0.0, LAM**2  # of x - y
    for i in range(T, 0, -1):
        h, B, C = Theta[i] - Theta[i - 1], math.exp(-Theta[i]), math.exp(-Theta[i - 1])
        A, s2 = math.exp(-h), LAM**2 * (1 - B**2)
        gain = B * v / (B**2 * v + s2)
        # D - y = r + gain (x - y - B r), eps = (x - y - B (D - y)) / s: both a slope and a constant in x - y
        d, d0 = gain, r * (1 - gain * B)
        e, e0 = (1 - B * d) / math.sqrt(s2), -B * d0 / math.sqrt(s2)
        fresh = 0.0
        if way == "posterior":
            p, q = A * (1 - C**2) / (1 - B**2), C * (1 - A**2) / (1 - B**2)
            k, k0, fresh = p + q * d, q * d0, LAM**2 * (1 - A**2) * (1 - C**2) / (1 - B**2)
        elif way == "ddim":
            k, k0 = (c * B + w * LAM * math.sqrt(1 - C**2) for c, w, B in ((d, e, C), (d0, e0, C)))
        else:
            if way == "best":  # the noise that minimises the likelihood loss, in the mean over x_0
                f = (1 - A**2) / (2 * A * h)
                e, e0 = e * f + (1 + h - 1 / A) * math.sqrt(1 - B**2) / (2 * h) / LAM, e0 * f
            half = 0.5 if way == "ode" else 1.0
            k, k0 = (w - half * 2 * LAM * h / math.sqrt(1 - B**2) * u for w, u in ((1 + h, e), (0.0, e0)))
            fresh = 0.0 if way == "ode" else 2 * LAM**2 * h
        mean, var = k * mean + k0, k**2 * var + fresh
    return mean, var


@pytest.mark.parametrize("T", [10, 100])
@pytest.mark.parametrize("way", ["posterior", "sde", "ode", "ddim"])
def test_draws_follow_the_recursion(way: str, T: int) -> None:
    recipe = Recipe(levels=T, calls=T, draw=way if way != "ddim" else "posterior")
    sampler: Sampler = DDIM() if way == "ddim" else recipe.sampler()
    v, n = 0.01, 20_000
    process = bound(recipe, 0.1)
    exact = sf.GaussianWorld(
        torch.tensor([0.3], dtype=torch.float64), torch.tensor([[v]], dtype=torch.float64)
    ).denoiser(process)
    D = sf.denoisers.MeanOnly(exact)
    x1 = process.prior(torch.zeros(n, 1).double()).sample(Noise(0))
    x = sample(D, sampler, x1=x1, times=recipe.times(), noise=Noise(1))
    mean, var = variance(way, v, T)
    assert float(x.mean()) - 0.1 == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))


def test_what_the_recursions_say() -> None:
    """The posterior and the flows err low; Euler with the noise that its loss asks for errs high; all tend to truth."""
    ratio = {
        (way, T): variance(way, 0.04, T)[1] / 0.04
        for way in ("posterior", "sde", "best", "ddim")
        for T in (10, 100, 2000)
    }
    for way in ("posterior", "sde", "ddim"):
        assert ratio[way, 10] < ratio[way, 100] < ratio[way, 2000] < 1.0
    assert ratio["best", 10] > ratio["best", 100] > ratio["best", 2000] > 1.0
    assert all(abs(ratio[way, 2000] - 1) < 0.01 for way in ("posterior", "sde", "best", "ddim"))
    assert variance("posterior", 0.04, 2000)[0] == pytest.approx(0.2, abs=2e-3)


def test_two_numbers_given_a_third_have_their_joint_law() -> None:
    """x_0 ~ N(0, S), y = H x_0 + n: draws given one y have the mean and covariance of x_0 | y as T grows."""
    S, H, R = torch.tensor([[0.05, 0.03], [0.03, 0.08]], dtype=torch.float64), torch.eye(2).double()[:1], 0.01
    K = S @ H.T / (H @ S @ H.T + R)
    y = torch.tensor([0.3], dtype=torch.float64)
    mean, cov = (K @ y), S - K @ H @ S
    world, errors = sf.GaussianWorld(mean, cov), []
    for T in (20, 150):
        recipe = Recipe(levels=T, calls=T)
        process = bound(recipe, torch.stack([y[0], torch.zeros(()).double()]))
        x1 = process.prior(torch.zeros(20_000, 2).double()).sample(Noise(0))
        D = sf.denoisers.MeanOnly(world.denoiser(process))
        x = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=Noise(1))
        errors.append(float((torch.cov(x.T) - cov).norm() / cov.norm()))
        assert torch.allclose(x.mean(0), mean, atol=4 * float(cov.max() / 20_000) ** 0.5 + 0.005)
    assert errors[1] < 0.06 < errors[0]


def test_the_network_reads_the_residual_and_answers_the_noise() -> None:
    recipe, seen = Recipe(**SMALL, lam=0.1), {}
    D = recipe.model()

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.update(u=u, c_noise=c_noise, image=cond["image"])
            return 0.5 * torch.ones_like(u)

    D.inner.net = Told()
    x, y = torch.randn(2, 1, 4, 4).double(), torch.randn(2, 1, 4, 4).double()
    t = torch.tensor([0.3, 1.0])
    got = D(x, t, {"image": y}).mean
    assert torch.allclose(seen["u"], (x - y) / 0.2, atol=1e-12) and seen["c_noise"].tolist() == pytest.approx([3, 10])
    for row, i in enumerate((3, 10)):
        B = math.exp(-cumulated(10)[i])
        want = y[row] + (x[row] - y[row] - 0.2 * math.sqrt(1 - B**2) * 0.5) / B
        assert torch.allclose(got[row], want, atol=1e-6)
        assert torch.allclose(D(x, i / 10, {"image": y}).mean[row], want, atol=1e-6)
    assert torch.equal(D.given({"image": y})(x, t).mean, got)


def test_the_losses() -> None:
    """Zero for the noise that the likelihood asks for; of eps = 0, the L1 of what is missing, level by level."""

    class Answers(Denoiser):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.process, self.share = Recipe(levels=10).process(), share

        def forward(self, xt: torch.Tensor, t: torch.Tensor, cond: dict | None = None) -> Estimate:
            process = self.process.bind(cond)
            Theta = cumulated(10)
            i = (t * 10).round().long().tolist()
            h, A, B = (torch.tensor(v, dtype=torch.float64).reshape(-1, 1) for v in (
                [Theta[j] - Theta[j - 1] for j in i], [math.exp(Theta[j - 1] - Theta[j]) for j in i],
                [math.exp(-Theta[j]) for j in i],
            ))  # fmt: skip
            y, spread = process.anchor, LAM * (1 - B**2).sqrt()
            eps, z = (xt - y - B * (0.2 - y)) / spread, (xt - y) / LAM
            e = eps * (1 - A**2) / (2 * A * h) + z * (1 + h - 1 / A) * (1 - B**2).sqrt() / (2 * h)
            return Estimate(y + (xt - y - spread * self.share * e) / B)

    x0, cond = (
        torch.full((400, 3), 0.2, dtype=torch.float64),
        {"image": torch.full((400, 3), -0.1, dtype=torch.float64)},
    )
    assert float(Likelihood(Answers(1.0), 10)(x0, cond, Noise(0)).max()) < 1e-10
    missing = Likelihood(Answers(0.5), 10)(x0, cond, Noise(0))
    assert missing.shape == (400,) and float(missing.min()) > 0.0
    recipe = Recipe(**SMALL)
    assert isinstance(recipe.objective(recipe.model()), Likelihood)
    noisy = Recipe(**SMALL, loss="noise")
    x = torch.zeros(256, 1, 4, 4)
    with torch.no_grad():
        D = noisy.model()
        for p in D.parameters():
            p.zero_()
        loss = noisy.objective(D)(x, {"image": x}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x.numel()))


def test_gradients_reach_the_network_and_rows_do_not_mix() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    y = torch.randn(3, 1, 8, 8)
    recipe.objective(D)(torch.randn(3, 1, 8, 8), {"image": y}, Noise(0)).sum().backward()
    assert all(p.grad is not None for p in D.parameters())
    for way in ("posterior", "sde"):
        drawn = Recipe(**SMALL, draw=way)

        def draw(rows: slice, drawn: Recipe = drawn) -> torch.Tensor:
            told = D.given({"image": y[rows]})
            noise = Seeds(range(3)[rows])
            x1 = told.process.prior(y[rows]).sample(noise)
            return sample(told, drawn.sampler(), x1=x1, times=drawn.times(), noise=noise)

        assert torch.allclose(draw(slice(0, 3))[1], draw(slice(1, 2))[0], atol=1e-5)


def test_settings() -> None:
    assert Recipe().sampler() == Ancestral() and Recipe(draw="ode").sampler() == ReverseEuler(0.0)
    assert len(Recipe().times()) == 101 and Recipe().times(10)[:2] == (1.0, 0.9)
    with pytest.raises(ValueError, match="loss is 'likelihood' or 'noise', got 'l2'"):
        Recipe(loss="l2")
    with pytest.raises(ValueError, match="draw is 'posterior', 'sde' or 'ode', got 'ddim'"):
        Recipe(draw="ddim")
