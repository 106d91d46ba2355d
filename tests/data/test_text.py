"""Text and levels as training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.codecs import Alphabet
from sfumato.codecs.alphabet import text as written
from sfumato.data.arrays import Arrays
from sfumato.data.levels import Levels
from sfumato.data.text import FILES, Text, common, fortunes, read
from sfumato.noise import Seeds

WORDS = "the quick brown fox jumps over the lazy dog"  # 43 characters


def test_windows_are_stretches_of_the_text_near_their_item() -> None:
    data = Text(WORDS, 8)
    assert len(data) == 5 and data.event == (8,) and data.codec == Alphabet("".join(sorted(set(WORDS))))
    for seed in range(20):
        x, cond = data.batch([0, 2, 4], Seeds(range(seed, seed + 3)))
        assert cond is None and x.shape == (3, 8) and x.dtype == torch.int64
        for row, item in zip(x, (0, 2, 4), strict=True):
            place = WORDS.index(written(data.codec.decode(row)))
            assert min(8 * item, 35) <= place <= min(8 * item + 7, 35)
    places = {WORDS.index(written(data.codec.decode(data.batch([1], Seeds([s]))[0][0]))) for s in range(60)}
    assert places == set(range(8, 16))
    a, b = data.batch([1, 3], Seeds([4, 5]))[0], data.batch([3], Seeds([5]))[0]
    assert torch.equal(a[1:], b)


def test_windows_in_order_and_errors() -> None:
    data = Text(WORDS, 10, Alphabet(" abcdefghijklmnopqrstuvwxyz"))
    assert [written(data.codec.decode(row)) for row in data.windows()] == [WORDS[i : i + 10] for i in (0, 10, 20, 30)]
    assert len(Text(WORDS, 43)) == 1
    with pytest.raises(ValueError, match="has 43 characters, a window 44"):
        Text(WORDS, 44)
    with pytest.raises(ValueError, match="lacks 'q'"):
        Text(WORDS, 5, Alphabet("the "))


def test_files_of_text(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes("é one\r\ntwo".encode())
    assert read(path) == "é one\ntwo"
    for content, said in ((b"\xff\xfe\xff", "no text in UTF-8"), (b" \n ", "is empty"), (b"a\0b", "holds zero bytes")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=said):
            read(path)
    with pytest.raises(FileNotFoundError, match=r"none\.txt is not there"):
        read(tmp_path / "none.txt")


def test_rare_characters_are_one() -> None:
    assert common("aaabbbc", least=3) == "aaabbb~"
    assert common("aab", least=2, other="_") == "aa_"
    assert common("a" * 50 + "b" * 49) == "a" * 50 + "~" * 49


def test_fortunes_are_read_in_their_order_or_their_package_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/games/fortunes"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(f"{name}\n%\n".encode())
    (folder / "offensive").write_text("no")
    (folder / FILES[0]).write_bytes(b"caf\xe9\n%\n")
    assert fortunes(tmp_path) == "caf\ufffd\n%\n" + "".join(f"{name}\n%\n" for name in FILES[1:])
    (folder / FILES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{FILES[2]} is not there: `apt-get download fortunes`"):
        fortunes(tmp_path)


def test_pictures_as_levels() -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 6, 6), dtype=np.uint8)
    whole = Levels(Arrays(x, np.array([0, 1, 2, 0, 1])), 256)
    got, cond = whole.batch([3, 1], Seeds([0, 1]))
    assert cond is None and got.dtype == torch.int64 and len(whole) == 5
    assert got[:, 0].tolist() == x[[3, 1]].tolist()
    few = Levels(Arrays(x), 4)
    assert few.batch([0], Seeds([0]))[0][0, 0].tolist() == (x[0] // 64).tolist()
    assert few.event == (1, 6, 6) and few.codec.levels == 4 and whole.names == ("0", "1", "2")
