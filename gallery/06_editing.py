"""Editing: a painted sketch and a small picture become photographs, or at least what a model takes for one.

SDEdit noises a sketch to t0 and samples back: t0 alone says how free the result is. ILVR holds every step to the
coarse content of a reference; CCDF starts from an enlargement of a small picture, noised to t0, and keeps what the
small one says. The model is the shipped `photo`, small and made for restoration, so it turns paint into light and
grain, not into things. Run it whole, `python gallery/06_editing.py [figure.png]`, or cell by cell.
"""

# %% A sketch: sky, a hill, a sun; and a small photograph
import math
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.data.photo12 import fixture

SIDE, CALLS = 48, 10
model = sf.load("photo")
process = model.denoiser.process
down, across = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")


def paint(picture, where, color):
    return torch.where(where, torch.tensor(color).reshape(3, 1, 1), picture)


sketch = paint(torch.zeros(3, SIDE, SIDE), down < 2, [0.45, 0.65, 0.9])
sketch = paint(sketch, down > 0.62 + 0.12 * torch.sin(5 * across), [0.25, 0.45, 0.2])
sketch = paint(sketch, (down - 0.25) ** 2 + (across - 0.7) ** 2 < 0.015, [1.0, 0.9, 0.5])
photograph = fixture()[:, 56 : 56 + 2 * SIDE : 2, 80 : 80 + 2 * SIDE : 2]


# %% t0 by noise over signal, which means the same on any process
def level(ratio):
    return process.time_of(-2 * math.log(ratio))


def edit(measurement, solver):
    """One result, (3, H, W)."""
    return model.restore(measurement, solver=solver, seed=1).samples[0, 0].clamp(0, 1)


# %% SDEdit: a freer and freer answer to the sketch
guide = sf.Measurement(sf.operators.Identity(), sketch[None], 0.0)
ratios = (0.15, 0.5, 2.0)
edits = [edit(guide, sf.solvers.SDEdit(t0=level(r), passes=1, steps=CALLS)) for r in ratios]
distances = [float((e - sketch).square().mean().sqrt()) for e in edits]

# %% ILVR: the colours of the sketch, all else from the model; CCDF: a small photograph enlarged
by_8 = sf.operators.Downsample(8)
coarse = edit(sf.Measurement(by_8, by_8(sketch[None]), 0.0), sf.solvers.ILVR(steps=2 * CALLS))
by_4 = sf.operators.Downsample(4)
small = sf.Measurement(by_4, by_4(photograph[None]), 0.0)
t0 = level(0.5)
enlarged = edit(small, sf.solvers.CCDF(t0=t0, solver=sf.solvers.RePaint.projection(round(CALLS / t0))))
copied = by_4.pinv(small.y)[0]
held = {
    "ILVR": float((by_8(coarse[None]) - by_8(sketch[None])).abs().max()),
    "CCDF": float((by_4(enlarged[None]) - small.y).abs().max()),
}
gain = float(sf.metrics.psnr(enlarged[None], photograph[None]) - sf.metrics.psnr(copied[None], photograph[None]))
for ratio, distance in zip(ratios, distances, strict=True):
    print(f"SDEdit from noise over signal {ratio:g}: {distance:.3f} from the sketch")
print(f"largest misfit of the coarse content: ILVR {held['ILVR']:.3f}, CCDF {held['CCDF']:.3f}")
print(f"CCDF over copied pixels: {gain:+.1f} dB")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/06_editing.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    shown = {"sketch": sketch, **{f"SDEdit {r:g}": e for r, e in zip(ratios, edits, strict=True)}}
    shown |= {"ILVR, by 8": coarse, "small, by 4": copied, "CCDF": enlarged, "photograph": photograph}
    fig, axes = plt.subplots(2, 4, figsize=(8, 4.4), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, shown.items(), strict=True):
        axis.imshow(picture.movedim(0, -1), interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    fig.savefig(figure, dpi=70)
    print(figure)
