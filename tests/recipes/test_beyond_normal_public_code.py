"""Four public codes on the same inputs: kernels, bound and chain of Sohl-Dickstein et al.; the chain and loss of DRL;
ADP's loop; the gamma sampler.

tests/data/beyond_normal.npz holds what they were given and gave: Sohl-Dickstein/Diffusion-Probabilistic-Models
(model.py, numpy in the place of Theano), ruiqigao/recovery_likelihood (model.py, torch in the place of TensorFlow, an
energy of a formula), jmyoon1/adp (purification/adp.py, a score of a formula), and the copy of the authors' gamma
sampler in leosegre/Gamma-Diffusion-Domain-Adaptation (functions/denoising.py).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from worlds_for_tests import close

from sfumato import Measurement, recipes
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.likelihood import entropy
from sfumato.noise import Noise
from sfumato.operators import Identity
from sfumato.processes import EDM, GammaNoise, Table
from sfumato.processes.additive import TwoNormals
from sfumato.samplers import DDIM, trajectory
from sfumato.solvers import ADP

with np.load(Path(__file__).parents[1] / "data" / "beyond_normal.npz") as file:
    DATA = {name: torch.from_numpy(file[name]) for name in file.files}


class Given(Noise):
    """A stream whose draws are given."""

    def __init__(self, normals=(), gammas=()) -> None:
        super().__init__(0)
        self.normals, self.gammas = list(normals), list(gammas)

    def normal(self, like):
        return self.normals.pop(0).to(like)

    def gamma(self, concentration):
        return self.gammas.pop(0)


@pytest.mark.parametrize(("i", "n"), [(0, 2), (1, 7), (2, 12)])
def test_kernels_and_bound_of_the_first_diffusion_model(i: int, n: int) -> None:
    module, N = recipes.load("nonequilibrium"), 12
    process = module.LearnedBetas(N, 0.001, 5)
    close(process.basis, DATA["sd_basis"], 1e-10)
    close(process.betas().detach(), DATA["sd_betas"], 1e-10)

    class Readout(nn.Module):
        """(B, bumps x (f, g), H, W) of their (B, H, W, 1, (f, g), bumps)."""

        def forward(self, u, level, cond=None):
            return DATA["sd_Z"][:, :, :, 0].permute(0, 4, 3, 1, 2).reshape(2, -1, 3, 3)

    model = module.Perturbed(module.Bumped(Readout(), 5, N), process)
    x, x0, t, s = DATA[f"sd_{i}_noisy"], DATA["sd_x0"], n / N, (n - 1) / N
    law = module.perturbed(process, model(x, t), x, t, s)
    close(law.mean, DATA[f"sd_{i}_mu"], 1e-9)
    close(law.std, DATA[f"sd_{i}_sigma"], 1e-9)
    bridge = process.reverse(Estimate(x0), x, t, s)
    close(bridge.mean, DATA[f"sd_{i}_mu_q"], 1e-9)
    close(bridge.std, DATA[f"sd_{i}_sigma_q"], 1e-9)
    # Their bound counts N steps where the chain has N - 1 beside the absorbed one; it is above that of N(0, I).
    first, last = (entropy(process.marginal(x0, m / N)) for m in (1, N))
    gauss = 9 * 0.5 * math.log(2 * math.pi * math.e)
    nats = N * bridge.kl(law) + first - last + entropy(process.prior(x0)) - gauss
    close(nats.mean() / (9 * math.log(2)), DATA[f"sd_{i}_bits"], 1e-8)


def test_chain_and_loss_of_recovery_likelihood() -> None:
    module = recipes.load("recovery-likelihood")
    recipe = module.Recipe(moves=3)

    class Formula(nn.Module):
        def forward(self, y, level, cond=None):
            index = ((level - 1) / 100).round()  # levels 0, 100, .., 500
            return -(0.3 + 0.1 * index) * (y - 0.2).flatten(1).square().sum(1) + y.flatten(1).sin().sum(1)

    energy = module.RecoveryEnergy(Formula(), recipe.process(), recipe.times(), recipe.b2)
    rising = torch.tensor(recipe.times()[::-1], dtype=torch.float64)
    index = torch.tensor([0, 2, 5])
    t, s = rising[index + 1], rising[index]
    a, std, _, _ = energy.bridge(t, s, DATA["rl_xt"])
    close(std.flatten(), DATA["rl_sigmas"][index + 1], 1e-9)
    close(a.flatten()[:2], DATA["rl_a"][index[:2] + 1], 1e-9)
    x, _ = recipe.sampler().step(energy, DATA["rl_xt"], t, s, None, Given(DATA["rl_z"]))
    close(x, DATA["rl_x"], 1e-9)
    gap = energy.energy(a * x, s) - energy.energy(a * DATA["rl_xp"], s)
    close(DATA["rl_sigmas"][1] / std.flatten() * gap, DATA["rl_loss"], 1e-9)


def test_loop_of_adp() -> None:
    W, c = DATA["adp_W"], DATA["adp_c"]

    class Formula(Denoiser):
        """The score that their code was given, of the unit interval, as an estimate at a level of EDM."""

        process = EDM()

        def forward(self, xt, t, cond=None):
            u = ((xt + 1) / 2).flatten(1)
            g = (torch.tanh((c - u) @ W) + 0.3 * torch.sin(7 * u)).reshape(xt.shape)
            return Estimate(xt + self.process.sigma(t) * g)

    m = Measurement(Identity(), 2 * DATA["adp_x"] - 1, sigma=0.0)
    got = ADP(stop=0.02)(Formula(), m, Given([DATA["adp_z"]]))
    close((got + 1) / 2, DATA["adp_out"], 1e-7)
    steps = DATA["adp_steps"]
    assert bool((steps == 0).any()) and bool((steps == 0.1).any()) and bool(((steps > 0) & (steps < 0.1)).any())


@pytest.mark.parametrize("eta", [0, 1])
def test_gamma_sampler(eta: int) -> None:
    process = GammaNoise(Table.from_betas(torch.linspace(1e-2, 0.3, 10, dtype=torch.float64).tolist()), 0.3)

    class Formula(Denoiser):
        """Their e_hat of the step n - 1."""

        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt, t, cond=None):
            e = 0.4 * xt + 0.1 * torch.sin(xt) * (1 + (10 * t - 1) / 10)
            return Estimate((xt - process.sigma(t) * e) / process.alpha(t))

    times = tuple(n / 10 for n in range(10, -1, -1))
    draws = Given(gammas=DATA["gm_draws_1"] if eta else ())
    steps = list(trajectory(Formula(), DDIM(float(eta)), DATA["gm_x"], times, draws))
    for step, want in zip(steps, DATA[f"gm_{eta}"]):
        close(step.x, want, 1e-6)  # theirs draws in float32


def test_means_of_two_normals() -> None:
    for (std, p), want in zip(((0.3, 0.5), (0.6, 0.2)), DATA["g2_m1"]):
        close(TwoNormals(std, p).means[0], want)
