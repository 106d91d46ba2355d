"""Consistency models, sCM and progressive distillation on normals, where every map is linear and known."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close, full_world, normal, tensor

from sfumato import GaussianWorld, MixtureWorld, Noise, grids, recipes, sample
from sfumato.denoisers import Denoiser, MeanOnly, Preconditioned, consistency, predict_v, trig
from sfumato.estimate import Estimate
from sfumato.nets import MLP
from sfumato.processes import EDM, Cosine, LinearBeta, Trigonometric, expand
from sfumato.samplers import DDIM, Consistency, Heun
from sfumato.training import (
    ConsistencyTraining,
    ContinuousConsistency,
    LogNormal,
    ProgressiveDistillation,
    truncated_snr,
    v_weight,
)
from sfumato.training.consistency import doubling, equally, growing, heun, log_normal, pseudo_huber, squared

C = 0.25


def world(c: float = C, d: int = 1) -> GaussianWorld:
    return GaussianWorld(torch.zeros(d, dtype=torch.float64), c * torch.eye(d, dtype=torch.float64))


class Linear(Denoiser):
    """f(x, t_n) = slope_n x, a free slope for each level of a grid of N."""

    def __init__(self, process: Any, slopes: list[float]) -> None:
        super().__init__()
        self.process, self.slopes = process, nn.Parameter(tensor(*slopes))

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        n = torch.round(torch.as_tensor(t, dtype=torch.float64) * (len(self.slopes) - 1)).long()
        return Estimate(xt * expand(self.slopes[n], xt))


def levels(N: int, process: EDM) -> list[float]:
    return [process.sigma(n / (N - 1)) for n in range(N)]


# Schedules and distances


def test_numbers_of_levels() -> None:
    """N(0) = s_0 and N(K) = s_1 + 1; iCT doubles from 11 to 1281 in eight equal parts."""
    N = growing(1000)
    assert (N(0), N(1000)) == (2, 151)
    assert N(250) == math.ceil(math.sqrt(0.25 * (151**2 - 4) + 4) - 1) + 1 == 76
    D = doubling(800)
    assert [D(k) for k in (0, 99, 100, 250, 699, 700, 10_000)] == [11, 11, 21, 41, 641, 1281, 1281]
    assert doubling(3)(0) == 11


def test_distances() -> None:
    a, b = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert squared(a, b).tolist() == [25.0, 0.0]
    c = 0.5 * math.sqrt(2)
    assert pseudo_huber(0.5)(a, b).tolist() == pytest.approx([math.sqrt(25 + c * c) - c, 0.0])
    assert pseudo_huber()(a, b)[0] == pytest.approx(5.0, rel=1e-3)


def test_the_log_normal_law_of_levels_has_the_mass_between_them() -> None:
    process = EDM()
    mass = log_normal(-1.1, 2.0)(process, 6)
    sigma, law = levels(6, process), torch.distributions.Normal(-1.1, 2.0)
    cdf = law.cdf(torch.tensor(sigma, dtype=torch.float64).log())
    close(mass, cdf[1:] - cdf[:-1], 1e-6)
    assert equally(process, 4).tolist() == [1.0, 1.0, 1.0]
    close(log_normal()(process, 6), mass)


# Schemes


@pytest.mark.parametrize("process", [EDM(), LinearBeta()], ids=lambda p: type(p).__name__)
def test_consistency_scheme_is_the_identity_at_its_end_and_edms_far_from_it(process: Any) -> None:
    net = MLP(3, 8).double()
    nn.init.normal_(net.leave.weight)
    f = Preconditioned(net, process, consistency(0.5, 0.002))
    end, x = process.time_of(-2 * math.log(0.002)), normal(2, 3)
    close(f(x, end).mean, x / process.alpha(end), 1e-9)
    r, sd, alpha = 1.7, 0.5, process.alpha(process.time_of(-2 * math.log(1.7)))
    c = consistency(sd, 0.002)(alpha, r * alpha)
    close(c.c_skip * alpha, sd**2 / ((r - 0.002) ** 2 + sd**2))
    close(c.c_out, (r - 0.002) * sd / math.sqrt(r**2 + sd**2))
    close(c.c_in * alpha, 1 / math.sqrt(r**2 + sd**2))
    close(c.c_noise, math.log(r) / 4)


def test_trig_scheme_is_trigflow() -> None:
    sd = 0.7
    process = Trigonometric(sd)
    for t in (0.2, torch.tensor([0.2, 0.9], dtype=torch.float64)):
        angle = 0.5 * math.pi * torch.as_tensor(t, dtype=torch.float64)
        c = trig(sd)(process.alpha(t), process.sigma(t))
        close(c.c_in, 1 / sd)
        close(c.c_skip, angle.cos())
        close(c.c_out, -sd * angle.sin())
        close(c.c_noise, angle)
    # sd F = dx / d angle, at the exact F of the flow.
    D, x = full_world().denoiser(process), normal(2, 3)
    F = (math.cos(0.3) * x - D(x, 0.6 / math.pi).mean) / (math.sin(0.3) * sd)
    close(sd * F, process.velocity(x, D(x, 0.6 / math.pi).mean, 0.6 / math.pi) * 2 / math.pi, 1e-10)


# Consistency training and distillation


def test_heun_step_for_rows_is_the_samplers() -> None:
    process = EDM()
    D, x = MeanOnly(full_world().denoiser(process)), 5 * normal(2, 3)
    t, s = tensor(0.7, 0.5), tensor(0.65, 0.4)
    rows = heun(D, x, t, s)
    for i in range(2):
        one, _ = Heun().step(D, x[i : i + 1], float(t[i]), float(s[i]), None, Noise(0))
        close(rows[i : i + 1], one)


def test_the_exact_function_has_no_distillation_loss_and_the_mean_has() -> None:
    """A teacher whose Heun step is exact: the flow's own slope sqrt((c + s_min^2) / (c + sigma^2))."""
    process, N = EDM(), 400
    slopes = [math.sqrt((C + 0.002**2) / (C + s**2)) for s in levels(N, process)]
    teacher, x0 = MeanOnly(world().denoiser(process)), world().sample(2000, Noise(0))
    good = ConsistencyTraining(Linear(process, slopes), N, teacher=teacher)
    mean = ConsistencyTraining(Linear(process, [C / (C + s**2) for s in levels(N, process)]), N, teacher=teacher)
    assert float(good(x0, None, Noise(1)).max()) < 1e-9
    assert float(mean(x0, None, Noise(1)).mean()) > 1e-6


