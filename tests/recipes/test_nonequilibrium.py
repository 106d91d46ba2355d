"""The first diffusion model: schedule, kernels and bound against closed forms, and multiplication with a second law."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from worlds_for_tests import GaussianWorld, close, normal, tensor

from sfumato import Measurement, Model, grids, recipes
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Categorical, Normal
from sfumato.likelihood import kl_term, trajectory_bound
from sfumato.noise import Noise, Seeds
from sfumato.operators import Identity
from sfumato.processes import Bernoulli, Binomial, Discrete, LinearBeta
from sfumato.processes.multiplied import multiplied, product, tilted
from sfumato.processes.variances import known, large, small
from sfumato.samplers import Ancestral, sample

module = recipes.load("nonequilibrium")
Recipe, LearnedBetas, Perturbed, Bits, Bumped = (
    module.Recipe,
    module.LearnedBetas,
    module.Perturbed,
    module.Bits,
    module.Bumped,
)
SMALL = {"channels": 1, "widths": (4,), "blocks": 1, "attention": (), "dropout": 0.0}


def public_betas(N: int, first: float) -> torch.Tensor:
    """generate_beta_arr of the public code with no perturbation, from its text."""
    least = [1e-6 + (first if n == 0 else 0.0) for n in range(N)]
    linspace = [N + (2.0 - N) * n / (N - 1) for n in range(N)]
    return tensor(*(m + (1.0 / v) * (1.0 - m - 1e-5) for m, v in zip(least, linspace)))


def test_schedule_is_that_of_the_public_code() -> None:
    process = LearnedBetas(40, 0.001, 10)
    want = public_betas(40, 0.001)
    close(process.betas().detach(), want)
    bars = (1 - want).cumprod(0)
    for n in (1, 7, 40):
        close(process.alpha(n / 40) ** 2, bars[n - 1])
        close(process.sigma(n / 40) ** 2, 1 - bars[n - 1])
        close(process.alpha(tensor(n / 40)).detach() ** 2, bars[n - 1])
    assert process.sigma(0.0) == 0.0 and process.alpha(0.0) == 1.0
    # One move of the chain, not the `forward` of a module.
    law = process.forward(torch.ones(1, 2).double(), 6 / 40, 7 / 40)
    close(law.mean, (1 - want[6]).sqrt())
    close(law.std**2, want[6])
    assert 0.02 < float(bars[-1]) < 0.03  # about 1 / N of the variance is left at the end
    # A step of the coefficients moves log odds by the bumps; the floor stays.
    with torch.no_grad():
        process.raw[3] = 2.0
    odds = torch.logit((process.betas().detach() - process.least) / (1 - process.least - 1e-5))
    base = torch.logit(1 / torch.linspace(40.0, 2.0, 40, dtype=torch.float64))
    close(odds - base, 2.0 * process.basis[:, 3], 1e-8)


def test_bumps_sum_to_one_and_peak_at_their_centres() -> None:
    N, count = 19, 10
    g = module.bumps_of(torch.arange(1, N + 1, dtype=torch.float64) / N, N, count)
    close(g.sum(1), torch.ones(N))
    x = torch.linspace(-1, 1, N, dtype=torch.float64)
    centres = torch.linspace(-1, 1, count, dtype=torch.float64)
    raw = torch.exp(-((x[:, None] - centres) ** 2) / (2 * (1 / 9) ** 2))
    close(g, raw / raw.sum(1, keepdim=True), 1e-9)
    assert g[0].argmax() == 0 and g[-1].argmax() == count - 1


def test_bumped_network_weighs_its_outputs_by_time() -> None:
    class Outputs(nn.Module):
        def forward(self, u, level, cond=None):
            self.level = level
            return torch.arange(6.0).reshape(1, 6, 1).expand(len(u), 6, 5) * cond

    net = Bumped(Outputs(), 3, 5)
    t = tensor(200.0, 600.0, 1000.0)
    out = net(torch.zeros(3, 2, 5), t, 2.0)
    g = module.bumps_of(t / 1000, 5, 3).float()
    want = 2.0 * torch.stack([g @ tensor(0, 2, 4).float(), g @ tensor(1, 3, 5).float()], 1)
    close(out, want.unsqueeze(-1).expand(3, 2, 5), 1e-6)
    assert float(net.inner.level.abs().sum()) == 0.0


class Constant(nn.Module):
    """The outputs f and g of every pixel."""

    def __init__(self, f: float, g: float) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, u, level, cond=None):
        self.level = level
        return torch.cat([torch.full_like(u, self.f), torch.full_like(u, self.g)], 1)


@pytest.mark.parametrize("n", [1, 5, 10])
def test_learned_kernel_is_that_of_the_public_code(n: int) -> None:
    """mu = x sqrt(1 - beta) + f sqrt(beta), sigma^2 = sigmoid(g / sqrt(N) + logit beta); D gives the same mean."""
    N, beta = 10, float(public_betas(10, 0.001)[n - 1])
    process = LearnedBetas(N, 0.001, 4)
    model, x = Perturbed(Constant(0.3, -1.2), process), normal(3, 2, 4)
    t, s = n / N, (n - 1) / N
    estimate = model(x, t)
    law = module.perturbed(process, estimate, x, t, s)
    close(law.mean, x * math.sqrt(1 - beta) + 0.3 * math.sqrt(beta), 1e-9)
    odds = beta / (1 - beta) * math.exp(-1.2 / math.sqrt(N))
    close(law.std**2, odds / (1 + odds), 1e-9)
    close(process.reverse(Estimate(estimate.mean), x, t, s).mean, law.mean, 1e-9)
    close(model.net.level, torch.full((3,), 1000 * t))
    both = model(x, tensor(t, t, t))
    close(both.mean.detach(), estimate.mean.detach(), 1e-9)
    with pytest.raises(ValueError, match=r"needs Estimate.aux"):
        module.perturbed(process, Estimate(x), x, t, s)


def test_public_bound_is_zero_above_a_normal_law_for_an_isotropic_normal() -> None:
    """Their check: beta_reverse = beta_forward and f = 0 is exact for N(0, I): K = -H(X_1) = -(d / 2) log(2 pi e)."""
    N, n = 12, 4000
    process = LearnedBetas(N, 0.001, 4)
    model = Perturbed(Constant(0.0, 0.0), process)
    x0 = normal(n, 3)
    bound = trajectory_bound(model, x0, Recipe(steps=N).times(), Noise(5), reverse=module.perturbed)
    K = bound.total.detach()
    assert abs(float(K.mean()) + 1.5 * math.log(2 * math.pi * math.e)) < 4 * float(K.std()) / math.sqrt(n)
    assert float(K.std()) / math.sqrt(n) < 0.05
    # The objective's one step for each sample has this mean, in bits per dimension.
    loss = Recipe(steps=N).objective(model)(x0, None, Noise(6)).detach()
    want = 0.5 * math.log2(2 * math.pi * math.e)
    assert abs(float(loss.mean()) - want) < 4 * float(loss.std()) / math.sqrt(n)
    wrong = Recipe(steps=N).objective(Perturbed(Constant(0.4, 0.0), process))(x0, None, Noise(6)).detach()
    # A wrong f adds E f^2 beta / (2 beta) to each of N - 1 steps: 0.08 (N - 1) nats a dimension.
    assert abs(float((wrong - loss).mean()) - 0.08 * (N - 1) / math.log(2)) < 0.1


def test_betas_learn_by_ascent_on_the_bound() -> None:
    """On narrow data the bound's gradient reaches every coefficient of the schedule, and following it raises K."""
    N = 10
    process = LearnedBetas(N, 0.001, 4)
    objective = Recipe(steps=N).objective(Perturbed(Constant(0.0, 0.0), process))
    x0 = 0.3 * normal(2000, 2)
    optimizer, losses = torch.optim.Adam([process.raw], 0.1), []
    for _ in range(15):
        loss = objective(x0, None, Noise(7)).mean()  # the noise is held
        optimizer.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        assert bool((process.raw.grad != 0).all())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.05


