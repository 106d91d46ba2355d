"""The worlds that everything else is tested against, tested against what they are made of."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from worlds_for_tests import (
    ANCHOR,
    DIM,
    PROCESSES,
    SCALE,
    close,
    diagonal_world,
    full_world,
    mixture_world,
    normal,
    point_world,
    tensor,
)

from sfumato.noise import Noise
from sfumato.operators import Identity, Mask, Matrix, Measurement
from sfumato.operators.base import Function
from sfumato.processes import Anchored, Discrete, Gaussian, LinearBeta, Rectified, entry
from sfumato.worlds import GaussianWorld, MixtureWorld, TableWorld, WorldDenoiser, autoregressive

every = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
WORLDS = {"full": full_world(), "mixture": mixture_world()}
worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS.keys())


def density(world: MixtureWorld, process: Gaussian, x: Tensor, t: float) -> Tensor:
    """log p_t(x) from torch.distributions, (B,)."""
    alpha, sigma = process.alpha(t), torch.as_tensor(process.sigma(t), dtype=x.dtype).expand(1, DIM)[0]
    shift = torch.as_tensor(process.shift(t, x), dtype=x.dtype).expand(1, DIM)[0]
    parts = torch.distributions.MultivariateNormal(
        alpha * world.means + shift, alpha**2 * world.covs + torch.diag(sigma**2)
    )
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(world.weights), parts)
    return mixture.log_prob(x)


def slope_of_mean(denoiser: WorldDenoiser, x: Tensor, t: float) -> Tensor:
    """dD/dx at one state, (d, d)."""
    return torch.autograd.functional.jacobian(lambda v: denoiser(v[None], t).mean[0], x)


@worlds
@every
def test_density_score_and_denoiser_agree(world: MixtureWorld, process: Gaussian) -> None:
    """log p_t is that of the convolution; its gradient is the marginal's score and, by Tweedie, the denoiser's."""
    for t in (0.1, 0.5, 0.9):
        at = world.marginal(process, t)
        x = at.sample(5, Noise(0)).requires_grad_()
        log_p = density(world, process, x, t)
        close(at.log_prob(x.detach()), log_p.detach(), 1e-10)
        (score,) = torch.autograd.grad(log_p.sum(), x)
        x = x.detach()
        close(at.score(x), score, 1e-8)
        sigma = torch.as_tensor(process.sigma(t))
        close(process.score(x, world.denoiser(process)(x, t).mean, t) * sigma**2, score * sigma**2, 1e-9)


def test_score_is_the_finite_difference_of_the_density() -> None:
    world, x, h = mixture_world(), normal(4, DIM), 1e-5
    for i in range(DIM):
        step = h * torch.eye(DIM, dtype=torch.float64)[i]
        close(world.score(x)[:, i], (world.log_prob(x + step) - world.log_prob(x - step)) / (2 * h), 1e-8)


@worlds
@every
def test_jacobian_of_the_denoiser_is_the_covariance(world: MixtureWorld, process: Gaussian) -> None:
    """Second-order Tweedie: Cov[x_0 | x_t] = sigma^2 / alpha dD/dx_t, rows scaled where sigma is elementwise."""
    denoiser = world.denoiser(process)
    for t in (0.15, 0.5, 0.8):
        x = world.marginal(process, t).sample(3, Noise(1))
        jacobian = torch.stack([slope_of_mean(denoiser, row, t) for row in x])
        sigma = torch.as_tensor(process.sigma(t), dtype=x.dtype).expand(1, DIM)
        cov = world.covariance(x, t, process)
        close(cov, jacobian * sigma[:, None, :] ** 2 / process.alpha(t), 1e-7)
        close(denoiser(x, t).var, cov.diagonal(dim1=1, dim2=2), 1e-8)


@every
def test_total_expectation_and_variance(process: Gaussian) -> None:
    """For a normal D is affine: E[D] = D(E[x_t]) = m and C = E Cov[x_0 | x_t] + J Cov[x_t] J^T, exactly."""
    world = full_world()
    denoiser = world.denoiser(process)
    for t in (0.0, 0.3, 1.0):
        at = world.marginal(process, t)
        close(denoiser(at.mean[None], t).mean[0], world.mean)
        J = slope_of_mean(denoiser, at.mean, t)
        kept = world.covariance(at.mean[None], t, process)[0]
        close(kept + J @ at.cov @ J.T, world.cov, 1e-10)


def test_total_expectation_of_a_mixture() -> None:
    world, process, n = mixture_world(), Rectified(), 40_000
    at = world.marginal(process, 0.5)
    x = at.sample(n, Noise(0))
    estimate = world.denoiser(process)(x, 0.5)
    error = 4 * (world.cov.diagonal() / n).sqrt()
    assert bool(((estimate.mean.mean(0) - world.mean).abs() < error).all())
    total = estimate.var.mean(0) + estimate.mean.var(0)
    assert bool(((total - world.cov.diagonal()).abs() < 4 * error * world.cov.diagonal().sqrt()).all())


def test_samples_have_the_moments() -> None:
    for world in (*WORLDS.values(), diagonal_world()):
        n = 40_000
        x = world.sample(n, Noise(0))
        assert bool(((x.mean(0) - world.mean).abs() <= 4 * (world.cov.diagonal() / n).sqrt() + 1e-12).all())
        error = 4 * 2 * world.cov.diagonal().max() / n**0.5
        assert float((torch.cov(x.T) - world.cov).abs().max()) < error


def test_moments_of_a_mixture_by_hand() -> None:
    """Half at -1 with variance 1, half at 3 with variance 5: mean 1, variance 3 + 4. Weights are made to sum to one."""
    world = MixtureWorld(tensor(2, 2), tensor(-1, 3).reshape(2, 1), tensor(1, 5).reshape(2, 1, 1))
    close(world.weights, 0.5)
    close(world.mean, 1.0)
    close(world.cov, 7.0)


def test_points_of_mass_are_a_softmax_over_the_data() -> None:
    data = normal(6, DIM, seed=5)
    world = MixtureWorld(torch.ones(6, dtype=torch.float64), data, torch.zeros(6, DIM, DIM, dtype=torch.float64))
    process, x = LinearBeta(), normal(4, DIM, seed=6)
    for t in (0.2, 0.6):
        distance = ((x[:, None] - process.alpha(t) * data) ** 2).sum(2)
        r = torch.softmax(-0.5 * distance / process.sigma(t) ** 2, 1)
        estimate = world.denoiser(process)(x, t)
        close(estimate.mean, r @ data, 1e-10)
        close(estimate.var, r @ data**2 - (r @ data) ** 2, 1e-10)


@pytest.mark.parametrize("world", [*WORLDS.values(), diagonal_world(), point_world()])
@every
def test_the_ends(world: MixtureWorld, process: Gaussian) -> None:
    """Without noise D is x_0 itself, without signal it is the prior mean."""
    denoiser, x0 = world.denoiser(process), world.sample(3, Noise(2))
    if process._level(0.0) == 0.0:
        x = process.marginal(x0, 0.0).mean
        close(denoiser(x, 0.0).mean, x0)
        close(denoiser(x, 0.0).var, 0.0)
    if process.log_snr(1.0) == -math.inf:
        close(denoiser(x0, 1.0).mean, world.mean)
        close(denoiser(x0, 1.0).var, world.cov.diagonal())


@every
def test_times_for_each_sample(process: Gaussian) -> None:
    world = mixture_world()
    denoiser, x, t = world.denoiser(process), normal(4, DIM), tensor(0.1, 0.4, 0.7, 0.9)
    estimate, cov = denoiser(x, t), world.covariance(x, t, process)
    for i in range(4):
        alone = denoiser(x[i : i + 1], float(t[i]))
        close(estimate.mean[i], alone.mean[0])
        close(estimate.var[i], alone.var[0])
        close(cov[i], world.covariance(x[i : i + 1], float(t[i]), process)[0])


def test_any_event_shape() -> None:
    flat = full_world()
    world = GaussianWorld(flat.means.reshape(1, 3, 1), flat.covs[0])
    assert world.event == (1, 3, 1) and world.mean.shape == (1, 3, 1)
    process, x = LinearBeta(), normal(4, 1, 3, 1)
    for t in (0.3, tensor(0.2, 0.4, 0.6, 0.8)):
        a, b = world.denoiser(process)(x, t), flat.denoiser(process)(x.reshape(4, 3), t)
        close(a.mean.reshape(4, 3), b.mean)
        close(a.var.reshape(4, 3), b.var)
    close(world.log_prob(x), flat.log_prob(x.reshape(4, 3)))
    close(world.score(x).reshape(4, 3), flat.score(x.reshape(4, 3)))
    close(world.flow(x, 0.8, 0.2, process).reshape(4, 3), flat.flow(x.reshape(4, 3), 0.8, 0.2, process))
    assert world.sample(5, Noise(0)).shape == (5, 1, 3, 1)
    assert world.marginal(process, 0.5).event == (1, 3, 1)


def test_the_state_keeps_its_dtype() -> None:
    estimate = full_world().denoiser(LinearBeta())(normal(2, DIM).float(), 0.5)
    assert estimate.mean.dtype == estimate.var.dtype == torch.float32


def test_one_scale_for_the_whole_batch() -> None:
    process = Anchored(Rectified(), ANCHOR, SCALE.repeat(2, 1))
    with pytest.raises(ValueError, match="one elementwise scale for the whole batch"):
        full_world().denoiser(process)(normal(2, DIM), 0.5)


def test_the_denoiser_binds_an_anchor() -> None:
    world, x = mixture_world(), normal(2, DIM)
    loose = Anchored(LinearBeta(), read=entry("y"))
    bound = world.denoiser(Anchored(LinearBeta(), ANCHOR))(x, 0.5).mean
    close(world.denoiser(loose)(x, 0.5, {"y": ANCHOR}).mean, bound, 0.0)
    given = world.denoiser(loose).given({"y": ANCHOR})
    close(given(x, 0.5).mean, bound, 0.0)
    close(given.process.shift(0.5, x), Anchored(LinearBeta(), ANCHOR).shift(0.5, x), 0.0)


@pytest.mark.parametrize(
    ("weights", "means", "covs"), [((2,), (2, 3), (2, 3, 2)), ((3,), (2, 3), (2, 3, 3)), ((2,), (2, 3), (1, 3, 3))]
)
def test_shapes_of_a_mixture(weights: tuple, means: tuple, covs: tuple) -> None:
    with pytest.raises(ValueError, match=r"a mixture is weights \(K,\), means \(K, d\), covs \(K, d, d\); got"):
        MixtureWorld(torch.ones(weights), torch.ones(means), torch.ones(covs))


def test_the_event_has_the_numbers_of_the_means() -> None:
    with pytest.raises(ValueError, match=r"an event of shape \(2, 2\) has 4 numbers, the means have 3"):
        MixtureWorld(torch.ones(1), torch.ones(1, 3), torch.eye(3)[None], (2, 2))


# The posterior


def brute_force(world: MixtureWorld, A: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Posterior mean and covariance from the joint normal of (x, A x + n) of each component, by torch.distributions."""
    means, covs, evidence = [], [], []
    for m, C in zip(world.means, world.covs):
        S = A @ C @ A.T + sigma**2 * torch.eye(len(A), dtype=C.dtype)
        gain = torch.linalg.lstsq(S, A @ C, driver="gelsd").solution.T
        means.append(m + gain @ (y - A @ m))
        covs.append(C - gain @ A @ C)
        evidence.append(torch.distributions.MultivariateNormal(A @ m, S).log_prob(y))
    w = torch.softmax(world.weights.log() + torch.stack(evidence), 0)
    m, C = torch.stack(means), torch.stack(covs)
    mean = w @ m
    return mean, torch.einsum("k,kij->ij", w, C + m[:, :, None] * m[:, None, :]) - mean[:, None] * mean


A = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.8, -1.0]], dtype=torch.float64)


@worlds
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_posterior_is_joint_gaussian_conditioning(world: MixtureWorld, sigma: float) -> None:
    y = tensor(0.7, -0.2)
    got = world.posterior(Measurement(Matrix(A), y[None], sigma))
    mean, cov = brute_force(world, A, y, sigma)
    close(got.mean, mean, 1e-9)
    close(got.cov, cov, 1e-9)
    if sigma == 0.0:
        close(got.means @ A.T, y, 1e-9)


def test_posterior_density_is_prior_times_likelihood() -> None:
    """Up to one constant, the evidence, at any x: this sees weights, means and covariances together."""
    world, y, sigma = mixture_world(), tensor(0.7, -0.2), 0.3
    got = world.posterior(Measurement(Matrix(A), y[None], sigma))
    x = normal(6, DIM, seed=8)
    joint = world.log_prob(x) - 0.5 * ((y - x @ A.T) ** 2).sum(1) / sigma**2
    gap = got.log_prob(x) - joint
    close(gap, gap[0], 1e-8)


def test_posterior_where_nothing_is_seen_is_the_prior() -> None:
    world = mixture_world()
    nothing = [Matrix(torch.zeros(2, DIM, dtype=torch.float64)), Mask(torch.zeros(DIM, dtype=torch.float64))]
    for operator, width in zip(nothing, (2, DIM)):
        for sigma in (0.3, 0.0):
            got = world.posterior(Measurement(operator, torch.zeros(1, width, dtype=torch.float64), sigma))
            close(got.weights, world.weights)
            close(got.mean, world.mean)
            close(got.cov, world.cov)


