"""CDiffuSE: the coefficients of the public code, and a drift that composes."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.denoisers import predict_eps
from sfumato.noise import Noise
from sfumato.recipes.cdiffuse import Combined, Drifting, Recipe
from sfumato.recipes.sounding import step_of

PUBLIC = json.loads((Path(__file__).parents[1] / "data" / "public_cdiffuse.json").read_text())
SMALL = {"hertz": 8000, "hop": 16, "n_fft": 64, "width": 4, "blocks": 3, "cycle": 2}
ONE, ZERO = torch.ones(1, 1, 1).double(), torch.zeros(1, 1, 1).double()


class Says(nn.Module):
    """e, whatever it is asked."""

    def __init__(self, e: Tensor) -> None:
        super().__init__()
        self.e = e

    def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        return self.e


class Silence(Noise):
    """Noise that is kept at zero, or at one."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def normal(self, like: Tensor) -> Tensor:
        return torch.full_like(like, self.value)


def stepped(recipe: Recipe, x: Tensor, y: Tensor, e: Tensor, t: float, s: float, first: bool, z: float = 0.0) -> float:
    D = Combined(Says(e), recipe.process(), predict_eps, clock=lambda t: t)
    return float(recipe.sampler().step(D.given({"noisy": y}), x, t, s, None if first else True, Silence(z))[0])


@pytest.mark.parametrize("steps", [50, 6])
def test_steps_are_those_of_the_public_code(steps: int) -> None:
    """x' = c1 x + c2 y - c3 e + sqrt(var) z, github.com/neillu23/CDiffuSE inference.py; the last one 0.8 D + 0.2 y."""
    recipe, known = Recipe(still=True), PUBLIC[str(steps)]
    times = recipe.times(steps)
    for i, (t, s) in enumerate(pairwise(times)):
        n, first = steps - 1 - i, i == 0
        assert step_of(recipe.table(), t) == pytest.approx(known["T"][n], abs=1e-4)
        c1, c2, c3, var = (known[k][n] for k in ("c1", "c2", "c3", "var"))
        keep, own = (0.2, 0.8) if n == 0 else (0.0, 1.0)
        want = {"y": own * c2 + keep + (own * c1 if first else 0.0), "e": -own * c3, "x": own * c1}
        got = {
            "y": stepped(recipe, ZERO, ONE, ZERO, t, s, first),
            "e": stepped(recipe, ZERO, ZERO, ONE, t, s, first),
            "x": stepped(recipe, ONE, ZERO, ZERO, t, s, first),
        }
        assert got["y"] == pytest.approx(want["y"], abs=1e-6) and got["e"] == pytest.approx(want["e"], abs=1e-6)
        assert got["x"] == pytest.approx(0.0 if first else want["x"], abs=1e-6)  # the start is y, whatever x is
        if n > 0:
            assert stepped(recipe, ZERO, ZERO, ZERO, t, s, first, 1.0) ** 2 == pytest.approx(var, abs=1e-7)


def test_the_start_of_the_paper() -> None:
    """alpha y + sqrt(1 - 2 alpha^2) eps, at the first level of the list: variance 0.177 and 0.023."""
    recipe = Recipe()
    for steps, want in ((50, 0.177), (6, 0.023)):
        t = recipe.times(steps)[0]
        law = recipe.process().bind({"noisy": ONE}).start(t, ZERO)
        assert law.std**2 == pytest.approx(want, abs=5e-4) and float(law.mean) == pytest.approx(recipe.table().alpha(t))
    prior = recipe.process().bind({"noisy": ONE}).prior(ZERO)
    assert prior.std**2 == pytest.approx(0.177, abs=5e-4)
    s = recipe.times(6)[1]
    a, n = recipe.table().alpha(t), recipe.table().sigma(t)
    bound = recipe.process().bind({"noisy": ONE})
    D = (a + math.sqrt(1 - 2 * a * a)) / a  # of the start with eps = 1, e = 0
    want = bound.alpha(s) * D + float(bound.shift(s, ZERO)) + bound.sigma(s)
    assert stepped(recipe, ZERO, ONE, ZERO, t, s, True, 1.0) == pytest.approx(want) and n > 0.0


def test_shares_and_variance_of_the_drift() -> None:
    process = Recipe().process()
    assert process.share(1.0) == pytest.approx(0.958, abs=5e-4)
    assert process.share(Recipe().times(6)[0]) == pytest.approx(0.855, abs=5e-4)
    for t in (0.02, 0.5, 1.0):
        a, m = process.inner.alpha(t), process.share(t)
        assert process.alpha(t) == pytest.approx(a * (1 - m))
        assert process.sigma(t) ** 2 == pytest.approx(1 - (1 + m * m) * a * a, rel=1e-6)
        assert float(process.bind({"noisy": 2 * ONE}).shift(t, ZERO)) == pytest.approx(2 * a * m)
        both = torch.tensor([t], dtype=torch.float64)
        for f in (process.share, process.alpha, process.sigma):
            assert float(f(both)) == pytest.approx(f(t), rel=1e-9)
        assert process.log_snr(t) == pytest.approx(2 * math.log(process.alpha(t) / process.sigma(t)))
        assert process.time_of(process.log_snr(t)) == pytest.approx(t, abs=1e-6)
    assert process.share(0.0) == 0.0 and process.alpha(0.0) == 1.0 and process.sigma(0.0) == 0.0
    with pytest.raises(NotImplementedError, match="no rates"):
        process.bind({"noisy": ONE}).shift_rate(0.5, ZERO)


