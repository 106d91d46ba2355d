"""Schedules: what alpha, sigma and log SNR are at each time, what a prior that does not match costs, and units.

Run it whole, `python gallery/theory/7_schedules.py [figure.png]`, or cell by cell. Each line that is printed compares a
number with its exact value; `checks` holds them with the standard error that is allowed.
"""

# %% The processes, side by side.  Only log SNR matters to what can be known of x_0; the rest is a choice of unit.
import math
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.likelihood import bits_per_dim
from sfumato.metrics import frechet
from sfumato.metrics.frechet import frechet_normal

torch.set_default_dtype(torch.float64)
checks: dict[str, tuple[float, float, float]] = {}  # what: (measured, exact, standard error)
processes = {
    "linear beta": sf.processes.LinearBeta(),
    "cosine": sf.processes.Cosine(),
    "exploding": sf.processes.Geometric(0.01, 50.0),
    "EDM": sf.processes.EDM(),
    "rectified": sf.processes.Rectified(),
}
rows: dict[str, list[tuple[float, float, float]]] = {}
for name, process in processes.items():
    times = (1e-3, 0.25, 0.5, 0.75, 1.0 - 1e-3)
    rows[name] = [(process.alpha(t), process.sigma(t), process.log_snr(t)) for t in times]
checks["cosine: alpha at 1/2"] = processes["cosine"].alpha(0.5), math.cos(math.pi / 4), 0.01  # with the paper's offset
checks["linear beta: alpha^2 at 1"] = processes["linear beta"].alpha(1.0) ** 2, math.exp(-0.5 * (0.1 + 20.0)), 1e-9
checks["exploding: sigma at 1/2"] = processes["exploding"].sigma(0.5), (0.01 * 50.0) ** 0.5, 1e-9
checks["rectified: log SNR at 1/2"] = processes["rectified"].log_snr(0.5), 0.0, 1e-12

# %% The prior does not know the data.  KL(q(x_1) | prior) = 0.5 sum (a - 1 - log a),  a = alpha^2 c + sigma^2
c, costs = 0.25, {}
for name, process in processes.items():
    world = sf.GaussianWorld(torch.zeros(1), torch.full((1, 1), c))
    end, prior = world.marginal(process, 1.0), process.prior(torch.zeros(1, 1))
    variance = float(end.cov) / float(torch.as_tensor(prior.std)) ** 2
    costs[name] = 0.5 * (variance - 1 - math.log(variance))
for steps, last in ((1000, 0.02), (300, 0.02), (300, 0.02 * 1000 / 300)):
    table = sf.processes.Table.linear(steps, 1e-4 * last / 0.02, last)
    costs[f"table of {steps}, beta to {last:.3f}"] = 0.5 * (
        (a := table.alpha(1.0) ** 2 * c + table.sigma(1.0) ** 2) - 1 - math.log(a)
    )
short = sf.processes.Table.linear(300, 1e-4, 0.02)
product = math.prod(1 - (1e-4 + (0.02 - 1e-4) * k / 299) for k in range(300))
checks["abar of 300 steps with the betas of 1000"] = short.alpha(1.0) ** 2, product, 1e-9

# %% Frechet's distance of two normal laws:  |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1^(1/2) C_2 C_1^(1/2))^(1/2))
# The means of 20,000 draws are off by a little, so the estimate is off upwards: about twice tr(C) / n.
n = 20_000
first = sf.GaussianWorld(torch.zeros(2), torch.diag(torch.tensor([1.0, 4.0])))
second = sf.GaussianWorld(torch.tensor([1.0, 0.0]), torch.diag(torch.tensor([4.0, 1.0])))
got = frechet(first.sample(n, sf.Noise(0)), second.sample(n, sf.Noise(1)))
checks["Frechet of two normals"] = frechet_normal(first.mean, first.cov, second.mean, second.cov), 1 + 1 + 1, 1e-9
checks["the same from 20,000 draws"] = got, 3.0, 2 * (5.0 / n) ** 0.5

# %% Bits per dimension:  -log p / (d log 2) + log2(levels / range), for data of 256 levels on [-1, 1]
flat = torch.full((1,), -3 * 32 * 32 * math.log(2.0))  # the uniform density on [-1, 1]^d: every level as likely
checks["bits/dim of uniform noise"] = float(bits_per_dim(flat, 3 * 32 * 32)), 8.0, 1e-9

# %% Table and figure
for name, row in rows.items():
    print(f"{name:12s}", "  ".join(f"{a:5.3f} {s:7.3f} {l:6.2f}" for a, s, l in row))
for name, cost in costs.items():
    print(f"KL(q(x_1) | prior) in nats a dimension, {name:28s} {cost:.2e}")
for what, (measured, exact, error) in checks.items():
    print(f"{what:42s} {measured:9.5f}  exact {exact:9.5f}  standard error {error:.5f}")
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/theory_7_schedules.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, (one, two) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
    line = torch.linspace(0.001, 0.999, 300).tolist()
    for name, process in processes.items():
        one.plot(line, [process.log_snr(t) for t in line], label=name)
        two.plot([process.alpha(t) for t in line], [min(process.sigma(t), 2.0) for t in line], label=name)
    one.set(xlabel="t", title="log SNR", ylim=(-15, 15))
    one.legend()
    two.set(xlabel="alpha", ylabel="sigma", title="the way from data to noise", ylim=(0, 1.6))
    fig.savefig(figure)
    print(figure)