@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.usefixtures("double")
def test_posterior_of_a_mask_ignores_its_empty_rows(sigma: float) -> None:
    world, y = mixture_world(), tensor(0.5, 0.0, -0.4)
    mask = tensor(1, 0, 1)
    got = world.posterior(Measurement(Mask(mask), y[None], sigma))
    rows = torch.eye(DIM, dtype=torch.float64)[mask.bool()]
    mean, cov = brute_force(world, rows, y[mask.bool()], sigma)
    close(got.mean, mean, 1e-9)
    close(got.cov, cov, 1e-9)
    if sigma == 0.0:
        close(got.mean[mask.bool()], y[mask.bool()], 1e-9)


def test_posterior_of_everything_seen_exactly_is_a_point() -> None:
    got = full_world().posterior(Measurement(Identity(), tensor(0.1, 0.2, 0.3)[None], 0.0))
    close(got.mean, tensor(0.1, 0.2, 0.3), 1e-10)
    close(got.cov, 0.0, 1e-10)


def test_posterior_keeps_the_event() -> None:
    flat = full_world()
    world = GaussianWorld(flat.means.reshape(1, 3), flat.covs[0])
    y = tensor(0.1, 0.0, 0.3)
    got = world.posterior(Measurement(Mask(tensor(1, 0, 1)), y.reshape(1, 1, 3), 0.2))
    assert got.event == (1, 3)
    close(got.mean[0], flat.posterior(Measurement(Mask(tensor(1, 0, 1)), y[None], 0.2)).mean, 1e-12)


