"""Variational bounds of -log p(x_0), in nats: of a chain of steps, and of continuous time.

    -log p(x_0) <= KL(q(x_1 | x_0) | prior) + L_diffusion - E log p(x_0 | x_end)

Chain:            L = sum over steps t -> s of E KL(q(x_s | x_t, x_0) | p(x_s | x_t))
Continuous time:  L = 0.5 integral E |eps - eps_hat|^2 d lambda,  lambda = log SNR

The second is the SDE bound of ScoreFlow with its offset, and the CT-ELBO of SDEFlow. With their weight g^2,
g^2 dt |score error|^2 = -lambda' dt |eps error|^2; the entropies of x_1 and x_end given x_0 and the divergence of the
drift, which those papers write apart, add up with the first and last term to the three terms above. So the integral
depends on the process through its end points only (VDM). Drawing t with density g^2 / sigma^2, as ScoreFlow does, is
drawing lambda uniformly, whatever the process.

On categories the chain is the same, its KL exact, and continuous time has the KL between the rates of jumps
(`likelihood.discrete`).

Source: Ho et al. 2020 (2006.11239) eq. 5; Song et al. 2021 (2101.09258) theorem 3 and appendix B; Huang et al. 2021
(2106.02808) eq. 13; Kingma et al. 2021 (2107.00630) eq. 11 and 17.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Categorical, Normal
from sfumato.likelihood.decoders import Decoder, density, discretized
from sfumato.likelihood.discrete import chain_term, jump_term
from sfumato.likelihood.divergence import rademacher, with_divergence
from sfumato.noise import Noise
from sfumato.processes import Categories, Coefficient, Gaussian, Jumping, Process, Time, expand
from sfumato.processes.variances import Reverse, small

BELOW_ONE = 1.0 - 1e-12  # where the rates of jumps are finite
LOW, HIGH = -20.0, 40.0  # log SNR beyond which an integral over it is cut: less than 1e-9 E |x_0|^2 is lost below


class Bound(NamedTuple):
    """The terms of a bound on -log p(x_0), in nats.

    Attributes:
        prior: KL(q(x_1 | x_0) | prior), (B,).
        steps: the terms whose sum is the diffusion loss, (B, n), from noise to data.
        decoder: -log p(x_0 | x_end), (B,).
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """The bound, (B,)."""
        return self.prior + self.steps.sum(1) + self.decoder

    def bits(self, dims: int) -> Tensor:
        """The bound in bits per dimension, (B,); nothing is added, so the decoder must be that of the levels."""
        return self.total / (dims * math.log(2))


def elbo(
    denoiser: Denoiser,
    x0: Tensor,
    times: Sequence[float],
    noise: Noise,
    *,
    reverse: Reverse = small,
    decoder: Decoder = discretized,
) -> Bound:
    """The bound of the chain that samples over `times`, with one draw of x_t for each term.

    Args:
        x0: (B, *event), model space; in [-1, 1] for the default decoder. Categories: int64, and the law of x_0 itself
            is the decoder; `reverse` and `decoder` are not used.
        times: falling from 1, as samplers take them. If the last has noise, x_0 is decoded from x there by `denoised`.
        reverse: the chain's variance: `small`, `large`, `learned` or `known` of `sfumato.processes.variances`. In a
            step to x_0, where btilde = 0, the btilde of the step before stands for it, as in the papers' code.
        decoder: log p(x_0 | law): `discretized` or `density`.

    Source: Ho et al. 2020 (2006.11239) eq. 5 and 13; Austin et al. 2021 (2107.03006) eq. 1.
    """
    process = denoiser.process
    prior = process.marginal(x0, times[0]).kl(process.prior(x0))
    floor, end = 0.0, times[-1]
    if isinstance(process, Gaussian):
        floor = process.weights(times[-3], times[-2])[2] ** 2 if len(times) > 2 else 0.0
        end = process.sigma(end)
    terms = []
    for t, s in pairwise(times):
        xt = process.marginal(x0, t).sample(noise)
        terms.append(step_term(process, denoiser(xt, t), x0, xt, t, s, floor, reverse, decoder))
    if end > 0.0:
        terms.append(_decoded(denoiser, x0, times[-1], noise, denoised, decoder))
    steps = torch.stack(terms[:-1], 1) if terms[:-1] else x0.new_zeros(x0.shape[0], 0)
    return Bound(prior, steps, terms[-1])


def step_term(
    process: Process,
    estimate: Estimate,
    x0: Tensor,
    xt: Tensor,
    t: Time,
    s: Time,
    floor: Coefficient,
    reverse: Reverse,
    decoder: Decoder,
) -> Tensor:
    """One term of the chain, (B,) in nats: KL(q(x_s | x_t, x_0) | p(x_s | x_t)), and -log p(x_0 | x_t) where s = 0.

    Times are floats, or one for each row. `floor` stands for btilde where s has no noise.
    """
    if isinstance(process, Categories):
        return chain_term(process, estimate, x0, xt, t, s)
    assert isinstance(process, Gaussian)
    law = reverse(process, estimate, xt, t, s, floor)
    assert isinstance(law, Normal)
    if isinstance(s, float):
        if process.sigma(s) == 0.0:
            return -decoder(law, x0)
        return process.reverse(Estimate(x0), xt, t, s).kl(law)
    true = small(process, Estimate(x0), xt, t, s, floor)
    return torch.where(torch.as_tensor(process.sigma(s) == 0.0), -decoder(law, x0), true.kl(law))


