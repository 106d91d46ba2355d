"""Our updates on the inputs of `public/README.md`, against what the public codes made of them."""

import math
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_codec import Coded
from public_codes import Affine

import sfumato as sf
from sfumato import operators as ops
from sfumato.denoisers import Denoiser
from sfumato.operators import Downsample, Mask, Matrix, Measurement
from sfumato.processes import EDM, Geometric
from sfumato.samplers import DDIM, Sampler
from sfumato.solvers import (
    DAPS,
    DDNM,
    DDRM,
    DPS,
    PSLD,
    SNIPS,
    CoPaint,
    DiffPIR,
    PnPDM,
    REDDiff,
    RePaint,
    ReSample,
    ScoreMedical,
)
from sfumato.solvers.conditional import sample_gaussian

SIX = {"atol": 1e-5, "rtol": 1e-5}  # they compute in float32


def theirs(name):
    with np.load(Path(__file__).parent / "public" / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]).double() for key in file}


class Flat(ops.Linear):
    """A matrix on pictures of any shape, as rows of numbers."""

    def __init__(self, A, shape):
        self.inner, self.shape = Matrix(A), shape

    def __call__(self, x):
        return self.inner(x.flatten(1))

    def event(self, y):
        return self.shape


@pytest.mark.parametrize(("run", "settings", "sigma"), [("", (0.85, 1.0), 0.1), ("b_", (0.6, 0.8), 0.3)])
def test_ddrm(given, run, settings, sigma):
    """Every state of a run, by the paper's eq. 8. Their start is divided by sigma_T / alpha_T, which makes its variance
    one of x_T / sigma_T: ours, of x_T, is what eq. 7 says."""
    data = theirs("ddrm")
    z, states = data["z"].flatten(1), data[f"{run}states"].flatten(2)
    m = Measurement(Matrix(data["H"]), data["y"], sigma)
    solver, D = DDRM(4, *settings), Affine()
    noise = given(z)
    times = solver.times(D.process)
    assert times == (0.751, 0.501, 0.251, 0.001, 0.0)
    start = solver.start(D, m, times[0], given(data["x"].flatten(1)))
    torch.testing.assert_close(start, states[0] * D.process.sigma(times[0]), **SIX)
    ours = [step.x for step in solver.trajectory(D, m, noise, x1=states[0])]
    torch.testing.assert_close(torch.stack(ours), states, atol=3e-5, rtol=3e-5)


