"""ADP on a Gaussian, where its adaptive step is a known share of a Newton step; and against FGSM on two classes."""

from __future__ import annotations

import pytest
import torch
from worlds_for_tests import GaussianWorld, MixtureWorld, close, normal, tensor

from sfumato import Measurement
from sfumato.denoisers import Counted, Denoiser
from sfumato.estimate import Estimate
from sfumato.metrics import classifier_gradient, linf_attack
from sfumato.noise import Noise, Seeds
from sfumato.operators import Identity, Mask
from sfumato.processes import EDM, LinearBeta
from sfumato.solvers import ADP

WIDE = {"low": -50.0, "high": 50.0}  # a box that clips nothing: one unit of the interval is 100


def picture(y: torch.Tensor) -> Measurement:
    return Measurement(Identity(), y, sigma=0.0)


@pytest.mark.parametrize("process", [EDM(), LinearBeta()])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0)])
def test_one_step_on_a_normal_contracts_by_the_rate(process, low: float, high: float) -> None:
    """S = -L (x - m) / (v + L^2), L = level (high - low): r = 1 - delta level / V: a g = -rate (x - m), for any V."""
    m, v = 0.5 * (low + high), 0.002
    world = GaussianWorld(torch.full((3,), m, dtype=torch.float64), v * torch.eye(3, dtype=torch.float64))
    adp = ADP(steps=4, noise=0.0, rate=0.3, level=0.05, low=low, high=high, most=1e9, stop=0.0)
    y = m + 0.1 * normal(5, 3).tanh()
    steps = list(adp.trajectory(world.denoiser(process), picture(y), Noise(0)))
    for i, step in enumerate(steps):
        close(step.x, m + 0.7**i * (y - m), 1e-6)
    assert len(steps) == 5


def test_the_step_is_the_share_of_a_newton_step_and_is_clamped() -> None:
    """a = rate V / level in unit lengths; above `most` and below `stop` the clamps act, per picture."""
    process, v, level = EDM(), 0.01, 0.1
    V = v + (2 * level) ** 2
    world = GaussianWorld(torch.zeros(1).double(), v * torch.eye(1).double())
    x = tensor(0.2, -0.1).reshape(2, 1)
    g = -2 * level * x / V  # sigma times the score
    size = 0.05 * (V / 4) / level
    for most, want in ((1.0, size), (0.4 * size, 0.4 * size)):
        adp = ADP(1, noise=0.0, level=level, most=most)
        got = adp(world.denoiser(process), picture(x), Noise(0))
        close(got, x + 2 * want * g, 1e-6)
    still = ADP(3, noise=0.0, level=level, stop=1.001 * size)
    close(still(world.denoiser(process), picture(x), Noise(0)), x)
    close(
        ADP(1, noise=0.0, level=level, rate=1e-9, stop=0.0)(world.denoiser(process), picture(x), Noise(0)),
        x + 2e-5 * g,
        1e-9,
    )


class Blows(Denoiser):
    """A score whose r is given for each picture: S(x) = x + k (x - y), seen from y."""

    def __init__(self, y: torch.Tensor, slope: torch.Tensor) -> None:
        super().__init__()
        self.process, self.y, self.slope = EDM(), y, slope

    def forward(self, xt, t, cond=None):
        sigma = self.process.sigma(t)
        return Estimate(xt + sigma * (1.0 + self.slope * (xt - self.y)))


def test_pictures_stop_by_themselves_and_for_good() -> None:
    """Where r > 1 the step is negative, so the least, and the picture is left alone; another goes on."""
    y, slope = torch.zeros(3, 1).double(), tensor(50.0, -10.0, 0.0).reshape(3, 1)
    adp = ADP(2, noise=0.0, level=0.25)
    steps = list(adp.trajectory(Blows(y, slope), picture(y), Noise(0)))
    # g = 1, S(y + 2 delta) = 1 + slope 2 delta, r - 1 = slope 2 delta: a = rate / (2 |slope|) where that is falling.
    close(steps[1].x, tensor(0.0, 2 * 0.05 / 20, 2 * 0.1).reshape(3, 1), 1e-6)
    assert steps[1].memory.tolist() == [False, True, True]
    close(steps[2].x[0], 0.0)
    held = adp.step(Blows(y, 0 * slope), picture(y), y, 0.5, 0.5, steps[1].memory, Noise(0))[0]
    close(held, tensor(0.0, 0.2, 0.2).reshape(3, 1), 1e-6)


