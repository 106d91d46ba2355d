"""Every sampler of the core: order of convergence, exactness where it holds, degenerate ends, batch invariance."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from worlds_for_tests import (
    PROCESSES,
    close,
    diagonal_world,
    full_world,
    law_of_marginal,
    mixture_world,
    moments,
    normal,
    point_world,
    tensor,
)

from sfumato import grids
from sfumato.denoisers import Denoiser, Estimate, MeanOnly
from sfumato.noise import Noise, Seeds
from sfumato.processes import EDM, Anchored, Cosine, Discrete, Gaussian, LinearBeta, Rectified, Table
from sfumato.samplers import DDIM, Ancestral, DPMpp2M, Euler, Heun, Sampler, sample, trajectory
from sfumato.worlds import GaussianWorld, TableWorld

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
SAMPLERS: dict[str, Sampler] = {
    "Ancestral": Ancestral(),
    "DDIM": DDIM(),
    "DDIM.eta": DDIM(eta=0.6),
    "Euler": Euler(),
    "Heun": Heun(),
    "Heun.churn": Heun(churn=0.3),
    "DPMpp2M": DPMpp2M(),
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())

# Order

FIRST, SECOND = [DDIM(), Euler()], [Heun(), DPMpp2M()]
SMOOTH = [
    "LinearBeta",
    "Cosine",
    "Rectified",
    "EDM",
    "Anchored",
    "Anchored.scaled",
    "SubVP",
    "SigmoidBeta",
    "Geometric",
]


def slopes(sampler: Sampler, process: Gaussian, steps: tuple[int, ...]) -> list[float]:
    """log2 of the fall of the error between t = 0.95 and 0.05, from each number of steps to its double."""
    world = full_world()
    x1 = world.marginal(process, 0.95).sample(4, Noise(0))
    truth, denoiser = world.flow(x1, 0.95, 0.05, process), world.denoiser(process)
    errors = []
    for n in steps:
        times = grids.uniform(n, start=0.95, end=0.05)
        errors.append(float((sample(denoiser, sampler, x1=x1, times=times, noise=Noise(0)) - truth).norm()))
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("sampler", FIRST, ids=lambda s: type(s).__name__)
def test_first_order(sampler: Sampler, name: str) -> None:
    assert slopes(sampler, PROCESSES[name], (128, 256))[0] == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("sampler", SECOND, ids=lambda s: type(s).__name__)
def test_second_order(sampler: Sampler, name: str) -> None:
    assert slopes(sampler, PROCESSES[name], (128, 256))[0] == pytest.approx(2.0, abs=0.15)


# Exactness


@every
@pytest.mark.parametrize("end", [0.0, 0.2])
def test_ancestral_with_variance_is_exact_in_four_steps(process: Gaussian, end: float) -> None:
    """Where the elements are independent normals: mean and variance of x_s, from the linear response."""
    world = diagonal_world()
    times = (1.0, 0.8, 0.45, 0.3, end)
    mean, var = moments(world.denoiser(process), Ancestral(), times, *law_of_marginal(world, process, 1.0))
    want, std = law_of_marginal(world, process, end)
    close(mean, want, 1e-11)
    close(var, std**2, 1e-11)


def test_ancestral_with_the_mean_alone_is_too_narrow() -> None:
    """In one step the mean alone has no spread at all; the variance makes the same step exact."""
    world, process = diagonal_world(), Rectified()
    start = law_of_marginal(world, process, 1.0)
    close(moments(MeanOnly(world.denoiser(process)), Ancestral(), (1.0, 0.0), *start, draws=2)[1], 0.0)
    close(moments(world.denoiser(process), Ancestral(), (1.0, 0.0), *start)[1], world.cov.diagonal())


@every
def test_ancestral_travels_up_and_down_without_loss(process: Gaussian) -> None:
    world = diagonal_world()
    times = grids.travel((0.9, 0.7, 0.5, 0.3, 0.1), jump=2, repeats=2)
    assert any(a < b for a, b in itertools.pairwise(times))
    mean, var = moments(world.denoiser(process), Ancestral(), times, *law_of_marginal(world, process, 0.9))
    want, std = law_of_marginal(world, process, 0.1)
    close(mean, want, 1e-11)
    close(var, std**2, 1e-11)


CARD = GaussianWorld(tensor(0.0), tensor(0.25).reshape(1, 1))  # the data of the DDPM and DDIM cards


def card_variance(sampler: Sampler, steps: int) -> float:
    """Variance of the output from N(0, 1) on DDPM's table at round(linspace(0, 999, S)), no noise in the last step."""
    denoiser = MeanOnly(CARD.denoiser(Table.linear()))
    times = grids.table(Table.linear(), steps, spacing="linspace")
    if isinstance(sampler, DDIM):
        x = [sample(denoiser, sampler, x1=tensor(v).reshape(1, 1), times=times, noise=Noise(0)) for v in (0.0, 1.0)]
        return float(x[1] - x[0]) ** 2
    return float(moments(denoiser, sampler, times, tensor(0.0), 1.0)[1])


