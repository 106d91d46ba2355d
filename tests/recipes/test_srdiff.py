"""SRDiff: the residual's diffusion is the anchored process of the picture, at every scale; what is cut off, and when
the encoder learns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser, Estimate, Residual
from sfumato.nets.rrdb import RRDB, Projected
from sfumato.noise import Noise, Seeds
from sfumato.processes import Anchored, Reverting, Table, entry
from sfumato.recipes.srdiff import Recipe
from sfumato.samplers import Ancestral, sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8, 8), "features": 4, "encoder": 2, "factor": 2, "levels": 12, "calls": 12}


def by_the_paper(e: float, v: float, y: float, c: float, bars: list[float]) -> tuple[float, float]:
    """Mean and variance of x_0 = y + z_0 / c with z drawn by algorithm 2 and the exact noise estimate:

    z_(t-1) = (z_t - beta_t / sqrt(1 - abar_t) f) / sqrt(alpha_t) + sqrt((1 - abar_(t-1)) / (1 - abar_t) beta_t) n.
    """
    mean, var = 0.0, 1.0
    mu, w = c * (e - y), c * c * v
    for bar, after in zip(bars, [*bars[1:], 1.0], strict=True):
        alpha, a, s2 = bar / after, math.sqrt(bar), 1.0 - bar
        gain = a * w / (bar * w + s2)  # E[z_0 | z_t] = mu + gain (z_t - a mu)
        slope, offset = (1 - a * gain) / math.sqrt(s2), -a * (mu - gain * a * mu) / math.sqrt(s2)
        k = (1 - alpha) / math.sqrt(s2)
        mean = (mean - k * (slope * mean + offset)) / math.sqrt(alpha)
        var = var * ((1 - k * slope) / math.sqrt(alpha)) ** 2 + (1 - after) / s2 * (1 - alpha)
    return y + mean / c, var / c**2


def exact(e: float, v: float, y: float, c: float, table: Table) -> Residual:
    """The exact denoiser of the residual, as one of x_0."""
    z = sf.GaussianWorld(torch.tensor([c * (e - y)]).double(), torch.tensor([[c * c * v]]).double())
    return Residual(z.denoiser(table), Reverting(table, scale=1.0 / c, read=entry("image")))


@pytest.mark.parametrize("c", [1.0, 2.0, 5.0])
def test_draws_follow_the_paper_s_recursion_on_the_residual(c: float) -> None:
    recipe, n = Recipe(scale=c), 40_000
    process = recipe.process()
    y = torch.full((n, 1), 0.4).double()
    D = exact(0.55, 0.01, 0.4, c, process.inner).given({"image": y})
    noise = Noise(0)
    x1 = D.process.prior(y).sample(noise)
    x = sample(D, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    assert float(x1.mean()) == pytest.approx(0.4, abs=4 / c / math.sqrt(n))
    assert float(x1.std()) == pytest.approx(1 / c, rel=4 / math.sqrt(2 * n))
    bars = [process.alpha(t) ** 2 for t in recipe.times()[:-1]]
    assert len(bars) == 100 and bars[-1] > 0.99
    mean, var = by_the_paper(0.55, 0.01, 0.4, c, bars)
    assert float(x.mean()) == pytest.approx(mean, abs=4 * math.sqrt(var / n))
    assert float(x.var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))


def test_every_scale_draws_the_same_law_in_the_end() -> None:
    """With many levels the law is that of x_0 given y whatever c; at 100 the spread grows with c towards it."""
    found = {}
    for levels in (100, 4000):
        bars = [float(a) for a in reversed(Table.cosine(levels).alpha_bars)]
        found[levels] = [by_the_paper(0.55, 0.01, 0.4, c, bars)[1] / 0.01 for c in (1.0, 2.0, 5.0)]
    assert found[100] == sorted(found[100]) and found[100][0] < 0.8 < 0.9 < found[100][2] < 1.0
    assert all(abs(ratio - 1) < 0.02 for ratio in found[4000])


@pytest.mark.parametrize("c", [0.5, 2.0, 7.0])
def test_the_residual_s_denoiser_is_that_of_the_anchored_process(c: float) -> None:
    """Tables and anchors aside: the exact estimate of x_0 under Anchored is y + (that of z_0) / c, variance too."""
    e, y, table = 0.3, torch.tensor([[-0.6], [1.1]]).double(), Table.cosine(100)
    for row in y:
        xt = torch.linspace(-1, 1, 7).double()[:, None]
        anchored = Anchored(table, scale=1.0 / c, read=entry("image")).bind({"image": row})
        want = sf.GaussianWorld(torch.tensor([e]).double(), torch.tensor([[0.2]]).double()).denoiser(anchored)(xt, 0.4)
        got = exact(e, 0.2, float(row), c, table)(xt, 0.4, {"image": row})
        assert torch.allclose(got.mean, want.mean, atol=1e-12) and torch.allclose(got.var, want.var, atol=1e-12)


HALF = Recipe().process()  # c = 2


class Says(Denoiser):
    """The same z_0 everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.process, self.value, self.seen = Table.cosine(100), value, []

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        self.seen.append(xt)
        return Estimate(torch.full_like(xt, self.value))


