"""Tar shards: the items of a folder of files, whichever shard they lie in; classes; files that are cut short."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data.images import ImageFolder
from sfumato.data.tar_shards import TarShards, shards
from sfumato.noise import Seeds


def png(number: int, size=(8, 8)) -> bytes:
    raw = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)).save(raw, "PNG")
    return raw.getvalue()


def tar(path, files):
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def test_items_are_those_of_the_files(tmp_path):
    """The same crops from shards as from a folder that holds the same files in the same order."""
    (tmp_path / "plain").mkdir()
    for i in range(5):
        (tmp_path / "plain" / f"{i}.png").write_bytes(png(i, (9, 13)))
    (tmp_path / "tars").mkdir()
    tar(tmp_path / "tars" / "b.tar", {f"./x/{i}.PNG": png(i, (9, 13)) for i in (3, 4)} | {"x/3.txt": b"words"})
    tar(tmp_path / "tars" / "a.tar", {f"{i}.png": png(i, (9, 13)) for i in (0, 1, 2)} | {"readme": b"no suffix"})
    want, got = ImageFolder(tmp_path / "plain", 8), TarShards(tmp_path / "tars", 8)
    assert len(got) == 5 and got.event == (3, 8, 8) and got.names == ()
    a, b = (source.batch([4, 0, 2], Seeds.keyed(0, range(3)))[0] for source in (want, got))
    assert torch.equal(a, b)
    assert torch.equal(TarShards(tmp_path / "tars" / "b.tar", 8).batch([1], Seeds([3]))[0],
                       got.batch([4], Seeds([3]))[0])  # fmt: skip
    assert shards(tmp_path / "tars" / "b.tar") == [tmp_path / "tars" / "b.tar"]


def test_classes(tmp_path):
    tar(
        tmp_path / "a.tar",
        {"0.png": png(0), "0.cls": b"10\n", "1.png": png(1), "1.json": json.dumps({"label": 2}).encode()},
    )
    data = TarShards(tmp_path, 8, classes=True)
    assert data.names == ("02", "10") and data.batch([0, 1], Seeds([0, 1]))[1].tolist() == [1, 0]  # as numbers
    tar(tmp_path / "a.tar", {"0.png": png(0), "0.cls": b"dog", "1.png": png(1), "1.cls": b"cat"})
    assert TarShards(tmp_path, 8, classes=True).names == ("cat", "dog")
    tar(tmp_path / "a.tar", {"0.png": png(0), "0.cls": b"dog", "1.png": png(1)})
    with pytest.raises(ValueError, match=r"a\.tar/1\.png has no class: neither a \.cls"):
        TarShards(tmp_path, 8, classes=True)
    tar(tmp_path / "a.tar", {"0.png": png(0), "0.cls": b"dog"})
    with pytest.raises(ValueError, match="have one class"):
        TarShards(tmp_path, 8, classes=True)


def test_damage(tmp_path):
    files = {f"{i}.png": png(i) for i in range(4)}
    path = tar(tmp_path / "a.tar", files)
    with tarfile.open(path) as file:
        third = file.getmember("2.png")
    path.write_bytes(path.read_bytes()[: third.offset_data + 10])
    with pytest.raises(ValueError, match=r"a\.tar is cut short"):
        TarShards(tmp_path, 8)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.tar is cut short, compressed or no tar file"):
        TarShards(tmp_path, 8)
    tar(path, {"0.txt": b"words"})
    with pytest.raises(ValueError, match="there is no picture in the shards"):
        TarShards(tmp_path, 8)
    tar(path, {"0.png": b"no picture", "1.png": png(1)})
    with pytest.warns(UserWarning, match=r"left out: a\.tar/0\.png is damaged or no picture"):
        x, _ = TarShards(tmp_path, 8).batch([0], Seeds([0]))
    assert torch.equal(x, TarShards(tmp_path, 8).batch([1], Seeds([0]))[0])  # the next item takes its place
