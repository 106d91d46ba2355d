"""EDM2's training: the learned uncertainty, power-function averages and their reconstruction, the learning rate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sfumato import Noise, training
from sfumato.denoisers import Preconditioned, edm
from sfumato.nets.magnitude import MPLayer
from sfumato.processes import EDM, LinearBeta
from sfumato.recipes import edm2
from sfumato.training import (
    Denoising,
    LogNormal,
    PowerEma,
    Profile,
    Uncertain,
    edm_weight,
    exponent_of,
    inverse_sqrt,
    mixing,
    reconstruct,
    width_of,
)


class Weight(nn.Module):
    """One number, and a buffer."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(1, dtype=torch.int64))

    def set(self, value: float, step: int) -> None:
        with torch.no_grad():
            self.w.fill_(value)
            self.seen.fill_(step)


def test_widths_and_exponents_of_the_paper() -> None:
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.005)
    for width in (0.01, 0.2, 0.28):
        assert width_of(exponent_of(width)) == pytest.approx(width, rel=1e-9)
    for width in (0.0, -0.1, 0.29):
        with pytest.raises(ValueError, match=r"between 0 and 0\.2887, got"):
            exponent_of(width)


def test_the_average_of_a_ramp_has_the_mean_and_width_of_the_profile() -> None:
    """theta(t) = t averages to (g + 1) / (g + 2) t, theta^2 gives the standard deviation s t."""
    ramp, square = Weight(), Weight()
    first, second = PowerEma(ramp, (0.05, 0.2)), PowerEma(square, (0.05, 0.2))
    n = 6_000
    for t in range(1, n + 1):
        ramp.set(t, t)
        square.set(t * t, t)
        first.update(ramp)
        second.update(square)
    for width, g, a, b in zip((0.05, 0.2), first.exponents, first.averages, second.averages, strict=True):
        mean = float(a.w) / n
        assert mean == pytest.approx((g + 1) / (g + 2), rel=2e-3)
        assert math.sqrt(float(b.w) / n**2 - mean**2) == pytest.approx(width, rel=5e-3)
        assert int(a.seen) == n


def test_the_first_update_forgets_the_start() -> None:
    module = Weight(100.0)
    ema = PowerEma(module)
    module.set(3.0, 1)
    ema.update(module)
    assert [float(a.w) for a in ema.averages] == [3.0, 3.0]
    assert not any(p.requires_grad or a.training for a in ema.averages for p in a.parameters())


def walk(steps: int) -> list[float]:
    z = Noise(3).normal(torch.empty(steps, dtype=torch.float64))
    return z.cumsum(0).tolist()


@pytest.fixture(scope="module")
def run() -> tuple[list[float], list[tuple[Profile, dict[str, Tensor]]]]:
    """400 steps of a random walk, averages of widths 0.05 and 0.10 kept every 20 steps: the card's setting."""
    values, module = walk(400), Weight()
    ema, kept = PowerEma(module), []
    for t, value in enumerate(values, 1):
        module.set(value, t)
        ema.update(module)
        if t % 20 == 0:
            kept += ema.snapshots()
    return values, kept


def brute(values: list[float], exponent: float) -> float:
    """The recursion run on every step, which the reconstruction never saw."""
    total = 0.0
    for t, value in enumerate(values, 1):
        decay = (1 - 1 / t) ** (exponent + 1)
        total = decay * total + (1 - decay) * value
    return total


@pytest.mark.parametrize("width", [width_of(10.0), 0.07, 0.15])
def test_an_untracked_profile_is_reconstructed(run, width: float) -> None:
    values, kept = run
    truth, size = brute(values, exponent_of(width)), max(abs(v) for v in values)
    assert abs(float(reconstruct(kept, width)["w"]) - truth) < 2e-4 * size
    # An earlier end, from what was kept until then.
    half = brute(values[:200], exponent_of(width))
    assert abs(float(reconstruct(kept, width, 200)["w"]) - half) < 1e-3 * size
    assert abs(half - truth) > 0.05 * size


def test_a_stored_profile_is_itself(run) -> None:
    values, kept = run
    assert [p.step for p, _ in kept[:4]] == [20, 20, 40, 40]
    weights = mixing([p for p, _ in kept[-6:]], kept[-2][0])
    assert weights == pytest.approx([0, 0, 0, 0, 1, 0], abs=1e-6)
    again = reconstruct(kept[::-1], 0.10)
    assert float(again["w"]) == pytest.approx(brute(values, exponent_of(0.10)), rel=1e-6)
    assert again["seen"].tolist() == [400] and again["seen"].dtype == torch.int64


