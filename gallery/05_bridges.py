"""Bridges: from one law to another, instead of from noise.

Two normals whose Schroedinger bridge is known: independent pairs and optimal ones, their flows, and the bridge itself,
all with exact denoisers, so that nothing is left to a network.
Run it whole, `python gallery/05_bridges.py [figure.png]`, or cell by cell.
"""

# %% Two laws, and three ways to pair what is drawn from them
import math
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.training import couplings, straightness

torch.set_default_dtype(torch.float64)
data = sf.GaussianWorld(torch.tensor([-2.0]), torch.tensor([[0.6]]))
other = sf.GaussianWorld(torch.tensor([2.0]), torch.tensor([[0.15]]))
sigma = 1.5  # of the Brownian motion between the ends
ends = (data.mean, data.cov, other.mean, other.cov)
pairings = {
    "independent": None,
    "optimal": couplings.Exact(*ends),
    "entropic": couplings.Exact(*ends, sigma**2),
}
x0, x1 = data.sample(4000, sf.Noise(0)), other.sample(4000, sf.Noise(1))
covariance = {name: 0.0 if pair is None else float(pair.cross()) for name, pair in pairings.items()}
print({name: round(value, 3) for name, value in covariance.items()})


# %% What a network would learn: E[x_0 | x_t] on paths between the pairs, here in closed form
class Mean(sf.denoisers.Denoiser):
    """E[x_0 | x_t], x_t = (1 - t) x_0 + t x_1 + spread sqrt(t (1 - t)) eps, for normal ends of covariance c."""

    def __init__(self, process, c, spread=0.0):
        super().__init__()
        self.process, self.c, self.spread = process, c, spread

    def forward(self, xt, t, cond=None):
        v0, v1 = float(data.cov), float(other.cov)
        var = (1 - t) ** 2 * v0 + t**2 * v1 + 2 * t * (1 - t) * self.c + self.spread**2 * t * (1 - t)
        middle = (1 - t) * data.mean + t * other.mean
        return sf.Estimate(data.mean + ((1 - t) * v0 + t * self.c) / var * (xt - middle))


# %% The flow of optimal pairs is straight: one step is enough. That of independent pairs bends
flow = {name: Mean(sf.processes.Rectified(), covariance[name]) for name in ("independent", "optimal")}
truth = data.mean + math.sqrt(float(data.cov) / float(other.cov)) * (x1 - other.mean)
errors = {}
for name, denoiser in flow.items():
    for steps in (1, 4, 64):
        x = sf.sample(denoiser, sf.samplers.Euler(), x1=x1, times=sf.grids.uniform(steps), noise=sf.Noise(0))
        errors[name, steps] = float((x - truth).square().mean().sqrt())
bent = {}
for name, denoiser in flow.items():
    y0, y1 = (x0, x1) if pairings[name] is None else pairings[name](x0, x1, sf.Noise(2))
    bent[name] = float(straightness(y0, y1, denoiser).mean())
print({f"{name}, {steps} steps": round(error, 4) for (name, steps), error in errors.items()})
print("left by the velocity:", {name: round(value, 4) for name, value in bent.items()})

# %% The Schroedinger bridge: random paths, and the ends coupled as entropic transport couples them
side = Mean(sf.processes.Brownian(sigma), covariance["entropic"], sigma)
walk = list(sf.trajectory(side, sf.samplers.Ancestral(), x1, sf.grids.uniform(400), sf.Noise(3)))
end = walk[-1].x
coupled = float(torch.cov(torch.cat([end, x1], 1).T)[0, 1])
print(f"covariance of the bridge's ends: {coupled:.3f} (exact {covariance['entropic']:.3f})")

# %% A bridge with a known end begins at the damaged signal itself: x_1 is bound, and every sampler runs
process = sf.processes.Pinned(sf.processes.Brownian(0.5))
restored = sf.sample(
    data.denoiser(process).given(x1), sf.samplers.Ancestral(), x1=x1, times=sf.grids.uniform(4), noise=sf.Noise(4)
)
print(f"restored without a clue in x_1: mean {float(restored.mean()):.2f}, variance {float(restored.var()):.2f}")

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/05_bridges.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
    for axis, (name, denoiser) in zip(axes, flow.items()):
        steps = sf.trajectory(denoiser, sf.samplers.Euler(), x1[:40], sf.grids.uniform(60), sf.Noise(0))
        paths = [(step.time, step.x[:, 0]) for step in steps]
        axis.plot([t for t, _ in paths], torch.stack([x for _, x in paths]), color="tab:blue", lw=0.6)
        axis.set(title=f"flow, {name} pairs", xlabel="t")
    bridge = torch.stack([step.x[:40, 0] for step in walk])
    axes[2].plot([step.time for step in walk], bridge, color="tab:orange", lw=0.4)
    axes[2].set(title="Schroedinger bridge", xlabel="t")
    fig.savefig(figure)
    print(figure)
torch.set_default_dtype(torch.float32)
