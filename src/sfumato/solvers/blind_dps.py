"""BlindDPS: parallel diffusion models of operator and image (Chung et al. 2023, 2211.10656)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Examples
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Measurement, Operator, kernels
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed
from sfumato.solvers.blind import rows, unit_sum

EXAMPLE = "sfumato restore picture.png --operator blind-deblur --width 15 --solver blind-dps --steps 200 -o out"


class Pair(NamedTuple):
    """What is known of the kernel.

    Attributes:
        state: k_t, (B, 1, *taps), in [-1, 1] where clean; None before the first step.
        kernel: its estimate, sum 1, (B, 1, *taps).
        prior: the denoiser of kernels.
    """

    state: Tensor | None
    kernel: Tensor
    prior: Denoiser


@dataclass(frozen=True)
class BlindDPS(Solver):
    """Two chains, of the picture and of the kernel, each with its own denoiser, both ancestral, both then pulled:

    L = |y - k_hat * D_x(x_t)| + sparsity |k_hat|_1,   k_hat = (D_k(k_t) + 1) / 2 over its sum,
    x_s = ancestral(x_t) - zeta grad_{x_t} L,          k_s = ancestral(k_t) - zeta grad_{k_t} L.

    Norms and sums are per sample: the public code takes them over the whole batch, so serves a batch of one. With a
    prior that knows the kernel it is DPS. The operator says how wide the kernel is and how its borders behave, through
    `at(kernel)`; its own kernel is not used. Of a kernel of sum 1 without negative taps |k|_1 is 1: the term pulls
    negative taps to 0 and no more. (The public default, 0.1 of the count of taps, has no gradient at all; the public
    script for deblurring takes |k_hat|_1 whole.) Picture and kernel may shift against each other: align before scoring.

    The two chains share their times, and a kernel of a few taps is decided where the picture is still smooth: with a
    set of `examples` for a prior the kernel's chain soon settles on one of them, whatever y says later. With 80 steps
    on a photograph it was a wrong one. The public code also clamps both estimates to [-1, 1]: `Clipped` does.

    The kernel found is in the last `step.memory.kernel`.

    Args:
        steps: network evaluations of each prior; the table's own steps, or uniform in t.
        zeta: scale of the gradient of the norm.
        ramp: multiply zeta by alpha(t), as the public code does in place of the paper's constant, with zeta = 1.
        sparsity: weight of |k_hat|_1 in the norm.
        prior: of kernels (B, 1, *taps) scaled to [-1, 1] by 2 k / max(k) - 1, on the same clock. Unless given, one of
            the `examples` (ours: the paper trains a network on 60 000 of them).
        examples: how many Gaussian and motion kernels make up that prior, half of each.

    Source: Chung et al. 2023 (2211.10656) algorithm 1; zeta of the paper, sparsity of the public code.
    """

    steps: int = 1000
    zeta: float = 0.3
    ramp: bool = False
    sparsity: float = 0.1
    prior: Denoiser | None = field(default=None, compare=False)
    examples: int = 200
    climbs = True
    differentiates = True

    @classmethod
    def public(cls) -> BlindDPS:
        """The gradually rising scale of the public code."""
        return cls(zeta=1.0, ramp=True)

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "linspace")

    def check(self, operator: Operator) -> None:
        super().check(operator)
        if not isinstance(operator.parameters, Tensor):
            raise TypeError(f"BlindDPS looks for a kernel, {type(operator).__name__} has other parameters: take GDP.")

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Pair:
        kernel = rows(m.operator.parameters, xt)
        return Pair(None, kernel, self.prior or self._usual(kernel, denoiser.process))  # type: ignore[arg-type]

    def found(self, memory: Any) -> Tensor:
        kernel: Tensor = memory.kernel
        return kernel

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Pair]:
        prior, kt = memory.prior, memory.state
        if kt is None:
            kt = prior.process.marginal(torch.zeros_like(memory.kernel), t).sample(noise)
        with torch.enable_grad():
            xt, kt = (v.detach().requires_grad_() for v in (xt, kt))
            D, E = denoiser(xt, t).mean, prior(kt, t).mean
            kernel = unit_sum((E + 1) / 2)
            gap = replace(m, operator=m.operator.at(kernel)).residual(D)
            norm = gap.flatten(1).norm(dim=1) + self.sparsity * kernel.abs().flatten(1).sum(1)
            pulls = torch.autograd.grad(norm.sum(), (xt, kt))
        alpha: Any = denoiser.process.alpha(t)  # type: ignore[attr-defined]
        zeta = self.zeta * alpha if self.ramp else self.zeta
        xs, ks = (
            part.process.reverse(Estimate(mean.detach()), state.detach(), t, s).sample(noise) - zeta * pull
            for part, mean, state, pull in zip((denoiser, prior), (D, E), (xt, kt), pulls, strict=True)
        )
        return xs, Pair(ks, kernel.detach(), prior)

    def _usual(self, like: Tensor, process: Gaussian) -> Examples:
        """Gaussian kernels of widths from half a tap to a quarter of the width, and camera shakes."""
        taps, noise = like.shape[2:], Noise(0)
        if len(taps) != 2 or taps[0] != taps[1]:
            raise ValueError(f"BlindDPS: the usual kernels are square, got {tuple(taps)}: give a `prior` of your own.")
        width, half = taps[0], self.examples // 2
        stds = 0.5 + (width / 4 - 0.5) * noise.uniform(torch.empty(self.examples - half))
        lines = [kernels.normal(width, float(std)) for std in stds]
        known = [line[:, None] * line for line in lines] + [kernels.motion(noise, width) for _ in range(half)]
        scaled = torch.stack([2 * k / k.max() - 1 for k in known])
        return Examples(scaled[:, None].to(like), process)


Recipe = BlindDPS
