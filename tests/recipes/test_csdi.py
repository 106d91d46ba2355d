from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate, MeanOnly, predict_flow, predict_v
from sfumato.guides import CFG
from sfumato.noise import Noise, Seeds
from sfumato.operators import LinearFunction, Mask, Measurement
from sfumato.processes import LinearBeta, Rectified
from sfumato.recipes.csdi import Recipe
from sfumato.samplers import Ancestral, Arc, Overwrite, paths, sample
from sfumato.training import Ema, Uniform, eps_weight, fit, masking, warmup_decay
from sfumato.worlds import GaussianWorld, autoregressive

A = torch.tensor([[0.8, 0.1], [-0.2, 0.6]], dtype=torch.float64)
Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64)
PAIR = GaussianWorld(torch.zeros(1, 2).double(), torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double())
SEEN = Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[[1.0, 0.0]]]).double(), 0.0)


def test_replacement_with_an_exact_prior_is_biased_as_the_theory_says() -> None:
    recipe, n = Recipe(), 20000
    many = Overwrite(recipe.sampler(), SEEN.repeat(n))
    x1 = Noise(0).normal(torch.zeros(n, 1, 2).double())
    x = sample(MeanOnly(PAIR.denoiser(recipe.table())), many, x1=x1, times=recipe.times(), noise=Noise(1))[:, 0, 1]
    assert abs(float(x.mean()) - 0.6083) < 4 * (0.285 / n) ** 0.5
    assert abs(float(x.var()) - 0.2851) < 4 * 0.2851 * (2 / n) ** 0.5