def fixed_point(N: int, process: EDM) -> float:
    """prod (c + s_n s_{n+1}) / (c + s_{n+1}^2): the card's, from the first level to the last."""
    s = levels(N, process)
    return math.prod((C + a * b) / (C + b * b) for a, b in pairwise(s))


def test_training_ends_at_its_biased_fixed_point() -> None:
    """The card's numbers, and a loss whose gradient vanishes there and nowhere else."""
    process = EDM()
    for N, expected in ((18, 0.005337), (80, 0.006032), (320, 0.006195)):
        assert fixed_point(N + 1, process) == pytest.approx(expected, abs=1e-6)
    N, slopes = 5, [1.0]
    s = levels(N, process)
    for a, b in pairwise(s):
        slopes.append(slopes[-1] * (C + a * b) / (C + b * b))
    x0 = world().sample(400_000, Noise(0))
    for factor, still in ((1.0, True), (1.05, False)):
        f = Linear(process, [slopes[0], *(v * factor for v in slopes[1:])])
        ConsistencyTraining(f, N)(x0, None, Noise(1)).mean().backward()
        # d/da E (a x_t - b x_s)^2 / 4 with a chance of 1/4 for each pair: scaled by its own curvature.
        curvature = [0.5 * (C + b * b) * v for b, v in zip(s[1:], slopes[1:], strict=True)]
        relative = (f.slopes.grad[1:] / tensor(*curvature)).abs()
        # Scaled by one factor the pairs above the first still agree with each other; the first is off by it.
        assert float(relative[1:].max()) < 0.03
        assert (float(relative[0]) < 0.02) if still else float(relative[0]) == pytest.approx(0.05, abs=0.02)


