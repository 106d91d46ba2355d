"""The exponential core and the samplers made of it: exactness on polynomials in half log SNR, orders, SDE forms."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import GaussianWorld, MixtureWorld, Noise, Seeds, grids, sample
from sfumato.denoisers import Counted, Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import EDM, Anchored, Cosine, Geometric, LinearBeta, Rectified
from sfumato.samplers import (
    DDIM,
    Ancestral,
    Arc,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMpp3S,
    Sampler,
    UniPC,
    exponential,
    trajectory,
)

PROCESSES = [LinearBeta(), Cosine(), Rectified(), Geometric(), EDM()]


class Polynomial(Denoiser):
    """D = sum_j c_j l^j in half log SNR l, whatever x_t is: an ODE with a known solution."""

    def __init__(self, process: Any, coefficients: tuple[float, ...]) -> None:
        super().__init__()
        self.process, self.coefficients = process, coefficients

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        l = 0.5 * self.process.log_snr(t)
        return Estimate(torch.full_like(xt, sum(c * l**j for j, c in enumerate(self.coefficients))))

    def solution(self, xt: Tensor, t: float, s: float) -> Tensor:
        """x_s by integrating (x / sigma)' = e^l p(l) by parts: the antiderivative is e^l (p - p' + p'' - ...)."""

        def part(l: float) -> float:
            c, total, sign = list(self.coefficients), 0.0, 1.0
            while c:
                total += sign * sum(a * l**j for j, a in enumerate(c))
                c, sign = [j * a for j, a in enumerate(c)][1:], -sign
            return math.exp(l) * total

        a, b = (0.5 * self.process.log_snr(v) for v in (t, s))
        return self.process.sigma(s) * (xt / self.process.sigma(t) + part(b) - part(a))


def mixture() -> MixtureWorld:
    means = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)
    covs = torch.tensor([[[0.1, 0.0], [0.0, 0.1]], [[0.2, 0.05], [0.05, 0.1]]], dtype=torch.float64)
    return MixtureWorld(torch.tensor([0.4, 0.6], dtype=torch.float64), means, covs)


def rows(*values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(errors: list[float]) -> float:
    return math.log2(errors[-2] / errors[-1])


@pytest.mark.parametrize("k", [0.0, 1e-9, 0.3, 0.999, 1.0, 7.0, 60.0])
def test_moments_are_the_integrals(k: float) -> None:
    # Gauss-Legendre of 200 nodes as the oracle.
    import numpy as np

    r, w = np.polynomial.legendre.leggauss(200)
    r, w = 0.5 * (r + 1), 0.5 * w
    truth = [float((w * np.exp(-k * (1 - r)) * r**j).sum()) for j in range(5)]
    assert exponential.moments(k, 5) == pytest.approx(truth, rel=1e-12)


def test_weights_without_decay_are_those_of_adams() -> None:
    assert exponential.weights(0.0, (0.0, -1.0)) == pytest.approx([3 / 2, -1 / 2])
    assert exponential.weights(0.0, (0.0, -1.0, -2.0)) == pytest.approx([23 / 12, -16 / 12, 5 / 12])
    assert exponential.weights(0.0, (0.0, -1.0, -2.0, -3.0)) == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24])
    assert exponential.weights(0.0, (1.0, 0.0)) == pytest.approx([1 / 2, 1 / 2])
    assert exponential.weights(0.0, (1.0, 0.0, -1.0)) == pytest.approx([5 / 12, 8 / 12, -1 / 12])


def test_combine_keeps_the_graph_and_its_inputs() -> None:
    a, b = (torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in (2.0, 5.0))
    exponential.combine((3.0, -1.0), (a, b)).backward()
    assert a.grad == 3.0 and b.grad == -1.0
    a, b = a.detach(), b.detach()
    assert exponential.combine((3.0, -1.0), (a, b)).item() == 1.0 and a.item() == 2.0 and b.item() == 5.0


@pytest.mark.parametrize("sampler", [DPMpp2M(), DPMpp3M(), DPMpp2S(), DPMpp3S(), UniPC(2), UniPC(3, "bh1")], ids=repr)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_a_constant_denoiser_is_exact_for_any_step(sampler: Sampler, process: Any) -> None:
    D, x = Polynomial(process, (0.7,)), rows((1.0,), (-2.0,))
    for times in ((0.9, 0.1), (0.9, 0.6, 0.55, 0.02)):
        out = sample(D, sampler, x1=x, times=times, noise=Noise(0))
        torch.testing.assert_close(out, D.solution(x, times[0], times[-1]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "degree", "warm"),
    [
        (DPMpp3M(), 2, 2),
        (UniPC(3), 2, 2),
        (UniPC(3, "bh1"), 2, 2),
        (UniPC(4), 3, 3),
        (DPMpp3S(), 1, 0),
    ],
    ids=repr,
)
def test_polynomials_are_integrated_exactly(sampler: Sampler, degree: int, warm: int) -> None:
    """From the step on that has a full history; the step is uneven on purpose."""
    process = LinearBeta()
    coefficients = (0.3, -0.5, 0.2, 0.1)[: degree + 1]
    D = Polynomial(process, coefficients)
    times = (0.9, 0.8, 0.73, 0.6, 0.45, 0.3)
    states = [step.x for step in trajectory(D, sampler, rows((1.0,)), times, Noise(0))]
    # A predictor's step is exact from the state it starts at; for a UniPC step that is the corrected one.
    if isinstance(sampler, UniPC):
        memory, x = sampler.init(D, rows((1.0,))), rows((1.0,))
        for i, (t, s) in enumerate(pairwise(times)):
            x, memory = sampler.step(D, x, t, s, memory, Noise(0))
            if i >= warm:
                torch.testing.assert_close(x, D.solution(memory[1], t, s), rtol=1e-12, atol=1e-12)
    else:
        for i in range(warm, len(times) - 1):
            exact = D.solution(states[i], times[i], times[i + 1])
            torch.testing.assert_close(states[i + 1], exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("order", "degree"), [(2, 2), (3, 3)])
def test_the_corrector_is_exact_one_degree_higher(order: int, degree: int) -> None:
    process, sampler = LinearBeta(), UniPC(order)
    D, times = Polynomial(process, (0.3, -0.5, 0.2, 0.1)[: degree + 1]), (0.9, 0.8, 0.73, 0.6, 0.45, 0.3)
    memory, x, before = None, rows((1.0,)), None
    for i, (t, s) in enumerate(pairwise(times)):
        x, memory = sampler.step(D, x, t, s, memory, Noise(0))
        if i > order:
            torch.testing.assert_close(memory[1], D.solution(before, times[i - 1], t), rtol=1e-12, atol=1e-12)
        before = memory[1]


def test_shortcuts_of_unipc() -> None:
    """UniP-2 with bh2 is 2M; with bh1 the difference D - D_last weighs h / 2 in the place of (1 - e^-h) / 2."""
    process = LinearBeta()
    D, times = Polynomial(process, (0.0, 1.0)), (0.9, 0.7, 0.5)
    l = [0.5 * process.log_snr(t) for t in times]
    h, h_last = l[2] - l[1], l[1] - l[0]
    ends = {}
    for variant in ("bh1", "bh2"):
        memory: Any = None
        x = rows((1.0,))
        for t, s in pairwise(times):
            x, memory = UniPC(2, variant).step(D, x, t, s, memory, Noise(0))
        corrected = memory[1]
        ends[variant] = x - process.sigma(0.5) / process.sigma(0.7) * corrected
    alpha, D_now, D1 = process.alpha(0.5), l[1], (l[1] - l[0]) * h / h_last
    assert ends["bh2"].item() == pytest.approx(alpha * -math.expm1(-h) * (D_now + 0.5 * D1), rel=1e-12)
    assert ends["bh1"].item() == pytest.approx(alpha * (-math.expm1(-h) * D_now + 0.5 * h * D1), rel=1e-12)


ORDERS = [
    (DPMpp2S(), 2.0),
    (DPMpp3S(), 3.0),
    (DPMpp3M(), 3.0),
    (DPMpp3M(published=True), 2.0),
    (UniPC(1), 2.0),
    (UniPC(2), 3.0),
    (UniPC(2, "bh1"), 3.0),
    (UniPC(3), 4.0),
    (Arc(1), 2.0),
    (Arc(2), 3.0),
    (Arc(3), 4.0),
    (Arc(2, radius=0.5), 3.0),
]


@pytest.mark.parametrize(("sampler", "order"), ORDERS, ids=repr)
def test_order_on_a_gaussian(sampler: Sampler, order: float) -> None:
    """N(0.3, 0.25), rho-7 grid 80 to 0.05: the card's setting; the method's order, 160 -> 320 steps."""
    process = EDM(0.05, 80.0)
    world = GaussianWorld(rows((0.3,))[0], rows((0.25,)))
    x, D = 80.0 * rows((1.0,), (-0.7,)), world.denoiser(process)
    exact = world.flow(x, 1.0, 0.0, process)
    errors = [
        float((sample(D, sampler, x1=x, times=grids.uniform(n), noise=Noise(0)) - exact).abs().max())
        for n in (160, 320)
    ]
    assert slope(errors) == pytest.approx(order, abs=0.1)


@lru_cache
def end_of_flow() -> Tensor:
    return mixture().flow(rows((1.0, -0.5), (0.4, 0.6)), 0.95, 0.05, LinearBeta(), steps=1000)


@pytest.mark.parametrize(("sampler", "order"), ORDERS, ids=repr)
def test_order_on_a_mixture(sampler: Sampler, order: float) -> None:
    """The mixture under LinearBeta between 0.95 and 0.05: a nonlinear flow, another process, the log-SNR grid."""
    process, world = LinearBeta(), mixture()
    x, D = rows((1.0, -0.5), (0.4, 0.6)), world.denoiser(process)
    exact = end_of_flow()
    errors = [
        float(
            (
                sample(D, sampler, x1=x, times=grids.log_snr(process, n, start=0.95, end=0.05), noise=Noise(0)) - exact
            ).norm()
        )
        for n in (60, 120)
    ]
    assert slope(errors) > order - (0.6 if isinstance(sampler, UniPC) and sampler.order == 3 else 0.15)
    assert slope(errors) < order + 0.5


def variance(sampler: Sampler, process: Any, times: tuple[float, ...], v: float) -> float:
    """Output variance of a sampler on N(0, v), exactly: a linear map of the start and of each draw of noise."""
    world = GaussianWorld(rows((0.0,))[0], rows((v,)))

    class Unit(Noise):
        """One basis draw at a time: row i sees 1.0 at draw i, else 0."""

        count = 0

        def normal(self, like: Tensor) -> Tensor:
            self.count += 1
            return torch.nn.functional.one_hot(torch.tensor(self.count), len(like)).to(like).reshape(like.shape)

    start = process.alpha(times[0]) ** 2 * v + process.sigma(times[0]) ** 2
    x = torch.zeros(len(times) + 1, 1, dtype=torch.float64)
    x[0] = math.sqrt(start)
    out = sample(world.denoiser(process), sampler, x1=x, times=times, noise=Unit())
    return float(out.square().sum())


def test_sde_forms_have_second_order_in_law() -> None:
    process = EDM(0.05, 80.0)
    truth = 0.25 + 0.05**2
    for sampler, order in (
        (DDIM(1.0), 1.0),
        (DPMpp2M(eta=1.0), 2.0),
        (DPMpp3M(eta=1.0), 2.0),
        (DPMpp2M(eta=0.5), 2.0),
        (DPMpp3M(eta=1.7), 2.0),
    ):
        errors = [abs(variance(sampler, process, grids.uniform(n), 0.25) - truth) for n in (160, 320)]
        assert slope(errors) == pytest.approx(order, abs=0.12), sampler


def test_sde_forms_at_their_ends() -> None:
    """One step: eta = 1 is the ancestral step and eta = 0 DDIM; between, the noise is sigma sqrt(1 - e^{-2 eta h})."""
    process, x = LinearBeta(), rows((1.0, -0.5), (0.4, 0.6))
    D = mixture().denoiser(process)
    for sampler in (DPMpp2M, DPMpp3M):
        run = lambda s, times=(0.8, 0.5): sample(D, s, x1=x, times=times, noise=Noise(3))  # noqa: E731
        torch.testing.assert_close(run(sampler(eta=1.0)), run(DDIM(1.0)), rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(run(sampler()), run(DDIM()), rtol=0, atol=0)
    h, eta = exponential.step_size(process, 0.8, 0.5), 0.3
    gap = run(DPMpp2M(eta=eta)) - (
        process.sigma(0.5) / process.sigma(0.8) * math.exp(-eta * h) * x
        - process.alpha(0.5) * math.expm1(-(1 + eta) * h) * D(x, 0.8).mean
    )
    z = Noise(3).normal(x)
    torch.testing.assert_close(gap, process.sigma(0.5) * math.sqrt(1 - math.exp(-2 * eta * h)) * z)
    # eta above 1 in a step so long that 1 - e^{-2 eta h} rounds to 1
    assert sample(D, DPMpp2M(eta=5.0), x1=x, times=(1.0, 1e-6), noise=Noise(0)).isfinite().all()
    assert exponential.share(2.0, 0.0) == 2.0 and exponential.share(0.4, math.inf) == pytest.approx(1.0)


def test_the_published_3m_differs_by_half_its_last_term() -> None:
    """On a parabola 3M is exact and the published form keeps a half of the curvature: p2 of the card, halved."""
    process = LinearBeta()
    D, times = Polynomial(process, (0.0, 0.0, 1.0)), (0.9, 0.8, 0.7, 0.6)
    a, b = (list(trajectory(D, s, rows((1.0,)), times, Noise(0)))[-2:] for s in (DPMpp3M(), DPMpp3M(published=True)))
    torch.testing.assert_close(a[0].x, b[0].x)
    h = exponential.step_size(process, 0.7, 0.6)
    # D is l^2: its second divided difference times h^2 is h^2.
    term = -2.0 * process.alpha(0.6) * ((math.expm1(-h) + h) / h**2 - 0.5) * h**2
    torch.testing.assert_close(a[1].x - b[1].x, torch.full_like(a[1].x, 0.5 * term), rtol=1e-10, atol=1e-13)


ALL = [
    DPMpp2M(),
    DPMpp2S(),
    DPMpp3M(),
    DPMpp3S(),
    UniPC(2),
    UniPC(3),
    Arc(),
    Arc(2),
    DPMpp3M(eta=1.0),
    DPMpp2M(eta=0.5),
]


@pytest.mark.parametrize("sampler", ALL, ids=repr)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_whole_way_with_degenerate_ends(sampler: Sampler, process: Any) -> None:
    """From alpha(1) = 0 to sigma(0) = 0 or what is there: a point mass is reached, up to the noise left at t = 0."""
    point = rows((0.4, -0.2))
    world = MixtureWorld(torch.ones(1, dtype=torch.float64), point, torch.zeros(1, 2, 2, dtype=torch.float64))
    x1 = process.prior(rows((0.0, 0.0), (0.0, 0.0))).sample(Noise(0))
    for steps in (1, 2, 12):
        out = sample(world.denoiser(process), sampler, x1=x1, times=grids.log_snr(process, steps), noise=Noise(1))
        assert out.isfinite().all()
        if process.sigma(0.0) == 0.0 and not isinstance(sampler, Arc):
            torch.testing.assert_close(out, point.expand_as(out), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sampler", ALL, ids=repr)
def test_rows_do_not_see_each_other(sampler: Sampler) -> None:
    process = Rectified()
    D, x = mixture().denoiser(process), Seeds([1, 2, 3]).normal(torch.zeros(3, 2, dtype=torch.float64))
    times = grids.default(process, 7)
    whole = sample(D, sampler, x1=x, times=times, noise=Seeds([4, 5, 6]))
    for i in range(3):
        alone = sample(D, sampler, x1=x[i : i + 1], times=times, noise=Seeds([4 + i]))
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sampler", "calls"), [(DPMpp3M(), 6), (UniPC(), 6), (Arc(), 6), (DPMpp2S(), 11), (DPMpp3S(), 16)]
)
def test_calls(sampler: Sampler, calls: int) -> None:
    """One a step for multistep ones; two and three for single-step ones but in the step to sigma = 0."""
    D = Counted(mixture().denoiser(LinearBeta()))
    sample(D, sampler, x1=rows((1.0, -0.5)), times=grids.log_snr(LinearBeta(), 6), noise=Noise(0))
    assert D.calls == calls


@pytest.mark.parametrize("sampler", [DPMpp3M(), UniPC(), Arc(), DPMpp2S(), DPMpp3S()], ids=repr)
def test_anchors_and_scales_change_nothing(sampler: Sampler) -> None:
    """With shift (1 - alpha) m and scale k, the state is that of v = (x_0 - m) / k, scaled and moved."""
    inner, m, k = LinearBeta(), rows((0.4, -0.9)), rows((2.0, 0.5))
    if isinstance(sampler, Arc):  # which takes the data to lie about 0, not about the anchor
        m = torch.zeros_like(m)
    process = Anchored(inner, anchor=m, scale=k)
    base = mixture()
    moved = MixtureWorld(base.weights, base.means * k + m, base.covs * k[:, :, None] * k[:, None, :])
    u, times = rows((1.0, -0.5), (0.4, 0.6)), grids.default(inner, 8, start=0.95)
    plain = sample(base.denoiser(inner), sampler, x1=u, times=times, noise=Noise(0))
    # x_0 = k v + m gives alpha x_0 + (1 - alpha) m + k sigma eps = k (alpha v + sigma eps) + m at every time.
    out = sample(moved.denoiser(process), sampler, x1=u * k + m, times=times, noise=Noise(0))
    torch.testing.assert_close(out, plain * k + m, rtol=1e-10, atol=1e-10)


def test_arc_follows_a_shift() -> None:
    process = Anchored(LinearBeta(), anchor=rows((0.4, -0.9)))
    world = GaussianWorld(rows((0.1, 0.3))[0], rows((0.3, 0.1), (0.1, 0.2)))
    x, times = rows((1.0, -0.5)), grids.default(process, 60, start=0.95, end=0.05)
    out = sample(world.denoiser(process), Arc(), x1=x, times=times, noise=Noise(0))
    torch.testing.assert_close(out, world.flow(x, 0.95, 0.05, process), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", [UniPC(2), Arc(2)], ids=repr)
def test_a_move_between_steps_is_kept(sampler: Sampler) -> None:
    """What is added to the state between two steps reaches the corrected state whole: it is not undone by memory."""
    process = LinearBeta()
    D = Polynomial(process, (0.0,))
    x, memory = sampler.step(D, rows((1.0,)), 0.8, 0.7, None, Noise(0))
    _, still = sampler.step(D, x, 0.7, 0.6, memory, Noise(0))
    moved = x + process.sigma(0.7)
    _, after = sampler.step(D, moved, 0.7, 0.6, memory, Noise(0))
    gap = (after[1] - still[1]).item()
    if isinstance(sampler, UniPC):
        assert gap == pytest.approx(process.sigma(0.7), rel=1e-12)
    else:  # the slope sees the move too; z moves by sigma / length and by its share in the correction
        assert gap > 0.5 * process.sigma(0.7)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="order of UniPC is at least 1, got 0"):
        UniPC(0)
    with pytest.raises(ValueError, match="'bh1' or 'bh2', got 'bh3'"):
        UniPC(2, "bh3")
    for wrong in ({"order": 0}, {"order": 5}, {"radius": 0.0}):
        with pytest.raises(ValueError, match="Arc needs order 1 to 4 and radius > 0"):
            Arc(**wrong)


def test_long_steps_use_one_estimate() -> None:
    """A step more than twice as long as the last is DDIM's from the same state; exactly twice is not."""
    process = LinearBeta()
    D, x = Polynomial(process, (0.0, 1.0)), rows((1.0,))
    for factor, first_order in ((2.0, False), (2.1, True)):
        l = process.log_snr(0.9)
        times = tuple(process.time_of(l + v) for v in (0.0, 0.5, 0.5 + 0.5 * factor))
        states = [s.x for s in trajectory(D, DPMpp3M(), x, times, Noise(0))]
        plain = sample(D, DDIM(), x1=states[1], times=times[1:], noise=Noise(0))
        assert torch.allclose(states[2], plain, rtol=1e-9) is first_order


def test_ancestral_with_mean_alone_is_sde_1() -> None:
    process, x = Cosine(), rows((1.0, -0.5))
    D = Polynomial(process, (0.3,))
    a, b = (sample(D, s, x1=x, times=(0.9, 0.5, 0.1), noise=Noise(1)) for s in (Ancestral(), DPMpp2M(eta=1.0)))
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
