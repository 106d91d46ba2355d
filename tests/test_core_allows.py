"""What does not fit "alpha, sigma, denoiser, sampler": the core must allow each; here it is, as small as it goes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close, full_world, mixture_world, normal, tensor

from sfumato import GaussianWorld, Noise, Seeds, TableWorld, grids, sample
from sfumato.denoisers import Denoiser, LearnedVariance, Preconditioned, Wrapper, predict_eps
from sfumato.estimate import Estimate
from sfumato.likelihood import with_divergence
from sfumato.nets import MLP
from sfumato.processes import Discrete, LearnedEnds, LearnedSchedule, LinearBeta, Rectified, Table
from sfumato.processes.variances import learned, small
from sfumato.samplers import (
    DDIM,
    AlongPath,
    Ancestral,
    BrownianPath,
    Chain,
    Consistency,
    EulerMaruyama,
    Langevin,
    Sampler,
    simulate,
    trajectory,
)
from sfumato.training import Denoising, PowerEma, Uncertain, Uniform, UniformLogSNR, Variational, eps_weight, fit


def test_processes_that_are_not_gaussian_share_the_sampler(double: None) -> None:
    """A categorical chain through `Ancestral`: with one position it is exact in any number of steps."""
    process, probs, n = Discrete(3), tensor(0.6, 0.3, 0.1), 20_000
    D = TableWorld(probs).denoiser(process)
    x1 = process.prior(torch.zeros(n, 1, dtype=torch.int64)).sample(Noise(0))
    out = sample(D, Ancestral(), x1=x1, times=grids.uniform(3), noise=Noise(1))
    share = torch.stack([(out == k).double().mean() for k in range(3)])
    assert float((share - probs).abs().max()) < 4 * 0.5 / math.sqrt(n)


def test_a_schedule_learns_through_the_loss_and_gives_floats_to_samplers() -> None:
    for process in (LearnedEnds(), LearnedSchedule(units=8)):
        denoiser = Preconditioned(MLP(3, 8), process, predict_eps)
        Variational(denoiser)(0.3 * normal(4, 3).float(), None, Noise(0)).sum().backward()
        assert float(process.gamma_0.grad.abs()) > 0 < float(process.gamma_1.grad.abs())
        assert isinstance(process.alpha(0.3), float) and process.alpha(tensor(0.3)).requires_grad
        D = full_world().denoiser(process)
        assert not sample(D, DDIM(), x1=normal(2, 3), times=(0.9, 0.1), noise=Noise(0)).requires_grad


class TwoHeads(nn.Module):
    def forward(self, u: Tensor, c_noise: Tensor, cond: Any) -> Tensor:
        return torch.cat([torch.zeros_like(u), torch.full_like(u, -1.0)], 1)


def test_a_variance_head_travels_in_the_estimate() -> None:
    """v = 0: the learned variance is btilde, whatever sampler hands the estimate on."""
    process = Table.linear(50)
    D, x = LearnedVariance(TwoHeads(), process, predict_eps), normal(2, 3)
    estimate = D(x, 0.5)
    assert torch.equal(estimate.aux["v"], torch.zeros_like(x))
    close(learned(process, estimate, x, 0.5, 0.4).std, small(process, estimate, x, 0.5, 0.4).std)


def test_an_uncertainty_is_learned_outside_the_denoiser() -> None:
    loss = Uncertain(Preconditioned(MLP(3, 8), LinearBeta(), predict_eps), Uniform(0.1, 0.9), eps_weight)
    loss(normal(4, 3).float(), None, Noise(0)).sum().backward()
    inside = {id(p) for p in loss.denoiser.parameters()}
    beside = [p for p in loss.parameters() if id(p) not in inside]
    assert beside and all(float(p.grad.abs().max()) > 0 for p in beside)


def test_inner_loops_at_a_fixed_level() -> None:
    """MCMC without a time grid: 400 Langevin moves at one level end at the variance v / (1 - e / (2 v))."""
    process, v = LinearBeta(), 0.7
    world = GaussianWorld(tensor(0.0), tensor((v - process.sigma(0.3) ** 2) / process.alpha(0.3) ** 2)[:, None])
    e = 0.2 * process.sigma(0.3) ** 2
    sampler = Langevin(0.2, 400)
    out, _ = sampler.step(world.denoiser(process), torch.zeros(4000, 1, dtype=torch.float64), 0.3, 0.3, None, Noise(0))
    assert float(out.var()) == pytest.approx(v / (1 - e / (2 * v)), rel=0.09)


class Projected(Sampler):
    """Known elements overwritten before and after the move of another sampler."""

    def __init__(self, inner: Sampler, known: Tensor, mask: Tensor) -> None:
        self.inner, self.known, self.mask = inner, known, mask

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        return self.inner.init(denoiser, xt)

    def step(self, denoiser: Any, xt: Tensor, t: Any, s: Any, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        put = lambda x, t: torch.where(self.mask, denoiser.process.marginal(self.known, t).sample(noise), x)  # noqa: E731
        xs, memory = self.inner.step(denoiser, put(xt, t), t, s, memory, noise)
        return put(xs, s), memory


def test_moves_before_and_after_a_step_with_fresh_noise() -> None:
    D, known = full_world().denoiser(LinearBeta()), tensor(0.5, 0.0, 0.0)
    sampler = Chain(Projected(DDIM(), known, tensor(1.0, 0.0, 0.0) > 0), Langevin(0.01, 1))
    steps = list(trajectory(D, sampler, normal(5, 3), grids.uniform(10), Noise(0)))
    close(steps[-1].x[:, 0], 0.5)
    assert float(steps[5].x[:, 0].std()) > 0.05  # noise of its level, different in each row


def test_a_gradient_runs_through_the_whole_sampler() -> None:
    """d end / d start on a normal is the product of the steps' slopes: the same as moving the start."""
    D = full_world().denoiser(LinearBeta())
    x = normal(1, 3).requires_grad_()
    times = grids.uniform(5, start=0.9, end=0.1)
    out = sample(D, DDIM(), x1=x, times=times, noise=Noise(0), grad=True)
    (g,) = torch.autograd.grad(out[0, 0], x)
    h = torch.tensor([[0.0, 1e-4, 0.0]], dtype=torch.float64)
    ends = [sample(D, DDIM(), x1=(x + s * h).detach(), times=times, noise=Noise(0))[0, 0] for s in (-1, 1)]
    close(g[0, 1], (ends[1] - ends[0]) / 2e-4, 1e-6)


