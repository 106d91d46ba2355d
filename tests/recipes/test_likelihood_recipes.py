"""DDPM, Improved DDPM, ScoreFlow and SDEFlow: figures of their cards on normals, where every step is linear."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import close, moments, normal, tensor

from sfumato import recipes
from sfumato.denoisers import Denoiser, LearnedVariance, Preconditioned, predict_eps
from sfumato.estimate import Estimate
from sfumato.likelihood import elbo
from sfumato.noise import Noise
from sfumato.processes import LinearBeta, Table
from sfumato.processes.variances import known, large, learned, small
from sfumato.samplers import Ancestral
from sfumato.training import Chain, Hybrid, Likelihood, LossAware, LowDiscrepancy, Uniform, UniformLogSNR
from sfumato.worlds import GaussianWorld

DDPM, IDDPM, FLOW, SDE = (recipes.load(k).Recipe for k in ("ddpm", "iddpm", "score-flow", "sdeflow"))


def scalar_world(c: float, mean: float = 0.0) -> GaussianWorld:
    return GaussianWorld(tensor(mean), tensor(c).reshape(1, 1))


@pytest.mark.parametrize(
    ("steps", "wide", "variance"),
    [(50, True, 0.2679), (50, False, 0.1964), (10, True, 0.3585), (10, False, 0.1042)],
)
def test_respaced_variances_are_those_of_the_card(steps: int, wide: bool, variance: float) -> None:
    """N(0, 0.25), exact D, start N(0, 1), indices round(linspace(0, 999, S)), no noise in the last step."""
    recipe = DDPM(wide=wide)
    times = (*(n + 1 for n in reversed([round(999 * i / (steps - 1)) for i in range(steps)])), 0)
    denoiser = scalar_world(0.25).denoiser(recipe.process())
    got = moments(denoiser, recipe.sampler(), tuple(n / 1000 for n in times), tensor(0.0), 1.0)
    close(got[1], variance, 6e-5)


@pytest.mark.parametrize(("wide", "variance"), [(True, 0.25075), (False, 0.24613)])
def test_all_steps_give_the_variance_of_the_card(wide: bool, variance: float) -> None:
    """As above at 1000 steps, by the response of the last state to each draw."""
    recipe = DDPM(wide=wide)
    got = moments(scalar_world(0.25).denoiser(recipe.process()), recipe.sampler(), recipe.times(), tensor(0.0), 1.0)
    close(got[1], variance, 6e-6)


def test_each_variance_is_exact_where_the_paper_says() -> None:
    """Data N(0, 1): beta keeps variance 1 at every step. One point: btilde gives sigma_s^2 at every step."""
    process = Table.linear(20, 0.005, 0.3)
    times = tuple(n / 20 for n in range(20, 2, -3))
    got = moments(scalar_world(1.0).denoiser(process), Ancestral(large), times, tensor(0.0), 1.0)
    close(got[1], 1.0)
    point, start = scalar_world(0.0, 0.7).denoiser(process), tensor(0.7) * process.alpha(1.0)
    got = moments(point, Ancestral(small), times, start, process.sigma(1.0))
    close(got[1], process.sigma(times[-1]) ** 2)


def test_defaults_of_the_papers() -> None:
    table, cosine = DDPM().process(), IDDPM().process()
    assert (table.steps, cosine.steps) == (1000, 4000)
    close(table.alpha_bars[-1], 4.04e-5, 1e-7)
    close(table.log_snr(1 / 1000), 9.21, 1e-3)
    close(table.log_snr(1.0), -10.12, 1e-3)
    close(1 - cosine.alpha_bars[0], 9.87e-6, 1e-8)
    close(1 - cosine.alpha_bars[-1] / cosine.alpha_bars[-2], 0.999, 1e-9)
    assert 1.4e-10 < cosine.alpha_bars[-1] < 1.6e-10


def test_models_tell_the_network_the_index_of_the_paper() -> None:
    tiny = {"channels": 1, "widths": (4,), "blocks": 1, "attention": ()}
    assert DDPM(**tiny).model().clock(1.0) == 999 and DDPM(**tiny).model().clock(0.001) == 0
    model = IDDPM(**tiny).model()
    close(model.clock(1.0), 999.75, 1e-9)
    assert FLOW(**tiny).model().clock(1.0) == 999
    for recipe in (DDPM, IDDPM, FLOW, SDE):
        made = recipe(**tiny)
        x = normal(2, 1, 8, 8).float()
        denoiser = made.model()
        loss = made.objective(denoiser)(x.clamp(-1, 1), None, Noise(0))
        assert loss.shape == (2,)
        loss.sum().backward()
        assert any(p.grad is not None and bool(p.grad.any()) for p in denoiser.parameters())


@pytest.mark.parametrize("v", [0.0, 1.0, 0.3])
def test_learned_variances_lie_between_the_fixed_ones(v: float) -> None:
    """v = 0 and 1 are DDPM's two variances; between, the logarithm is linear; floats, tensors and a scale alike."""
    process = Table.linear(20, 0.005, 0.3)
    xt, aux = normal(2, 3), {"v": torch.full((2, 3), v, dtype=torch.float64)}
    for t, s in (
        (0.5, 0.45),
        (tensor(0.5, 0.9), tensor(0.3, 0.85)),
        (0.05, 0.0),
        (tensor(0.05, 0.5), tensor(0.0, 0.4)),
    ):
        estimate = Estimate(0.1 * xt, aux=aux)
        a, b, c = (f(process, estimate, xt, t, s, 1e-4) for f in (small, large, learned))
        logs = [torch.as_tensor(law.std, dtype=torch.float64).log() for law in (a, b, c)]
        close(logs[2], (1 - v) * logs[0] + v * logs[1], 1e-10)
        for law in (a, b, c):
            close(law.mean, process.reverse(Estimate(0.1 * xt), xt, t, s).mean)
    close(small(process, estimate, xt, 0.05, 0.0, 1e-4).std, 1e-2)
    close(large(process, estimate, xt, 0.05, 0.0).std, 0.0)  # nothing drawn in the last step


