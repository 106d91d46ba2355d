"""Continuous-time consistency: the tangent of the consistency function along the flow, by one forward derivative."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sfumato.denoisers import Denoiser, Preconditioned
from sfumato.noise import Noise
from sfumato.processes import Trigonometric, expand
from sfumato.training.times import LogNormal, TimeLaw
from sfumato.training.uncertain import Uncertainty


class ContinuousConsistency(nn.Module):
    """(e^w / d) |F(x_t / sd, t) - F^- - g|^2 - w, g the normalised tangent of f = cos(t) x_t - sin(t) sd F.

        g = -cos^2(t) (sd F^- - dx/dt) - r cos(t) sin(t) (x_t + sd dF^-/dt),   g <- g / (|g| + c)

    t the angle of TrigFlow; dF^-/dt the total derivative along (dx/dt, 1), one Jacobian-vector product in forward mode.
    dx/dt is the teacher's velocity (distillation, sCD), or cos(t) z - sin(t) x_0 (training, sCT). r = min(1, step /
    warmup). w(t) is learned beside the network and no part of it; dropout is the same in F and F^-. Where f is the end
    of the flow g vanishes; without r and normalisation g = cos(t) df/dt.

    Args:
        denoiser: on `Trigonometric(sd)` with the scheme `trig(sd)`, its network told the angle.
        teacher: E[x_0 | x_t] on the same process; None: training from nothing.
        times: law of the level.
        warmup: steps until r = 1.
        constant: c.
        adaptive: learn w; 0 otherwise.

    Raises:
        ValueError: for a denoiser on another process.

    Source: Lu & Song 2025 (2410.11081) algorithm 1, eq. 6 to 8, section 4.
    """

    def __init__(
        self,
        denoiser: Preconditioned,
        teacher: Denoiser | None = None,
        times: TimeLaw | None = None,
        *,
        warmup: int = 10_000,
        constant: float = 0.1,
        adaptive: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(denoiser.process, Trigonometric):
            raise ValueError(f"sCM is for Trigonometric processes, got {type(denoiser.process).__name__}.")
        self.denoiser, self.times = denoiser, times or LogNormal(-1.0, 1.4)
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()
        self.warmup, self.constant, self.ramp = warmup, constant, 1.0
        self.uncertainty = Uncertainty() if adaptive else None

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); one time and one x_t drawn for each."""
        process = self.denoiser.process
        assert isinstance(process, Trigonometric)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        eps = noise.normal(x0)
        xt = process.perturb(x0, t, eps)
        with torch.random.fork_rng([x0.device] if x0.is_cuda else []):
            F_fixed, g = self.tangent(xt, t, self._slope(xt, x0, eps, t, cond), cond)
        g = g / (expand(g.flatten(1).norm(dim=1), g) + self.constant)
        angle = (0.5 * math.pi * t).to(x0)
        loss = (self._network(xt, angle, cond) - F_fixed - g).flatten(1).square().mean(1)
        if self.uncertainty is None:
            return loss
        u = self.uncertainty(angle)
        return loss / u.exp() + u

    def tangent(self, xt: Tensor, t: Tensor, slope: Tensor, cond: Any = None) -> tuple[Tensor, Tensor]:
        """(F^-, g before normalisation) where the flow moves x by `slope` for each unit of the angle; no gradients."""
        process = self.denoiser.process
        assert isinstance(process, Trigonometric)
        sd, angle = process.sigma_data, (0.5 * math.pi * t).to(xt)
        # Attention has a forward derivative in its plain form alone.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            pair: tuple[Tensor, Tensor] = torch.func.jvp(  # type: ignore[assignment]
                lambda x, a: self._network(x, a, cond), (xt, angle), (slope, torch.ones_like(angle))
            )
            F_fixed, rate = pair
            cos, sin = expand(angle.cos(), xt), expand(angle.sin(), xt)
            g = -(cos**2) * (sd * F_fixed - slope) - self.ramp * cos * sin * (xt + sd * rate)
        return F_fixed, g

    def advance(self, step: int) -> None:
        """r of this step."""
        self.ramp = min(1.0, step / self.warmup)

    def train(self, mode: bool = True) -> ContinuousConsistency:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def _network(self, xt: Tensor, angle: Tensor, cond: Any) -> Tensor:
        process = self.denoiser.process
        assert isinstance(process, Trigonometric)
        return self.denoiser._run(xt / process.sigma_data, angle, cond)

    def _slope(self, xt: Tensor, x0: Tensor, eps: Tensor, t: Tensor, cond: Any) -> Tensor:
        """dx / d angle of the teacher's flow, or of the straight guess from x_0 and its noise."""
        process = self.denoiser.process
        assert isinstance(process, Trigonometric)
        with torch.no_grad():
            if self.teacher is not None:
                return process.velocity(xt, self.teacher(xt, t, cond).mean, t) * (2.0 / math.pi)
            angle = expand(0.5 * math.pi * t, xt)
            return angle.cos() * process.sigma_data * eps - angle.sin() * x0
