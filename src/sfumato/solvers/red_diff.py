"""RED-diff: a variational perspective on inverse problems with diffusion models (Mardani et al. 2023, 2305.04391)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.adam import adam
from sfumato.solvers.base import indexed
from sfumato.solvers.on_data import OnData, noise_level
from sfumato.solvers.tweedie import inside


@dataclass(frozen=True)
class REDDiff(OnData):
    """A point mu that fits y and is left alone by the denoiser at every level: Adam on

    |y - A mu|^2 / 2 + lambda sigma_t / alpha_t <eps_hat(x_t) - z, mu>,   x_t = alpha_t mu + shift_t + sigma_t z,

    one level and one z a step, from noise to data. The network is not differentiated. A mode seeker, not a sampler:
    what spread its results have is the jitter of Adam, and coverage is far too low. A time is shared by the batch.

    Args:
        steps: network evaluations; the table's own steps, or uniform in t.
        lr, betas: of Adam.
        lambda_: weight of the prior.
        reduction: "mean", of both terms over their own elements and without sigma_y, as in the public code, which the
            default of lambda_ is made for; "sum": the paper's objective, the first term over sigma_y^2, or minus the
            log of another likelihood.

    Source: Mardani et al. 2023 (2305.04391) eq. 11 and algorithm 1; defaults of its public code. Means are taken per
    sample.
    """

    steps: int = 1000
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    lambda_: float = 0.25
    reduction: str = "mean"
    climbs = True

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f"REDDiff: reduction is mean or sum, got {self.reduction!r}.")

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        if self.reduction == "sum" and m.sigma == 0.0 and m.likelihood is None:
            raise ValueError("REDDiff: the sum divides by sigma_y^2, which is 0. Use reduction='mean'.")
        process, z = denoiser.process, noise.normal(xt)
        assert isinstance(process, Gaussian)
        t = inside(process, t)
        noisy = process.perturb(xt, t, z)
        prior = self.lambda_ * noise_level(process, t) * (process.eps(noisy, denoiser(noisy, t).mean, t) - z)
        with torch.enable_grad():
            mu = xt.detach().requires_grad_()
            plain = self.reduction == "mean" and m.likelihood is None
            loss = 0.5 * m.residual(mu).abs().square().sum() if plain else m.energy(mu).sum()
            (fit,) = torch.autograd.grad(loss, mu)
        if self.reduction == "mean":
            fit, prior = fit / m.y[0].numel(), prior / xt[0].numel()
        move, memory = adam(fit + prior, memory, lr=self.lr, betas=self.betas)
        return xt - move, memory


Recipe = REDDiff
