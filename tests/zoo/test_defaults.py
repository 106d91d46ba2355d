import math

import pytest
import torch

import sfumato as sf
from sfumato import recipes
from sfumato.operators import Function, Identity, Mask, Matrix, Measurement
from sfumato.samplers import Arc
from sfumato.zoo import defaults


class Chosen:
    def __init__(self, key: str, steps: int | None = None) -> None:
        self.key, self.steps = key, steps


@pytest.fixture
def anything(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        def __init__(self, key: str) -> None:
            self.Recipe = lambda steps=None: Chosen(key, steps)

    monkeypatch.setattr(recipes, "load", Module)


class Skewed(Matrix):
    """A linear operator that is not spectral."""


def linear() -> sf.operators.Linear:
    return sf.operators.LinearFunction(lambda x: 2 * x, (2,))


@pytest.mark.parametrize(
    ("operator", "sigma", "key", "why"),
    [
        (Mask(torch.tensor([1.0, 0.0])), 0.1, "ddrm", "closed-form SVD and y is noisy"),
        (Mask(torch.tensor([1.0, 0.0])), 0.0, "ddnm", "linear and y has no noise"),
        (linear(), 0.0, "ddnm", "linear and y has no noise"),
        (linear(), 0.1, "diffpir", "without a closed-form SVD"),
        (Function(lambda x: x**2, (2,)), 0.1, "dps", "not linear"),
    ],
)
def test_the_solver_follows_the_operator(anything, operator, sigma: float, key: str, why: str) -> None:
    m = Measurement(operator, torch.zeros(1, 2), sigma)
    solver, reason = defaults.solver(m)
    assert (solver.key, solver.steps) == (key, None) and why in reason
    assert defaults.solver(m, 4, steps=7)[0].steps == 7


def picture(operator, sigma: float, x=(1, 3, 16, 16)) -> Measurement:
    return Measurement(operator, operator(torch.zeros(x)), sigma)


ON_PICTURES = [
    (Mask(torch.ones(16, 16)), "inpaint", 3.0),
    (sf.operators.Gray(), "colorize", 3.0),
    (sf.operators.Downsample(2), "enlarge", 0.25),
    (sf.operators.Downsample.bicubic(4, (16, 16)), "enlarge", 0.5),
    (sf.operators.Blur.gaussian((16, 16), 1.0), "deblur", 0.3),
    (sf.operators.Separable.gaussian((16, 16)), "deblur", 0.3),
    (sf.operators.Convolution.gaussian(1.0, width=5, padding="valid"), "deblur", 0.3),
]


@pytest.mark.parametrize(("operator", "kind", "level"), ON_PICTURES, ids=[kind for _, kind, _ in ON_PICTURES])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_picture_gets_the_best_of_the_table(operator, kind: str, level: float, sigma: float) -> None:
    m = picture(operator, sigma)
    solver, reason = defaults.solver(m)
    best = defaults.chosen()[kind]
    assert isinstance(solver, sf.solvers.Warm)
    assert type(solver.solver) is recipes.load(best["key"]).Recipe
    assert solver.level == pytest.approx(level) and solver.steps == defaults.CALLS
    assert reason == best["why"] and "best PSNR of" in reason and "docs/solvers.md" in reason
    assert defaults.solver(m, 4, steps=7)[0] == defaults.warm(kind, 7, factor=level / defaults.LEVELS[kind])
    solver.check(operator)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (sf.operators.Fourier(torch.ones(16, 16)), "mri"),
        (sf.operators.SENSE(torch.ones(2, 16, 16, dtype=torch.complex64), torch.ones(16, 16)), "mri"),
        (sf.operators.Radon.parallel((16, 16), 5), "ct"),
    ],
    ids=["Fourier", "SENSE", "Radon"],
)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_k_space_and_projections_get_the_best_of_their_own_table(operator, kind: str, sigma: float) -> None:
    m = picture(operator, sigma, (1, 1, 16, 16))
    solver, reason = defaults.solver(m)
    best = defaults.chosen()[kind]
    assert isinstance(solver, sf.solvers.Warm) and type(solver.solver) is recipes.load(best["key"]).Recipe
    assert solver.level == best["level"] and solver.steps == defaults.CALLS
    assert reason == best["why"] and "docs/medical.md" in reason
    solver.check(operator)


def test_other_data_and_other_operators_are_no_damaged_pictures() -> None:
    signal = picture(Mask(torch.ones(16)), 0.1, (1, 2, 16))
    assert defaults.damage(signal) == ("", 1.0)
    codes = picture(Function(lambda x: x**2, (3, 16, 16)), 0.1)
    assert defaults.damage(codes) == ("", 1.0)


