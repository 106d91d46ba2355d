"""Classifier guidance, autoguidance, intervals, rescaling, thresholding, ensembles: their facts on worlds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import PROCESSES, close, full_world, normal, tensor

from sfumato import GaussianWorld, MixtureWorld, Noise
from sfumato.denoisers import Counted, Denoiser, Ensemble, Estimate, MeanOnly, Thresholded
from sfumato.guides import CFG, Autoguidance, ClassifierGuidance, GuidedAncestral, Interval, RescaledCFG
from sfumato.processes import EDM, Anchored, Cosine, Geometric, LinearBeta, Table
from sfumato.samplers import Ancestral

COVS = torch.stack([full_world().covs[0], torch.diag(tensor(0.3, 0.1, 0.8))])
MEANS = torch.stack([tensor(0.3, -0.8, 1.2), tensor(-1.0, 0.4, 0.0)])
CLASSES = MixtureWorld(tensor(0.3, 0.7), MEANS, COVS)


def of_class(process: Any, k: int = 1) -> Any:
    """log p(class k | x_t) by Bayes' rule, from the densities of x_t."""

    def log_prob(xt: Tensor, t: Any, cond: Any) -> Tensor:
        worlds = [MixtureWorld(tensor(1.0), MEANS[i : i + 1], COVS[i : i + 1]).marginal(process, t) for i in (0, 1)]
        joint = torch.stack([world.log_prob(xt) for world in worlds], 1) + CLASSES.weights.log()
        return torch.log_softmax(joint, 1)[:, k]

    return log_prob


@pytest.mark.parametrize("name", ["LinearBeta", "EDM", "Rectified", "SubVP"])
def test_the_exact_classifier_at_scale_one_gives_the_conditional_denoiser(name: str) -> None:
    process, x = PROCESSES[name], normal(4, 3)
    guided = ClassifierGuidance(CLASSES.denoiser(process), of_class(process))
    for t in (0.1, 0.5, 0.9):
        want = GaussianWorld(MEANS[1], COVS[1]).denoiser(process)(x, t).mean
        close(guided(x, t).mean, want, 1e-9)
        close(guided(x, t).var, CLASSES.denoiser(process)(x, t).var)


def test_the_score_is_that_of_the_tilted_marginal() -> None:
    """score(p_t) + scale grad log p_t(y | x), the condition handed on, times per sample too."""
    process, x, t = LinearBeta(), normal(4, 3), 0.4
    score = CLASSES.marginal(process, t).score(x)
    one = MixtureWorld(tensor(1.0), MEANS[1:], COVS[1:]).marginal(process, t).score(x)
    heard = []

    def log_prob(xt: Tensor, time: Any, cond: Any) -> Tensor:
        heard.append(cond)
        return of_class(process)(xt, t, cond)

    guided = ClassifierGuidance(CLASSES.denoiser(process), log_prob, 2.5)
    close(process.score(x, guided(x, t, "class").mean, t), score + 2.5 * (one - score), 1e-9)
    close(guided(x, torch.full((4,), t, dtype=torch.float64)).mean, guided(x, t).mean, 1e-9)
    assert heard[0] == "class" and not guided(x, t).mean.requires_grad


def test_without_signal_the_classifier_says_nothing() -> None:
    def unused(xt: Tensor, t: Any, cond: Any) -> Tensor:
        return xt.sum(1)

    process, x = Table.scaled_linear(50).zero_terminal(), normal(4, 3)
    inner = CLASSES.denoiser(process)
    guided = ClassifierGuidance(inner, unused)
    close(guided(x, 1.0).mean, inner(x, 1.0).mean)
    times = tensor(1.0, 1.0, 0.5, 0.5)
    got = guided(x, times).mean
    close(got[:2], inner(x, times).mean[:2])
    close(got[2:], inner(x, times).mean[2:] + process.sigma(0.5) ** 2 / process.alpha(0.5))


