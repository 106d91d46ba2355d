"""DiffIR: a chain of means, exact for Gaussian vectors at any length; stages, gradients, one pass at the end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close, normal, shaken

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.noise import Noise, Seeds
from sfumato.recipes.diffir import OfVector, Recipe
from sfumato.samplers import sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "size": 6, "encoder": 4, "depth": 1}


def made(**more: object) -> tuple[Recipe, OfVector]:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, **more})
    return recipe, shaken(recipe.model())


@pytest.mark.parametrize("T", [1, 4, 16])
def test_on_gaussian_vectors_every_length_gives_the_posterior_mean(T: int) -> None:
    """z ~ N(e, V): the chain of posterior means under the exact estimate ends at E[z | z_T], for any T."""
    process = Recipe(calls=max(T, 2)).process()
    e, V = torch.tensor([0.4, -1.0, 2.0]).double(), torch.diag(torch.tensor([0.3, 1.0, 2.5]).double())
    zT, recipe = normal(5, 3), Recipe(calls=max(T, 2))
    times = (1.0, 0.0) if T == 1 else recipe.times()
    assert len(times) == T + 1
    D = sf.denoisers.MeanOnly(sf.GaussianWorld(e, V).denoiser(process))
    found = sample(D, recipe.sampler(), x1=zT, times=times, noise=Noise(0))
    a, s2 = process.alpha(1.0), process.sigma(1.0) ** 2
    close(found, e + a * V.diag() / (a * a * V.diag() + s2) * (zT - a * e), 1e-9)


def test_the_schedule_is_the_public_code_s() -> None:
    """Square roots of the betas evenly spread from sqrt(0.1) to sqrt(0.99): abar_4 = 0.0026, not 0."""
    betas = torch.linspace(0.1**0.5, 0.99**0.5, 4, dtype=torch.float64) ** 2
    bars = torch.cumprod(1 - betas, 0)
    close(torch.tensor([Recipe().process().alpha(n / 4) ** 2 for n in (1, 2, 3, 4)], dtype=torch.float64), bars, 1e-9)
    assert float(bars[-1]) == pytest.approx(0.0026, abs=5e-5)
    assert Recipe().times() == (1.0, 0.75, 0.5, 0.25, 0.0)


class Oracle(nn.Module):
    """An MLP that knows z."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z = z

    def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        return self.z


def test_with_z_known_the_second_stage_is_the_first() -> None:
    recipe, D = made(pretrain=5)
    x0, y = normal(2, 1, 8, 8, seed=1), normal(2, 1, 8, 8, seed=2)
    D.inner.net = Oracle(D.truth(x0, y).detach())
    end = sample(D.given({"vector": normal(2, 6)}), recipe.sampler(), x1=normal(2, 6), times=recipe.times(),
                 noise=Noise(0))  # fmt: skip
    close(end, D.inner.net.z)  # from any z_T
    objective = recipe.objective(D)
    first, second = objective.first(x0, {"image": y}, Noise(0)), objective.then(x0, {"image": y}, Noise(0))
    close(second.detach(), first.detach())
    close(first.detach(), (x0 - D.restorer(y, D.truth(x0, y))).abs().mean((1, 2, 3)).detach())
    told = recipe.condition(D, {"image": y}, Noise(0))
    close(recipe.picture(D, end, told), D.restorer(y, D.truth(x0, y)).detach())


def test_the_first_stage_trains_what_the_second_leaves_alone() -> None:
    recipe, D = made(pretrain=2)
    objective, x0, y = recipe.objective(D), normal(2, 1, 8, 8, seed=1), normal(2, 1, 8, 8, seed=2)
    for step, early in ((1, True), (2, True), (3, False)):
        objective.zero_grad(set_to_none=True)
        objective.advance(step)
        objective(x0, {"image": y}, Noise(0)).mean().backward()
        assert all((p.grad is not None) == early for p in D.first.parameters())
        for part in (D.second, D.inner):
            assert all((p.grad is None) == early for p in part.parameters())
        assert all(p.grad is not None for p in D.restorer.net.leave.parameters())