def test_entropy_gap_of_a_gaussian_chain() -> None:
    """With exact D, K falls short of -H(X_1) by the KLs that btilde or beta cost: less with more steps, never above."""
    world, process = GaussianWorld(torch.zeros(1).double(), 0.37 * torch.eye(1).double()), LinearBeta()
    x0, denoiser = world.sample(20_000, Noise(0)), world.denoiser(process)
    gaps = {}
    for N in (20, 80):
        times = grids.uniform(N, end=0.05)
        entropy_1 = 0.5 * math.log(2 * math.pi * math.e * float(world.marginal(process, times[-1]).cov[0, 0]))
        for name, reverse in (("known", known), ("small", small), ("large", large)):
            total = trajectory_bound(denoiser, x0, times, Noise(N), reverse=reverse).total
            gaps[name, N] = -float(total.mean()) - entropy_1
    noise = 0.05
    assert abs(gaps["known", 20]) < noise and abs(gaps["known", 80]) < noise  # the exact chain: K = -H(X_1)
    for name in ("small", "large"):
        assert gaps[name, 20] > gaps[name, 80] > -noise
        assert gaps[name, 20] > 0.01


def test_binomial_recipe_trains_the_likelihood_of_bits() -> None:
    """One bit of mean m with a perfect constant: N KL_n on average is the entropy of a bit, exactly by enumeration."""

    class One(Denoiser):
        def __init__(self, m: float) -> None:
            super().__init__()
            self.process, self.m = Binomial(), m

        def forward(self, xt, t, cond=None):
            keep = self.process.keep(t)
            keep = keep.reshape(-1, 1) if isinstance(keep, torch.Tensor) else keep
            return Estimate((self.m + keep * xt) / (1 + keep * self.m * xt))

    recipe, p = Recipe.binomial(steps=5), 0.8
    means = torch.full((60_000, 1), 2 * p - 1, dtype=torch.float64)  # a grey level: the mean of a bit
    loss = recipe.objective(One(2 * p - 1))(means, None, Noise(0))
    want = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    assert abs(float(loss.mean()) - want) < 4 * float(loss.std()) / math.sqrt(60_000)
    x0 = Bernoulli(means).sample(Noise(1))
    total = recipe.bound(One(2 * p - 1), x0, Noise(2)).bits(1)
    assert abs(float(total.mean()) - want) < 4 * float(total.std()) / math.sqrt(60_000)
    assert recipe.times() == (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)


