"""Tables: fill the gaps of a real record, and forecast weeks that were held back, each with honest spread.

Carbon dioxide over Mauna Loa, weekly from 1958, with the gaps that the record has. Closed form, no network: a second.
Run it whole, `python gallery/07_tables.py [figure.png]`, or cell by cell.
"""

# %% A table as its owner keeps it: stamps, numbers, empty cells
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.data.tables import read_table

table = read_table(Path(sf.__file__).parent / "data/fixtures/co2.csv")
print(f"{len(table)} weeks, {sum(word == '' for word in table.words('co2'))} of them missing")

# %% Fill the gaps: samples, and the table with their median; what was there stays as it was, to the bit
found = sf.impute(table, time="date", minutes=0.0)
text = found.filled().text()
low, high = found.interval(0.9)
gap = int((~found.known[:, 0]).nonzero()[0])
print(f"{found.stamps.words()[gap]}: {found.median[gap, 0]:.2f} ppm, 90 %: {low[gap, 0]:.2f} to {high[gap, 0]:.2f}")

# %% Forecast half a year that was held back
words, values, weeks = table.words("date"), torch.from_numpy(table.numbers("co2")), 26
past = {"date": words[:-weeks], "co2": values[:-weeks].numpy()}
ahead = sf.forecast(past, weeks, time="date", minutes=0.0)
truth = values[-weeks:]
low, high = ahead.interval(0.9)
covered = float(((low[:, 0] <= truth) & (truth <= high[:, 0]))[~truth.isnan()].double().mean())
kept = ~truth.isnan()
a_year_ago = values[-weeks - 52 : -52].where(~values[-weeks - 52 : -52].isnan(), values[-weeks - 53 : -53])
scores = {
    "sfumato": float((ahead.median[:, 0] - truth).abs()[kept].mean()),
    "a year ago": float((a_year_ago - truth).abs()[kept].nanmean()),
}
print(f"mean absolute error, ppm: {scores}; 90 % intervals cover {covered:.0%} (one window: its errors go together)")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/07_tables.png")
try:
    fan = ahead.plot()
except ImportError as error:
    print(f"no figure: {error}")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fan.savefig(figure)
    print(figure)