@pytest.mark.parametrize(("steps", "variance"), [(10, 0.1308), (20, 0.1853), (40, 0.2162), (80, 0.2326)])
def test_output_variance_of_ddim(steps: int, variance: float) -> None:
    """The four figures of the DDIM card."""
    assert card_variance(DDIM(), steps) == pytest.approx(variance, abs=5e-5)


@pytest.mark.parametrize(("steps", "variance"), [(10, 0.1042), (50, 0.1964), (1000, 0.24613)])
def test_output_variance_of_ddpm_with_the_small_variance(steps: int, variance: float) -> None:
    """The "fixedsmall" figures of the DDPM card: Ancestral with the mean alone."""
    assert card_variance(Ancestral(), steps) == pytest.approx(variance, abs=5e-5 if steps < 1000 else 5e-6)


@every
def test_ddim_at_eta_one_is_ancestral_from_the_mean(process: Gaussian) -> None:
    world, x1 = mixture_world(), normal(4, 3)
    denoiser, times = world.denoiser(process), (1.0, 0.6, 0.3, 0.1, 0.0)
    a = sample(denoiser, DDIM(eta=1.0), x1=x1, times=times, noise=Noise(3))
    b = sample(MeanOnly(denoiser), Ancestral(), x1=x1, times=times, noise=Noise(3))
    assert torch.equal(a, b)
    assert not torch.equal(a, sample(denoiser, Ancestral(), x1=x1, times=times, noise=Noise(3)))


@every
@pytest.mark.parametrize("name", ["Ancestral", "DDIM", "DDIM.eta", "Heun", "DPMpp2M"])
@pytest.mark.parametrize("times", [(1.0, 0.0), (0.95, 0.9, 0.2, 0.1), (0.5, 0.3, 0.0)])
def test_point_data_are_exact_in_any_steps(process: Gaussian, name: str, times: tuple[float, ...]) -> None:
    """A constant denoiser: every exponential step is exact, whatever its length, and keeps the marginal."""
    world = point_world()
    start, end = (law_of_marginal(world, process, t) for t in (times[0], times[-1]))
    mean, var = moments(world.denoiser(process), SAMPLERS[name], times, *start)
    close(mean, end[0], 1e-11)
    close(var, end[1] ** 2, 1e-11)


def test_euler_on_a_straight_path_is_ddim() -> None:
    world, x1, times = mixture_world(), normal(4, 3), grids.uniform(7)
    a, b = (
        sample(world.denoiser(Rectified()), sampler, x1=x1, times=times, noise=Noise(0))
        for sampler in (Euler(), DDIM())
    )
    close(a, b)


def test_ancestral_on_categories_is_exact_for_one_position() -> None:
    """The law of the chain, followed exactly: sum over x_t of p(x_t) reverse(x_s | x_t)."""
    world = TableWorld(tensor(0.5, 0.2, 0.3, 0.0))
    for process in (Discrete(4), Discrete(4, absorbing=3)):
        denoiser, states = world.denoiser(process), torch.arange(4).reshape(4, 1)
        p = process.prior(states[:1]).probs[0, 0].double()
        times = (1.0, 0.7, 0.2, 0.0)
        for t, s in itertools.pairwise(times):
            reachable = p > 0
            law = denoiser.process.reverse(denoiser(states[reachable], t), states[reachable], t, s)
            p = p[reachable] @ law.probs[:, 0].double()
        close(p, world.table, 1e-6)
        n = 4000
        x = sample(
            denoiser, Ancestral(), x1=process.prior(torch.zeros(n, 1)).sample(Noise(0)), times=times, noise=Noise(1)
        )
        shares = torch.bincount(x[:, 0], minlength=4) / n
        assert float((shares - world.table).abs().max()) < 4 * 0.5 / n**0.5


# Heun


