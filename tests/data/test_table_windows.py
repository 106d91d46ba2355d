"""Windows of a table: columns brought to one scale, gaps told, what cannot be learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.codecs import Channels
from sfumato.data.table_windows import TableWindows
from sfumato.data.tables import Columns

T = np.arange(40.0)


def test_windows_and_scales():
    data = TableWindows(Columns({"when": [f"day {i}" for i in range(40)], "a": 3 + T, "b": -(T**2)}), 8)
    assert data.event == (2, 8) and len(data) == 33 and data.columns == ("a", "b") and not data.missing
    x0, cond = data.batch([0, 32], None)
    assert cond is None and x0.dtype == torch.float32
    back = data.codec.decode(x0.double())
    assert torch.allclose(back[1], torch.tensor(np.stack([3 + T, -(T**2)])[:, 32:]), rtol=1e-5)
    assert data.codec.shift == pytest.approx((np.mean(3 + T), np.mean(-(T**2))))
    assert data.codec.scale == pytest.approx((np.std(T), np.std(T**2)))
    assert TableWindows(Columns({"a": T})).event == (1, 10)
    assert TableWindows(Columns({"a": np.sin(np.arange(900.0))})).event == (1, 128)


def test_what_is_missing_is_told():
    holed = T.copy()
    holed[[2, 30]] = np.nan
    data = TableWindows(Columns({"a": holed, "b": T}), 4)
    x0, cond = data.batch([0, 10], None)
    assert data.missing and cond["valid"].tolist() == [[[1, 1, 0, 1], [1, 1, 1, 1]], [[1] * 4, [1] * 4]]
    assert x0[0, 0, 2] == 0.0 and data.codec.shift[0] == pytest.approx(np.nanmean(holed))
    assert data.codec.scale[0] == pytest.approx(np.nanstd(holed))


def test_what_cannot_be_learned_from():
    with pytest.raises(ValueError, match="has 40 rows, a window 41"):
        TableWindows(Columns({"a": T}), 41)
    assert len(TableWindows(Columns({"a": T}), 40)) == 1
    with pytest.raises(ValueError, match="column 'b' of the table is the same in every row"):
        TableWindows(Columns({"a": T, "b": 0 * T + 3}))


def test_the_codec():
    codec = Channels((2.0, 4.0), (1.0, -1.0))
    x = torch.arange(12.0).reshape(1, 2, 2, 3)
    z = codec.encode(x)
    assert torch.equal(z[0, 0], (x[0, 0] - 1) / 2) and torch.equal(z[0, 1], (x[0, 1] + 1) / 4)
    assert torch.equal(codec.decode(z), x) and codec.latent((2, 3)) == (2, 3)
    with pytest.raises(ValueError, match="for 2 channels, got"):
        codec.encode(torch.zeros(1, 3, 4))
    for scale, shift in (((1.0,), (1.0, 2.0)), ((), ()), ((1.0, 0.0), (1.0, 1.0))):
        with pytest.raises(ValueError, match="each channel needs a scale"):
            Channels(scale, shift)
