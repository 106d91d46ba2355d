"""The Gaussian draw, its normalising constant, Langevin moves: against dense matrices."""

import pytest
import torch

import sfumato as sf
from sfumato.operators import Function, LinearFunction, Mask, Matrix
from sfumato.solvers.conditional import langevin, misfit, sample_gaussian

A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.4, 0.7]]).double()
X = torch.tensor([[0.2, -0.4, 1.0]]).double()
Y = torch.tensor([[0.7, -0.3]]).double()
OPERATORS = [Matrix(A), LinearFunction(lambda x: x @ A.to(x.dtype).T, (3,))]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda A: type(A).__name__)
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_the_draw_has_the_law(basis, operator, sigma):
    """Mean and covariance of x_0 ~ N(x, rho^2) given y, read off from unit noise."""
    rho, rows = 0.6, 6
    m = sf.Measurement(operator, Y.repeat(rows, 1), sigma)
    out = sample_gaussian(m, X.repeat(rows, 1), rho, basis(1))
    R = (out[1:] - out[0]).T
    E = rho**2 * A @ A.T + sigma**2 * torch.eye(2).double()
    K = rho**2 * A.T @ torch.linalg.inv(E)
    torch.testing.assert_close(out[0], X[0] + K @ (Y - X @ A.T)[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(R @ R.T, rho**2 * (torch.eye(3).double() - K @ A), atol=1e-10, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda A: type(A).__name__)
@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_the_misfit_and_its_gradient(operator, sigma):
    rho, x = 0.6, X.clone().requires_grad_()
    got = misfit(sf.Measurement(operator, Y, sigma), x, rho)
    inverse = torch.linalg.inv(rho**2 * A @ A.T + sigma**2 * torch.eye(2).double())
    r = (Y - X @ A.T)[0]
    assert float(got.detach()) == pytest.approx(float(r @ inverse @ r), rel=1e-9)
    if sigma == 0.0:
        assert not got.requires_grad
        return
    (g,) = torch.autograd.grad(got.sum(), x)
    torch.testing.assert_close(g[0], -2 * A.T @ inverse @ r, atol=1e-9, rtol=0)


def test_what_is_not_seen_keeps_the_prior(basis):
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0])), torch.tensor([[2.0, 0.0]]).double().repeat(5, 1), 0.5)
    x = torch.tensor([[0.0, 3.0]]).double().repeat(5, 1)
    out = sample_gaussian(m, x, 0.5, basis(1))
    torch.testing.assert_close(out[0], torch.tensor([1.0, 3.0]).double())
    R = (out[1:] - out[0]).T
    torch.testing.assert_close(R @ R.T, torch.diag(torch.tensor([0.125, 0.25]).double()))


def test_langevin_moves(basis):
    """One move is x - size grad + sqrt(2 size) z; many tend to the law of the exact draw."""
    rho, sigma, size = 0.6, 0.3, 1e-3
    m = sf.Measurement(Matrix(A), Y.repeat(4, 1), sigma)
    one = langevin(m, X.repeat(4, 1), rho, basis(1), sigma=sigma, moves=1, size=size)
    torch.testing.assert_close(one[0], X[0] + size / sigma**2 * (Y - X @ A.T)[0] @ A)
    torch.testing.assert_close(one[1:] - one[0], (2 * size) ** 0.5 * torch.eye(3).double())
    two = langevin(m, X.repeat(4, 1), rho, Still(), sigma=sigma, moves=2, size=size)[0]
    step = size / sigma**2 * (Y[0] - A @ one[0]) @ A + size / rho**2 * (X[0] - one[0])
    torch.testing.assert_close(two, one[0] + step)
    limit = langevin(m, X.repeat(4, 1), rho, Still(), sigma=sigma, moves=300, size=0.03)[0]
    E = rho**2 * A @ A.T + sigma**2 * torch.eye(2).double()
    torch.testing.assert_close(limit, X[0] + rho**2 * A.T @ torch.linalg.solve(E, (Y - X @ A.T)[0]))


def test_langevin_through_any_operator():
    bent = sf.Measurement(Function(lambda x: x**2, (1,)), torch.tensor([[1.0]]).double(), 0.5)
    x = torch.tensor([[0.7]]).double()
    got = langevin(bent, x, 1.0, Still(), sigma=0.5, moves=1, size=0.01)
    assert float(got) == pytest.approx(0.7 + 0.01 / 0.25 * 2 * 0.7 * (1 - 0.49))
    assert not got.requires_grad


class Still(sf.Noise):
    def normal(self, like):
        return torch.zeros_like(like)
