"""Solvers: zero-shot posterior samplers for inverse problems."""

from sfumato.solvers.adir import ADIR
from sfumato.solvers.adp import ADP
from sfumato.solvers.base import Guided, Solver
from sfumato.solvers.blind_dps import BlindDPS
from sfumato.solvers.ccdf import CCDF
from sfumato.solvers.copaint import CoPaint
from sfumato.solvers.daps import DAPS
from sfumato.solvers.ddnm import DDNM
from sfumato.solvers.ddrm import DDRM
from sfumato.solvers.ddrm_jpeg import DDRMJPEG
from sfumato.solvers.difface import DifFace
from sfumato.solvers.diffpir import DiffPIR
from sfumato.solvers.dpnp import DPnP
from sfumato.solvers.dps import DPS
from sfumato.solvers.dr2 import DR2
from sfumato.solvers.fps_smc import FPSSMC
from sfumato.solvers.gdp import GDP
from sfumato.solvers.gibbs_ddrm import GibbsDDRM
from sfumato.solvers.ilvr import ILVR
from sfumato.solvers.mcg import MCG
from sfumato.solvers.mmps import MMPS
from sfumato.solvers.pigdm import PiGDM, PiGDMScore
from sfumato.solvers.pnp_dm import PnPDM
from sfumato.solvers.principled_priors import ScorePrior
from sfumato.solvers.psld import PSLD
from sfumato.solvers.red_diff import REDDiff
from sfumato.solvers.repaint import RePaint
from sfumato.solvers.resample import ReSample
from sfumato.solvers.score_medical import ScoreMedical
from sfumato.solvers.sdedit import SDEdit
from sfumato.solvers.sitcom import SITCOM
from sfumato.solvers.snips import SNIPS
from sfumato.solvers.stsl import STSL
from sfumato.solvers.tds import TDS
from sfumato.solvers.tmpd import TMPD
from sfumato.solvers.warm import Warm

__all__ = [
    "ADIR",
    "ADP",
    "CCDF",
    "DAPS",
    "DDNM",
    "DDRM",
    "DDRMJPEG",
    "DPS",
    "DR2",
    "FPSSMC",
    "GDP",
    "ILVR",
    "MCG",
    "MMPS",
    "PSLD",
    "SITCOM",
    "SNIPS",
    "STSL",
    "TDS",
    "TMPD",
    "BlindDPS",
    "CoPaint",
    "DPnP",
    "DifFace",
    "DiffPIR",
    "GibbsDDRM",
    "Guided",
    "PiGDM",
    "PiGDMScore",
    "PnPDM",
    "REDDiff",
    "RePaint",
    "ReSample",
    "SDEdit",
    "ScoreMedical",
    "ScorePrior",
    "Solver",
    "Warm",
]