def test_the_lower_level_is_the_target_and_gets_no_gradient() -> None:
    process = EDM()
    f = Linear(process, [1.0, 0.7])
    loss = ConsistencyTraining(f, 2)
    x0 = world().sample(5, Noise(0))
    loss(x0, None, Noise(1)).sum().backward()
    assert float(f.slopes.grad[0]) == 0.0 != float(f.slopes.grad[1])
    noise = Noise(1)
    noise.choice(torch.ones(5, 1, dtype=torch.float64))
    eps = noise.normal(x0)
    expected = (0.7 * (x0 + 80 * eps) - (x0 + 0.002 * eps)).square()[:, 0]
    close(loss(x0, None, Noise(1)), expected, 1e-9)
    close(ConsistencyTraining(f, 2, improved=True)(x0, None, Noise(1)), expected / (80 - 0.002), 1e-9)
    huber = pseudo_huber(0.1)
    close(ConsistencyTraining(f, 2, distance=huber)(x0, None, Noise(1)), (expected + 0.01).sqrt() - 0.1, 1e-9)


def test_the_average_lags_and_the_levels_follow_the_step() -> None:
    f = Linear(EDM(), [1.0, 0.5])
    loss = ConsistencyTraining(f, lambda step: step + 1, decay=lambda N: 0.9 if N == 2 else 0.5)
    assert loss.count == 2
    with torch.no_grad():
        f.slopes.copy_(tensor(1.0, 1.5))
    loss.advance(1)
    close(loss.average.slopes, tensor(1.0, 0.6))
    loss.advance(4)
    assert loss.count == 5
    close(loss.average.slopes, tensor(1.0, 1.05))
    with torch.no_grad():
        f.slopes.copy_(tensor(9.0, 0.0))
        loss.average.slopes.copy_(tensor(2.0, 0.0))
    loss.count = 2
    x0 = world().sample(3, Noise(0))
    value = loss(x0, None, Noise(1))
    noise = Noise(1)
    noise.choice(torch.ones(3, 1, dtype=torch.float64))
    close(value, (2.0 * (x0 + 0.002 * noise.normal(x0))).square()[:, 0], 1e-9)  # the average's, not the function's own
    assert not loss.average.slopes.requires_grad
    plain = ConsistencyTraining(f, 3)
    plain.advance(7)
    assert plain.count == 3 and plain.average is None


class Dropped(Denoiser):
    """The identity through dropout."""

    def __init__(self, process: Any) -> None:
        super().__init__()
        self.process, self.drop = process, nn.Dropout(0.5)

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        return Estimate(self.drop(xt))


def test_dropout_is_the_same_in_both_branches_and_off_in_the_teacher() -> None:
    process = EDM(sigma_min=0.002, sigma_max=0.0020001)
    loss = ConsistencyTraining(Dropped(process), 2, teacher=Dropped(process)).train()
    assert loss.denoiser.training and not loss.teacher.training
    torch.manual_seed(0)
    x0 = world(d=50).sample(20, Noise(0))
    assert float(loss(x0, None, Noise(1)).max()) < 1e-6  # x_t and x_s are as good as equal
    before = torch.get_rng_state()
    loss(x0, None, Noise(1))
    assert not torch.equal(torch.get_rng_state(), before)


def test_distilled_function_is_learned() -> None:
    """By gradient, from a wrong start: one call then gives the flow's end."""
    process, N = EDM(), 60
    s = levels(N, process)
    f = Linear(process, [1.0] + [0.5 / (0.5 + v) for v in s[1:]])
    loss = ConsistencyTraining(f, N, teacher=MeanOnly(world().denoiser(process)))
    x0 = world().sample(4000, Noise(0))
    # The loss is quadratic in each slope given the one below: one exact minimisation a level, from the cleanest up.
    for n in range(1, N):
        target = heun(loss.teacher, tensor(1.0)[:, None], tensor(n / (N - 1)), tensor((n - 1) / (N - 1)))
        with torch.no_grad():
            f.slopes[n] = f.slopes[n - 1] * float(target)
    loss(x0, None, Noise(1)).mean().backward()
    assert float(f.slopes.grad.abs().max()) < 1e-12
    flow = math.sqrt((C + 0.002**2) / (C + 80.0**2))
    assert float(f.slopes[-1].detach()) == pytest.approx(flow, rel=0.01)
    out = sample(f, Consistency(), x1=tensor(80.0)[:, None], times=(1.0, 0.0), noise=Noise(0))
    assert float(out.detach()) == pytest.approx(80 * flow, rel=0.01)


