"""What the tests share; its presence puts this folder on the path, so that `worlds_for_tests` can be imported."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def double() -> Iterator[None]:
    """float64 as the default dtype, for laws of categories, which are made in it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
