"""Terms of the bound and learned variances against numbers of the public code of Improved DDPM.

`improved_diffusion.npz` holds inputs and outputs of openai/improved-diffusion at 1bc7bbb in float64: `SpacedDiffusion`
of 40 linear or cosine steps, all of them or 6 (`space_timesteps(40, [6])`), LEARNED_RANGE, EPSILON, RESCALED_MSE; a
model that returns F whatever its input; `q_sample` with eps, `p_mean_variance(clip_denoised=False)`,
`_vb_terms_bpd`, `training_losses` and `_prior_bpd`.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds_for_tests import close

from sfumato.denoisers import LearnedVariance, predict_eps
from sfumato.likelihood import discretized, step_term
from sfumato.processes import Table
from sfumato.processes.variances import learned

DATA = {k: torch.from_numpy(v) for k, v in np.load(Path(__file__).with_name("improved_diffusion.npz")).items()}
X0 = DATA["level"].double() / 127.5 - 1
TABLES = {"linear": Table.linear(40, 0.1 / 40, 20 / 40), "cosine": Table.cosine(40)}


class Fixed(torch.nn.Module):
    def forward(self, u, c_noise, cond=None):
        return DATA["F"]


def tanh_decoder(law, x0):
    """The decoder of that code: a tanh for the normal distribution function."""
    half = 1 / 255

    def cdf(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    up, low = cdf((x0 - law.mean + half) / law.std), cdf((x0 - law.mean - half) / law.std)
    inner = torch.where(x0 > 0.999, 1 - low, up - low)
    return torch.where(x0 < -0.999, up, inner).clamp(min=1e-12).log().flatten(1).sum(1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["all", "spaced"])
def test_laws_terms_and_prior(schedule: str, spacing: str) -> None:
    table, key = TABLES[schedule], f"{schedule}_{spacing}_"
    levels = [0, *(int(k) + 1 for k in DATA[key + "kept"])]  # index n of the code is level n + 1
    index = DATA[key + "n"]
    t = torch.tensor([levels[n + 1] / 40 for n in index], dtype=torch.float64)
    s = torch.tensor([levels[n] / 40 for n in index], dtype=torch.float64)
    xt = table.perturb(X0, t, DATA["eps"])
    estimate = LearnedVariance(Fixed(), table, predict_eps)(xt, t)
    floor = table.weights(levels[2] / 40, levels[1] / 40)[2] ** 2
    law = learned(table, estimate, xt, t, s, floor)
    close(law.mean, DATA[key + "mean"], 1e-9)
    close(2 * law.std.log(), DATA[key + "log_variance"], 1e-9)
    bits = X0[0].numel() * math.log(2)
    got = step_term(table, estimate, X0, xt, t, s, floor, learned, tanh_decoder) / bits
    close(got, DATA[key + "vb"], 1e-8)
    exact = step_term(table, estimate, X0, xt, t, s, floor, learned, discretized) / bits
    close(exact[2:], DATA[key + "vb"][2:], 1e-8)
    # One time for all is the same term, row by row.
    for row in range(len(index)):
        a, b = float(t[row]), float(s[row])
        one = step_term(table, estimate, X0, xt, a, b, floor, learned, discretized)[row]
        close(one / bits, exact[row], 1e-9)
    close(table.marginal(X0, 1.0).kl(table.prior(X0)) / bits, DATA[key + "prior"], 1e-9)


def test_a_step_to_data_is_a_point_without_a_floor() -> None:
    """What the sampler draws: no noise in the last step, for float and tensor times."""
    table = TABLES["linear"]
    xt = DATA["eps"]
    for last, first in ((1 / 40, 0.0), (torch.full((6,), 1 / 40).double(), torch.zeros(6).double())):
        estimate = LearnedVariance(Fixed(), table, predict_eps)(xt, last)
        law = learned(table, estimate, xt, last, first)
        close(law.std, 0.0)
        close(law.mean, estimate.mean, 1e-12)
