from itertools import pairwise

import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta, Rectified
from sfumato.recipes.timegrad import Recipe, StepByStep, TeacherForcing
from sfumato.samplers import Ancestral, Arc, paths
from sfumato.training import Ema, eps_weight, fit, warmup_decay
from sfumato.worlds import autoregressive

A = torch.tensor([[0.8, 0.1], [-0.2, 0.6]], dtype=torch.float64)
Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64)


class Passed(torch.nn.RNNBase):
    """A recurrent network whose output is its input, or, summed, all that it was fed so far."""

    def __init__(self, size: int, summed: bool = False) -> None:
        super().__init__("GRU", size, size, batch_first=True)
        self.summed = summed

    def forward(self, inputs, memory=None):  # type: ignore[no-untyped-def]
        if not self.summed:
            return inputs, memory
        total = inputs.cumsum(1) + (0.0 if memory is None else memory)
        return total, total[:, -1:]


class OneStep(Denoiser):
    """The exact E[x_0 | x_t, h] of N(A h, Q)."""

    def __init__(self) -> None:
        super().__init__()
        self.process = LinearBeta()

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        mean = cond["state"][:, :2].to(xt) @ A.T
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        gain = alpha * torch.linalg.solve(alpha**2 * Q + sigma**2 * torch.eye(2).double(), Q).T
        return Estimate(mean + (xt - alpha * mean) @ gain.T)


def past(n: int = 1) -> torch.Tensor:
    return autoregressive([A], Q, 7).sample(n, Noise(3))


def cond(x: torch.Tensor, horizon: int = 4) -> dict[str, torch.Tensor]:
    mask = (torch.arange(x.shape[-1]) < x.shape[-1] - horizon).double().expand_as(x)
    return {"observed": x * mask, "mask": mask}


class Unscaled(StepByStep):
    def scale(self, cond):  # type: ignore[no-untyped-def]
        return torch.ones_like(cond["mask"][..., :1])


def test_paths_of_an_exact_one_step_law_have_the_mean_and_covariance_of_the_process() -> None:
    denoiser = Unscaled(OneStep(), Passed(2), torch.nn.Identity(), (1,), 4)
    x, n = past(), 4000
    drawn = paths(denoiser, cond(x), n, times=sf.grids.default(LinearBeta(), 25), sampler=Arc(), batch=n)[:, 0]
    m = sf.Measurement(sf.operators.Mask(cond(x)["mask"][0]), cond(x)["observed"], 0.0)
    truth = autoregressive([A], Q, 7).posterior(m)
    mean, cov = truth.mean[:, 3:], truth.cov.reshape(2, 7, 2, 7)[:, 3:, :, 3:].reshape(8, 8)
    deviation = cov.diagonal().sqrt()
    z = (drawn[..., 3:].mean(0) - mean).flatten() / deviation
    assert z.abs().max() < 4 / n**0.5
    error = drawn[..., 3:].flatten(1).T.cov() - cov
    assert (error.abs() / (deviation[:, None] * deviation)).max() < 4 * (2 / n) ** 0.5
    # CRPS of the sum at step h is sqrt(1' S_h 1 / pi) where the forecast is exact
    total = drawn[..., 3:].sum(1)
    S = truth.cov.reshape(2, 7, 2, 7)[:, 6, :, 6].sum()
    ys = truth.sample(1500, Noise(8))[:, :, 6].sum(1)
    score = torch.stack([sf.metrics.crps(total[:800, None, 3:], y.reshape(1, 1)) for y in ys]).mean()
    assert float(score) == pytest.approx(float((S / torch.pi).sqrt()), rel=0.06)


def test_the_state_at_a_step_has_seen_what_is_before_it_and_all_of_that() -> None:
    denoiser = Unscaled(OneStep(), Passed(9, summed=True), torch.nn.Identity(), (1, 3), 2)
    z, c = (
        past(2),
        {"covariates": Noise(1).normal(torch.zeros(2, 4, 7)).double(), "static": torch.tensor([[5.0], [6.0]]).double()},
    )
    states, _ = denoiser.unroll(z, c, 3, 7, None)
    by_hand = torch.stack(
        [torch.cat([z[..., l - 1], z[..., l - 3], c["covariates"][..., l], c["static"]], 1) for l in range(3, 7)], 1
    )
    torch.testing.assert_close(states, by_hand.cumsum(1))
    first, memory = denoiser.unroll(z, c, 3, 5, None)
    rest, _ = denoiser.unroll(z, c, 5, 7, memory)
    torch.testing.assert_close(torch.cat([first, rest], 1), states)


def test_no_condition_of_the_right_size() -> None:
    denoiser = Recipe(channels=2, covariates=1, lags=(1,)).model()
    with pytest.raises(ValueError, match=r"takes 3 numbers a step .* gives 2: \['mask', 'observed'\]"):
        denoiser(torch.zeros(1, 2, 7), 0.5, cond(past().float()))


