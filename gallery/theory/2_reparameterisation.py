"""Reparameterisation: how a gradient passes through a random draw.

Run it whole, `python gallery/theory/2_reparameterisation.py [figure.png]`, or cell by cell. Every line that is printed
compares a number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% Two ways to d/ds E f(x), x ~ N(mu, s^2)
#   pathwise: x = mu + s z,       d/ds E f = E[f'(mu + s z) z]
#   score:                        d/ds E f = E[f(x) d/ds log p(x)] = E[f(x) (z^2 - 1) / s]
# For f = x^2, mu = 0, s = 1 both have the mean 2; the variances are Var[2 z^2] = 8 and Var[z^4 - z^2] = 74.
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato import laws

torch.set_default_dtype(torch.float64)
n = 500_000
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
z = sf.Noise(0).normal(torch.empty(n))
pathwise, score = 2 * z * z, z**2 * (z**2 - 1)
for name, draws, variance in (("pathwise", pathwise, 8.0), ("score", score, 74.0)):
    checks[f"{name}: d/ds E x^2"] = float(draws.mean()), 2.0, (variance / n) ** 0.5
    fourth = float(((draws - draws.mean()) ** 4).mean())
    checks[f"{name}: variance of a draw"] = float(draws.var()), variance, ((fourth - variance**2) / n) ** 0.5

# %% torch does the pathwise one by itself: a law's `sample` keeps the graph.
mean, std = torch.tensor(0.3, requires_grad=True), torch.tensor(0.8, requires_grad=True)
law = laws.Normal(mean.expand(n), std.expand(n))
by_mean, by_std = torch.autograd.grad(law.sample(sf.Noise(1)).square().mean(), (mean, std))
# E x^2 = mu^2 + s^2. One draw's gradients are 2x and 2xz: Var[2x] = 4 s^2, Var[2xz] = 4 (mu^2 + 2 s^2).
checks["d/dmu E x^2 by autograd"] = float(by_mean), 0.6, 2 * 0.8 / n**0.5
checks["d/ds E x^2 by autograd"] = float(by_std), 1.6, 2 * (0.3**2 + 2 * 0.8**2) ** 0.5 / n**0.5

# %% So a network can be trained on x_t = alpha x_0 + sigma eps: the draw does not stand in the gradient's way.
# With data N(0, c) and D = k x_t the loss E (x_0 - k x_t)^2 is least at k = alpha c / (alpha^2 c + sigma^2).
c, t, process = 0.37, 0.4, sf.processes.Cosine()
alpha, sigma = process.alpha(t), process.sigma(t)
best = alpha * c / (alpha**2 * c + sigma**2)
world = sf.GaussianWorld(torch.zeros(1), torch.full((1, 1), c))
k = torch.zeros((), requires_grad=True)
x0 = world.sample(20_000, sf.Noise(2))
xt = process.marginal(x0, t).sample(sf.Noise(3))
optimizer = torch.optim.LBFGS([k], line_search_fn="strong_wolfe")


def loss() -> torch.Tensor:
    """The denoising loss of the draws."""
    optimizer.zero_grad()
    value = (x0 - k * xt).square().mean()
    value.backward()
    return value


optimizer.step(loss)
left = (c * sigma**2 / (alpha**2 * c + sigma**2)) ** 0.5  # std of x_0 given x_t
spread = (alpha**2 * c + sigma**2) ** 0.5
checks["the k that training finds"] = k.item(), best, left / spread / 20_000**0.5
exact = float(world.denoiser(process)(torch.ones(1, 1), t).mean)
checks["the k of the exact denoiser"] = exact, best, 1e-12

# %% Table and figure
for what, (measured, true, error) in checks.items():
    print(f"{what:30s} {measured:9.5f}  exact {true:9.5f}  standard error {error:.5f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_2_reparameterisation.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axis = plt.subplots(figsize=(6, 3.3), layout="constrained")
    counts = torch.arange(1, 2001)
    for draws, name in ((pathwise, "pathwise"), (score, "score function")):
        axis.plot(counts, draws[:2000].cumsum(0) / counts, lw=0.9, label=name)
    axis.axhline(2.0, color="black", lw=1)
    axis.set(xlabel="draws", ylim=(0, 4), title="running estimates of d/ds E x^2 = 2")
    axis.legend()
    fig.savefig(figure)
    print(figure)
