"""Circular blurs, diagonal in Fourier space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import torch
from torch import Tensor

from sfumato.noise import Noise
from sfumato.operators import kernels
from sfumato.operators.base import Linear, Spectral, cast, own


@dataclass(frozen=True, eq=False)
class Blur(Spectral):
    """Circular convolution of each channel, y_i = sum_j k_j x_(i - j + floor(width / 2)); the size is kept.

    A = F^* diag(K) F with the unitary transform F: coefficients are complex, s = |K|, and the phase K / |K| is part of
    U. Real data in, real data out: the half of the spectrum says all of it, so that is what is kept, (B, C, *size)
    with n // 2 + 1 for the last n; what stands for two frequencies is times sqrt(2). Draw random coefficients as V^T
    of random data.

    Args:
        kernel: the taps, one axis for each of `size`; axes before those broadcast to (B, C): one kernel for each sample
            is (B, 1, *taps). Larger ones than the data wrap around.
        size: shape of one channel, (H, W) or (L,).
        threshold: frequencies with |K| below it are not seen, by A either (ours: 1e-6, the rounding of float32).
    """

    kernel: Tensor
    size: tuple[int, ...]
    threshold: float = 1e-6
    s: Tensor = field(init=False)
    _phase: Tensor = field(init=False)
    _K: Tensor = field(init=False)
    _double: Tensor = field(init=False)

    def __post_init__(self) -> None:
        K = half(spectrum(self.kernel, self.size))
        s = torch.where(K.abs() >= self.threshold, K.abs(), 0.0)
        phase = torch.where(s > 0, K / torch.where(s > 0, K.abs(), 1.0), 0.0)
        # column j stands for -j too, unless that is j itself
        alone = 2 * torch.arange(s.shape[-1], device=s.device) % self.size[-1] == 0
        object.__setattr__(self, "s", s)
        object.__setattr__(self, "_phase", phase)
        object.__setattr__(self, "_K", phase * s)
        object.__setattr__(self, "_double", torch.where(alone, 1.0, 2.0).to(s.dtype).sqrt())

    @classmethod
    def gaussian(cls, size: tuple[int, ...], std: float = 3.0, *, width: int = 61, threshold: float = 1e-6) -> Blur:
        """A normal kernel of `width` taps along each axis, cut at 4 std. Source: DPS (2209.14687), 61 taps, std 3."""
        taps = kernels.normal(width, std, radius=int(4 * std + 0.5))
        return cls(reduce(torch.Tensor.mul, torch.meshgrid(*[taps] * len(size), indexing="ij")), size, threshold)

    @classmethod
    def uniform(cls, size: tuple[int, ...], width: int = 9, *, threshold: float = 1e-6) -> Blur:
        """Equal taps, `width` along each axis."""
        return cls(torch.full([width] * len(size), float(width) ** -len(size), dtype=torch.float64), size, threshold)

    @classmethod
    def motion(
        cls, size: tuple[int, int], noise: Noise, *, width: int = 61, intensity: float = 0.5, threshold: float = 1e-6
    ) -> Blur:
        """A random camera shake: see `kernels.motion`."""
        return cls(kernels.motion(noise, width, intensity), size, threshold)

    @classmethod
    def band(cls, size: tuple[int, ...], low: float = 0.0, high: float = 0.25) -> Blur:
        """Only frequencies from `low` to `high`, in cycles per sample (0 to 0.5), are seen on each axis; s is 0 or 1.

        A signal of 16 kHz that went through a telephone is `band((length,), 300 / 16000, 3400 / 16000)`; a recording
        at half the rate, with an ideal filter, is `band((length,))`.

        Raises:
            ValueError: unless 0 <= low < high <= 0.5.
        """
        if not 0.0 <= low < high <= 0.5:
            raise ValueError(f"a band from low to high in cycles per sample, within 0 and 0.5, got {low} to {high}.")
        taps = []
        for n in size:
            f = torch.fft.fftfreq(n, dtype=torch.float64).abs()
            taps.append(torch.fft.ifft(((f >= low) & (f <= high)).double()).real.roll(n // 2))
        return cls(reduce(torch.Tensor.mul, torch.meshgrid(*taps, indexing="ij")), size)

    @property
    def parameters(self) -> Tensor:
        return self.kernel

    def of_rows(self, index: Sequence[int], y: Tensor) -> Blur:
        return replace(self, kernel=own(self.kernel, index, y))

    def at(self, parameters: Tensor) -> Blur:
        """The blur with another kernel; differentiable in it."""
        return replace(self, kernel=parameters)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return tuple(y.shape[1:])

    def taps_gradient(
        self, x: Tensor, y: Tensor, more: tuple[Tensor, Tensor] | None = None
    ) -> Callable[[Tensor], Tensor]:
        """The gradient of |y - A_k x|^2 / 2 in the kernel k, (B, 1, *taps), as a function of k.

        It is G k - b with G_jl = sum_i x_(i-j) x_(i-l) and b_j = sum_i y_i x_(i-j+c), summed over channels, c =
        floor(width / 2): found once, so that a call costs a convolution of taps and not one of pictures.

        Args:
            more: (v, w), whose lags sum_i v_(i-j) w_(i-l) are added to G, frequencies below 0 as 0: with E[v w^T] the
                covariance of x the gradient is that of the expected square.
        """
        _check_size(self, x)
        taps, axes = self.kernel.shape[-len(self.size) :], self._axes
        X, Y = (torch.fft.rfftn(v, dim=axes) for v in (x, y))

        def lags(cross: Tensor, of: list[Tensor]) -> Tensor:
            c = torch.fft.irfftn(cross, s=self.size, dim=axes)
            for axis, index, n in zip(axes, of, self.size, strict=True):
                c = c.index_select(axis, (index % n).to(c.device))
            return c

        power = (X.abs() ** 2).sum(1, keepdim=True)
        if more is not None:
            V, W = (torch.fft.rfftn(v, dim=axes) for v in more)
            power = power + (V * W.conj()).real.sum(1, keepdim=True).clamp(min=0.0)
        wide = [2 * k - 1 for k in taps]  # room for the lags from 1 - k to k - 1, the negative ones at the end
        G = torch.fft.rfftn(lags(power, [(torch.arange(n) + n // 2) % n - n // 2 for n in wide]), dim=axes)
        b = lags((Y * X.conj()).sum(1, keepdim=True), [torch.arange(k) - k // 2 for k in taps])
        window = (..., *(slice(k) for k in taps))

        def gradient(kernel: Tensor) -> Tensor:
            K = torch.fft.rfftn(kernel, s=wide, dim=axes)
            return torch.fft.irfftn(G * K, s=wide, dim=axes)[window] - b

        return gradient

    def Vt(self, x: Tensor) -> Tensor:
        _check_size(self, x)
        return torch.fft.rfftn(x, dim=self._axes, norm="ortho") * cast(self._double, x)

    def V(self, z: Tensor) -> Tensor:
        return torch.fft.irfftn(z * cast(1.0 / self._double, z), s=self.size, dim=self._axes, norm="ortho")

    def __call__(self, x: Tensor) -> Tensor:
        _check_size(self, x)
        return filtered(cast(self._K, x), x, self._axes)

    def adjoint(self, y: Tensor) -> Tensor:
        return filtered(cast(self._K, y).conj(), y, self._axes)

    def ridge(self, y: Tensor, rho: float) -> Tensor:
        s = self.s
        return filtered(cast(torch.where(s > 0, s / (s**2 + rho), 0.0) * self._phase.conj(), y), y, self._axes)

    def solve(self, b: Tensor, rho: float) -> Tensor:
        return filtered(cast(1.0 / (self.s**2 + rho), b), b, self._axes)

    def project(self, x: Tensor) -> Tensor:
        return filtered(cast((self.s > 0).to(self.s.dtype), x), x, self._axes)

    def Ut(self, y: Tensor) -> Tensor:
        return self.Vt(y) * cast(self._phase, y).conj()

    def U(self, z: Tensor) -> Tensor:
        return self.V(z * cast(self._phase, z))

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.size), 0))


@dataclass(frozen=True, eq=False)
class DecimatedBlur(Linear):
    """Circular convolution, then every r-th pixel: the super-resolution of DiffPIR. Exact pseudo-inverse and `solve`.

    A A^T is circulant, with the spectrum g = (1 / r^n) sum over the r^n aliases of |K|^2 (n axes):

        A^+ y = A^T (A A^T)^+ y,      (A^T A + rho)^{-1} b = (b - A^T (A A^T + rho)^{-1} A b) / rho

    Args:
        kernel: as in `Blur`.
        size: shape of one channel of the data.
        factor: r; divides every axis of `size`.
        threshold: frequencies of y with sqrt(g) below it are left out of A^+ (ours).

    Source: Zhao et al. 2016, as used by DiffPIR (2305.08995).
    """

    kernel: Tensor
    size: tuple[int, ...]
    factor: int
    threshold: float = 1e-6
    _K: Tensor = field(init=False)
    _g: Tensor = field(init=False)

    def __post_init__(self) -> None:
        r = self.factor
        if r < 1 or any(n % r for n in self.size):
            raise ValueError(
                f"a factor that divides the size is needed, got {r} for {self.size}: crop or pad the data."
            )
        K = spectrum(self.kernel, self.size)
        g = K.abs() ** 2
        for axis in range(-len(self.size), 0):
            g = g.unflatten(axis, (r, -1)).mean(axis - 1)
        object.__setattr__(self, "_K", K)
        object.__setattr__(self, "_g", g)

    @property
    def parameters(self) -> Tensor:
        return self.kernel

    def of_rows(self, index: Sequence[int], y: Tensor) -> DecimatedBlur:
        return replace(self, kernel=own(self.kernel, index, y))

    def at(self, parameters: Tensor) -> DecimatedBlur:
        """The operator with another kernel; differentiable in it."""
        return replace(self, kernel=parameters)

    def event(self, y: Tensor) -> tuple[int, ...]:
        return (*y.shape[1 : y.ndim - len(self.size)], *self.size)

    def __call__(self, x: Tensor) -> Tensor:
        _check_size(self, x)
        y = convolve(self._K, x, self._axes)
        for axis in self._axes:
            y = y.unflatten(axis, (-1, self.factor)).select(axis, 0)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        return self._spread(torch.fft.fftn(y, dim=self._axes))

    def pinv(self, y: Tensor) -> Tensor:
        g = cast(self._g, y)
        inverse = torch.where(g >= self.threshold**2, 1 / g, 0.0)
        return self._spread(inverse * torch.fft.fftn(y, dim=self._axes))

    def solve(self, b: Tensor, rho: float) -> Tensor:
        seen = torch.fft.fftn(self(b), dim=self._axes) / (cast(self._g, b) + rho)
        return (b - self._spread(seen)) / rho

    def _spread(self, spectrum_y: Tensor) -> Tensor:
        """A^T of the measurement with this spectrum: zeros between pixels repeat a spectrum r times along each axis."""
        whole = spectrum_y.repeat(*[1] * (spectrum_y.ndim - len(self.size)), *[self.factor] * len(self.size))
        spectrum_x = cast(half(self._K), whole).conj() * half(whole)
        return torch.fft.irfftn(spectrum_x, s=self.size, dim=self._axes)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.size), 0))


def spectrum(kernel: Tensor, size: tuple[int, ...]) -> Tensor:
    """Transfer function (..., *size) of a kernel wrapped to `size`, its centre floor(width / 2) at the origin."""
    if kernel.ndim < len(size):
        raise ValueError(f"a kernel with one axis for each of {size} is needed, got {tuple(kernel.shape)}.")
    taps = kernel.double()
    for axis, n in zip(range(-len(size), 0), size, strict=True):
        at = (torch.arange(taps.shape[axis], device=taps.device) - taps.shape[axis] // 2) % n
        empty = taps.new_zeros([n if i == taps.ndim + axis else m for i, m in enumerate(taps.shape)])
        taps = empty.index_add(axis, at, taps)
    return torch.fft.fftn(taps, dim=tuple(range(-len(size), 0)))


def convolve(K: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Circular convolution of x along `axes` with the kernel whose transfer function is K."""
    return filtered(cast(half(K), x), x, axes)


def half(K: Tensor) -> Tensor:
    """The half of a spectrum of real data that says all of it."""
    return K[..., : K.shape[-1] // 2 + 1]


def filtered(H: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x with its spectrum along `axes` multiplied by H, the half of that of a real filter."""
    size = [x.shape[axis] for axis in axes]
    return torch.fft.irfftn(H * torch.fft.rfftn(x, dim=axes), s=size, dim=axes)


def _check_size(operator: Blur | DecimatedBlur, x: Tensor) -> None:
    if tuple(x.shape[-len(operator.size) :]) != tuple(operator.size):
        raise ValueError(f"this operator was made for size {operator.size}, got data {tuple(x.shape)}: make another.")
