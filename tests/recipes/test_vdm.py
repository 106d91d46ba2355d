"""VDM: the bound depends on the ends of the schedule alone; its gradients reach what the paper says they reach."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import close, diagonal_world, mixture_world, normal, tensor

from sfumato import recipes
from sfumato.denoisers import MeanOnly
from sfumato.likelihood import density, eps_error, log_snr_rate
from sfumato.noise import Noise
from sfumato.processes import LearnedEnds, LearnedSchedule, LinearBeta
from sfumato.recipes.vdm import Fourier
from sfumato.training import LowDiscrepancy, Variational
from sfumato.worlds import GaussianWorld, MixtureWorld

Recipe = recipes.load("vdm").Recipe


def bent(units: int = 7) -> LearnedSchedule:
    """A schedule whose shape is far from linear."""
    process = LearnedSchedule(-6.0, 4.0, units)
    with torch.no_grad():
        process.weight += 3.0
        process.steep += torch.linspace(0, 6, units)
        process.offset -= 1.0
    return process


@pytest.mark.parametrize("process", [LearnedEnds(-6.0, 4.0), bent()], ids=["ends", "shape"])
def test_the_schedule_is_a_process(process) -> None:
    """Ends, monotone log SNR, alpha^2 + sigma^2 = 1, floats for floats, rates by finite differences, inverse."""
    assert process.log_snr(0.0) == pytest.approx(6.0, abs=1e-12) and process.log_snr(1.0) == pytest.approx(-4.0)
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert bool((process.log_snr(grid).diff() < 0).all())
    for t in (0.05, 0.5, 0.93):
        a, s = process.alpha(t), process.sigma(t)
        assert isinstance(a, float) and isinstance(s, float) and isinstance(process.rates(t)[0], float)
        close(a * a + s * s, 1.0)
        close(2 * math.log(a / s), process.log_snr(t), 1e-10)
        for i, f in enumerate((process.alpha, process.sigma)):
            close(process.rates(t)[i], (f(t + 1e-5) - f(t - 1e-5)) / 2e-5, 1e-8)
        close(process.time_of(process.log_snr(t)), t, 1e-9)
        # The chain's own move, not the `forward` of a module: onwards from x_t it gives the marginal at 0.97.
        x0, on = normal(4, 3), 0.97
        law, want = process.forward(process.marginal(x0, t).mean, t, on), process.marginal(x0, on)
        close(law.mean, want.mean, 1e-12)
        close(law.std**2 + (process.alpha(on) / a * s) ** 2, want.std**2, 1e-12)
        rows = tensor(t)
        for f in (process.alpha, process.sigma, process.log_snr):
            assert f(rows).requires_grad
            close(f(rows).detach(), f(t))


def test_the_defaults_and_the_order_of_the_ends() -> None:
    assert Recipe().process().log_snr(0.0) == pytest.approx(13.3)
    assert Recipe().process().log_snr(1.0) == pytest.approx(-5.0)
    assert isinstance(Recipe(shape=True).process(), LearnedSchedule)
    with pytest.raises(ValueError, match="gamma_0 < gamma_1, got 5"):
        LearnedEnds(5.0, 5.0)


def integral(world, process, nodes: int = 4000):
    """0.5 integral gamma' mmse-like error dt by the midpoint rule for a Gaussian world, exact in x: differentiable."""
    t = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
    snr = process.log_snr(t).exp()[:, None]
    c = world._c
    return 0.5 * (log_snr_rate(process, t)[:, None] * snr * c / (1 + snr * c)).sum() / nodes


def test_the_integral_knows_the_ends_only() -> None:
    """L = 0.5 sum log((1 + c SNR_0) / (1 + c SNR_1)): value, gradient of the ends, and none for the shape."""
    world, process = diagonal_world(), bent()
    c = tensor(0.25, 1.6)
    loss = integral(world, process)
    close(loss.detach(), 0.5 * torch.log((1 + c * math.exp(6)) / (1 + c * math.exp(-4))).sum(), 1e-5)
    loss.backward()
    close(process.gamma_0.grad, -0.5 * (c * math.exp(6) / (1 + c * math.exp(6))).sum(), 1e-5)
    close(process.gamma_1.grad, 0.5 * (c * math.exp(-4) / (1 + c * math.exp(-4))).sum(), 1e-5)
    close(process.weight.grad, 0.0, 1e-6)
    close(process.steep.grad, 0.0, 1e-6)


def test_the_loss_of_a_mixture_is_the_same_under_two_schedules() -> None:
    """0.6 N(-0.8, 0.02) + 0.4 N(0.5, 0.05), gamma -8 to 5: 2.9032 for any shape (the card)."""
    world = MixtureWorld(tensor(0.6, 0.4), tensor(-0.8, 0.5)[:, None], tensor(0.02, 0.05)[:, None, None])
    x0 = world.sample(20_000, Noise(0))
    plain = LearnedEnds(-8.0, 5.0)
    shaped = LearnedSchedule(-8.0, 5.0, 5)
    with torch.no_grad():
        shaped.weight += 2.0
    for process in (plain, shaped):
        with torch.no_grad():
            t = LowDiscrepancy()(process, len(x0), Noise(1))
            xt = process.marginal(x0, t).sample(Noise(2))
            error = eps_error(process, x0, world.denoiser(process)(xt, t).mean, t)
            loss = 0.5 * log_snr_rate(process, t) * error
        assert abs(float(loss.mean()) - 2.9032) < 4 * float(loss.std()) / math.sqrt(20_000)


