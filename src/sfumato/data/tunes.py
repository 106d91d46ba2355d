"""Melodies on a grid of sixteenth notes: ABC and MIDI files to tokens, and MIDI of those.

A tune is (T,) whole numbers: 0 silence begins, 1 what is goes on, 2 + i the note `LOW` + i begins. One voice: of notes
that sound together the highest is kept. Repeats are played once; ornaments and grace notes are left out.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.codecs.bars import BAR, HOLD, REST, Bars
from sfumato.data.files import below, beside, present
from sfumato.noise import Seeds

SUFFIXES = (".abc", ".mid", ".midi")
LOW, HIGH = 48, 84  # MIDI numbers of the notes that have a token
SHARPS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}  # of the major keys
MODES = {"": 0, "maj": 0, "ion": 0, "m": -3, "min": -3, "aeo": -3, "dor": -2, "mix": -1, "lyd": 1, "phr": -4, "loc": -5}
PLACE = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
TOKEN = re.compile(
    r"\[(?P<field>[A-Za-z]):(?P<value>[^\]]*)\]|(?P<skip>\"[^\"]*\"|![^!]*!|\{[^}]*\}|%.*)|(?P<bar>[|:\]]+|\[\||\[\d)"
    r"|\((?P<tuplet>[2-9])|(?P<chord>\[[^\]]+\])(?P<clen>\d*/*\d*)|(?P<broken>[<>]+)"
    r"|(?P<acc>\^\^|\^|__|_|=)?(?P<note>[A-Ga-gzxZ])(?P<octave>[',]*)(?P<len>\d*/*\d*)|(?P<tie>-)"
)
Note = tuple[int | None, Fraction]  # MIDI number, None for silence, and its length in whole notes


def read_tunes(path: str | Path) -> list[list[Note]]:
    """The tunes of an ABC file, or the one melody of a MIDI file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, damaged, or of another format.
    """
    path = present(Path(path))
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"tunes are {', '.join(SUFFIXES)} files, got {path.name}.")
    try:
        if path.suffix.lower() == ".abc":
            parts = re.split(r"^X:.*$", path.read_bytes().decode("utf-8", "replace"), flags=re.M)[1:]
            found = [tune for part in parts if (tune := parse_abc(part))]
        else:
            found = [parse_midi(path.read_bytes())]
    except (ValueError, IndexError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is damaged or no {path.suffix[1:].upper()} file ({error}).") from None
    if not any(found):
        raise ValueError(f"{path} holds no notes.")
    return found


def parse_abc(text: str) -> list[Note]:
    """The notes of one tune in ABC, without its X: field."""
    unit, meter, key = Fraction(0), Fraction(1), dict[str, int]()
    local: dict[str, int] = {}
    notes: list[Note] = []
    stretch, left, pending, tied = Fraction(1), 0, Fraction(1), False
    for line in text.splitlines():
        if field := re.match(r"([A-Za-z]):\s*(.*)", line):
            name, value = field[1], field[2].partition("%")[0].strip()
            unit, meter, key = _field(name, value, unit, meter, key)
            continue
        for found in TOKEN.finditer(line):
            kind = found.groupdict()
            if kind["field"]:
                unit, meter, key = _field(kind["field"], kind["value"].strip(), unit, meter, key)
            elif kind["bar"]:
                local = {}
            elif kind["tuplet"]:
                left = int(kind["tuplet"])
                stretch = Fraction({2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(left, 2), left)
            elif kind["broken"] and notes:
                short = Fraction(1, 2 ** len(kind["broken"]))
                first, second = (2 - short, short) if kind["broken"][0] == ">" else (short, 2 - short)
                notes[-1] = (notes[-1][0], notes[-1][1] * first)
                pending = second
            elif kind["tie"] and notes:
                tied = True
            elif kind["note"] or kind["chord"]:
                length = _length(kind["len"] or kind["clen"] or "")
                if kind["chord"]:
                    inside = [m.groupdict() for m in TOKEN.finditer(kind["chord"][1:-1]) if m["note"]]
                    heard = [n for part in inside if (n := _pitch(part, key, local)) is not None]
                    pitch = max(heard, default=None)
                    length *= _length(inside[0]["len"]) if inside else 1
                else:
                    pitch = _pitch(kind, key, local)
                if kind["note"] == "Z":
                    whole = meter * length
                else:
                    whole = length * (unit or _default(meter)) * (stretch if left else 1) * pending
                left, pending = max(left - 1, 0), Fraction(1)
                if tied and notes and notes[-1][0] == pitch:
                    notes[-1] = (pitch, notes[-1][1] + whole)
                else:
                    notes.append((pitch, whole))
                tied = False
    return notes


def _field(
    name: str, value: str, unit: Fraction, meter: Fraction, key: dict[str, int]
) -> tuple[Fraction, Fraction, dict[str, int]]:
    """The unit of length, the meter and the key after a field."""
    if name == "L":
        unit = Fraction(value)
    elif name == "M":
        named = {"C": Fraction(1), "C|": Fraction(1)}
        meter = named[value] if value in named else Fraction(value) if re.fullmatch(r"\d+/\d+", value) else Fraction(1)
    elif name == "K":
        key = _key(value)
    return unit, meter, key


def _default(meter: Fraction) -> Fraction:
    return Fraction(1, 16) if meter < Fraction(3, 4) else Fraction(1, 8)


def _key(value: str) -> dict[str, int]:
    """Letters of a key and by how much they are raised."""
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", value)
    if not found:
        return {}
    mode = found[3].lower()[:3] if found[3].lower() != "m" else "m"
    count = SHARPS[found[1]] + 7 * {"": 0, "#": 1, "b": -1}[found[2]] + MODES.get(mode, 0)
    letters = "FCGDAEB" if count > 0 else "BEADGCF"
    return dict.fromkeys(letters[: abs(count)], 1 if count > 0 else -1)


def _pitch(part: dict[str, str | None], key: dict[str, int], local: dict[str, int]) -> int | None:
    """The MIDI number of a note, an accidental being kept to the end of the bar; None for a rest."""
    letter = part["note"] or ""
    if letter in "zxZ":
        return None
    marks = part["octave"] or ""
    octave = 5 + letter.islower() + marks.count("'") - marks.count(",")
    name = f"{letter.upper()}{octave}"
    if part["acc"]:
        local[name] = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}[part["acc"]]
    return 12 * octave + PLACE[letter.upper()] + local.get(name, key.get(letter.upper(), 0))


def _length(text: str | None) -> Fraction:
    """3, /, /4, 3/2, // as factors."""
    above, slashes, below = re.fullmatch(r"(\d*)(/*)(\d*)", text or "").groups()  # type: ignore[union-attr]
    under = Fraction(int(below)) if below else Fraction(2 ** len(slashes))
    return Fraction(int(above or 1)) / under


