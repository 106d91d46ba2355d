"""Forward processes: how data become noise."""

from sfumato.processes.anchored import Anchored, entry
from sfumato.processes.base import Coefficient, Process, Time, exact, expand, lib
from sfumato.processes.categories import Categories, Jumping
from sfumato.processes.discrete import Discrete
from sfumato.processes.gaussian import Gaussian
from sfumato.processes.learned import LearnedEnds, LearnedSchedule
from sfumato.processes.neighbours import Neighbours
from sfumato.processes.schedules import EDM, Cosine, Geometric, LinearBeta, Rectified, SigmoidBeta, SubVP
from sfumato.processes.table import Table
from sfumato.processes.transitions import Transitions

__all__ = [
    "EDM",
    "Anchored",
    "Categories",
    "Coefficient",
    "Cosine",
    "Discrete",
    "Gaussian",
    "Geometric",
    "Jumping",
    "LearnedEnds",
    "LearnedSchedule",
    "LinearBeta",
    "Neighbours",
    "Process",
    "Rectified",
    "SigmoidBeta",
    "SubVP",
    "Table",
    "Time",
    "Transitions",
    "entry",
    "exact",
    "expand",
    "lib",
]
