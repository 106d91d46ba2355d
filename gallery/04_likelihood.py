"""Likelihood: the probability-flow ODE is an invertible map, so it gives log p(x), in nats and in bits per number.

Held against the closed form of a mixture.
Run it whole, `python gallery/04_likelihood.py [figure.png]`, or cell by cell.
"""

# %% Data with a known density
import sys
from pathlib import Path

import torch

import sfumato as sf

torch.set_default_dtype(torch.float64)
means = torch.tensor([[1.0, 0.5, 0.0, -0.5], [-1.0, 0.0, 0.5, 0.5], [0.0, -1.0, -0.5, 0.0]])
covs = torch.tensor([0.05, 0.1, 0.2])[:, None, None] * torch.eye(4)
world = sf.MixtureWorld(torch.tensor([0.3, 0.5, 0.2]), means, covs)
process = sf.processes.LinearBeta()
denoiser = world.denoiser(process)

# %% log p by the change of variables along the flow, from t = 1e-4 (sigma there: 0.003)
start = 1e-4
x0 = world.sample(64, sf.Noise(0))
exact = world.marginal(process, start).log_prob(x0)
errors = {}
for steps in (10, 20, 40, 80):
    times = tuple(reversed(sf.grids.log_snr(process, steps, low=process.log_snr(1.0), end=start)))
    errors[steps] = float((sf.likelihood.log_prob(denoiser, x0, times) - exact).abs().max())
    print(f"{steps:3} steps, {4 * steps:3} calls: largest error {errors[steps]:.2e} nats")

# %% The prior N(0, I) is not quite the law of x_1: its share of that error does not fall with the steps
exact_prior = world.marginal(process, 1.0)
gap = float(exact_prior.cov.diagonal().max() - 1), float(exact_prior.mean.abs().max())
print(f"x_1 has variance 1 {gap[0]:+.1e} and mean {gap[1]:.1e}, not 1 and 0")

# %% In many dimensions the trace is estimated: unbiased, and the more probes the closer
estimates = {}
for probes in (1, 16):
    value = sf.likelihood.log_prob(denoiser, x0, times, noise=sf.Noise(1), probes=probes)
    estimates[probes] = float((value - exact).square().mean().sqrt())
    print(f"{probes:3} probes: root mean square error {estimates[probes]:.3f} nats")
bits = float(sf.likelihood.bits_per_dim(exact, 4).mean())
print(f"bits per number for values 1/128 apart: {bits:.3f}")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/04_likelihood.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(figsize=(4, 4), layout="constrained")
    axes.plot(exact, sf.likelihood.log_prob(denoiser, x0, times), ".", label="exact trace")
    axes.plot(exact, value, ".", label="16 probes")
    axes.axline((0, 0), slope=1, color="black", lw=0.5)
    axes.set(xlabel="log p(x), closed form", ylabel="log p(x), along the flow")
    axes.legend(fontsize=8)
    fig.savefig(figure)
    print(figure)
torch.set_default_dtype(torch.float32)
