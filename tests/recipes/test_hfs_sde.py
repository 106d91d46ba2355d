"""HFS-SDE: noise in the outer columns of k-space alone, the exact denoiser there, and the published reconstruction."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import sfumato as sf
from sfumato.denoisers import Denoiser, Preconditioned, predict_eps
from sfumato.denoisers.kept_band import KeptBand
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.operators import SENSE, Fourier, kspace
from sfumato.operators.sense import birdcage
from sfumato.processes import Anchored, HighBand, LinearBeta, entry
from sfumato.recipes.hfs_sde import InHighBand, Lines, Recipe, Reconstruction
from sfumato.samplers import DDIM, Ancestral, sample
from sfumato.zoo import defaults

H, W, LOW = 4, 8, 2
HIGH = torch.tensor([1, 1, 1, 0, 0, 1, 1, 1]).double()  # columns of k-space outside the middle two
POWER = torch.tensor([0.02, 0.1, 0.3, 1.0, 2.0, 0.5, 0.2, 0.05]).double()  # of each part of a column's coefficients
PROCESS = Recipe(lines=LOW).process()


def fourier(x: Tensor) -> Tensor:
    """(B, H, W) complex of (B, 2, H, W), written out: centred, and unitary."""
    z = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), dim=(1, 2))
    return torch.fft.fftshift(torch.fft.fft2(z), dim=(1, 2)) / math.sqrt(x.shape[2] * x.shape[3])


def image(k: Tensor) -> Tensor:
    z = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, dim=(1, 2))), dim=(1, 2))
    z = z * math.sqrt(k.shape[1] * k.shape[2])
    return torch.stack([z.real, z.imag], 1)


def normal(n: int, seed: int = 0) -> Tensor:
    return Noise(seed).normal(torch.empty(n, 2, H, W, dtype=torch.float64))


def data(n: int, seed: int = 0) -> Tensor:
    """Images whose coefficients are independent with variances POWER."""
    return image(fourier(normal(n, seed)) * POWER.sqrt())


class Wiener(Denoiser):
    """E[x_0 | x_t] of `data`, column by column: what the network should learn. Nonsense in the low band."""

    def __init__(self, process: object, known: Tensor | None = None, seen: Tensor | None = None) -> None:
        super().__init__()
        self.process, self.known, self.seen = process, known, seen

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        a, s = LinearBeta().alpha(t), LinearBeta().sigma(t)
        k = fourier(xt) * a * POWER / (a * a * POWER + s * s)
        k = torch.where(HIGH > 0, k, 7.0 + 0j)
        if self.seen is not None:
            k = torch.where(self.seen, fourier(self.known), k)
        return Estimate(image(k))


def exact(**known: Tensor) -> KeptBand:
    return InHighBand(Wiener(LinearBeta(), **known), PROCESS)


def test_the_band_is_a_projection_on_the_middle_columns() -> None:
    low, x, z = Lines(LOW), normal(3), normal(3, 1)
    assert torch.allclose(low(x), image(fourier(x) * (1 - HIGH)), atol=1e-12)
    assert torch.allclose(low(low(x)), low(x), atol=1e-12)
    assert torch.allclose((low(x) * z).sum(), (x * low(z)).sum(), atol=1e-12)
    assert torch.equal(Lines(0)(x), torch.zeros_like(x)) and torch.allclose(Lines(W)(x), x, atol=1e-12)
    # the middle columns of the masks
    for width in (7, 8):
        mask = kspace.columns((H, width), Noise(0), acceleration=width / 3, centre=3 / width)
        assert torch.equal(Lines(3).mask(torch.zeros(1, width))[0], mask[0].float())
    pair = torch.cat([x, z], 1)
    assert torch.allclose(low(pair), torch.cat([low(x), low(z)], 1))
    with pytest.raises(ValueError, match="two channels"):
        low(x[:, :1])
    with pytest.raises(ValueError, match="at least 0"):
        Lines(-1)


def test_the_marginal_is_that_of_the_simulated_equation() -> None:
    """dx = -beta / 2 P x dt + sqrt(beta) P dw, 200 steps: low band of x_0, alpha x_0 and sigma^2 outside."""
    n, t, steps = 500, 0.6, 200
    x0 = data(1)
    x, noise = x0.expand(n, -1, -1, -1), Noise(2)

    def P(x: Tensor) -> Tensor:
        return image(fourier(x) * HIGH)

    for i in range(steps):
        beta = 0.1 + (i + 0.5) / steps * t * 19.9
        x = x - 0.5 * beta * P(x) * t / steps + math.sqrt(beta * t / steps) * P(noise.normal(x))
    law = PROCESS.marginal(x0.expand(n, -1, -1, -1), t)
    drawn = law.sample(Noise(3))
    for states in (x, drawn):
        gap = fourier(states) - fourier(law.mean[:1])
        variance = gap.abs().square().mean((0, 1)) / 2
        assert float(gap.abs()[..., HIGH == 0].max()) < 1e-12
        assert torch.allclose(gap.mean((0, 1)).abs(), torch.zeros(W).double(), atol=4 / math.sqrt(n * H))
        want = PROCESS.sigma(t) ** 2
        assert torch.allclose(variance[HIGH > 0], torch.tensor(want).double(), rtol=4 / math.sqrt(n * H) + 0.01)
    a = math.exp(-0.5 * (0.1 * t + 0.5 * 19.9 * t * t))
    want = fourier(x0) * torch.where(HIGH > 0, a, 1.0)
    assert torch.allclose(fourier(law.mean[:1]), want, atol=1e-12)


def test_two_moves_are_one_and_the_low_band_stays() -> None:
    x0, z = data(2), normal(2, 1)
    t, s = 0.3, 0.7
    first = PROCESS.marginal(x0, t)
    then = PROCESS.forward(first.mean, t, s)
    whole = PROCESS.marginal(x0, s)
    assert torch.allclose(then.mean, whole.mean, atol=1e-12)
    r = LinearBeta().alpha(s) / LinearBeta().alpha(t)
    assert float(then.std) ** 2 + r**2 * float(first.std) ** 2 == pytest.approx(float(whole.std) ** 2)
    xt = PROCESS.perturb(x0, t, z)
    # perturbed with P z, which `eps` finds again
    assert torch.allclose(PROCESS.eps(xt, x0, t), PROCESS.high(z), atol=1e-12)
    D = exact()
    moved = (
        PROCESS.forward(xt, t, s).sample(Noise(1)),
        PROCESS.reverse(D(xt, t), xt, t, 0.1).sample(Noise(1)),
        PROCESS.marginal(x0, s).sample(Noise(1)),
        D(xt, t).mean,
    )
    for x in moved:
        assert torch.allclose(PROCESS.low(x), PROCESS.low(x0), atol=1e-12)
    for still in (PROCESS.score(xt, D(xt, t).mean, t), PROCESS.velocity(xt, D(xt, t).mean, t)):
        assert float(PROCESS.low(still).abs().max()) < 1e-12
    times = torch.tensor([0.3, 0.7]).double()
    both = PROCESS.marginal(x0, times)
    assert torch.allclose(both.mean[1], whole.mean[1], atol=1e-12)
    assert torch.allclose(both.std.flatten(), PROCESS.sigma(times), atol=1e-12)
    assert torch.equal(PROCESS.reverse(D(xt, t), xt, t, t).sample(Noise(0)), xt)
    with pytest.raises(ValueError, match="no density"):
        first.log_prob(x0)
    with pytest.raises(ValueError, match="no density"):
        first.kl(whole)


def test_the_shift_moves_as_its_rate_says() -> None:
    x, h = data(1), 1e-6
    numeric = (PROCESS.shift(0.4 + h, x) - PROCESS.shift(0.4 - h, x)) / (2 * h)
    assert torch.allclose(PROCESS.shift_rate(0.4, x), numeric, atol=1e-7)
    assert PROCESS.time_of(PROCESS.log_snr(0.3)) == pytest.approx(0.3)
    assert PROCESS.log_snr(0.3) == LinearBeta().log_snr(0.3)
    # velocity: between the states of one x_0 and one eps
    eps = normal(1, 3)
    numeric = (PROCESS.perturb(x, 0.4 + h, eps) - PROCESS.perturb(x, 0.4 - h, eps)) / (2 * h)
    assert torch.allclose(PROCESS.velocity(PROCESS.perturb(x, 0.4, eps), x, 0.4), numeric, atol=1e-7)


def test_without_a_low_band_it_is_vp() -> None:
    plain, ours = LinearBeta(), Recipe(lines=0).process().bind(torch.zeros(4, 2, H, W))
    times = sf.grids.uniform(6)
    for how in (DDIM(), Ancestral()):
        runs = [
            sample(D, how, shape=(4, 2, H, W), times=times, noise=Noise(5))
            for D in (Vp(plain), KeptBand(Vp(plain), ours))
        ]
        assert torch.allclose(*runs, atol=1e-6)


class Vp(Denoiser):
    """E[x_0 | x_t] of N(0.5, 0.3) under VP."""

    def __init__(self, process: LinearBeta) -> None:
        super().__init__()
        self.process = process

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        a, s = self.process.alpha(t), self.process.sigma(t)
        return Estimate(0.5 + a * 0.3 / (a * a * 0.3 + s * s) * (xt - a * 0.5))


def test_the_best_denoiser_filters_each_frequency() -> None:
    """Against linear-Gaussian conditioning with dense matrices: x_t = M x_0 + sigma P eps."""
    d, t = 2 * H * W, 0.35
    eye = torch.eye(d).double().reshape(d, 2, H, W)
    root = image(fourier(eye) * POWER.sqrt()).reshape(d, d)  # symmetric
    C, P = root @ root, PROCESS.high(eye).reshape(d, d)
    a, s = PROCESS.alpha(t), PROCESS.sigma(t)
    M = torch.eye(d).double() - P + a * P
    S = M @ C @ M.T + s * s * P
    xt = PROCESS.perturb(data(3), t, normal(3, 1))
    want = (C @ M.T @ torch.linalg.solve(S, xt.reshape(3, d).T)).T.reshape(xt.shape)
    assert torch.allclose(exact()(xt, t).mean, want, atol=1e-10)


def test_draws_given_some_columns_are_exact() -> None:
    """Given the low band and two more columns without noise, the conditional denoiser knows these, and DDIM takes each
    other coefficient from 1 to its own factor: by hand, x_s = alpha_s D + sigma_s (x_t - alpha_t D) / sigma_t."""
    truth = data(1)
    seen = torch.tensor([0, 1, 0, 0, 0, 0, 1, 0]).bool()
    times = sf.grids.log_snr(LinearBeta(), 60)
    n = 50
    known = truth.expand(n, -1, -1, -1)
    D = exact(known=known, seen=seen).given(known)
    start = D.process.prior(known).sample(Noise(4))
    drawn = fourier(sample(D, DDIM(), x1=start, times=times, noise=Noise(5)))
    factor = torch.ones(W).double()
    for t, u in pairwise(times):
        a, b, s, r = (f(v) for v in (t, u) for f in (LinearBeta().alpha, LinearBeta().sigma))
        gain = a * POWER / (a * a * POWER + b * b)
        factor = factor * (s * gain + r * (1 - a * gain) / b)
    free = (HIGH > 0) & ~seen
    assert torch.allclose(drawn[..., free], (fourier(start) * factor)[..., free], atol=1e-9)
    assert torch.allclose(drawn[..., ~free], fourier(known)[..., ~free], atol=1e-6)
    assert torch.allclose(factor[free] ** 2, POWER[free], rtol=0.1)


def test_the_prior_starts_at_the_known_band() -> None:
    x0 = data(3)
    with pytest.raises(ValueError, match="no low band"):
        PROCESS.prior(x0)
    bound = PROCESS.bind(x0)
    law = bound.prior(torch.zeros_like(x0))
    assert torch.allclose(law.mean, PROCESS.low(x0), atol=1e-12) and law.std == 1.0
    assert PROCESS.bind(None) is PROCESS and bound.bind(normal(3)) is bound
    read = HighBand(LinearBeta(), Lines(LOW), read=entry("image")).bind({"image": x0})
    assert torch.equal(read.seen, x0)
    # the part of an inner mean that lies in the low band is not the process's
    lifted = HighBand(Anchored(LinearBeta(), normal(3, 9)), Lines(LOW), x0)
    assert torch.allclose(PROCESS.low(lifted.prior(x0).mean), PROCESS.low(x0), atol=1e-12)


def test_what_the_network_says_of_the_low_band_is_ignored() -> None:
    """The loss is |P (eps_hat - eps)|^2, and the low band of the network's output has no gradient."""
    recipe = Recipe(widths=(8,), lines=LOW, blocks=1)
    D = recipe.model()
    out = torch.zeros(64, 2, H, W, requires_grad=True)
    seen = []

    class Says(torch.nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: object) -> Tensor:
            seen.append(u)
            return out

    D.inner.net = Says()
    x0 = data(64).float()
    objective = recipe.objective(D)
    loss = objective(x0, None, Noise(0))
    share = float(HIGH.mean())
    assert float(loss.detach().mean()) == pytest.approx(share, rel=4 * math.sqrt(2 / (x0.numel() * share)))
    (grad,) = torch.autograd.grad(loss.sum(), out)
    assert float(PROCESS.low(grad).abs().max()) < 1e-6 < float(PROCESS.high(grad).abs().min(0)[0].max())
    # it sees the low band as it is
    assert torch.allclose(PROCESS.low(seen[0]), PROCESS.low(x0), atol=1e-5)
    assert isinstance(D.inner, Preconditioned) and D.inner.scheme is predict_eps
    t = objective.times(recipe.process(), 1000, Noise(0))
    assert 1e-5 <= float(t.min()) < 0.01 and float(t.max()) > 0.99


