"""Phase retrieval: the size of a spectrum without its phase."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from sfumato.operators import kspace
from sfumato.operators.base import Operator


@dataclass(frozen=True, eq=False)
class PhaseRetrieval(Operator):
    """y = |F P x|: P puts `margin` zeros around each channel, F is the unitary centred Fourier transform.

    y is (B, C, H + 2 margin, W + 2 margin); its noise is that of the size, in the unit of x. The sign of x, its turn by
    180 degrees and shifts that stay within the margin are not seen: of several runs take the one whose residual is
    least, and compare with both turns. It has no adjoint: for DPS, DAPS and other solvers that follow gradients; the
    derivative where y = 0 is taken as 0.

    Args:
        margin: zeros on each side; 64 for pictures of 256 (`oversampled`).

    Source: the task of DPS (2209.14687), whose public code pads by int(oversample / 8 256) pixels.
    """

    margin: int

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"a margin of at least 0 is needed, got {self.margin}.")

    @classmethod
    def oversampled(cls, size: int, oversample: float = 2.0) -> PhaseRetrieval:
        """int(oversample / 8 size) zeros on each side of squares of this size."""
        return cls(int(oversample / 8.0 * size))

    def __call__(self, x: Tensor) -> Tensor:
        spectrum = kspace.transform(pad(x, [self.margin] * 4))
        power = spectrum.real.square() + spectrum.imag.square()
        empty = power == 0
        return power.masked_fill(empty, 1.0).sqrt().masked_fill(empty, 0.0)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1:-2], *(n - 2 * self.margin for n in y.shape[-2:]))