def test_the_ancestral_form_moves_the_mean_by_the_steps_variance() -> None:
    """Scale Sigma grad log p at x_t; the score form by beta / sqrt(1 - beta) s grad; ratio btilde / beta 0.45 at n = 2,
    0.61 at n = 3, 0.92 at n = 21, up to sqrt(1 - beta)."""
    process, x, scale = Table.linear(), normal(4, 3), 1.7
    inner, log_prob = MeanOnly(CLASSES.denoiser(process)), of_class(process)
    for n, ratio in ((2, 0.45), (3, 0.61), (21, 0.92)):
        t, s = n / 1000, (n - 1) / 1000
        plain = Ancestral().step(inner, x, t, s, None, Noise(0))[0]
        moved, memory = GuidedAncestral(log_prob, scale=scale).step(inner, x, t, s, "m", Noise(0))
        by_score = Ancestral().step(ClassifierGuidance(inner, log_prob, scale), x, t, s, None, Noise(0))[0]
        beta = 1e-4 + (0.02 - 1e-4) * (n - 1) / 999
        tilde = beta * (1 - process.alpha_bars[n - 2]) / (1 - process.alpha_bars[n - 1])
        at = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(log_prob(at, t, None).sum(), at)
        close(moved - plain, scale * tilde * grad, 1e-9)
        close(by_score - plain, scale * beta / (1 - beta) ** 0.5 * grad, 1e-9)
        assert tilde / beta == pytest.approx(ratio, abs=0.006) and memory == "m"


class Told(Denoiser):
    """Says one number for each condition, and keeps its process."""

    def __init__(self, answers: dict[Any, Any], process: Any = None, var: float | None = None) -> None:
        super().__init__()
        self.answers, self.process, self.var = answers, process or LinearBeta(), var

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        mean = torch.zeros_like(xt) + self.answers[cond]
        return Estimate(mean, None if self.var is None else torch.full_like(xt, self.var))


def test_autoguidance_leads_away_from_the_weak_model() -> None:
    x = normal(2, 3)
    good, weak = Counted(Told({"c": 2.0}, var=0.3)), Counted(Told({"c": 1.5}))
    close(Autoguidance(good, weak, 3.0)(x, 0.5, "c").mean, 1.5 + 3.0 * 0.5)
    close(Autoguidance(good, weak)(x, 0.5, "c").mean, 1.5 + 2.1 * 0.5)
    close(Autoguidance(good, weak, 3.0)(x, 0.5, "c").var, 0.3)
    assert (good.calls, weak.calls) == (3, 3)
    close(Autoguidance(good, weak, 1.0)(x, 0.5, "c").mean, 2.0)
    assert (good.calls, weak.calls) == (4, 3)
    same = full_world().denoiser(LinearBeta())
    close(Autoguidance(same, same, 4.0)(x, 0.5).mean, same(x, 0.5).mean)
    assert Autoguidance(good, weak).with_process(Cosine()).weak.process == Cosine() and weak.process == LinearBeta()


def test_an_anchor_reaches_both_models() -> None:
    image, x = normal(1, 3, seed=2), normal(2, 3)
    denoisers = [world.denoiser(Anchored(LinearBeta())) for world in (full_world(), CLASSES)]
    given = Autoguidance(*denoisers, 2.0).given(image)
    good, weak = (d.given(image)(x, 0.5).mean for d in denoisers)
    close(given(x, 0.5).mean, 2 * good - weak)


def test_interval_guides_inside_and_costs_one_call_outside() -> None:
    """low < sigma / alpha <= high, in EDM's unit whatever the process."""
    process, x = Cosine(), normal(3, 3)
    inner = Counted(Told({"c": 2.0, None: 1.0}, process))
    guide = Interval(CFG(inner, 3.0), 0.5, 2.0)
    for level, calls, mean in ((0.49, 1, 2.0), (0.51, 2, 4.0), (1.99, 2, 4.0), (2.01, 1, 2.0)):
        before, t = inner.calls, process.time_of(-2.0 * torch.tensor(level, dtype=torch.float64).log()).item()
        close(guide(x, t, "c").mean, mean)
        assert inner.calls - before == calls
    for t, mean in ((0.0, 2.0), (1.0, 2.0)):
        close(guide(x, t, "c").mean, mean)
    close(Interval(CFG(inner, 3.0), 0.0, 2.0)(x, 0.001, "c").mean, 4.0)
    default = Interval(CFG(inner, 2.0))
    assert (default.low, default.high) == (0.19, 1.61)


