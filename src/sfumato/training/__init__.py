"""Training: objectives, the loop as a generator, averages of weights, checkpoints."""

from sfumato.training import checkpoints, couplings, masking
from sfumato.training.averages import Averages
from sfumato.training.consistency import ConsistencyTraining
from sfumato.training.discrete import DiscreteChain, Jumps, OrderAgnostic
from sfumato.training.ema import Ema
from sfumato.training.fit import Data, TrainStep, fit
from sfumato.training.matching import Matching, Pairs, Source, items, normal, reflow, straightness
from sfumato.training.noise_error import NoiseError
from sfumato.training.objectives import (
    Denoising,
    NoiseMoment,
    edm_weight,
    eps_weight,
    min_snr,
    output_weight,
    p2_weight,
    sigmoid_weight,
    soft_min_snr,
    truncated_snr,
    v_weight,
    x0_weight,
)
from sfumato.training.power_ema import PowerEma, Profile, exponent_of, mixing, reconstruct, width_of
from sfumato.training.precision import Precision
from sfumato.training.progressive import ProgressiveDistillation
from sfumato.training.rates import cosine, inverse_sqrt, warmup_decay
from sfumato.training.scm import ContinuousConsistency
from sfumato.training.score_matching import DenoisingScore, ImplicitScore
from sfumato.training.staged import Staged
from sfumato.training.times import (
    Antithetic,
    BetweenLevels,
    CosMap,
    Levels,
    LogitNormal,
    LogNormal,
    LossAware,
    LowDiscrepancy,
    Mode,
    Shifted,
    Steps,
    Uniform,
    UniformLogSNR,
)
from sfumato.training.uncertain import Uncertain, Uncertainty
from sfumato.training.validation import HeldOut
from sfumato.training.variational import Chain, Hybrid, Likelihood, Variational

__all__ = [
    "Antithetic",
    "Averages",
    "BetweenLevels",
    "Chain",
    "ConsistencyTraining",
    "ContinuousConsistency",
    "CosMap",
    "Data",
    "Denoising",
    "DenoisingScore",
    "DiscreteChain",
    "Ema",
    "HeldOut",
    "Hybrid",
    "ImplicitScore",
    "Jumps",
    "Levels",
    "Likelihood",
    "LogNormal",
    "LogitNormal",
    "LossAware",
    "LowDiscrepancy",
    "Matching",
    "Mode",
    "NoiseError",
    "NoiseMoment",
    "OrderAgnostic",
    "Pairs",
    "PowerEma",
    "Precision",
    "Profile",
    "ProgressiveDistillation",
    "Shifted",
    "Source",
    "Staged",
    "Steps",
    "TrainStep",
    "Uncertain",
    "Uncertainty",
    "Uniform",
    "UniformLogSNR",
    "Variational",
    "checkpoints",
    "cosine",
    "couplings",
    "edm_weight",
    "eps_weight",
    "exponent_of",
    "fit",
    "inverse_sqrt",
    "items",
    "masking",
    "min_snr",
    "mixing",
    "normal",
    "output_weight",
    "p2_weight",
    "reconstruct",
    "reflow",
    "sigmoid_weight",
    "soft_min_snr",
    "straightness",
    "truncated_snr",
    "v_weight",
    "warmup_decay",
    "width_of",
    "x0_weight",
]
