"""Our updates of the blind methods, the face restorers and the purifier, against what their public codes made of the
inputs of `public/README.md`, in float64 on both sides."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from public_codes import Affine, kept

import sfumato as sf
from sfumato.denoisers import Clipped, Denoiser
from sfumato.likelihood import continuous_elbo
from sfumato.operators import Blur, Convolution, Identity, Measurement
from sfumato.processes import LinearBeta, Table, expand
from sfumato.solvers import ADP, DR2, BlindDPS, DifFace, GibbsDDRM

CLOSE = {"atol": 1e-9, "rtol": 1e-9}
TABLE = Table.linear()


def theirs(name):
    return kept(Path(__file__).parent / "public" / f"{name}.npz")


class Fields(sf.Noise):
    """One field for each shape that is drawn."""

    def __init__(self, *fields):
        self.of = {field.shape: field for field in fields}

    def normal(self, like):
        return self.of[like.shape]


@pytest.mark.parametrize(("run", "first", "sparsity"), [("", 0, 0.1), ("free_", 2, 1.0)])
def test_blind_dps(run, first, sparsity):
    """Every state of both chains, a kernel of an even number of taps: six steps with estimates held to [-1, 1], and
    the last four without, where taps are negative and the l1 term pulls. Their kernel is laid on the picture without
    being turned around: it is ours seen from behind."""
    data = theirs("blind_dps")
    behind = lambda k: k.flip(-2, -1)  # noqa: E731
    D = Affine(torch.sin) if run else Clipped(Affine(torch.sin))
    m = Measurement(Convolution(torch.ones(4, 4).double() / 16, "zero"), data["y"], 0.02)
    solver, noise = BlindDPS(6, zeta=1.0, ramp=True, sparsity=sparsity, prior=D), Fields(data["z"], behind(data["zk"]))
    assert (BlindDPS.public().zeta, BlindDPS.public().ramp) == (1.0, True)
    x, memory = data["x"], solver.init(D, m, data["x"])._replace(state=behind(data["k"]))
    times = solver.times(TABLE)
    assert times == (1.0, 0.8, 0.6, 0.401, 0.201, 0.001, 0.0)
    for i, (t, s) in enumerate(pairwise(times[first:])):
        x, memory = solver.step(D, m, x, t, s, memory, noise)
        torch.testing.assert_close(x[0], data[f"{run}states"][i], **CLOSE)
        torch.testing.assert_close(behind(memory.state)[0], data[f"{run}kernels"][i], **CLOSE)


@pytest.mark.parametrize(
    ("run", "settings", "lr"),
    [
        ("", {"steps": 10, "moves": 5}, 2e-8),
        ("other_", {"steps": 5, "moves": 3, "sparsity": 10.0, "eta_b": 0.5, "eta_c": 0.3, "eta_d": 0.6}, 2e-7),
    ],
    ids=["defaults", "others"],
)
def test_gibbs_ddrm(run, settings, lr):
    """The start, every state and every kernel of two rows, one with a direction that its kernel does not see. Their
    first tap, ours the middle one, is at the origin; their start is divided by sigma_T / alpha_T, as DDRM's; index
    700 of 1000, in which they begin to move the kernel, is 0.701 on our clock. Their phases have 1e-10 of noise."""
    data = theirs("gibbs_ddrm")
    x, first = data["x"], data["first"][:, None]
    m = Measurement(Blur(first, (4, 4)), data["y"].roll((-1, -1), (2, 3)), 0.04)
    rate = lr * x[0].numel() / (3 * 256 * 256) * 9 / (64 * 64)
    solver, D = GibbsDDRM(rate=rate, begin=0.701, **settings), Affine(torch.sin)
    noise = Fields(data["z"], data["zk"][:, None])
    times, states, kernels = solver.times(TABLE), data[f"{run}states"], data[f"{run}kernels"]
    start = solver.start(D, m, times[0], Fields(x))
    torch.testing.assert_close(start, states[0] * TABLE.sigma(times[0]), atol=1e-8, rtol=0)
    _, *steps = solver.trajectory(D, m, noise, x1=states[0])
    assert len(steps) == len(kernels)
    torch.testing.assert_close(torch.stack([step.x for step in steps]), states[1:], atol=1e-8, rtol=0)
    torch.testing.assert_close(torch.stack([step.memory[:, 0] for step in steps]), kernels, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("run", "solver"),
    [
        ("one", DR2(factor=1, omega=27, tau=22)),
        ("four", DR2()),
        ("two", DR2(factor=2, omega=3, tau=0)),
    ],
    ids=["one", "four", "two"],
)
def test_dr2(run, solver):
    """The result of whole runs with their resizing as one matrix along each axis: what is replaced, at which level,
    which call's estimate comes out, and the levels themselves. Their resizing mirrors at borders, ours is cut there:
    they agree further inside. The run of factor 1 holds each estimate to [-1, 1], as theirs do by default."""
    data = theirs("dr2")
    D, m, noise = Affine(torch.sin), Measurement(Identity(), data["y"], 0.0), Fields(data["z"])
    D = Clipped(D) if solver.factor == 1 else D
    times = solver.times(TABLE)
    levels = data["indices"][solver.tau : solver.omega + 1].flip(0).tolist()
    assert list(times) == [*((i + 1) / 1000 for i in levels), 0.0]
    x = solver.start(D, m, times[0], noise)
    memory = solver.init(D, m, x)
    if solver.factor > 1:
        P, edge = data[f"phi_{run}"], 3 * solver.factor // 2
        phi = lambda x: P @ x @ P.T  # noqa: E731
        inside = (..., *[slice(edge, -edge)] * 2)
        torch.testing.assert_close(memory[0](data["z"])[inside], phi(data["z"])[inside], **CLOSE)
        memory = phi, phi(m.y)
    for t, s in pairwise(times):
        x, _ = solver.step(D, m, x, t, s, memory, noise)
    torch.testing.assert_close(x, data[run], **CLOSE)


@pytest.mark.parametrize(
    ("run", "solver", "count"),
    [("faces", DifFace(), 100), ("holes", DifFace.inpainting(), 120)],
    ids=["faces", "holes"],
)
def test_difface(run, solver, count, given):
    """The start from an estimate out of range, and every tenth state of the two public settings. Their start is noised
    to one level of their 250 above the one that their first step takes it for; their levels lie 0.003 below ours."""
    data = theirs("difface")
    D, m, noise = Affine(torch.sin), Measurement(Identity(), data["f"], 0.0), given(data["z"])
    *levels, start = [(i + 1) / 1000 for i in data["indices"][: count + 1].tolist()]
    torch.testing.assert_close(solver.start(D, m, start, noise), data[f"{run}_start"], **CLOSE)
    ours = solver.times(TABLE)
    assert len(ours) == count + 1 and ours[-1] == 0.0
    assert list(ours[:-1]) == pytest.approx([t + 0.003 for t in levels[::-1]], abs=1e-12)
    run_of = solver.trajectory(D, m, noise, x1=data[f"{run}_start"], times=(*levels[::-1], 0.0))
    states = [step.x for step in run_of][10::10]
    torch.testing.assert_close(torch.stack(states), data[run], **CLOSE)


class Smooth(Denoiser):
    """D of the noise predictor 0.3 sin x + 0.1 under betas from 0.1 to 20."""

    process = LinearBeta()

    def forward(self, xt, t, cond=None):
        eps = 0.3 * torch.sin(xt) + 0.1
        return sf.Estimate((xt - expand(self.process.sigma(t), xt) * eps) / expand(self.process.alpha(t), xt))


class Middle(sf.Noise):
    """One field of signs, and the middle of each of the strata of time."""

    def __init__(self, z):
        self.z = z

    def normal(self, like):
        return self.z

    def uniform(self, like):
        return torch.full_like(like, 0.5)


def test_score_prior():
    """The bound on log p(x) from t = 1e-3 on, at a hundred times even in log SNR: where what lies below is read from D.
    (`ScorePrior` reads it from x_t / alpha.) Means over signs and their opposites are those over normal draws but for
    the network, which both sides ask at the same places. Theirs takes B for 1 - exp(-B) at the first level, B = 1.1e-4,
    which is 5e-5 of log SNR, at half of |eps - eps_hat|^2 - 8 each."""
    data = theirs("score_prior")
    bounds = [
        continuous_elbo(Smooth(), data["x"], Middle(sign * data["z"]), end=1e-3, points=100).total for sign in (1, -1)
    ]
    torch.testing.assert_close(-torch.stack(bounds).mean(0), data["bound_0.001"], atol=3e-5, rtol=0)


class Scored(Denoiser):
    """The denoiser whose sigma times score, at a picture u of the unit interval, is gain (tanh(4 (0.45 - u)) + 0.3 of
    the difference to the next column); its picture is 2 u - 1."""

    process = TABLE

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, xt, t, cond=None):
        alpha, u = self.process.alpha(t), (xt / self.process.alpha(t) + 1) / 2
        score = self.gain * (torch.tanh(4 * (0.45 - u)) + 0.3 * (u.roll(1, -1) - u))
        return sf.Estimate((xt + self.process.sigma(t) * score) / alpha)


@pytest.mark.parametrize("stop", [1e-3, 0.012], ids=["usual", "early"])
def test_adp(stop, given):
    """Every state of ten steps: a row of wide steps, one that the higher threshold stops midway, one along which the
    density is not concave and which stands still. Their stretching of u by 256 / 255 at each step is left out."""
    data = theirs("adp")
    D = Scored(data["gain"])
    m = Measurement(Identity(), 2 * data["u"] - 1, 0.0)
    states = [step.x for step in ADP(stop=stop).trajectory(D, m, given(data["z"]))]
    torch.testing.assert_close((torch.stack(states) + 1) / 2, data["states" if stop == 1e-3 else "early"], **CLOSE)
