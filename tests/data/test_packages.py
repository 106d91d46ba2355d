"""Crops, labelled pictures, and the readers of IDX and Qt resource files, on files made here."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data.crops import Crops
from sfumato.data.labelled import FASHION, Labelled, fashion_mnist, read_idx
from sfumato.data.photographs import photographs, read_rcc, reduced
from sfumato.noise import Seeds

RNG = np.random.default_rng(0)


# Crops


def test_items_are_shares_of_pictures_by_area():
    a, b, small = (np.full((h, w, 3), v, np.uint8) for h, w, v in ((8, 12, 0), (9, 4, 255), (3, 40, 100)))
    data = Crops([small, a, b], 4, flat=0.0)
    assert len(data) == 6 + 2  # 96 / 16 and 36 / 16; the one that is too small has none
    x0, cond = data.batch(list(range(8)), Seeds(range(8)))
    assert cond is None and x0.shape == (8, 3, 4, 4)
    assert x0[:, 0, 0, 0].tolist() == [-1.0] * 6 + [1.0] * 2
    assert len(Crops([small], 4)) == 0


def test_crops_are_places_turned_and_keyed_by_row():
    picture = np.arange(63, dtype=np.uint8).reshape(7, 9, 1).repeat(3, 2) * 4
    data = Crops([picture], 3, flat=0.0)
    n = 600
    x0, _ = data.batch([0] * n, Seeds(range(n)))
    codes = ((x0[:, 0] + 1) * 127.5 / 4).round().int()
    corners, kinds = set(), {}
    for code in codes:
        top, left = int(code.min()) // 9, int(code.min()) % 9
        plain = torch.arange(63).reshape(7, 9)[top : top + 3, left : left + 3].int()
        turned = {
            (f, g, t): plain.flip([d for d, on in enumerate((f, g)) if on])
            for f in (0, 1)
            for g in (0, 1)
            for t in (0,)
        }
        turned |= {(f, g, 1): v.T for (f, g, _), v in turned.items()}
        match = [key for key, v in turned.items() if torch.equal(v, code)]
        assert len(match) == 1
        corners.add((top, left))
        kinds[match[0]] = kinds.get(match[0], 0) + 1
    assert corners == {(i, j) for i in range(5) for j in range(7)}
    assert len(kinds) == 8 and min(kinds.values()) > 75 - 4 * 8.1 and max(kinds.values()) < 75 + 4 * 8.1
    assert torch.equal(data.batch([0], Seeds([17]))[0][0], x0[17])


def test_flat_crops_are_drawn_again_up_to_four_times():
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 20:] = RNG.integers(0, 256, (40, 20, 3))
    items = [0] * 300
    again = Crops([picture], 4).batch(items, Seeds(range(300)))[0]
    never = Crops([picture], 4, flat=0.0).batch(items, Seeds(range(300)))[0]
    share = [float((x.flatten(1).std(1) < 1e-6).double().mean()) for x in (never, again)]
    p = 17 / 37  # lefts 0 .. 16 of 37 are flat
    assert abs(share[0] - p) < 4 * (p * (1 - p) / 300) ** 0.5
    assert abs(share[1] - p**4) < 4 * (p**4 * (1 - p**4) / 300) ** 0.5


# Labelled pictures


def test_labelled():
    images = RNG.integers(0, 256, (5, 3, 4), dtype=np.uint8)
    data = Labelled(images, np.array([3, 1, 4, 1, 5], np.uint8))
    x0, label = data.batch([4, 2], Seeds([0, 1]))
    assert len(data) == 5 and label.dtype == torch.int64 and label.tolist() == [5, 4]
    torch.testing.assert_close(x0[:, 0], torch.from_numpy(images[[4, 2]] / np.float32(127.5)) - 1)
    color = RNG.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    x0, _ = Labelled(color, np.array([0, 1])).batch([1], Seeds([0]))
    torch.testing.assert_close(x0[0, 2], torch.from_numpy(color[1, ..., 2] / np.float32(127.5)) - 1)
    with pytest.raises(ValueError, match="5 images but 2 labels"):
        Labelled(images, np.array([0, 1]))


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_read_idx(tmp_path):
    array = RNG.integers(0, 256, (4, 2, 3), dtype=np.uint8)
    (tmp_path / "a").write_bytes(idx(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array[:, 0, 0])))
    assert np.array_equal(read_idx(tmp_path / "a"), array)
    assert np.array_equal(read_idx(tmp_path / "a.gz"), array[:, 0, 0])
    (tmp_path / "cut").write_bytes(idx(array)[:-1])
    with pytest.raises(ValueError, match="truncated: 23 numbers, its header says 24"):
        read_idx(tmp_path / "cut")
    for raw in (b"", b"\x00\x00\x0d\x01" + bytes(8), b"hello"):
        (tmp_path / "bad").write_bytes(raw)
        with pytest.raises(ValueError, match="no IDX file of bytes"):
            read_idx(tmp_path / "bad")
    with pytest.raises(FileNotFoundError, match="dataset-fashion-mnist"):
        read_idx(tmp_path / "none.gz")


def test_fashion_mnist_has_its_two_parts(tmp_path):
    folder = tmp_path / "usr/share/datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.full((n, 2, 2), n, np.uint8))))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(n, dtype=np.uint8))))
    assert len(fashion_mnist(tmp_path)) == 3 and fashion_mnist(tmp_path, train=False).labels.tolist() == [0, 1]
    assert len(FASHION) == 10


# Qt resource files


def rcc(files: dict[str, bytes], version: int, squeeze: set[str]) -> bytes:
    """A resource file with one folder "d" that holds `files`."""
    names, offsets = b"", {}
    for name in ("d", *files):
        offsets[name] = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    blobs, places = b"", {}
    for name, raw in files.items():
        places[name] = len(blobs)
        kept = struct.pack(">I", len(raw)) + zlib.compress(raw) if name in squeeze else raw
        blobs += struct.pack(">I", len(kept)) + kept
    stamp = bytes(8) if version >= 2 else b""
    tree = struct.pack(">IHII", 0, 2, 1, 1) + stamp  # the root: one child, node 1
    tree += struct.pack(">IHII", offsets["d"], 2, len(files), 2) + stamp
    for name in files:
        tree += struct.pack(">IHHHI", offsets[name], name in squeeze, 0, 0, places[name]) + stamp
    at = 20
    return (
        struct.pack(">4sIIII", b"qres", version, at, at + len(tree), at + len(tree) + len(blobs)) + tree + blobs + names
    )


@pytest.mark.parametrize("version", [1, 2])
def test_read_rcc(tmp_path, version):
    files = {"a.txt": b"hello", "long name.bin": bytes(range(256)), "é.txt": b""}
    (tmp_path / "x.rcc").write_bytes(rcc(files, version, {"long name.bin"}))
    assert list(read_rcc(tmp_path / "x.rcc")) == [(f"/d/{name}", raw) for name, raw in files.items()]


def webp(size, seed):
    buffer = io.BytesIO()
    color = tuple(int(v) for v in np.random.default_rng(seed).integers(0, 256, 3))
    Image.new("RGB", size, color).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_photographs_are_named_by_their_source(tmp_path):
    share = tmp_path / "usr/share"
    for folder in ("gcompris-qt/rcc", "backgrounds/mate/nature", "wallpapers/Kite/contents/images", "backgrounds"):
        (share / folder).mkdir(parents=True, exist_ok=True)
    big = webp((400, 360), 1)
    inside = {
        "lion.webp": big,
        "again.webp": big,
        "small.webp": webp((400, 340), 2),
        "Gogh1.webp": webp((400, 400), 3),
        "x.txt": b"",
    }
    (share / "gcompris-qt/rcc/explore_farm_animals.rcc").write_bytes(rcc(inside, 2, set()))
    Image.new("L", (8, 8)).save(share / "backgrounds/mate/nature/Sea.jpg")
    Image.new("RGB", (2, 2)).save(share / "wallpapers/Kite/contents/images/2x2.png")
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(
        share / "wallpapers/Kite/contents/images/9x9.png"
    )
    Image.new("RGB", (8, 8)).save(share / "backgrounds/Hill_by_Someone.jpg")
    Image.new("RGB", (8, 8)).save(share / "backgrounds/Dragonfly_by_Someone.jpg")
    found = list(photographs(tmp_path))
    assert [name for name, _ in found] == [
        "explore_farm_animals/lion",
        "mate/Sea",
        "plasma/Kite",
        "lomiri/Hill_by_Someone",
    ]
    assert all(picture.mode == "RGB" for _, picture in found) and found[2][1].size == (9, 9)


def test_photographs_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="unpack the packages"):
        list(photographs(tmp_path))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((900, 600), (900, 600)), ((1200, 600), (800, 400)), ((1400, 700), (700, 350)), ((600, 4800), (200, 1600))],
)
def test_reduced(size, expected):
    assert reduced(Image.new("RGB", size)).shape == (expected[1], expected[0], 3)


def test_batches_do_not_depend_on_their_company():
    picture = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    data = Crops([picture], 4)
    whole = data.batch([0, 3, 5], Seeds([7, 8, 9]))[0]
    for i, (a, b) in enumerate(pairwise([0, 1, 2, 3])):
        assert torch.equal(whole[a:b], data.batch([[0, 3, 5][i]], Seeds([7 + i]))[0])
