import pytest
import torch

import sfumato as sf
from sfumato.operators import Matrix
from sfumato.processes import EDM, Anchored, LinearBeta
from sfumato.solvers import SNIPS


def _pulled(process, world, m, t, basis, size=0.05):
    """The step's P, q and R for one move, in x / alpha."""
    d = 3
    x = torch.zeros(2 * d + 1, d).double()
    x[1 : d + 1] = process.alpha(t) * torch.eye(d).double()
    rows, D = m.repeat(2 * d + 1), world.denoiser(process)
    solver = SNIPS(moves=1, size=size)
    out, _ = solver.step(D, rows, x, t, t, solver.init(D, rows, x), basis(d + 1))
    out = out / process.alpha(t)
    return (out[1 : d + 1] - out[0]).T, out[0], (out[d + 1 :] - out[0]).T


@pytest.mark.parametrize("process", [EDM(), LinearBeta()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_the_stationary_law_is_that_of_x0_plus_noise_given_y(world, matrix, basis, process, level):
    """n is a part of the measurement noise: y = A (x_0 + n) + the rest, of covariance sigma_y^2 I - level^2 A A^T. The
    drift vanishes at the mean and balances the noise, (I - P) S + S (I - P)^T = R R^T: stationary for small moves."""
    t, sigma = process.time_of(-2 * torch.tensor(level).log().item()), 0.4
    m = sf.Measurement.simulate(matrix, world.sample(1, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))
    P, q, R = _pulled(process, world, m, t, basis)
    A, eye = matrix.A, torch.eye(3).double()
    prior = world.cov + level**2 * eye
    rest = sigma**2 * torch.eye(2).double() - level**2 * A @ A.T
    K = prior @ A.T @ torch.linalg.inv(A @ prior @ A.T + rest)
    mean, S = world.mean + K @ (m.y[0] - A @ world.mean), prior - K @ A @ prior
    torch.testing.assert_close(P @ mean + q, mean, atol=1e-9, rtol=0)
    torch.testing.assert_close((eye - P) @ S + S @ (eye - P).T, R @ R.T, atol=1e-9, rtol=0)


def test_above_the_noise_only_the_data_speak(world, basis):
    """Where level > sigma_y / s: x_j tends to y_j with variance level^2 - k^2, and nothing is singular at equality."""
    A, level = Matrix(torch.diag(torch.tensor([2.0, 1.0, 0.5]).double())), 0.5
    m = sf.Measurement(A, torch.tensor([[1.0, 2.0, 3.0]]).double(), 0.5)
    P, q, R = _pulled(EDM(), world, m, EDM().time_of(-2 * torch.tensor(level).log().item()), basis, size=0.1)
    torch.testing.assert_close(P[:2], 0.9 * torch.eye(3).double()[:2], atol=1e-9, rtol=0)
    torch.testing.assert_close(q[:2], 0.1 * torch.tensor([0.5, 2.0]).double(), atol=1e-9, rtol=0)
    noise = 2 * 0.1 * torch.tensor([0.25 - 0.0625, 0.0]).double()
    torch.testing.assert_close((R @ R.T).diag()[:2], noise, atol=1e-9, rtol=0)
    assert float(R[2].norm()) > 0.1


def test_a_run_ends_in_that_law(world, matrix, affine_law):
    """Twenty levels with forty small moves: within the bias of the moves, c / 2."""
    sigma, solver = 0.4, SNIPS(steps=20, moves=40, size=0.1, high=20.0, low=0.1)
    m = sf.Measurement.simulate(matrix, world.sample(1, sf.Noise(5)), sigma=sigma, noise=sf.Noise(6))
    mean, cov = affine_law(solver, world.denoiser(EDM()), m, draws=120)
    truth = world.posterior(m)
    A = matrix.A
    prior = world.cov + 0.01 * torch.eye(3).double()
    K = prior @ A.T @ torch.linalg.inv(A @ prior @ A.T + sigma**2 * torch.eye(2).double() - 0.01 * A @ A.T)
    S = prior - K @ A @ prior
    torch.testing.assert_close(mean, truth.mean, atol=0.1, rtol=0)
    for v in torch.linalg.eigh(S)[1].T:
        assert float(v @ cov @ v) == pytest.approx(float(v @ S @ v), rel=0.12)


def test_an_anchor_shifts_states(world, matrix, basis):
    """x_t - shift is what moves: on data moved by the anchor's share the result is the same."""
    anchor = torch.full((1, 3), 2.0).double()
    m, x = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.3), torch.ones(1, 3).double()
    plain, moved = LinearBeta(), Anchored(LinearBeta(), anchor)
    solver, t, s = SNIPS(moves=2), 0.4, 0.3
    a, b = (
        solver.step(world.denoiser(p), m, x + p.shift(t, x), t, s, solver.init(world.denoiser(p), m, x), sf.Noise(1))[0]
        - p.shift(s, x)
        for p in (plain, moved)
    )
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


def test_levels(matrix):
    times = SNIPS(steps=4, high=8.0, low=1.0).times(EDM())
    levels = [EDM().sigma(t) for t in times[:-1]]
    assert times[-1] == 0.0 and levels == pytest.approx([8.0, 4.0, 2.0, 1.0])
    s = SNIPS()
    assert (s.steps, s.moves, s.size, s.high, s.low) == (500, 5, 0.033, 90.0, 0.01)
    for wrong in ({"size": 0.0}, {"high": 0.01}, {"low": 0.0}):
        with pytest.raises(ValueError, match="SNIPS: size > 0 and high > low > 0, got"):
            SNIPS(**wrong)