def test_gradients_of_the_denoiser_in_reverse_and_forward_mode() -> None:
    """Second-order Tweedie, Cov = sigma^2 / alpha J: its trace by divergence, its action in forward mode."""
    process, world, x, v = LinearBeta(), mixture_world(), normal(2, 3), normal(2, 3, seed=1)
    D = world.denoiser(process)
    cov, scale = world.covariance(x, 0.4, process), process.sigma(0.4) ** 2 / process.alpha(0.4)
    _, div = with_divergence(lambda x: D(x, 0.4).mean, x)
    close(scale * div, cov.diagonal(dim1=1, dim2=2).sum(1), 1e-9)
    _, pushed = torch.func.jvp(lambda x: D(x, 0.4).mean, (x,), (v,))
    close(scale * pushed, torch.einsum("bij,bj->bi", cov, v), 1e-9)


def test_one_brownian_path_at_any_number_of_steps() -> None:
    process, world = LinearBeta(), full_world()
    D, x = world.denoiser(process), normal(20, 3)
    walk = AlongPath(EulerMaruyama(), BrownianPath(Seeds(range(20)), 8))
    runs = [sample(D, walk, x1=x, times=grids.uniform(n, start=0.9, end=0.2), noise=Noise(0)) for n in (40, 80, 160)]
    near, far = (float((run - runs[2]).norm()) for run in (runs[1], runs[0]))
    assert near < 0.6 * far


@pytest.mark.parametrize("steps", [1000, 2000])
def test_grids_carry_integer_indices(steps: int) -> None:
    """A network told n by t N gets the integer itself: no index is one too low, at any N."""
    table = Table.linear(steps)
    for t in grids.table(table, steps)[:-1]:
        n = t * steps
        assert abs(n - round(n)) < 1e-9
        close(table.alpha(t) ** 2, table.alpha_bars[round(n) - 1], 1e-12)


