"""Objectives of likelihood: the integral of continuous time with its time law, and the hybrid of a chain."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.likelihood import categorical, discretized, eps_error, log_snr_rate, rescaled, step_term
from sfumato.likelihood.decoders import Decoder
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Process, Table
from sfumato.processes.learned import LearnedEnds
from sfumato.processes.variances import learned
from sfumato.training.times import LossAware, LowDiscrepancy, Steps, UniformLogSNR


class DenseTimes(Protocol):
    """A law of times whose density is known."""

    def __call__(self, process: Process, batch: int, noise: Noise) -> Tensor: ...

    def density(self, process: Process, t: Tensor) -> Tensor: ...


class Likelihood(nn.Module):
    """0.5 (-lambda'(t)) / p(t) |eps - eps_hat|^2, t ~ p: its mean is the diffusion term of the bound, in nats.

    It is the likelihood weighting g^2 of the score: g^2 |score error|^2 = -lambda' |eps error|^2. With `UniformLogSNR`
    the factor is the constant Z / 2. Where log SNR is learned, gradients reach its ends through -lambda' and x_t.

    Args:
        times: a law with a density: `UniformLogSNR`, `Uniform` or `LowDiscrepancy`.

    Source: Song et al. 2021 (2101.09258) eq. 7 and section 3.3; Kingma et al. 2021 (2107.00630) eq. 17.
    """

    def __init__(self, denoiser: Denoiser, times: DenseTimes | None = None) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, times or UniformLogSNR()

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), summed over the event."""
        process = self.denoiser.process.bind(cond)
        assert isinstance(process, Gaussian)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        error = eps_error(process, x0, self.denoiser(xt, t, cond).mean, t)
        return 0.5 * error * (log_snr_rate(process, t) / self.times.density(process, t)).to(error)


class Variational(nn.Module):
    """The whole bound of a model with a learned schedule, in nats: prior + reconstruction + diffusion, one t a sample.

    0.5 gamma'(t) |eps - eps_hat|^2 trains the network and the two ends of the schedule. The shape h between them cannot
    change its mean: it is trained on the mean of the square instead, 2 L dL/dh, in the same backward pass.

    Args:
        denoiser: on a `LearnedEnds` or `LearnedSchedule`, its network told the level by alpha and sigma, not by t.
        decoder: log p(x_0 | z_0): `categorical`.

    Source: Kingma et al. 2021 (2107.00630) eq. 11 and 17, section 5.1 and appendix I.
    """

    def __init__(self, denoiser: Denoiser, times: DenseTimes | None = None, decoder: Decoder = categorical) -> None:
        super().__init__()
        if not isinstance(denoiser.process, LearnedEnds):
            raise ValueError(f"this loss learns its schedule: give LearnedEnds, got {type(denoiser.process).__name__}.")
        self.denoiser, self.times, self.decoder = denoiser, times or LowDiscrepancy(), decoder

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), summed over the event."""
        shaped = self.denoiser.process
        assert isinstance(shaped, LearnedEnds)
        process = shaped.ends()
        t = self.times(shaped, x0.shape[0], noise).to(x0.device)
        h, rate = shaped.warp(t.to(shaped.gamma_0)), shaped.warp_rate(t.to(shaped.gamma_0))
        xt = process.marginal(x0, h).sample(noise)
        error = eps_error(process, x0, self.denoiser.with_process(process)(xt, h, cond).mean, h)
        weight = log_snr_rate(process, h) * rate / self.times.density(shaped, t)
        diffusion = 0.5 * weight.to(error) * error
        for shape in (h, rate):
            if shape.requires_grad:
                shape.register_hook(lambda g: g * 2.0 * diffusion.detach().to(g))
        # Ends as tensors, so that gradients reach them.
        zero, one = t.new_zeros(len(t)), t.new_ones(len(t))
        prior = process.marginal(x0, one).kl(process.prior(x0))
        z0 = process.marginal(x0, zero).sample(noise)
        return prior + diffusion - self.decoder(rescaled(self.denoiser.with_process(process), z0, zero), x0)


class Hybrid(nn.Module):
    """mean |eps - eps_hat|^2 + scale N L_n, L_n one term of the chain in bits per dimension, n uniform on 1 .. N.

    The mean of x_0 is detached in L_n, which trains the variance alone.

    Args:
        denoiser: on a `Table`, with v in `aux`: `LearnedVariance`.
        scale: 0.001.

    Source: Nichol & Dhariwal 2021 (2102.09672) eq. 16 and public code (bits, and N / 1000).
    """

    def __init__(self, denoiser: Denoiser, scale: float = 0.001) -> None:
        super().__init__()
        self.denoiser, self.scale, self.times = denoiser, scale, Steps(_table(denoiser).steps)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,), a mean over the event."""
        process = _table(self.denoiser)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        estimate = self.denoiser(xt, t, cond)
        frozen = Estimate(estimate.mean.detach(), aux=estimate.aux)
        simple = eps_error(process, x0, estimate.mean, t) / x0[0].numel()
        return simple + self.scale * process.steps * _bits(process, frozen, x0, xt, t)


class Chain(nn.Module):
    """N L_n / (N p_n), L_n one term of the chain in bits per dimension: its mean is the bound without the prior.

    Args:
        denoiser: on a `Table`, with v in `aux`: `LearnedVariance`.

    Source: Nichol & Dhariwal 2021 (2102.09672) section 3.3: L_vlb with loss-aware times.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.times = denoiser, LossAware(_table(denoiser).steps)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); in training the history of losses moves on."""
        process = _table(self.denoiser)
        t = self.times(process, x0.shape[0], noise).to(x0.device)
        xt = process.marginal(x0, t).sample(noise)
        terms = _bits(process, self.denoiser(xt, t, cond), x0, xt, t)
        share = self.times.density(process, t).to(terms)
        if self.training:
            self.times.update(t, terms)
        return process.steps * terms / share


def _table(denoiser: Denoiser) -> Table:
    process = denoiser.process
    if not isinstance(process, Table):
        raise ValueError(f"a loss on the steps of a chain needs a Table process, got {type(process).__name__}.")
    return process


def _bits(process: Table, estimate: Estimate, x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """L_n in bits per dimension, (B,), with the learned variance and the discretised decoder."""
    N = process.steps
    s = (torch.round(t * N) - 1.0) / N
    floor = process.weights(2 / N, 1 / N)[2] ** 2
    nats = step_term(process, estimate, x0, xt, t, s, floor, learned, discretized)
    return nats / (x0[0].numel() * math.log(2))
