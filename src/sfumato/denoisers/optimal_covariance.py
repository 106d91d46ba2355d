"""SN- and NPR-DDPM: optimal reverse variances from a second network (Bao et al. 2022, 2206.07309), or the Jacobian."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser, Wrapper
from sfumato.denoisers.preconditioned import Preconditioned, predict_x0
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time, expand

EXAMPLE = """\
python -c 'import torch, sfumato as sf; from sfumato.nets import MLP
P = sf.processes.LinearBeta(); W = sf.GaussianWorld(torch.ones(4), torch.eye(4) * 0.04)
D = sf.recipes.load("optimal-covariance").Recipe(W.denoiser(P), MLP(4, 32, 2))  # train the net by training.NoiseMoment
print(D(W.sample(3, sf.Noise(0)), 0.5).var)'"""


class OptimalCovariance(Wrapper):
    """`inner` with Var = (sigma^2 / alpha^2) e, e the variance of eps given x_t from a second network, elementwise.

        SN:  net -> E[eps^2 | x_t],                e = net - eps_hat^2, held above 0
        NPR: net -> E[(eps - eps_hat)^2 | x_t],    e = net, held above 0

    SN is optimal where the mean is; NPR is the best for the mean as it is. Train `net` with `training.NoiseMoment`, the
    mean frozen. Needs alpha > 0. Source: Bao et al. 2022 (2206.07309) theorem 1 and 2, eq. 12 and 18.

    Args:
        inner: the mean.
        net: net(x_t / sqrt(alpha^2 + sigma^2), log SNR, cond) -> like x_t.
        residual: NPR; SN otherwise.
    """

    def __init__(self, inner: Denoiser, net: nn.Module, *, residual: bool = True) -> None:
        super().__init__(inner)
        self.net, self.residual = net, residual

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        process = self.process.bind(cond)
        assert isinstance(process, Gaussian)
        moment = self.moment(xt, t, cond)
        if not self.residual:
            moment = moment - process.eps(xt, estimate.mean, t).square()
        ratio = expand(process.sigma(t), xt) / expand(process.alpha(t), xt)
        return estimate._replace(var=ratio**2 * moment.clamp(min=0.0))

    def moment(self, xt: Tensor, t: Time, cond: Any = None) -> Tensor:
        """What the second network says, (B, *event)."""
        process = self.process
        assert isinstance(process, Gaussian)
        return Preconditioned(self.net, process, predict_x0)(xt, t, cond).mean


class JacobianVariance(Wrapper):
    """`inner` with Var = (sigma^2 / alpha) diag(dD / dx_t): exact where D is, at d vector-Jacobian products a call.

    Held above 0. The identity is Tweedie's of second order; learning this diagonal is OCM-DPM (Ou et al. 2024,
    2406.10808) eq. 7.
    """

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process.bind(cond)
        assert isinstance(process, Gaussian)
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            estimate: Estimate = self.inner(x, t, cond)
            flat = estimate.mean.flatten(1)
            rows = [
                torch.autograd.grad(flat[:, i].sum(), x, retain_graph=True)[0].flatten(1)[:, i]
                for i in range(flat.shape[1])
            ]
        slope = torch.stack(rows, 1).reshape(xt.shape)
        factor = expand(process.sigma(t), xt) ** 2 / expand(process.alpha(t), xt)
        return Estimate(estimate.mean.detach(), (factor * slope).clamp(min=0.0))


Recipe = OptimalCovariance