# sCM


class Exact(nn.Module):
    """F of the exact consistency function of N(0, c): f = x sqrt(c / (cos^2 c + sd^2 sin^2)); times a free factor."""

    def __init__(self, c: float, sd: float, factor: float = 1.0) -> None:
        super().__init__()
        self.c, self.sd, self.factor = c, sd, nn.Parameter(tensor(factor)[0])

    def forward(self, u: Tensor, angle: Tensor, cond: Any) -> Tensor:
        a = angle.reshape(-1, *[1] * (u.ndim - 1))
        slope = (self.c / (a.cos() ** 2 * self.c + self.sd**2 * a.sin() ** 2)).sqrt()
        return self.factor * u * (a.cos() - slope) / a.sin()


class Thinned(Exact):
    """With dropout."""

    def forward(self, u: Tensor, angle: Tensor, cond: Any) -> Tensor:
        return nn.functional.dropout(super().forward(u, angle, cond), 0.5, self.training)


def scm(factor: float = 1.0, c: float = 0.4, sd: float = 0.5, teacher: bool = True, **options: Any) -> Any:
    process = Trigonometric(sd)
    f = Preconditioned(Exact(c, sd, factor), process, trig(sd))
    exact = MeanOnly(world(c, 2).denoiser(process)) if teacher else None
    return ContinuousConsistency(f, exact, adaptive=False, **options)


def test_exact_consistency_function_has_no_tangent() -> None:
    loss, x0 = scm(), world(0.4, 2).sample(500, Noise(0))
    assert float(loss(x0, None, Noise(1)).abs().max()) < 1e-12
    assert float(scm(1.1)(x0, None, Noise(1)).mean()) > 1e-3
    # Trained from data the tangent vanishes on average over x_0 given x_t, not for each.
    free = scm(teacher=False)
    t = torch.full((50_000,), 0.4, dtype=torch.float64)
    x0 = world(0.4, 2).sample(50_000, Noise(0))
    eps = Noise(1).normal(x0)
    xt = free.denoiser.process.perturb(x0, t, eps)
    _, g = free.tangent(xt, t, free._slope(xt, x0, eps, t, None))
    assert float(g.std()) > 0.05
    for moment in (g.mean(0), (g * xt).mean(0)):
        assert float(moment.abs().max()) < 4 * float(g.std()) / math.sqrt(50_000)


def test_the_tangent_is_the_derivative_of_f_along_the_flow() -> None:
    """cos(t) df/dt by differences, for a function that is not the flow's end."""
    loss = scm(0.6)
    process, f = loss.denoiser.process, loss.denoiser
    D, x, a, h = world(0.4, 2).denoiser(process), normal(3, 2), 0.7, 1e-4
    t = a / (0.5 * math.pi)
    ends = [f(world(0.4, 2).flow(x, t, (a + s * h) / (0.5 * math.pi), process), (a + s * h) / (0.5 * math.pi)).mean for s in (-1, 1)]  # fmt: skip # noqa: E501
    slope = process.velocity(x, D(x, t).mean, t) * 2 / math.pi
    F, g = loss.tangent(x, torch.full((3,), t, dtype=torch.float64), slope)
    close(g, math.cos(a) * (ends[1] - ends[0]) / (2 * h), 1e-6)
    close(F, (math.cos(a) * x - f(x, t).mean) / (math.sin(a) * 0.5), 1e-9)
    # r = 0 leaves -cos^2 (sd F - dx/dt).
    loss.advance(0)
    close(loss.tangent(x, torch.full((3,), t, dtype=torch.float64), slope)[1], -(math.cos(a) ** 2) * (0.5 * F - slope))


