"""Augmentation that does not leak: what is done is what is told, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.data.augment import Augmented, drawn, told, transformed
from sfumato.noise import Seeds
from sfumato.recipes.edm import Recipe


def picture(size=(24, 24)):
    """A smooth picture without symmetry."""
    at = ((torch.arange(n) - (n - 1) / 2) / (min(size) / 2) for n in size)
    y, x = torch.meshgrid(*at, indexing="ij")
    blob = torch.exp(-20 * ((x - 0.3) ** 2 + 2 * (y + 0.2) ** 2)) - 0.5 * torch.exp(-20 * ((x + 0.4) ** 2 + y**2))
    return blob[None, None]


def row(**values):
    a = torch.zeros(1, 8)
    for name, value in values.items():
        a[0, int(name[1:])] = value
    return a


def test_nothing_is_nothing_and_mirrors_are_exact():
    x = picture()
    assert torch.equal(transformed(x, row()), x) and told(row()).tolist() == [[0.0] * 9]
    assert torch.equal(transformed(x, row(a0=1)), x.flip(3)) and told(row(a0=1))[0].nonzero().tolist() == [[0]]
    assert torch.equal(transformed(x, row(a1=1)), x.flip(2)) and told(row(a1=1))[0].nonzero().tolist() == [[1]]
    both = torch.cat([row(a3=1.0), row()])
    assert torch.equal(transformed(torch.cat([x, x]), both)[1:], x)  # a row that is not turned stays to the bit


def centre(x):
    """Centre of mass of the positive part, in pixels (x, y) from the middle."""
    mass = x[0, 0].clamp(min=0.0)
    h, w = mass.shape
    y, x = torch.meshgrid(torch.arange(h) - (h - 1) / 2, torch.arange(w) - (w - 1) / 2, indexing="ij")
    return torch.stack([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


@pytest.mark.parametrize("size", [(48, 48), (40, 64)], ids=["square", "wide"])
def test_each_number_does_what_it_says(size):
    x = picture(size)
    before = centre(x)
    square = slice((size[1] - size[0]) // 2, (size[1] + size[0]) // 2)  # what is still inside after a quarter turn
    quarter = transformed(x, row(a3=math.pi / 2))[..., square]
    assert torch.allclose(quarter, torch.rot90(x[..., square], -1, (2, 3)), atol=1e-5)  # x to y
    assert torch.allclose(transformed(x, row(a3=math.pi))[..., 4:-4, 4:-4], x.flip(2, 3)[..., 4:-4, 4:-4], atol=1e-4)
    larger = transformed(x, row(a2=2.0))
    assert torch.allclose(centre(larger), before * 2**0.4, atol=0.6)
    assert float(larger.clamp(min=0).sum() / x.clamp(min=0).sum()) == pytest.approx(2**0.8, rel=0.05)
    moved = centre(transformed(x, row(a6=0.8, a7=-0.4))) - before
    assert torch.allclose(moved, torch.tensor([0.1 * size[1], -0.05 * size[0]]), atol=0.3)
    stretched = transformed(x, row(a4=0.0, a5=1.5))
    assert torch.allclose(centre(stretched), before * torch.tensor([2**0.3, 2**-0.3]), atol=0.5)
    turned = transformed(x, row(a4=math.pi / 2, a5=1.5))
    assert torch.allclose(centre(turned), before * torch.tensor([2**-0.3, 2**0.3]), atol=0.5)


def test_what_is_told():
    a = row(a2=0.5, a3=0.7, a4=0.3, a5=-1.2, a6=0.1, a7=-0.2)
    want = [0, 0, 0.5, math.cos(0.7) - 1, math.sin(0.7), -1.2 * math.cos(0.3), -1.2 * math.sin(0.3), 0.1, -0.2]
    assert told(a)[0].tolist() == pytest.approx(want)


def test_each_is_drawn_as_often_as_asked():
    """Of 4000, p = 0.2: within four standard errors; the first mirror in half, whatever p is."""
    a = drawn(4000, 0.2, Seeds.keyed(0, range(4000)))
    share = (a != 0).float().mean(0)
    error = 4 * (0.2 * 0.8 / 4000) ** 0.5
    assert abs(float(share[0]) - 0.5) < 4 * 0.5 / 4000**0.5 and abs(float(share[1]) - 0.1) < error
    assert bool(((share[2:] - 0.2).abs() < error).all())
    assert bool((a[:, 4].ne(0) == a[:, 5].ne(0)).all()) and float(a[:, 3].abs().max()) <= math.pi
    for column in (2, 5, 6, 7):
        kept = a[a[:, column] != 0, column]
        assert float(kept.std()) == pytest.approx(1.0, abs=0.1) and abs(float(kept.mean())) < 0.15
    assert float(a[:, 3].max()) > 3.0 and float(a[:, 3].min()) < -3.0


class Pictures:
    names = ("a", "b")

    def __len__(self):
        return 6

    def batch(self, items, noise):
        return picture().repeat(len(items), 1, 1, 1), torch.tensor(items) % 2


def test_rows_depend_on_their_streams_alone():
    data = Augmented(Pictures(), 0.9)
    x, cond = data.batch([1, 2, 3], Seeds([5, 6, 7]))
    y, other = data.batch([3], Seeds([7]))
    assert torch.equal(x[2:], y) and torch.equal(cond["augment"][2:], other["augment"])
    assert cond["label"].tolist() == [1, 0, 1] and len(data) == 6


class Signals(Pictures):
    def batch(self, items, noise):
        return torch.zeros(len(items), 1, 5), None


def test_what_is_refused():
    for p in (0.0, 1.1):
        with pytest.raises(ValueError, match=f"lies in .*got {p}"):
            Augmented(Pictures(), p)
    with pytest.raises(ValueError, match="pictures can be augmented"):
        Augmented(Signals(), 0.5).batch([0], Seeds([0]))


def test_the_network_is_told_and_a_class_is_dropped_alone():
    recipe = Recipe(channels=1, widths=(8,), blocks=1, classes=3, augment=True)
    torch.manual_seed(0)
    denoiser = recipe.model()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, label, change = picture((8, 8)).repeat(2, 1, 1, 1), torch.tensor([0, 2]), torch.eye(9)[:2]
    with torch.no_grad():
        bare = denoiser(x, 0.5, label).mean
        assert torch.equal(denoiser(x, 0.5, {"label": label, "augment": 0 * change}).mean, bare)
        assert not torch.equal(denoiser(x, 0.5, {"label": label, "augment": change}).mean, bare)
    null = recipe.null({"label": label, "augment": change})
    assert null["label"].tolist() == [3, 3] and null["augment"] is change
    assert Recipe(channels=1, widths=(8,)).net().augmented is None
