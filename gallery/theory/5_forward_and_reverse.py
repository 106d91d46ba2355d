"""Forward and reverse: the bridge between two states, a chain run backwards by Bayes' rule, the SDE and the ODE.

Run it whole, `python gallery/theory/5_forward_and_reverse.py [figure.png]`, or cell by cell; beside the figure it
writes `forward.gif` and `reverse.gif`. `checks` holds each number with its exact value and the standard error allowed.
"""

# %% The bridge.  q(x_s | x_t, x_0) is the product of q(x_t | x_s) and q(x_s | x_0), both normal in x_s:
#   precision 1 / btilde = a^2 / beta + 1 / sigma_s^2,   mean btilde (a x_t / beta + alpha_s x_0 / sigma_s^2)
# with a = alpha_t / alpha_s and beta = sigma_t^2 - a^2 sigma_s^2.
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato import Estimate

torch.set_default_dtype(torch.float64)
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
process, t, s = sf.processes.Cosine(), 0.7, 0.55
x0, xt = torch.tensor([[0.8]]), torch.tensor([[-0.5]])
a = process.alpha(t) / process.alpha(s)
beta = process.sigma(t) ** 2 - a**2 * process.sigma(s) ** 2
precision = a**2 / beta + 1 / process.sigma(s) ** 2
mean = (a * float(xt) / beta + process.alpha(s) * float(x0) / process.sigma(s) ** 2) / precision
bridge = process.reverse(Estimate(x0), xt, t, s)
checks["mean of the bridge"] = float(bridge.mean), mean, 1e-12
checks["variance of the bridge, btilde"] = bridge.std**2, 1 / precision, 1e-12

# %% Backwards by Bayes' rule: p(x_s | x_t) = q(x_t | x_s) p_s(x_s) / p_t(x_t), on a grid, for data with two modes.
# For a small step it is normal, as ancestral sampling assumes; for a large one it has two modes, and is not.
world = sf.MixtureWorld(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), torch.full((2, 1, 1), 0.01))
line = torch.linspace(-4, 4, 2001)
cell = float(line[1] - line[0])


def reversed_by_bayes(x: float, t: float, s: float) -> torch.Tensor:
    """p(x_s | x_t = x) on `line`."""
    move = process.forward(line[:, None], s, t)
    log_p = move.log_prob(torch.full((2001, 1), x)) + world.marginal(process, s).log_prob(line[:, None])
    p = (log_p - log_p.max()).exp()
    return p / (p.sum() * cell)


def normal_guess(x: float, t: float, s: float) -> torch.Tensor:
    """The reverse law of the process under the exact denoiser, on `line`."""
    law = process.reverse(world.denoiser(process)(torch.tensor([[x]]), t), torch.tensor([[x]]), t, s)
    return torch.distributions.Normal(law.mean[0, 0], torch.as_tensor(law.std).reshape(())).log_prob(line).exp()


def distance(t: float, s: float) -> float:
    """Total variation between the two at x_t = 0.1."""
    return float(0.5 * (reversed_by_bayes(0.1, t, s) - normal_guess(0.1, t, s)).abs().sum() * cell)


steps = {h: distance(0.5, 0.5 - h) for h in (0.4, 0.1, 0.025, 0.00625)}
exact_mean = float((line * reversed_by_bayes(0.1, 0.5, 0.4)).sum() * cell)
law = process.reverse(world.denoiser(process)(torch.tensor([[0.1]]), 0.5), torch.tensor([[0.1]]), 0.5, 0.4)
exact_var = float((line**2 * reversed_by_bayes(0.1, 0.5, 0.4)).sum() * cell) - exact_mean**2
checks["mean of p(x_s | x_t), any step"] = float(law.mean), exact_mean, 1e-6
checks["variance of p(x_s | x_t), any step"] = float(torch.as_tensor(law.std)) ** 2, exact_var, 1e-6

# %% The reverse SDE and the ODE have the same marginals, path by path though they differ.
# 1-d Wasserstein distances are those of sorted samples; two exact samples of this size differ by the last column.
n = 4000
start = process.prior(torch.empty(n, 1)).sample(sf.Noise(0))
times = sf.grids.log_snr(process, 200)
D = world.denoiser(process)
runs = {
    "SDE": list(sf.trajectory(D, sf.samplers.Ancestral(), start, times, sf.Noise(1))),
    "ODE": list(sf.trajectory(D, sf.samplers.DDIM(), start, times, sf.Noise(1))),
}
distances: dict[str, list[float]] = {"SDE": [], "ODE": [], "exact": []}
for index in (40, 80, 120, 160, 200):
    exact = [world.marginal(process, times[index]) if times[index] > 0 else world] * 2
    first, second = (w.sample(n, sf.Noise(50 + k)).flatten().sort().values for k, w in enumerate(exact))
    for name, path in runs.items():
        distances[name].append(float((path[index].x.flatten().sort().values - first).abs().mean()))
    distances["exact"].append(float((first - second).abs().mean()))

# %% Table and figures
for what, (measured, true, error) in checks.items():
    print(f"{what:38s} {measured:9.5f}  exact {true:9.5f}  standard error {error:.5f}")
print("distance of the normal reverse law from Bayes', by step:", {h: f"{d:.3f}" for h, d in steps.items()})
for name, row in distances.items():
    print(f"Wasserstein distance to the exact marginal, {name:5s}:", [f"{d:.3f}" for d in row])
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_5_forward_and_reverse.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    import numpy as np
    from PIL import Image

    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, h in zip(axes, (0.4, 0.1, 0.025), strict=True):
        axis.plot(line, reversed_by_bayes(0.1, 0.5, 0.5 - h), label="Bayes")
        axis.plot(line, normal_guess(0.1, 0.5, 0.5 - h), "--", label="normal")
        axis.set(title=f"p(x_s | x_t), step {h}", xlim=(-2.2, 2.2))
    axes[0].legend()
    fig.savefig(figure)
    data = world.sample(n, sf.Noise(9))
    noisy = [process.marginal(data, k / 30).sample(sf.Noise(10)) for k in range(31)]
    for name, states in (("forward", noisy), ("reverse", [runs["SDE"][k].x for k in range(0, 201, 6)])):
        frames = []
        for x in states:
            still, axis = plt.subplots(figsize=(4, 2.4), dpi=80)
            axis.hist(x.flatten().numpy(), 120, range=(-3, 3), density=True, color="tab:blue")
            axis.set(xlim=(-3, 3), ylim=(0, 2.2), yticks=[], title=name)
            still.canvas.draw()
            frames.append(Image.fromarray(np.asarray(still.canvas.buffer_rgba())).convert("P"))
            plt.close(still)
        path = figure.parent / f"{name}.gif"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], duration=[80] * (len(frames) - 1) + [1200], loop=0
        )
        print(path)
    print(figure)
