"""Tables as their owners keep them: named columns of numbers, text and stamps, written back as they came.

`read_table(path)` reads CSV (any separator, decimal sign, quoting) and Parquet. A table is a value: `filled` gives a
new one, in which only missing cells differ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfumato.data.files import beside, present
from sfumato.data.stamps import Stamps, numbered, parse

PARQUET = (".parquet", ".pq")
Numbers = NDArray[np.float64]


class Table(ABC):
    """Rows of named columns.

    Attributes:
        names: of the columns, in their order.
        label: what to call the table in an error.
    """

    names: tuple[str, ...]
    label: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def numbers(self, name: str) -> Numbers:
        """A column as float64, (rows,), NaN where missing.

        Raises:
            ValueError: at the first cell that is no number, or is infinite.
        """

    @abstractmethod
    def is_numeric(self, name: str) -> bool:
        """Whether `numbers` would serve the column, and it is not empty from top to bottom as text."""

    @abstractmethod
    def stamps(self, name: str, zone: str = "", style: str = "") -> Stamps:
        """A column of times, ascending.

        Args:
            zone: IANA name of the zone whose clocks the stamps show, where they carry no offset.
            style: strptime's format; found out if not given.
        """

    @abstractmethod
    def words(self, name: str) -> list[str]:
        """A column as it is written, "" where missing."""

    @abstractmethod
    def filled(self, values: Mapping[str, Numbers]) -> Table:
        """The table with the missing cells of these columns (rows,) filled; every other cell is the same to the bit.

        A column of whole numbers stays one: what is filled in is rounded.
        """

    @abstractmethod
    def write(self, path: Path) -> None:
        """Writes the table in its own format."""

    def row(self, index: int) -> str:
        """Row `index` (from 0) in words."""
        return f"row {index + 1}"

    def column(self, name: str) -> int:
        """The place of a column.

        Raises:
            ValueError: if there is none of that name.
        """
        if name not in self.names:
            raise ValueError(f"{self.label} has no column {name!r}: it has {', '.join(map(repr, self.names))}.")
        return self.names.index(name)


class Columns(Table):
    """A table of arrays in memory.

    Args:
        columns: name to values (rows,): numbers, texts or datetime64. Missing numbers are NaN.
        label: what to call it in an error.

    Raises:
        ValueError: if the columns differ in length, or there are none.
    """

    def __init__(self, columns: Mapping[str, Sequence | NDArray], label: str = "the table") -> None:
        self.columns = {str(name): np.asarray(values) for name, values in columns.items()}
        self.names, self.label = tuple(self.columns), label
        sizes = {values.shape for values in self.columns.values()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise ValueError(f"{label} needs columns of one length, got {sorted(sizes)}.")

    @classmethod
    def of(cls, values: NDArray, label: str = "the array") -> Columns:
        """An array (rows,) or (rows, columns), named c1, c2, ..."""
        if values.ndim not in (1, 2):
            raise ValueError(f"{label} is (rows,) or (rows, columns), got {values.shape}.")
        wide = values[:, None] if values.ndim == 1 else values
        return cls({f"c{i + 1}": column for i, column in enumerate(wide.T)}, label)

    def __len__(self) -> int:
        return len(self.columns[self.names[0]])

    def numbers(self, name: str) -> Numbers:
        self.column(name)
        if not self.is_numeric(name):
            raise ValueError(f"column {name!r} of {self.label} holds {self.columns[name].dtype}, not numbers.")
        return finite(self, name, self.columns[name].astype(np.float64))

    def is_numeric(self, name: str) -> bool:
        return self.columns[name].dtype.kind in "fiub"

    def stamps(self, name: str, zone: str = "", style: str = "") -> Stamps:
        values = self.columns[self.names[self.column(name)]]
        if values.dtype.kind == "M":
            values = np.datetime_as_string(values.astype("datetime64[us]"))
            style = style or "%Y-%m-%dT%H:%M:%S.%f"
        elif values.dtype.kind in "fiu":
            return numbered(values, f"column {name!r} of {self.label}")
        return parse([str(value) for value in values], f"column {name!r} of {self.label}", zone, style)

    def words(self, name: str) -> list[str]:
        return [_cell(value) for value in self.columns[self.names[self.column(name)]]]

    def filled(self, values: Mapping[str, Numbers]) -> Columns:
        made = dict(self.columns)
        for name, new in values.items():
            old = self.numbers(name)
            made[name] = np.where(np.isnan(old), new, old).astype(self.columns[name].dtype)
        return Columns(made, self.label)

    def write(self, path: Path) -> None:
        lines = [",".join(self.names), *(",".join(map(_cell, row)) for row in zip(*self.columns.values(), strict=True))]
        with beside(path) as part:
            part.write_text("\n".join(lines) + "\n", "utf-8")


def _cell(value: Any) -> str:
    return "" if isinstance(value, float | np.floating) and np.isnan(value) else str(value)


def finite(table: Table, name: str, values: Numbers) -> Numbers:
    """The values, if none is infinite.

    Raises:
        ValueError: with the row of the first that is.
    """
    wrong = np.flatnonzero(np.isinf(values))
    if len(wrong):
        raise ValueError(f"column {name!r} of {table.label} is infinite in {table.row(int(wrong[0]))}.")
    return values


def split_by(table: Table, name: str) -> dict[str, tuple[Columns, NDArray[np.int64]]]:
    """The rows of each value of a column, as a table without it, and their places in the whole; first come, first.

    Raises:
        ValueError: if a row has no value there.
    """
    keys = table.words(name)
    missing = next((i for i, key in enumerate(keys) if not key.strip()), None)
    if missing is not None:
        raise ValueError(
            f"column {name!r} of {table.label} is empty in {table.row(missing)}: every row names its series."
        )
    rest = [other for other in table.names if other != name]
    columns = {n: table.numbers(n) if table.is_numeric(n) else np.array(table.words(n), object) for n in rest}
    places = {key: np.flatnonzero(np.array(keys) == key) for key in dict.fromkeys(keys)}
    return {
        key: (Columns({n: values[rows] for n, values in columns.items()}, f"{table.label}, {name} {key},"), rows)
        for key, rows in places.items()
    }


def read_table(path: str | Path, **options: Any) -> Table:
    """A table from a file: Parquet by its suffix (.parquet, .pq; extra `tables`), else CSV.

    Args:
        options: of `read_csv`: separator, decimal, header, encoding, where they are not to be found out.

    Raises:
        FileNotFoundError, IsADirectoryError: if there is no such file.
        ValueError: if it is empty or damaged.
    """
    path = present(Path(path))
    if path.suffix.lower() in PARQUET:
        from sfumato.data.parquet import read_parquet

        return read_parquet(path)
    from sfumato.data.csv_tables import read_csv

    return read_csv(path, **options)


def as_table(source: Any) -> Table:
    """A table of whatever holds one: a path, a Table, a pandas DataFrame (extra `tables`), a mapping of name to values,
    or an array (rows,) or (rows, columns).

    Raises:
        TypeError: for anything else.
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, str | Path):
        return read_table(source)
    if isinstance(source, Mapping):
        return Columns(source)
    if isinstance(source, np.ndarray):
        return Columns.of(source)
    if type(source).__name__ == "DataFrame":
        from sfumato.data.parquet import from_frame

        return from_frame(source)
    raise TypeError(
        f"a table is a path, a DataFrame, a mapping of name to values or an array, got {type(source).__name__}."
    )