def parse_midi(raw: bytes) -> list[Note]:
    """The melody of a MIDI file of kind 0 or 1: at each moment the highest note that has begun last."""
    if raw[:4] != b"MThd" or len(raw) < 14:
        raise ValueError("it does not begin with MThd")
    division, at = int.from_bytes(raw[12:14], "big"), 8 + int.from_bytes(raw[4:8], "big")
    if division >= 0x8000 or division == 0:
        raise ValueError("its clock counts seconds, not beats")
    events: list[tuple[int, int, int, bool]] = []  # tick, order, note, begins
    while at < len(raw):
        size = int.from_bytes(raw[at + 4 : at + 8], "big")
        if at + 8 + size > len(raw):
            raise ValueError("a track ends too soon")
        if raw[at : at + 4] == b"MTrk":
            events += _track(raw[at + 8 : at + 8 + size])
        at += 8 + size
    sounding: set[int] = set()
    notes: list[Note] = []
    last, now, whole = 0, None, 4 * division
    for tick in sorted({event[0] for event in events}):
        here = [event for event in events if event[0] == tick]
        ended = {note for _, _, note, begins in here if not begins}
        begun = {note for _, _, note, begins in here if begins}
        sounding = (sounding - ended) | begun
        top = max(sounding, default=None)
        if top != now or top in begun:
            if tick > last:
                notes.append((now, Fraction(tick - last, whole)))
            last, now = tick, top
    return notes


def _track(raw: bytes) -> list[tuple[int, int, int, bool]]:
    at = tick = status = 0
    found: list[tuple[int, int, int, bool]] = []

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            byte = raw[at]
            at += 1
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value

    while at < len(raw):
        tick += number()
        if raw[at] >= 0x80:
            status, at = raw[at], at + 1
        if status == 0xFF:
            at += 1
            skipped = number()
            at += skipped
        elif status in (0xF0, 0xF7):
            skipped = number()
            at += skipped
        elif status >> 4 in (0x8, 0x9):
            if status & 15 != 9:  # drums
                found.append((tick, len(found), raw[at], status >> 4 == 9 and raw[at + 1] > 0))
            at += 2
        else:
            at += 1 if status >> 4 in (0xC, 0xD) else 2
    return found