def measured(n: int = 1, sigma: float = 0.0) -> tuple[Tensor, sf.Measurement]:
    mask = torch.tensor([1, 0, 1, 1, 1, 0, 0, 1]).expand(H, W)
    operator = Fourier(mask, complex_valued=True)
    x0 = data(n, 7)
    return x0, sf.Measurement.simulate(operator, x0, sigma=sigma, noise=Noise(8))


@pytest.mark.parametrize(("t", "s"), [(0.8, 0.7), (0.05, 0.0)])
def test_one_step_is_the_paper_s(t: float, s: float) -> None:
    """Both moves written out in k-space: score of the exact denoiser, G rescaled, projected noise, none at the end."""
    _, m = measured(2)
    x = PROCESS.perturb(data(2, 3), t, normal(2, 4))
    got, _ = Reconstruction(weight=2.5, corrector_weight=0.1, snr=0.16).step(exact(), m, x, t, s, None, Noise(6))
    mask = torch.tensor([1, 0, 1, 1, 1, 0, 0, 1]).double()
    y = torch.complex(m.y[:, 0, 0], m.y[:, 0, 1])
    a = math.exp(-0.5 * (0.1 * t + 9.95 * t * t))
    noise, k, beta = Noise(6), fourier(x), 0.1 + t * 19.9

    def norm(v: Tensor) -> Tensor:
        return v.abs().square().sum((1, 2), keepdim=True).sqrt()

    def pull(k: Tensor, w: float) -> tuple[Tensor, Tensor]:
        score = -HIGH * k / (a * a * POWER + 1 - a * a)
        G = mask * k - y
        return score, score - w * G / norm(G) * norm(score)

    score, move = pull(k, 0.1)
    z = fourier(noise.normal(x))
    e = 2 * (0.16 * norm(z) / norm(score)) ** 2
    k = k + e * move + (2 * e).sqrt() * HIGH * z
    _, move = pull(k, 2.5)
    k = k + 0.5 * beta * HIGH * k * (t - s) + beta * move * (t - s)
    if s > 0:
        k = k + math.sqrt(beta * (t - s)) * HIGH * fourier(noise.normal(x))
    assert torch.allclose(fourier(got), k, atol=1e-9)


