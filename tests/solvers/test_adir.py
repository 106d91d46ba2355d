import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.operators import Clip, Mask
from sfumato.processes import LinearBeta
from sfumato.solvers import ADIR, DDNM, DPS, Warm


class Centred(Denoiser):
    """The exact denoiser of N(mu, v I) with a mu that learns: the mean of the data is where its loss is least."""

    def __init__(self, mean, var=0.05):
        super().__init__()
        self.process, self.var, self.mu = LinearBeta(), var, torch.nn.Parameter(mean)

    def forward(self, xt, t, cond=None):
        from sfumato.processes import expand

        a, s = (expand(f(t), xt) for f in (self.process.alpha, self.process.sigma))
        return sf.Estimate(self.mu + self.var * a / (self.var * a**2 + s**2) * (xt - a * self.mu))


SEEN = torch.tensor([1.0, 1.0, 0.0, 0.0])


@pytest.fixture
def photographs():
    """Two clusters; the prior knows the middle of both."""
    far = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]]).double()
    return torch.cat([c + 0.05**0.5 * sf.Noise(i).normal(torch.zeros(30, 4).double()) for i, c in enumerate(far)])


@pytest.fixture
def seen():
    truth = torch.tensor([[1.1, 0.8, 1.0, 1.0], [-0.9, -1.0, -1.0, -1.0]]).double()
    return truth, sf.Measurement.simulate(Mask(SEEN), truth, sigma=0.05, noise=sf.Noise(1))


def test_without_updates_it_is_its_solver(photographs, seen):
    D = Centred(torch.zeros(4).double())
    for inner in (DPS(steps=8), DDNM(steps=5), Warm(DDNM(), level=0.3, steps=4)):  # the last starts where data are
        assert ADIR(inner).warm == inner.warm
        got = ADIR(inner, photographs, updates=0)(D, seen[1], sf.Noise(2))
        torch.testing.assert_close(got, inner(D, seen[1], sf.Noise(2)), atol=1e-12, rtol=0)


def test_neighbours(photographs, seen):
    """The least |y - A x|, in order; with features, the largest cosine; A^+ y alone without images."""
    _, m = seen
    one = m.rows([1])
    solver = ADIR(images=photographs, neighbours=7)
    far = ((photographs - one.y)[:, :2] ** 2).sum(1)
    torch.testing.assert_close(solver.nearest(one, m.y), photographs[far.argsort()[:7]])
    by = ADIR(images=photographs, neighbours=3, embed=lambda x: x[:, :2])
    cosine = (photographs[:, :2] @ one.y[0, :2]) / photographs[:, :2].norm(dim=1)
    torch.testing.assert_close(by.nearest(one, m.y), photographs[cosine.argsort(descending=True)[:3]])
    torch.testing.assert_close(ADIR().nearest(one, m.y), one.y)


def test_adaptation_finds_the_mean_of_the_neighbours(photographs, seen):
    """The exact denoiser's loss is least there; the prior that was given keeps its own."""
    D = Centred(torch.zeros(4).double())
    solver = ADIR(DPS(steps=2), photographs, neighbours=20, updates=300, lr=0.02)
    adapted, _ = solver.init(D, seen[1], torch.zeros(2, 4).double())
    for row in (0, 1):
        near = solver.nearest(seen[1].rows([row]), seen[1].y)
        found = adapted.weights[int(adapted.of[row])]["mu"]
        torch.testing.assert_close(found, near.mean(0), atol=0.12, rtol=0)
    assert torch.equal(D.mu.data, torch.zeros(4).double()) and D.mu.grad is None


def test_adaptation_lowers_the_error_of_what_is_not_seen(photographs, seen):
    truth, m = seen
    D, errors = Centred(torch.zeros(4).double()), []
    for updates in (0, 150):
        solver = ADIR(DDNM(steps=20), photographs, updates=updates, lr=0.02)
        x = solver(D, m.repeat(20), sf.Noise(3))
        errors.append(float((x - truth.repeat(20, 1))[:, 2:].square().mean()))
    assert errors[1] < 0.2 * errors[0]


def test_one_set_of_weights_for_each_y_whatever_the_batch(photographs, seen, alone):
    D, m = Centred(torch.zeros(4).double()), seen[1]
    solver = ADIR(DPS(steps=4), photographs, updates=5, lr=0.02)
    alone(solver, D, m)
    adapted, _ = solver.init(D, m.repeat(3), torch.zeros(6, 4).double())
    assert len(adapted.weights) == 2 and adapted.of.tolist() == [0, 1] * 3
    x, t = torch.zeros(6, 4).double(), torch.linspace(0.1, 0.9, 6).double()
    both = adapted(x, t).mean
    for row in range(6):
        D.mu.data = adapted.weights[row % 2]["mu"].clone()
        torch.testing.assert_close(both[row : row + 1], D(x[:1], float(t[row])).mean, atol=1e-12, rtol=0)


def test_the_seed_and_settings(photographs, seen):
    D, m = Centred(torch.zeros(4).double()), seen[1].rows([0])
    sets = [
        ADIR(images=photographs, updates=3, lr=0.05, seed=k).init(D, m, torch.zeros(1, 4).double())[0].weights[0]["mu"]
        for k in (0, 0, 1)
    ]
    assert torch.equal(sets[0], sets[1]) and not torch.equal(sets[0], sets[2])
    torch.testing.assert_close((sets[0] / 0.05).abs() <= 3.01, torch.ones(4, dtype=torch.bool))
    for solver in (ADIR(), ADIR(images=photographs, embed=torch.abs)):
        with pytest.raises(TypeError, match="ADIR looks at"):
            solver.check(sf.operators.Function(torch.abs, (4,)))
    ADIR(images=photographs).check(Clip())
    with pytest.raises(TypeError, match="DDNM needs a Linear"):
        ADIR(DDNM(), photographs).check(Clip())
    assert (ADIR().neighbours, ADIR().solver) == (20, DPS())
    assert ADIR(DPS(steps=9)).times(D.process) == DPS(steps=9).times(D.process)
