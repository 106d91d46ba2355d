"""The denoising loss against closed forms: its minimum on Gaussian data, its unit level, its other ways of writing."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.denoisers import Denoiser, Preconditioned, edm, predict_eps, predict_v, predict_x0
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import EDM, Cosine, LinearBeta, Rectified
from sfumato.training import Denoising, edm_weight, eps_weight, output_weight, x0_weight
from sfumato.worlds import GaussianWorld

PROCESSES = [LinearBeta(), Cosine(), EDM(), Rectified()]


class At:
    """A law of times that is one time."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, process, batch, noise):
        return torch.full((batch,), self.t, dtype=torch.float64)


class Zero(torch.nn.Module):
    def forward(self, u, c_noise, cond=None):
        return torch.zeros_like(u)


class Constant(Denoiser):
    """Answers with its condition, and keeps it."""

    def __init__(self, process) -> None:
        super().__init__()
        self.process = process

    def forward(self, xt, t, cond=None):
        self.seen = cond
        value = cond if isinstance(cond, torch.Tensor) else cond["a"]
        return Estimate(value.to(xt).reshape(-1, 1).expand_as(xt))


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_the_exact_denoiser_has_the_least_loss(process, t):
    """Per eigenvalue c of the covariance, E |x0 - D|^2 = c sigma^2 / (alpha^2 c + sigma^2)."""
    c = torch.tensor([0.3, 2.0, 1e-3], dtype=torch.float64)
    U, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    world = GaussianWorld(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), U @ torch.diag(c) @ U.T)
    a2, s2 = process.alpha(t) ** 2, process.sigma(t) ** 2
    mmse = float((c * s2 / (a2 * c + s2)).mean())
    x0 = world.sample(40_000, Noise(1))
    loss = Denoising(world.denoiser(process), At(t), x0_weight)(x0, None, Noise(2))
    assert abs(float(loss.mean()) - mmse) < 4 * float(loss.std()) / 200
    # Another denoiser, the exact one of another world, does worse.
    other = GaussianWorld(world.means[0], 1.5 * world.covs[0]).denoiser(process)
    assert Denoising(other, At(t), x0_weight)(x0, None, Noise(2)).mean() > loss.mean()


@pytest.mark.parametrize("sigma", [0.01, 0.5, 10.0])
def test_edm_has_unit_loss_at_every_level(sigma):
    """On N(0, sd^2) the best network says 0, D = c_skip x, and the weighted loss is 1 (the card of EDM)."""
    sd, process = 0.3, EDM()
    denoiser = Preconditioned(Zero(), process, edm(sd))
    x0 = sd * Noise(0).normal(torch.empty(400, 256, dtype=torch.float64))
    t = process.time_of(-2 * math.log(sigma))
    loss = Denoising(denoiser, At(t), edm_weight(sd))(x0, None, Noise(1))
    assert abs(float(loss.mean()) - 1.0) < 4 * float(loss.std()) / 20
    exact = GaussianWorld(torch.zeros(1, dtype=torch.float64), torch.full((1, 1), sd**2, dtype=torch.float64))
    xt = torch.tensor([[0.7]], dtype=torch.float64)
    torch.testing.assert_close(denoiser(xt, t).mean, exact.denoiser(process)(xt, t).mean, rtol=1e-12, atol=0)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_the_weights_are_the_losses_written_in_their_terms(process):
    """On one and the same draw: |eps - eps_hat|^2, |v - v_hat|^2, |F - F_hat|^2."""
    net = torch.nn.Linear(6, 6).double()
    run = type("Net", (torch.nn.Module,), {"forward": lambda self, u, c, cond=None: net(u)})()
    x0, t = Noise(3).normal(torch.empty(5, 6, dtype=torch.float64)), 0.4
    alpha, sigma = process.alpha(t), process.sigma(t)
    # What the objective draws, by its contract: x_t from the marginal, with this noise (times draw nothing here).
    eps = Noise(7).normal(x0)
    xt = alpha * x0 + sigma * eps
    n = math.hypot(alpha, sigma)

    def loss(scheme, weight):
        return Denoising(Preconditioned(run, process, scheme), At(t), weight)(x0, None, Noise(7))

    u = net(xt / n)
    torch.testing.assert_close(loss(predict_eps, eps_weight), (eps - u).square().mean(1), rtol=1e-10, atol=0)
    torch.testing.assert_close(loss(predict_x0, x0_weight), (x0 - u).square().mean(1), rtol=1e-10, atol=0)
    v = (alpha * eps - sigma * x0) / n
    torch.testing.assert_close(loss(predict_v, output_weight(predict_v)), (v - u).square().mean(1), rtol=1e-10, atol=0)
    # EDM's F: the target is (x0 - c_skip x_t) / c_out.
    sd = 0.5
    m2 = sigma**2 + (alpha * sd) ** 2
    target = (x0 - alpha * sd**2 / m2 * xt) / (sigma * sd / math.sqrt(m2))
    F = net(xt / math.sqrt(m2))
    for weight in (edm_weight(sd), output_weight(edm(sd))):
        torch.testing.assert_close(loss(edm(sd), weight), (target - F).square().mean(1), rtol=1e-10, atol=0)