def test_ddnm(given):
    """The last state of a run without noise, eq. 13."""
    data = theirs("ddnm")
    m = Measurement(Downsample(2), data["y"], 0.0)
    *_, last = DDNM(4).trajectory(Affine(), m, given(data["z"]), x1=data["x"])
    torch.testing.assert_close(last.x, data["out"], atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize(("run", "sigma"), [("plus", 0.1), ("plus_loud", 0.6)])
def test_ddnm_plus(given, run, sigma):
    """The last state of a run with noise, appendix I, of inpainting. Their classes of super-resolution and
    colorization leave V^T out where eps is weighed (`Lambda_noise`): eq. 51 has it, and so have we."""
    data = theirs("ddnm")
    m = Measurement(Mask(data["plus_mask"]), data["plus_y"], sigma)
    *_, last = DDNM(4).trajectory(Affine(), m, given(data["z"][:, :1]), x1=data["x"][:, :1])
    torch.testing.assert_close(last.x, data[run], atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize(("run", "index"), [("out", 399), ("late", 20)])
def test_dps(given, run, index):
    """One step, the gradient of the norm through a network that is not linear."""
    data = theirs("dps")
    m = Measurement(Mask(data["mask"]), data["ref"] * data["mask"], 0.05)
    t, s = (index + 1) / 1000, index / 1000
    got, _ = DPS(zeta=0.3).step(Affine(torch.sin), m, data["x"], t, s, None, given(data["z"]))
    torch.testing.assert_close(got, data[run], **SIX)


@pytest.mark.parametrize(("run", "rate"), [("out", 0.02), ("steep", 4.0)])
def test_copaint(given, run, rate):
    """One step: two moves with their line search, then DDIM. Their rate is lr alpha_t over alpha of the first level,
    5e-5 above ours, which counts from clean data."""
    data = theirs("copaint")
    m = Measurement(Mask(data["mask"]), data["gt"] * data["mask"], 0.0)
    solver = CoPaint(lr=rate / Affine.process.alpha(0.001), c=0.5)
    got, _ = solver.step(Affine(torch.sin), m, data["x"], 0.4, 0.35, {}, given(torch.zeros_like(data["x"])))
    torch.testing.assert_close(got, data[run], atol=1e-9, rtol=0)


@pytest.mark.parametrize("factor", [1, 2])
def test_diffpir(given, factor):
    """One step. Their pictures and sigma are in [0, 1] where rho's level is of [-1, 1]: lambda 7 there is 7 / 4 here,
    where both are of one range, as in the paper's eq. 12."""
    data = theirs("diffpir")
    A = ops.DecimatedBlur(data["k"], (8, 8), factor)
    m = Measurement(A, data[f"y_{factor}"], 0.05).to_model(sf.codecs.Affine.unit())
    assert m.sigma == pytest.approx(0.1)
    solver = DiffPIR(lambda_=7.0 / 4.0, zeta=0.3)
    got, _ = solver.step(Affine(), m, data["x"], 0.4, 0.35, None, given(data["z"]))
    torch.testing.assert_close(got, data[f"{factor}"], **SIX)


def test_snips(given):
    """The state after each of four levels of three moves, directions above and below their own noise, one unseen."""
    data = theirs("snips")
    levels = data["levels"].tolist()
    process = Geometric(min(levels), max(levels))
    D = sf.GaussianWorld(torch.full((4,), 0.2).double(), 0.5 * torch.eye(4).double()).denoiser(process)
    m = Measurement(Matrix(data["H"]), data["y"].flatten(1), 0.1)
    solver = SNIPS(steps=4, moves=3, size=0.033, high=levels[0], low=levels[-1])
    times = [process.time_of(-2.0 * math.log(level)) for level in levels]
    ours = list(solver.trajectory(D, m, given(data["z"].flatten(1)), x1=data["x"].flatten(1), times=(*times, 0.0)))
    torch.testing.assert_close(
        torch.stack([step.x for step in ours[1:]]), data["states"].flatten(2), atol=3e-5, rtol=3e-5
    )


def test_daps(given):
    """20 Langevin moves. Their gradient is of |y - A x|^2 / tau^2, without the half of a log density: what they call
    tau is sqrt(2) times the deviation that y is given, which ours is called."""
    data = theirs("daps")
    A = ops.Function(lambda x: x**2 * data["mask"], (4,))
    m = Measurement(A, data["y"], 0.05)
    D = sf.GaussianWorld(torch.zeros(4).double(), torch.eye(4).double()).denoiser(EDM())
    solver = DAPS(moves=20, size=1e-3, tau=0.1 / math.sqrt(2.0))
    t = D.process.time_of(-2.0 * math.log(0.5))
    got = solver.draw(D, m, data["x"], t, 0.25, given(data["z"]))
    torch.testing.assert_close(got, data["out"], atol=1e-9, rtol=0)


def test_pnp_dm(basis):
    """The likelihood draw has the mean and the covariance of theirs; we perturb and solve where they use the SVD."""
    data = theirs("pnpdm")
    m = Measurement(Downsample(2), data["y"], 0.3)

    class Silent(sf.Noise):
        def normal(self, like):
            return torch.zeros_like(like)

    torch.testing.assert_close(sample_gaussian(m, data["x"], 0.7, Silent(0)), data["mean"], **SIX)
    rows = Measurement(Downsample(2), torch.zeros(20, 1, 2, 2).double(), 0.3)
    L = sample_gaussian(rows, torch.zeros(20, 1, 4, 4).double(), 0.7, basis(0)).flatten(1)
    torch.testing.assert_close(L.T @ L, data["cov"], **SIX)


def test_psld():
    """One step from three states of a run: both norms and their weights, the encoder, DDIM."""
    data, D = theirs("psld"), Affine(torch.sin)
    m = Measurement(Matrix(data["A"]), data["y"], 0.0).to_model(Coded(data["W"]))
    for x, (t, s), want in zip(data["x"], data["times"].tolist(), data["out"], strict=True):
        got, _ = PSLD().step(D, m, x[None], t, s, None, sf.Noise(0))
        torch.testing.assert_close(got[0], want, atol=1e-10, rtol=1e-10)


def test_resample(given):
    """Every state of a run of 500 steps: the pull, when a fit is made and of what, AdamW, the law it is noised by; the
    public loop has a level of its own at the end, below which its last fit is made."""
    data, D = theirs("resample"), Affine(torch.sin)
    m = Measurement(Matrix(data["A"]), data["y"], 0.0).to_model(Coded(data["W"]))
    solver = ReSample(pixel_moves=20, latent_moves=30)
    times = (*solver.times(D.process)[:-1], 0.001)
    ours = [step.x for step in solver.trajectory(D, m, given(data["z"]), x1=data["x1"], times=times)]
    ours[-1] = solver.in_latents(m, ours[-1])
    torch.testing.assert_close(torch.cat(ours), data["states"], atol=1e-9, rtol=1e-9)


class Turns(sf.Noise):
    """Draws given one after another."""

    def __init__(self, *draws):
        self.left = list(draws)

    def normal(self, like):
        return self.left.pop(0)


class Noisy(Denoiser):
    """D of the noise predictor 0.3 sin(x / sqrt(1 + sigma^2)) + 0.1 on x_t = x_0 + sigma eps."""

    process = EDM(sigma_min=1e-12)  # theirs ends at 0

    def forward(self, xt, t, cond=None):
        sigma = self.process.sigma(t)
        return sf.Estimate(xt - sigma * (0.3 * torch.sin(xt / math.sqrt(1.0 + sigma**2)) + 0.1))


class TheirSDE(Sampler):
    """Euler and Maruyama in sigma of PnP-DM's code, which leaves out the noise of the last step alone."""

    def step(self, denoiser, xt, t, s, memory, noise):
        a, b = denoiser.process.sigma(t), denoiser.process.sigma(s) if s > 0 else 0.0
        xs = xt + 2.0 * (b - a) / a * (xt - denoiser(xt, t).mean)
        return (xs + math.sqrt(2.0 * a * (a - b)) * noise.normal(xt) if s > 0 else xs), memory


@pytest.mark.parametrize("task", ["sr", "mask"])
def test_red_diff(given, task):
    """Every state of four steps of Adam, and the last with another rate and weight. Their mean over y counts the
    places that a mask leaves empty, and so does ours."""
    data = theirs("reddiff")
    A = Downsample(2) if task == "sr" else Mask(data["mask_at"][0])
    y = data[f"{task}_y"].reshape(1, 3, *([2, 2] if task == "sr" else [4, 4]))
    m, D, noise = Measurement(A, y, 0.0), Affine(torch.sin), given(data["z"])
    times = (0.751, 0.501, 0.251, 0.001, 0.0)
    _, *states = (step.x for step in REDDiff().trajectory(D, m, noise, times=times))
    torch.testing.assert_close(torch.stack(states), data[task], **SIX)
    *_, last = REDDiff(lr=0.5, lambda_=2.0).trajectory(D, m, noise, times=times)
    torch.testing.assert_close(last.x, data[f"{task}_b"], **SIX)


class Sine(Denoiser):
    """D = 0.5 sin(x) / (1 + sigma^2) + 0.1 on their five levels."""

    process = Geometric(0.05, 4.0)

    def forward(self, xt, t, cond=None):
        return sf.Estimate(0.5 * torch.sin(xt) / (1.0 + self.process.sigma(t) ** 2) + 0.1)


@pytest.mark.parametrize(
    ("run", "solver"),
    [("whole", ScoreMedical(4, 1.0, 0.517, 1)), ("partly", ScoreMedical(4, 0.841, 0.246, 2))],
    ids=["whole", "partly"],
)
def test_score_medical(given, run, solver):
    """Mix, corrector, mix, predictor from level to level; and the ancestral predictor of the same code alone."""
    data = theirs("score_medical")
    z, image = (data[key].movedim(-1, 1) for key in ("z", "img"))
    m = Measurement.simulate(ops.Fourier(data["mask"]), image, sigma=0.0, noise=sf.Noise(0))
    memory, x = solver.init(Sine(), m, z), 4.0 * z
    for i, state in enumerate(data[run][:3].movedim(-1, 2)):
        x, _ = solver.step(Sine(), m, x, 1 - i / 4, 1 - (i + 1) / 4, memory, given(z))
        torch.testing.assert_close(x, state, atol=1e-12, rtol=0)
    alone = ScoreMedical(4, trust=0.0, moves=0, predictor="ancestral")
    x, _ = alone.step(Sine(), m, 4.0 * z, 0.75, 0.5, memory, given(z))
    torch.testing.assert_close(x, data["ancestral"].movedim(-1, 1), atol=1e-12, rtol=0)


def test_repaint_schedule(ddpm):
    """The paper's 4570 moves between indices -1 to 249, where they climb index by index and we at once."""
    times = RePaint().times(ddpm)
    index = {t: i - 1 for i, t in enumerate(sorted(set(times)))}
    ours = [[index[s]] if s < t else range(index[t] + 1, index[s] + 1) for t, s in pairwise(times)]
    assert [index[times[0]], *chain(*ours)] == theirs("repaint")["schedule"].int().tolist()


def test_repaint():
    """Every state of a whole run of six levels with jumps of two and three passes, where nothing was seen. They draw
    what was seen anew before each call of the network; we after each step, and diffuse it with the rest on the way up:
    the same law, for which the draws of a climb are set here. At the end theirs is the network's, ours y."""
    data = theirs("repaint")
    z, seen, D = data["z"], data["mask"].bool(), Affine(torch.sin)
    m, process = Measurement(Mask(data["mask"][0]), data["gt"] * data["mask"], 0.0), D.process
    solver = RePaint(6, jump=2, repeats=3)
    times, draws = solver.times(process), []
    levels = sorted(set(times))
    for t, s in pairwise(times):
        if s < t:
            draws += [z, z] if s > 0 else [z]
            continue
        law, free = process.forward(torch.ones(()).double(), t, s), 0.0
        for low, high in pairwise(levels[levels.index(t) : levels.index(s) + 1]):
            one = process.forward(torch.ones(()).double(), low, high)
            free = one.mean * free + one.std
        kept = process.sigma(s) - law.mean * process.sigma(t)
        draws.append(torch.where(seen, kept, free) / law.std * z)
    states = list(solver.trajectory(D, m, Turns(*draws), x1=data["x"]))
    down = [step.x for (t, s), step in zip(pairwise(times), states[1:], strict=True) if s < t]
    assert len(down) == len(data["states"]) == 14
    for ours, other in zip(down, data["states"], strict=True):
        torch.testing.assert_close(ours[~seen], other[~seen], atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize(("run", "sampler"), [("edm", DDIM()), ("edm_sde", TheirSDE())])
def test_pnp_dm_whole(run, sampler):
    """Three rounds of both draws at one rho, those of the likelihood without their noise (`test_pnp_dm` has it). Their
    prior draw starts at the first level of one fixed grid below rho, which the run was given the grid to make equal;
    ours has a grid from each rho."""
    data = theirs("pnpdm_whole")
    m, quiet = Measurement(Downsample(2), data["y"], 0.3), torch.zeros_like(data["z"])
    draws = ([quiet, quiet[..., :2, :2]] + (5 * [data["z"]] if run == "edm_sde" else [])) * 3
    solver = PnPDM(steps=3, rho=0.7, first=0.7, decay=1.0, prior_steps=6, sampler=sampler)
    _, *states = (step.x for step in solver.trajectory(Noisy(), m, Turns(*draws), x1=data["x"]))
    torch.testing.assert_close(torch.stack(states), data[run], atol=3e-5, rtol=3e-5)
