"""DiracDiffusion: denoising and incremental reconstruction with assured data-consistency (Fabian 2024, 2303.14353)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Normal
from sfumato.noise import Noise
from sfumato.processes import Process, Time, expand
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Sampler, sample
from sfumato.training.times import Uniform

EXAMPLE = """\
python -c 'import torch, sfumato as sf; R = sf.recipes.load("dirac").Recipe(channels=1, widths=(8, 16), dt=0.1)
D = R.model(); P, loss, opt, noise = R.process(), R.objective(D), torch.optim.Adam(D.parameters(), 1e-3), sf.Noise(0)
x = torch.zeros(8, 1, 16, 16); x[:, :, 4:12, 4:12] = 1; y = P.marginal(x, 1.0).sample(noise)  # clean and damaged
for _ in range(20): opt.zero_grad(); loss(x, None, noise).mean().backward(); opt.step()
with torch.no_grad(): z = R.restore(D, y, noise)
print((y - x).square().mean(), (z - x).square().mean())'"""


@dataclass(frozen=True)
class Blurring:
    """A_t: circular Gaussian blur of standard deviation t std, a product with exp(-2 pi^2 (t std)^2 |f|^2).

    Blurs of a Gaussian add in their squares, so the way from t to s > t is a blur as well. The public code's kernel
    has 61 taps, reflected borders, and a standard deviation from 0.3, where it is nothing, to `std` (ours: from 0).
    """

    std: float = 3.0

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        axes = tuple(range(2, x.ndim))
        square: Any = 0.0
        for axis in axes:
            n = x.shape[axis]
            f = torch.fft.fftfreq(n, dtype=x.dtype, device=x.device)
            square = square + f.reshape(-1, *[1] * (x.ndim - 1 - axis)) ** 2
        H = torch.exp(-2.0 * (math.pi * self.std * expand(t, x)) ** 2 * square)
        return torch.fft.ifftn(H * torch.fft.fftn(x, dim=axes), dim=axes).real


@dataclass(frozen=True)
class Hole:
    """A_t: a hole that grows, x times (1 - exp(-r^2 / (2 w^2)))^power, w = low + t (high - low) pixels from the middle.

    Nothing is lost at t = 0. Source: the public configuration for inpainting of 256 x 256 pixels.
    """

    low: float = 0.1
    high: float = 50.0
    power: float = 4.0

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        square: Any = 0.0
        for axis in range(2, x.ndim):
            n = x.shape[axis]
            at = torch.arange(n, dtype=x.dtype, device=x.device) - n // 2
            square = square + at.reshape(-1, *[1] * (x.ndim - 1 - axis)) ** 2
        width = self.low + expand(t, x) * (self.high - self.low)
        mask = (1.0 - torch.exp(-0.5 * square / width**2)) ** self.power
        none = expand(t, x) <= 0.0
        return x if none is True else x * torch.where(torch.as_tensor(none, device=x.device), 1.0, mask)


@dataclass(frozen=True)
class Degrading(Process):
    """x_t = A_t x_0 + sigma(t) eps, A_0 = I, sigma = low (high / low)^t: more damage, with a little more noise.

    reverse:  x_t + A_s D - A_t D - (1 - sigma_s^2 / sigma_t^2) (x_t - A_t D) + sqrt(sigma_t^2 - sigma_s^2) z,

    a step of the SDE that keeps the law of x_t at every time where D = E[x_0 | x_t], and reaches it as steps shrink.

    Source: Fabian et al. 2024 (2303.14353) eq. 4 and 10, the "look ahead" of appendix I.
    """

    degrade: Callable[[Tensor, Time], Tensor]
    low: float = 0.01
    high: float = 0.05

    def sigma(self, t: Time) -> Any:
        """Standard deviation of the noise; a float for a float."""
        return self.low * (self.high / self.low) ** t

    def marginal(self, x0: Tensor, t: Time) -> Normal:
        return Normal(self.degrade(x0, t), expand(self.sigma(t), x0))

    def reverse(self, estimate: Estimate, xt: Tensor, t: Time, s: Time, eta: float = 1.0) -> Normal:
        now, then = self.degrade(estimate.mean, t), self.degrade(estimate.mean, s)
        sigma_t, sigma_s = expand(self.sigma(t), xt), expand(self.sigma(s), xt)
        mean = xt + then - now - (1.0 - (sigma_s / sigma_t) ** 2) * (xt - now)
        return Normal(mean, (sigma_t**2 - sigma_s**2) ** 0.5)

    def forward(self, xt: Tensor, t: Time, s: Time) -> Normal:
        raise TypeError("Degrading has no way from x_t to a worse x_s without x_0: draw from `marginal`.")

    def prior(self, like: Tensor) -> Normal:
        raise TypeError("Degrading starts from a measurement: give it as x1.")


class Restorer(Denoiser):
    """D = x_t + F(x_t, t): the network sees the state itself and its time (ours: the public one is told sigma)."""

    def __init__(self, net: nn.Module, process: Degrading) -> None:
        super().__init__()
        self.net, self.process = net, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        clock = expand(t, xt).reshape(-1) if isinstance(t, Tensor) else xt.new_full((len(xt),), t)
        return Estimate(xt + self.net(xt, clock, cond))