def test_defaults_are_those_of_edm():
    process = EDM()
    denoiser = Preconditioned(Zero(), process, edm())
    x0 = 0.5 * Noise(0).normal(torch.empty(2000, 64, dtype=torch.float64))
    loss = Denoising(denoiser)(x0, None, Noise(1))
    assert abs(float(loss.mean()) - 1.0) < 0.02


def test_conditions_are_dropped_per_sample_in_the_stated_share():
    n, share = 20_000, 0.3
    denoiser = Constant(EDM())
    cond = torch.arange(n) % 7
    objective = Denoising(denoiser, At(0.5), x0_weight, drop=share, null=lambda c: torch.full_like(c, -1))
    loss = objective(torch.zeros(n, 2), cond, Noise(5))
    lost = denoiser.seen == -1
    assert abs(float(lost.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / n)
    assert torch.equal(denoiser.seen[~lost], cond[~lost])  # the others keep their own
    assert torch.equal(loss, torch.where(lost, 1.0, cond.float() ** 2))  # and the losses are row by row
    assert abs(float(lost[: n // 2].double().mean()) - float(lost[n // 2 :].double().mean())) < 0.03


def test_conditions_in_a_dict_are_dropped_together_and_entry_by_entry():
    denoiser, n = Constant(EDM()), 400
    cond = {"a": torch.ones(n), "image": torch.ones(n, 3, 2)}
    null = lambda c: {"a": 0 * c["a"], "image": c["image"]}  # noqa: E731  # the image stays
    Denoising(denoiser, At(0.5), x0_weight, drop=0.5, null=null)(torch.zeros(n, 2), cond, Noise(0))
    assert 0 < int(denoiser.seen["a"].sum()) < n
    assert torch.equal(denoiser.seen["image"], cond["image"])


def test_nothing_is_dropped_or_drawn_without_dropout_or_condition():
    denoiser = Constant(EDM())
    null = lambda c: -c  # noqa: E731
    plain = Denoising(denoiser, At(0.5), x0_weight, null=null)(torch.zeros(9, 2), torch.ones(9), Noise(0))
    assert torch.equal(denoiser.seen, torch.ones(9)) and torch.equal(plain, torch.ones(9))
    whole = Denoising(denoiser, At(0.5), x0_weight, drop=1.0, null=null)
    assert torch.equal(whole(torch.zeros(9, 2), 3 * torch.ones(9), Noise(0)), torch.full((9,), 9.0))
    free = Denoising(Preconditioned(Zero(), EDM(), predict_x0), At(0.5), x0_weight, drop=0.5, null=null)
    assert torch.equal(free(torch.ones(4, 2), None, Noise(0)), torch.ones(4))
    with pytest.raises(ValueError, match="needs `null`"):
        Denoising(denoiser, drop=0.1)
