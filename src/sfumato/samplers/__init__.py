"""Samplers: ways from noise to data."""

from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.base import Sampler, Step, Times, blank, sample, trajectory
from sfumato.samplers.ddim import DDIM
from sfumato.samplers.dpmpp import DPMpp2M
from sfumato.samplers.euler import Euler
from sfumato.samplers.heun import Heun

__all__ = [
    "DDIM",
    "Ancestral",
    "DPMpp2M",
    "Euler",
    "Heun",
    "Sampler",
    "Step",
    "Times",
    "blank",
    "sample",
    "trajectory",
]
