"""Parquet files and pandas DataFrames as tables: the extra `tables` (pandas, pyarrow)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.data.files import beside
from sfumato.data.stamps import Stamps, numbered, parse
from sfumato.data.tables import Numbers, Table, finite


def _arrow(part: str = "") -> Any:
    try:
        return importlib.import_module(f"pyarrow{part}")
    except ImportError as error:
        raise ImportError(
            "Parquet files and DataFrames need pandas and pyarrow: pip install 'sfumato[tables]'."
        ) from error


@dataclass(frozen=True, eq=False)
class ArrowTable(Table):
    """A table of Arrow's, its types and metadata kept.

    Attributes:
        data: pyarrow.Table.
    """

    data: Any
    label: str

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(self.data.column_names)

    def __len__(self) -> int:
        return self.data.num_rows

    def numbers(self, name: str) -> Numbers:
        self.column(name)
        if not self.is_numeric(name):
            raise ValueError(f"column {name!r} of {self.label} holds {self._kind(name)}, not numbers.")
        values = self.data[name].cast(_arrow().float64(), safe=False).to_numpy()
        return finite(self, name, np.asarray(values, np.float64))

    def is_numeric(self, name: str) -> bool:
        types, kind = _arrow().types, self._kind(name)
        return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)

    def words(self, name: str) -> list[str]:
        self.column(name)
        return ["" if value is None else str(value) for value in self.data[name].to_pylist()]

    def stamps(self, name: str, zone: str = "", style: str = "") -> Stamps:
        self.column(name)
        what, kind, types = f"column {name!r} of {self.label}", self._kind(name), _arrow().types
        if self.data[name].null_count:
            row = self.data[name].is_null().to_pylist().index(True)
            raise ValueError(f"{what} has no time in row {row + 1}: every row needs one.")
        if types.is_timestamp(kind):
            zone = kind.tz or zone
            moments = self.data[name].cast(_arrow().timestamp("us", kind.tz), safe=False).to_pylist()
            return parse([f"{m:%Y-%m-%dT%H:%M:%S.%f%z}" for m in moments], what, zone if zone != "UTC" else "")
        if types.is_date(kind):
            return parse([f"{day:%Y-%m-%d}" for day in self.data[name].to_pylist()], what, zone)
        if self.is_numeric(name):
            return numbered(self.data[name].to_numpy(), what)
        return parse([str(word) for word in self.data[name].to_pylist()], what, zone, style)

    def filled(self, values: Mapping[str, Numbers]) -> ArrowTable:
        data = self.data
        for name, new in values.items():
            kind, place = self._kind(name), self.column(name)
            missing = np.isnan(self.numbers(name))
            whole = not _arrow().types.is_floating(kind) and not _arrow().types.is_decimal(kind)
            made = _arrow().array(np.where(missing, np.round(new) if whole else new, 0.0)).cast(kind, safe=False)
            # Only missing cells are replaced: the others are the very values that were read.
            column = _arrow(".compute").if_else(_arrow().array(missing), made, self.data[name])
            data = data.set_column(place, self.data.schema.field(place), column)
        return ArrowTable(data, self.label)

    def write(self, path: Path) -> None:
        with beside(path) as part:
            _arrow(".parquet").write_table(self.data, part)

    def to_frame(self) -> Any:
        """A pandas DataFrame, with the index and the types that it had."""
        return self.data.to_pandas()

    def _kind(self, name: str) -> Any:
        return self.data.schema.field(name).type


def read_parquet(path: Path) -> ArrowTable:
    """A Parquet file.

    Raises:
        ImportError: without the extra `tables`.
        ValueError: if it is damaged, or has no rows.
    """
    reader, arrow = _arrow(".parquet"), _arrow()
    try:
        data = reader.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged or no Parquet file ({str(error).splitlines()[0]}).") from None
    if not data.num_rows:
        raise ValueError(f"{path} has a header and no rows.")
    return ArrowTable(data, str(path))


def from_frame(frame: Any) -> ArrowTable:
    """A pandas DataFrame as a table; a named index, or one of times, becomes a column."""
    return ArrowTable(_arrow().Table.from_pandas(frame), "the DataFrame")