def test_no_corrector_and_no_misfit() -> None:
    """snr = 0 leaves the corrector out; where A x = y nothing is divided by 0, and no noise is drawn in vain."""
    x0, m = measured()
    t, s = 0.5, 0.0
    D, noise = exact(), Noise(6)
    x, _ = Reconstruction(snr=0.0).step(D, m, x0, t, s, None, noise)
    score = PROCESS.score(x0, D(x0, t).mean, t)
    f, g = PROCESS.sde(t)
    assert torch.allclose(x, x0 + (g**2 * score - f * PROCESS.high(x0)) * (t - s), atol=1e-6)
    assert torch.equal(noise.normal(x0), Noise(6).normal(x0))


def test_a_reconstruction_keeps_the_measured_band_and_is_pulled_to_the_measured_columns() -> None:
    x0, m = measured(6)
    error = []
    for weights in ((2.5, 0.1), (0.0, 0.0)):
        x = Reconstruction(50, *weights)(exact(), m, Seeds(range(6)))
        assert torch.allclose(PROCESS.low(x), PROCESS.low(x0), atol=1e-6)
        error.append(float(fourier(x - x0).abs().square().mean((0, 1))[2]))
    assert error[0] < 0.1 * error[1]
    alone = Reconstruction(50)(exact(), m.rows([2]), Seeds([2]))
    assert torch.allclose(alone, Reconstruction(50)(exact(), m, Seeds(range(6)))[2:3], atol=1e-9)


