"""DPM: deep unsupervised learning using nonequilibrium thermodynamics (Sohl-Dickstein et al. 2015, 1503.03585)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Law, Normal
from sfumato.likelihood import Bound, Trajectory, bits_elbo, entropy, kl_term, trajectory_bound
from sfumato.noise import Noise
from sfumato.processes import Bernoulli, Binomial, Coefficient, Gaussian, Process, Time, expand
from sfumato.processes.multiplied import multiplied
from sfumato.processes.schedules import VariancePreserving
from sfumato.processes.table import interpolated
from sfumato.processes.variances import Reverse, known
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral
from sfumato.training import Steps


@dataclass(frozen=True)
class Recipe(Pictures):
    """The first diffusion model: a chain of N steps, its reverse kernels trained on the exact bound K.

    K = - sum_{n=2}^N E KL(q(x_{n-1} | x_n, x_0) | p(x_{n-1} | x_n)) + H_q(X_N | X_0) - H_q(X_1 | X_0) - H_p(X_N).

    Normal kernels: x_n = sqrt(1 - beta_n) x_{n-1} + sqrt(beta_n) z; the reverse mean and variance are learned,
    sqrt(1 - beta_n) x_n + sqrt(beta_n) f and sigmoid(logit beta_n + g / sqrt(N)), and so are the betas, by gradient
    ascent on K with the noise held. They begin at 1 / (N - n + 1), no smaller than `first` at n = 1. Sampling stops at
    x_1, as in the public code: the first step is absorbed, so that no decoder is needed and -K is about one step above
    the data. `Recipe.binomial()`: bits -1 and 1, beta_n = 1 / (N - n + 1), so that keep = 1 - n / N; grey levels are
    means of bits, drawn anew in each step of training. The network says E[x_0 | x_n], from which the reverse kernel
    follows, and the step to x_0 is trained too (ours), so that `bound` is a likelihood of bits.

    Time enters through `bumps` basis functions of n that weigh as many outputs of a network that is not told n; with 0
    the network has a clock instead (ours). The network is the library's U-Net (ours).

    `sampler(r)` multiplies each reverse step by a second distribution, normalised: `known(mask, y)` inpaints.

    Args:
        steps: N; 1000 for images, 2000 for the heartbeat bits, 40 for the swiss roll.
        kernel: "normal" or "binomial".
        first: the least beta_1.
        bumps: basis functions of n.

    Source: Sohl-Dickstein et al. 2015 (1503.03585) eq. 1 to 14, section 2.5, appendices B to D; public code.
    """

    steps: int = 1000
    kernel: str = "normal"
    first: float = 0.001
    bumps: int = 10

    def __post_init__(self) -> None:
        if self.kernel not in ("normal", "binomial") or self.steps < 2:
            raise ValueError(
                f"kernel is 'normal' or 'binomial' and steps at least 2, got {self.kernel!r}, {self.steps}."
            )

    @classmethod
    def binomial(cls, **fields: Any) -> Recipe:
        """The chain of bits."""
        return replace(cls(**fields), kernel="binomial")

    def process(self) -> Binomial | LearnedBetas:
        """The chain; with normal kernels a module, whose betas are learned."""
        return Binomial() if self.kernel == "binomial" else LearnedBetas(self.steps, self.first, max(self.bumps, 2))

    def net(self) -> nn.Module:
        """The U-Net, behind the bumps: one output for each channel of bits, two for each of normals."""
        heads = 1 if self.kernel == "binomial" else 2
        return (
            Bumped(self.unet(leaving=heads * self.bumps), self.bumps, self.steps)
            if self.bumps
            else self.unet(leaving=heads)
        )

    def model(self) -> Denoiser:
        """The untrained denoiser; with normal kernels its parameters are those of the betas too."""
        process, N = self.process(), self.steps
        return Bits(self.net(), N) if isinstance(process, Binomial) else Perturbed(self.net(), process)

    def objective(self, denoiser: Denoiser) -> Absorbed:
        """-K in bits per dimension."""
        return Absorbed(denoiser, self.steps)

    def reverse(self) -> Reverse:
        """The law of a step of the chain."""
        return known if self.kernel == "binomial" else perturbed

    def sampler(self, r: Law | None = None) -> Ancestral:
        """Ancestral sampling over `times()`; times r at every step if given."""
        return Ancestral(self.reverse() if r is None else multiplied(self.reverse(), r))

    def times(self) -> tuple[float, ...]:
        """All levels down to x_1; of bits, to x_0."""
        return tuple(n / self.steps for n in range(self.steps, -1 if self.kernel == "binomial" else 0, -1))

    def known(self, mask: Tensor, y: Tensor) -> Law:
        """The r that is a point at y where mask is 1, and flat elsewhere."""
        if self.kernel == "binomial":
            return Bernoulli(mask * y)
        return Normal(y, torch.where(mask > 0, 0.0, math.inf).to(y))

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise) -> Bound | Trajectory:
        """Of bits the bound on -log P(x_0); of normals K: N calls of the denoiser."""
        if self.kernel == "binomial":
            return bits_elbo(denoiser, x0, self.times(), noise)
        return trajectory_bound(denoiser, x0, self.times(), noise, reverse=perturbed)


class LearnedBetas(VariancePreserving, nn.Module):
    """A table of N levels whose betas are learned: sigmoid(logit b_n + sum_j c_j g_j(n)), squeezed above a least value.

    b_n = 1 / linspace(N, 2, N), which erases a like share of the signal's variance in each step and leaves 1 / N at the
    end; c, the only parameters, begin at 0. The least value is 1e-6, and `first` more at n = 1.

    Source: Sohl-Dickstein et al. 2015 (1503.03585) appendix B.1; public code, which holds c at 0.
    """

    basis: Tensor
    least: Tensor

    def __init__(self, steps: int = 1000, first: float = 0.001, bumps: int = 10) -> None:
        super().__init__()
        self.steps = steps
        self.raw = nn.Parameter(torch.zeros(bumps, dtype=torch.float64))
        n = torch.arange(1, steps + 1, dtype=torch.float64)
        self.register_buffer("basis", bumps_of(n / steps, steps, bumps), persistent=False)
        least = torch.full((steps,), 1e-6, dtype=torch.float64)
        least[0] += first
        self.register_buffer("least", least, persistent=False)

    def betas(self) -> Tensor:
        """beta_1 .. beta_N, (N,)."""
        base = 1.0 / torch.linspace(self.steps, 2.0, self.steps, dtype=torch.float64, device=self.raw.device)
        return self.least + torch.sigmoid(torch.logit(base) + self.basis @ self.raw) * (1.0 - self.least - 1e-5)

    def log_snr(self, t: Time) -> Coefficient:
        if isinstance(t, Tensor):
            log_bar = torch.log1p(-self.betas()).cumsum(0)
            return interpolated(log_bar - torch.log(-torch.expm1(log_bar)), t.to(self.raw.device))
        if t <= 0.0:
            return math.inf
        with torch.no_grad():
            return float(self.log_snr(torch.tensor(t, dtype=torch.float64)))

    def alpha(self, t: Time) -> Coefficient:
        return self._root(self.log_snr(t), t)

    def sigma(self, t: Time) -> Coefficient:
        return self._root(-self.log_snr(t), t)

    def _root(self, value: Coefficient, t: Time) -> Coefficient:
        root = torch.sigmoid(torch.as_tensor(value, dtype=torch.float64)).sqrt()
        return root if isinstance(t, Tensor) else float(root)


class Perturbed(Denoiser):
    """Two outputs f and g of a network as the reverse kernel of the step to n - 1, in `aux`, and D by its mean.

    mean = sqrt(1 - beta_n) x_n + sqrt(beta_n) f, variance = sigmoid(logit beta_n + g / sqrt(N)); D is what the bridge
    with the same mean is given, so that other samplers run on the model too. Source: public code, get_mu_sigma.
    """

    def __init__(self, net: nn.Module, process: LearnedBetas) -> None:
        super().__init__()
        self.net, self.process = net, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process
        assert isinstance(process, LearnedBetas)
        drift, spread = self.net(xt, _clock(t, xt), cond).chunk(2, 1)
        s = (t - 1.0 / process.steps).clamp(min=0.0) if isinstance(t, Tensor) else max(t - 1.0 / process.steps, 0.0)
        mean, beta = _kernel(process, xt, drift, t, s)
        k_x, k_D, _, _ = process.weights(t, s)
        D = (mean - expand(k_x, xt) * xt) / expand(k_D, xt)
        odds = torch.logit(torch.as_tensor(beta, dtype=xt.dtype)) + spread / math.sqrt(process.steps)
        return Estimate(D, aux={"drift": drift, "var": torch.sigmoid(odds)})


def perturbed(process: Process, estimate: Estimate, xt: Tensor, t: Time, s: Time, floor: Coefficient = 0.0) -> Normal:
    """The learned kernel of one step of the chain, from `Perturbed`'s aux.

    Raises:
        ValueError: for an estimate without it.
    """
    if estimate.aux is None or "drift" not in estimate.aux:
        raise ValueError('a learned kernel needs Estimate.aux["drift"], got none: use the denoiser of this recipe.')
    assert isinstance(process, Gaussian)
    mean, _ = _kernel(process, xt, estimate.aux["drift"], t, s)
    return Normal(mean, estimate.aux["var"].sqrt())


def _kernel(process: Gaussian, xt: Tensor, drift: Tensor, t: Time, s: Time) -> tuple[Tensor, Coefficient]:
    """(sqrt(1 - beta) x_t + sqrt(beta) f, beta) of the step t -> s, beta = 1 - (alpha_t / alpha_s)^2."""
    kept = (process.alpha(t) / process.alpha(s)) ** 2
    keep, beta = expand(kept, xt), expand(1.0 - kept, xt)
    return xt * keep**0.5 + drift * beta**0.5, beta


class Bits(Denoiser):
    """E[x_0 | x_t] = tanh(logit / 2) of bits -1 and 1, a millionth short of certain; the logit is the network's."""

    def __init__(self, net: nn.Module, steps: int) -> None:
        super().__init__()
        self.net, self.steps, self.process = net, steps, Binomial()

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return Estimate((1.0 - 1e-6) * torch.tanh(0.5 * self.net(xt, _clock(t, xt), cond)))


