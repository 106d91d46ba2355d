"""Luo & Hu's point clouds: sets in, independent points out, and the recursions of their chain."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import sfumato as sf
from sfumato.estimate import Estimate
from sfumato.processes.variances import between
from sfumato.recipes.point_cloud import Recipe
from sfumato.samplers import Ancestral, sample

TINY = {"code": 6, "widths": (16, 24, 16), "encoder": (16, 24), "couplings": 4, "hidden": 16, "steps": 10}
ORDER = [3, 0, 4, 1, 2]


def shaken(module, scale=0.3):
    """Every weight moved, so that nothing is zero by its start."""
    for i, weight in enumerate(module.parameters()):
        weight.data.add_(scale * sf.Noise(i).normal(weight.data))
    return module.double()


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return shaken(Recipe(**TINY).model())


def clouds(n=2, count=5, seed=0):
    return sf.Noise(seed).normal(torch.zeros(n, 3, count, dtype=torch.float64))


def codes(n=2, seed=7):
    return {"code": sf.Noise(seed).normal(torch.zeros(n, 6, dtype=torch.float64))}


def test_the_denoiser_follows_the_order_of_the_points_and_the_encoder_does_not_see_it(denoiser):
    x, cond = clouds(), codes()
    assert torch.allclose(
        denoiser(x, 0.5, cond).mean[:, :, ORDER], denoiser(x[:, :, ORDER], 0.5, cond).mean, atol=1e-12
    )
    for a, b in zip(denoiser.encoder(x), denoiser.encoder(x[:, :, ORDER]), strict=True):
        assert torch.allclose(a, b, atol=1e-12) and a.shape == (2, 6)
    twice = torch.cat([x, x], 2)  # a maximum, not a mean of some kind: and any number of points
    assert torch.allclose(denoiser.encode(twice), denoiser.encode(x), atol=1e-12)
    assert not torch.allclose(denoiser.encode(x[:1]), denoiser.encode(x[1:]))
    assert torch.equal(denoiser.encode(x), denoiser.encoder(x)[0])


def test_a_point_depends_on_itself_on_the_code_and_on_the_level(denoiser):
    x, cond = clouds(1, 3), codes(1)
    J = torch.autograd.functional.jacobian(lambda v: denoiser(v, 0.5, cond).mean, x)[0, :, :, 0]
    for i in range(3):
        for j in range(3):
            assert (float(J[:, i, :, j].abs().max()) > 0) == (i == j)
    other = denoiser(x, 0.5, codes(1, 8)).mean
    assert bool((other != denoiser(x, 0.5, cond).mean).all())


def test_points_drawn_of_one_shape_are_independent(denoiser):
    """Of many draws given one code, coordinates of two points have no covariance, those of one point have."""
    n = 4000
    cond = {"code": codes(1)["code"].expand(n, 6)}
    x1 = clouds(n, 2, 3)
    recipe = Recipe(**{**TINY, "last": 0.5})
    denoiser = denoiser.with_process(recipe.process())
    x = sample(denoiser.given(cond), recipe.sampler(), x1=x1, times=recipe.times(), noise=sf.Noise(1))
    r = x.transpose(1, 2).reshape(n, 6).T.corrcoef()
    assert float(r[:3, 3:].abs().max()) < 4.5 / math.sqrt(n)
    assert float((r[:3, :3] - torch.eye(3)).abs().max()) > 6 / math.sqrt(n)


def test_the_level_is_beta_times_a_factor():
    recipe = Recipe()
    assert [recipe.level(n / 100) for n in (1, 100)] == pytest.approx([1e-4, 0.02])
    for n in (1, 37, 100):
        bars = (1.0, *recipe.process().alpha_bars)
        assert recipe.level(n / 100) == pytest.approx(1 - bars[n] / bars[n - 1], rel=1e-9)
        assert Recipe(factor=50.0).level(n / 100) == pytest.approx(50 * recipe.level(n / 100))
    seen = []
    model = Recipe(**TINY).model()
    model.inner.net.register_forward_pre_hook(lambda net, args: seen.append(args[1]))
    model(clouds().float(), 0.4, {"code": torch.zeros(2, 6)})
    assert seen[0].flatten().tolist() == pytest.approx([1e-4 + (0.02 - 1e-4) * 3 / 9] * len(seen[0].flatten()))


def test_the_chains_of_the_paper():
    """Generation ends at alpha^2 = 0.364; the autoencoder has 200 steps to 0.05."""
    assert Recipe().process().alpha_bars[-1] == pytest.approx(0.364, abs=5e-4)
    auto = Recipe.autoencoder()
    assert (auto.steps, auto.last, auto.variational) == (200, 0.05, False) and auto.first == 1e-4
    assert Recipe.autoencoder(steps=50).steps == 50
    assert len(Recipe().times()) == 101


class Gaussian(sf.denoisers.Denoiser):
    """The exact denoiser of points N(0, s^2 I)."""

    def __init__(self, process, square, known=False):
        super().__init__()
        self.process, self.square, self.known = process, square, known

    def forward(self, xt, t, cond=None):
        a, b = self.process.alpha(t) ** 2, self.process.sigma(t) ** 2
        total = a * self.square + b
        var = torch.full_like(xt, b * self.square / total) if self.known else None
        return Estimate(math.sqrt(a) * self.square / total * xt, var)


class Fixed(sf.Noise):
    """Every normal number is this one."""

    def __init__(self, value):
        self.value = value

    def normal(self, like):
        return torch.full_like(like, self.value)


@pytest.mark.parametrize("flexibility", [0.0, 0.3, 1.0])
def test_variance_of_a_gaussian_shape_follows_the_recursion(flexibility):
    """v <- g^2 v + s_n^2 with x_{n-1} = (x_n - beta / sqrt(1 - abar_n) eps) / sqrt(1 - beta)."""
    recipe, square = Recipe(steps=20, flexibility=flexibility), 0.3
    denoiser, sampler, times = Gaussian(recipe.process(), square), recipe.sampler(), recipe.times()
    found = want = 1.0
    betas = [recipe.first + (recipe.last - recipe.first) * n / 19 for n in range(20)]
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        n = 19 - i
        move = [
            float(sampler.step(denoiser, torch.full((1, 3, 1), x).double(), t, s, None, Fixed(z))[0].mean())
            for x, z in ((1.0, 0.0), (0.0, 1.0))
        ]
        found = move[0] ** 2 * found + move[1] ** 2
        bar, before = math.prod(1 - b for b in betas[: n + 1]), math.prod(1 - b for b in betas[:n])
        # eps_hat = (x - sqrt(abar) D) / sqrt(1 - abar) with D = sqrt(abar) s^2 x / (abar s^2 + 1 - abar)
        eps = (1 - bar * square / (bar * square + 1 - bar)) / math.sqrt(1 - bar)
        gain = (1 - betas[n] / math.sqrt(1 - bar) * eps) / math.sqrt(1 - betas[n])
        small = math.sqrt((1 - before) / (1 - bar) * betas[n])
        std = (flexibility * math.sqrt(betas[n]) + (1 - flexibility) * small) if n else 0.0
        want = gain**2 * want + std**2
    assert found == pytest.approx(want, abs=1e-10)


def test_the_start_is_seen_in_the_end():
    """The exact sampler of N(0, s^2) begun at variance 1 ends at s^2 + (alpha s^2 / m)^2 (1 - m), m that of x_N."""
    recipe, square = Recipe(), 0.25
    denoiser, v = Gaussian(recipe.process(), square, known=True), 1.0
    for t, s in zip(recipe.times(), recipe.times()[1:], strict=False):
        move = [
            float(Ancestral().step(denoiser, torch.full((1, 3, 1), x).double(), t, s, None, Fixed(z))[0].mean())
            for x, z in ((1.0, 0.0), (0.0, 1.0))
        ]
        v = move[0] ** 2 * v + move[1] ** 2
    bar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * n / 99) for n in range(100))
    m = bar * square + 1 - bar
    assert v - square == pytest.approx(bar * square**2 / m**2 * (1 - m), rel=1e-6)
    assert v - square > 0.01


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_the_two_deviations(share):
    with pytest.raises(ValueError, match="lies in"):
        between(share)


def test_codes_follow_the_truncated_normal_through_the_flow():
    """Before training F is the identity: |w| < 2, with the variance of a normal held there, 0.7737."""
    model = Recipe(**TINY).model()
    z = model.code(20_000, sf.Noise(0)).detach()
    assert float(z.abs().max()) < 2.0 and float(z.abs().max()) > 1.99
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)
    assert float(z.var()) == pytest.approx(1 - 4 * density / math.erf(math.sqrt(2.0)), abs=0.012)
    wide = Recipe(**{**TINY, "truncate": 30.0}).model().code(20_000, sf.Noise(0))
    assert float(wide.var()) == pytest.approx(1.0, abs=0.02)
    shaken(model)
    assert not torch.equal(model.code(3, sf.Noise(0)), z[:3].double())
    with pytest.raises(ValueError, match="truncate is above 0"):
        Recipe(truncate=0.0)


def test_the_loss_is_the_bound(denoiser):
    """The terms of z by Monte Carlo: weight KL(q(z | X) | p(z)), p the law of F(w)."""
    recipe = Recipe(**{**TINY, "weight": 1.0})
    n = 6000
    x0 = clouds(1).expand(n, 3, 5)
    total = recipe.objective(denoiser)(x0, None, sf.Noise(0))
    bare = Recipe(**{**TINY, "weight": 0.0}).objective(denoiser)(x0, None, sf.Noise(0))
    mean, log_var = (v[:1] for v in denoiser.encoder(x0[:1]))
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    w = sf.Noise(3).normal(torch.zeros(40_000, 6, dtype=torch.float64))
    z = q.mean + q.stddev * w
    u, volume = denoiser.flow.inverse(z)
    ratio = q.log_prob(z).sum(1) - torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1) - volume
    gap = total - bare
    error = 4 * math.sqrt(float(ratio.var() / len(ratio) + gap.var() / n))
    assert float(gap.mean().detach()) == pytest.approx(float(ratio.mean().detach()), abs=error)
    assert total.shape == (n,)


def test_an_autoencoder_has_no_prior_and_no_noise_in_its_code():
    torch.manual_seed(0)
    recipe = Recipe.autoencoder(**TINY)
    model = shaken(recipe.model())
    x0, noise = clouds(), sf.Noise(4)
    u = sf.Noise(4).uniform(torch.empty(2, dtype=torch.float64))
    t = (torch.floor(u * 10) + 1) / 10
    first = sf.Noise(4)
    first.uniform(torch.empty(2, dtype=torch.float64))
    eps = first.normal(x0)
    loss = recipe.objective(model)(x0, None, noise)
    process = recipe.process()
    xt = process.perturb(x0, t, eps)
    guess = process.eps(xt, model(xt, t, {"code": model.encode(x0)}).mean, t)
    assert torch.allclose(loss, (guess - eps).square().flatten(1).mean(1), atol=1e-9)
    with pytest.raises(ValueError, match="an autoencoder draws no shapes"):
        model.code(1, sf.Noise(0))


def test_it_learns_whose_shape_it_is():
    """Two points or one, as the shape says: the code tells, after a second of training, and the draw shows it."""
    torch.manual_seed(0)
    recipe = Recipe.autoencoder(code=2, widths=(32, 32), encoder=(16, 16), steps=20, last=0.3, factor=3.0)
    model = recipe.model()
    objective, noise = recipe.objective(model), sf.Noise(0)
    x0 = torch.tensor([1.5, -1.5]).reshape(2, 1, 1).expand(2, 3, 8).repeat(4, 1, 1)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        objective(x0 + 0.1 * noise.normal(x0), None, noise).mean().backward()
        optimizer.step()
    own = recipe.sampler()
    with torch.no_grad():
        x = sample(
            model.given({"code": model.encode(x0[:2])}), own, shape=(2, 3, 40), times=recipe.times(), noise=sf.Noise(1)
        )
    assert float((x[0] - 1.5).abs().mean()) < 0.4 and float((x[1] + 1.5).abs().mean()) < 0.4


def test_a_model_draws_codes_first_keyed_by_the_row_and_any_number_of_points(tmp_path):
    torch.manual_seed(0)
    fields = {**TINY, "steps": 4}
    recipe = Recipe(**fields)
    made = shaken(recipe.model()).float()
    config = {"recipe": "point-cloud", "fields": fields, "event": [3, None], "size": [5]}
    sf.Model(sf.codecs.Affine(), made, config).save(tmp_path)
    model = sf.load(tmp_path)
    x = model.sample(3, seed=1)
    assert x.shape == (3, 3, 5)
    assert torch.allclose(model.sample(2, first=1, seed=1, batch=1), x[1:], atol=1e-5)
    assert model.sample(1, size=9).shape == (1, 3, 9)
    code = {"code": made.encode(x)}
    assert not torch.allclose(model.sample(3, seed=1, cond=code), x)  # what is given is not drawn
    assert torch.allclose(
        model.sample(3, seed=1, cond=code),
        sample(
            made.given(code), recipe.sampler(), x1=sf.Seeds.keyed(1, range(3)).normal(x), times=recipe.times(),
            noise=_moved(x),
        ),
        atol=1e-5,
    )  # fmt: skip
    with pytest.raises(ValueError, match="the code of its shape"):
        model.sample(1, sampler=sf.samplers.DDIM())
    sampler, times = sf.zoo.defaults.own(model.denoiser)
    assert repr(sampler) == "Coded(Ancestral())" and len(times) == 5


def _moved(x):
    noise = sf.Seeds.keyed(1, range(3))
    noise.normal(x)
    return noise
