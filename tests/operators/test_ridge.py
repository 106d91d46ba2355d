"""The regularised pseudo-inverse and the projection that solvers use."""

import pytest
import torch

from sfumato.noise import Noise
from sfumato.operators import LinearFunction, Mask, Matrix

A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.4, 0.7]]).double()
OPERATORS = [Matrix(A), LinearFunction(lambda x: x @ A.to(x.dtype).T, (3,))]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("rho", [0.0, 1e-3, 2.0])
def test_ridge_is_the_regularised_inverse(operator, rho):
    y = Noise(0).normal(torch.zeros(4, 2).double())
    dense = y @ torch.linalg.inv(A @ A.T + rho * torch.eye(2).double()) @ A
    torch.testing.assert_close(operator.ridge(y, rho), dense, atol=1e-9, rtol=0)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda a: type(a).__name__)
def test_projection(operator):
    x = Noise(0).normal(torch.zeros(4, 3).double())
    dense = x @ (torch.linalg.pinv(A) @ A).T
    torch.testing.assert_close(operator.project(x), dense, atol=1e-9, rtol=0)


def test_what_a_mask_hides_stays_zero():
    mask = Mask(torch.tensor([1.0, 0.0]))
    y = torch.tensor([[2.0, 0.0]]).double()
    torch.testing.assert_close(mask.ridge(y, 0.0), y)
    torch.testing.assert_close(mask.ridge(y, 1.0), 0.5 * y)
    torch.testing.assert_close(mask.project(torch.ones(1, 2).double()), torch.tensor([[1.0, 0.0]]).double())
