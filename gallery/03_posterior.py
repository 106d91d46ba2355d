"""The posterior of a linear measurement, with the exact guide: what every restoration method tries to approach.

y = A x_0 + n sees every fourth number of a signal of sixteen, and the sums of its halves; the rest must be inferred.
For a mixture the posterior is a mixture too, so samples can be held against it, number by number.
Run it whole, `python gallery/03_posterior.py [figure.png]`, or cell by cell.
"""

# %% Smooth signals of two kinds, rising and falling
import sys
from pathlib import Path

import torch

import sfumato as sf

torch.set_default_dtype(torch.float64)
position = torch.linspace(0, 1, 16)
smooth = 0.3 * torch.exp(-0.5 * ((position[:, None] - position) / 0.15) ** 2) + 1e-3 * torch.eye(16)
means = torch.stack([2 * position - 1, 1 - 2 * position])
world = sf.MixtureWorld(torch.tensor([0.5, 0.5]), means, smooth.repeat(2, 1, 1))
process = sf.processes.LinearBeta()

# %% A measurement: every fourth number and the sums of both halves, with noise of known size
rows = torch.cat([torch.eye(16)[1::4], torch.eye(2).repeat_interleave(8, 1)])
operator = sf.operators.Matrix(rows)
x0 = world.sample(1, sf.Noise(5))
m = sf.Measurement.simulate(operator, x0, sigma=0.1, noise=sf.Noise(6))

# %% The exact guide: the denoiser of the posterior is E[x_0 | x_t, y]; any sampler runs it
posterior = world.posterior(m)
guided = posterior.denoiser(process)
times = sf.grids.log_snr(process, 60)
x = sf.sample(guided, sf.samplers.Heun(), shape=(4000, 16), times=times, noise=sf.Noise(7))

# %% Samples against the closed form
std = posterior.cov.diagonal().sqrt()
mean_error = float(((x.mean(0) - posterior.mean) / std).abs().max())
std_error = float((x.std(0) / std - 1).abs().max())
low, high = x.quantile(0.05, 0), x.quantile(0.95, 0)
again = posterior.sample(4000, sf.Noise(8))
coverage = float(((again >= low) & (again <= high)).double().mean())
misfit = float(((m.y - operator(x)) ** 2).mean().sqrt())
prior_spread = float((std / world.cov.diagonal().sqrt()).mean())
print(f"spread of the posterior over that of the prior: {prior_spread:.2f}")
print(f"largest error of the mean, in posterior standard deviations: {mean_error:.3f}")
print(f"largest relative error of the standard deviation: {std_error:.3f}")
print(f"share of exact draws inside the samples' central 90 % interval: {coverage:.3f}")
print(f"root mean square of y - A x: {misfit:.3f} (the noise: {m.sigma})")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/03_posterior.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(position, x[:40].T, color="tab:blue", lw=0.5, alpha=0.5)
    axes.fill_between(position, low, high, color="tab:blue", alpha=0.2, label="central 90 % of the samples")
    axes.plot(position, posterior.mean, color="black", ls="--", label="posterior mean, exact")
    axes.plot(position, x0[0], color="black", label="the signal")
    axes.plot(position[1::4], m.y[0, :4], "o", color="tab:red", label="measured")
    axes.legend(fontsize=8)
    fig.savefig(figure)
    print(figure)
torch.set_default_dtype(torch.float32)
