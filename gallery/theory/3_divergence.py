"""The Kullback-Leibler divergence: of normals, of chains, under noise; and how it is estimated.

Run it whole, `python gallery/theory/3_divergence.py [figure.png]`, or cell by cell. Every line that is printed compares
a number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% KL(p | q) = E_p log p/q >= 0, by Jensen's inequality; between normals in closed form; not symmetric.
#   0.5 (tr(S_q^-1 S_p) + (m_q - m_p)^T S_q^-1 (m_q - m_p) - d + log det S_q / det S_p)
import math
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato import laws

torch.set_default_dtype(torch.float64)
n = 200_000
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
p = sf.GaussianWorld(torch.tensor([0.5, 0.0]), torch.tensor([[1.0, 0.5], [0.5, 0.8]]))
q = sf.GaussianWorld(torch.tensor([0.0, 0.3]), torch.tensor([[1.5, 0.0], [0.0, 0.6]]))


def divergence(a: sf.GaussianWorld, b: sf.GaussianWorld) -> float:
    """KL(a | b) of two normal laws."""
    gap, inverse = b.mean - a.mean, torch.linalg.inv(b.cov)
    trace = (inverse @ a.cov).trace() + gap @ inverse @ gap - len(gap)
    return float(0.5 * (trace + torch.logdet(b.cov) - torch.logdet(a.cov)))


# %% Two estimators from draws of p, r = q/p:  -log r,  and  r - 1 - log r, which is never negative.
for a, b, name in ((p, q, "KL(p | q)"), (q, p, "KL(q | p)")):
    x = a.sample(n, sf.Noise(0))
    log_r = b.log_prob(x) - a.log_prob(x)
    for draws, kind in ((-log_r, "-log r"), (log_r.expm1() - log_r, "r - 1 - log r")):
        checks[f"{name} by {kind}"] = float(draws.mean()), divergence(a, b), float(draws.std()) / n**0.5
        assert kind == "-log r" or float(draws.min()) >= 0.0

# %% A Markov chain's KL is the sum of its steps': the chain rule, and the reason why a diffusion bound is a sum.
# Two chains x_k = a x_{k-1} + s z from N(0, 1), with (a, s) = (0.9, 0.5) and (0.8, 0.6), 5 steps.
steps, (a1, s1), (a2, s2) = 5, (0.9, 0.5), (0.8, 0.6)


def chain(a: float, s: float) -> sf.GaussianWorld:
    """The joint law of x_0 ... x_5."""
    move = torch.eye(steps + 1) - torch.diag(torch.full((steps,), a), -1)
    noise = torch.diag(torch.tensor([1.0] + [s**2] * steps))
    inverse = torch.linalg.inv(move)
    return sf.GaussianWorld(torch.zeros(steps + 1), inverse @ noise @ inverse.T)


joint, total, variance = divergence(chain(a1, s1), chain(a2, s2)), 0.0, 1.0
for _ in range(steps):
    step = laws.Normal(torch.zeros(1, 1), s1).kl(laws.Normal(torch.zeros(1, 1), s2))
    total += float(step) + 0.5 * (a1 - a2) ** 2 * variance / s2**2  # E over x_{k-1} of the squared gap of the means
    variance = a1**2 * variance + s1**2
checks["KL of chains"] = total, joint, 1e-12

# %% Noise brings laws together.  de Bruijn:  d/d(sigma^2) KL(p_sigma | q_sigma) = -0.5 E_p |score_p - score_q|^2
left = sf.MixtureWorld(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0], [1.0]]), torch.full((2, 1, 1), 0.04))
right = sf.GaussianWorld(torch.zeros(1), torch.full((1, 1), 1.04))
exploding = sf.processes.Geometric(0.01, 10.0)
line = torch.linspace(-40.0, 40.0, 100_001)[:, None]


def at(variance: float) -> tuple[float, float]:
    """(KL, Fisher divergence) of the two laws with this much noise, by quadrature."""
    t = exploding.time_of(-math.log(variance))
    a, b = left.marginal(exploding, t), right.marginal(exploding, t)
    log_p, log_q = a.log_prob(line), b.log_prob(line)
    gap = (a.score(line) - b.score(line)).square()[:, 0]
    integrals = [torch.trapezoid(log_p.exp() * f, line[:, 0]) for f in (log_p - log_q, gap)]
    return float(integrals[0]), float(integrals[1])


h = 1e-4
for level in (0.1, 0.5, 2.0):
    slope = (at(level + h)[0] - at(level - h)[0]) / (2 * h)
    checks[f"d KL / d sigma^2 at {level}"] = slope, -0.5 * at(level)[1], 1e-6

# %% Between categories:  sum_k p_k log(p_k / q_k)
first, second = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.2, 0.2, 0.6]])
checks["KL of categories"] = (
    float(laws.Categorical(first).kl(laws.Categorical(second))),
    0.5 * math.log(2.5) + 0.3 * math.log(1.5) - 0.2 * math.log(3.0),
    1e-12,
)

# %% Table and figure
for what, (measured, exact, error) in checks.items():
    print(f"{what:30s} {measured:9.5f}  exact {exact:9.5f}  standard error {error:.5f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_3_divergence.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (one, two) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    window = line[(line[:, 0].abs() < 4)]
    for level, color in ((0.01, "tab:blue"), (0.3, "tab:orange"), (2.0, "tab:green")):
        t = exploding.time_of(-math.log(level))
        one.plot(window, left.marginal(exploding, t).log_prob(window).exp(), color=color, label=f"sigma^2 = {level}")
        one.plot(window, right.marginal(exploding, t).log_prob(window).exp(), color=color, ls=":")
    one.set(title="two laws under the same noise")
    one.legend()
    levels = torch.logspace(-2, 1, 25).tolist()
    two.loglog(levels, [at(v)[0] for v in levels])
    two.set(xlabel="sigma^2", title="their KL falls at half the Fisher divergence")
    fig.savefig(figure)
    print(figure)