class Zero(torch.nn.Module):
    def forward(self, u, c_noise, cond=None):
        return torch.zeros_like(u)


def test_the_whole_bound_against_the_entropy() -> None:
    """Normal data, the exact D and a density for a decoder: the terms in closed form, each for itself."""
    process = LearnedEnds(-6.0, 2.0)
    c = 0.6
    world = GaussianWorld(tensor(0.0), tensor(c).reshape(1, 1))
    x0 = world.sample(40_000, Noise(0))
    with torch.no_grad():
        loss = Variational(world.denoiser(process), decoder=density)(x0, None, Noise(1))
    a2 = 1 / (1 + math.exp(2))
    prior = 0.5 * (a2 * c - a2 - math.log(1 - a2))
    ratio = math.exp(-6)  # sigma_0^2 / alpha_0^2
    decoder = 0.5 * math.log(2 * math.pi * ratio) + 0.5
    diffusion = 0.5 * math.log((1 + c * math.exp(6)) / (1 + c * math.exp(-2)))
    assert abs(float(loss.mean()) - prior - decoder - diffusion) < 4 * float(loss.std()) / 200


def test_gradients_of_the_ends_are_those_of_the_loss_and_those_of_the_shape_of_its_square() -> None:
    """One backward pass against plain autograd on the same draws: d mean L / d ends, d mean L_inf^2 / d shape."""
    world, process = mixture_world(), bent()
    x0 = world.sample(16, Noise(0))
    denoiser = world.denoiser(process)
    Variational(denoiser, decoder=density)(x0, None, Noise(5)).mean().backward()
    got = {name: p.grad.clone() for name, p in process.named_parameters()}

    noise = Noise(5)
    t = LowDiscrepancy()(process, 16, noise)
    xt = process.marginal(x0, t).sample(noise)
    L = 0.5 * log_snr_rate(process, t) * eps_error(process, x0, denoiser(xt, t).mean, t)
    zero, one = torch.zeros(16, dtype=torch.float64), torch.ones(16, dtype=torch.float64)
    a1, s1 = process.alpha(one)[:, None], process.sigma(one)[:, None]
    prior = 0.5 * (a1**2 * x0**2 + s1**2 - 1 - 2 * s1.log()).sum(1)
    eps = noise.normal(x0)
    ratio = (process.sigma(zero) / process.alpha(zero))[:, None]
    decoder = (0.5 * eps**2 + ratio.log() + 0.5 * math.log(2 * math.pi)).sum(1)
    ends = torch.autograd.grad((L + prior + decoder).mean(), [process.gamma_0, process.gamma_1], retain_graph=True)
    close(got["gamma_0"], ends[0], 1e-9)
    close(got["gamma_1"], ends[1], 1e-9)
    for name in ("first", "steep", "offset", "weight"):
        shape = getattr(process, name)
        want = torch.autograd.grad((L**2).mean(), shape, retain_graph=True)[0]
        close(got[name], want, 1e-7)
    assert float(got["weight"].abs().max()) > 1e-6


def test_the_loss_needs_a_learned_schedule() -> None:
    with pytest.raises(ValueError, match="give LearnedEnds, got LinearBeta"):
        Variational(diagonal_world().denoiser(LinearBeta()))


def test_fourier_features() -> None:
    """n = 7 and 8: the channels, then sine and cosine of 128 pi u, then of 256 pi u."""

    class Same(torch.nn.Module):
        def forward(self, u, c_noise, cond=None):
            return u

    u = normal(2, 1, 5)
    out = Fourier(Same(), (7, 8))(u, torch.zeros(2))
    want = [u, *(f(math.pi * k * u) for k in (128, 256) for f in (torch.sin, torch.cos))]
    close(out, torch.cat(want, 1), 1e-10)


def test_the_model_trains_its_schedule_and_is_told_the_scaled_level() -> None:
    recipe = Recipe(channels=1, widths=(4,), blocks=1)
    close(recipe.scheme(*(LearnedEnds().alpha(0.3), LearnedEnds().sigma(0.3))).c_noise, 0.3, 1e-9)
    model = recipe.model()
    x0 = ((torch.arange(256) + 0.5) / 128 - 1).reshape(4, 1, 8, 8)
    loss = recipe.objective(model)(x0, None, Noise(0))
    assert loss.shape == (4,)
    loss.mean().backward()
    assert model.process.gamma_0.grad is not None and model.process.gamma_1.grad is not None
    bound = recipe.bound(model, x0, Noise(1), points=3)
    close(bound.bits(64), bound.total / 64 / math.log(2))


def test_the_sampler_is_the_step_of_the_paper() -> None:
    """z_s = (alpha_s / alpha_t)(z_t - sigma_t c eps_hat) + sqrt(sigma_s^2 c) z, c = -expm1(gamma_s - gamma_t)."""
    recipe = Recipe()
    process, world = recipe.process(), diagonal_world()
    zt, t, s = normal(4, 3), 0.6, 0.45

    got, _ = recipe.sampler().step(MeanOnly(world.denoiser(process)), zt, t, s, None, Noise(3))
    a, b, sig, sig_s = process.alpha(t), process.alpha(s), process.sigma(t), process.sigma(s)
    eps = (zt - a * world.denoiser(process)(zt, t).mean) / sig
    c = -math.expm1(process.log_snr(t) - process.log_snr(s))
    want = b / a * (zt - sig * c * eps) + math.sqrt(sig_s**2 * c) * Noise(3).normal(zt)
    close(got.detach(), want.detach(), 1e-10)