def test_it_starts_at_the_image_of_the_middle_columns() -> None:
    x0, m = measured(3, sigma=0.1)
    start = Reconstruction().start(exact(), m, 1.0, Noise(1))
    y = torch.complex(m.y[:, 0, 0], m.y[:, 0, 1])
    assert torch.allclose(fourier(start)[..., HIGH == 0], y[..., HIGH == 0], atol=1e-12)
    high = PROCESS.high(normal(3, 1)) * LinearBeta().sigma(1.0)
    assert torch.allclose(PROCESS.high(start), high, atol=1e-12)
    # several coils: their images of the middle columns, weighted by the conjugate of the sensitivities and added
    maps = birdcage((H, W), 3)
    coils = SENSE(maps, torch.ones(H, W), complex_valued=True)
    mc = sf.Measurement(coils, coils(x0), 0.0)
    start = Reconstruction().start(exact(), mc, 1.0, Noise(1))
    seen = torch.zeros(3, 2, H, W).double()
    for S in maps:
        each = torch.complex(x0[:, 0], x0[:, 1]) * S
        low = image(fourier(torch.stack([each.real, each.imag], 1)) * (1 - HIGH))
        z = torch.complex(low[:, 0], low[:, 1]) * S.conj()
        seen = seen + torch.stack([z.real, z.imag], 1)
    assert torch.allclose(start - high, seen, atol=1e-6)
    with pytest.raises(TypeError, match="needs a denoiser of hfs-sde"):
        Reconstruction().start(Vp(LinearBeta()), m, 1.0, Noise(1))
    with pytest.raises(TypeError, match="needs a denoiser of hfs-sde"):
        Reconstruction().start(KeptBand(Vp(LinearBeta()), HighBand(LinearBeta(), torch.zeros_like)), m, 1.0, Noise(1))


def test_settings() -> None:
    process = Recipe().process()
    assert process.inner == LinearBeta(0.1, 20.0) and process.low == Lines(16)
    times = Reconstruction(5).times(process)
    assert times[0] == 1.0 and times[-2:] == (1e-3, 0.0) and len(times) == 6
    assert Reconstruction(1).times(process) == (1.0, 0.0)
    assert Reconstruction.accelerated() == Reconstruction(100, 2.5, 0.1, 0.32)
    assert Recipe().solver() == Reconstruction(1000, 2.5, 0.1, 0.16)
    _, m = measured()
    D = Recipe(widths=(8,), blocks=1).model()
    assert defaults.solver(m, steps=7, denoiser=D)[0] == Reconstruction(7)
    real = sf.Measurement(Fourier(torch.ones(H, W)), torch.zeros(1, 1, 2, H, W), 0.0)
    assert D.restoring(real) is None
    assert D.restoring(sf.Measurement(sf.operators.Identity(), torch.zeros(1, 2, H, W), 0.0)) is None
