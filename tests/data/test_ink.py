"""Strokes: two formats, resampling, flags, jitter, and drawings that are read again."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.data import ink

BENT = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 6.0]])
LINE = np.array([[10.0, 10.0], [10.0, 13.0]])


def seeds(n):
    return sf.Seeds(range(n))


def svg(*paths):
    inside = "".join(f'<path id="kvg:1" d="{d}"/>' for d in paths)
    return f'<svg xmlns="http://www.w3.org/2000/svg"><g>{inside}</g><text>1</text></svg>'


def test_hanzi_writer_points_down(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"strokes": ["M"], "medians": [[[0, 900], [5, 890]], [[1, 0], [2, 1]]]})
    )
    first, second = ink.read_strokes(tmp_path / "a.json")
    assert first.tolist() == [[0, 0], [5, 10]] and second.tolist() == [[1, 900], [2, 899]]


def at(d, tmp_path):
    (tmp_path / "a.svg").write_text(svg(d))
    return ink.read_strokes(tmp_path / "a.svg")[0]


@pytest.mark.parametrize(
    ("d", "ends"),
    [
        ("M1,2 L3,4", [[1, 2], [3, 4]]),
        ("m1-2l.5.5 1e1,0", [[1, -2], [1.5, -1.5], [11.5, -1.5]]),
        ("M1 2 3 4 5 6", [[1, 2], [3, 4], [5, 6]]),
        ("m1 2 3 4 5 6", [[1, 2], [4, 6], [9, 12]]),
        ("M1,2H5V7h-1v-2", [[1, 2], [5, 2], [5, 7], [4, 7], [4, 5]]),
        ("M1,2L3,2 3,4Z", [[1, 2], [3, 2], [3, 4], [1, 2]]),
    ],
)
def test_lines_of_a_path(tmp_path, d, ends):
    assert np.allclose(at(d, tmp_path), ends)


def test_curves_of_a_path(tmp_path):
    """Cubic, smooth (the handle mirrored) and quadratic: halfway points by the Bernstein polynomials."""
    half = ink.CURVE // 2
    for d in ("M1,1C1,5,9,5,9,1", "M1,1c0,4,8,4,8,0"):
        x = at(d, tmp_path)
        assert len(x) == 1 + ink.CURVE and np.allclose(x[half], [5, 4]) and np.allclose(x[-1], [9, 1])
    third = x[ink.CURVE // 3]  # t = 1/3: (8, 12, 6, 1) / 27
    assert np.allclose(third, [(8 + 12 + 54 + 9) / 27, (8 + 60 + 30 + 1) / 27])
    x = at("M0,0C0,0,2,3,4,3S8,1,8,0", tmp_path)  # the second handle is (6, 3)
    assert np.allclose(x[-1 - half], [(4 + 3 * 6 + 3 * 8 + 8) / 8, (3 + 9 + 3 + 0) / 8])
    x = at("M0,0C0,0,2,3,4,3s4,-2,4,-3", tmp_path)
    assert np.allclose(x[-1 - half], [(4 + 3 * 6 + 3 * 8 + 8) / 8, (3 + 9 + 3 + 0) / 8])
    x = at("M0,0Q2,4,4,0", tmp_path)
    assert np.allclose(x[half], [2, 2])
    x = at("M0,0L4,4S6,0,8,0", tmp_path)  # after a line the first handle is where the pen is
    assert np.allclose(x[-1 - half], [(4 + 12 + 18 + 8) / 8, (4 + 12) / 8])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "JSONDecodeError"),
        ("a.json", '{"x": 1}', "KeyError"),
        ("a.json", '{"medians": []}', "holds no strokes"),
        ("a.json", '{"medians": [[[0, 1, 2]]]}', "holds no strokes"),
        ("a.json", '{"medians": [[[0, NaN]]]}', "holds no strokes"),
        ("a.svg", "<svg>", "ParseError"),
        ("a.svg", svg("M0,0L1"), "ends inside L"),
        ("a.svg", svg("A1,1"), "KeyError"),
        ("a.svg", svg(), "holds no strokes"),
        ("a.txt", "x", "are hanzi-writer .json or KanjiVG .svg"),
        ("a.svg", "", "empty"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        ink.read_strokes(tmp_path / name)


def test_offsets_by_hand():
    """Arc lengths 9 and 3 share 3 steps beside the least: 2 for the first. Then the flag, and padding."""
    row = ink.offsets([BENT, LINE], 6, 8)
    assert np.allclose(row[:, 0], [3, 0, 0])  # a third of the arc: the corner
    assert np.allclose(row[:, 1:3], [[0, 0], [3, 3], [0, 0]])
    assert np.allclose(row[:, 3], [7, 4, 1])  # to the second stroke, with the pen up
    assert np.allclose(row[:, 4:6], [[0, 0], [1.5, 1.5], [0, 0]])
    assert np.allclose(row[:, 6:], [[0, 0], [0, 0], [1, 1]])
    assert row[2].tolist() == [0, 0, 0, 1, 0, 0, 1, 1]


def test_the_least_and_the_most_steps():
    assert ink.offsets([BENT, LINE], 3, 3)[2].tolist() == [0, 1, 0]
    point = np.array([[2.0, 2.0]])
    assert ink.offsets([point, LINE], 4, 4)[2].tolist().count(1.0) == 1
    assert not np.isnan(ink.offsets([point, point + 1], 4, 8)).any()
    for steps, length in ((2, 8), (9, 8)):
        with pytest.raises(ValueError, match="2 strokes take 3 steps or more, and at most 8"):
            ink.offsets([BENT, LINE], steps, length)


def test_items_have_unit_offsets_flags_untouched_and_a_jitter_of_their_own():
    source = ink.Ink([[BENT, LINE], [LINE]], 8, labels=[1, 0], names=("a", "b"), jitter=0.0)
    x0, labels = source.batch([0, 1], seeds(2))
    assert labels.tolist() == [1, 0] and x0.dtype == torch.float32 and source.event == (3, 8)
    rows = [ink.offsets([BENT, LINE], 6, 8), ink.offsets([LINE], 6, 8)]
    used = np.concatenate([row[:2, :6] for row in rows], 1)
    assert x0[0, :2].numpy() == pytest.approx(rows[0][:2] / math.sqrt((used**2).mean()), abs=1e-6)
    assert x0[:, 2].tolist() == [row[2].tolist() for row in rows]
    assert torch.allclose(source.codec.decode(x0)[1].double(), torch.from_numpy(rows[1]), atol=1e-6)
    many = ink.Ink([[BENT, LINE]], 8, jitter=0.1)
    x, none = many.batch([0] * 500, seeds(500))
    assert none is None and torch.equal(x[7], many.batch([0], sf.Seeds([7]))[0][0])
    assert torch.equal(x[:, 2], x0[:1, 2].expand(500, 8))
    clean = many.codec.encode(torch.from_numpy(rows[0])[None])[0]
    moves = x[:, :2].double() @ torch.linalg.pinv(clean[:2])
    assert torch.allclose(moves.mean(0), torch.eye(2).double(), atol=0.02)
    assert torch.allclose(moves.std(0), torch.full((2, 2), 0.1).double(), atol=0.015)
    assert ink.Ink([[LINE] * 4], 8).rows[0, 2].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]  # 7 steps, more than 3/4 of 8


def test_what_cannot_be_trained_on():
    for length in (0, 12):
        with pytest.raises(ValueError, match="multiple of 8"):
            ink.Ink([[LINE]], length)
    with pytest.raises(ValueError, match="no strokes"):
        ink.Ink([], 8)
    with pytest.raises(ValueError, match="are points"):
        ink.Ink([[LINE[:1]]], 8)


def test_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no strokes below"):
        ink.Ink.read(tmp_path)
    (tmp_path / "b").mkdir()
    for name, d in (("00062.svg", "M0,0L1,0"), ("00041.svg", "M0,0L0,2"), ("b/00041.svg", "M0,0L0,3")):
        (tmp_path / name).write_text(svg(d))
    (tmp_path / "b" / "many.svg").write_text(svg(*["M0,0L1,1"] * 5))  # 9 steps at least
    for name in ("package.json", "all.json", ".a.json"):
        (tmp_path / name).write_text("{}")
    plain, sorted_out = ink.Ink.read(tmp_path, 8), ink.Ink.read(tmp_path, 8, classes=True)
    assert len(plain) == 3 and plain.names == () and plain.labels is None
    assert sorted_out.names == ("A", "b") and sorted_out.labels.tolist() == [0, 1, 0]
    assert sorted_out.fields(True)["classes"] == 2 and sorted_out.fields(True)["length"] == 8
    assert len(ink.Ink.read(tmp_path, 16)) == 4
    with pytest.raises(ValueError, match="too many strokes for 8"):
        ink.Ink.read(_only(tmp_path / "c"), 8)


def _only(folder):
    folder.mkdir()
    (folder / "x.svg").write_text(svg(*["M0,0L1,1"] * 5))
    return folder


def test_packages(tmp_path):
    for read, said in ((ink.hanzi, "npm pack hanzi-writer-data"), (ink.kanjivg, "pip download --no-deps kanjivg")):
        with pytest.raises(FileNotFoundError, match=said):
            read(tmp_path, "a")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "永.json").write_text('{"medians": [[[0, 900], [1, 899]]]}')
    assert ink.hanzi(tmp_path, "永")[0][0].tolist() == [[0, 0], [1, 1]]
    with pytest.raises(FileNotFoundError, match="no strokes of 木"):
        ink.hanzi(tmp_path, "永木")
    (tmp_path / "kanji").mkdir()
    (tmp_path / "kanji" / "00041.svg").write_text(svg("M0,0L1,2"))
    assert ink.kanjivg(tmp_path, "A")[0][0].tolist() == [[0, 0], [1, 2]]
    assert ink.character(tmp_path / "永.json") == "永" and ink.character(tmp_path / "abcde.json") == "abcde"


def test_a_drawing_is_read_again(tmp_path):
    """Strokes that meet are one path, those apart two; where the pen is up there is no ink."""
    row = torch.from_numpy(ink.offsets([BENT, LINE], 6, 8))
    ink.write_svg(tmp_path / "a.svg", row)
    text = (tmp_path / "a.svg").read_text()
    x = ink.read_strokes(tmp_path / "a.svg")[0]
    assert np.allclose(x, [[0, 0], [3, 0], [3, 3], [3, 6], [10, 10], [10, 11.5], [10, 13]])
    assert text.count("M") == 2
    pen = float(re.search(r'stroke-width="([\d.]+)"', text)[1])
    assert pen == pytest.approx(0.5 * (3 + 3 + 3 + 1.5 + 1.5) / 5, abs=1e-3)
    box = [float(n) for n in re.search(r'viewBox="([^"]+)"', text)[1].split()]
    assert box == pytest.approx([-2 * pen, -2 * pen, 10 + 4 * pen, 13 + 4 * pen], abs=2e-3)
    row[2] = 0.51
    ink.write_svg(tmp_path / "b.svg", row)
    assert 'd=""' in (tmp_path / "b.svg").read_text()