def test_zero_score_stands_still() -> None:
    class Still(Denoiser):
        process = EDM()

        def forward(self, xt, t, cond=None):
            return Estimate(xt)

    y = 0.3 * normal(2, 2).tanh()
    close(ADP(2, noise=0.0)(Still(), picture(y), Noise(0)), y)


def test_noise_is_added_in_the_unit_of_the_interval_and_clipped() -> None:
    y = torch.full((1, 40_000), 10.0, dtype=torch.float64)
    start = ADP(noise=0.1, **WIDE).start(Blows(y, y), picture(y), 0.5, Noise(0))
    assert abs(float(start.std()) / 10.0 - 1) < 0.02 and abs(float(start.mean()) - 10.0) < 0.2
    edge = ADP(noise=0.25).start(Blows(y, y), picture(y / 10), 0.5, Noise(0))
    assert float(edge.max()) == 1.0 and float((edge == 1.0).double().mean()) > 0.45
    moved = ADP(1, noise=0.0, level=0.25).step(Blows(y, 0 * y), None, y / 10, 0.5, 0.5, torch.tensor([True]), Noise(0))[
        0
    ]
    assert float(moved.max()) == 1.0  # clipped after the move too


def test_defaults_are_the_papers() -> None:
    adp = ADP()
    assert (adp.steps, adp.noise, adp.rate, adp.delta, adp.least, adp.most, adp.stop) == (
        10, 0.25, 0.05, 1e-3, 1e-5, 0.1, 1e-3,
    )  # fmt: skip
    process = EDM()
    times = adp.times(process)
    assert len(times) == 11 and len(set(times)) == 1
    assert process.sigma(times[0]) == pytest.approx(0.5, rel=1e-9)  # 0.25 of an interval of length 2


def test_calls_and_invariance() -> None:
    world = MixtureWorld(tensor(0.5, 0.5), tensor(-0.5, 0.5).reshape(2, 1), 0.01 * torch.ones(2, 1, 1).double())
    counted = Counted(world.denoiser(EDM()))
    y = tensor(0.3, -0.4).reshape(2, 1)
    both = ADP(3)(counted, picture(y), Seeds([4, 5]))
    assert counted.calls == 6
    close(both[1:], ADP(3)(counted, picture(y[1:]), Seeds([5])))


def test_two_classes_under_fgsm() -> None:
    """Two narrow classes, a classifier that looks where there are no data: purified, it is right again."""
    torch.manual_seed(0)
    means = tensor(-0.5, 0.0, 0.5, 0.0).reshape(2, 2)
    covs = torch.diag(tensor(0.01, 1e-4)).expand(2, 2, 2).contiguous()
    world = MixtureWorld(tensor(0.5, 0.5), means, covs)
    denoiser = world.denoiser(EDM())
    x = world.sample(400, Noise(0)).clamp(-1, 1)
    labels = (x[:, 0] > 0).long()

    def classifier(x):
        score = x[:, 0] + 4.0 * x[:, 1]
        return torch.stack([-score, score], 1)

    attacked = linf_attack(classifier_gradient(classifier), x, labels, 0.2, steps=1, size=0.2, low=-1.0, high=1.0)
    adp = ADP(steps=8, noise=0.03, rate=0.3, level=0.05)

    def accuracy(y, purified):
        probs = adp.classified(classifier, denoiser, y, 3, Noise(1)) if purified else classifier(y)
        return float((probs.argmax(1) == labels).double().mean())

    assert accuracy(x, False) > 0.99 and accuracy(x, True) > 0.99
    assert accuracy(attacked, False) < 0.2 and accuracy(attacked, True) > 0.9


def test_classified_is_the_mean_of_probabilities() -> None:
    world = GaussianWorld(torch.zeros(2).double(), torch.eye(2).double())
    denoiser, y = world.denoiser(EDM()), 0.3 * normal(3, 2).tanh()
    adp, noise = ADP(1, noise=0.2), Noise(7)
    want = sum(torch.softmax(5 * adp(denoiser, picture(y), noise), 1) for _ in range(3)) / 3
    close(adp.classified(lambda x: 5 * x, denoiser, y, 3, Noise(7)), want)
    close(want.sum(1), torch.ones(3))


def test_errors() -> None:
    y = normal(1, 1, 4, 4)
    with pytest.raises(TypeError, match="ADP purifies a picture: it needs an Identity, got Mask"):
        ADP()(Blows(y, y), Measurement(Mask(torch.ones(1, 4, 4).double()), y, 0.0), Noise(0))