def test_overlaps_are_the_integrals_of_the_profiles() -> None:
    """Least squares over two stored profiles, by quadrature on [0, 1]."""
    stored, wanted = [Profile(2.0, 0.6), Profile(5.0, 1.0)], Profile(3.5, 0.9)
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000

    def density(p: Profile) -> Tensor:
        return torch.where(tau < p.step, (p.exponent + 1) * tau**p.exponent / p.step ** (p.exponent + 1), 0.0)

    rows = torch.stack([density(p) for p in stored])
    A, b = rows @ rows.T, rows @ density(wanted)
    w = torch.linalg.solve(A, b)
    assert mixing(stored, wanted) == pytest.approx((w / w.sum()).tolist(), rel=1e-4)


def test_there_must_be_a_snapshot() -> None:
    kept = [(Profile(3.0, 20), Weight().state_dict())]
    for snapshots, step in (([], None), (kept, 10)):
        with pytest.raises(ValueError, match="no snapshot up to step"):
            reconstruct(snapshots, 0.1, step)


def test_inverse_square_root_rate() -> None:
    factor = inverse_sqrt(100, warmup=10)
    assert [factor(n) for n in (1, 5, 10, 100, 400)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.5])
    assert inverse_sqrt(10)(1) == 1.0
    recipe = edm2.Recipe(reference=40, warmup=4)
    assert [recipe.schedule()(n) for n in (2, 40, 160)] == pytest.approx([0.5, 1.0, 0.5])


class Zero(nn.Module):
    def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
        return torch.zeros_like(u)


def test_uncertainty_learns_the_expected_loss_of_each_level() -> None:
    """Data N(0, s^2) with F = 0: the weighted loss at sigma is known, so u is known; the total is then 1 + u."""
    sd, s = 0.5, 0.9
    denoiser = Preconditioned(Zero(), EDM(), edm(sd))
    torch.manual_seed(0)
    loss = Uncertain(denoiser, LogNormal(-0.4, 1.0), edm_weight(sd), features=64)
    optimizer = torch.optim.Adam(loss.parameters(), 0.05)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        x0 = s * Noise(10_000 + step).normal(torch.empty(256, 8))
        value = loss(x0, None, Noise(step)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    sigma = torch.tensor([0.3, 0.7, 1.5])
    # D = sd^2 x / (sigma^2 + sd^2): E (x_0 - D)^2 = (sigma^4 s^2 + sd^4 sigma^2) / (sigma^2 + sd^2)^2.
    n2 = sigma**2 + sd**2
    expected = (sigma**4 * s**2 + sd**4 * sigma**2) / n2**2 * n2 / (sigma * sd) ** 2
    u = loss.uncertainty(sigma.log() / 4).detach()
    torch.testing.assert_close(u, expected.log(), rtol=0, atol=0.1)


def test_the_loss_is_the_weighted_one_over_exp_u_plus_u() -> None:
    denoiser = Preconditioned(Zero(), LinearBeta(), edm(0.5))
    torch.manual_seed(0)
    loss, plain = Uncertain(denoiser), Denoising(denoiser)
    x0 = Noise(0).normal(torch.empty(5, 3))
    value, t = plain(x0, None, Noise(1)), plain.times(denoiser.process, 5, Noise(1))
    ratio = torch.as_tensor(denoiser.process.sigma(t) / denoiser.process.alpha(t))
    u = loss.uncertainty((0.25 * ratio.log()).float())
    torch.testing.assert_close(loss(x0, None, Noise(1)), value * torch.exp(-u) + u)


def test_recipe_begins_at_unit_loss_and_normalises_before_each_step() -> None:
    """Data of standard deviation sigma_data and a network that says 0: EDM's loss is 1 at every level."""
    recipe = edm2.Recipe(channels=1, widths=(16,), blocks=1, classes=3, mean=-0.8)
    torch.manual_seed(0)
    loss = recipe.objective(recipe.model())
    assert loss.drop == 0.1 and loss.times == LogNormal(-0.8, 1.0) and loss.denoiser.process == EDM()
    x0, label = 0.5 * Noise(0).normal(torch.empty(512, 1, 6, 6)), torch.zeros(512, dtype=torch.int64)
    plain = Denoising(loss.denoiser, loss.times, loss.weight)
    assert float(plain(x0, label, Noise(1)).mean()) == pytest.approx(1.0, abs=0.03)
    with torch.no_grad():
        loss.denoiser.net.enter.weight.mul_(5.0)
        loss.uncertainty.linear.weight.mul_(5.0)
    loss.advance(1)
    for layer in loss.modules():
        if isinstance(layer, MPLayer):
            flat = layer.weight.flatten(1)
            torch.testing.assert_close(flat.square().mean(1), torch.ones(len(flat)), rtol=1e-3, atol=0)
    average = recipe.average(loss.denoiser)
    assert average.exponents == pytest.approx((exponent_of(0.05), exponent_of(0.10)))
    assert edm2.Recipe(channels=1, widths=(8,)).objective(recipe.model()).drop == 0.0
    assert training.PowerEma is PowerEma
