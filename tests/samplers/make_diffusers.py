"""Makes the outputs in `tests/data/diffusers_samplers.npz` from its inputs, `x1` and `ddpm_z`: python make_diffusers.py

Needs diffusers (0.42.1 was used). What stands for the network is the exact denoiser at the level of the scheduler
itself, written here once more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "data" / "diffusers_samplers.npz"
STEPS = 20
WEIGHTS, VARIANCES = torch.tensor([0.4, 0.6]).double(), torch.tensor([0.1, 0.2]).double()
MEANS = torch.tensor([[-1.0, 0.5], [0.7, -0.3]], dtype=torch.float64)


def exact(x: Tensor, alpha_bar: float) -> Tensor:
    """E[x_0 | x] under 0.4 N(m_1, 0.1 I) + 0.6 N(m_2, 0.2 I)."""
    alpha = alpha_bar**0.5
    spread = alpha_bar * VARIANCES + 1 - alpha_bar
    gap = x[:, None] - alpha * MEANS
    shares = torch.softmax(WEIGHTS.log() - 0.5 * gap.square().sum(-1) / spread - spread.log(), 1)
    means = MEANS + (alpha * VARIANCES / spread)[:, None] * gap
    return (shares[..., None] * means).sum(1)


def ran(scheduler: Any, x: Tensor, steps: int = STEPS, z: Tensor | None = None) -> tuple[Tensor, list[float]]:
    """The end of `steps` steps, and the alpha_bars that the denoiser was asked at."""
    asked = []
    for i, t in enumerate(scheduler.timesteps[:steps]):
        if hasattr(scheduler, "sigmas"):
            alpha_bar = 1 / (1 + float(scheduler.sigmas[i]) ** 2)
        else:
            alpha_bar = float(scheduler.alphas_cumprod[t])
        asked.append(alpha_bar)
        noise = {} if z is None else {"variance_noise": z[i]}
        x = scheduler.step(exact(x, alpha_bar), t, x, **noise).prev_sample
    return x, asked


def main() -> None:
    import diffusers as d  # type: ignore[import-not-found]

    old = dict(np.load(FILE))
    x1, z = torch.from_numpy(old["x1"]), torch.from_numpy(old["ddpm_z"])
    out: dict[str, Any] = {}

    def ready(kind: Any, steps: int = STEPS, **fields: Any) -> Any:
        scheduler = kind(1000, 1e-4, 0.02, "linear", prediction_type="sample", **fields)
        scheduler.set_timesteps(steps)
        return scheduler

    table = {"timestep_spacing": "trailing"}
    multi, uni = d.DPMSolverMultistepScheduler, d.UniPCMultistepScheduler
    out["ddim"], _ = ran(ready(d.DDIMScheduler, clip_sample=False, **table), x1)
    draws = iter(z)
    d.schedulers.scheduling_ddpm.randn_tensor = lambda *args, **fields: next(draws)
    out["ddpm"], asked = ran(ready(d.DDPMScheduler, clip_sample=False, **table), x1)
    first = float(d.DDPMScheduler(1000, 1e-4, 0.02, "linear").alphas_cumprod[0])
    out["alpha_bars"] = [first, *reversed(asked)]  # not met by these runs: the table begins there
    for order in (1, 2, 3):
        plain = ready(multi, solver_order=order, lower_order_final=False, **table)
        out["dpmpp_1" if order == 1 else f"dpmpp_{order}m"], _ = ran(plain, x1)
        sde = ready(multi, solver_order=order, algorithm_type="sde-dpmsolver++", lower_order_final=False, **table)
        out[f"sde_{order}"], _ = ran(sde, x1, z=z)
        for bh in ("bh1", "bh2"):
            name = "unipc_1" if order == 1 else f"unipc_{order}_{bh}"
            fields = {"solver_order": order, "solver_type": bh, "lower_order_final": False, **table}
            # Its last step, to 0, extrapolates whatever its length: it is left out.
            out[name], _ = ran(ready(uni, **fields), x1, STEPS - 1)
    # Two and three calls a step, on levels even in log SNR, so that calls inside a step are where ours are; the last
    # steps, to 0, are left out.
    for order in (2, 3):
        single = ready(d.DPMSolverSinglestepScheduler, STEPS, solver_order=order, use_exponential_sigmas=True)
        single.order_list = [1 + i % order for i in range(STEPS)]
        out[f"single_{order}"], asked = ran(single, x1, STEPS - 2)
        out["single_alpha_bars"] = [*asked, 1 / (1 + float(single.sigmas[STEPS - 2]) ** 2)]
    for name in out:
        value = np.asarray(out[name])
        if name in old:
            print(f"{name:22s} {np.abs(value - old[name]).max():.1e} from what was kept")
        old[name] = value
    np.savez_compressed(FILE, **old)


if __name__ == "__main__":
    main()
