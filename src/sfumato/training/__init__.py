"""Training: objectives, the loop as a generator, averages of weights, checkpoints."""

from sfumato.training import checkpoints, masking
from sfumato.training.ema import Ema
from sfumato.training.fit import Data, TrainStep, fit, warmup_decay
from sfumato.training.objectives import (
    Denoising,
    edm_weight,
    eps_weight,
    min_snr,
    output_weight,
    p2_weight,
    soft_min_snr,
    truncated_snr,
    v_weight,
    x0_weight,
)
from sfumato.training.score_matching import DenoisingScore, ImplicitScore
from sfumato.training.times import (
    Levels,
    LogitNormal,
    LogNormal,
    LossAware,
    LowDiscrepancy,
    Steps,
    Uniform,
    UniformLogSNR,
)
from sfumato.training.variational import Chain, Hybrid, Likelihood, Variational

__all__ = [
    "Chain",
    "Data",
    "Denoising",
    "DenoisingScore",
    "Ema",
    "Hybrid",
    "ImplicitScore",
    "Levels",
    "Likelihood",
    "LogNormal",
    "LogitNormal",
    "LossAware",
    "LowDiscrepancy",
    "Steps",
    "TrainStep",
    "Uniform",
    "UniformLogSNR",
    "Variational",
    "checkpoints",
    "edm_weight",
    "eps_weight",
    "fit",
    "masking",
    "min_snr",
    "output_weight",
    "p2_weight",
    "soft_min_snr",
    "truncated_snr",
    "v_weight",
    "warmup_decay",
    "x0_weight",
]