def test_posterior_asks_for_one_linear_measurement() -> None:
    y = torch.zeros(2, DIM, dtype=torch.float64)
    for m in (Measurement(Identity(), y, 0.1), Measurement(Function(torch.sin, (DIM,)), y[:1], 0.1)):
        with pytest.raises(ValueError, match="one y \\(B = 1\\) through a Linear operator"):
            full_world().posterior(m)


# The flow


@every
def test_closed_flow_solves_the_equation(process: Gaussian) -> None:
    """It starts at x, and its derivative in s is the velocity at where it is."""
    world, t, h = full_world(), 0.93, 1e-5
    denoiser, x = world.denoiser(process), world.marginal(process, t).sample(3, Noise(0))
    close(world.flow(x, t, t, process), x, 1e-10)
    for s in (0.1173, 0.4137, 0.9871):  # between the levels of the tables, where they have kinks
        at = world.flow(x, t, s, process)
        moving = (world.flow(x, t, s + h, process) - world.flow(x, t, s - h, process)) / (2 * h)
        close(process.velocity(at, denoiser(at, s).mean, s), moving, 1e-6)


@every
def test_numerical_flow_of_a_mixture_is_the_closed_one_on_a_normal(process: Gaussian) -> None:
    closed = full_world()
    x = closed.marginal(process, 0.9).sample(3, Noise(0))
    numerical = MixtureWorld(closed.weights, closed.means, closed.covs).flow(x, 0.9, 0.2, process, steps=60)
    close(numerical, closed.flow(x, 0.9, 0.2, process), 1e-5)


@every
def test_flow_carries_the_marginal(process: Gaussian) -> None:
    """The map is affine on a normal: it must carry the mean to the mean and the covariance to the covariance."""
    world = full_world()
    for t, s in ((1.0, 0.0), (0.2, 0.7)):
        early, late = world.marginal(process, t), world.marginal(process, s)
        origin = world.flow(early.mean[None], t, s, process)
        J = (world.flow(early.mean + torch.eye(DIM, dtype=torch.float64), t, s, process) - origin).T
        close(origin[0], late.mean, 1e-10)
        close(J @ early.cov @ J.T, late.cov, 1e-10)


# Categories