def test_warmup_normalisation_and_gradient() -> None:
    loss = scm(0.6, warmup=10)
    loss.advance(5)
    assert loss.ramp == 0.5
    loss.advance(50)
    assert loss.ramp == 1.0
    x0 = world(0.4, 2).sample(50, Noise(0))
    noise = Noise(1)
    t = loss.times(loss.denoiser.process, 50, noise)
    eps = noise.normal(x0)
    xt = loss.denoiser.process.perturb(x0, t, eps)
    F, g = loss.tangent(xt, t, loss._slope(xt, x0, eps, t, None))
    g = g / (g.norm(dim=1, keepdim=True) + 0.1)
    value = loss(x0, None, Noise(1))
    close(value, g.square().mean(1), 1e-9)
    value.sum().backward()
    # d/d factor of |F - F^- - g|^2 / d at F = F^-: -2 g . dF / d, and F is proportional to the factor.
    close(loss.denoiser.net.factor.grad, (-2 * g * F / 0.6).mean(1).sum(), 1e-9)
    assert not F.requires_grad
    default = ContinuousConsistency(loss.denoiser)
    assert (default.warmup, default.constant, default.times, default.ramp) == (10_000, 0.1, LogNormal(-1.0, 1.4), 1.0)


def test_the_adaptive_weight_divides_and_is_added_back() -> None:
    torch.manual_seed(0)
    plain = scm(0.6)
    learned = ContinuousConsistency(plain.denoiser, plain.teacher)
    learned.uncertainty.double()
    x0 = world(0.4, 2).sample(20, Noise(0))
    t = learned.times(learned.denoiser.process, 20, Noise(1))
    u = learned.uncertainty(0.5 * math.pi * t)
    close(learned(x0, None, Noise(1)), plain(x0, None, Noise(1)) * torch.exp(-u) + u, 1e-9)


def test_scm_is_for_trigflow() -> None:
    with pytest.raises(ValueError, match="Trigonometric processes, got EDM"):
        ContinuousConsistency(Preconditioned(MLP(2, 8), EDM()))
    # Dropout is the same in F and F^-: the loss is the tangent's alone, whatever was dropped.
    torch.manual_seed(0)
    f = Preconditioned(Thinned(0.4, 0.5, 0.6), Trigonometric(0.5), trig(0.5))
    whole = ContinuousConsistency(f, scm().teacher, adaptive=False, constant=1e9)
    assert float(whole.train()(world(0.4, 2).sample(50, Noise(0)), None, Noise(1)).max()) < 1e-12
    dropped = ContinuousConsistency(scm().denoiser, Dropped(Trigonometric(0.5))).train()
    assert dropped.denoiser.training and not dropped.teacher.training


# Progressive distillation


def mixture() -> MixtureWorld:
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    return MixtureWorld(tensor(0.4, 0.6), means, 0.1 * torch.eye(2, dtype=torch.float64).repeat(2, 1, 1))


class Student(Denoiser):
    """Says exactly what a round asks for."""

    def __init__(self, loss: ProgressiveDistillation) -> None:
        super().__init__()
        self.process, self.loss = loss.teacher.process, [loss]

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        N = self.loss[0].steps
        t = torch.as_tensor(t, dtype=torch.float64).expand(len(xt))
        return Estimate(self.loss[0].target(xt, t, torch.round(t * N - 1) / N))


