"""Training: objectives, the loop as a generator, averages of weights, checkpoints."""

from sfumato.training import checkpoints
from sfumato.training.ema import Ema
from sfumato.training.fit import Data, TrainStep, fit, warmup_decay
from sfumato.training.objectives import Denoising, edm_weight, eps_weight, output_weight, x0_weight
from sfumato.training.times import LogitNormal, LogNormal, Uniform

__all__ = [
    "Data",
    "Denoising",
    "Ema",
    "LogNormal",
    "LogitNormal",
    "TrainStep",
    "Uniform",
    "checkpoints",
    "edm_weight",
    "eps_weight",
    "fit",
    "output_weight",
    "warmup_decay",
    "x0_weight",
]