class Refitted(Sampler):
    """A grid that changes while it runs, for each sample: a step as long as the sample's own size says."""

    def step(self, denoiser: Any, xt: Tensor, t: Any, s: Any, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        here = torch.as_tensor(t, dtype=torch.float64).expand(len(xt)) if memory is None else memory
        share = 0.3 + 0.4 * torch.sigmoid(xt.flatten(1).norm(dim=1))
        to = torch.maximum(here * share, torch.as_tensor(s, dtype=torch.float64))
        return denoiser.process.reverse(Estimate(denoiser(xt, here).mean), xt, here, to, 0.0).mean, to


def test_a_grid_for_each_sample_may_change_during_the_run() -> None:
    D, x = full_world().denoiser(LinearBeta()), normal(3, 3)
    times = (0.9, 0.1, 0.1, 0.1)
    together = list(trajectory(D, Refitted(), x, times, Noise(0)))
    assert len({round(v, 6) for v in together[1].memory.tolist()}) == 3  # each row is at a level of its own
    for i in range(3):
        alone = sample(D, Refitted(), x1=x[i : i + 1], times=times, noise=Noise(0))
        close(together[-1].x[i : i + 1], alone, 1e-12)


def test_a_time_for_each_row_is_its_float() -> None:
    D, x = full_world().denoiser(Rectified()), normal(2, 3)
    grid = torch.tensor([[1.0, 0.8], [0.5, 0.5], [0.0, 0.1]], dtype=torch.float64)
    both = sample(D, DDIM(), x1=x, times=grid, noise=Noise(0))
    for i in range(2):
        close(both[i : i + 1], sample(D, DDIM(), x1=x[i : i + 1], times=tuple(grid[:, i].tolist()), noise=Noise(0)))


class FromEnergy(Denoiser):
    """A scalar energy as a denoiser, by Tweedie's formula: D = (x_t - sigma^2 grad E) / alpha."""

    def __init__(self, energy: Any, process: Any) -> None:
        super().__init__()
        self.energy, self.process = energy, process

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            (pull,) = torch.autograd.grad(self.energy(x, t).sum(), x)
        return Estimate((xt - self.process.sigma(t) ** 2 * pull) / self.process.alpha(t))


def test_models_that_are_not_denoisers_have_adapters() -> None:
    process, world = LinearBeta(), mixture_world()
    energy = FromEnergy(lambda x, t: -world.marginal(process, t).log_prob(x), process)
    x = normal(3, 3)
    close(energy(x, 0.5).mean, world.denoiser(process)(x, 0.5).mean, 1e-9)
    # A drift: two directions of one process, as a bridge has, through `simulate`.
    ends = list(simulate(lambda x, t: -x, lambda x, t: 0.0, x, (0.0, 0.5, 1.0), Noise(0)))
    close(ends[-1], 0.25 * x)

    class Flow(Wrapper):
        """A consistency function of a normal: the end of its flow."""

        def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
            return Estimate(full_world().flow(xt, t, 1e-4, self.process))

    f = Flow(full_world().denoiser(process))
    close(sample(f, Consistency(), x1=x, times=(0.9, 0.0), noise=Noise(0)), full_world().flow(x, 0.9, 1e-4, process))


class Points:
    def __len__(self) -> int:
        return 64

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        return noise.normal(torch.empty(len(items), 3)), None


def test_training_loops_with_other_steps() -> None:
    """A loop in the caller's hands: averages beside `fit`, an objective that is told the step, times with a density."""
    told = []

    class Told(Denoising):
        def advance(self, step: int) -> None:
            told.append(step)

    torch.manual_seed(0)
    loss = Told(Preconditioned(MLP(3, 8), LinearBeta(), predict_eps), UniformLogSNR(), eps_weight)
    ema, optimizer = PowerEma(loss.denoiser), torch.optim.Adam(loss.parameters(), 1e-2)
    for step in fit(loss, Points(), optimizer, steps=4, batch=8):
        ema.update(loss.denoiser)
        if step.index == 3:
            break
    assert told == [1, 2, 3] and ema.updates == 3
    t = loss.times(loss.denoiser.process, 20_000, Noise(0))
    close((1 / loss.times.density(loss.denoiser.process, t)).mean(), 1 - 1e-5, 0.1)


def test_a_stochastic_sampler_is_ancestral_where_it_should_be() -> None:
    """Every number above is a float64 identity; this one binds the noise: the same stream gives the same sample."""
    D, x, times = full_world().denoiser(LinearBeta()), normal(2, 3), grids.uniform(6, start=0.9, end=0.1)
    a = sample(D, Ancestral(small), x1=x, times=times, noise=Seeds([3, 4]))
    b = sample(D, DDIM(1.0), x1=x, times=times, noise=Seeds([3, 4]))
    close(a, b, 1e-12)
    assert math.isfinite(float(a.sum()))