class Bumped(nn.Module):
    """sum_j g_j(t) Z_j(u): outputs of a network that is not told the time, weighed by bumps of it.

    Source: Sohl-Dickstein et al. 2015 (1503.03585) appendix D.2.2; public code.
    """

    def __init__(self, inner: nn.Module, bumps: int, steps: int) -> None:
        super().__init__()
        self.inner, self.bumps, self.steps = inner, bumps, steps

    def forward(self, u: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        outputs = self.inner(u, torch.zeros_like(t), cond)
        outputs = outputs.reshape(len(u), self.bumps, -1, *u.shape[2:])
        weight = bumps_of(t.double() / 1000.0, self.steps, self.bumps).to(u)
        return torch.einsum("bj,bj...->b...", weight, outputs)


def bumps_of(t: Tensor, steps: int, count: int) -> Tensor:
    """g_j(t) ~ exp(-(x - c_j)^2 / (2 w^2)), made to sum to one: (..., count) of times (...,).

    x = 2 (n - 1) / (N - 1) - 1 for t = n / N; centres c_j are spread evenly over [-1, 1], w is half their distance.
    """
    x = 2.0 * (t * steps - 1.0) / (steps - 1.0) - 1.0
    centres = torch.linspace(-1.0, 1.0, count, dtype=t.dtype, device=t.device)
    width = 0.5 * float(centres[1] - centres[0])
    return torch.softmax(-((x.unsqueeze(-1) - centres) ** 2) / (2.0 * width**2), -1)


class Absorbed(nn.Module):
    """-K in bits per dimension, one step n for each sample, weighed by their number; x_0 of bits drawn from its means.

    Of bits the step n = 1 is among them and the constants cancel: the loss is the bound on -log P(x_0).
    """

    def __init__(self, denoiser: Denoiser, steps: int) -> None:
        super().__init__()
        self.denoiser, self.steps = denoiser, steps

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,)."""
        process, N = self.denoiser.process, self.steps
        denoiser = self.denoiser if cond is None else self.denoiser.given(cond)
        scale = 1.0 / (x0[0].numel() * math.log(2))
        if isinstance(process, Binomial):
            t = Steps(N)(process, len(x0), noise).to(x0.device)
            x0 = process.marginal(x0, 0.0).sample(noise)
            return scale * N * kl_term(denoiser, x0, t, (t - 1.0 / N).clamp(min=0.0), noise)
        t = (torch.floor(Steps(N - 1)(process, len(x0), noise) * (N - 1) + 0.5) + 1.0).to(x0.device) / N
        steps = (N - 1) * kl_term(denoiser, x0, t, t - 1.0 / N, noise, perturbed)
        first, last = (entropy(process.marginal(x0, torch.full_like(t, n / N))) for n in (1, N))
        return scale * (steps - last + first + entropy(process.prior(x0)))


def _clock(t: Time, like: Tensor) -> Tensor:
    """1000 t for each row: what the network is told."""
    return (1000.0 * torch.as_tensor(t, dtype=torch.float64, device=like.device)).to(like.dtype).expand(len(like))
