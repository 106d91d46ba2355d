"""Categories in the place of numbers: positions are masked one after the other, and revealed in any order.

The data are rows of six magnets, up or down, that like to agree with their neighbours; their law is a table, so the
denoiser, the entropy and the shortest code are known and nothing is trained. Run it whole,
`python gallery/08_categories.py [figure.png]`, or cell by cell.
"""

# %% A law over 2^6 rows. The third category, 2, is the mask: no datum holds it.
import itertools
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.likelihood import elbo
from sfumato.processes import Discrete
from sfumato.recipes import ardm

rows = torch.tensor(list(itertools.product((0, 1), repeat=6)))
spins = 2.0 * rows.double() - 1.0
p = torch.softmax(1.2 * (spins[:, 1:] * spins[:, :-1]).sum(1) + 0.2 * spins.sum(1), 0)
table = torch.zeros([3] * 6, dtype=torch.float64)
table[tuple(rows.T)] = p
world, process = sf.TableWorld(table), Discrete(3, absorbing=2)
denoiser = world.denoiser(process)
entropy = float(-(p * p.log2()).sum())

# %% Reverse: from all masked to a row. What one step reveals is drawn apart, so the law nears the table with the steps.
shares = {}
for steps in (1, 2, 6, 40):
    x = sf.sample(denoiser, sf.samplers.Ancestral(), shape=(8000, 6), times=sf.grids.uniform(steps), noise=sf.Noise(0))
    found = torch.bincount((x * 2 ** torch.arange(5, -1, -1)).sum(1), minlength=64) / len(x)
    shares[steps] = float(0.5 * (found - p).abs().sum())
exact = float(0.5 * (torch.bincount(torch.multinomial(p, 8000, True), minlength=64) / 8000 - p).abs().sum())
print(
    "total variation to the table, by steps:", {k: f"{v:.3f}" for k, v in shares.items()}, f"; exact draws {exact:.3f}"
)

# %% The bound on the code length falls to the entropy as the steps grow: what is revealed together is taken apart.
data = world.sample(4000, sf.Noise(1))
bounds = {}
for steps in (1, 4, 16, 64):
    bounds[steps] = (
        float(elbo(denoiser, data, sf.grids.uniform(steps), sf.Noise(2)).total.mean())
        / torch.log(torch.tensor(2.0)).item()
    )
print(f"bound in bits a row, by steps (entropy {entropy:.3f}):", {k: f"{v:.3f}" for k, v in bounds.items()})

# %% A lossless code: positions in a random order, each with its probability given those before.
recipe = ardm.Recipe(levels=2)
code = recipe.encode(denoiser, data[:500])
back = recipe.decode(denoiser, code, (500, 6))
bits = 8 * len(code) / 500
print(f"500 rows in {len(code)} bytes: {bits:.2f} bits a row, and back: {bool((back == data[:500]).all())}")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/08_categories.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    start = process.prior(torch.zeros(12, 6, dtype=torch.int64)).sample(sf.Noise(3))
    path = list(sf.trajectory(denoiser, sf.samplers.Ancestral(), start, sf.grids.uniform(12), sf.Noise(3)))
    fig, axes = plt.subplots(1, 5, figsize=(9, 3.4), layout="constrained")
    for axis, state in zip(axes, path[::3], strict=True):
        axis.imshow(torch.tensor([0.0, 1.0, 0.5])[state.x], cmap="gray", vmin=0, vmax=1)
        axis.set(title=f"t = {state.time:.2f}", xticks=[], yticks=[])
    fig.suptitle("twelve rows of six: grey is masked")
    fig.savefig(figure)
    print(figure)
