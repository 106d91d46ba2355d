"""Forward processes: how data become noise."""

from sfumato.processes.anchored import Anchored, entry
from sfumato.processes.base import Coefficient, Process, Time, expand, lib
from sfumato.processes.discrete import Discrete
from sfumato.processes.gaussian import Gaussian
from sfumato.processes.learned import LearnedEnds, LearnedSchedule
from sfumato.processes.pinned import Brownian, Pinned, Tent
from sfumato.processes.schedules import EDM, Cosine, Geometric, LinearBeta, Rectified, SigmoidBeta, SubVP
from sfumato.processes.table import Table

__all__ = [
    "EDM",
    "Anchored",
    "Brownian",
    "Coefficient",
    "Cosine",
    "Discrete",
    "Gaussian",
    "Geometric",
    "LearnedEnds",
    "LearnedSchedule",
    "LinearBeta",
    "Pinned",
    "Process",
    "Rectified",
    "SigmoidBeta",
    "SubVP",
    "Table",
    "Tent",
    "Time",
    "entry",
    "expand",
    "lib",
]