def test_churn_raises_sigma_by_gamma_with_fresh_noise() -> None:
    """Karras et al. 2022, algorithm 2, for a constant D: x^ = x + sqrt(s^^2 - s^2) S_noise z, then down from s^."""
    process, t, s, gamma, extra = EDM(), 0.6, 0.4, 0.3, 1.1
    raised = process.sigma(t) * (1 + gamma)
    fresh = math.sqrt(raised**2 - process.sigma(t) ** 2) * extra
    step = Heun(churn=gamma, churn_noise=extra)
    world = point_world()
    down = process.sigma(s) / raised
    _, var = moments(world.denoiser(process), step, (t, s), world.mean, 2.0, draws=2)
    close(var, down**2 * (2.0**2 + fresh**2), 1e-9)
    # outside its range of sigma / alpha there is no churn, and no draw
    level = process.sigma(t)
    for narrow in (replace(step, churn_min=level * 1.01), replace(step, churn_max=level * 0.99)):
        noise = Noise(0)
        a = sample(world.denoiser(process), narrow, x1=normal(2, 3), times=(t, s), noise=noise)
        close(a, sample(world.denoiser(process), Heun(), x1=normal(2, 3), times=(t, s), noise=Noise(1)), 0.0)
        assert torch.equal(noise.normal(a), Noise(0).normal(a))
    inside = replace(step, churn_min=level * 0.99, churn_max=level * 1.01)
    close(moments(world.denoiser(process), inside, (t, s), world.mean, 2.0, draws=2)[1], var, 1e-12)


@pytest.mark.parametrize("name", ["EDM", "LinearBeta", "Cosine", "Rectified", "Anchored.scaled", "Table.linear"])
def test_churn_with_the_exact_denoiser_keeps_the_marginal(name: str) -> None:
    """The raise is exact, so what is left is Heun's own error: second order with the paper's gamma = S_churn / N."""
    process, world = PROCESSES[name], diagonal_world()
    start, end = (law_of_marginal(world, process, t) for t in (0.9, 0.3))
    errors = []
    for n in (64, 128):
        times = grids.uniform(n, start=0.9, end=0.3)
        _, var = moments(world.denoiser(process), Heun(churn=4 / n), times, *start, draws=n + 1)
        errors.append(float((var - end[1] ** 2).abs().max()))
    assert errors[0] < 2e-2 and math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.3)


def test_churn_stops_at_the_top() -> None:
    """From t = 1 there is nowhere to raise sigma to."""
    world, x1 = full_world(), normal(2, 3)
    for process in (EDM(), Rectified(), Cosine()):
        a, b = (
            sample(world.denoiser(process), h, x1=x1, times=(1.0, 0.5), noise=Noise(0))
            for h in (Heun(churn=0.4), Heun())
        )
        close(a, b, 0.0)


def test_churn_has_the_range_of_the_paper() -> None:
    Heun(churn=math.sqrt(2) - 1)
    Heun(churn=0.0)
    for churn in (-0.01, 0.42):
        with pytest.raises(ValueError, match=r"from 0 to sqrt\(2\) - 1 = 0\.4142, got " + str(churn)):
            Heun(churn=churn)


class Told(Denoiser):
    """Answers with the numbers it is told, in turn, and counts."""

    def __init__(self, process: Gaussian, answers: list[float]) -> None:
        super().__init__()
        self.process, self.answers = process, list(answers)

    def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
        return Estimate(torch.full_like(xt, self.answers.pop(0)), torch.ones_like(xt))


def test_heun_averages_the_slopes_of_karras() -> None:
    """alpha = 1: d = (x - D) / sigma at both ends, x_s = x + (sigma_s - sigma_t) (d + d') / 2, with D told."""
    process, t, s, x = EDM(), 0.6, 0.5, 3.0
    a, b = process.sigma(t), process.sigma(s)
    d = (x - 0.7) / a
    d2 = ((x + (b - a) * d) - (-0.4)) / b
    got = sample(Told(process, [0.7, -0.4]), Heun(), x1=tensor(x).reshape(1, 1), times=(t, s), noise=Noise(0))
    close(got, x + (b - a) * 0.5 * (d + d2))


