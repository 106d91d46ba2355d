"""Noise that is not white and Gaussian: photon counts and speckle. Their likelihoods have gradients, no closed forms.

A solver that climbs log p(y | A x_0) takes them in place of |y - A x_0|^2 / (2 sigma^2); the others, whose algebra is
that of Gaussian noise, refuse them. Below a small floor of the mean, where a logarithm would end, minus the log
likelihood goes on as its tangent, so that a state outside the range of the data is led back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.noise import Noise


class Likelihood(ABC):
    """p(y | c), number by number, of measurements with the mean c = A x_0."""

    @abstractmethod
    def simulate(self, clean: Tensor, noise: Noise) -> Tensor:
        """A draw of y."""

    @abstractmethod
    def energy(self, y: Tensor, clean: Tensor) -> Tensor:
        """-log p(y | c) of each number, in nats."""

    @abstractmethod
    def variance(self, clean: Tensor) -> Tensor:
        """Var[y | c], at least that of the floor."""


@dataclass(frozen=True)
class Poisson(Likelihood):
    """y = N / peak, N ~ Poisson(peak c): light counted in photons, c >= 0; c = 1 gives `peak` of them on average.

    Var[y | c] = c / peak;  -log p(y | c) = peak c - N log(peak c) + log N!, the mass of N.

    Args:
        peak: photons of a mean of 1.
        floor: of peak c, in photons (ours).

    Source: the Poisson noise of DPS (2209.14687) section 3.3.
    """

    peak: float
    floor: float = 0.1

    def __post_init__(self) -> None:
        if not (self.peak > 0.0 and self.floor > 0.0):
            raise ValueError(f"Poisson: peak and floor are above 0, got {self.peak} and {self.floor}.")

    def simulate(self, clean: Tensor, noise: Noise) -> Tensor:
        _nonnegative(clean)
        return noise.poisson(self.peak * clean) / self.peak

    def energy(self, y: Tensor, clean: Tensor) -> Tensor:
        N, rate = self.peak * y, self.peak * clean
        held = rate.clamp(min=self.floor).detach()
        log = torch.where(rate > self.floor, rate.clamp(min=self.floor).log(), held.log() + (rate - held) / held)
        return rate - N * log + torch.lgamma(N + 1.0)

    def variance(self, clean: Tensor) -> Tensor:
        return clean.clamp(min=self.floor / self.peak) / self.peak


@dataclass(frozen=True)
class Speckle(Likelihood):
    """y = c g, g ~ Gamma(looks, rate looks) of mean 1: the intensity of radar and ultrasound pictures, c > 0.

    Var[y | c] = c^2 / looks;  -log p(y | c) = looks (log c + y / c) - (looks - 1) log y - looks log looks +
    log Gamma(looks).

    Args:
        looks: of which y is the mean; 1 is fully developed speckle.
        floor: of c, in its unit (ours).
    """

    looks: float = 1.0
    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.looks > 0.0 and self.floor > 0.0):
            raise ValueError(f"Speckle: looks and floor are above 0, got {self.looks} and {self.floor}.")

    def simulate(self, clean: Tensor, noise: Noise) -> Tensor:
        _nonnegative(clean)
        return clean * noise.gamma(torch.full_like(clean, self.looks)) / self.looks

    def energy(self, y: Tensor, clean: Tensor) -> Tensor:
        L, c = self.looks, clean.clamp(min=self.floor)
        below = (clean - c) * (1.0 / self.floor - y / self.floor**2)
        known = math.lgamma(L) - L * math.log(L) - (L - 1.0) * y.clamp(min=torch.finfo(y.dtype).tiny).log()
        return L * (c.log() + y / c + below) + known

    def variance(self, clean: Tensor) -> Tensor:
        return clean.clamp(min=self.floor) ** 2 / self.looks


def _nonnegative(clean: Tensor) -> None:
    if clean.is_complex() or not bool((clean >= 0).all()):
        raise ValueError("these means of counts or intensities are not all at least 0: simulate in data space.")
