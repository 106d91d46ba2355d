"""Solvers: zero-shot posterior samplers for inverse problems."""

from sfumato.solvers.base import Guided, Solver
from sfumato.solvers.ccdf import CCDF
from sfumato.solvers.copaint import CoPaint
from sfumato.solvers.ddnm import DDNM
from sfumato.solvers.ddrm import DDRM
from sfumato.solvers.diffpir import DiffPIR
from sfumato.solvers.dps import DPS
from sfumato.solvers.gdp import GDP
from sfumato.solvers.ilvr import ILVR
from sfumato.solvers.mcg import MCG
from sfumato.solvers.mmps import MMPS
from sfumato.solvers.pigdm import PiGDM, PiGDMScore
from sfumato.solvers.repaint import RePaint
from sfumato.solvers.sdedit import SDEdit
from sfumato.solvers.tmpd import TMPD

__all__ = [
    "CCDF",
    "DDNM",
    "DDRM",
    "DPS",
    "GDP",
    "ILVR",
    "MCG",
    "MMPS",
    "TMPD",
    "CoPaint",
    "DiffPIR",
    "Guided",
    "PiGDM",
    "PiGDMScore",
    "RePaint",
    "SDEdit",
    "Solver",
]