def test_heun_is_first_order_beyond_its_guard() -> None:
    """One call and DDIM where e^h exceeds the guard; two calls below it."""
    process, x1 = EDM(), tensor(3.0).reshape(1, 1)
    t, s = 0.6, 0.5
    ratio = process.sigma(t) / process.sigma(s)
    for guard, calls in ((ratio * 1.001, 2), (ratio * 0.999, 1)):
        denoiser = Told(process, [0.7, -0.4])
        got = sample(denoiser, Heun(guard=guard), x1=x1, times=(t, s), noise=Noise(0))
        assert len(denoiser.answers) == 2 - calls
        if calls == 1:
            close(got, sample(Told(process, [0.7]), DDIM(), x1=x1, times=(t, s), noise=Noise(0)), 0.0)
    assert Heun().guard == 10.0
    for process, times in ((Rectified(), (0.3, 0.0)), (Rectified(), (1.0, 0.9)), (Cosine(), (0.5, 0.0))):
        denoiser = Told(process, [0.7])
        sample(denoiser, Heun(), x1=x1, times=times, noise=Noise(0))
        assert denoiser.answers == []


# DPM-Solver++ 2M


def midpoint(process: Gaussian, times: list[float], x: float, m1: float, m0: float) -> float:
    """The last of two steps by the card's formula: r = h_prev / h, D1 = (m_0 - m_1) / r, m_0 + D1 / 2."""
    lam = [math.log(process.alpha(t) / process.sigma(t)) for t in times]
    h_last, h = lam[1] - lam[0], lam[2] - lam[1]
    x = process.sigma(times[1]) / process.sigma(times[0]) * x - process.alpha(times[1]) * math.expm1(-h_last) * m1
    D1 = (m0 - m1) / (h_last / h)
    target = m0 + 0.5 * D1
    return process.sigma(times[2]) / process.sigma(times[1]) * x - process.alpha(times[2]) * math.expm1(-h) * target


def test_dpmpp_is_the_midpoint_formula_of_the_card() -> None:
    for process in (LinearBeta(), EDM(), Rectified()):
        times = [0.8, 0.7, 0.62]
        got = sample(
            Told(process, [0.7, -0.4]), DPMpp2M(), x1=tensor(3.0).reshape(1, 1), times=tuple(times), noise=Noise(0)
        )
        close(got, midpoint(process, times, 3.0, 0.7, -0.4), 1e-11)


def test_dpmpp_never_extrapolates_by_more_than_the_last_change() -> None:
    """w = h / (2 h_last) is held to 1: a step more than twice as long as the last uses D + (D - D_last)."""
    process, x1 = LinearBeta(), tensor(3.0).reshape(1, 1)
    lam = [process.log_snr(0.8) + d for d in (0.0, 0.1, 0.5)]  # the second step four times as long: w would be 2
    times = tuple(process.time_of(v) for v in lam)
    got = sample(Told(process, [0.7, -0.4]), DPMpp2M(), x1=x1, times=times, noise=Noise(0))
    first = sample(Told(process, [0.7]), DDIM(), x1=x1, times=times[:2], noise=Noise(0))
    close(got, sample(Told(process, [2 * -0.4 - 0.7]), DDIM(), x1=first, times=times[1:], noise=Noise(0)))


@pytest.mark.parametrize("times", [(1.0, 0.5), (0.5, 0.0), (1.0, 0.5, 0.0)])
def test_dpmpp_is_first_order_at_infinite_steps(times: tuple[float, ...]) -> None:
    """From alpha = 0 and to sigma = 0 the step in log SNR is infinite; a constant or told D meets DDIM there."""
    x1, told = tensor(3.0).reshape(1, 1), [0.7, -0.4][: len(times) - 1]
    a, b = (
        sample(Told(Rectified(), told), sampler, x1=x1, times=times, noise=Noise(0)) for sampler in (DPMpp2M(), DDIM())
    )
    close(a, b, 0.0)


def test_dpmpp_after_an_infinite_step_starts_afresh() -> None:
    x1, times = tensor(3.0).reshape(1, 1), (1.0, 0.6, 0.4)
    a, b = (
        sample(Told(Rectified(), [0.7, -0.4]), sampler, x1=x1, times=times, noise=Noise(0))
        for sampler in (DPMpp2M(), DDIM())
    )
    close(a, b, 0.0)


# Degenerate ends and batches


@samplers
@every
def test_ends_and_one_step(sampler: Sampler, process: Gaussian) -> None:
    """From t = 1 to 0 in one, two and three steps, a batch of one, one number: finite, near the data's scale."""
    anchored = isinstance(process, Anchored)
    world = full_world() if anchored else GaussianWorld(tensor(0.3), tensor(0.5).reshape(1, 1))
    x1 = world.marginal(process, 1.0).sample(1, Noise(5))
    for times in ((1.0, 0.0), (1.0, 0.4, 0.0), grids.uniform(3)):
        x = sample(world.denoiser(process), sampler, x1=x1, times=times, noise=Noise(0))
        assert x.shape == x1.shape and bool(torch.isfinite(x).all())