def test_interval_bounds_are_open_below_and_closed_above() -> None:
    guide = Interval(CFG(Told({"c": 2.0, None: 1.0}, EDM(1.0, 4.0, 1.0)), 3.0), 1.0, 4.0)
    close(guide(normal(1, 3), 0.0, "c").mean, 2.0)  # sigma = 1 exactly
    close(guide(normal(1, 3), 1.0, "c").mean, 4.0)  # sigma = 4 exactly


def test_interval_with_a_time_for_each_sample() -> None:
    process, x = Cosine(), normal(3, 3)
    inner = Counted(Told({"c": 2.0, None: 1.0}, process))
    guide = Interval(CFG(inner, 3.0), 0.5, 2.0)
    close(guide(x, tensor(0.1, 0.5, 0.95), "c").mean, tensor(2.0, 4.0, 2.0)[:, None])
    for times, calls, mean in ((tensor(0.5, 0.45, 0.5), 2, 4.0), (tensor(0.1, 0.05, 0.95), 1, 2.0)):
        before = inner.calls
        close(guide(x, times, "c").mean, mean)
        assert inner.calls - before == calls


def test_interval_checks_what_it_is_given() -> None:
    with pytest.raises(ValueError, match="needs a guide that wraps the denoiser it guides, got WorldDenoiser"):
        Interval(full_world().denoiser(LinearBeta()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got 2\.0 and 2\.0"):
        Interval(CFG(full_world().denoiser(LinearBeta())), 2.0, 2.0)


def test_rescaled_guidance_has_the_conditional_deviation() -> None:
    """share 1: the deviation over the event of D_c, per sample; share 0: CFG; between, linear."""
    x, with_c, without = normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    inner = Told({"c": with_c, None: without}, var=0.2)
    cfg = CFG(inner, 5.0)(x, 0.5, "c").mean
    full = RescaledCFG(inner, 5.0, share=1.0)(x, 0.5, "c")
    close(full.mean.std(1), with_c.std(1))
    close(full.mean / cfg, (with_c.std(1) / cfg.std(1))[:, None])
    close(full.var, 0.2)
    close(RescaledCFG(inner, 5.0, share=0.0)(x, 0.5, "c").mean, cfg)
    default = CFG(inner, 7.5)(x, 0.5, "c").mean
    close(RescaledCFG(inner)(x, 0.5, "c").mean, default * (0.3 + 0.7 * (with_c.std(1) / default.std(1))[:, None]))


def test_dynamic_thresholding() -> None:
    """Per sample: within [-1, 1] nothing happens; beyond, clipped at the quantile and divided by it."""
    rows = torch.stack([torch.linspace(-0.9, 0.9, 11), torch.linspace(-4.0, 6.0, 11)]).double()
    got = Thresholded(Told({None: rows}, var=0.1), 0.75)(rows, 0.5)
    close(got.mean[0], rows[0])
    m = torch.quantile(rows[1].abs(), 0.75)
    close(got.mean[1], rows[1].clamp(-m, m) / m)
    close(got.var, 0.1)
    close(Thresholded(Told({None: rows}), 1.0)(rows, 0.5).mean[1], rows[1] / 6.0)
    close(
        Thresholded(Told({None: rows}))(rows, 0.5).mean[1],
        rows[1].clamp(-5.95, 5.95) / torch.quantile(rows[1].abs(), 0.995),
        1e-6,
    )


def test_ensemble_is_a_mixture_of_equals() -> None:
    """Mean of the means; the law of total variance: of two normals with equal weights, so exact for equal densities."""
    x = normal(3, 3)
    got = Ensemble([Told({None: 1.0}, var=0.2), Told({None: 2.0}, var=0.4), Told({None: 6.0})])(x, 0.5)
    close(got.mean, 3.0)
    close(got.var, 0.2 + (4.0 + 1.0 + 9.0) / 3)
    close(Ensemble([Told({"c": 1.0})])(x, 0.5, "c").var, 0.0)
    world = full_world()
    twin = Ensemble([world.denoiser(LinearBeta()), CLASSES.denoiser(LinearBeta())]).with_process(Geometric())
    assert twin.process == Geometric()
    want = [w.denoiser(Geometric())(x, 0.5).mean for w in (world, CLASSES)]
    close(twin(x, 0.5).mean, (want[0] + want[1]) / 2)
    for wrong in ([], [Told({}), Told({}, Cosine())]):
        with pytest.raises(ValueError, match="at least one denoiser, all of one process"):
            Ensemble(wrong)
