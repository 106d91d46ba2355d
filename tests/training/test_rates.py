"""Schedules of the learning rate, by hand."""

from __future__ import annotations

import pytest

from sfumato.training import cosine
from sfumato.training.rates import NAMES, named


def test_cosine_rises_falls_and_ends_at_zero():
    factor = cosine(110, warmup=10)
    assert [factor(n) for n in (1, 5, 10)] == pytest.approx([0.1, 0.5, 1.0])
    assert [factor(n) for n in (35, 60, 85, 110)] == pytest.approx([(1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0.0])
    assert factor(300) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("name", "at"),
    [("constant", (0.5, 1.0, 1.0, 1.0)), ("linear", (0.5, 0.52, 0.3, 0.01)), ("decay", (0.5, 1.0, 1.0, 1 / 30)),
     ("inverse-sqrt", (0.5, (10 / 49) ** 0.5, (10 / 71) ** 0.5, 0.1**0.5)), ("cosine", None)],
)  # fmt: skip
def test_named(name, at):
    """Steps 1, 49, 71 and 100 of 100, with 2 of warm-up."""
    factor = named(name, 100, 2)
    assert at is None or [factor(n) for n in (1, 49, 71, 100)] == pytest.approx(at)
    assert at is not None or [factor(n) for n in (1, 51, 100)] == pytest.approx([0.5, 0.5, 0.0])
    assert name in NAMES


def test_an_unknown_name():
    with pytest.raises(ValueError, match="is one of decay, constant, cosine, linear, inverse-sqrt, got 'step'"):
        named("step", 100)