@pytest.mark.parametrize("process", [Cosine(0.0), LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
def test_a_student_without_error_takes_its_teachers_steps_two_at_a_time(process: Any) -> None:
    teacher = MeanOnly(mixture().denoiser(process))
    loss = ProgressiveDistillation(teacher, teacher, 4)
    student = Student(loss)
    x1 = process.prior(torch.zeros(3, 2, dtype=torch.float64)).sample(Noise(0))
    a = sample(student, DDIM(), x1=x1, times=grids.uniform(4), noise=Noise(0))
    b = sample(teacher, DDIM(), x1=x1, times=grids.uniform(8), noise=Noise(0))
    close(a, b, 1e-9)
    loss.denoiser = student
    assert float(loss(mixture().sample(50, Noise(1)), None, Noise(2)).max()) < 1e-15


def test_the_loss_is_weighed_and_only_the_student_learns() -> None:
    process = Cosine(0.0)
    net = MLP(2, 8).double()
    student = Preconditioned(net, process, predict_v)
    teacher = Preconditioned(MLP(2, 8).double(), process, predict_v)
    x0 = mixture().sample(30, Noise(0))
    loss = ProgressiveDistillation(student, teacher, 3)
    assert loss.weight is truncated_snr and not loss.teacher.training and loss.train().teacher.training is False
    loss(x0, None, Noise(1)).sum().backward()
    assert net.leave.weight.grad is not None and all(p.grad is None for p in teacher.parameters())
    noise = Noise(1)
    t = (torch.floor(noise.uniform(torch.empty(30, dtype=torch.float64)) * 3) + 1) / 3
    assert sorted({round(3 * v) for v in t.tolist()}) == [1, 2, 3]
    xt = process.marginal(x0, t).sample(noise)
    gap = (loss.target(xt, t, t - 1 / 3) - student(xt, t).mean).square().mean(1)
    snr = (process.alpha(t) / process.sigma(t)) ** 2
    close(loss(x0, None, Noise(1)), gap * snr.clamp(min=1), 1e-9)
    close(ProgressiveDistillation(student, teacher, 3, v_weight)(x0, None, Noise(1)), gap * (snr + 1), 1e-9)
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        ProgressiveDistillation(student, teacher, 0)


# Recipes


def test_recipe_of_consistency_models_holds_both_papers_choices() -> None:
    Recipe = recipes.load("consistency-models").Recipe
    fields = {"channels": 1, "widths": (8,), "blocks": 1}
    recipe = Recipe(**fields)
    torch.manual_seed(0)
    loss = recipe.objective(recipe.model())
    assert (loss.levels(800_000), loss.improved, loss.law) == (151, False, equally)
    assert loss.decay(2) == pytest.approx(0.9) and loss.decay(151) == pytest.approx(0.9 ** (2 / 151))
    x = normal(2, 1, 4, 4).float()
    close(loss.denoiser(x, 0.0).mean.detach(), x, 1e-6)
    distilled = recipe.distill(recipe.model(), recipe.model())
    assert distilled.levels == 18 and distilled.decay(18) == 0.95 and distilled.teacher is not None
    better = Recipe.improved(800)
    assert (better.first, better.last, better.iterations) == (10, 1280, 800)
    loss = Recipe(**fields, better=True, decay=0.0, first=10, last=1280, iterations=800).objective(recipe.model())
    assert loss.improved and loss.average is None and loss.levels(100) == 21
    close(loss.law(EDM(), 9), log_normal()(EDM(), 9))
    assert float(loss.distance(torch.zeros(1, 4), torch.ones(1, 4))) == pytest.approx(2.0, rel=1e-3)
    assert recipe.sampler() == Consistency() and recipe.process() == EDM()


def test_recipes_of_scm_and_progressive_distillation() -> None:
    fields = {"channels": 1, "widths": (8,), "blocks": 1, "attention": (0,)}
    recipe = recipes.load("scm").Recipe(**fields, sigma_data=0.7, warmup=5, constant=0.2, mean=-0.5)
    torch.manual_seed(0)
    model = recipe.model()
    loss = recipe.objective(model)
    assert (loss.warmup, loss.constant, loss.times, loss.teacher) == (5, 0.2, LogNormal(-0.5, 1.4), None)
    assert recipe.process() == Trigonometric(0.7) and recipe.sampler() == Consistency()
    x0 = 0.7 * normal(64, 1, 4, 4).float()
    # A network that says 0: |F - target|^2 is 1 on data of this spread; the library's U-Net has a forward derivative.
    assert float(recipe.teacher(model)(x0, None, Noise(0)).mean()) == pytest.approx(1.0, abs=0.15)
    loss(x0, None, Noise(0)).mean().backward()
    assert recipe.distill(model, recipe.model()).teacher is not None
    recipe = recipes.load("progressive-distillation").Recipe(**fields)
    assert recipe.rounds() == (512, 256, 128, 64, 32, 16, 8, 4)
    assert recipes.load("progressive-distillation").Recipe(start=6, stop=0).rounds() == (3, 1)
    assert recipe.process().alpha(0.5) == pytest.approx(math.cos(math.pi / 4))
    teacher = recipe.model().requires_grad_(False)
    student = recipe.student(teacher)
    assert all(p.requires_grad for p in student.parameters()) and student is not teacher
    loss = recipe.distill(student, teacher, 8)
    assert loss.steps == 8 and loss.weight is truncated_snr
    assert recipe.objective(student).weight is truncated_snr
    assert recipe.times() == grids.uniform(4) and recipe.times(2) == grids.uniform(2) and recipe.sampler() == DDIM()
