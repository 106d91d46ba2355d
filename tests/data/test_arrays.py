"""NumPy files as training data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.data.arrays import Arrays
from sfumato.noise import Seeds

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_are_full_range(dtype):
    top = np.iinfo(dtype).max
    x = RNG.integers(0, top + 1, (5, 3, 4, 2)).astype(dtype)
    data = Arrays(x)
    x0, cond = data.batch([4, 0], Seeds([0, 1]))
    assert len(data) == 5 and data.event == (2, 3, 4) and cond is None and x0.dtype == torch.float32
    expected = torch.from_numpy(x[[4, 0]].astype(np.float64)).permute(0, 3, 1, 2) * 2 / top - 1
    torch.testing.assert_close(x0.double(), expected, rtol=0, atol=1e-7)
    assert Arrays(x[..., 0]).event == (1, 3, 4)
    assert data.codec.decode(torch.tensor(1.0)) == 1 and data.codec.decode(torch.tensor(-1.0)) == 0


@pytest.mark.parametrize(("shape", "event"), [((3000, 6), (1, 6)), ((50, 3, 6), (3, 6)), ((50, 3, 4, 5), (3, 4, 5))])
def test_floats_are_standardized_to_half(shape, event):
    x = (7 + 3 * RNG.standard_normal(shape)).astype(np.float32)
    data = Arrays(x)
    z, _ = data.batch(list(range(len(x))), Seeds(range(len(x))))
    assert data.event == event and abs(float(z.mean())) < 1e-6 and abs(float(z.std(correction=0)) - 0.5) < 1e-6
    torch.testing.assert_close(data.codec.decode(z), torch.from_numpy(x).reshape(z.shape))


def test_labels():
    data = Arrays(RNG.random((4, 6)), np.array([2, 0, 0, 1], np.uint8))
    _, label = data.batch([3, 0], Seeds([0, 1]))
    assert label.dtype == torch.int64 and label.tolist() == [1, 2] and data.names == ("0", "1", "2")
    for wrong in (np.array([0, 1]), np.array([0.0, 1, 2, 3]), np.array([0, 1, 2, -1]), np.zeros((4, 1), int)):
        with pytest.raises(ValueError, match=r"labels are \(4,\) whole numbers from 0"):
            Arrays(RNG.random((4, 6)), wrong)


@pytest.mark.parametrize(
    "x",
    [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 5), np.int64), np.zeros((3, 4, 4), np.uint32), np.zeros((0, 4)),
     np.zeros(3), np.zeros((2, 2, 2, 2, 2)), np.zeros((2, 2), complex), np.zeros((2, 2, 2, 2, 2), np.uint8)],
)  # fmt: skip
def test_other_arrays_are_errors(x):
    with pytest.raises(ValueError, match=f"got {x.dtype} of shape"):
        Arrays(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_data_without_a_scale_are_errors(bad):
    x = np.zeros((3000, 2))
    x[2999, 1] = bad
    with pytest.raises(ValueError, match="finite and not all the same"):
        Arrays(x)


def test_files(tmp_path):
    x, y = RNG.random((4, 3, 5)), np.arange(4)
    np.save(tmp_path / "x.npy", x)
    mapped = Arrays.read(str(tmp_path / "x.npy"))
    assert isinstance(mapped.values, np.memmap) and mapped.names == ()
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    np.savez(tmp_path / "one.npz", whatever=x)
    both, one = Arrays.read(tmp_path / "xy.npz"), Arrays.read(tmp_path / "one.npz")
    for data in (both, one):
        assert torch.equal(data.batch([1], Seeds([0]))[0], mapped.batch([1], Seeds([0]))[0])
    assert both.batch([3], Seeds([0]))[1].tolist() == [3] and one.names == ()


def test_bad_files_are_one_sentence(tmp_path):
    np.savez(tmp_path / "many.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "labels.npz", y=np.zeros(3))
    np.savez(tmp_path / "wrong.npz", x=np.zeros(3))
    np.save(tmp_path / "object.npy", np.array([{}], object))
    np.savez(tmp_path / "good.npz", x=RNG.random((400, 30)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:4000])
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").write_bytes(b"")
    table = {
        "many": "holds a, b: name the data",
        "labels": "holds nothing: name the data",
        "wrong": "wrong.npz: training data are",
        "object": "no NumPy file",
        "cut": "cut.npz is damaged or no NumPy file",
        "text": "text.npy is damaged or no NumPy file",
        "empty": "empty.npy is damaged or no NumPy file",
    }
    for name, words in table.items():
        path = next(tmp_path.glob(f"{name}.*"))
        with pytest.raises(ValueError, match=words):
            Arrays.read(path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        Arrays.read(tmp_path / "no.npy")