Readout = Callable[[Denoiser, Tensor, Time], Normal]
Integrand = Callable[[Denoiser, Tensor, Tensor, Tensor, Noise], Tensor]


def denoised(denoiser: Denoiser, xt: Tensor, t: Time) -> Normal:
    """N(D(x_t), sigma^2 / alpha^2): ScoreFlow's p(x_0 | x_t). Source: Song et al. 2021 (2101.09258) appendix B."""
    process = denoiser.process
    assert isinstance(process, Gaussian)
    return Normal(denoiser(xt, t).mean, expand(process.sigma(t), xt) / expand(process.alpha(t), xt))


def rescaled(denoiser: Denoiser, xt: Tensor, t: Time) -> Normal:
    """N((x_t - shift) / alpha, sigma^2 / alpha^2): VDM's p(x_0 | z_0). Source: Kingma et al. 2021 section 3.3."""
    process = denoiser.process
    assert isinstance(process, Gaussian)
    alpha = expand(process.alpha(t), xt)
    return Normal((xt - process.shift(t, xt)) / alpha, expand(process.sigma(t), xt) / alpha)


def explicit(denoiser: Denoiser, x0: Tensor, xt: Tensor, t: Tensor, noise: Noise) -> Tensor:
    """0.5 |eps - eps_hat|^2 = 0.5 SNR |x_0 - D|^2, (B,): denoising score matching. Its mean is that of `implicit`."""
    process = denoiser.process
    assert isinstance(process, Gaussian)
    return 0.5 * eps_error(process, x0, denoiser(xt, t).mean, t)


def implicit(denoiser: Denoiser, x0: Tensor, xt: Tensor, t: Tensor, noise: Noise) -> Tensor:
    """0.5 |eps_hat|^2 + alpha div D - d / 2, (B,), the divergence with one Rademacher vector: implicit score matching.

    Source: Huang et al. 2021 (2106.02808) eq. 17; Song et al. 2021 (2101.09258) eq. 10.
    """
    process = denoiser.process
    assert isinstance(process, Gaussian)
    D, div = with_divergence(lambda x: denoiser(x, t).mean, xt, rademacher(xt, noise))
    square = process.eps(xt, D, t).flatten(1).square().sum(1)
    return 0.5 * square + process.alpha(t).to(div) * div - 0.5 * D[0].numel()


def continuous_elbo(
    denoiser: Denoiser,
    x0: Tensor,
    noise: Noise,
    *,
    end: float = 1e-5,
    points: int = 100,
    integrand: Integrand = explicit,
    readout: Readout = denoised,
    decoder: Decoder = density,
) -> Bound:
    """The bound of continuous time, by `points` stratified draws of log SNR for each row, one x_t for each.

    Unbiased but for what lies below a log SNR of -20. On categories t itself is drawn, the terms are `jump_term`, and
    `integrand`, `readout` and `decoder` are not used.

    Args:
        x0: (B, *event), model space.
        end: the time at which x_0 is decoded.
        integrand: `explicit` or `implicit`.
        readout: law of x_0 given x_end: `denoised` (ScoreFlow) or `rescaled` (VDM).
        decoder: log p(x_0 | law): `density`, `discretized` or `categorical`.

    Source: the head of this file.
    """
    process = denoiser.process
    prior = process.marginal(x0, 1.0).kl(process.prior(x0))
    offset = noise.uniform(torch.empty(x0.shape[0], dtype=torch.float64, device=x0.device))
    places = [(i + offset) / points for i in range(points)]
    terms = []
    if isinstance(process, Gaussian):
        low, high = (min(max(process.log_snr(t), LOW), HIGH) for t in (1.0, end))
        for place in places:
            t = process.time_of(low + place * (high - low))
            xt = process.marginal(x0, t).sample(noise)
            terms.append(integrand(denoiser, x0, xt, t, noise) * ((high - low) / points))
    else:
        assert isinstance(process, Jumping)
        for place in places:
            t = (1.0 - place * (1.0 - end)).clamp(max=BELOW_ONE)
            xt = process.marginal(x0, t).sample(noise)
            terms.append(jump_term(process, denoiser(xt, t), x0, xt, t) * ((1.0 - end) / points))
    return Bound(prior, torch.stack(terms, 1), _decoded(denoiser, x0, end, noise, readout, decoder))


def _decoded(denoiser: Denoiser, x0: Tensor, t: float, noise: Noise, readout: Readout, decoder: Decoder) -> Tensor:
    """-log p(x_0 | x_t) for one x_t drawn, (B,)."""
    xt = denoiser.process.marginal(x0, t).sample(noise)
    if isinstance(denoiser.process, Categories):
        return -Categorical(denoiser(xt, t).mean).log_prob(x0)
    return -decoder(readout(denoiser, xt, t), x0)


def eps_error(process: Gaussian, x0: Tensor, D: Tensor, t: Time) -> Tensor:
    """|eps - eps_hat|^2 = |alpha (x_0 - D) / sigma|^2, summed over the event, (B,)."""
    ratio = expand(process.alpha(t), x0) / expand(process.sigma(t), x0)
    return (ratio * (x0 - D)).flatten(1).square().sum(1)


def log_snr_rate(process: Gaussian, t: Time) -> Coefficient:
    """-d lambda / dt = 2 (sigma' / sigma - alpha' / alpha) = g^2 / sigma^2, above 0."""
    d_alpha, d_level = process.rates(t)
    return 2.0 * (d_level / process._level(t) - d_alpha / process.alpha(t))
