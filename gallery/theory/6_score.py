"""The score: Tweedie's formulas, score matching, Langevin's bias and its trouble with far modes, Hutchinson's trace.

Run it whole, `python gallery/theory/6_score.py [figure.png]`, or cell by cell. Every line that is printed compares a
number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% Tweedie.  E[x_0 | x_t] = (x_t + sigma^2 score) / alpha,   Var[x_0 | x_t] = sigma^2 / alpha^2 (1 + sigma^2 score')
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.likelihood.divergence import rademacher

torch.set_default_dtype(torch.float64)
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
world = sf.MixtureWorld(torch.tensor([0.4, 0.6]), torch.tensor([[-1.0], [0.8]]), torch.tensor([[[0.05]], [[0.2]]]))
process, t = sf.processes.Cosine(), 0.4
alpha, sigma, marginal = process.alpha(t), process.sigma(t), world.marginal(process, t)
for x in (-0.7, 0.2):
    at = torch.tensor([[x]], requires_grad=True)
    (score,) = torch.autograd.grad(marginal.log_prob(at).sum(), at, create_graph=True)
    (slope,) = torch.autograd.grad(score.sum(), at)
    score, slope, estimate = score.detach(), slope.detach(), world.denoiser(process)(at.detach(), t)
    checks[f"E[x_0 | x_t = {x}]"] = float(estimate.mean), float(x + sigma**2 * score) / alpha, 1e-12
    checks[f"Var[x_0 | x_t = {x}]"] = float(estimate.var), float(sigma**2 / alpha**2 * (1 + sigma**2 * slope)), 1e-12

# %% Score matching without the score.  For any f, with s the true score of x_t:
#   E |f - s|^2 = E[f^2 + 2 f'] + E s^2                    (implicit: by parts)
#   E |f - s|^2 = E |f + eps / sigma|^2 - E |s + eps / sigma|^2   (denoising: the second term does not depend on f)
n = 400_000
x0 = world.sample(n, sf.Noise(0))
eps = sf.Noise(1).normal(x0)
xt = process.perturb(x0, t, eps)
true = marginal.score(xt)
wrong, slope_of_wrong = -0.7 * xt, -0.7  # f, and its derivative
explicit = (wrong - true).square()
implicit = wrong.square() + 2 * slope_of_wrong + true.square()
denoising = (wrong + eps / sigma).square() - (true + eps / sigma).square()
for name, terms in (("implicit", implicit), ("denoising", denoising)):
    gap = terms - explicit
    checks[f"{name} against explicit"] = float(terms.mean()), float(explicit.mean()), float(gap.std()) / n**0.5

# %% Langevin.  x <- x + e score + sqrt(2 e) z settles near the law; on N(0, v) at the variance v / (1 - e / (2 v)).
v, e = 0.5, 0.2
x = sf.Noise(2).normal(torch.empty(200_000))
noise = sf.Noise(3)
for _ in range(40):
    x = x - e * x / v + (2 * e) ** 0.5 * noise.normal(x)
settled = v / (1 - e / (2 * v))
checks["variance that Langevin settles at"] = float(x.var()), settled, settled * (2 / 200_000) ** 0.5

# %% Between far modes it does not mix: it keeps the shares that it started with. Annealed, it finds the data's.
far = sf.MixtureWorld(torch.tensor([0.8, 0.2]), torch.tensor([[-4.0], [4.0]]), torch.full((2, 1, 1), 0.09))
ladder = sf.processes.Geometric(0.05, 20.0)
D, begin = far.denoiser(ladder), ladder.prior(torch.empty(4000, 1)).sample(sf.Noise(4))
stuck = begin.clamp(-5, 5)
for _ in range(300):
    stuck = stuck + 0.02 * far.score(stuck) + 0.2 * noise.normal(stuck)
annealed = sf.sample(D, sf.samplers.Langevin(0.1, 20), x1=begin, times=(1.0, *sf.grids.uniform(100)), noise=sf.Noise(5))
shares = {"plain": float((stuck < 0).double().mean()), "annealed": float((annealed < 0).double().mean())}

# %% Hutchinson.  v^T A v has the mean tr A for random signs v, and the variance 2 sum_{i != j} a_ij^2 (A symmetric).
A = torch.tensor([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 3.0]])
signs = rademacher(torch.empty(200_000, 3), sf.Noise(6))[0]
traces = ((signs @ A) * signs).sum(1)
variance = 2 * float(A.square().sum() - A.diagonal().square().sum())
checks["Hutchinson's mean"] = float(traces.mean()), 6.0, (variance / len(traces)) ** 0.5
fourth = float(((traces - 6.0) ** 4).mean())
checks["Hutchinson's variance"] = float(traces.var()), variance, ((fourth - variance**2) / len(traces)) ** 0.5

# %% Table and figure
for what, (measured, exact, error) in checks.items():
    print(f"{what:36s} {measured:9.5f}  exact {exact:9.5f}  standard error {error:.5f}")
print(f"share of the left mode (exact 0.8): plain Langevin {shares['plain']:.3f}, annealed {shares['annealed']:.3f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_6_score.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (one, two) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    line = torch.linspace(-3, 3, 400)[:, None]
    for when in (0.05, 0.3, 0.6, 0.9):
        one.plot(line, world.marginal(process, when).score(line), label=f"t = {when}")
    one.set(title="the score, from data to noise", ylim=(-12, 12))
    one.legend()
    edges = torch.linspace(-6, 6, 100).tolist()
    two.hist(stuck.flatten().numpy(), edges, density=True, alpha=0.5, label="plain Langevin")
    two.hist(annealed.flatten().numpy(), edges, density=True, alpha=0.5, label="annealed")
    two.plot(edges, far.log_prob(torch.tensor(edges)[:, None]).exp(), color="black", lw=1, label="exact")
    two.set(title="two far modes")
    two.legend()
    fig.savefig(figure)
    print(figure)
