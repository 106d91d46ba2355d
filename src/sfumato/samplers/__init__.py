"""Samplers: ways from noise to data."""

from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.any_order import AnyOrder
from sfumato.samplers.arc import Arc
from sfumato.samplers.base import Sampler, Step, Times, blank, sample, trajectory
from sfumato.samplers.brownian import AlongPath, BrownianPath
from sfumato.samplers.cas import CAS
from sfumato.samplers.compose import Blend, Chain
from sfumato.samplers.consistency import Consistency
from sfumato.samplers.ddim import DDIM
from sfumato.samplers.deis import DEIS
from sfumato.samplers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S
from sfumato.samplers.euler import Euler
from sfumato.samplers.heun import Heun
from sfumato.samplers.langevin import Langevin, SNRLangevin
from sfumato.samplers.ode import Solved, integrate, sample_ode
from sfumato.samplers.overwrite import Held, Overwrite
from sfumato.samplers.paths import paths
from sfumato.samplers.sde import EulerMaruyama, ReverseDiffusion, simulate
from sfumato.samplers.self_conditioned import SelfConditioned
from sfumato.samplers.unipc import UniPC

__all__ = [
    "CAS",
    "DDIM",
    "DEIS",
    "AlongPath",
    "Ancestral",
    "AnyOrder",
    "Arc",
    "Blend",
    "BrownianPath",
    "Chain",
    "Consistency",
    "DPMpp2M",
    "DPMpp2S",
    "DPMpp3M",
    "DPMpp3S",
    "Euler",
    "EulerMaruyama",
    "Held",
    "Heun",
    "Langevin",
    "Overwrite",
    "ReverseDiffusion",
    "SNRLangevin",
    "Sampler",
    "SelfConditioned",
    "Solved",
    "Step",
    "Times",
    "UniPC",
    "blank",
    "integrate",
    "paths",
    "sample",
    "sample_ode",
    "simulate",
    "trajectory",
]
