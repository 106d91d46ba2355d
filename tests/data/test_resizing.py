"""Bicubic resizing against the numbers that its formula gives, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.resizing import resized


def along(x: list[float], out: int, scale: float) -> torch.Tensor:
    """A row resized along one axis; two equal rows would hide nothing, since the axes are separable."""
    return resized(torch.tensor([x], dtype=torch.float64), (1, out), scale)[0]


def impulse(n: int, at: int) -> list[float]:
    return [float(i == at) for i in range(n)]


def test_the_taps_of_a_half_are_those_of_the_widened_kernel() -> None:
    rows = torch.stack([along(impulse(16, at), 8, 0.5) for at in range(16)], 1) * 256
    assert rows[4, 5:13].tolist() == pytest.approx([-3, -9, 29, 111, 111, 29, -9, -3])
    assert rows[0, :5].tolist() == pytest.approx([140, 102, 26, -9, -3])  # mirrored, with the edge repeated


def test_the_taps_of_a_quarter_and_of_a_double() -> None:
    rows = torch.stack([along(impulse(64, at), 16, 0.25) for at in range(64)], 1) * 2048
    half = [-3.5, -22.5, -37.5, -24.5, 46.5, 199.5, 372.5, 493.5]
    assert rows[8, 26:42].tolist() == pytest.approx([*half, *half[::-1]])
    rows = torch.stack([along(impulse(8, at), 16, 2.0) for at in range(8)], 1) * 128
    assert rows[8, 2:6].tolist() == pytest.approx([-3, 29, 111, -9])
    assert rows[7, 2:6].tolist() == pytest.approx([-9, 111, 29, -3])


def test_constants_stay_and_ramps_stay_inside() -> None:
    assert torch.allclose(along([2.0] * 11, 17, 1.55), torch.full((17,), 2.0, dtype=torch.float64))
    ramp = along([float(i) for i in range(16)], 8, 0.5)
    assert ramp[2:6].tolist() == pytest.approx([4.5, 6.5, 8.5, 10.5])
    assert ramp[:2].tolist() == pytest.approx([0.449, 2.488], abs=1e-3)


def test_a_size_that_is_rounded_up_keeps_the_scale_of_pixels() -> None:
    """5 pixels by 1/2: the third lies at position 4.5 of the mirrored row, not at the end of a stretched one."""
    x = [1.0, 4.0, 9.0, 16.0, 25.0]
    assert along(x, 3, 0.5)[:2].tolist() == pytest.approx(along([*x, 25.0, 16.0], 4, 0.5)[:2].tolist())
    both = resized(torch.tensor([x] * 5, dtype=torch.float64).mT, (3, 3), 0.5)
    assert torch.allclose(both, along(x, 3, 0.5)[:, None].expand(3, 3))
