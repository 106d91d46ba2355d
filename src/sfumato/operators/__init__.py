"""Operators: degradations, and measurements made through them."""

from sfumato.operators.adjointness import adjointness
from sfumato.operators.base import Function, Linear, LinearFunction, Operator, Spectral, conjugate_gradients
from sfumato.operators.block_sensing import BlockSensing
from sfumato.operators.blur import Blur, DecimatedBlur
from sfumato.operators.compose import Compose
from sfumato.operators.convolution import Convolution
from sfumato.operators.decoded import Decoded
from sfumato.operators.downsample import Downsample
from sfumato.operators.fourier import Fourier
from sfumato.operators.gray import Gray
from sfumato.operators.hadamard import Hadamard
from sfumato.operators.identity import Identity
from sfumato.operators.jpeg import JPEG
from sfumato.operators.likelihoods import Likelihood, Poisson, Speckle
from sfumato.operators.mask import Mask
from sfumato.operators.matrix import Matrix
from sfumato.operators.measurement import Measurement
from sfumato.operators.nonlinear_blur import CameraBlur, NetworkBlur
from sfumato.operators.phase import PhaseRetrieval
from sfumato.operators.radon import Radon
from sfumato.operators.ranges import Clip, Quantize, Veil
from sfumato.operators.sense import SENSE
from sfumato.operators.separable import Separable
from sfumato.operators.varying_blur import VaryingBlur

__all__ = [
    "JPEG",
    "SENSE",
    "BlockSensing",
    "Blur",
    "CameraBlur",
    "Clip",
    "Compose",
    "Convolution",
    "DecimatedBlur",
    "Decoded",
    "Downsample",
    "Fourier",
    "Function",
    "Gray",
    "Hadamard",
    "Identity",
    "Likelihood",
    "Linear",
    "LinearFunction",
    "Mask",
    "Matrix",
    "Measurement",
    "NetworkBlur",
    "Operator",
    "PhaseRetrieval",
    "Poisson",
    "Quantize",
    "Radon",
    "Separable",
    "Speckle",
    "Spectral",
    "VaryingBlur",
    "Veil",
    "adjointness",
    "conjugate_gradients",
]