def test_the_second_loss_is_the_chain_written_out_and_its_gradient_that_of_every_step() -> None:
    """z_(t-1) = (sqrt(abar_(t-1)) beta_t z_hat + sqrt(alpha_t) (1 - abar_(t-1)) z_t) / (1 - abar_t), four times."""
    recipe, D = made()
    x0, y = normal(2, 1, 8, 8, seed=1), normal(2, 1, 8, 8, seed=2)
    loss = recipe.objective(D).then
    betas = torch.linspace(0.1**0.5, 0.99**0.5, 4, dtype=torch.float64) ** 2
    bars = torch.cat([torch.ones(1).double(), torch.cumprod(1 - betas, 0)])
    z = D.truth(x0, y).detach()
    zt, c = bars[4].sqrt() * z + (1 - bars[4]).sqrt() * Noise(3).normal(z), D.second(y)
    for n in (4, 3, 2, 1):
        level = 0.1 * (bars[n] / (1 - bars[n])).log().expand(2)
        hat = D.inner.net(zt, level, {"vector": c})
        zt = bars[n - 1].sqrt() * betas[n - 1] * hat + (1 - betas[n - 1]).sqrt() * (1 - bars[n - 1]) * zt
        zt = zt / (1 - bars[n])
    want = (z - zt).abs().mean(1) + (x0 - D.restorer(y, zt)).abs().mean((1, 2, 3))
    got = loss(x0, {"image": y}, Noise(3))
    close(got.detach(), want.detach(), 1e-9)
    bias = D.inner.net.enter.bias
    for a, b in zip(*(torch.autograd.grad(v.sum(), [bias, D.second.enter.weight]) for v in (got, want)), strict=True):
        close(a, b, 1e-8)
        assert float(a.abs().max()) > 1e-6
    slope, h = float(torch.autograd.grad(loss(x0, {"image": y}, Noise(3)).sum(), bias)[0][0]), 1e-6
    ends = []
    with torch.no_grad():
        for move in (h, -2 * h):
            bias[0] += move
            ends.append(float(loss(x0, {"image": y}, Noise(3)).sum()))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-4)


def test_a_model_enhances_in_one_pass_told_by_the_vector_whatever_the_size() -> None:
    recipe, D = made()
    model = Model(Affine.unit(), D.eval(), {"recipe": "diffir", "fields": dict(SMALL), "event": [1, None, None]})
    y = torch.rand(2, 1, 7, 10, generator=torch.Generator().manual_seed(0)).double()
    passes: list[int] = []
    D.restorer.register_forward_hook(lambda *_: passes.append(1))
    result = model.enhance(y, samples=2, seed=3)
    assert result.samples.shape == (2, 2, 1, 7, 10) and result.nfe == 4 and len(passes) == 1
    noise, c = Seeds.keyed(3, [(1, 1)]), y[1:] * 2 - 1
    with torch.no_grad():
        vector = D.second(c)
        x1 = recipe.process().prior(vector).sample(noise)
        z = sample(D.given({"vector": vector}), recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
        close(result.samples[1, 1], D.restorer(c, z)[0] * 0.5 + 0.5, 1e-9)
        assert float((D.restorer(c, z.flip(1)) - D.restorer(c, z)).abs().max()) > 1e-4  # the vector counts
    wide = model.enhance(torch.rand(1, 1, 4, 520).double())  # larger than a window: the state is none
    assert wide.samples.shape == (1, 1, 1, 4, 520)


def test_before_training_the_picture_is_y() -> None:
    D, y = Recipe(**SMALL).model(), torch.randn(1, 1, 8, 8)
    assert torch.equal(D.restorer(y, torch.randn(1, 6)), y)
    assert D.first.enter.in_channels == 32 and D.second.enter.in_channels == 16
