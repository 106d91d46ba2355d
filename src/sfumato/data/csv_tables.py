"""CSV files: separator, decimal sign and header found out, every cell's text kept.

What is written back is the file itself, byte for byte, but for the cells that were filled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sfumato.data.files import beside
from sfumato.data.stamps import Stamps, looks_like_stamp, numbered, parse
from sfumato.data.tables import Numbers, Table, finite

SEPARATORS = ("\t", ";", "|", ",")  # in the order of trust: commas are decimal signs as well
MISSING = frozenset(
    ("", "na", "n/a", "nan", "null", "none", "nil", "?", "-", ".", "#n/a", "<na>", "nat", "missing", "--")
)
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
PLAIN = {sign: re.compile(rf"[+-]?(\d+({re.escape(sign)}\d*)?|{re.escape(sign)}\d+)([eE][+-]?\d+)?") for sign in ".,"}
GROUPED = {
    sign: re.compile(rf"[+-]?\d{{1,3}}({re.escape(other)}\d{{3}})+({re.escape(sign)}\d*)?")
    for sign, other in ((".", ","), (",", "."))
}


@dataclass(frozen=True, eq=False)
class CsvTable(Table):
    """A CSV file: the raw text of every field and line end, and how to read it.

    Attributes:
        records: raw fields of each line of the file, quotes and all; the header's and blank ones too.
        ends: the line ends; the last may be "".
        rows: places of the data rows among the records.
        separator, decimal: as found or named.
        encoding: of the file.
    """

    label: str
    names: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    ends: tuple[str, ...]
    rows: tuple[int, ...]
    separator: str
    decimal: str
    encoding: str

    def __len__(self) -> int:
        return len(self.rows)

    def words(self, name: str) -> list[str]:
        """The cells of a column, unquoted and stripped."""
        place = self.column(name)
        return [unquoted(self.records[row][place]) for row in self.rows]

    def numbers(self, name: str) -> Numbers:
        values = np.empty(len(self))
        for i, word in enumerate(self.words(name)):
            value = number(word, self.decimal)
            if value is None:
                raise ValueError(
                    f"column {name!r} of {self.label} is to hold numbers, but {self.row(i)} holds {word[:40]!r}: "
                    "correct it, or leave the cell empty if it is missing."
                )
            values[i] = value
        return finite(self, name, values)

    def is_numeric(self, name: str) -> bool:
        words = [word for word in self.words(name) if word.lower() not in MISSING]
        known = sum(number(word, self.decimal) is not None for word in words)
        return known > 0.5 * len(words) or not words

    def stamps(self, name: str, zone: str = "", style: str = "") -> Stamps:
        what, words = f"column {name!r} of {self.label}", self.words(name)
        if not style and not looks_like_stamp(words[0]) and number(words[0], self.decimal) is not None:
            return numbered(self.numbers(name), what)
        return parse(words, what, zone, style)

    def filled(self, values: Mapping[str, Numbers]) -> CsvTable:
        records = [list(record) for record in self.records]
        for name, new in values.items():
            old, place = self.numbers(name), self.column(name)
            digits = max((_decimals(word, self.decimal) for word in self.words(name)), default=0)
            for row, was, value in zip(self.rows, old, new, strict=True):
                if np.isnan(was):
                    records[row][place] = self.written(float(value), digits)
        return replace(self, records=tuple(map(tuple, records)))

    def written(self, value: float, digits: int) -> str:
        """A number as the file writes them; quoted where its decimal sign is the separator."""
        text = f"{value:.{digits}f}".replace(".", self.decimal)
        return f'"{text}"' if self.separator in text else text

    def text(self) -> str:
        """The whole file."""
        lines = zip(self.records, self.ends, strict=True)
        return "".join(self.separator.join(record) + end for record, end in lines)

    def write(self, path: Path) -> None:
        with beside(path) as part:
            part.write_bytes(self.text().encode(self.encoding))

    def row(self, index: int) -> str:
        # A quoted field may hold line ends: the line of the file is counted through them.
        before = self.records[: self.rows[index]]
        inside = sum(field.count("\n") for record in before for field in record)
        return f"line {self.rows[index] + inside + 1}"


def read_csv(
    path: Path,
    *,
    separator: str = "",
    decimal: str = "",
    header: bool | None = None,
    encoding: str = "",
) -> CsvTable:
    """A CSV file. What is not given is found out; where that is not possible, the error says what to give.

    Args:
        separator: one character.
        decimal: "." or ",".
        header: whether the first line names the columns.
        encoding: UTF-8, or UTF-16 with its mark, if not given.

    Raises:
        ValueError: if it is no table, its lines differ in length, or a choice cannot be found out.
    """
    text, encoding = _decoded(path, encoding)
    if separator and (len(separator) != 1 or separator in '"\r\n'):
        raise ValueError(f"a separator is one character, got {separator!r}.")
    separator = separator or _separator(text)
    records, ends = split(text, separator, str(path))
    full = _full(records)
    if not full:
        raise ValueError(f"{path} is empty: it has no line with anything in it.")
    first = [unquoted(field) for field in records[full[0]]]
    if header is None:
        header = _names_columns(first)
    rows = full[1:] if header else full
    if not rows:
        raise ValueError(f"{path} has a header and no rows.")
    for row in rows:
        if len(records[row]) != len(first):
            raise ValueError(
                f"{path}: the first line has {len(first)} columns, line {row + 1} has {len(records[row])} "
                f"(separator {separator!r}). Quote cells that hold the separator, or name another."
            )
    names = tuple(word or f"column {i + 1}" for i, word in enumerate(first)) if header else _numbered(len(first))
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}: name them apart.")
    if decimal not in ("", ".", ","):
        raise ValueError(f"the decimal sign is '.' or ',', got {decimal!r}.")
    decimal = decimal or _decimal((unquoted(field) for row in rows for field in records[row]), path)
    return CsvTable(str(path), names, records, ends, tuple(rows), separator, decimal, encoding)


def split(text: str, separator: str, label: str = "the text") -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """(records, ends) of a CSV text: raw fields, and line ends; joined again they are the text.

    Raises:
        ValueError: if a quote is never closed.
    """
    quoted = '"' in text
    if not quoted:
        lines = re.split(r"(\r\n|\n|\r)", text)
        ends = [*lines[1::2], ""]
        pieces = [tuple(line.split(separator)) for line in lines[::2]]
    else:
        pieces, ends, record = [], [], []
        field = re.compile(rf'("(?:[^"]|"")*"[^{re.escape(separator)}\r\n]*|[^{re.escape(separator)}\r\n]*)')
        place, stop = 0, re.compile(r"\r\n|\n|\r")
        while True:
            found = field.match(text, place)
            assert found is not None
            if found.group().startswith('"') and found.group().count('"') % 2:
                raise ValueError(f"{label}: the quote opened in line {text.count(chr(10), 0, place) + 1} is not closed.")
            record.append(found.group())
            place = found.end()
            if place < len(text) and text[place] == separator:
                place += 1
                continue
            pieces.append(tuple(record))
            record = []
            end = stop.match(text, place)
            ends.append(end.group() if end else "")
            if end is None:
                break
            place = end.end()
    if pieces and pieces[-1] == ("",) and len(pieces) > 1:  # after the last line end there is no further line
        pieces, ends = pieces[:-1], ends[:-1]
    return tuple(pieces), tuple(ends)


def unquoted(field: str) -> str:
    """The text in a raw field."""
    word = field.strip()
    return word[1:-1].replace('""', '"').strip() if len(word) > 1 and word[0] == word[-1] == '"' else word


def number(word: str, decimal: str = ".") -> float | None:
    """The number that a word writes, NaN for a missing one, None for any other text."""
    if word.lower() in MISSING:
        return float("nan")
    if INFINITE.fullmatch(word):
        return float("inf")
    if PLAIN[decimal].fullmatch(word):
        return float(word.replace(decimal, "."))
    if GROUPED[decimal].fullmatch(word):
        return float(word.replace("," if decimal == "." else ".", "").replace(decimal, "."))
    return None


def _decimals(word: str, decimal: str) -> int:
    """Digits after the decimal sign, as many as the value needs."""
    value = number(word, decimal)
    if value is None or not np.isfinite(value):
        return 0
    mantissa, _, exponent = word.lower().partition("e")
    return max(0, len(mantissa.partition(decimal)[2]) - int(exponent or 0))


def _decoded(path: Path, encoding: str) -> tuple[str, str]:
    raw = path.read_bytes()
    if not encoding:
        marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
        encoding = next((name for mark, name in marks.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except LookupError:
        raise ValueError(f"no encoding {encoding!r}: utf-8, utf-16, latin-1, cp1252, ...") from None
    except UnicodeError:
        raise ValueError(f"{path} is no table in {encoding}: name its encoding (latin-1, cp1252, ...).") from None
    if "\0" in text:
        raise ValueError(f"{path} is no text: it holds zero bytes.")
    return text, encoding


def _separator(text: str) -> str:
    """The first of `SEPARATORS` that cuts all lines (the first 200) into the same number of fields, at least 2."""
    lines = [re.sub(r'"(?:[^"]|"")*"', "", line) for line in text[:200_000].splitlines()[:200] if line.strip()]
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in (lines[:-1] if len(lines) == 200 else lines)}
        if len(counts) == 1 and counts != {0}:
            return separator
    # No sign cuts them all alike: the one that cuts the most lines, so that the error names the line that differs.
    found = max(SEPARATORS, key=lambda separator: sum(separator in line for line in lines))
    return found if any(found in line for line in lines) else ","


def _decimal(words: Sequence[str] | object, path: Path) -> str:
    """The decimal sign: a comma where it alone reads numbers that a point does not.

    Raises:
        ValueError: where every number with a comma might be one with groups of thousands.
    """
    points = commas = unclear = 0
    for word in words:  # type: ignore[attr-defined]
        if "," not in word and "." not in word:
            continue
        by_point, by_comma = number(word, "."), number(word, ",")
        if by_point is not None and by_comma is None:
            points += 1
        elif by_comma is not None and by_point is None:
            commas += 1
        elif by_point is not None and "," in word:
            unclear += 1
    if commas and points:
        return "." if points >= commas else ","
    if unclear and not commas and not points:
        raise ValueError(f"{path}: a number such as 1,234 may be 1.234 or 1234: name the decimal sign.")
    return "," if commas else "."


def _full(records: Sequence[Sequence[str]]) -> list[int]:
    """Places of the lines that are rows or the header: not the blank ones, but for those inside a lone column."""
    full = [i for i, record in enumerate(records) if len(record) > 1 or record[0].strip()]
    alone = all(len(records[i]) == 1 for i in full)
    return list(range(full[0], full[-1] + 1)) if full and alone else full


def _names_columns(first: Sequence[str]) -> bool:
    """Whether a first line is a header: it holds text, and neither a number nor a stamp."""
    values = [word for word in first if word.lower() not in MISSING]
    return bool(values) and not any(
        looks_like_stamp(word) or any(number(word, sign) is not None for sign in ".,") for word in values
    )


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"c{i + 1}" for i in range(count))
