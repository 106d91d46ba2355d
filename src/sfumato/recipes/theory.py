"""Theory: expectation and variance, reparameterisation, KL divergence, ELBO, forward and reverse process, as pages."""

from __future__ import annotations

from dataclasses import dataclass

EXAMPLE = "python gallery/theory/4_bound.py   # and the six others of gallery/theory"


@dataclass(frozen=True)
class Recipe:
    """Seven short pages that derive, compute and draw; every number stands beside its exact value.

    1_expectation            E[D] = E[x_0], Var[x_0] = E Var[x_0 | x_t] + Var[D]; N steps of noise are one
    2_reparameterisation     d/ds E f(mu + s z) = E[f' z], and the score-function estimator with its variance
    3_divergence             KL of normals and of chains, its estimators, de Bruijn's identity
    4_bound                  log p = ELBO + KL; the diffusion bound and what it misses; -log p from denoising errors
    5_forward_and_reverse    the bridge, a chain reversed by Bayes' rule, SDE and ODE; forward.gif, reverse.gif
    6_score                  Tweedie, score matching, Langevin's bias and far modes, Hutchinson's trace
    7_schedules              alpha, sigma and log SNR of each process, the cost of a wrong prior, units

    Each is a script of cells in the repository's gallery/theory; the tests run them and hold every number to its exact
    value within four standard errors. What is derived is for normal noise.
    """

    folder: str = "gallery/theory"  # where the pages are, from the root of the repository
