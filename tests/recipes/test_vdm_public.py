"""VDM's loss, its gradients to the schedule and its sampler against numbers of its public code (public/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from public_codes import Given, kept
from torch import Tensor, nn

from sfumato import sample
from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.likelihood import categorical, rescaled, step_term
from sfumato.likelihood.decoders import level_values
from sfumato.processes import LearnedEnds
from sfumato.processes.variances import small
from sfumato.recipes.vdm import Recipe
from sfumato.training import Variational

DATA = {
    key: value.movedim(-1, -3) if value.ndim > 3 else value  # channels last there
    for key, value in kept(Path(__file__).parent / "public" / "vdm.npz").items()
}
X0 = 2 * (DATA["img"].double() + 0.5) / 256 - 1
B, T = len(X0), 7


class Network(nn.Module):
    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        return 0.8 * u + 0.1 * torch.tanh(u) * torch.sin(c_noise).reshape(-1, 1, 1, 1)


def model() -> Preconditioned:
    return Preconditioned(Network(), LearnedEnds(-6.0, 4.0), predict_eps)


def test_continuous_time() -> None:
    """The loss row by row, its three terms, and the gradients: w is gamma_1 - gamma_0 and b is gamma_0."""
    denoiser = model()
    got = Variational(denoiser)(X0, None, Given([DATA["u"].expand(B), DATA["e1"], DATA["e0"]]))
    prior, recon, diff = (DATA[f"T0_loss_{name}"] for name in ("klz", "recon", "diff"))
    torch.testing.assert_close(got.detach(), prior + recon + diff, rtol=1e-10, atol=0)
    got.sum().backward()
    ends = denoiser.process
    assert isinstance(ends, LearnedEnds) and ends.gamma_0.grad is not None and ends.gamma_1.grad is not None
    torch.testing.assert_close(ends.gamma_1.grad, DATA["T0_grad_w"][0], rtol=1e-9, atol=0)
    torch.testing.assert_close(ends.gamma_0.grad + ends.gamma_1.grad, DATA["T0_grad_b"][0], rtol=1e-9, atol=0)
    torch.testing.assert_close(ends.marginal(X0, 1.0).kl(ends.prior(X0)), prior, rtol=1e-9, atol=0)
    z0 = ends.perturb(X0, 0.0, DATA["e0"])
    torch.testing.assert_close(-categorical(rescaled(denoiser, z0, 0.0), X0), recon, rtol=1e-10, atol=0)


def test_a_chain_of_steps() -> None:
    """T / 2 (exp(gamma_t - gamma_s) - 1) |eps - eps_hat|^2 there is T times the KL of the two bridges here."""
    denoiser = model()
    t = torch.ceil((DATA["u"] + torch.arange(B).double() / B) % 1.0 * T) / T
    xt = denoiser.process.perturb(X0, t, DATA["e1"])
    for row in range(B):
        at, to = float(t[row]), float(t[row]) - 1 / T
        x0, x = X0[row : row + 1], xt[row : row + 1].detach()
        term = step_term(denoiser.process, denoiser(x, at), x0, x, at, to, 0.0, small, categorical)
        torch.testing.assert_close(T * term[0].detach(), DATA["T7_loss_diff"][row], rtol=1e-9, atol=0)


def test_sampler() -> None:
    """Two steps from z_1 to z_0, and the level nearest to z_0 / alpha_0."""
    denoiser, draws = model(), Given(DATA["zs"])
    z0 = sample(denoiser, Recipe().sampler(), x1=DATA["z1"], times=(1.0, 0.5, 0.0), noise=draws)
    torch.testing.assert_close(z0, DATA["sampled"], rtol=0, atol=1e-12)
    mean = rescaled(denoiser, z0, 0.0).mean
    nearest = (mean.unsqueeze(-1) - level_values(256, mean)).abs().argmin(-1)
    assert torch.equal(nearest, DATA["levels"])