def test_a_residual_of_zero_returns_the_picture_and_a_large_one_is_cut() -> None:
    y, times = torch.randn(2, 1, 4, 4, dtype=torch.float64), Recipe().times(10)
    for value, reach, want in ((0.0, None, 0.0), (3.0, None, 1.5), (3.0, 1.0, 0.5), (-3.0, 1.0, -0.5)):
        D = Residual(Says(value), HALF, reach=reach).given({"image": y})
        x = sample(D, Ancestral(), x1=D.process.prior(y).sample(Noise(1)), times=times, noise=Noise(2))
        assert torch.allclose(x, y + want, atol=1e-12)
    inner = Says(0.0)
    Residual(inner, HALF)(y + 3.0, 0.5, {"image": y})
    assert torch.allclose(inner.seen[0], torch.full_like(y, 6.0))  # z_t = c (x_t - y)


def model(**more: object) -> tuple[Recipe, sf.denoisers.Predicted]:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, **more})
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return recipe, D


def test_training_cuts_residuals_off_and_is_the_absolute_error_of_eps() -> None:
    recipe, D = model(pretrain=0)
    loss, y = recipe.objective(D), torch.randn(3, 1, 4, 4)
    at = {gap: loss(y + gap, {"image": y}, Seeds(range(3))) for gap in (0.5, 0.9, 0.4, -0.7, -0.5)}
    assert torch.equal(at[0.5], at[0.9]) and torch.equal(at[-0.7], at[-0.5])
    assert not torch.allclose(at[0.4], at[0.5], rtol=1e-3)
    with torch.no_grad():
        for p in D.inner.parameters():
            p.zero_()  # f = 0: the loss is E |eps| at every level
        many = loss(torch.zeros(256, 1, 8, 8), {"image": torch.zeros(256, 1, 8, 8)}, Noise(0))
    want = math.sqrt(2 / math.pi)
    assert float(many.mean()) == pytest.approx(want, abs=4 * math.sqrt((1 - want**2) / (256 * 64)))


