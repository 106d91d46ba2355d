"""Metrics: how far a restoration, a set of samples or an interval is from the truth.

Per item, (B,), unless they compare two sets.
"""

from sfumato.metrics.attacks import Gradient, classifier_gradient, linf_attack, through, wilson
from sfumato.metrics.auroc import auroc
from sfumato.metrics.coverage import central_interval, coverage
from sfumato.metrics.crps import crps
from sfumato.metrics.energy import energy_score
from sfumato.metrics.frechet import frechet, frechet_normal
from sfumato.metrics.gmsd import gmsd
from sfumato.metrics.intervals import Interval, bootstrap, group_numbers, jackknife, left_out_error
from sfumato.metrics.kernel import KernelDistance, kernel_distance, mmd
from sfumato.metrics.lpips import LPIPS
from sfumato.metrics.mae import mae, mase
from sfumato.metrics.ms_ssim import ms_ssim
from sfumato.metrics.mse import mse
from sfumato.metrics.neighbours import (
    Balls,
    DensityCoverage,
    PrecisionRecall,
    balls,
    density_coverage,
    precision_recall,
)
from sfumato.metrics.pit import pit
from sfumato.metrics.protocols import Protocol, luma
from sfumato.metrics.psnr import psnr
from sfumato.metrics.quantiles import crps_sum, quantile_crps, quantiles
from sfumato.metrics.sliced import sliced_wasserstein
from sfumato.metrics.ssim import ssim

__all__ = [
    "LPIPS",
    "Balls",
    "DensityCoverage",
    "Gradient",
    "Interval",
    "KernelDistance",
    "PrecisionRecall",
    "Protocol",
    "auroc",
    "balls",
    "bootstrap",
    "central_interval",
    "classifier_gradient",
    "coverage",
    "crps",
    "crps_sum",
    "density_coverage",
    "energy_score",
    "frechet",
    "frechet_normal",
    "gmsd",
    "group_numbers",
    "jackknife",
    "kernel_distance",
    "left_out_error",
    "linf_attack",
    "luma",
    "mae",
    "mase",
    "mmd",
    "ms_ssim",
    "mse",
    "pit",
    "precision_recall",
    "psnr",
    "quantile_crps",
    "quantiles",
    "sliced_wasserstein",
    "ssim",
    "through",
    "wilson",
]
