"""Refusion: on pictures it is IR-SDE; on codes, a linear autoencoder shows that replacing the code brings out x_0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.nets.nafnet import NAFNet
from sfumato.nets.skipping import Skips
from sfumato.noise import Noise, Seeds
from sfumato.recipes import ir_sde
from sfumato.recipes.refusion import Recipe, Replacing
from sfumato.samplers import sample
from sfumato.training.staged import Staged
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (4, 8), "levels": 6, "calls": 3}
CODES = {**SMALL, "latent": 2, "code_width": 4, "factors": (1, 2), "first": 3}


class Linear(nn.Module):
    """A picture (B, 1, 2, 2) as two numbers to be restored and two that go round: an orthonormal turn, invertible."""

    turn: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
        self.register_buffer("turn", q)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, Skips]:
        z = x.flatten(1) @ self.turn.T
        return z[:, :2].reshape(-1, 2, 1, 1), Skips([z[:, 2:]], (2, 2))

    def decode(self, code: torch.Tensor, skips: Skips) -> torch.Tensor:
        return (torch.cat([code.flatten(1), skips.features[0]], 1) @ self.turn).reshape(-1, 1, 2, 2)


def pictures() -> tuple[torch.Tensor, torch.Tensor, Linear]:
    """(x_0, y, domain): y differs from x_0 in what the code holds alone."""
    domain, x0 = Linear(), torch.randn(5, 1, 2, 2, dtype=torch.float64)
    shift = torch.cat([torch.randn(5, 2, dtype=torch.float64), torch.zeros(5, 2, dtype=torch.float64)], 1)
    return x0, x0 + (shift @ domain.turn).reshape(-1, 1, 2, 2), domain


def test_the_code_of_x0_with_the_skips_of_y_is_x0() -> None:
    x0, y, domain = pictures()
    recipe, D = Recipe(**CODES), Recipe(**CODES).model()
    D.domain = domain
    told = recipe.condition(D, {"image": y, "mask": x0}, Noise(0))
    assert torch.equal(told["image"], domain.encode(y)[0]) and torch.equal(told["mask"], x0)
    assert torch.allclose(recipe.picture(D, domain.encode(x0)[0], told), x0, atol=1e-12)
    assert torch.allclose(recipe.picture(D, told["image"], told), y, atol=1e-12)
    assert float((y - x0).abs().max()) > 0.1


def test_the_loss_of_replacing() -> None:
    x0, y, domain = pictures()
    loss = Replacing(domain)
    code = domain.encode(y)[0].flatten(1)
    shape = (code.mean(1) - y.flatten(1).mean(1)).abs() + (code.std(1) - y.flatten(1).std(1) / 2).abs()
    assert torch.allclose(loss(x0, {"image": y}, Noise(0)), 0.001 * shape, atol=1e-12)
    moved = x0 + (torch.eye(4, dtype=torch.float64)[3] @ domain.turn).reshape(1, 1, 2, 2)  # in what goes round
    error = (moved - x0).abs().flatten(1).mean(1)
    assert torch.allclose(loss(moved, {"image": y}, Noise(0)), 0.001 * shape + error, atol=1e-12)


def test_on_pictures_it_is_ir_sde_with_another_network() -> None:
    ours, theirs = Recipe(**SMALL), ir_sde.Recipe(**SMALL, lam=50 / 255)
    assert ours.process() == theirs.process() or ours.process().scale == theirs.process().scale
    D = ours.model()
    assert isinstance(D.inner.net, NAFNet) and not hasattr(D, "domain")
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    other = theirs.model()
    other.inner.net = D.inner.net
    x0, y = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    a, b = (r.objective(d)(x0, {"image": y}, Noise(1)) for r, d in ((ours, D), (theirs, other)))
    assert torch.equal(a, b)
    assert ours.sampler() == theirs.sampler() and ours.times() == theirs.times()
    told = {"image": y}
    assert ours.condition(D, told, Noise(0)) is told and ours.picture(D, x0, told) is x0
    models = [
        Model(Affine.unit(), d, {"recipe": key, "fields": {**SMALL, "lam": 50 / 255}, "event": [1, None, None]})
        for key, d in (("refusion", D), ("ir-sde", other))
    ]
    seen = torch.rand(2, 1, 8, 8)
    assert torch.equal(*(m.enhance(seen, samples=2).samples for m in models))


def test_draws_are_made_of_codes_and_decoded_with_the_skips_of_y(tmp_path: Path) -> None:
    torch.manual_seed(0)
    recipe = Recipe(**CODES)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model = Model(Affine.unit(), D.eval(), {"recipe": "refusion", "fields": CODES, "event": [1, None, None]})
    y = torch.rand(2, 1, 9, 6)
    got = model.enhance(y, samples=2, seed=4)
    assert got.samples.shape == (2, 2, 1, 9, 6) and got.nfe == 3
    code, skips = D.domain.encode(2 * y[1:] - 1)
    assert code.shape == (1, 2, 5, 3)
    noise = Seeds.keyed(4, [(1, 1)])
    bound = D.given({"image": code})
    x1 = bound.process.prior(code).sample(noise)  # type: ignore[attr-defined]
    z = sample(bound, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    assert torch.allclose(got.samples[1, 1], 0.5 + 0.5 * D.domain.decode(z, skips)[0], atol=1e-5)
    assert torch.allclose(model.enhance(y, samples=2, seed=4, batch=1).samples, got.samples, atol=1e-5)
    model.save(tmp_path / "m")
    assert torch.allclose(sf.load(tmp_path / "m").enhance(y, samples=2, seed=4).samples, got.samples, atol=1e-6)


def test_the_autoencoder_is_trained_first_and_then_left_alone() -> None:
    recipe = Recipe(**CODES)
    D = recipe.model()
    objective = recipe.objective(D)
    assert isinstance(objective, Staged)
    x0, y = torch.randn(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    for step, (trained, still) in ((3, (D.domain, D.inner.net)), (4, (D.inner.net, D.domain))):
        objective.advance(step)
        D.zero_grad()
        loss = objective(x0, {"image": y}, Noise(0))
        loss.sum().backward()
        assert all(p.grad is not None for p in trained.parameters())
        assert all(p.grad is None for p in still.parameters())
    codes = (D.domain.encode(v)[0] for v in (x0, y))
    want = ir_sde.Likelihood(D, 6)(next(codes), {"image": next(codes)}, Noise(0))
    assert torch.allclose(loss, want)
    objective.advance(0)
    assert torch.equal(objective(x0, {"image": y}, Noise(0)), Replacing(D.domain)(x0, {"image": y}, Noise(0)))


def test_sizes() -> None:
    paper = Recipe.published(latent=8)
    assert paper.widths[0] == 64 and paper.latent == 8 and Recipe.published().latent == 0
    net = replace(Recipe.published(), widths=(2, 4, 8, 16)).net()  # as deep, and narrow
    assert [len(level) for level in net.down] == [1, 1, 1, 28] and net.enter.out_channels == 2
    assert net.enter.in_channels == 6 and len(net.middle) == 1 and net.stride == 16
    codes = Recipe(latent=8, widths=(4,)).net()
    assert codes.enter.in_channels == 16 and codes.leave.out_channels == 8
    assert [len(level) for level in Recipe(widths=(4, 8, 16), blocks=2).net().down] == [2, 2, 2]
    assert Recipe().lam == pytest.approx(50 / 255)
    domain = Recipe(latent=8).domain()
    assert domain.stride == 8 and domain.to_code.out_channels == 8 and domain.enter.out_channels == 8
