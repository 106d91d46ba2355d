"""Metrics: how far a restoration, a set of samples or an interval is from the truth.

Per item, (B,), unless they compare two sets.
"""

from sfumato.metrics.coverage import central_interval, coverage
from sfumato.metrics.crps import crps
from sfumato.metrics.frechet import frechet, frechet_normal
from sfumato.metrics.mse import mse
from sfumato.metrics.psnr import psnr
from sfumato.metrics.sliced import sliced_wasserstein
from sfumato.metrics.ssim import ssim

__all__ = [
    "central_interval",
    "coverage",
    "crps",
    "frechet",
    "frechet_normal",
    "mse",
    "psnr",
    "sliced_wasserstein",
    "ssim",
]
