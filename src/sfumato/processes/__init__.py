"""Forward processes: how data become noise."""

from sfumato.processes.additive import Additive, GammaNoise, MixtureNoise, TwoGammaNoise
from sfumato.processes.anchored import Anchored, Reverting, entry
from sfumato.processes.base import Coefficient, Process, Time, exact, expand, lib
from sfumato.processes.binomial import Bernoulli, Binomial
from sfumato.processes.categories import Categories, Jumping
from sfumato.processes.discrete import Discrete
from sfumato.processes.gaussian import Gaussian
from sfumato.processes.high_band import HighBand
from sfumato.processes.learned import LearnedEnds, LearnedSchedule
from sfumato.processes.neighbours import Neighbours
from sfumato.processes.pinned import Brownian, Pinned, Tent
from sfumato.processes.reverting import ConstantPull, CosinePull, LinearPull, Pull
from sfumato.processes.schedules import EDM, Cosine, Geometric, LinearBeta, Rectified, SigmoidBeta, SubVP, Trigonometric
from sfumato.processes.table import Table
from sfumato.processes.thinning import Observed, Photons, Speckle, Thinning
from sfumato.processes.transitions import Transitions

__all__ = [
    "EDM",
    "Additive",
    "Anchored",
    "Bernoulli",
    "Binomial",
    "Brownian",
    "Categories",
    "Coefficient",
    "ConstantPull",
    "Cosine",
    "CosinePull",
    "Discrete",
    "GammaNoise",
    "Gaussian",
    "Geometric",
    "HighBand",
    "Jumping",
    "LearnedEnds",
    "LearnedSchedule",
    "LinearBeta",
    "LinearPull",
    "MixtureNoise",
    "Neighbours",
    "Observed",
    "Photons",
    "Pinned",
    "Process",
    "Pull",
    "Rectified",
    "Reverting",
    "SigmoidBeta",
    "Speckle",
    "SubVP",
    "Table",
    "Tent",
    "Thinning",
    "Time",
    "Transitions",
    "Trigonometric",
    "TwoGammaNoise",
    "entry",
    "exact",
    "expand",
    "lib",
]
