"""Solvers: zero-shot posterior samplers for inverse problems."""

from sfumato.solvers.base import Guided, Solver
from sfumato.solvers.ddnm import DDNM
from sfumato.solvers.ddrm import DDRM
from sfumato.solvers.diffpir import DiffPIR
from sfumato.solvers.dps import DPS
from sfumato.solvers.mmps import MMPS

__all__ = ["DDNM", "DDRM", "DPS", "MMPS", "DiffPIR", "Guided", "Solver"]
