"""Tunes: ABC and MIDI by hand, the grid of sixteenths, and what is written is read."""

from __future__ import annotations

from fractions import Fraction as F

import pytest
import torch

import sfumato as sf
from sfumato.data import tunes


def heard(text):
    return [(pitch, float(length) * 16) for pitch, length in tunes.parse_abc(text)]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("L:1/8\nK:C\nC D2 E/ F3/2 z4 c'", [(60, 2), (62, 4), (64, 1), (65, 3), (None, 8), (84, 2)]),
        ("L:1/4\nK:C\nC, c,, d// e/4", [(48, 4), (48, 4), (74, 1), (76, 1)]),
        ("M:6/8\nK:C\nC", [(60, 2)]),  # 3/4 or more: eighths
        ("M:2/4\nK:C\nC", [(60, 1)]),
        ("M:C|\nK:C\nC", [(60, 2)]),
        ("M:none\nK:C\nC", [(60, 2)]),
        ("M:3/4\nL:1/4\nK:C\nZ2", [(None, 24)]),
        ("L:1/8\nK:G\nF f | F", [(66, 2), (78, 2), (66, 2)]),
        ("L:1/8\nK:Bb\nBEAd", [(70, 2), (63, 2), (69, 2), (74, 2)]),
        ("L:1/8\nK:F#\nEB", [(65, 2), (71, 2)]),
        ("L:1/8\nK:Am\nF", [(65, 2)]),
        ("L:1/8\nK:D dorian\nFB", [(65, 2), (71, 2)]),
        ("L:1/8\nK:Amix\nFGc", [(66, 2), (67, 2), (73, 2)]),
        ("L:1/8\nK:none\nF", [(65, 2)]),
        (
            "L:1/8\nK:C\n^F F f | F =F _B __B ^^C",
            [(66, 2), (66, 2), (77, 2), (65, 2), (65, 2), (70, 2), (69, 2), (62, 2)],
        ),
        ("L:1/8\nK:D\n=F F | F", [(65, 2), (65, 2), (66, 2)]),
        ("L:1/8\nK:C\nA>B A<B A>>B", [(69, 3), (71, 1), (69, 1), (71, 3), (69, 3.5), (71, 0.5)]),
        ("L:1/8\nK:C\n(3ABc d", [(69, 4 / 3), (71, 4 / 3), (72, 4 / 3), (74, 2)]),
        ("L:1/8\nK:C\n(2AB c", [(69, 3), (71, 3), (72, 2)]),
        ("L:1/8\nK:C\nA-A | A-B", [(69, 4), (69, 2), (71, 2)]),
        ("L:1/8\nK:C\n[CEG]2 [C2E2]", [(67, 4), (64, 4)]),
        ('L:1/8\nK:C\n"Am"A !trill!B {cd}e % A A', [(69, 2), (71, 2), (76, 2)]),
        ("L:1/8\nK:C\nA [L:1/4] A [K:G] F [1 A :|[2 B", [(69, 2), (69, 4), (66, 4), (69, 4), (71, 4)]),
        ("T:A title\nL:1/8 % said\nK:C\nA", [(69, 2)]),
    ],
)
def test_abc(text, want):
    got = heard(text)
    assert [p for p, _ in got] == [p for p, _ in want]
    assert [l for _, l in got] == pytest.approx([l for _, l in want])