def test_the_encoder_learns_first_and_then_stands_still() -> None:
    recipe, D = model(pretrain=3)
    loss, x0, y = recipe.objective(D), torch.randn(2, 1, 6, 6), torch.randn(2, 1, 6, 6)
    for step, early in ((1, True), (3, True), (4, False)):
        loss.zero_grad(set_to_none=True)
        loss.advance(step)
        found = loss(x0, {"image": y}, Noise(0))
        found.mean().backward()
        if early:
            want = (x0 - D.predictor.encoder(y)).abs().flatten(1).mean(1)
            assert torch.allclose(found, want)
        assert all((p.grad is not None) == early for p in D.predictor.encoder.leave.parameters())
        assert all((p.grad is not None) == early for p in D.predictor.encoder.blocks.parameters())
        assert all((p.grad is None) == early for p in (*D.inner.parameters(), *D.predictor.grow.parameters()))
    assert loss.denoiser is D
    assert Recipe(**{**SMALL, "pretrain": 0}).objective(D).early is False
    with pytest.raises(ValueError, match="at least 0 steps"):
        Recipe(**{**SMALL, "pretrain": -1}).objective(D)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_features_are_those_of_every_third_output_and_move_with_the_picture(factor: int) -> None:
    torch.manual_seed(0)
    net = RRDB(1, factor, 4, 5)
    assert net.tapped == 8
    y = torch.randn(1, 1, 12 * factor, 12 * factor)
    outputs = net._outputs(y)
    assert len(outputs) == 6 and torch.equal(net.features(y), torch.cat([outputs[2], outputs[5]], 1))
    assert torch.equal(net(y), y)  # its last layer is zero before training
    with torch.no_grad():
        net.leave.weight.normal_()
    shuffled = torch.nn.functional.pixel_shuffle(net.leave(outputs[5]), factor)
    assert torch.allclose(net(y) - y, shuffled, atol=1e-5)
    assert net(y[..., :-1, :]).shape == (1, 1, 12 * factor - 1, 12 * factor)
    grown = Projected(RRDB(1, factor, 4, 2), 1)
    with torch.no_grad():  # what one place of the encoder says is seen by the 2 s pixels around it, centred
        grown.grow.weight.fill_(1.0)
        grown.grow.bias.zero_()
        place = torch.zeros(1, 4, 5, 5)
        place[0, 0, 2, 2] = 1.0
        rows = grown.grow(place)[0, 0].sum(1).nonzero().flatten().double()
    assert grown.grow(place).shape == (1, 1, 5 * factor, 5 * factor)
    assert len(rows) == 2 * factor and abs(float(rows.mean()) + 0.5 - 2.5 * factor) <= 0.5 * (factor % 2)
    assert grown(y[..., : 12 * factor - 1, :]).shape == (1, 1, 12 * factor - 1, 12 * factor)
    with pytest.raises(ValueError, match="2 blocks at least, got 1"):
        Projected(RRDB(1, factor, 4, 1), 3)


def test_features_enter_once_after_the_first_level() -> None:
    _, D = model(patch=2)
    net, seen = D.inner.inner.net, {}

    class Told(nn.Module):
        patch, stride, down = net.net.patch, net.net.stride, net.net.down

        def forward(self, u: Tensor, c_noise: Tensor, cond: object, added: list) -> Tensor:
            seen.update(u=u, added=added)
            return u

    unet, net.net = net.net, Told()
    x, features = torch.randn(1, 1, 6, 6), torch.randn(1, 8, 6, 6)
    net(x, torch.zeros(1), {"features": features})
    assert seen["added"][1:] == [0.0] and seen["added"][0].shape == (1, 8, 4, 4)
    assert torch.allclose(seen["added"][0][..., :3, :3], torch.nn.functional.avg_pool2d(features, 2))
    net.net = unet
    assert unet.image == 0  # the picture enters by its features alone
    other = net(x, torch.zeros(1), {"features": features + 1.0})
    assert not torch.allclose(other, net(x, torch.zeros(1), {"features": features}), atol=1e-4)


def test_a_model_enhances_with_its_encoder_run_once_for_a_draw() -> None:
    recipe, D = model()
    runs = []
    D.predictor.register_forward_hook(lambda *_: runs.append(1))
    y = torch.rand(2, 1, 8, 8).double()  # the first steps divide by alpha = 5e-4
    whole = Model(Affine.unit(), D.double().eval(), {"recipe": "srdiff", "fields": SMALL, "event": [1, None, None]})
    result = whole.enhance(y, samples=2, seed=3)
    assert len(runs) == 1 and result.nfe == 12
    noise, c = Seeds.keyed(3, [(1, 1)]), {"image": y[1:] * 2 - 1}
    bound = recipe.guide(D).given(c)
    x1 = c["image"] + 0.5 * noise.normal(torch.empty(1, 1, 8, 8).double())
    with torch.no_grad():
        x0 = sample(bound, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    assert torch.allclose(result.samples[1, 1], x0[0] * 0.5 + 0.5, atol=1e-9)
    assert float((x0 - c["image"]).abs().max()) <= 0.5 + 1e-6