class Conditional(Denoiser):
    """The exact E[x_0 | x_t, given] of the pair, by regression on what was given, hidden where it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Recipe().table()

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        mean, var = 0.9 * cond["observed"][..., :1], 0.19
        hidden = mean + alpha * var / (alpha**2 * var + sigma**2) * (xt[..., 1:] - alpha * mean)
        return Estimate(torch.cat([7.0 + 0 * hidden, hidden], -1))


def test_conditioning_as_csdi_does_is_not() -> None:
    recipe, n = Recipe(), 4000
    cond = {"observed": torch.tensor([[[1.0, 0.0]]]).double(), "mask": torch.tensor([[[1.0, 0.0]]]).double()}
    x = paths(Conditional(), cond, n, times=recipe.times(), sampler=recipe.sampler(), batch=n)
    assert torch.equal(x[..., 0], torch.ones(n, 1, 1).double())
    assert abs(float(x[..., 1].mean()) - 0.9) < 4 * (0.19 / n) ** 0.5
    # 50 ancestral steps with the small variance, and no more: the spread of one number follows a scalar recursion.
    process, times, v = recipe.table(), recipe.times(), 1.0
    for t, s in pairwise(times):
        k_x, k_D, std, _ = process.weights(t, s, 1.0)
        gain = process.alpha(t) * 0.19 / (process.alpha(t) ** 2 * 0.19 + process.sigma(t) ** 2)
        v = (k_x + k_D * gain) ** 2 * v + std**2
    assert abs(float(x[..., 1].var()) / v - 1) < 4 * (2 / n) ** 0.5
    exact = paths(Conditional(), cond, n, times=sf.grids.default(process, 30), sampler=Arc(), batch=n)[..., 1]
    assert abs(float(exact.mean()) - 0.9) < 4 * (0.19 / n) ** 0.5
    assert abs(float(exact.var()) / 0.19 - 1) < 4 * (2 / n) ** 0.5


WINDOW = autoregressive([A], Q, 6)
SUMS = LinearFunction(lambda x: x.unflatten(-1, (2, 3)).sum(-1), (2, 6))  # an aggregate of both series, by three steps
KINDS = {
    "impute": (Mask(torch.tensor([[1.0, 1, 0, 0, 1, 1], [1.0, 0, 1, 1, 1, 0]])), 0.0),
    "forecast": (Mask(torch.tensor([1.0, 1, 1, 0, 0, 0]).expand(2, 6)), 0.0),
    "refine": (Mask(torch.ones(2, 6)), 0.5),
    "downscale": (SUMS, 0.1),
}


@pytest.mark.parametrize(
    ("kind", "process"),
    [*((kind, LinearBeta()) for kind in KINDS), ("impute", Rectified()), ("downscale", Rectified())],
)
def test_a_prior_of_windows_imputes_forecasts_refines_and_downscales_exactly(kind: str, process: LinearBeta) -> None:
    operator, sigma = KINDS[kind]
    m = Measurement.simulate(operator, WINDOW.sample(1, Noise(5)), sigma=sigma, noise=Noise(6))
    truth = WINDOW.posterior(m)
    solver = sf.solvers.MMPS(sampler=Arc(), iterations=8)
    *_, end = solver.trajectory(WINDOW.denoiser(process), m.repeat(2500), Noise(0), times=sf.grids.default(process, 25))
    x = end.x.flatten(1)
    deviation = truth.cov.diagonal().clamp(min=1e-12).sqrt()
    z = (x.mean(0) - truth.mean.flatten()) / deviation
    alive = deviation > 1e-3
    assert z[alive].abs().max() < 4.5 / 2500**0.5 + 0.03
    torch.testing.assert_close(x.T.cov(), truth.cov, atol=0.1 * float(deviation.max()) ** 2, rtol=0)
    # CRPS of a normal law at its own draws: s / sqrt(pi)
    draws = truth.sample(2000, Noise(8)).flatten(1)
    score = torch.stack([sf.metrics.crps(x[:400, None], d[None]) for d in draws[:300]]).mean()
    assert float(score) == pytest.approx(float(deviation.mean()) / torch.pi**0.5, rel=0.06)


def test_a_prior_of_windows_forecasts_from_noisy_numbers_by_twisted_particles() -> None:
    operator, n = KINDS["forecast"][0], 800
    m = Measurement.simulate(operator, WINDOW.sample(1, Noise(5)), sigma=0.2, noise=Noise(6))
    truth = WINDOW.posterior(m)
    x = sf.solvers.TDS(steps=40, particles=32)(WINDOW.denoiser(LinearBeta()), m.repeat(n), Noise(0)).flatten(1)
    variance = truth.cov.diagonal()
    assert ((x.mean(0) - truth.mean.flatten()) / variance.sqrt()).abs().max() < 4 / n**0.5
    assert (x.var(0) / variance - 1).abs().max() < 4.5 * (2 / n) ** 0.5


def test_fields_are_the_papers() -> None:
    recipe = Recipe()
    assert (recipe.steps, recipe.width, recipe.blocks, recipe.heads, recipe.strategy) == (50, 64, 4, 8, "random")
    assert recipe.times() == tuple(n / 50 for n in range(50, -1, -1)) and isinstance(recipe.sampler(), Ancestral)
    betas = 1 - torch.tensor(
        [b / a for a, b in zip((1.0, *recipe.table().alpha_bars), recipe.table().alpha_bars, strict=False)]
    )
    torch.testing.assert_close(betas.sqrt().diff(), torch.full((49,), (0.5**0.5 - 0.01) / 49), atol=1e-5, rtol=1e-3)
    model = Recipe(channels=3).model()
    assert model.clock is not None and model.clock(1.0) == 49.0 and model.clock(0.5) == 24.0
    assert recipe.objective(model).times.steps == 50 and recipe.objective(model).weight is eps_weight  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("strategy", "row"),
    [("forecast", masking.Last(3)), ("random", masking.random), ("prior", masking.everything)],
)
def test_strategies(strategy: str, row: masking.Hide) -> None:
    recipe = Recipe(strategy=strategy, horizon=3)
    hide = recipe.objective(recipe.model()).hide
    valid = torch.ones(4, 1, 9, dtype=torch.bool)
    assert torch.equal(hide(valid, Noise(0)), row(valid, Noise(0)))
    mix = {name: Recipe(strategy=name, horizon=3).objective(recipe.model()).hide for name in ("mix", "any")}
    assert mix["mix"].strategies == (masking.random, masking.historical)  # type: ignore[attr-defined]
    assert mix["any"].strategies == (masking.random, masking.block, masking.Last(3, vary=True))  # type: ignore[attr-defined]


def test_flow_and_v_train_the_same_network_at_any_time() -> None:
    for name, scheme, process in (("flow", predict_flow, Rectified()), ("v", predict_v, Recipe().table())):
        recipe = Recipe(scheme=name, width=8, blocks=1, heads=2)
        model = recipe.model()
        assert model.process == process and model.scheme is scheme
        objective = recipe.objective(model)
        assert objective.times == Uniform()
        # At the ideal output the loss is that of the network's own target: an untrained net returns its bias b.
        x0 = Noise(0).normal(torch.zeros(3, 1, 6))
        bias = model.net.leave[1].bias.detach()  # type: ignore[union-attr, index]
        given = lambda valid, noise: torch.zeros_like(valid)  # noqa: E731
        whole = masking.Masked(model, given, lambda *_: torch.full((3,), 0.4).double(), objective.weight)
        eps = Noise(2).normal(x0)
        target = eps - x0 if name == "flow" else process.alpha(0.4) * eps - process.sigma(0.4) * x0
        expected = (target - bias).square().mean((1, 2))
        torch.testing.assert_close(whole(x0, None, Noise(2)).detach(), expected, atol=1e-4, rtol=1e-4)
    assert Recipe(scheme="flow").times() == sf.grids.uniform(50)


def test_fields_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="scheme is one of eps, v, flow, got 'x0'"):
        Recipe(scheme="x0")
    with pytest.raises(ValueError, match="strategy is one of random, historical, mix, forecast, any, prior, got 'all'"):
        Recipe(strategy="all")


def test_guidance_on_covariates_keeps_what_was_observed() -> None:
    recipe = Recipe(covariates=2, statics=1, drop=0.5)
    cond = {name: torch.ones(2, 1, 3) for name in ("observed", "mask", "covariates", "static")}
    null = recipe.null(cond)
    assert {name: float(value.sum()) for name, value in null.items()} == {
        "observed": 6.0,
        "mask": 6.0,
        "covariates": 0.0,
        "static": 0.0,
    }
    objective = recipe.objective(recipe.model())
    assert objective.drop == 0.5 and objective.null == recipe.null
    assert CFG(recipe.model(), scale=2.0, null=recipe.null).null(cond)["covariates"].sum() == 0


class Draws:
    """Windows of a world, new ones at every step."""

    def __init__(self, world: GaussianWorld, **more: torch.Tensor) -> None:
        self.world = world

    def __len__(self) -> int:
        return 10**6

    def batch(self, items: list[int], noise: Seeds) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self.world.sample(len(items), noise.streams[0]).float(), {}


def trained(recipe: Recipe, world: GaussianWorld, steps: int, batch: int = 64) -> Denoiser:
    torch.manual_seed(0)
    objective = recipe.objective(recipe.model())
    ema = Ema(objective, 0.99)
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    for _ in fit(
        objective, Draws(world), optimizer, steps=steps, batch=batch, ema=ema, schedule=warmup_decay(steps, decay=0.6)
    ):
        pass
    average = ema.average.denoiser.eval()
    assert isinstance(average, Denoiser)
    return average


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["eps", "v", "flow"])
def test_a_small_model_learns_to_forecast_an_autoregression(scheme: str) -> None:
    world = autoregressive([A], Q, 12)
    recipe = Recipe(
        channels=2,
        width=32,
        blocks=2,
        heads=4,
        scheme=scheme,
        joint=True,
        patch=2,
        dropout=0.0,
        strategy="forecast",
        horizon=4,
    )
    denoiser = trained(recipe, world, 700)
    mask = (torch.arange(12) < 8).double().expand(2, 12)
    x = world.sample(100, Noise(5))
    cond = {"observed": (x * mask).float(), "mask": mask.expand_as(x).float()}
    # A network that predicts eps has its error times sigma / alpha in D: it is sampled as the paper does.
    few = sf.grids.default(recipe.process(), 15)
    sampler, times = (recipe.sampler(), recipe.times()) if scheme == "eps" else (Arc(), few)
    drawn = paths(denoiser, cond, 50, times=times, sampler=sampler, batch=5000)[..., 8:]
    m = [Measurement(Mask(mask), (x * mask)[i : i + 1], 0.0) for i in range(100)]
    law = world.posterior(m[0])
    deviation = law.cov.diagonal().reshape(2, 12).sqrt()[:, 8:]
    means = torch.stack([world.posterior(one).mean for one in m])[..., 8:]
    assert ((drawn.mean(0) - means) / deviation).square().mean().sqrt() < 0.33
    assert abs(float((drawn.std(0) / deviation).mean()) - 1) < 0.14
    noise = Noise(9)
    exact = torch.stack([means + deviation * noise.normal(means) for _ in range(50)])
    scores = [float(sf.metrics.crps(p.float(), x[..., 8:].float(), fair=True).mean()) for p in (drawn, exact)]
    assert scores[0] < 1.06 * scores[1]