def test_a_file_of_tunes(tmp_path):
    (tmp_path / "a.abc").write_text("% a book\n\nX:1\nK:C\nA\n\nX: 2\nT:empty\nK:C\n\nX:3\nK:C\nB2\n")
    assert [[p for p, _ in tune] for tune in tunes.read_tunes(tmp_path / "a.abc")] == [[69], [71]]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.abc", b"X:1\nK:C\n", "holds no notes"),
        ("a.abc", b"X:1\nL:x\nK:C\nA", "damaged or no ABC"),
        ("a.abc", b"X:1\nL:1/0\nK:C\nA", "damaged or no ABC"),
        ("a.mid", b"RIFF", "begin with MThd"),
        ("a.mid", b"MThd\0\0\0\6\0\0\0\1\xe7\x28", "seconds, not beats"),
        ("a.mid", b"MThd\0\0\0\6\0\0\0\1\0\0", "seconds, not beats"),
        ("a.mid", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\x09\0", "ends too soon"),
        ("a.mid", b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\2\0\x90", "damaged or no MID file"),
        ("a.txt", b"x", "tunes are .abc"),
        ("a.mid", b"", "empty"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        tunes.read_tunes(tmp_path / name)


def midi(*tracks, division=96):
    parts = [b"MTrk" + len(t).to_bytes(4, "big") + t for t in tracks]
    return b"MThd\0\0\0\6\0\1\0\2" + division.to_bytes(2, "big") + b"XXXX\0\0\0\1\0" + b"".join(parts)


def test_midi_by_hand():
    """Running status, a silent note-on as an end, a tempo, a program, a drum, a long wait, the upper of two voices."""
    one = (
        b"\0\xff\x51\3\7\xa1\x20" + b"\0\xc0\5" + b"\0\x90\x3c\x40" + b"\x60\x3c\0" + b"\x83\0\x3e\x40" + b"\x60\x3e\0"
    )
    two = (
        b"\0\x99\x50\x40"
        + b"\x30\x91\x40\x40"
        + b"\x30\x81\x40\0"
        + b"\0\xf0\2\1\1"
        + b"\0\xb1\7\x40"
        + b"\0\xe1\0\x40"
    )
    got = tunes.parse_midi(midi(one, two))
    assert got == [(60, F(1, 8)), (64, F(1, 8)), (None, F(1)), (62, F(1, 4))]
    again = b"\0\x90\x3c\x40\x60\x3c\x40\x60\x3c\0"  # struck again without an end
    assert tunes.parse_midi(midi(again)) == [(60, F(1, 4)), (60, F(1, 4))]


def test_the_grid():
    tokens = tunes.grid([(60, F(1, 8)), (None, F(1, 16)), (72, F(3, 16))])
    assert tokens.tolist() == [2 + 12, 1, 0, 2 + 24, 1, 1]
    assert tunes.grid([(96, F(1, 16))]).tolist() == [2 + 24]  # down by octaves, the least that serves
    assert tunes.grid([(30, F(1, 16))]).tolist() == [2 + 6]
    thirds = tunes.grid([(60 + i, F(1, 12)) for i in range(3)])
    assert thirds.tolist() == [14, 15, 1, 16]  # at 0, 1.33, 2.67 sixteenths
    assert tunes.grid([(60, F(1, 64)), (62, F(1, 16))]).tolist() == [16]  # a note too short for its place gives way
    assert tunes.grid([(None, F(1))]) is None and tunes.grid([(40, F(1)), (76, F(1))]) is None
    assert tunes.grid([(47, F(1)), (82, F(1))]) is None  # a compass of three octaves that no octave shift brings in


@pytest.mark.parametrize("row", [[14, 1, 1, 20, 0, 1, 14, 14], [1, 0, 37, 1], [2] + [1] * 200])
def test_what_is_written_is_read(tmp_path, row):
    tokens = torch.tensor(row)
    tunes.write_midi(tmp_path / "a.mid", tokens)
    notes = tunes.read_tunes(tmp_path / "a.mid")[0]
    want = [(tunes.LOW + t - 2, i) for i, t in enumerate(row) if t > 1]
    at, got = F(0), []
    for pitch, length in notes:
        got += [] if pitch is None else [(pitch, 16 * at)]
        at += length
    assert got == want
    if 0 not in row:
        assert 16 * at == len(row)


def test_windows_and_what_cannot_be_trained_on(tmp_path):
    tune = torch.tensor([14, 1, 1, 1, 16, 1, 1, 1] * 9)  # 72: one window of two bars, twice
    other = torch.tensor([20, 1] * 16)
    source = tunes.Tunes([tune, other, other[:31]], 32)
    assert len(source) == 3 and source.event == (32,) and source.fields(True)["code"] == len(source.codec.low) == 1
    x0, none = source.batch([2, 0], sf.Seeds([0, 1]))
    assert none is None and torch.equal(source.codec.decode(x0), torch.stack([other, tune[:32]]))
    for length in (0, 20):
        with pytest.raises(ValueError, match="whole bars of 16"):
            tunes.Tunes([tune], length)
    with pytest.raises(ValueError, match="no tune has 80"):
        tunes.Tunes([tune], 80)
    with pytest.raises(ValueError, match="all bars are the same"):
        tunes.Tunes([other], 32)
    with pytest.raises(FileNotFoundError, match="no tune below"):
        tunes.Tunes.read(tmp_path)
    (tmp_path / "a.abc").write_text("X:1\nL:1/16\nK:C\n" + "A4B4c4d4|" * 2 + "A8B8|A8c8\n\nX:2\nL:1/16\nK:C\nA16\n")
    for where in (tmp_path, tmp_path / "a.abc"):
        assert len(tunes.Tunes.read(where, 32)) == 2


def test_the_corpus_names_its_package(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip download --no-deps music21"):
        tunes.corpus(tmp_path, "airdsAirs")
    folder = tmp_path / "music21/corpus/airdsAirs"
    folder.mkdir(parents=True)
    (folder / "a.abc").write_text("X:1\nK:C\nA\n")
    assert tunes.corpus(tmp_path, "airdsAirs") == [[(69, F(1, 8))]]