def awake(**fields: object) -> StepByStep:
    model = Recipe(channels=2, lags=(1, 2), horizon=3, **fields).model()  # type: ignore[arg-type]
    for i, p in enumerate(model.parameters()):
        p.data = 0.4 * Noise(i).normal(p)
    return model.double().eval()


@pytest.mark.parametrize("fields", [{}, {"cell": "gru", "layers": 1}], ids=["lstm", "gru"])
def test_free_running_is_teacher_forcing_on_its_own_past(fields: dict[str, object]) -> None:
    model, x = awake(**fields), past(2)
    c, times = cond(x, 3), (1.0, 0.6, 0.0)
    drawn = paths(model, c, 1, times=times, sampler=sf.samplers.DDIM(), seed=5)[0]
    scale = model.scale(c)
    # Every step again, from the same streams, through the window's denoiser with the drawn path as its past.
    noise = Seeds.keyed(5, [(0, 0), (1, 0)])
    known = {"observed": drawn, "mask": torch.ones_like(drawn)}
    for l in (4, 5, 6):
        z = noise.normal(torch.zeros(2, 2).double())
        for t, s in pairwise(times):
            wide = torch.zeros_like(drawn)
            wide[..., l] = z
            D = model(wide, t, known).mean[..., l]
            z = model.process.reverse(Estimate(D), z, t, s, 0.0).mean
        torch.testing.assert_close(z * scale[..., 0], drawn[..., l], atol=1e-6, rtol=1e-6)


def test_ten_times_the_data_are_ten_times_the_samples() -> None:
    model, c = awake(), cond(past(2), 3)
    drawn = paths(model, c, 3, times=(1.0, 0.5, 0.0), sampler=Ancestral())
    tenfold = paths(model, c | {"observed": 10 * c["observed"]}, 3, times=(1.0, 0.5, 0.0), sampler=Ancestral())
    torch.testing.assert_close(tenfold, 10 * drawn)


def test_scale_is_of_what_is_given_of_the_context() -> None:
    model = awake()
    c = {
        "observed": torch.tensor([[[9.0, 9, -2, 4, 9, 9, 9], [9.0, 9, 0, 0, 9, 9, 9]]]),
        "mask": torch.tensor([[[1.0, 1, 1, 1, 1, 1, 1], [1.0, 1, 1, 1, 1, 1, 1]]]),
    }
    assert model.scale(c).tolist() == [[[3.0], [1.0]]]
    gap = c | {"mask": torch.tensor([[[1.0, 1, 1, 0, 1, 1, 1], [1.0, 1, 0, 0, 1, 1, 1]]])}
    assert model.scale(gap).tolist() == [[[2.0], [1.0]]]


def test_gaps_are_drawn_from_what_is_before_them_and_the_start_cannot_be() -> None:
    model, x = awake(), past(2)
    mask = torch.ones_like(x)
    mask[0, 0, 0] = mask[:, 1, 3] = mask[0, 0, 5] = 0
    c = {"observed": x * mask, "mask": mask}
    drawn = model.draw(c, (1.0, 0.5, 0.0), Ancestral(), Seeds([1, 2]))
    assert drawn[0, 0, 0].isnan() and int(drawn.isnan().sum()) == 1
    torch.testing.assert_close(drawn[mask > 0], x[mask > 0])
    later = torch.where((torch.arange(7) > 3) & (mask > 0), x + 1, x)
    moved = model.draw({"observed": later * mask, "mask": mask}, (1.0, 0.5, 0.0), Ancestral(), Seeds([1, 2]))
    assert torch.equal(moved[:, 1, 3], drawn[:, 1, 3]) and not torch.equal(moved[0, 0, 5], drawn[0, 0, 5])
    whole = {"observed": x, "mask": torch.ones_like(x)}
    torch.testing.assert_close(model.draw(whole, (1.0, 0.0), Ancestral(), Seeds([1, 2])), x)


def test_times_of_their_own_are_one_time_where_they_agree() -> None:
    model, x = awake(), past(3)
    known = {"observed": x, "mask": torch.ones_like(x)}
    xt = Noise(7).normal(x)
    t = torch.tensor([0.2, 0.5, 0.9]).double()
    one_by_one = torch.cat([model(xt, float(v), known).mean[i : i + 1] for i, v in enumerate(t)])
    torch.testing.assert_close(model(xt, t, known).mean, one_by_one)
    torch.testing.assert_close(model(xt, t[:, None].expand(3, 7), known).mean, one_by_one)
    turned = t[torch.arange(7) % 3].expand(3, 7)
    whole = model(xt, turned, known).mean
    for l in range(7):
        torch.testing.assert_close(whole[..., l], model(xt, float(t[l % 3]), known).mean[..., l])


class Flat(Unscaled):
    """D = x_t / 4 at every step."""

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        self.seen = cond
        return Estimate(0.25 * xt)


class Ones(Noise):
    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(like)


