"""A measurement: y = A x_0 + n, n ~ N(0, sigma^2 I), or y ~ p(. | A x_0) of another likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators.base import Linear, Operator
from sfumato.operators.decoded import Decoded
from sfumato.operators.likelihoods import Likelihood

if TYPE_CHECKING:
    from sfumato.codecs import Codec


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was seen, how, and how well.

    Args:
        operator: A.
        y: (B, *measured), in the range and unit of A's output.
        sigma: standard deviation of the noise in the unit of y, at least 0; stated, never guessed. Of complex y it is
            that of a whole number, its two parts together.
        likelihood: noise that is not Gaussian (`Poisson`, `Speckle`), in place of sigma, which then is 0.

    Raises:
        TypeError: for an operator that is only a function.
        ValueError: if sigma is negative, or given beside a likelihood, or y holds numbers that are not finite.
    """

    operator: Operator
    y: Tensor
    sigma: float = 0.0
    likelihood: Likelihood | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Operator):
            raise TypeError(
                f"an operator is needed, got {type(self.operator).__name__}: wrap a function of your own in "
                "LinearFunction(f, shape of one x_0), or in Function if it is not linear."
            )
        if self.likelihood is not None and self.sigma != 0.0:
            raise ValueError(f"the noise is {self.likelihood}: leave sigma out, got {self.sigma}.")
        if not self.sigma >= 0.0:
            raise ValueError(
                f"sigma is the standard deviation of the noise in the unit of y, at least 0, got {self.sigma}."
            )
        if not bool(torch.isfinite(self.y).all()):
            raise ValueError("y holds NaN or infinite numbers: mark what is missing with a Mask, and put zeros there.")

    @classmethod
    def simulate(
        cls,
        operator: Operator,
        x0: Tensor,
        *,
        sigma: float = 0.0,
        likelihood: Likelihood | None = None,
        noise: Noise,
    ) -> Measurement:
        """A measurement of known data: A x_0 plus noise, which stays zero where a mask sees nothing."""
        clean = operator(x0)
        if likelihood is not None:
            return cls(operator, likelihood.simulate(clean, noise), float(sigma), likelihood)
        if sigma == 0.0:
            return cls(operator, clean, 0.0)
        n = noise.normal(clean)
        seen = getattr(operator, "seen", None)
        return cls(operator, clean + sigma * (n if seen is None else n * seen(clean)), float(sigma))

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one x_0."""
        return tuple(self.operator.event(self.y))

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator(x)

    def energy(self, x: Tensor) -> Tensor:
        """-log p(y | x_0 = x) of each row, (B,): |y - A x|^2 / (2 sigma^2) but for a constant, or the likelihood's.

        Raises:
            ValueError: if y has no noise.
        """
        if self.likelihood is None:
            if self.sigma == 0.0:
                raise ValueError("without noise y has no likelihood: state sigma.")
            return 0.5 * self.residual(x).abs().square().flatten(1).sum(1) / self.sigma**2
        terms = self.likelihood.energy(self.y, self.operator(x))
        return (terms * self.seen).flatten(1).sum(1)

    @property
    def seen(self) -> Tensor:
        """1 where y is a measurement, 0 where a mask leaves it empty; broadcasts to y."""
        seen = getattr(self.operator, "seen", None)
        found: Tensor = self.y.new_ones(()).real if seen is None else seen(self.y).real
        return found

    def repeat(self, n: int) -> Measurement:
        """n samples of each y as rows, sample index slowest: row s B + b is sample s of y_b."""
        return self.rows(list(range(len(self))) * n)

    def rows(self, index: Sequence[int]) -> Measurement:
        """These rows of y, in this order and as often as they are named, each with its own mask or kernel."""
        return replace(self, y=self.y[list(index)], operator=self.operator.of_rows(index, self.y))

    def to_model(self, codec: Codec) -> Measurement:
        """The same measurement of z = codec.encode(x_0).

        With x = scale z + shift and a linear A, y - A shift = scale A z + n: divided by `scale`, the operator and its
        abilities stay, sigma becomes sigma / |scale|. For any other codec, and any other noise than Gaussian, the
        operator becomes `Decoded`, A o decode, whose type says that it is no longer linear. An operator that is told
        the range of its data (`JPEG`) is told the other one, and y stays. A codec of several stages (`Latent`) is gone
        through stage by stage: y and sigma are then in the unit of the autoencoder's own data.
        """
        first, *rest = codec.stages()
        if rest:
            m = self.to_model(first)
            for stage in rest:
                m = m.to_model(stage)
            return m
        moved = getattr(self.operator, "to_model", None)
        if moved is not None and codec.affine is not None:
            return replace(self, operator=moved(codec))
        scale = codec.affine
        if scale is not None and isinstance(self.operator, Linear) and self.likelihood is None:
            zero = torch.zeros(len(self), *self.event, dtype=self.y.dtype.to_real(), device=self.y.device)
            offset = self.operator(codec.decode(zero))
            return replace(self, y=(self.y - offset) / scale, sigma=self.sigma / abs(scale))
        return replace(self, operator=Decoded(self.operator, codec.sized(self.event)))
