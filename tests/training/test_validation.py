"""The held-out loss: the closed form at each level, the same draws each time, items that are not trained on."""

from __future__ import annotations

import pytest
import torch

import sfumato as sf
from sfumato.data.splits import split
from sfumato.noise import Noise, Seeds
from sfumato.processes import EDM, Cosine, Rectified
from sfumato.training import Denoising, HeldOut, eps_weight


class Drawn:
    """Items of a world."""

    def __init__(self, world, count):
        self.x = world.sample(count, Noise(0))

    def __len__(self):
        return len(self.x)

    def batch(self, items, noise):
        return self.x[items], None


@pytest.fixture
def world(double):
    A = torch.tensor([[1.0, 0.3], [0.0, 0.5]])
    return sf.GaussianWorld(torch.tensor([1.0, -1.0]), A @ A.T)


@pytest.mark.parametrize("process", [Cosine(), EDM(), Rectified()], ids=lambda p: type(p).__name__)
def test_by_level_is_the_posterior_variance_of_a_gaussian_world(world, process):
    """E (x_0 - D)^2 is tr Cov(x_0 | x_t) / d, which does not depend on x_t."""
    held = HeldOut(Drawn(world, 3000), batch=1000, most=3000, levels=(-4.0, 0.0, 3.0, 90.0))
    found = held.by_level(Denoising(world.denoiser(process)))
    assert list(found) == ["-4", "0", "3"] or process.log_snr(0.0) > 90.0
    for level in (-4.0, 0.0, 3.0):
        t = process.time_of(level)
        variance = world.covariance(torch.zeros(1, 2), t, process)[0].diagonal().sum() / 2
        # Of 3000 rows: the relative standard error of a mean of squares is at most sqrt(2 / 3000).
        assert found[f"{level:g}"] == pytest.approx(float(variance), rel=4 * (2 / 3000) ** 0.5)


def test_the_loss_is_that_of_the_objective_and_does_not_depend_on_the_batch(world):
    objective = Denoising(world.denoiser(Cosine()), weight=eps_weight)
    data = Drawn(world, 70)
    a, b = (HeldOut(data, 3, batch=batch, most=50) for batch in (50, 7))
    assert a.loss(objective) == a.loss(objective) == pytest.approx(b.loss(objective), rel=1e-12)
    assert a.by_level(objective) == pytest.approx(b.by_level(objective), rel=1e-12)
    noise = Seeds.keyed(3, (("held out", "loss", row) for row in range(50)))
    assert a.loss(objective) == pytest.approx(float(objective(data.x[:50], None, noise).mean()), rel=1e-12)
    assert HeldOut(data, 4, most=50).loss(objective) != a.loss(objective)


def test_an_objective_without_levels_has_none():
    assert HeldOut(Drawn(sf.GaussianWorld(torch.zeros(1), torch.eye(1)), 3)).by_level(torch.nn.Identity()) == {}


class Named:
    def __len__(self):
        return 20

    def batch(self, items, noise):
        return torch.tensor(items), noise.seeds


def test_a_split_is_a_partition_keyed_by_the_seed():
    train, held = split(Named(), 0.3, 5)
    assert len(train) == 14 and len(held) == 6 and sorted(train.items + held.items) == list(range(20))
    assert split(Named(), 0.3, 5)[1].items == held.items != split(Named(), 0.3, 6)[1].items
    x, seeds = held.batch([2, 0], Seeds([8, 9]))
    assert x.tolist() == [held.items[2], held.items[0]] and seeds == [8, 9]
    assert len(split(Named(), 0.0, 5)[1]) == 0
    for share in (0.98, 1.0, -0.1):
        with pytest.raises(ValueError, match=f"of 20 items the share {share} cannot be held out"):
            split(Named(), share, 5)
