"""icDPM: what the guide sees and does not see, where it joins, and the loss that trains it along."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.codecs import Affine
from sfumato.nets import UNet
from sfumato.nets.structured import Structure, Structured
from sfumato.noise import Noise
from sfumato.recipes import sr3
from sfumato.recipes.icdpm import Recipe
from sfumato.zoo import Model

SMALL = {"channels": 3, "widths": (8, 12, 16), "calls": 4}


def noisy(module: torch.nn.Module, seed: int = 0) -> None:
    """Weights that are nowhere 0."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=made))


def pictures(n: int, seed: int = 0, size: tuple[int, int] = (8, 8)) -> Tensor:
    return Noise(seed).normal(torch.empty(n, 3, *size))


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
def test_without_its_joins_it_is_sr3(size: tuple[int, int]) -> None:
    ours, plain = Recipe(**SMALL).model(), sr3.Recipe(**SMALL).model()
    noisy(ours.net.unet)
    plain.net.load_state_dict(ours.net.unet.state_dict())
    x, cond, t = pictures(2, 1, size), {"image": pictures(2, 2, size)}, torch.tensor([0.2, 0.9])
    assert torch.equal(ours(x, t, cond).mean, plain(x, t, cond).mean)
    noisy(ours.net.joins)
    assert not torch.allclose(ours(x, t, cond).mean, plain(x, t, cond).mean, atol=1e-3)
    assert torch.equal(ours(x, t).mean, plain(x, t).mean)  # no picture, no guide
    assert ours.net.structure.factors == (2, 4)


def test_features_join_the_encoder_at_their_size() -> None:
    """A join that is a bias alone: the same as adding that number to the level's state."""
    net = Structured(UNet(1, (4, 6), 1, image=1), (4, 6))
    noisy(net.unet)
    with torch.no_grad():
        net.joins[0].bias.fill_(0.7)
    u, c, y = (Noise(i).normal(torch.empty(1, 1, 4, 4)) for i in range(3))
    told: Tensor = net.unet(u, c.flatten()[:1], {"image": y}, [torch.zeros(()), torch.full((1, 6, 2, 2), 0.7)])
    assert torch.allclose(net(u, c.flatten()[:1], {"image": y}), told, atol=1e-6)
    patched = Structured(UNet(1, (4, 6), 1, image=1, patch=2), (4, 6))
    assert patched.structure.factors == (4,) and patched.structure.stride == 4
    assert patched(u, c.flatten()[:1], {"image": y}).shape == u.shape
    with pytest.raises(ValueError, match="two levels or more"):
        Structured(UNet(1, (4,), 1, image=1), (4,))


def test_the_guide_is_blind_to_color_and_to_fine_patterns() -> None:
    guide = Recipe(**SMALL).net().structure
    noisy(guide)
    y = pictures(1)
    chroma = torch.tensor([0.5, -0.2, -0.3]).reshape(3, 1, 1) * pictures(1, 1)[:, :1]
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))  # the finest pattern there is
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(2)  # above what the coarsest size holds, and it alone

    def same(a: Tensor, b: Tensor) -> list[bool]:
        return [torch.allclose(p, q, atol=1e-5) for p, q in zip(guide(a)[0] + guide(a)[1],
                                                               guide(b)[0] + guide(b)[1], strict=True)]  # fmt: skip

    assert same(y, y + chroma) == [True] * 4
    assert same(y, y + board) == [True] * 4
    assert same(y, y + stripes) == [False, True, False, True]
    assert same(y, y + 0.1) == [False] * 4


def test_small_pictures_are_means() -> None:
    guide = Structure((2,), (2,), 2)
    x = torch.arange(24.0).reshape(1, 3, 2, 4)  # channels 8 apart, rows 4
    assert torch.equal(guide.small(x)[0], torch.tensor([[[[10.5, 12.5]]]]))
    x = torch.tensor([[[[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]]]])  # padded by reflection: 1 2 4 2
    assert torch.equal(guide.small(x)[0], torch.tensor([[[[1.5, 3.0]]]]))


def test_the_loss_is_of_the_noise_and_of_the_small_clean_pictures() -> None:
    """Networks of zeros: E |eps| = sqrt(2 / pi), and the guess is y_s itself."""
    recipe = Recipe(**SMALL, weight=0.5)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
    objective = recipe.objective(D)
    x0 = pictures(256)
    x0[:, :, :, :] = x0 / 10
    board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
    base = math.sqrt(2 / math.pi)
    error = 4 * math.sqrt((1 - 2 / math.pi) / x0.numel())
    with torch.no_grad():
        assert float(objective(x0, {"image": x0 + board}, Noise(0)).mean()) == pytest.approx(base, abs=error)
        # |0.3| in the mean of three channels is 0.1, at each of two sizes, by weight
        lifted = x0.clone()
        lifted[:, 1] -= 0.3
        assert float(objective(x0, {"image": lifted}, Noise(0)).mean()) == pytest.approx(base + 0.1, abs=error)
    t = objective.times(recipe.process(), 1000, Noise(0))
    assert 0.5 / 2000 <= float(t.min()) < 0.01


def test_the_guesses_are_learned_by_themselves() -> None:
    """While the joins are 0, the loss of the noise has no gradient for the guide: its own loss makes it learn."""
    recipe = Recipe(channels=1, widths=(8, 8))
    torch.manual_seed(0)
    D = recipe.model()
    objective = recipe.objective(D)
    x0 = Noise(0).normal(torch.empty(8, 1, 8, 8))
    cond = {"image": 0.5 * x0 + 0.3}
    guide = list(D.net.structure.parameters())
    alone = recipe.objective(D)
    alone.guided = 0.0
    grads = torch.autograd.grad(alone(x0, cond, Noise(1)).mean(), guide, allow_unused=True)
    assert all(g is None or not bool(g.any()) for g in grads)
    both = torch.autograd.grad(objective(x0, cond, Noise(1)).mean(), guide)
    own = torch.autograd.grad(objective.guess(x0, cond).mean(), guide)
    assert all(bool(p.any()) and torch.allclose(p, q) for p, q in zip(both, own, strict=True))
    optimizer, first = torch.optim.Adam(guide, 2e-2), float(objective.guess(x0, cond).detach().mean())
    for _ in range(30):
        optimizer.zero_grad()
        objective.guess(x0, cond).mean().backward()
        optimizer.step()
    assert float(objective.guess(x0, cond).detach().mean()) < 0.5 * first


def test_every_weight_is_trained_and_a_model_draws() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.model()
    noisy(D)
    x0 = pictures(2)
    recipe.objective(D)(x0, {"image": -x0}, Noise(0)).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in D.parameters())
    fields = {**SMALL, "widths": list(SMALL["widths"])}
    model = Model(Affine.unit(), D, {"recipe": "icdpm", "fields": fields, "event": [3, None, None]})
    got = model.enhance(torch.rand(1, 3, 9, 8), samples=2)
    assert got.samples.shape == (2, 1, 3, 9, 8) and got.nfe == 4 and bool(got.samples.isfinite().all())
