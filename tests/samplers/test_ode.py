"""The adaptive flow: exact to its tolerance, calls counted, the extra named where it is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from worlds_for_tests import close, full_world, mixture_world, normal

from sfumato import Noise
from sfumato.denoisers import Counted
from sfumato.likelihood import log_prob_adaptive
from sfumato.processes import EDM, LinearBeta, SubVP
from sfumato.recipes import score_sde
from sfumato.samplers import integrate, sample_ode

pytest.importorskip("torchdiffeq", reason="extra: ode")


def test_a_linear_system_goes_up_and_down() -> None:
    x = normal(2, 3)
    (y, z), calls = integrate(lambda t, s: (-2.0 * s[0], torch.full_like(s[1], 3 * t**2)), (x, x[:, 0]), 0.2, 0.9, rtol=1e-9, atol=1e-9)  # fmt: skip # noqa: E501
    close(y, x * torch.exp(torch.tensor(-1.4, dtype=torch.float64)), 1e-7)
    close(z, x[:, 0] + 0.9**3 - 0.2**3, 1e-7)
    (back,), _ = integrate(lambda t, s: (-2.0 * s[0],), (y,), 0.9, 0.2, rtol=1e-9, atol=1e-9)
    close(back, x, 1e-6)
    assert calls > 12


def test_the_flow_of_a_mixture_and_its_calls() -> None:
    process, world = LinearBeta(), mixture_world()
    x = normal(3, 3)
    exact = world.flow(x, 0.95, 0.05, process, steps=800)
    errors, calls = [], []
    for tolerance in (1e-4, 1e-8):
        D = Counted(world.denoiser(process))
        solved = sample_ode(D, x, start=0.95, end=0.05, rtol=tolerance, atol=tolerance)
        assert solved.calls == D.calls
        errors.append(float((solved.x - exact).abs().max()))
        calls.append(solved.calls)
    assert errors[0] < 1e-2 and errors[1] < 1e-6
    assert calls[1] > 2 * calls[0]
    encoded = sample_ode(world.denoiser(process), exact, start=0.05, end=0.95, rtol=1e-8, atol=1e-8)
    close(encoded.x, x, 1e-5)
    coarse = sample_ode(world.denoiser(process), x, start=0.95, end=0.05, rtol=1e-4, atol=1e-4, method="bosh3")
    assert coarse.calls != calls[0] and float((coarse.x - exact).abs().max()) < 1e-2


def test_the_defaults_end_at_a_thousandth_with_the_tolerances_of_the_paper() -> None:
    process, world = LinearBeta(), full_world()
    x = normal(3, 3)
    solved = sample_ode(world.denoiser(process), x)
    explicit = sample_ode(world.denoiser(process), x, start=1.0, end=1e-3, rtol=1e-5, atol=1e-5, method="dopri5")
    assert torch.equal(solved.x, explicit.x) and solved.calls == explicit.calls
    close(solved.x, world.flow(x, 1.0, 1e-3, process), 1e-3)


@pytest.mark.parametrize("process", [LinearBeta(), SubVP(), EDM(0.01, 80.0)], ids=lambda p: type(p).__name__)
def test_likelihood_to_a_tolerance(process) -> None:
    world = full_world()
    D = Counted(world.denoiser(process))
    x0 = world.sample(3, Noise(0))
    x = process.marginal(x0, 0.01).sample(Noise(1))
    found = log_prob_adaptive(D, x, start=0.01, rtol=1e-7, atol=1e-7)
    # The model's law at t = 1 is the prior, not the world's own marginal.
    end = world.flow(x, 0.01, 1.0, process)
    mismatch = process.prior(end).log_prob(end) - world.marginal(process, 1.0).log_prob(end)
    close(found.log_prob, world.marginal(process, 0.01).log_prob(x) + mismatch, 1e-5)
    assert found.calls == D.calls
    loose = log_prob_adaptive(world.denoiser(process), x, start=0.01, rtol=1e-2, atol=1e-2)
    assert loose.calls < found.calls


def test_hutchinson_is_unbiased_and_defaults_are_the_papers() -> None:
    process, world = LinearBeta(), full_world()
    D, x = world.denoiser(process), world.sample(1, Noise(0))
    exact = log_prob_adaptive(D, x).log_prob
    close(exact, log_prob_adaptive(D, x, start=1e-5, rtol=1e-5, atol=1e-5).log_prob)
    many = x.repeat(400, 1)
    spread = log_prob_adaptive(D, many, noise=Noise(1), rtol=1e-3, atol=1e-3).log_prob
    assert float(spread.std()) > 0.05
    assert abs(float(spread.mean() - exact)) < 4 * float(spread.std()) / 20 + 0.01
    fewer = log_prob_adaptive(D, many, noise=Noise(1), probes=8, rtol=1e-3, atol=1e-3).log_prob
    assert float(fewer.std()) < 0.6 * float(spread.std())


def test_score_sde_has_both() -> None:
    world = full_world()
    recipe = score_sde.Recipe.vp()
    D, x = world.denoiser(recipe.process()), normal(2, 3)
    close(recipe.flow(D, x).x, world.flow(x, 1.0, 1e-3, recipe.process()), 1e-3)
    ve = score_sde.Recipe()
    D, x = world.denoiser(ve.process()), 50 * normal(2, 3)
    solved = ve.flow(D, x)
    close(solved.x, world.flow(x, 1.0, 0.0, ve.process()), 1e-3)
    found = [float(ve.log_prob(D, solved.x.repeat(100, 1), Noise(0)).log_prob.mean())]
    assert found[0] == pytest.approx(float(world.marginal(ve.process(), 0.0).log_prob(solved.x).mean()), abs=0.3)
    vp = recipe.log_prob(world.denoiser(recipe.process()), world.mean.repeat(200, 1), Noise(0))
    assert float(vp.log_prob.mean()) == pytest.approx(float(world.log_prob(world.mean[None])), abs=0.2)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sfumato\[ode\]'"):
        sample_ode(full_world().denoiser(LinearBeta()), normal(1, 3))