@samplers
@every
def test_a_batch_of_two_is_two_batches_of_one(sampler: Sampler, process: Gaussian) -> None:
    world, times = mixture_world(), grids.uniform(5, start=0.95, end=0.05)
    denoiser = world.denoiser(process)
    x1 = world.marginal(process, 0.95).sample(3, Noise(7))
    whole = sample(denoiser, sampler, x1=x1, times=times, noise=Seeds([11, 12, 13]))
    for i in range(3):
        alone = sample(denoiser, sampler, x1=x1[i : i + 1], times=times, noise=Seeds([11 + i]))
        close(alone[0], whole[i])
    order = torch.tensor([2, 0, 1])
    permuted = sample(denoiser, sampler, x1=x1[order], times=times, noise=Seeds([13, 11, 12]))
    close(permuted, whole[order])


@pytest.mark.parametrize("name", ["Ancestral", "DDIM", "DDIM.eta", "Euler"])
@every
def test_times_for_each_sample_are_scalar_times_one_by_one(name: str, process: Gaussian) -> None:
    world = mixture_world()
    denoiser, x1 = world.denoiser(process), normal(3, 3)
    times = torch.tensor([[0.9, 0.8, 0.7], [0.5, 0.6, 0.4], [0.1, 0.6, 0.2]], dtype=torch.float64)
    whole = sample(denoiser, SAMPLERS[name], x1=x1, times=times, noise=Seeds([1, 2, 3]))
    for i in range(3):
        grid = tuple(times[:, i].tolist())
        noise = Seeds([1 + i])
        if i == 1 and name in ("Ancestral", "DDIM.eta"):  # where s = t a float draws nothing, a tensor draws times 0
            first = sample(denoiser, SAMPLERS[name], x1=x1[i : i + 1], times=grid[:2], noise=noise)
            close(whole[i], first[0], 1e-11)
            continue
        alone = sample(denoiser, SAMPLERS[name], x1=x1[i : i + 1], times=grid, noise=noise)
        close(whole[i], alone[0], 1e-11)


@samplers
def test_scaling_the_data_and_its_schedule_scales_the_samples(sampler: Sampler) -> None:
    small, factor = mixture_world(), 3.0
    large = type(small)(small.weights, factor * small.means, factor**2 * small.covs)
    low, high = EDM(), EDM(0.002 * factor, 80.0 * factor)
    x1, times = 20 * normal(3, 3), grids.uniform(6, start=0.7, end=0.1)
    a = sample(small.denoiser(low), sampler, x1=x1, times=times, noise=Seeds([1, 2, 3]))
    b = sample(large.denoiser(high), sampler, x1=factor * x1, times=times, noise=Seeds([1, 2, 3]))
    # churn is bounded in sigma / alpha, infinitely by default: nothing else has a scale
    close(b, factor * a, 1e-10)


@samplers
def test_the_state_keeps_the_dtype_it_is_given(sampler: Sampler) -> None:
    denoiser = mixture_world().denoiser(LinearBeta())
    times = grids.uniform(4, start=0.9, end=0.1)
    single = sample(denoiser, sampler, x1=normal(3, 3).float(), times=times, noise=Noise(0))
    assert single.dtype == torch.float32
    if not isinstance(sampler, Ancestral) and sampler not in (SAMPLERS["DDIM.eta"], SAMPLERS["Heun.churn"]):
        double = sample(denoiser, sampler, x1=normal(3, 3), times=times, noise=Noise(0))
        close(single, double, 1e-5)


@samplers
def test_a_sampler_remembers_nothing_itself(sampler: Sampler) -> None:
    """Two runs that take turns on one object are the runs one after the other."""
    denoiser, times = mixture_world().denoiser(LinearBeta()), grids.uniform(4, start=0.9, end=0.1)
    starts = normal(2, 3, seed=1), normal(2, 3, seed=2)
    alone = [sample(denoiser, sampler, x1=x, times=times, noise=Noise(i)) for i, x in enumerate(starts)]
    runs = [trajectory(denoiser, sampler, x, times, Noise(i)) for i, x in enumerate(starts)]
    last = [None, None]
    for steps in zip(*runs):
        last = [step.x for step in steps]
    for a, b in zip(alone, last):
        close(a, b, 0.0)
