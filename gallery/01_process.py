"""The forward process turns data into noise; the reverse process turns noise back into data.

The data are a mixture of three normals on a line, so every law below is known and nothing is trained.
Run it whole, `python gallery/01_process.py [figure.png]`, or cell by cell.
"""

# %% Data with a known law
import sys
from pathlib import Path

import torch

import sfumato as sf

world = sf.MixtureWorld(
    weights=torch.tensor([0.5, 0.3, 0.2]),
    means=torch.tensor([[-1.5], [0.0], [2.0]]),
    covs=torch.tensor([0.04, 0.01, 0.09]).reshape(3, 1, 1),
)
process = sf.processes.LinearBeta()

# %% Forward: x_t = alpha x_0 + sigma eps. The law of x_t is again a mixture, `world.marginal(process, t)`.
x0 = world.sample(20_000, sf.Noise(0))
print("   t  alpha  sigma   std of x_t  (exact)")
for t in (0.0, 0.1, 0.3, 1.0):
    xt = process.marginal(x0, t).sample(sf.Noise(1))
    exact = float(world.marginal(process, t).cov.sqrt())
    print(f"{t:4.1f} {process.alpha(t):6.3f} {process.sigma(t):6.3f} {float(xt.std()):12.3f}  ({exact:.3f})")

# %% Reverse: all it takes is D = E[x_0 | x_t], which this world knows and a network would learn.
denoiser = world.denoiser(process)
times = sf.grids.log_snr(process, 40)
start = process.prior(x0).sample(sf.Noise(2))
paths = list(sf.trajectory(denoiser, sf.samplers.DDIM(), start, times, sf.Noise(3)))

# %% The samples have the law of the data: the share in each component is its weight.
samples = paths[-1].x
edges = torch.tensor([-0.75, 0.9])
shares = torch.bincount(torch.bucketize(samples.flatten(), edges), minlength=3) / len(samples)
print("shares of the components:", [f"{float(share):.3f}" for share in shares], "of 0.5, 0.3, 0.2")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/01_process.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), width_ratios=(2, 1), sharey=True, layout="constrained")
    for row in range(60):
        left.plot([step.time for step in paths], [float(step.x[row]) for step in paths], lw=0.6, color="tab:blue")
    left.set(xlim=(1, 0), ylim=(-3.5, 3.5), xlabel="t", ylabel="x_t", title="DDIM paths from noise to data")
    line = torch.linspace(-3.5, 3.5, 400)[:, None]
    right.hist(samples.flatten().numpy(), 120, density=True, orientation="horizontal", color="lightgrey")
    right.plot(world.log_prob(line).exp(), line, color="black", lw=1)
    right.set(title="samples and exact density", xlabel="density")
    fig.savefig(figure)
    print(figure)
