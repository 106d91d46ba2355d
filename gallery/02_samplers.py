"""Samplers and grids: the error of the flow against the number of denoiser calls, where the answer is known.

All samplers start from the same noise and follow the same probability-flow ODE, whose end `world.flow` computes by
brute force. Run it whole, `python gallery/02_samplers.py [figure.png]`, or cell by cell.
"""

# %% A mixture of five normals in eight dimensions
import sys
from pathlib import Path

import torch

import sfumato as sf
from sfumato.denoisers import Counted

torch.set_default_dtype(torch.float64)
noise = sf.Noise(0)
means = 1.2 * noise.normal(torch.empty(5, 8))
factors = 0.25 * noise.normal(torch.empty(5, 8, 8))
world = sf.MixtureWorld(torch.ones(5), means, factors @ factors.mT + 0.01 * torch.eye(8))
process = sf.processes.LinearBeta()

# %% The truth: from t = 1 to a time just above 0, where log SNR is still finite
end = process.time_of(9.2)  # sigma / alpha = 0.01
x1 = process.prior(torch.empty(64, 8)).sample(noise)
truth = world.flow(x1, 1.0, end, process, steps=400)

# %% Two grids, four samplers, calls counted
grids = {
    "uniform": lambda n: sf.grids.uniform(n, end=end),
    "log_snr": lambda n: sf.grids.log_snr(process, n, low=process.log_snr(1.0), end=end),
}
samplers = {
    "Euler": sf.samplers.Euler(),
    "DDIM": sf.samplers.DDIM(),
    "DPM-Solver++ 2M": sf.samplers.DPMpp2M(),
    "Heun": sf.samplers.Heun(),
}
budgets = (8, 16, 32, 64, 128)
errors: dict[tuple[str, str], list[float]] = {}
for grid_name, grid in grids.items():
    for name, sampler in samplers.items():
        row = errors[name, grid_name] = []
        for budget in budgets:
            denoiser = Counted(world.denoiser(process))
            steps = budget // 2 if name == "Heun" else budget
            x = sf.sample(denoiser, sampler, x1=x1, times=grid(steps), noise=sf.Noise(1))
            assert denoiser.calls <= budget
            row.append(float((x - truth).norm(dim=1).mean()))

print(f"{'mean error after':26}" + "".join(f"{budget:>9}" for budget in budgets) + "  calls")
for (name, grid_name), row in errors.items():
    print(f"{name + ', ' + grid_name:26}" + "".join(f"{error:9.4f}" for error in row))

# %% Figure
figure = Path(sys.argv[1] if len(sys.argv) > 1 else "out/02_samplers.png")
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no figure: it needs matplotlib (pip install 'sfumato[plot]')")
else:
    figure.parent.mkdir(parents=True, exist_ok=True)
    fig, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for index, ((name, grid_name), row) in enumerate(errors.items()):
        style = "--" if grid_name == "uniform" else "-"
        axes.loglog(budgets, row, style, marker="o", color=f"C{index % 4}", label=f"{name}, {grid_name}")
    axes.set(xlabel="denoiser calls", ylabel="distance to the end of the flow")
    axes.legend(fontsize=8)
    fig.savefig(figure)
    print(figure)
torch.set_default_dtype(torch.float32)
