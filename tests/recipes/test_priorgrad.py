"""PriorGrad: the plain chain on x / S, whatever S; loud frames get loud noise."""

from __future__ import annotations

import math

import pytest
import torch
from basis import Basis
from torch import Tensor, nn

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate, Preconditioned, predict_eps
from sfumato.noise import Noise
from sfumato.recipes import diffwave
from sfumato.recipes.priorgrad import Recipe
from sfumato.samplers import trajectory
from sfumato.training import Denoising, Steps, eps_weight

SMALL = {"hertz": 8000, "hop": 64, "window": 256, "n_fft": 256, "mels": 4, "width": 4, "blocks": 3, "cycle": 2}


def sounds(n: int = 3, length: int = 512) -> Tensor:
    rising = torch.linspace(0.05, 8.0, length, dtype=torch.float64)
    return rising * torch.randn(n, 1, length, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


class Scaling(nn.Module):
    """F~(u~) = F(S u~) / S: what the network of x is on x / S."""

    def __init__(self, net: nn.Module, S: Tensor) -> None:
        super().__init__()
        self.net, self.S = net, S

    def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        return self.net(self.S * u, c_noise, cond) / self.S


class Odd(nn.Module):
    """Some network: not linear, told the step and the frames."""

    def forward(self, u: Tensor, c_noise: Tensor, cond: dict) -> Tensor:
        return torch.tanh(u) * 0.5 + 0.01 * c_noise.reshape(-1, 1, 1) + 0.1 * cond["mel"].mean()


def two() -> tuple[Recipe, Denoiser, Denoiser, dict, Tensor]:
    recipe = Recipe(**SMALL, most=6.0)
    x0 = sounds()
    cond = recipe.told(x0)
    S = recipe.spread(cond)
    ours = recipe.model()
    ours.net = Odd()
    plain = Preconditioned(Scaling(Odd(), S), recipe.table(), predict_eps, clock=ours.clock)
    return recipe, ours, plain, cond, S


def test_its_loss_is_that_of_the_plain_chain_on_whitened_sounds() -> None:
    recipe, ours, plain, cond, S = two()
    assert float(S.min()) < 0.5 * float(S.max())
    loss = recipe.objective(ours)(sounds(), cond, Noise(0))
    want = Denoising(plain, Steps(50), eps_weight)(sounds() / S, cond, Noise(0))
    assert torch.allclose(loss, want, rtol=1e-9) and float(loss.std()) > 0.0


def test_its_steps_are_those_of_the_plain_chain_on_whitened_sounds() -> None:
    recipe, ours, plain, cond, S = two()
    start = torch.zeros(3, 1, 512).double()
    bound, there = ours.given(cond), plain.given(cond)
    laws = [d.process.prior(start) for d in (bound, there)]
    x1, z1 = (law.sample(Noise(1)) for law in laws)
    assert torch.allclose(x1, S * z1) and torch.allclose(z1, Noise(1).normal(start))
    pairs = zip(
        trajectory(bound, recipe.sampler(), x1, recipe.times(6), Noise(2)),
        trajectory(there, recipe.sampler(), z1, recipe.times(6), Noise(2)),
        strict=True,
    )
    for step, plain_step in pairs:
        assert torch.allclose(step.x, S * plain_step.x, atol=1e-10)


def test_the_network_says_the_scaled_noise() -> None:
    """D = (x - sigma F) / alpha, with sigma the bare level, whatever S."""
    recipe, ours, _, cond, S = two()
    x, t = sounds(), 20 / 50
    alpha, sigma = recipe.table().alpha(t), recipe.table().sigma(t)
    F = Odd()(x, torch.full((3,), 19.0).double(), cond)
    assert torch.allclose(ours(x, t, cond).mean, (x - sigma * F) / alpha)
    assert torch.allclose(ours.given(cond).process.sigma(t), sigma * S)


class Matched(Denoiser):
    """The best there is for data N(0, S^2): e = sigma x_t, no S in it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.process = recipe.process()

    def forward(self, xt: Tensor, t: object, cond: object = None) -> Estimate:
        sigma, alpha = (torch.as_tensor(f(t)).reshape(-1, *[1] * (xt.ndim - 1)) for f in
                        (self.process.inner.sigma, self.process.inner.alpha))  # fmt: skip
        return Estimate((xt - sigma * (sigma * xt)) / alpha)


def test_data_of_the_prior_s_own_scale() -> None:
    """The weighted loss is alpha^2 a coordinate, and the variance over S^2 the scalar recursion's: 0.9447."""
    recipe = Recipe(**SMALL, most=6.0)
    cond = {"mel": torch.linspace(-3.0, 1.0, 8).double().reshape(1, 1, 8).expand(1, 4, 8)}
    S = recipe.spread(cond)
    objective = recipe.objective(Matched(recipe))
    objective.times = lambda process, batch, noise: torch.full((batch,), 0.6, dtype=torch.float64)
    n = 400
    x0 = S * torch.randn(n, 1, 512, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    many = {"mel": cond["mel"].expand(n, 4, 8)}
    want = recipe.table().alpha(0.6) ** 2
    assert float(objective(x0, many, Noise(0)).mean()) == pytest.approx(want, rel=4 * math.sqrt(2 / x0.numel()))

    class Everywhere(Basis):
        def normal(self, like: Tensor) -> Tensor:
            return super().normal(like).reshape(-1, 1, 1).expand_as(like)

    noise, rows = Everywhere(), 51
    bound = Matched(recipe).given({"mel": cond["mel"].expand(rows, 4, 8)})
    x1 = bound.process.prior(torch.zeros(rows, 1, 512).double()).sample(noise)
    x = sf.sample(bound, recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    ratio = x.square().mean(0) / S[0].square()
    assert torch.allclose(ratio, torch.tensor(0.9447).double(), atol=5e-5)


def test_a_scale_of_one_is_diffwave() -> None:
    ours, plain = (
        make(**SMALL, variant="hifi-gan", low=0.0, high=4000.0, **more)
        for make, more in ((Recipe, {"floor": 1.0}), (diffwave.Recipe, {}))
    )
    torch.manual_seed(0)
    D = ours.model().double()
    with torch.no_grad():
        D.net.leave.weight.fill_(0.3)
    E = plain.model().double()
    E.load_state_dict(D.state_dict())
    x0 = sounds()
    cond = ours.told(x0)
    assert torch.equal(cond["mel"], plain.told(x0)["mel"]) and torch.equal(ours.spread(cond), torch.ones(3, 1, 512))
    losses = [r.objective(d)(x0, cond, Noise(0)) for r, d in ((ours, D), (plain, E))]
    assert torch.allclose(*losses, rtol=1e-9)
    xs = [
        sf.sample(d.given(cond), r.sampler(), x1=x0, times=r.times(6), noise=Noise(1))
        for r, d in ((ours, D), (plain, E))
    ]
    assert torch.allclose(*xs, atol=1e-10)


def test_scale_of_a_frame() -> None:
    """E of 4 bands is 2 exp(m / 2), held to 4 first: S is 1 there, 0.1 below a tenth of the range."""
    recipe = Recipe(**SMALL, least=1.0)
    energies = [9.0, 4.0, 3.25, 1.3, 1.2, 0.5]
    mel = torch.tensor([2.0 * math.log(E / 2.0) for E in energies]).expand(1, 4, 6)
    S = recipe.spread({"mel": mel})
    assert S.shape == (1, 1, 6 * 64)
    assert S[0, 0, ::64].tolist() == pytest.approx([1.0, 1.0, 0.75, 0.1, 0.1, 0.1], abs=1e-6)
    assert torch.equal(S, S[..., ::64].repeat_interleave(64, -1))
    uneven = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 4, 1).log()
    assert float(recipe.energy(uneven)) == pytest.approx(math.sqrt(6.0))


def test_the_least_energy_is_that_of_the_training_data() -> None:
    recipe = Recipe(**SMALL)
    x = torch.cat([sounds(65), 0.01 * sounds(1)])  # the quietest is in the second part
    found = recipe.fitted(x)
    E = recipe.told(x[-1:])["mel"].exp().sum(1).sqrt()
    assert found.least == pytest.approx(float(E.min())) and found.hop == recipe.hop
    assert found.fitted(sounds(2)) is found
    assert Recipe(**SMALL, least=0.5).fitted(x).least == 0.5


def test_what_does_not_fit() -> None:
    for wrong in ({"least": 4.0}, {"least": -1.0}, {"floor": 0.0}, {"floor": 1.5}):
        with pytest.raises(ValueError, match="0 <= least < most and 0 < floor <= 1"):
            Recipe(**wrong)
