"""Windows of the columns of a table as training data."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.codecs import Channels
from sfumato.data.series import choose
from sfumato.data.tables import Table
from sfumato.noise import Seeds


class TableWindows:
    """Every run of `length` rows of a table, its columns of numbers as channels, each with mean 0 and deviation 1.

    Args:
        table: rows in the order of time, a step apart.
        length: of a window; 128, or a quarter of the rows, if not given (ours).

    Raises:
        ValueError: if there is no column of numbers, one never changes, or the table is shorter than a window.
    """

    def __init__(self, table: Table, length: int | None = None) -> None:
        chosen = choose(table)
        values = chosen.series.values
        length = length or min(128, max(2, values.shape[1] // 4))
        if values.shape[1] < length:
            raise ValueError(f"{table.label} has {values.shape[1]} rows, a window {length}: take shorter ones.")
        known = ~values.isnan()
        count = known.sum(1)
        shift = values.nan_to_num(0.0).sum(1) / count
        scale = (torch.where(known, values - shift[:, None], 0.0).square().sum(1) / count).sqrt()
        for name, spread in zip(chosen.targets, scale.tolist(), strict=True):
            if spread == 0.0:
                raise ValueError(f"column {name!r} of {table.label} is the same in every row: leave it out.")
        self.names: tuple[str, ...] = ()
        self.columns, self.missing = chosen.targets, bool((~known).any())
        self.codec = Channels(tuple(scale.tolist()), tuple(shift.tolist()))
        self.event = (len(chosen.targets), length)
        self.values = self.codec.encode(values[None])[0]

    def __len__(self) -> int:
        return self.values.shape[1] - self.event[1] + 1

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor] | None]:
        """(x0, cond): (B, C, length), 0 where missing; cond is {"valid"} where a number of the table is missing."""
        windows = torch.stack([self.values[:, item : item + self.event[1]] for item in items])
        x0 = windows.nan_to_num(0.0).float()
        return x0, {"valid": (~windows.isnan()).float()} if self.missing else None
