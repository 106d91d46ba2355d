"""Expectation and variance: what a denoiser averages, what it leaves over, and why a chain of noises is one noise.

Run it whole, `python gallery/theory/1_expectation.py [figure.png]`, or cell by cell. Each line that is printed compares
a number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% Linear maps.  E[a x + b] = a E[x] + b,   Var[a x + b] = a^2 Var[x],   Var[x + y] = Var[x] + Var[y] + 2 Cov[x, y]
import sys
from pathlib import Path

import torch

import sfumato as sf

torch.set_default_dtype(torch.float64)
n = 200_000
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
cov = torch.tensor([[1.0, 0.6], [0.6, 2.0]])
x, y = sf.GaussianWorld(torch.tensor([1.0, -1.0]), cov).sample(n, sf.Noise(0)).T
checks["E[3x + 2]"] = float((3 * x + 2).mean()), 5.0, 3.0 / n**0.5
checks["Var[3x + 2]"] = float((3 * x + 2).var()), 9.0, 9.0 * (2 / n) ** 0.5
checks["Var[x + y]"] = float((x + y).var()), 1.0 + 2.0 + 2 * 0.6, 4.2 * (2 / n) ** 0.5

# %% A mean over n draws errs by std / sqrt(n): a hundred times the draws, a tenth of the error.
errors = {}
for count in (10, 1000):
    means = sf.Noise(1).normal(torch.empty(2000, count)).mean(1)
    errors[count] = float(means.std())
    checks[f"error of a mean of {count}"] = errors[count], count**-0.5, count**-0.5 / (2 * 2000) ** 0.5

# %% Total expectation and variance.  D = E[x_0 | x_t]:  E[D] = E[x_0],  Var[x_0] = E[Var[x_0 | x_t]] + Var[D]
# What the denoiser says varies with the noise; what it cannot say is the variance that is left. Both make the data's.
world = sf.MixtureWorld(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.0]]), torch.tensor([[[0.09]], [[0.04]]]))
process = sf.processes.Cosine()
x0 = world.sample(n, sf.Noise(2))
total = float(world.cov)
shares = []
for t in (0.1, 0.5, 0.9):
    estimate = world.denoiser(process)(process.marginal(x0, t).sample(sf.Noise(3)), t)
    said, left = float(estimate.mean.var()), float(estimate.var.mean())
    checks[f"E[D] at t = {t}"] = float(estimate.mean.mean()), float(world.mean), (said / n) ** 0.5
    # (D - m)^2 + Var[x_0 | x_t] has the mean Var[x_0]; its own spread gives the error.
    parts = (estimate.mean - world.mean) ** 2 + estimate.var
    checks[f"E[Var[x0|xt]] + Var[D] at t = {t}"] = said + left, total, float(parts.std()) / n**0.5
    shares.append((t, said, left))

# %% A sum of independent normals is normal, with the sum of the variances: so N steps of noise are one.
# x_k = sqrt(1 - beta_k) x_{k-1} + sqrt(beta_k) z_k   gives   x_n = sqrt(abar_n) x_0 + sqrt(1 - abar_n) z
table = sf.processes.Table.linear(100, 1e-3, 0.2)
point = torch.full((n, 1), 0.7)
walked = point
for k in range(100):
    walked = table.forward(walked, k / 100, (k + 1) / 100).sample(sf.Noise(10 + k))
at_once = table.marginal(point, 1.0)
checks["mean after 100 steps"] = float(walked.mean()), float(at_once.mean[0]), at_once.std / n**0.5
checks["variance after 100 steps"] = float(walked.var()), at_once.std**2, at_once.std**2 * (2 / n) ** 0.5

# %% Table and figure
for what, (measured, exact, error) in checks.items():
    print(f"{what:36s} {measured:9.5f}  exact {exact:9.5f}  standard error {error:.5f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_1_expectation.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (left_axis, right_axis) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    times = torch.linspace(0.01, 0.99, 50).tolist()
    found = [world.denoiser(process)(process.marginal(x0[:20_000], t).sample(sf.Noise(3)), t) for t in times]
    left_axis.stackplot(times, [float(e.mean.var()) for e in found], [float(e.var.mean()) for e in found], alpha=0.7)
    left_axis.axhline(total, color="black", lw=1)
    left_axis.set(xlabel="t", xlim=(0, 1), title="what D says, and what it leaves over")
    left_axis.legend(["Var[D]", "E Var[x_0 | x_t]", "Var[x_0]"], loc="lower left")
    counts = [10 * 2**k for k in range(9)]
    spread = [float(sf.Noise(4).normal(torch.empty(500, c)).mean(1).std()) for c in counts]
    right_axis.loglog(counts, spread, "o", counts, [c**-0.5 for c in counts], "-")
    right_axis.set(xlabel="draws", title="error of a mean: 1 / sqrt(n)")
    fig.savefig(figure)
    print(figure)