def test_bits_denoiser_and_models() -> None:
    bits = Bits(lambda u, level, cond: 3.0 * u, 5)
    x = tensor(1.0, -1.0).reshape(1, 2)
    p = 1 / (1 + math.exp(-3.0))
    close(bits(x, 0.5).mean, (2 * p - 1) * x, 1e-5)
    assert float(Bits(lambda u, level, cond: 1e4 * u, 5)(x, 0.5).mean.abs().max()) < 1.0
    torch.manual_seed(0)
    for make, bumps in ((Recipe, 3), (Recipe.binomial, 3), (Recipe.binomial, 0), (Recipe, 0)):
        recipe = make(steps=6, bumps=bumps, **SMALL)
        model = recipe.model()
        objective = recipe.objective(model)
        x0 = torch.where(normal(4, 1, 4, 4).float() > 0, 1.0, -1.0)
        objective(x0, None, Noise(0)).mean().backward()
        moved = [p for p in objective.parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0]
        assert moved
        drawn = sample(model, recipe.sampler(), shape=(2, 1, 4, 4), times=recipe.times(), noise=Noise(1))
        assert bool(torch.isfinite(drawn).all())
        if recipe.kernel == "binomial":
            assert set(drawn.unique().tolist()) <= {-1.0, 1.0}
        else:
            assert any(p is model.process.raw for p in objective.parameters())
            assert bool(torch.isfinite(recipe.bound(model, x0, Noise(2)).bits(16)).all())


def test_product_of_laws() -> None:
    """Two normals: precisions add, and means weigh by them; 0 is known, infinite is flat. Bits by their odds."""
    m, y, s, w = normal(3), normal(3, seed=1), tensor(0.5, 1.0, 2.0), tensor(2.0, 0.3, 1.0)
    law = product(Normal(m, s), Normal(y, w))
    precision = 1 / s**2 + 1 / w**2
    close(law.mean, (m / s**2 + y / w**2) / precision)
    close(law.std**2, 1 / precision)
    ends = product(Normal(m, 0.7), Normal(y, tensor(0.0, math.inf, 0.7)))
    close(ends.mean, torch.stack([y[0], m[1], 0.5 * (m[2] + y[2])]))
    close(ends.std**2, tensor(0.0, 0.49, 0.245))
    close(product(Normal(m, 0.0), Normal(y, tensor(0.0, 1.0, math.inf))).mean, torch.stack([y[0], m[1], m[2]]))
    close(product(Bernoulli(tensor(0.6, 0.6)), Bernoulli(tensor(0.0, 1.0))).mean, tensor(0.6, 1.0))
    for pair in ((Normal(m), Bernoulli(m)), (Bernoulli(m), Normal(m)), (Categorical(m), Normal(m))):
        with pytest.raises(TypeError, match="two normals or two laws of bits"):
            product(*pair)


def test_inpainting_of_independent_normals_leaves_the_rest_alone() -> None:
    """Known elements end at y; the unknown ones, independent of them, keep their law. Same for bits."""
    world, process = GaussianWorld(tensor(0.4, -0.2), torch.diag(tensor(0.3, 0.6))), LinearBeta()
    recipe, n = Recipe(), 20_000
    mask, y = tensor(1.0, 0.0), tensor(2.0, 9.0)
    sampler = Ancestral(multiplied(known, recipe.known(mask, y)))
    x = sample(world.denoiser(process), sampler, x1=normal(n, 2), times=grids.uniform(6), noise=Noise(3))
    close(x[:, 0], torch.full((n,), 2.0))
    assert abs(float(x[:, 1].mean()) + 0.2) < 4 * math.sqrt(0.6 / n)
    assert abs(float(x[:, 1].var()) - 0.6) < 4 * 0.6 * math.sqrt(2 / n)
    bits = Recipe.binomial(steps=4)
    law = bits.sampler(bits.known(tensor(1.0, 0.0), tensor(-1.0, 1.0))).reverse(
        Binomial(), Estimate(torch.full((1, 2), 0.5).double()), torch.ones(1, 2).double(), 0.5, 0.25
    )
    plain = Binomial().reverse(Estimate(torch.full((1, 2), 0.5).double()), torch.ones(1, 2).double(), 0.5, 0.25)
    close(law.mean, torch.stack([tensor(-1.0)[0], plain.mean[0, 1]])[None])


