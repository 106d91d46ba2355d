"""Likelihood, three different numbers: the flow's own, the bound of a chain, the bound of continuous time."""

from sfumato.likelihood.decoders import bits_per_dim, categorical, density, dequantize, discretized
from sfumato.likelihood.dequantization import Dequantizer
from sfumato.likelihood.discrete import chain_term, jump_term, known_after, order_losses, unknown_loss
from sfumato.likelihood.divergence import rademacher, with_divergence
from sfumato.likelihood.elbo import (
    Bound,
    continuous_elbo,
    denoised,
    elbo,
    eps_error,
    explicit,
    implicit,
    log_snr_rate,
    rescaled,
    step_term,
)
from sfumato.likelihood.flow import Density, log_prob, log_prob_adaptive
from sfumato.likelihood.trajectory import Trajectory, bits_elbo, entropy, entropy_bounds, kl_term, trajectory_bound

__all__ = [
    "Bound",
    "Density",
    "Dequantizer",
    "Trajectory",
    "bits_elbo",
    "bits_per_dim",
    "categorical",
    "chain_term",
    "continuous_elbo",
    "denoised",
    "density",
    "dequantize",
    "discretized",
    "elbo",
    "entropy",
    "entropy_bounds",
    "eps_error",
    "explicit",
    "implicit",
    "jump_term",
    "kl_term",
    "known_after",
    "log_prob",
    "log_prob_adaptive",
    "log_snr_rate",
    "order_losses",
    "rademacher",
    "rescaled",
    "step_term",
    "trajectory_bound",
    "unknown_loss",
    "with_divergence",
]