def test_learned_variance_needs_its_head_and_a_normal_law() -> None:
    xt = normal(2, 3)
    with pytest.raises(ValueError, match="a learned variance needs"):
        learned(LinearBeta(), Estimate(xt), xt, 0.5, 0.4)
    net = torch.nn.Module()
    net.forward = lambda u, c, cond: u
    with pytest.raises(ValueError, match="6 output channels, got 3"):
        LearnedVariance(net, LinearBeta(), predict_eps)(xt, 0.5)


class Heads(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.v = torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))

    def forward(self, u, c_noise, cond=None):
        return torch.cat([self.mean * u, self.v * torch.ones_like(u)], 1)


def test_the_bound_does_not_move_the_mean() -> None:
    """The gradient of L_hybrid in the mean is that of L_simple; that in v scales with the weight."""
    process, x0 = Table.linear(30, 0.003, 0.3), normal(64, 2).clamp(-1, 1)
    grads = []
    for scale in (0.0, 1e-3, 1.0):
        net = Heads()
        Hybrid(LearnedVariance(net, process, predict_eps), scale)(x0, None, Noise(1)).mean().backward()
        grads.append((float(net.mean.grad), float(net.v.grad)))
    close(grads[1][0], grads[0][0])
    close(grads[2][0], grads[0][0])
    assert grads[0][1] == 0.0 and abs(grads[2][1]) > 1e-6
    close(grads[2][1], 1000 * grads[1][1], 1e-9)


def test_the_hybrid_loss_is_that_of_the_public_code() -> None:
    """`training_losses` of openai/improved-diffusion on the inputs of test_improved_diffusion, row by row."""
    folder = Path(__file__).parents[1] / "likelihood"
    data = {k: torch.from_numpy(v) for k, v in np.load(folder / "improved_diffusion.npz").items()}

    class Fixed(torch.nn.Module):
        def forward(self, u, c_noise, cond=None):
            return data["F"]

    class Scripted(Noise):
        """Times first, then eps."""

        def uniform(self, like):
            return (data["linear_all_n"].double() + 0.5) / 40

        def normal(self, like):
            return data["eps"]

    x0 = data["level"].double() / 127.5 - 1
    denoiser = LearnedVariance(Fixed(), Table.linear(40, 0.1 / 40, 20 / 40), predict_eps)
    got = Hybrid(denoiser)(x0, None, Scripted())
    # The first term is the decoder's, where that code has a tanh for the normal distribution function.
    close(got[2:], data["linear_all_loss"][2:], 1e-9)
    close(got[:2], data["linear_all_loss"][:2], 0.01)


def test_the_hybrid_loss_is_for_tables() -> None:
    with pytest.raises(ValueError, match="needs a Table process, got LinearBeta"):
        Hybrid(Preconditioned(Heads(), LinearBeta(), predict_eps))


@pytest.mark.parametrize("recipe", [FLOW, SDE])
def test_bounds_of_the_sde_are_the_truth_for_the_exact_score(recipe) -> None:
    """VP, N(0.4, 0.3), x = 0.9: 0.73363 against -log p = 0.73362 (the card of ScoreFlow)."""
    made = recipe()
    x0 = tensor(0.9).expand(4000, 1)
    got = made.bound(scalar_world(0.3, 0.4).denoiser(made.process()), x0, Noise(0), points=20).total
    assert abs(float(got.mean()) - 0.73363) < 4 * float(got.std()) / math.sqrt(4000) < 0.4


