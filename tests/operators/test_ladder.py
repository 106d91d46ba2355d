"""The ladder's own parts: functions, matrices, conjugate gradients."""

import pytest
import torch

from sfumato import operators as ops
from sfumato.noise import Noise
from sfumato.operators import conjugate_gradients


def normal(*shape, seed=0):
    return Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def test_an_operator_without_parameters_says_so():
    with pytest.raises(TypeError, match="Identity has no parameters"):
        ops.Identity().at(1.0)


def test_a_function_is_called_and_knows_its_event():
    A = ops.Function(torch.sin, [2, 3])
    x = normal(4, 2, 3)
    torch.testing.assert_close(A(x), x.sin())
    assert A.event(x) == (2, 3) and not isinstance(A, ops.Linear)


def test_a_linear_function_has_an_adjoint():
    A = ops.LinearFunction(lambda x: x[:, 1:] - x[:, :-1], (5,))
    u = normal(2, 4)
    expected = torch.nn.functional.pad(u, [1, 0]) - torch.nn.functional.pad(u, [0, 1])
    torch.testing.assert_close(A.adjoint(u), expected)
    assert A.adjoint(u).requires_grad is False
    with torch.no_grad():
        torch.testing.assert_close(A.adjoint(u), expected)


@pytest.mark.parametrize("function", [torch.tanh, lambda x: x + 1.0, torch.abs, lambda x: x * (1 + 0.1 * x)])
def test_what_is_not_linear_is_refused(function):
    with pytest.raises(ValueError, match=r"not a linear function \(relative error .*use Function"):
        ops.LinearFunction(function, (8,))


def test_rounding_and_the_zero_map_are_linear():
    ops.LinearFunction(lambda x: x * 1e-20, (8,))
    ops.LinearFunction(lambda x: 0 * x, (8,))
    ops.LinearFunction(lambda x: x + 1e-5 * x**2, (8,))


@pytest.mark.parametrize("shape", [(2, 2, 2), (3,)])
def test_a_matrix_has_two_axes(shape):
    with pytest.raises(ValueError, match="shape"):
        ops.Matrix(torch.ones(shape))


def test_matrix_is_the_product_and_its_threshold_counts():
    M = torch.diag(torch.tensor([2.0, 0.5, 1e-3], dtype=torch.float64))
    x = normal(2, 3)
    torch.testing.assert_close(ops.Matrix(normal(4, 3, seed=1))(x), x @ normal(4, 3, seed=1).T)
    cut = ops.Matrix(M, threshold=0.1)
    torch.testing.assert_close(cut(x), x * torch.tensor([2.0, 0.5, 0.0]))
    torch.testing.assert_close(cut.pinv(x), x * torch.tensor([0.5, 2.0, 0.0]))
    assert cut.s.tolist() == pytest.approx([2.0, 0.5, 0.0]) and ops.Matrix(M).s.tolist() == pytest.approx(
        [2.0, 0.5, 1e-3]
    )


# Conjugate gradients


def positive(n, seed=0):
    root = normal(n, n, seed=seed)
    return root @ root.T / n + torch.eye(n, dtype=torch.float64)


def test_conjugate_gradients_solve_each_row_alone():
    M = torch.stack([positive(6, s) for s in range(3)])
    b = normal(3, 2, 3)
    b[1] = 0.0
    b[2] *= 1e-6

    def apply(x):
        return torch.einsum("bij,bj->bi", M[: len(x)], x.flatten(1)).reshape(x.shape)

    x = conjugate_gradients(apply, b, steps=60)
    expected = torch.linalg.solve(M, b.flatten(1)).reshape(b.shape)
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-18)
    assert bool((x[1] == 0).all())
    torch.testing.assert_close(conjugate_gradients(apply, b[:1], steps=60), x[:1], rtol=1e-12, atol=0)


def test_it_ends_after_as_many_steps_as_there_are_eigenvalues():
    d = torch.tensor([1.0, 1.0, 3.0, 3.0, 7.0], dtype=torch.float64)
    b = normal(1, 5)
    torch.testing.assert_close(conjugate_gradients(lambda x: d * x, b, steps=3), b / d, rtol=0, atol=1e-13)
    assert float((conjugate_gradients(lambda x: d * x, b, steps=2) - b / d).abs().max()) > 1e-3
    assert bool((conjugate_gradients(lambda x: d * x, b, steps=0) == 0).all())


def test_it_stops_where_the_residual_has_fallen():
    calls = []
    d = torch.linspace(1, 30, 40, dtype=torch.float64)

    def apply(x):
        calls.append(1)
        return d * x

    b = normal(1, 40)
    x = conjugate_gradients(apply, b, steps=500, tolerance=1e-3)
    assert float((b - d * x).norm()) <= 1e-3 * float(b.norm())
    few = len(calls)
    conjugate_gradients(apply, b, steps=500, tolerance=1e-6)
    assert few < len(calls) - few < 100
    # the goal is relative to b, also from another start
    calls.clear()
    y = conjugate_gradients(apply, b, steps=500, tolerance=1e-3, x=b / d)
    assert torch.equal(y, b / d) and len(calls) <= 2


def test_a_good_start_is_kept_and_improved():
    M, b = positive(5), normal(2, 5)
    expected = torch.linalg.solve(M, b.T).T
    start = expected + 0.1 * normal(2, 5, seed=3)
    torch.testing.assert_close(conjugate_gradients(lambda x: x @ M, b, steps=20, x=start), expected, rtol=0, atol=1e-12)


def test_negative_curvature_stops_its_row_only():
    d = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], dtype=torch.float64)
    b = torch.ones(2, 2, dtype=torch.float64)
    x = conjugate_gradients(lambda x: d * x, b, steps=10)
    torch.testing.assert_close(x[0], b[0] / d[0])
    assert bool((x[1] == 0).all())


def test_default_tolerance_is_ten_roundings():
    d = torch.linspace(1, 3, 50)
    b = normal(1, 50).float()
    calls = []

    def apply(x):
        calls.append(1)
        return d * x

    x = conjugate_gradients(apply, b, steps=500)
    assert float((b - d * x).norm() / b.norm()) < 3e-6 and len(calls) < 30


def test_complex_systems():
    root = torch.complex(normal(4, 4), normal(4, 4, seed=1))
    M = root @ root.conj().T + torch.eye(4, dtype=root.dtype)
    b = torch.complex(normal(2, 4, seed=2), normal(2, 4, seed=3))
    x = conjugate_gradients(lambda v: v @ M.T, b, steps=30)
    torch.testing.assert_close(x, torch.linalg.solve(M, b.T).T, rtol=0, atol=1e-10)


def test_a_function_with_numbers_of_its_own_in_double_precision():
    weights = torch.arange(6.0).double().reshape(2, 3)
    A = ops.LinearFunction(lambda x: x @ weights.T, (3,))
    torch.testing.assert_close(A.adjoint(torch.ones(1, 2).double()), weights.sum(0)[None])
    with pytest.raises(ValueError, match="not a linear function"):
        ops.LinearFunction(lambda x: (x @ weights.T) ** 2, (3,))
