"""SR-SDE: three processes, one law of x_0 | y; the picture beside x_t reaches the network as it is."""

from __future__ import annotations

import math

import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Geometric, LinearBeta, SubVP
from sfumato.recipes.sr_sde import Recipe
from sfumato.samplers import Chain, ReverseDiffusion, sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,), "calls": 3}
KINDS = ("ve", "vp", "sub-vp")


@pytest.mark.parametrize("kind", KINDS)
def test_each_process_draws_x_0_given_y(kind: str) -> None:
    """y = H x_0 + n of a Gaussian pair: mean K-wise, covariance (I - K H) S, by hand; a corrector adds about snr^2."""
    S = torch.tensor([[0.5, 0.2], [0.2, 0.3]]).double()
    H, R, y = torch.tensor([[1.0, 0.5]]).double(), 0.04, torch.tensor([0.6]).double()
    K = S @ H.T / (H @ S @ H.T + R)
    mean, cov = K @ y, S - K @ H @ S
    recipe = Recipe(kind=kind)
    process = recipe.process()
    world = sf.GaussianWorld(mean, cov).denoiser(process)

    class Pairs(Denoiser):
        """64 pairs of numbers a sample: the corrector's step, of norms over all of them, then hardly depends on one."""

        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
            return Estimate(world(xt.reshape(-1, 2), t).mean.view_as(xt))

    n = 6400
    x1 = process.prior(torch.empty(n // 64, 64, 2).double()).sample(Noise(0))
    times = recipe.times(250)
    x = sample(Pairs(), recipe.sampler(), x1=x1, times=times, noise=Noise(1), denoise=kind == "ve").reshape(n, 2)
    error = cov.diagonal().sqrt() / math.sqrt(n)
    assert torch.all((x.mean(0) - mean).abs() < 4 * error)
    ratio = torch.linalg.eigvals(torch.linalg.solve(cov, torch.cov(x.T))).real
    assert torch.all((ratio - 1.0).abs() < 4 * math.sqrt(2 / n) + 0.05)


def test_the_processes_are_the_paper_s() -> None:
    """VE: sigma 0.01 to 348 for pictures in [0, 1], so twice that in [-1, 1]; sub-VP is quieter than VP everywhere."""
    ve, vp, sub = (Recipe(kind=kind).process() for kind in KINDS)
    assert isinstance(ve, Geometric) and isinstance(vp, LinearBeta) and isinstance(sub, SubVP)
    assert ve.sigma(0.0) == pytest.approx(2 * 0.01) and ve.sigma(1.0) == pytest.approx(2 * 348)
    for t in (0.01, 0.1, 0.3, 0.6, 0.99):
        assert sub.sigma(t) < vp.sigma(t) and sub.alpha(t) == pytest.approx(vp.alpha(t))
        assert sub.sigma(t) == pytest.approx(vp.sigma(t) ** 2)
    assert vp.alpha(1.0) == pytest.approx(math.exp(-0.25 * (0.1 + 20.0)), rel=1e-6)
    assert Recipe(sigma_min=0.1, sigma_max=5.0).process() == Geometric(0.1, 5.0)
    assert Recipe(kind="vp", beta_min=0.2, beta_max=9.0).process() == LinearBeta(0.2, 9.0)


@pytest.mark.parametrize("kind", KINDS)
def test_without_moves_of_the_corrector_it_is_the_predictor(kind: str) -> None:
    alone, both = Recipe(kind=kind, snr=0.0), Recipe(kind=kind)
    assert isinstance(alone.sampler(), ReverseDiffusion)
    chain = both.sampler()
    assert isinstance(chain, Chain) and chain.predictor == ReverseDiffusion()
    assert chain.corrector.snr == 0.075 and chain.corrector.moves == 1


@pytest.mark.parametrize("kind", KINDS)
def test_y_reaches_the_network_as_it_is(kind: str) -> None:
    recipe, seen = Recipe(**SMALL, kind=kind), {}
    D = recipe.model()
    D.net.enter.register_forward_pre_hook(lambda _, given: seen.update(given=given[0]))
    y = torch.rand(2, 1, 8, 8)
    x = recipe.process().prior(y).sample(Noise(0))
    D(x, 1.0, {"image": y})
    assert seen["given"].shape[1] == 2 and torch.equal(seen["given"][:, 1:], y)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_scaled_score(kind: str) -> None:
    """A network of zeros says the score 0: |sigma 0 + eps|^2 = 1 at every level."""
    recipe = Recipe(**SMALL, kind=kind)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
        x0 = torch.rand(512, 1, 4, 4)
        loss = recipe.objective(D)(x0, {"image": x0}, Noise(0))
    assert float(loss.mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))


def test_a_picture_is_drawn_with_the_last_noise_taken_away() -> None:
    """VE ends at sigma_min and one more call; each level has a call of the predictor and one of the corrector."""
    torch.manual_seed(0)
    D = Recipe(**SMALL).model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model = Model(Affine.unit(), D, {"recipe": "sr-sde", "fields": SMALL, "event": [1, 8, 8]})
    result = model.enhance(torch.rand(1, 1, 8, 8), steps=4)
    assert Recipe().times(4) == pytest.approx((1.0, 2 / 3, 1 / 3, 0.0))
    assert result.nfe == 2 * 3 + 1 and bool(result.samples.isfinite().all())
    assert len(Recipe().times()) == 2000 and Recipe(kind="vp").times(4)[-2:] == (1e-3, 0.0)


def test_kinds_are_those_of_the_framework() -> None:
    with pytest.raises(ValueError, match="kind is 've', 'vp' or 'sub-vp'"):
        Recipe(kind="edm")