def grid(notes: list[Note]) -> Tensor | None:
    """Tokens (T,) int64 of notes, moved by octaves into the compass; None where they do not fit in."""
    pitches = [pitch for pitch, _ in notes if pitch is not None]
    if not pitches or max(pitches) - min(pitches) >= HIGH - LOW:
        return None
    shift = next(
        (
            12 * n
            for n in sorted(range(-10, 11), key=abs)
            if min(pitches) + 12 * n >= LOW and max(pitches) + 12 * n < HIGH
        ),
        None,
    )
    if shift is None:
        return None
    time = Fraction(0)
    tokens = torch.full((round(16 * sum(length for _, length in notes)),), HOLD)
    for pitch, length in notes:
        place, time = round(16 * time), time + length
        if place < min(len(tokens), round(16 * time)):
            tokens[place] = REST if pitch is None else 2 + pitch + shift - LOW
    return tokens


class Tunes:
    """Tunes as training data: windows of `length` sixteenths, one after the other, as latents of their bars.

    Args:
        tunes: tokens (T,) each.
        length: of a window, whole bars of 16; those that are shorter are left out.
        code: numbers of a latent, by `Bars.fitted` on all bars.

    Raises:
        ValueError: if the length is no number of bars, or no tune is as long.
    """

    names: tuple[str, ...] = ()
    decided = ("code",)  # field of the recipe that is settled by the codec

    def __init__(self, tunes: list[Tensor], length: int = 128, code: int = 42) -> None:
        if length < BAR or length % BAR:
            raise ValueError(f"a window is whole bars of {BAR} sixteenths, got {length}: --size is a multiple.")
        parts = [tune[: len(tune) // length * length].reshape(-1, length) for tune in tunes]
        self.windows = torch.cat([*parts, torch.empty(0, length, dtype=torch.int64)])
        if not len(self.windows):
            raise ValueError(f"no tune has {length} sixteenths: --size is less.")
        self.event, self.codec = (length,), Bars.fitted(self.windows, 2 + HIGH - LOW, code)

    @classmethod
    def read(cls, path: str | Path, length: int = 128, code: int = 42) -> Tunes:
        """Those of the files below a folder, or of one file.

        Raises:
            FileNotFoundError: if there is none.
        """
        path = Path(path)
        files = tunes(path) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(f"there is no tune below {path}: they are {', '.join(SUFFIXES)} files.")
        found = [made for file in files for notes in read_tunes(file) if (made := grid(notes)) is not None]
        return cls(found, length, code)

    def fields(self, few: bool) -> dict[str, Any]:
        """Fields of the recipe that such data decide, or suggest: a small network for few tunes (ours)."""
        small = {"layers": 3, "feed": 256, "hidden": 512} if few else {}
        return small | {"code": len(self.codec.low)}

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): latents (B, code, bars) in [-1, 1]; nothing is drawn."""
        return self.codec.encode(self.windows[items]), None


def tunes(path: Path) -> list[Path]:
    """The tune files below a folder, sorted, hidden ones left out."""
    return below(path, SUFFIXES)


def corpus(root: Path, *folders: str) -> list[list[Note]]:
    """The ABC tunes of these folders of the Python package music21's corpus, below `root` (public-domain music).

    Raises:
        FileNotFoundError: with the package to unpack.
    """
    places = [root / "music21/corpus" / name for name in folders]
    if missing := [place for place in places if not place.is_dir()]:
        raise FileNotFoundError(
            f"{missing[0]} is not there: `pip download --no-deps music21==10.5.1`, `unzip` the wheel, name its folder."
        )
    return [notes for place in places for file in tunes(place) for notes in read_tunes(file)]


def write_midi(path: Path, tokens: Tensor) -> None:
    """Writes tokens (T,) as a MIDI file of one track, 480 ticks a quarter note, 120 quarters a minute."""
    body, last, sounding = bytearray(), 0, -1

    def event(tick: int, *data: int) -> None:
        nonlocal last
        wait = tick - last
        parts = [wait & 0x7F]
        while wait := wait >> 7:
            parts.insert(0, wait & 0x7F | 0x80)
        body.extend((*parts, *data))
        last = tick

    for step, token in enumerate([*tokens.tolist(), REST]):
        if token == HOLD:
            continue
        if sounding >= 0:
            event(120 * step, 0x80, sounding, 0)
        sounding = LOW + token - 2 if token > HOLD else -1
        if sounding >= 0:
            event(120 * step, 0x90, sounding, 80)
    event(120 * len(tokens), 0xFF, 0x2F, 0)
    head = b"MThd" + (6).to_bytes(4, "big") + b"".join(n.to_bytes(2, "big") for n in (0, 1, 480))
    with beside(path) as part:
        part.write_bytes(head + b"MTrk" + len(body).to_bytes(4, "big") + bytes(body))