class Incremental(nn.Module):
    """|A_tau D(x_t) - A_tau x_0|^2 / sigma(t)^2, tau = max(t - increment, 0), a mean over the event, (B,).

    An increment of 1 is the loss on x_0, one of 0 compares what the damage at t leaves.

    Source: Fabian et al. 2024 (2303.14353) eq. 9, with the weight of its public code.
    """

    def __init__(self, denoiser: Denoiser, increment: float) -> None:
        super().__init__()
        self.denoiser, self.increment = denoiser, increment

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        process = self.denoiser.process
        assert isinstance(process, Degrading)
        t = Uniform(0.0)(process, len(x0), noise).to(x0)
        D = self.denoiser(process.marginal(x0, t).sample(noise), t, cond).mean
        gap = process.degrade(D - x0, (t - self.increment).clamp(min=0.0))
        return gap.flatten(1).square().mean(1) / process.sigma(t) ** 2


@dataclass(frozen=True)
class Reconstruct(Sampler):
    """Steps of `Degrading.reverse`, each less c (sigma_t^2 - sigma_s^2) grad |y - A_1 D|^2; D itself in the last.

    c is guidance / |y - A_1 D| of each row where `relative`, else guidance / (2 sigma(1)^2). The public code adds this
    gradient, which leads away from y; descent is meant.

    Args:
        y: the measurement, (B, *event).
        last: the time at which the run ends.
        clean: give D in the last step, rather than the state there.
    """

    y: Tensor
    last: float
    guidance: float = 0.5
    relative: bool = False
    clean: bool = True

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        process = denoiser.process
        assert isinstance(process, Degrading)
        if self.clean and s == self.last:
            return denoiser(xt, t).mean, None
        if self.guidance == 0.0:
            return process.reverse(denoiser(xt, t), xt, t, s).sample(noise), None
        with torch.enable_grad():
            x = xt.detach().requires_grad_()
            D = denoiser(x, t).mean
            loss = (self.y - process.degrade(D, 1.0)).flatten(1).square().sum(1)
            (g,) = torch.autograd.grad(loss.sum(), x)
        c = self.guidance / loss.detach().sqrt() if self.relative else 0.5 * self.guidance / process.sigma(1.0) ** 2
        law = process.reverse(Estimate(D.detach()), xt, t, s)
        return law.sample(noise) - expand(c, xt) * law.std**2 * g, None


@dataclass(frozen=True)
class Recipe(Pictures):
    """The damage itself as the diffusion: a network undoes it little by little, in steps that stay true to y.

    x_t = A_t x_0 + sigma(t) eps,  L = |A_tau D - A_tau x_0|^2 / sigma(t)^2,  and from x_1 = y down to `stop`

    x_s = x_t + A_s D - A_t D - (1 - sigma_s^2 / sigma_t^2) (x_t - A_t D) + sqrt(sigma_t^2 - sigma_s^2) z - pull.

    Stopping early gives smooth pictures near the truth, going on sharper ones. Trained for one damage: `blur` of
    standard deviation `width` pixels, or a `hole` of that width. y must have the noise of training, sigma(1) = `high`.

        fit(recipe.objective(model := recipe.model()), pictures, ...)
        x0 = recipe.restore(model, y, noise)

    Source: Fabian et al. 2024 (2303.14353) algorithm 1; settings of its public code for perceptual deblurring of
    CelebA-HQ, carried from [0, 1] to [-1, 1]. `increment` is 1, the loss on x_0, and networks are the
    library's (both ours).
    """

    degradation: str = "blur"  # or "hole"
    width: float = 3.0  # of the blur or the hole at t = 1, pixels
    low: float = 0.02  # noise at t = 0 on [-1, 1]: 0.01 on [0, 1]
    high: float = 0.1  # noise at t = 1
    increment: float = 1.0  # of the loss
    dt: float = 0.02  # of a step
    stop: float = 0.25  # time of the last estimate
    guidance: float = 0.5
    relative: bool = False  # guidance over the size of the error
    clean: bool = True  # end with the estimate, not with the state

    def __post_init__(self) -> None:
        if self.degradation not in ("blur", "hole"):
            raise ValueError(f"dirac: the degradation is blur or hole, got {self.degradation!r}.")
        if not 0.0 < self.dt <= 1.0 or not 0.0 <= self.stop <= 1.0:
            raise ValueError(f"dirac: 0 < dt <= 1 and 0 <= stop <= 1 are needed, got {self.dt} and {self.stop}.")

    @classmethod
    def inpainting(cls) -> Recipe:
        """The public settings for perceptual inpainting."""
        return cls(
            degradation="hole", width=50.0, dt=0.005, stop=0.0, guidance=0.5, relative=True, clean=False
        )  # fmt: skip

    def process(self) -> Degrading:
        """The damage and its noise."""
        damage = Blurring(self.width) if self.degradation == "blur" else Hole(high=self.width)
        return Degrading(damage, self.low, self.high)

    def model(self) -> Restorer:
        """The untrained network."""
        return Restorer(self.net(), self.process())

    def objective(self, denoiser: Denoiser) -> Incremental:
        """Incremental reconstruction, t uniform on [0, 1)."""
        return Incremental(denoiser, self.increment)

    def times(self) -> tuple[float, ...]:
        """1, 1 - dt, ... to the first time below `stop`, or to 0."""
        grid = [max(1.0 - i * self.dt, 0.0) for i in range(math.ceil(1.0 / self.dt - 1e-9) + 1)]
        above = [t for t, s in pairwise(grid) if t >= self.stop or t == 1.0]
        return (*above, grid[len(above)] if grid[len(above)] > 1e-9 else 0.0)

    def restore(self, denoiser: Denoiser, y: Tensor, noise: Noise) -> Tensor:
        """x_0 of each measurement y, (B, *event), model space."""
        times = self.times()
        sampler = Reconstruct(y, times[-1], self.guidance, self.relative, self.clean)
        return sample(denoiser, sampler, x1=y, times=times, noise=noise)
