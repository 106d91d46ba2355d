"""The evidence lower bound: of a latent variable, of a chain of steps; and a likelihood from denoising errors alone.

Run it whole, `python gallery/theory/4_bound.py [figure.png]`, or cell by cell. Every line that is printed compares a
number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% log p(x) = ELBO + KL(q(z | x) | p(z | x)): whatever q is, the bound misses by just this divergence.
# z ~ N(0, 1), x | z ~ N(z, s^2): p(z | x) = N(x / (1 + s^2), s^2 / (1 + s^2)). Take q = N(0.4, 0.7^2), not the truth.
import math
import sys
from itertools import pairwise
from pathlib import Path

import torch

import sfumato as sf
from sfumato.laws import Normal
from sfumato.likelihood import density, elbo
from sfumato.processes.variances import known, small

torch.set_default_dtype(torch.float64)
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, error)
x, s, m, v = 1.3, 0.6, 0.4, 0.7
one = torch.ones(1, 1)
true = Normal(one * x / (1 + s**2), (s**2 / (1 + s**2)) ** 0.5)
guess = Normal(one * m, v)
expected = -0.5 * ((x - m) ** 2 + v**2) / s**2 - 0.5 * math.log(2 * math.pi * s**2)  # E_q log p(x | z)
bound = expected - float(guess.kl(Normal(torch.zeros(1, 1), 1.0)))
log_p = float(Normal(torch.zeros(1, 1), (1 + s**2) ** 0.5).log_prob(one * x))
checks["ELBO + KL(q | posterior)"] = bound + float(guess.kl(true)), log_p, 1e-12

# %% A diffusion's bound:  -log p(x_0) <= KL(q(x_1 | x_0) | prior) + sum KL(q(x_s | x_t, x_0) | p(x_s | x_t)) + ...
# For normal data and the exact denoiser, steps with the *known* variance are exact: only the prior's KL is missing, in
# any number of steps. Steps with the posterior's variance, btilde, miss by O(1 / N).
c, n = 0.37, 40_000
world = sf.GaussianWorld(torch.zeros(1), torch.full((1, 1), c))
process = sf.processes.Geometric(0.02, 20.0)
x0 = world.sample(n, sf.Noise(0))
gaps: dict[str, list[float]] = {"known": [], "small": []}
spread: dict[str, list[float]] = {"known": [], "small": []}
for steps in (20, 40, 80):
    for name, reverse in (("known", known), ("small", small)):
        got = elbo(world.denoiser(process), x0, sf.grids.uniform(steps), sf.Noise(1), reverse=reverse, decoder=density)
        terms = got.prior + got.steps.sum(1)
        diffusion = float(terms.mean())
        # What is left when nothing is missed is the information that the last, least noisy x has of x_0.
        information = 0.5 * math.log((c + 0.02**2) / 0.02**2)
        gaps[name].append(diffusion - information)
        spread[name].append(float(terms.std()) / n**0.5)
checks["gap with the known variance, 20 steps"] = gaps["known"][0], 0.0, spread["known"][0]


def missed(steps: int) -> float:
    """The gap with btilde, by the terms' own expectations: 0.5 k_D^2 E Var[x_0 | x_t] / btilde, where k_D weighs D."""
    total, grid = -0.5 * math.log((c + 0.02**2) / 0.02**2), sf.grids.uniform(steps)
    for t, s in pairwise(grid):
        _, k_D, btilde, _ = process.weights(t, s)
        v = process.sigma(t) ** 2
        total += 0.5 * k_D**2 * (c * v / (c + v)) / btilde**2
    return total


for steps, gap, error in zip((20, 40, 80), gaps["small"], spread["small"], strict=True):
    checks[f"gap with btilde, {steps} steps"] = gap, missed(steps), error

# %% I-MMSE.  The information in a noisy look grows with the signal-to-noise ratio g at half the denoising error:
#   dI / dg = 0.5 mmse(g).   For N(0, c):  I = 0.5 log(1 + g c),  mmse = c / (1 + g c).
g = torch.tensor(3.0, requires_grad=True)
(slope,) = torch.autograd.grad(0.5 * torch.log(1 + g * c), g)
t = process.time_of(math.log(3.0))
left = world.denoiser(process)(process.marginal(x0, t).sample(sf.Noise(2)), t).mean - x0
checks["2 dI / d SNR = denoising error"] = (
    float(left.square().mean()),
    2 * float(slope),
    float(left.square().std()) / n**0.5,
)

# %% Point by point:  -log p(x) = (d/2) log(2 pi e) + 0.5 integral_0^inf (E|x - D|^2 - d / (1 + g)) dg
# A density from denoising errors alone, with no Jacobian and no chain: here of a mixture, by quadrature over the noise.
mixture = sf.MixtureWorld(torch.tensor([0.6, 0.4]), torch.tensor([[-0.8], [0.7]]), torch.tensor([[[0.09]], [[0.16]]]))
wide = sf.processes.Geometric(1e-4, 1e4)
nodes = torch.linspace(-8, 8, 401)
weights = (-0.5 * nodes**2).exp() / (2 * math.pi) ** 0.5 * (nodes[1] - nodes[0])
D = mixture.denoiser(wide)


def pointwise(value: float) -> float:
    """-log p(value) by the integral, over log g."""
    logs, terms = torch.linspace(-14.0, 14.0, 801), []
    for log_g in logs.tolist():
        when, sigma = wide.time_of(log_g), math.exp(-0.5 * log_g)
        errors = (value - D((value + sigma * nodes)[:, None], when).mean[:, 0]) ** 2
        terms.append((float((weights * errors).sum()) - 1 / (1 + math.exp(log_g))) * math.exp(log_g))
    return 0.5 * math.log(2 * math.pi * math.e) + 0.5 * float(torch.trapezoid(torch.tensor(terms), logs))


for value in (-0.8, 0.1, 1.0):
    exact = -float(mixture.log_prob(torch.tensor([[value]])))
    checks[f"-log p({value}) from denoising errors"] = pointwise(value), exact, 1e-3

# %% Table and figure
for what, (measured, exact, error) in checks.items():
    print(f"{what:40s} {measured:9.5f}  exact {exact:9.5f}  standard error {error:.5f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_4_bound.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (one_axis, two_axis) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    one_axis.loglog((20, 40, 80), gaps["small"], "o-", label="btilde")
    one_axis.loglog((20, 40, 80), [20 * gaps["small"][0] / k for k in (20, 40, 80)], ":", color="grey", label="1 / N")
    one_axis.set(xlabel="steps N", title="what the bound misses, in nats")
    one_axis.legend()
    places = torch.linspace(-2, 2, 21)
    two_axis.plot(places, -mixture.log_prob(places[:, None]), color="black", lw=1, label="exact")
    two_axis.plot(places, [pointwise(float(p)) for p in places], "o", ms=4, label="from denoising errors")
    two_axis.set(xlabel="x", title="-log p(x)")
    two_axis.legend()
    fig.savefig(figure)
    print(figure)