def test_fresh_noise_forgets_that_of_the_start() -> None:
    assert defaults.WAYS["ddnm"] == sf.solvers.DDNM(eta=1.0)
    assert defaults.WAYS["diffpir"] == sf.solvers.DiffPIR(lambda_=1.0, zeta=1.0)
    given = sf.solvers.DDRM()
    assert defaults.warm("deblur", 5, given, factor=2.0) == sf.solvers.Warm(given, 0.6, 5)


def test_denoising_takes_one_call_for_the_mean_and_many_for_samples() -> None:
    m = Measurement(Identity(), torch.zeros(1, 2), 0.1)
    assert defaults.solver(m)[0] == defaults.Direct(1)
    assert defaults.solver(m, 2)[0] == defaults.Direct(defaults.STEPS)
    assert defaults.solver(m, 2, 9)[0] == defaults.Direct(9)


def test_the_sampler_and_its_grid() -> None:
    process = sf.processes.LinearBeta()
    assert defaults.sampler() == Arc()
    assert defaults.times(process, 9) == sf.grids.default(process, 9)


def test_what_does_not_begin_at_noise_is_not_drawn_from() -> None:
    with pytest.raises(ValueError, match="a model on Degrading begins at a measurement"):
        defaults.times(recipes.load("dirac").Recipe().process(), 9)


@pytest.mark.parametrize(
    "process",
    [sf.processes.EDM(), sf.processes.LinearBeta(), sf.processes.Rectified(), sf.processes.Cosine()],
    ids=lambda p: type(p).__name__,
)
def test_direct_enters_where_the_process_is_as_noisy_as_y(process) -> None:
    t = defaults.Direct().entry(process, 0.7)
    assert process.sigma(t) / process.alpha(t) == pytest.approx(0.7)
    world = sf.GaussianWorld(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    m = Measurement(Identity(), torch.tensor([[1.0, -2.0]], dtype=torch.float64), 0.7)
    mean = defaults.Direct()(world.denoiser(process), m, sf.Noise(0))
    assert torch.allclose(mean, m.y / (1 + 0.49))


def test_direct_returns_y_where_there_is_no_noise_to_remove() -> None:
    world = sf.GaussianWorld(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    y = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    for process, sigma in ((sf.processes.EDM(), 0.0), (sf.processes.EDM(), 0.001), (sf.processes.Rectified(), 0.0)):
        for steps in (1, 5):
            solver = defaults.Direct(steps)
            assert torch.equal(solver(world.denoiser(process), Measurement(Identity(), y, sigma), sf.Noise(0)), y)


def test_direct_refuses_more_noise_than_the_process_has() -> None:
    process = sf.processes.EDM(sigma_max=2.0)
    assert defaults.Direct().entry(process, 2.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"sigma = 2\.1 .* noisiest state of the process \(2\)"):
        defaults.Direct().entry(process, 2.1)


def test_direct_is_for_denoising_alone() -> None:
    world = sf.GaussianWorld(torch.zeros(2), torch.eye(2))
    m = Measurement(Mask(torch.ones(2)), torch.zeros(1, 2), 0.1)
    with pytest.raises(TypeError, match="it needs an Identity, got Mask"):
        defaults.Direct()(world.denoiser(sf.processes.EDM()), m, sf.Noise(0))


def test_direct_takes_another_start_and_grid() -> None:
    world = sf.GaussianWorld(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))
    D = world.denoiser(sf.processes.Rectified())
    m = Measurement(Identity(), torch.ones(1, 1, dtype=torch.float64), 1.0)
    x1 = torch.full((1, 1), 3.0, dtype=torch.float64)
    steps = list(defaults.Direct(1).trajectory(D, m, sf.Noise(0), x1=x1, times=(0.5, 0.2, 0.0)))
    assert [step.time for step in steps] == [0.5, 0.2, 0.0]
    assert torch.equal(steps[0].x, x1)
    # E[x_0 | x_t] = alpha x / (alpha^2 + sigma^2) = x at t = 1/2
    assert float(steps[1].x) == pytest.approx(3.0)
    assert math.isfinite(float(steps[2].x))


def test_sensed_blocks_get_more_steps_than_the_paper_s() -> None:
    m = picture(sf.operators.BlockSensing(torch.eye(16), 8), 0.1)
    assert defaults.solver(m)[0] == sf.solvers.DDRM(steps=100)
    assert defaults.solver(m, steps=7)[0] == sf.solvers.DDRM(steps=7)
