"""DvSR: g is trained by the diffusion's loss alone, any g leaves the law what it is, averages err as they should."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Predicted, Residual
from sfumato.noise import Noise, Seeds
from sfumato.processes import LinearBeta, Reverting, entry
from sfumato.recipes.dvsr import Recipe
from sfumato.samplers import Ancestral, sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "predictor": (8,), "calls": 6}


def model(**more: object) -> tuple[Recipe, Predicted]:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, **more})
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return recipe, D.double()


def of_the_paper(D: Predicted, x0: Tensor, y: Tensor, seed: int, *, detached: bool = False) -> Tensor:
    """mean |eps - f(sqrt(gamma) z_0 + sqrt(1 - gamma) eps, y, gamma)|, z_0 = x_0 - g(y), by the draws of `seed`."""
    noise, table = Noise(seed), Recipe().process().inner
    t = 2.5e-4 + (1 - 2.5e-4) * noise.uniform(torch.empty(len(x0), dtype=torch.float64))
    eps = noise.normal(x0)
    a, s = (v.view(-1, 1, 1, 1) for v in (table.alpha(t), table.sigma(t)))
    z0 = x0 - D.predictor(y)
    z0 = z0.detach() if detached else z0
    f = D.inner.inner.net(a * z0 + s * eps, table.alpha(t), {"image": y})
    return (eps - f).abs().flatten(1).mean(1)


def test_the_loss_is_the_paper_s_and_its_gradient_reaches_g_through_the_residual() -> None:
    recipe, D = model()
    x0, y = torch.randn(3, 1, 6, 6).double(), torch.randn(3, 1, 6, 6).double()
    got, want = recipe.objective(D)(x0, {"image": y}, Noise(4)), of_the_paper(D, x0, y, 4)
    assert torch.allclose(got, want, atol=1e-9)
    weights = list(D.predictor.parameters())
    ours = torch.autograd.grad(got.mean(), weights, allow_unused=True)
    theirs = torch.autograd.grad(want.mean(), weights, allow_unused=True)
    assert sum(float(g.abs().sum()) for g in theirs if g is not None) > 1e-3
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None) and (a is None or torch.allclose(a, b, atol=1e-8))
    # Cut at z_0, nothing is left: there is no loss of g's own.
    cut = of_the_paper(D, x0, y, 4, detached=True).mean()
    assert all(g is None for g in torch.autograd.grad(cut, weights, allow_unused=True, retain_graph=True))
    still = Predicted(D.inner, D.predictor, learn=False)
    loss = recipe.objective(still)(x0, {"image": y}, Noise(4))
    assert torch.allclose(loss, want, atol=1e-9)
    assert all(g is None for g in torch.autograd.grad(loss.mean(), weights, allow_unused=True))


class Line(nn.Module):
    """g(y) = gain y + shift, counted."""

    def __init__(self, gain: float, shift: float) -> None:
        super().__init__()
        self.gain, self.shift, self.calls = gain, shift, 0

    def forward(self, y: Tensor) -> Tensor:
        self.calls += 1
        return self.gain * y + self.shift


E0, V = torch.tensor([0.3, -0.8, 1.1]).double(), torch.tensor([0.25, 0.02, 0.6]).double()  # of x_0 given this y
Y = torch.tensor([0.5, -0.5, 0.9]).double()


def exact(g: Line) -> Predicted:
    """The exact denoiser of x_0 - g(y); independent elements, so that four ancestral steps are exact."""
    z = sf.GaussianWorld(E0 - (g.gain * Y + g.shift), torch.diag(V))
    return Predicted(Residual(z.denoiser(LinearBeta()), Reverting(LinearBeta(), read=entry("anchor"))), g)


@pytest.mark.parametrize("g", [Line(1.0, 0.0), Line(-2.0, 0.7), Line(0.0, 3.0)])
def test_the_law_is_that_of_x0_given_y_whatever_g_says(g: Line) -> None:
    n, noise = 40_000, Noise(0)
    y = Y.expand(n, 3)
    D = exact(g).given({"image": y})
    x1 = D.process.prior(y).sample(noise)
    assert torch.allclose(x1.mean(0), D.process.anchor[0], atol=4 / math.sqrt(n))
    before = g.calls
    x = sample(D, Ancestral(), x1=x1, times=sf.grids.uniform(4), noise=noise)
    assert g.calls == before  # once a draw, not once a step
    # What is left of the residual at t = 1 is neglected: alpha(1) (e - g) is added to the bound.
    left = D.process.alpha(1.0) * (E0 - D.process.anchor[0]).abs()
    assert bool(((x.mean(0) - E0).abs() <= 4 * (V / n).sqrt() + left).all())
    assert torch.allclose(x.var(0), V, rtol=4 * math.sqrt(2 / n) + 2 * float(D.process.alpha(1.0)))


def test_the_mean_of_n_draws_errs_by_one_and_one_nth_of_the_least_error() -> None:
    """E |x_0 - mean of n|^2 = (1 + 1/n) tr Cov[x_0 | y]: twice the least at n = 1."""
    rows, noise = 20_000, Noise(1)
    truth = E0 + V.sqrt() * noise.normal(torch.empty(rows, 3).double())
    y, g = Y.expand(8 * rows, 3), Line(0.5, -1.0)
    D = exact(g).given({"image": y})
    draws = sample(D, Ancestral(), x1=D.process.prior(y).sample(noise), times=sf.grids.uniform(4), noise=noise)
    draws = draws.reshape(8, rows, 3)
    for n in (1, 2, 8):
        found = (truth - draws[:n].mean(0)).square().sum(1)
        want = (1 + 1 / n) * float(V.sum())
        assert float(found.mean()) == pytest.approx(want, abs=4 * float(found.std()) / math.sqrt(rows))


def test_g_is_the_picture_itself_before_training_and_f_sees_both() -> None:
    torch.manual_seed(0)
    D, y = Recipe(**SMALL).model(), torch.randn(2, 1, 5, 5)
    assert torch.equal(D.predictor(y), y)
    seen = {}
    D.inner.inner.net.register_forward_hook(lambda net, args, out: seen.update(u=args[0], cond=args[2]))
    with torch.no_grad():
        D.predictor.net.leave.bias.fill_(0.25)
    xt = torch.randn(2, 1, 5, 5)
    D(xt, 0.3, {"image": y})
    assert torch.allclose(seen["u"], xt - y - 0.25, atol=1e-6)  # z_t, not x_t
    assert torch.equal(seen["cond"]["image"], y) and torch.allclose(seen["cond"]["anchor"], y + 0.25)


def test_a_walk_takes_the_levels_of_its_own_schedule() -> None:
    """The signal of step n is prod (1 - beta_i), betas linear from 1e-6 to `walk`, whatever the training table is."""
    recipe = Recipe(walk=0.3)
    times, betas = recipe.times(20), [1e-6 + (0.3 - 1e-6) * i / 19 for i in range(20)]
    assert len(times) == 21 and times[-1] == 0.0
    for n in range(1, 21):
        bar = math.prod(1 - b for b in betas[:n])
        assert recipe.process().alpha(times[20 - n]) ** 2 == pytest.approx(bar, rel=1e-9)
    assert len(recipe.times()) == 101 and len(Recipe(calls=7).times()) == 8
    assert Recipe().times(10)[:2] == (1.0, 0.9)


def test_a_model_enhances_from_its_own_first_picture_and_in_windows() -> None:
    recipe, D = model()
    whole = Model(Affine.unit(), D.eval(), {"recipe": "dvsr", "fields": dict(SMALL), "event": [1, None, None]})
    y = torch.rand(2, 1, 8, 8).double()
    result = whole.enhance(y, samples=2, seed=3)
    noise, c = Seeds.keyed(3, [(0, 1)]), {"image": y[:1] * 2 - 1}
    with torch.no_grad():
        bound = D.given(c)
        x1 = D.predictor(c["image"]) + noise.normal(torch.empty(1, 1, 8, 8).double())
        x0 = sample(bound, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    assert torch.allclose(result.samples[1, 0], x0[0] * 0.5 + 0.5, atol=1e-9) and result.nfe == 6
