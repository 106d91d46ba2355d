"""Denoisers: estimates of x_0 from x_t, and the wrappers around them."""

from sfumato.denoisers.analytic_dpm import AnalyticDPM, analytic
from sfumato.denoisers.base import Denoiser, Given, Wrapper
from sfumato.denoisers.borrowed import OfLevel
from sfumato.denoisers.corrected import Corrected
from sfumato.denoisers.energy import Energy
from sfumato.denoisers.ensemble import Ensemble
from sfumato.denoisers.examples import Examples
from sfumato.denoisers.learned_variance import LearnedVariance
from sfumato.denoisers.logits import Logits
from sfumato.denoisers.optimal_covariance import JacobianVariance, OptimalCovariance
from sfumato.denoisers.preconditioned import (
    Parameterization,
    Preconditioned,
    Scheme,
    consistency,
    edm,
    log_snr,
    predict_eps,
    predict_flow,
    predict_score,
    predict_v,
    predict_x0,
    trig,
)
from sfumato.denoisers.predicted import Predicted
from sfumato.denoisers.residual import Residual
from sfumato.denoisers.sparing import Sparing
from sfumato.denoisers.thresholded import Thresholded
from sfumato.denoisers.windowed import Windowed
from sfumato.denoisers.wrappers import Clipped, Counted, MeanOnly, Recorded
from sfumato.estimate import Estimate

__all__ = [
    "AnalyticDPM",
    "Clipped",
    "Corrected",
    "Counted",
    "Denoiser",
    "Energy",
    "Ensemble",
    "Estimate",
    "Examples",
    "Given",
    "JacobianVariance",
    "LearnedVariance",
    "Logits",
    "MeanOnly",
    "OfLevel",
    "OptimalCovariance",
    "Parameterization",
    "Preconditioned",
    "Predicted",
    "Recorded",
    "Residual",
    "Scheme",
    "Sparing",
    "Thresholded",
    "Windowed",
    "Wrapper",
    "analytic",
    "consistency",
    "edm",
    "log_snr",
    "predict_eps",
    "predict_flow",
    "predict_score",
    "predict_v",
    "predict_x0",
    "trig",
]