def test_the_likelihood_loss_has_one_mean_and_the_least_spread_with_its_own_times() -> None:
    """VP, eps 1e-5, N(0, 0.25), score x 0.8: std per sample 12.8 against about 500 (the card of ScoreFlow)."""

    class Weak(Denoiser):
        """The score of the exact denoiser times 0.8."""

        def __init__(self, inner) -> None:
            super().__init__()
            self.inner, self.process = inner, inner.process

        def forward(self, xt, t, cond=None):
            D = self.inner(xt, t).mean
            a = self.process.alpha(t)[:, None]
            return Estimate((xt - 0.8 * (xt - a * D)) / a)

    world, process = scalar_world(0.25), LinearBeta()
    denoiser, x0 = Weak(world.denoiser(process)), world.sample(60_000, Noise(1))
    own = Likelihood(denoiser)(x0, None, Noise(2))
    assert abs(float(own.std()) - 12.8) < 0.4
    # 0.5 Z times the mean over log SNR of |eps - 0.8 eps_hat|^2, eps_hat of variance sigma^2 / V: by quadrature.
    t = process.time_of(torch.linspace(process.log_snr(1.0), process.log_snr(1e-5), 4001, dtype=torch.float64))
    s2 = process.sigma(t) ** 2
    share = s2 / (0.25 * process.alpha(t) ** 2 + s2)
    Z = process.log_snr(1e-5) - process.log_snr(1.0)
    want = 0.5 * Z * float((1 + (0.64 - 1.6) * share).mean())
    for times in (UniformLogSNR(), UniformLogSNR(1e-5, 1e-3), Uniform(), LowDiscrepancy(1e-5)):
        loss = Likelihood(denoiser, times)(x0, None, Noise(3))
        assert abs(float(loss.mean()) - want) < 4 * float(loss.std()) / math.sqrt(60_000), times
    assert float(Likelihood(denoiser, Uniform())(x0, None, Noise(3)).std()) > 100


def test_known_is_the_process_itself() -> None:
    process, world, xt = LinearBeta(), scalar_world(0.3), normal(4, 1)
    estimate = world.denoiser(process)(xt, 0.6)
    law, own = known(process, estimate, xt, 0.6, 0.4), process.reverse(estimate, xt, 0.6, 0.4)
    close(law.std, own.std)
    close(law.mean, own.mean)


def test_loss_aware_times() -> None:
    """p_n ~ sqrt(mean L_n^2) over the last losses, 0.001 of uniform mixed in; uniform until all have their history."""
    times = LossAware(4, history=2)
    n = lambda *k: torch.tensor(k, dtype=torch.float64) / 4  # noqa: E731
    times.update(n(1, 2, 3, 4, 1, 2, 3), torch.tensor([9.0, 1.0, 2.0, 0.0, 3.0, 1.0, 2.0]))
    close(times.probabilities(), 0.25)
    times.update(n(4, 1), torch.tensor([0.0, 4.0]))  # the oldest of n = 1, 9, goes
    roots = tensor(math.sqrt((16 + 9) / 2), 1.0, 2.0, 0.0)
    want = 0.999 * roots / roots.sum() + 0.001 / 4
    close(times.probabilities(), want)
    close(times.density(Table.linear(4, 0.1, 0.2), n(3, 1)), 4 * want[[2, 0]])
    drawn = (times(Table.linear(4, 0.1, 0.2), 40_000, Noise(0)) * 4).round().long()
    share = torch.bincount(drawn, minlength=5)[1:] / 40_000
    assert float((share - want).abs().max()) < 4 * 0.5 / 200
    assert set(times.state_dict()) == {"losses", "counts"}


def test_the_chain_loss_is_unbiased_under_any_history_and_writes_it_in_training_only() -> None:
    process, x0 = Table.linear(6, 0.05, 0.4), normal(1, 2).clamp(-1, 1).expand(20_000, 2)
    objective = Chain(LearnedVariance(Heads(), process, predict_eps))
    objective.eval()
    with torch.no_grad():
        even = objective(x0, None, Noise(0))
        assert int(objective.times.counts.sum()) == 0
        objective.times.counts += 10
        objective.times.losses += torch.linspace(3, 0.5, 6, dtype=torch.float64)[:, None]
        skew = objective(x0, None, Noise(1))
        spread = math.sqrt(float(even.var() + skew.var()) / 20_000)
        assert abs(float(even.mean() - skew.mean())) < 4 * spread
        # The whole bound of the chain, by its own function.
        whole = elbo(objective.denoiser, x0[:4000], tuple(n / 6 for n in range(6, -1, -1)), Noise(2), reverse=learned)
        bits = (whole.total - whole.prior) / (2 * math.log(2))
        assert abs(float(even.mean() - bits.mean())) < 4 * (spread + float(bits.std()) / 63)
        objective.train()
        objective(x0[:8], None, Noise(3))
    assert int(objective.times.counts.sum()) == 60 + 8
    assert isinstance(IDDPM().chain(objective.denoiser), Chain)
