"""ReSample: when it fits what, the law of its resampling, the fits, and what is left of the posterior."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from linear_codec import Coded

import sfumato as sf
from sfumato.denoisers import Counted
from sfumato.operators import Clip, Function, Mask, Matrix
from sfumato.processes import Geometric, LinearBeta, Table
from sfumato.solvers import ReSample
from sfumato.solvers.resample import resampled

QUICK = {"pixel_moves": 60, "latent_moves": 60}


def rows(n, seed=0):
    return sf.Noise(seed).normal(torch.zeros(n, 3).double())


@dataclass(frozen=True)
class Watched(ReSample):
    """Notes when it fits, and where."""

    seen: list = field(default_factory=list)

    def in_pixels(self, m, z0):
        self.seen.append("pixels")
        return super().in_pixels(m, z0)

    def in_latents(self, m, z0):
        self.seen.append("latents")
        return super().in_latents(m, z0)

    def step(self, denoiser, m, xt, t, s, memory, noise):
        self.seen.append(t)
        return super().step(denoiser, m, xt, t, s, memory, noise)


def test_when_it_fits(world, measured):
    """30 steps, every 5th: of those left 20, 15 and 10 in pixels, 5 in latents, and one fit at the end; none at 25."""
    D = Counted(world.denoiser(Table.linear()))
    solver = Watched(30, every=5, **QUICK)
    solver(D, measured, sf.Noise(0))
    fits = [(30 - 1 - sum(isinstance(v, float) for v in solver.seen[: i + 1]) + 1, v)
            for i, v in enumerate(solver.seen) if isinstance(v, str)]  # fmt: skip
    assert fits == [(20, "pixels"), (15, "pixels"), (10, "pixels"), (5, "latents"), (0, "latents")]
    assert D.calls == 30 + 4 * 5
    short = Counted(world.denoiser(Table.linear()))
    ReSample(30, every=2, travel=7, **QUICK)(short, measured, sf.Noise(0))
    assert short.calls == 30 + 7 * 7 + 6 + 4 + 2  # at 20, 18 .. 8 all seven; below, as many as there are levels


def test_the_estimate_that_is_fitted(world):
    """D at the end of travel - 1 steps of DDIM down the levels that follow."""
    D, process = world.denoiser(LinearBeta()), LinearBeta()
    z, levels = rows(2), [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    want = z
    for t, s in pairwise(levels[:3]):
        eps = (want - process.alpha(t) * D(want, t).mean) / process.sigma(t)
        want = process.alpha(s) * D(want, t).mean + process.sigma(s) * eps
    torch.testing.assert_close(ReSample(travel=3).sharpened(D, z, levels), D(want, 0.3).mean, atol=1e-12, rtol=0)
    torch.testing.assert_close(ReSample(travel=1).sharpened(D, z, levels), D(z, 0.5).mean, atol=0, rtol=0)
    assert torch.equal(ReSample(travel=9).sharpened(D, z, levels), ReSample(travel=5).sharpened(D, z, levels))


@pytest.mark.parametrize("process", [LinearBeta(), Geometric()])
def test_resampling_is_a_product_of_normals(process, given):
    """Precisions add; v -> 0 keeps z, v -> inf forgets it."""
    z0, z, n, s = rows(4, 1), rows(4, 2), rows(4, 3), 0.3
    alpha, var, v = process.alpha(s), process.sigma(s) ** 2, 0.7
    precision = 1 / var + 1 / v
    want = (alpha * z0 / var + z / v) / precision + n / math.sqrt(precision)
    torch.testing.assert_close(resampled(process, z0, z, s, v, given(n)), want, atol=1e-12, rtol=0)
    torch.testing.assert_close(resampled(process, z0, z, s, 0.0, given(n)), z, atol=1e-14, rtol=0)
    far = resampled(process, z0, z, s, 1e14, given(n))
    torch.testing.assert_close(far, alpha * z0 + process.sigma(s) * n, atol=1e-10, rtol=0)


def test_v_is_so_many_times_the_variance_of_an_ancestral_step(world, matrix, given):
    """One step with a fit in it: zeta 0, no moves, so that what is resampled is D and DDIM."""
    D, process, t, s = world.denoiser(LinearBeta()), LinearBeta(), 2 / 3, 1 / 3
    m = sf.Measurement(matrix, torch.zeros(4, 2).double(), 0.1)
    solver = ReSample(3, zeta=0.0, every=1, travel=1, spread=7.0, pixel_moves=0, latent_moves=0)
    x, n = rows(4, 4), rows(4, 5)
    assert solver.times(process) == pytest.approx((1.0, t, s, 0.0))
    got, _ = solver.step(D, m, x, t, s, None, given(n))
    alpha_t, alpha_s, var_t, var_s = process.alpha(t), process.alpha(s), process.sigma(t) ** 2, process.sigma(s) ** 2
    ddim = alpha_s * D(x, t).mean + math.sqrt(var_s / var_t) * (x - alpha_t * D(x, t).mean)
    v = 7.0 * var_s / var_t * (1 - alpha_t**2 / alpha_s**2)  # of a process with alpha^2 + sigma^2 = 1
    torch.testing.assert_close(got, resampled(process, D(ddim, s).mean, ddim, s, v, given(n)), atol=1e-12, rtol=0)


def test_the_pull_of_each_step(world, matrix, measured):
    """DDIM - zeta alpha_t^2 grad |y - A D|, the gradient from the Jacobian of D on Gaussian data."""
    D, process, t, s = world.denoiser(LinearBeta()), LinearBeta(), 0.9, 0.8
    x, alpha, var = rows(3, 6), process.alpha(t), process.sigma(t) ** 2
    C = world.covs[0]
    J = alpha * C @ torch.linalg.inv(alpha**2 * C + var * torch.eye(3).double())
    D0 = world.mean + (x - alpha * world.mean) @ J.T
    r = measured.y - D0 @ matrix.A.T
    g = -(r / r.norm(dim=1, keepdim=True)) @ matrix.A @ J
    eps = (x - alpha * D0) / math.sqrt(var)
    want = process.alpha(s) * D0 + process.sigma(s) * eps - 0.25 * alpha**2 * g
    got, _ = ReSample(10, zeta=0.25).step(D, measured, x, t, s, None, sf.Noise(0))
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_the_fit_is_adamw(matrix):
    """As torch has it, row by row."""
    m = sf.Measurement(matrix, torch.tensor([[0.3, -1.0], [2.0, 0.1]]).double(), 0.0)
    got = ReSample().fit(m, rows(2), 1e-2, 37)
    for i in range(2):
        x = rows(2)[i : i + 1].clone().requires_grad_()
        optimizer = torch.optim.AdamW([x], lr=1e-2)
        for _ in range(37):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(x @ matrix.A.T, m.y[i : i + 1]).backward()
            optimizer.step()
        torch.testing.assert_close(got[i : i + 1], x.detach(), atol=1e-9, rtol=0)
    plain = ReSample(decay=0.0).fit(m, rows(2), 1e-2, 37)
    assert float((plain - got).abs().min()) > 1e-5


@pytest.mark.parametrize(("sigma", "tolerance"), [(0.2, 1e-3), (0.0, 0.05)])
def test_a_fit_ends_at_the_noise(sigma, tolerance):
    """The mean square of what was measured, no longer above max(tolerance, sigma)^2 and not far below; a row that fits
    is not moved, one that does not is not held up by it. Numbers that a mask does not see count as none."""
    mask = Mask(torch.tensor([1.0, 1.0, 0.0]))
    y = torch.tensor([[1.0, 2.0, 0.0], [0.4, 0.4, 0.0]]).double()
    m, near = sf.Measurement(mask, y, sigma), torch.tensor([0.4, 0.4 + 0.9 * max(sigma, tolerance), 9.0]).double()
    start = torch.stack([torch.zeros(3).double(), near])
    x = ReSample(decay=0.0, tolerance=tolerance).fit(m, start, 1e-2, 2000)
    level = max(sigma, tolerance)
    rms = float((x[0, :2] - y[0, :2]).square().mean().sqrt())
    assert level - 0.02 < rms < level
    assert torch.equal(x[1], near) and float(x[0, 2]) == 0.0


def test_patience():
    """A fit whose loss climbs goes on for `patience` moves and no more; by default to the last."""
    calls = []

    def backwards(x):
        calls.append(1)
        return 2 * x.detach() - x

    m = sf.Measurement(Function(backwards, (1,)), torch.zeros(2, 1).double(), 0.0)
    x = ReSample(decay=0.0).fit(m, torch.tensor([[1.0], [-2.0]]).double(), 1e-2, 50, patience=8)
    assert len(calls) == 9
    torch.testing.assert_close(x, torch.tensor([[1.08], [-2.08]]).double(), atol=1e-3, rtol=0)
    calls.clear()
    ReSample().fit(m, torch.ones(2, 1).double(), 1e-2, 50)
    assert len(calls) == 50


def test_a_decoder_that_moves_nothing(world, measured):
    """Without a decoder and with the identity the runs are one; with signs turned and numbers exchanged, its mirror."""
    D, process = world.denoiser(LinearBeta()), LinearBeta()
    solver = ReSample(12, every=2, **QUICK)
    plain = solver(D, measured, sf.Seeds(range(3)))
    same = solver(D, measured.to_model(Coded(torch.eye(3).double())), sf.Seeds(range(3)))
    torch.testing.assert_close(plain, same, atol=1e-10, rtol=0)
    W = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).double()

    class Turned(sf.Seeds):
        def normal(self, like):
            return super().normal(like) @ W

    mirrored = sf.GaussianWorld(world.mean @ W, W.T @ world.covs[0] @ W)
    turned = solver(mirrored.denoiser(process), measured.to_model(Coded(W)), Turned(range(3)))
    torch.testing.assert_close(turned @ W.T, plain, atol=1e-9, rtol=0)


def test_pixels_are_pixels():
    """The fit in pixels moves the picture, not the code: a decoder that stretches shows the difference."""
    W = torch.diag(torch.tensor([10.0, 1.0, 1.0])).double()
    m = sf.Measurement(Mask(torch.tensor([1.0, 1.0, 0.0])), torch.ones(1, 3).double(), 0.0).to_model(Coded(W))
    solver = ReSample(pixel_moves=3, latent_moves=3, pixel_lr=0.01, latent_lr=0.005, decay=0.0)
    z = torch.zeros(1, 3).double()
    # The first moves of Adam are of the size of its rate, in the space that it works in.
    torch.testing.assert_close(solver.in_pixels(m, z), torch.tensor([[0.003, 0.03, 0.0]]).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(solver.in_latents(m, z), torch.tensor([[0.015, 0.015, 0.0]]).double(), atol=1e-4, rtol=0)


def unseen(process, solver, c, n):
    """Variance, at each step, of a number of prior N(0, c) that the measurement does not touch: DDIM, and now and then
    D after `travel` calls, noised by the product law."""

    def gain(t):
        return process.alpha(t) * c / (process.alpha(t) ** 2 * c + process.sigma(t) ** 2)

    def ddim(t, s):
        ratio = process.sigma(s) / process.sigma(t)
        return process.alpha(s) * gain(t) + ratio * (1 - process.alpha(t) * gain(t))

    times, var = solver.times(process), process.sigma(1.0) ** 2
    for i, (t, s) in enumerate(pairwise(times)):
        var *= ddim(t, s) ** 2
        left = n - i - 1
        if left % solver.every == 0 and 0 < left <= n - n // 3:
            path, k = times[i + 1 :], 1.0
            for a, b in pairwise(path[: min(solver.travel, left)]):
                k *= ddim(a, b)
            k *= gain(path[min(solver.travel, left) - 1])
            w, q = process.sigma(s) ** 2, process.sigma(s) ** 2 * (1 - (process.alpha(t) * process.sigma(s)
                    / (process.alpha(s) * process.sigma(t))) ** 2)  # fmt: skip
            v = solver.spread * q
            var = ((v * process.alpha(s) * k + w) / (v + w)) ** 2 * var + v * w / (v + w)
    return var


def test_what_it_leaves_of_the_posterior():
    """The seen number ends at y, to its noise; the unseen one, whose posterior is its prior N(0, 0.5), keeps the
    variance that the recursion says, less than the truth: the estimates that are resampled are means."""
    world = sf.GaussianWorld(torch.zeros(2).double(), 0.5 * torch.eye(2).double())
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[0.8, 0.0]]).double(), 0.05)
    solver = ReSample(40, every=4, decay=0.0, pixel_moves=99, latent_moves=199, pixel_lr=0.03, latent_lr=0.03)
    process, n = Table.linear(), 4000
    x = solver(world.denoiser(process), m.repeat(n), sf.Noise(0))
    assert float((x[:, 0] - 0.8).abs().max()) < 0.05
    want = unseen(process, solver, 0.5, 40)
    assert float(x[:, 1].mean()) == pytest.approx(0.0, abs=4 * math.sqrt(want / n))
    assert float(x[:, 1].var()) == pytest.approx(want, rel=4 * math.sqrt(2 / n))
    assert want < 0.45
    assert float(world.posterior(m).cov[1, 1]) == pytest.approx(0.5)


def test_a_measurement_of_nothing_is_fitted_by_all(world):
    """A = 0: no pull, no moves; as many steps as there are and no resampling, it is DDIM."""
    D, nothing = world.denoiser(LinearBeta()), Matrix(torch.zeros(2, 3).double())
    m = sf.Measurement(nothing, torch.zeros(3, 2).double(), 0.1)
    times = ReSample(10).times(D.process)
    got = ReSample(10, every=11)(D, m, sf.Seeds(range(3)))
    x1 = sf.Seeds(range(3)).normal(torch.zeros(3, 3).double())
    want = sf.sample(D, sf.samplers.DDIM(), x1=x1, times=times, noise=sf.Noise(0))
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_a_nonlinear_operator(world):
    """Clipped numbers: what is not clipped fits, what is clipped lies beyond."""
    W = torch.linalg.qr(rows(3, 8))[0]
    y = torch.tensor([[0.4, 1.0, -0.2]]).double()
    m = sf.Measurement(Clip(gain=1.0), y, 0.01).to_model(Coded(W))
    solver = ReSample(30, every=5, decay=0.0)
    x = solver(world.denoiser(Table.linear()), m, sf.Noise(1)) @ W.T
    assert float(m.operator.outer(x).sub(y).square().mean()) < 0.01**2


def test_settings_batches_and_errors(world, measured, alone):
    S = ReSample()
    assert (S.steps, S.zeta, S.every, S.travel, S.spread, S.decay, S.patience) == (500, 0.5, 10, 5, 40.0, 0.01, 200)
    assert (S.pixel_moves, S.latent_moves, S.pixel_lr, S.latent_lr, S.tolerance) == (2000, 500, 1e-2, 5e-3, 1e-3)
    assert S.times(Table.linear())[:2] == (1.0, 0.998)
    W = torch.linalg.qr(rows(3, 9))[0]
    alone(ReSample(12, every=2, **QUICK), world.denoiser(LinearBeta()), measured.to_model(Coded(W)))
    for name in ("every", "travel", "patience"):
        with pytest.raises(ValueError, match="every, travel and patience are at least 1, got"):
            ReSample(**{name: 0})
    with pytest.raises(FloatingPointError, match="ReSample diverged at step"):
        ReSample(4, zeta=1e308)(world.denoiser(LinearBeta()), measured, sf.Noise(0))