def test_a_smooth_r_moves_the_mean_by_variance_times_its_gradient() -> None:
    """log r = h x on N(m, s^2): exactly N(m + s^2 h, s^2); on bits exactly the odds times exp(2 h)."""
    process, x, D, h = LinearBeta(), normal(3, 2), normal(3, 2, seed=1), tensor(0.7, -1.1)
    plain = small(process, Estimate(D), x, 0.6, 0.5)
    law = tilted(small, lambda v: (v * h).sum(1))(process, Estimate(D), x, 0.6, 0.5)
    close(law.mean, plain.mean + plain.std**2 * h)
    close(law.std, plain.std)
    bits, start = Binomial(), torch.ones(1, 2).double()
    base = bits.reverse(Estimate(torch.full((1, 2), 0.2).double()), start, 0.5, 0.25)
    moved = tilted(known, lambda v: (v * h).sum(1))(bits, Estimate(torch.full((1, 2), 0.2).double()), start, 0.5, 0.25)
    odds = (1 + base.mean) / (1 - base.mean) * torch.exp(2 * h)
    close(moved.mean, (odds - 1) / (odds + 1))
    with pytest.raises(TypeError, match="normal or of bits, got Categorical"):
        flat = Estimate(torch.full((1, 1, 3), 1 / 3, dtype=torch.float64))
        tilted(known, lambda v: v.sum((1, 2)))(Discrete(3), flat, torch.zeros(1, 1, dtype=torch.int64), 0.5, 0.2)


def test_errors_and_constructors() -> None:
    with pytest.raises(ValueError, match="kernel is 'normal' or 'binomial' and steps at least 2, got 'poisson', 1000"):
        Recipe(kernel="poisson")
    with pytest.raises(ValueError, match="steps at least 2"):
        Recipe(steps=1)
    assert Recipe.binomial().kernel == "binomial" and Recipe.binomial(steps=7).steps == 7
    assert Recipe(steps=4).times() == (1.0, 0.75, 0.5, 0.25)
    assert isinstance(Recipe(steps=7, first=0.2).process(), LearnedBetas)
    close(Recipe(steps=7, first=0.2).process().least[:2], tensor(0.2 + 1e-6, 1e-6))
    term = kl_term(
        GaussianWorld(torch.zeros(1).double(), torch.eye(1).double()).denoiser(LinearBeta()),
        normal(2, 1), 0.5, 0.4, Noise(0), small,
    )  # fmt: skip
    assert term.shape == (2,)


def test_a_model_of_bits_is_sampled_by_its_chain_and_restores_nothing() -> None:
    """`Model.sample` takes even steps of the ancestral sampler: the same bits as by hand, in data space 0 and 1."""
    torch.manual_seed(0)
    recipe = Recipe.binomial(steps=6, bumps=3, **SMALL)
    denoiser = recipe.model().eval()
    model = Model(Affine.unit(), denoiser, {"event": [1, 4, 4]})
    drawn = model.sample(3, seed=2, steps=5)
    noise = Seeds.keyed(2, range(3))
    x1 = Binomial().prior(torch.zeros(3, 1, 4, 4)).sample(noise)
    want = sample(denoiser, Ancestral(), x1=x1, times=(1.0, 0.8, 0.6, 0.4, 0.2, 0.0), noise=noise)
    close(drawn, (want + 1) / 2)
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    m = Measurement(Identity(), torch.zeros(1, 1, 4, 4), 0.1)
    with pytest.raises(ValueError, match="restoration needs a model of real numbers"):
        model.restore(m)


def test_a_floor_reaches_the_law_that_is_multiplied() -> None:
    """The step to s = 0 has no variance but the floor; a flat r leaves it, a tilt by h moves the mean by floor h."""
    process, x, D = LinearBeta(), normal(2, 2), normal(2, 2, seed=1)
    flat = multiplied(small, Normal(x, math.inf))(process, Estimate(D), x, 0.1, 0.0, 0.04)
    close(flat.std, torch.full((2, 2), 0.2, dtype=torch.float64))
    close(flat.mean, D)
    moved = tilted(small, lambda v: v.sum(1))(process, Estimate(D), x, 0.1, 0.0, 0.04)
    close(moved.mean, D + 0.04)