def test_transitions_compose_to_the_marginal() -> None:
    process = Recipe().process().bind({"noisy": 3.0 * ONE})
    x0 = 0.7 * ONE
    early = process.marginal(x0, 0.2)
    late = process.marginal(x0, 0.9)
    move = process.forward(early.mean, 0.2, 0.9)
    ratio = float(process.forward(early.mean + 1.0, 0.2, 0.9).mean - move.mean)
    assert torch.allclose(move.mean, late.mean)
    assert ratio**2 * early.std**2 + move.std**2 == pytest.approx(late.std**2)


def test_the_loss_is_the_absolute_error_of_drift_and_noise() -> None:
    """A network that says e = (m a (y - x_0) + sqrt(d) eps) / sqrt(1 - a^2) has no loss; 0.3 off, 0.3."""
    recipe = Recipe(**SMALL)
    D = recipe.model().double()
    g = torch.Generator().manual_seed(0)
    x0, y = (torch.randn(4, 1, 128, generator=g, dtype=torch.float64) for _ in range(2))
    table = recipe.table()

    class Knows(nn.Module):
        off = 0.0

        def forward(self, u: Tensor, step: Tensor, cond: dict) -> Tensor:
            t = (step + 1.0) / 50
            a, s = (f(t).reshape(-1, 1, 1) for f in (table.alpha, table.sigma))
            m = ((1 - a * a) / a).sqrt()
            root_d = (1 - (1 + m * m) * a * a).sqrt()
            eps = (u - a * ((1 - m) * x0 + m * cond["noisy"])) / root_d
            return (m * a * (cond["noisy"] - x0) + root_d * eps) / s + self.off

    D.net = Knows()
    objective = recipe.objective(D)
    cond = recipe.told(y)
    assert float(objective(x0, cond, Noise(0)).max()) < 1e-6
    D.net.off = -0.3
    assert objective(x0, cond, Noise(0)).tolist() == pytest.approx([0.3] * 4, abs=1e-6)
    assert set(cond) == {"spectrum", "noisy"} and torch.equal(cond["noisy"], y)


def test_the_spectrum_of_the_noisy_speech() -> None:
    """A tone of height 1 in the middle of bin 8 of 33: half the window's sum there, its sides beside."""
    y = torch.cos(2 * math.pi * 8 / 64 * torch.arange(256, dtype=torch.float64)).reshape(1, 1, -1)
    spectrum = Recipe(**SMALL).told(y)["spectrum"]
    assert spectrum.shape == (1, 33, 16)
    middle = spectrum[0, :, 8].expm1()
    assert middle[7:10].tolist() == pytest.approx([8.0, 16.0, 8.0], abs=1e-6) and float(middle[12:].max()) < 1e-6
    D = Recipe(**SMALL).model().double()
    assert D(y, 0.5, Recipe(**SMALL).told(y)).mean.shape == y.shape


def test_noise_of_training_has_its_level_and_its_colours() -> None:
    recipe = Recipe(**SMALL)
    x0 = torch.sin(0.3 * torch.arange(4096, dtype=torch.float64)).expand(400, 1, -1)
    n = recipe.damaged(x0, Noise(0)) - x0
    db = 10 * torch.log10(x0.square().mean(-1) / n.square().mean(-1)).flatten()
    assert 0.0 <= float(db.min()) < 0.5 and 14.5 < float(db.max()) <= 15.0 + 1e-9
    assert float(db.mean()) == pytest.approx(7.5, abs=4 * 15 / math.sqrt(12 * 400))
    power = torch.fft.rfft(n).abs().square()[:, 0]
    slope = torch.log(power[:, 512:2048].mean(1) / power[:, 8:32].mean(1)) / math.log(64.0)
    assert -2.3 < float(slope.min()) < -1.6 and -0.4 < float(slope.max()) < 0.3
    assert float(slope.mean()) == pytest.approx(-1.0, abs=0.15)


def test_lists_that_drift_too_far_are_refused() -> None:
    with pytest.raises(ValueError, match=r"end at m = 1.54"):
        Recipe(steps=200, last=0.02)
    assert isinstance(Recipe(steps=200, last=0.0095).process(), Drifting)
    assert Recipe(steps=200, last=0.0095).process().share(1.0) == 1.0
    assert float(Recipe(steps=200, last=0.0095).process().share(torch.tensor([1.0]).double())) == 1.0
