"""Model and Result against worlds whose posterior is known, through a codec."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser, Estimate, Windowed
from sfumato.operators import Function, Identity, Mask, Matrix, Measurement
from sfumato.samplers import DDIM
from sfumato.solvers import Solver
from sfumato.zoo import Model, Result

CODEC = Affine(2.0, -1.0)  # data = 2 z - 1
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COV = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def world() -> sf.GaussianWorld:
    return sf.GaussianWorld(MEAN, COV)


@pytest.fixture
def model(world: sf.GaussianWorld) -> Model:
    return Model(CODEC, world.denoiser(sf.processes.EDM()), {"event": [2]})


@dataclass(frozen=True)
class Toy(Solver):
    """Ends at y + z, so that rows can be told apart."""

    steps: int = 3

    def step(self, denoiser, m, xt, t, s, memory, noise):
        denoiser(xt, t)
        return m.y + noise.normal(xt), memory


def test_samples_have_the_law_of_the_data(model: Model) -> None:
    x = model.sample(4000, steps=30, batch=2000)
    error = (COV.diag() * 4 / 4000).sqrt()
    assert ((x.mean(0) - (2 * MEAN - 1)).abs() < 4 * error).all()
    assert torch.allclose(torch.cov(x.T), 4 * COV, atol=4 * 4 * 0.5 * (2 / 4000) ** 0.5)


def test_a_sample_is_the_same_whatever_the_number_and_the_batch(model: Model) -> None:
    whole = model.sample(7, steps=6, seed=3)
    assert torch.allclose(model.sample(7, steps=6, seed=3, batch=2), whole, atol=1e-12)
    assert torch.allclose(model.sample(3, steps=6, seed=3), whole[:3], atol=1e-12)
    assert (model.sample(7, steps=6, seed=4) - whole).abs().amin() > 1e-4
    assert (whole[0] - whole[1]).abs().amin() > 1e-4


def test_sample_ends_with_a_call_of_the_denoiser_where_noise_is_left(world: sf.GaussianWorld) -> None:
    calls = []

    class Spy(Denoiser):
        process = sf.processes.EDM(sigma_min=0.5)

        def forward(self, xt, t, cond=None):
            calls.append(t)
            return world.denoiser(self.process)(xt, t)

    spy = Spy()
    Model(CODEC, spy, {"event": [2]}).sample(1, steps=4)
    assert calls[-1] == 0.0 and len(calls) == 5
    calls.clear()
    spy.process = sf.processes.Rectified()
    Model(CODEC, spy, {"event": [2]}).sample(1, steps=4)
    assert len(calls) == 4


def test_sample_takes_a_sampler_a_dtype_and_reports_progress(model: Model) -> None:
    seen = []
    x = model.sample(
        5, steps=4, sampler=DDIM(1.0), batch=2, dtype=torch.float32, progress=lambda *step: seen.append(step)
    )
    assert x.dtype == torch.float32
    assert seen == [(i, 12) for i in range(1, 13)]
    assert not torch.allclose(x.double(), model.sample(5, steps=4), atol=1e-2)


def test_no_samples_is_an_empty_batch(model: Model) -> None:
    assert model.sample(0).shape == (0, 2)


class Labelled(Denoiser):
    """x_0 is the point `label`, or 10 without one (label 3 of 3 classes, or none at all)."""

    process = sf.processes.Rectified()

    def forward(self, xt, t, cond=None):
        if cond is None:
            return Estimate(torch.full_like(xt, 10.0))
        return Estimate(torch.where(cond == 3, 10.0, cond.to(xt.dtype))[:, None].expand_as(xt))


def labelled() -> Model:
    return Model(Affine(), Labelled(), {"event": [1], "fields": {"classes": 3}})


def test_conditions_are_one_label_or_one_for_each() -> None:
    guide = labelled()
    assert torch.equal(guide.sample(3, cond=2, steps=2, sampler=DDIM()), torch.full((3, 1), 2.0))
    assert torch.equal(
        guide.sample(3, cond=torch.tensor([2, 0, 1]), steps=2, sampler=DDIM(), batch=2)[:, 0], torch.tensor([2.0, 0, 1])
    )
    assert torch.equal(guide.sample(1, steps=2, sampler=DDIM()), torch.full((1, 1), 10.0))
    # Guidance extrapolates from the null, 10, through the label.
    assert torch.allclose(guide.sample(1, cond=1, steps=2, sampler=DDIM(), scale=2.0), torch.tensor([[-8.0]]))
    assert torch.allclose(guide.sample(1, cond=1, steps=2, sampler=DDIM(), scale=1.0), torch.tensor([[1.0]]))


def test_dict_conditions_are_cut_along_the_batch() -> None:
    class Dict(Labelled):
        def forward(self, xt, t, cond=None):
            return Estimate(cond["value"][:, None].expand_as(xt))

    model = Model(Affine(), Dict(), {"event": [1]})
    values = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(model.sample(3, cond={"value": values}, steps=2, sampler=DDIM(), batch=2)[:, 0], values)


@pytest.mark.parametrize("cond", [3, -1, torch.tensor([0, 1]), torch.tensor([0.0]), torch.zeros(1, 1, dtype=torch.int)])
def test_labels_that_do_not_fit_are_refused(cond) -> None:
    with pytest.raises(ValueError, match="labels are"):
        labelled().sample(1, cond=cond)


def test_conditions_that_nothing_takes_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="no classes"):
        model.sample(1, cond=1)
    with pytest.raises(ValueError, match="guidance needs a condition"):
        labelled().sample(1, scale=2.0)


def test_event_size_and_batch_are_checked(model: Model) -> None:
    with pytest.raises(ValueError, match="leave `size` out"):
        model.sample(1, size=3)
    anywhere = Model(CODEC, model.denoiser, {"event": [3, None, None]})
    for size in ((1, 2, 3), (4, 0)):
        with pytest.raises(ValueError, match="leaves 2 axes open"):
            anywhere.sample(1, size=size)
    assert anywhere._shape(None) == (3, 64, 64)
    assert anywhere._shape(7) == (3, 7, 7)
    assert anywhere._shape((5, 8)) == (3, 5, 8)
    assert Model(CODEC, model.denoiser, {"event": [1, None], "size": 9})._shape(None) == (1, 9)
    with pytest.raises(ValueError, match="batch is at least 1"):
        model.sample(1, batch=0)
    with pytest.raises(ValueError, match="does not know the shape of its data"):
        Model(CODEC, model.denoiser).sample(1)


def test_denoising_is_the_posterior_mean_in_data_space(model: Model, world: sf.GaussianWorld) -> None:
    y = torch.tensor([[0.3, -2.0], [1.5, 0.0]])
    result = model.restore(Measurement(Identity(), y, 0.8))
    assert result.nfe == 1 and "posterior mean" in result.reason and result.solver == "Direct(steps=1)"
    data = sf.GaussianWorld(2 * MEAN - 1, 4 * COV)
    for i in range(2):
        truth = data.posterior(Measurement(Identity(), y[i : i + 1], 0.8)).mean
        assert torch.allclose(result.mean[i], truth, atol=1e-10)


def test_denoising_samples_have_the_posterior_of_the_data(model: Model) -> None:
    m = Measurement(Identity(), torch.tensor([[0.3, -2.0]]), 0.8)
    truth = sf.GaussianWorld(2 * MEAN - 1, 4 * COV).posterior(m)
    result = model.restore(m, samples=2000, batch=2000, steps=40)
    assert result.nfe == 40
    x = result.samples[:, 0]
    error = (truth.cov.diag() / 2000).sqrt()
    assert ((x.mean(0) - truth.mean).abs() < 4 * error).all()
    assert torch.allclose(torch.cov(x.T), truth.cov, atol=4 * float(truth.cov.max()) * (2 / 2000) ** 0.5)
    # And the intervals of exact samples cover what they say.
    inside = result.coverage(truth.sample(1, sf.Noise(5)), 0.9)
    assert inside in (0.0, 0.5, 1.0)
    draws = truth.sample(2000, sf.Noise(6))
    low, high = result.quantile(0.05), result.quantile(0.95)
    assert abs(float(((draws >= low) & (draws <= high)).double().mean()) - 0.9) < 0.02


def test_rows_are_keyed_by_item_and_sample_whatever_the_chunks(model: Model) -> None:
    y = torch.tensor([[0.0, 0.0], [100.0, 100.0], [200.0, 200.0]])
    m = Measurement(Identity(), y, 0.8)
    seen: list[tuple[int, int]] = []
    whole = model.restore(m, solver=Toy(), samples=2, seed=5, batch=6)
    parts = model.restore(m, solver=Toy(), samples=2, seed=5, batch=4, progress=lambda *s: seen.append(s))
    assert torch.equal(whole.samples, parts.samples)
    assert seen == [(i, 6) for i in range(1, 7)]
    assert (whole.nfe, parts.nfe) == (3, 3)
    # Sample index first, then the item: y_b is under row b of each sample.
    assert ((whole.samples - y).abs() < 20).all()
    assert whole.samples.shape == (2, 3, 2)
    # A longer run keeps the samples of a shorter one, and one item keeps its own: the keys are (item, sample).
    more = model.restore(m, solver=Toy(), samples=3, seed=5)
    assert torch.equal(more.samples[:2], whole.samples)
    first = model.restore(Measurement(Identity(), y[:1], 0.8), solver=Toy(), samples=2, seed=5)
    assert torch.equal(first.samples, whole.samples[:, :1])
    z = whole.samples - y
    assert len({round(float(v), 9) for v in z.flatten()}) == 12
    assert not torch.equal(model.restore(m, solver=Toy(), samples=2, seed=6).samples, whole.samples)
    noise = sf.Seeds.keyed(5, [(1, 1)])
    for _ in range(4):  # the start, then three steps
        z = noise.normal(torch.empty(1, 2))
    assert torch.allclose(whole.samples[1, 1], y[1] + 2 * z[0])


def test_restore_hands_the_solver_the_measurement_in_model_space(model: Model) -> None:
    seen = []

    @dataclass(frozen=True)
    class Spy(Toy):
        def step(self, denoiser, m, xt, t, s, memory, noise):
            seen.append(m)
            return xt, memory

    A = torch.tensor([[1.0, 2.0]])
    model.restore(Measurement(Matrix(A), torch.tensor([[3.0]]), 0.8), solver=Spy(1))
    # y = A (2 z - 1) + n: A z = (y + 3) / 2, sigma halved.
    assert torch.allclose(seen[0].y, torch.tensor([[3.0]])) and seen[0].sigma == pytest.approx(0.4)


def test_restore_binds_labels_to_their_items() -> None:
    guide = labelled()

    @dataclass(frozen=True)
    class Last(Toy):
        def step(self, denoiser, m, xt, t, s, memory, noise):
            return denoiser(xt, t).mean, memory

    m = Measurement(Identity(), torch.zeros(2, 1), 0.1)
    result = guide.restore(m, solver=Last(), samples=2, cond=torch.tensor([2, 0]), batch=3)
    assert torch.equal(result.samples[:, :, 0], torch.tensor([[2.0, 0.0], [2.0, 0.0]]))


def test_restore_refuses_what_does_not_fit(model: Model) -> None:
    m = Measurement(Identity(), torch.zeros(1, 2), 0.1)
    with pytest.raises(ValueError, match="samples is at least 1"):
        model.restore(m, samples=0)
    with pytest.raises(ValueError, match="setting of the solver that you gave"):
        model.restore(m, solver=Toy(), steps=3)
    with pytest.raises(ValueError, match=r"data of the shape \(2\), the measurement is of \(3\)\.$"):
        model.restore(Measurement(Identity(), torch.zeros(1, 3), 0.1))
    with pytest.raises(ValueError, match="batch is at least 1"):
        model.restore(m, batch=0)


def test_a_grey_picture_on_a_color_model_is_named_and_the_reverse(model: Model) -> None:
    color = Model(CODEC, model.denoiser, {"event": [3, None, None]})
    grey = Model(CODEC, model.denoiser, {"event": [1, 28, 28]})
    one, three = (Measurement(Identity(), torch.zeros(1, c, 28, 28), 0.1) for c in (1, 3))
    with pytest.raises(ValueError, match=r"\(3, any, any\), the measurement is of \(1, 28, 28\)\. It is a grey image"):
        color.restore(one)
    with pytest.raises(ValueError, match="It is a color image, the model is for grey"):
        grey.restore(three)
    with pytest.raises(ValueError, match=r"\(1, 20, 28\)\.$"):
        grey.restore(Measurement(Identity(), torch.zeros(1, 1, 20, 28), 0.1))


class Blank(Denoiser):
    """D = x_t / 2 at any size, and the largest side that it was asked for."""

    process = sf.processes.EDM()

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def forward(self, xt: Tensor, t, cond=None) -> Estimate:
        self.largest = max(self.largest, *xt.shape[2:])
        return Estimate(xt / 2)


@pytest.mark.parametrize(("size", "largest"), [((2, 512), 512), ((2, 513), 256), ((700, 3), 256)])
def test_large_pictures_run_in_windows(size: tuple[int, int], largest: int) -> None:
    denoiser = Blank()
    model = Model(Affine(), denoiser, {"event": [1, None, None]})
    y = sf.Noise(0).normal(torch.empty(1, 1, *size))
    result = model.restore(Measurement(Identity(), y, 0.1))
    assert denoiser.largest == largest
    assert torch.allclose(result.mean, y / 2)
    assert isinstance(model._sized(denoiser, (1, *size)), Windowed) == (largest == 256)
    assert model.sample(1, size=size, steps=1).shape == (1, 1, *size)


def test_what_a_blind_solver_found_is_in_the_result() -> None:
    """A kernel for each sample of each picture, in the order of the samples; None where the operator was known."""
    model = Model(Affine(), Blank(), {"event": [1, None, None]})
    start = sf.operators.Blur(torch.full((3, 3), 1 / 9), (6, 6))
    m = Measurement(start, sf.Noise(0).normal(torch.empty(2, 1, 6, 6)), 0.1)
    solver = sf.solvers.GibbsDDRM(steps=3, rounds=1, moves=2, begin=1.0, rate=1e-8)
    result = model.restore(m, solver=solver, samples=3, batch=4)
    assert result.found is not None and result.found.shape == (3, 2, 1, 3, 3)
    assert torch.allclose(result.found.sum((3, 4)), torch.ones(3, 2, 1))
    one = model.restore(m, solver=solver, samples=2, batch=1)
    assert one.found is not None and torch.allclose(one.found, result.found[:2], atol=1e-6)
    assert len({float(v) for v in result.found[:, :, 0, 0, 0].flatten()}) == 6
    assert model.restore(m, solver=sf.solvers.DDRM(steps=2)).found is None


def test_result_summaries_are_those_of_the_samples() -> None:
    samples = sf.Noise(1).normal(torch.empty(9, 2, 3))
    result = Result(samples)
    assert torch.equal(result.mean, samples.mean(0))
    assert torch.allclose(result.std, samples.var(0, unbiased=True).sqrt())
    for q in (0.0, 0.05, 0.3, 0.5, 0.99, 1.0):
        assert torch.allclose(result.quantile(q), torch.quantile(samples, q, dim=0)), q
    truth = sf.Noise(2).normal(torch.empty(2, 3))
    # Nine samples cut the line into ten parts: the central 60 % lie between the second and the eighth.
    low, high = result.interval(0.6)
    ordered = samples.sort(0).values
    assert torch.allclose(low, ordered[1]) and torch.allclose(high, ordered[7])
    share = float(((truth >= ordered[1]) & (truth <= ordered[7])).double().mean())
    assert 0.0 < share < 1.0
    assert result.coverage(truth, 0.6) == pytest.approx(share)


@pytest.mark.parametrize(("count", "level", "share"), [(3, 0.5, 0.5), (19, 0.9, 0.9), (9, 0.5, 0.5), (8, 0.9, 7 / 9)])
def test_exact_samples_cover_the_stated_share(count: int, level: float, share: float) -> None:
    """As far as their number allows: of S samples all lie inside 1 - 2 / (S + 1) of the law at most."""
    draws = sf.Noise(3).normal(torch.empty(count + 1, 1, 40000))
    found = Result(draws[1:]).coverage(draws[0], level)
    assert abs(found - share) < 4 * (share * (1 - share) / 40000) ** 0.5


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_quantiles_are_between_0_and_1(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Result(torch.zeros(3, 1, 2)).quantile(q)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_levels_are_inside_0_and_1(level: float) -> None:
    with pytest.raises(ValueError, match="lies between 0 and 1"):
        Result(torch.zeros(3, 1, 2)).coverage(torch.zeros(1, 2), level)


def test_one_sample_has_no_spread_and_a_truth_of_another_shape_is_refused() -> None:
    one = Result(torch.zeros(1, 1, 2))
    truth = torch.zeros(1, 2)
    asks = (lambda: one.std, lambda: one.quantile(0.5), lambda: one.interval(0.5), lambda: one.coverage(truth, 0.5))
    for ask in asks:
        with pytest.raises(ValueError, match="needs at least 2 samples"):
            ask()
    with pytest.raises(ValueError, match=r"got \(3, 1, 2\) for a truth \(2,\)"):
        Result(torch.zeros(3, 1, 2)).coverage(torch.zeros(2), 0.5)


def test_a_nonlinear_operator_stays_in_data_space(model: Model) -> None:
    seen = []

    @dataclass(frozen=True)
    class Spy(Toy):
        def step(self, denoiser, m, xt, t, s, memory, noise):
            seen.append(m.operator(torch.zeros(1, 2)))
            return xt, memory

    model.restore(Measurement(Function(lambda x: x**2, (2,)), torch.ones(1, 2), 0.1), solver=Spy(1))
    assert torch.equal(seen[0], torch.ones(1, 2))  # (2 * 0 - 1)^2
    assert Mask(torch.ones(2)).event(torch.ones(1, 2)) == (2,)