def test_loss_by_hand() -> None:
    denoiser = Flat(OneStep(), Passed(2), torch.nn.Identity(), (2, 1), 1)
    denoiser.inner.process = Rectified()
    x0 = torch.tensor([[[1.0, 2, 3, 4]], [[5.0, 6, 7, 8]]])
    valid = torch.tensor([[[1.0, 1, 1, 0]], [[1.0, 1, 1, 1]]])
    objective = TeacherForcing(denoiser, 1, lambda alpha, sigma: sigma * 2)
    loss = objective(x0.masked_fill(valid == 0, torch.nan), {"valid": valid}, Ones())
    # One level, t = 1: x_t = 1 and D = 1/4; steps 2 and 3 have their lags, three known numbers among them.
    torch.testing.assert_close(loss, 2 * 2 * torch.tensor([2.75**2, 6.75**2 + 7.75**2]) / 3)
    assert torch.equal(denoiser.seen["mask"], valid) and denoiser.seen["observed"][0, 0, 3] == 0
    everything = objective(x0, None, Ones())
    torch.testing.assert_close(everything, 2 * 2 * torch.tensor([2.75**2 + 3.75**2, 6.75**2 + 7.75**2]) / 4)


def test_every_step_has_a_time_of_its_own_on_the_levels() -> None:
    seen = []

    class Times(Flat):
        def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
            seen.append(t)
            return Estimate(xt)

    denoiser = Times(OneStep(), Passed(2), torch.nn.Identity(), (1,), 1)
    x0 = torch.zeros(500, 2, 9)
    TeacherForcing(denoiser, 4, eps_weight)(x0, None, Noise(0))
    TeacherForcing(denoiser, 0, eps_weight)(x0, None, Noise(0))
    levels, free = seen
    assert levels.shape == free.shape == (500, 9)
    counts = torch.bincount((levels * 4).long().flatten(), minlength=5)[1:] / 4500
    torch.testing.assert_close(counts, torch.full((4,), 0.25), atol=0.03, rtol=0)
    assert float(free.min()) > 0 and float(free.max()) <= 1 and abs(float(free.mean()) - 0.5) < 0.02
    assert len(free.unique()) == 4500


def test_fields() -> None:
    recipe = Recipe(channels=3, covariates=2, statics=1)
    assert (recipe.steps, recipe.last, recipe.cells, recipe.layers, recipe.cell) == (100, 0.1, 40, 2, "lstm")
    assert recipe.process().alpha_bars[-1] == pytest.approx(0.0056187608)  # type: ignore[attr-defined]
    model = recipe.model()
    assert isinstance(model.rnn, torch.nn.LSTM) and model.rnn.input_size == 7 * 3 + 2 + 1 and model.rnn.dropout == 0.1
    assert isinstance(Recipe(cell="gru", layers=1).model().rnn, torch.nn.GRU)
    assert recipe.objective(model).steps == 100 and recipe.objective(model).weight is eps_weight
    flow = Recipe(scheme="flow")
    assert flow.objective(flow.model()).steps == 0 and isinstance(flow.model().process, Rectified)
    for lags in ((), (0, 1), (1, 1)):
        with pytest.raises(ValueError, match="lags are different steps back"):
            Recipe(lags=lags)
    with pytest.raises(ValueError, match="cell is lstm or gru, got 'rnn'"):
        Recipe(cell="rnn")


class Draws:
    def __len__(self) -> int:
        return 10**6

    def batch(self, items: list[int], noise: Seeds) -> tuple[torch.Tensor, None]:
        return autoregressive([A], Q, 20).sample(len(items), noise.streams[0]).float(), None


@pytest.mark.slow
def test_a_small_model_learns_to_forecast_an_autoregression() -> None:
    recipe = Recipe(channels=2, lags=(1, 2), horizon=4, cell="gru", cells=32, state=32, layers=1, steps=50, scheme="v")
    torch.manual_seed(0)
    objective = recipe.objective(recipe.model())
    ema = Ema(objective, 0.99)
    optimizer = torch.optim.Adam(objective.parameters(), 5e-3)
    for _ in fit(objective, Draws(), optimizer, steps=800, batch=32, ema=ema, schedule=warmup_decay(800, decay=0.6)):
        pass
    denoiser = ema.average.denoiser.eval()
    world = autoregressive([A], Q, 20)
    x = world.sample(100, Noise(5))
    c = {key: value.float() for key, value in cond(x).items()}
    drawn = paths(denoiser, c, 50, times=sf.grids.default(recipe.process(), 12), sampler=Arc(), batch=11000)[..., 16:]
    laws = [
        world.posterior(sf.Measurement(sf.operators.Mask(c["mask"][i]), c["observed"][i : i + 1].double(), 0.0))
        for i in range(100)
    ]
    means, deviation = (
        torch.stack([law.mean for law in laws])[..., 16:],
        laws[0].cov.diagonal().reshape(2, 20).sqrt()[:, 16:],
    )
    assert abs(float((drawn.std(0) / deviation).mean()) - 1) < 0.15
    noise = Noise(9)
    exact = torch.stack([means + deviation * noise.normal(means) for _ in range(50)])
    scores = [float(sf.metrics.crps(p.float(), x[..., 16:].float(), fair=True).mean()) for p in (drawn, exact)]
    assert scores[0] < 1.1 * scores[1]