@pytest.mark.parametrize("process", [Discrete(3), Discrete(3, absorbing=2)], ids=["uniform", "absorbing"])
@pytest.mark.usefixtures("double")
def test_table_denoiser_by_enumeration(process: Discrete) -> None:
    table = torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table[2, :], table[:, 2] = 0.0, 0.0  # no clean sequence holds the mask
    world = TableWorld(5 * table)
    denoiser, keep = world.denoiser(process), 0.6
    rest = [0.0, 0.0, 1.0] if process.absorbing else [1 / 3] * 3
    xt = torch.tensor([[0, 1], [2, 1], [2, 2], [1, 1]])
    for row, got in zip(xt.tolist(), denoiser(xt, 0.4).mean):
        want, whole = torch.zeros(2, 3, dtype=torch.float64), 0.0
        for i in range(3):
            for j in range(3):
                p = float(table[i, j])
                for x0, x in zip((i, j), row):
                    p *= keep * (x0 == x) + (1 - keep) * rest[x]
                want[0, i] += p
                want[1, j] += p
                whole += p
        close(got, want / whole)


def test_table_world() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64)
    world = TableWorld(table)
    assert world.event == (2,) and world.classes == 2
    close(world.log_prob(torch.tensor([[0, 1], [1, 0]])).exp(), tensor(0.25, 0.375))
    n = 20_000
    x = world.sample(n, Noise(0))
    shares = torch.bincount(2 * x[:, 0] + x[:, 1], minlength=4) / n
    assert float((shares - tensor(1, 2, 3, 2) / 8).abs().max()) < 4 * 0.5 / n**0.5
    with pytest.raises(ValueError, match=r"one position over the same K categories, got \(2, 3\)"):
        TableWorld(torch.ones(2, 3))


def test_an_autoregression_of_order_one() -> None:
    world = autoregressive([torch.tensor([[0.9]], dtype=torch.float64)], torch.tensor([[0.5]], dtype=torch.float64), 4)
    lag = (torch.arange(4)[:, None] - torch.arange(4)).abs()
    torch.testing.assert_close(world.cov, 0.5 / (1 - 0.81) * 0.9 ** lag.double())
    assert world.event == (1, 4) and torch.equal(world.mean, torch.zeros(1, 4).double())


def test_an_autoregression_has_the_noise_it_was_given_and_no_more() -> None:
    A1 = torch.tensor([[0.5, 0.2], [-0.3, 0.4]], dtype=torch.float64)
    A2 = torch.tensor([[0.2, -0.1], [0.1, 0.3]], dtype=torch.float64)
    Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64)
    world = autoregressive([A1, A2], Q, 6)
    cov = world.cov.reshape(2, 6, 2, 6)
    torch.testing.assert_close(world.cov, world.cov.T)
    for t in range(2, 6):
        # w_t = x_t - A1 x_{t-1} - A2 x_{t-2}: its covariance with every earlier x is 0, with x_t it is Q.
        w = cov[:, t] - torch.einsum("ij,jds->ids", A1, cov[:, t - 1]) - torch.einsum("ij,jds->ids", A2, cov[:, t - 2])
        torch.testing.assert_close(w[:, :, :t], torch.zeros(2, 2, t).double(), atol=1e-12, rtol=0)
        torch.testing.assert_close(w[:, :, t], Q)


def test_forecasts_of_an_autoregression_are_its_powers() -> None:
    A = torch.tensor([[0.8, 0.1], [-0.2, 0.6]], dtype=torch.float64)
    Q = torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64)
    world = autoregressive([A], Q, 6)
    x = world.sample(1, Noise(0))
    mask = (torch.arange(6) < 3).double().expand(2, 6)
    posterior = world.posterior(Measurement(Mask(mask), x * mask, 0.0))
    mean, cov = x[0, :, 2], torch.zeros(2, 2).double()
    for h in range(3, 6):
        mean, cov = A @ mean, A @ cov @ A.T + Q
        torch.testing.assert_close(posterior.mean[:, h], mean)
        torch.testing.assert_close(posterior.cov.reshape(2, 6, 2, 6)[:, h, :, h], cov)


def test_an_autoregression_that_grows_has_no_window() -> None:
    with pytest.raises(ValueError, match=r"below 1 in size, got one of 1\.01"):
        autoregressive([torch.tensor([[1.01]], dtype=torch.float64)], torch.tensor([[1.0]], dtype=torch.float64), 3)
    near = autoregressive(
        [torch.tensor([[0.9999]], dtype=torch.float64)], torch.tensor([[1.0]], dtype=torch.float64), 1
    )
    assert float(near.cov) == pytest.approx(1 / (1 - 0.9999**2), rel=1e-6)
