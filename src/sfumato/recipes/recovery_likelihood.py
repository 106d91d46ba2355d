"""DRL: learning energy-based models by diffusion recovery likelihood (Gao et al. 2021, 2012.08125)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Energy
from sfumato.nets.energy import EnergyNet
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time, expand
from sfumato.samplers import Sampler


@dataclass(frozen=True)
class Recipe:
    """One energy for each noise level, trained on the conditional law of the cleaner state given the noisier one.

    x_{t+1} = a x_t + s eps, a^2 + s^2 = 1, and y = a x_t. p(y | x_{t+1}) ~ exp(F(y, t) - |x_{t+1} - y|^2 / (2 s^2)) is
    nearly of one mode, so that `moves` Langevin moves from x_{t+1} sample it:

        y <- y + (d^2 / 2) (grad F(y) + (x_{t+1} - y) / s^2) + d z,   d^2 = b2 c s^2,   c = sigma_t / sigma_first.

    The network gives f = d^2 F, and its loss is (s_1 / s_{t+1}) (f(y-) - f(y+)): the data up, the chain's end y- down,
    as in the public code. The chain is not differentiated. At the noisiest level there is no recovery term, and a = 1.
    `sampler()` over `times()` starts from N(0, I), ends at the first level, abar = 0.9999, and shrinks its noise z by
    `test_noise`. The model is an `Energy`: its `log_density` at the first level scores what is unlike the data, and
    other samplers run on it. The network is ours; a residual network with spectral norm as the paper's.

    Args:
        channels, widths, blocks, dims, stride: of `EnergyNet`.
        moves: K, of each chain.
        b2: b^2, the step.
        test_noise: factor of z when sampling.

    Source: Gao et al. 2021 (2012.08125) eq. 6, 8 and 16, algorithms 1 and 2, appendix B; public code.
    """

    channels: int = 3
    widths: tuple[int, ...] = (128, 256, 256, 256)
    blocks: int = 8
    dims: int = 2
    stride: int = 1
    levels: tuple[int, ...] = (0, 100, 200, 300, 400, 500, 999)  # indices into the 1000 linear betas; T = 6
    moves: int = 30
    b2: float = 2e-4
    test_noise: float = 0.99

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or any(a >= b for a, b in zip(self.levels, self.levels[1:])) or self.moves < 1:
            raise ValueError(f"levels rise, at least two, and moves is at least 1, got {self.levels} and {self.moves}.")

    def process(self) -> Table:
        """The table of 1000 linear betas that the levels are of."""
        return Table.linear()

    def times(self) -> tuple[float, ...]:
        """The levels' times, from 1 down: index i is t = (i + 1) / 1000."""
        return tuple((i + 1) / 1000 for i in reversed(self.levels))

    def model(self) -> RecoveryEnergy:
        """The untrained energy."""
        net = EnergyNet(self.channels, tuple(self.widths), self.blocks, dims=self.dims, stride=self.stride)
        return RecoveryEnergy(net, self.process(), self.times(), self.b2, self.sampler())

    def objective(self, denoiser: Denoiser) -> Contrastive:
        """Data against the ends of the chains."""
        assert isinstance(denoiser, RecoveryEnergy)
        return Contrastive(denoiser, Recovery(self.moves))

    def sampler(self) -> Recovery:
        """The chains, one for each step of `times()`."""
        return Recovery(self.moves, self.test_noise)


class RecoveryEnergy(Energy):
    """f(a x_t, t) / d_t^2 as log density of x_t, at the levels of a falling grid: each is known from the one above.

    Between two levels it is the energy of the nearer one below, a and d those of that level.
    """

    def __init__(
        self, net: nn.Module, process: Table, times: tuple[float, ...], b2: float, sampler: Sampler | None = None
    ) -> None:
        super().__init__(net, process, clock=lambda t: 1000.0 * t)
        self.times, self.b2, self.sampler = times, b2, sampler or Recovery()

    def drawing(self) -> tuple[Sampler, tuple[float, ...]]:
        """The chains and their levels: how this model is sampled where nothing else is asked for."""
        return self.sampler, self.times

    def bridge(self, t: Time, s: Time, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a, s, d^2, recovery) of the step t -> s, each ready to multiply `like`; recovery is 0 at the top level.

        d^2 = b2 s^2 sigma(s) / sigma(first level).
        """
        process = self.process
        assert isinstance(process, Gaussian)
        late, early = (torch.as_tensor(v, dtype=torch.float64, device=like.device).expand(len(like)) for v in (t, s))
        ratio = process.alpha(late) / process.alpha(early)
        std = (1.0 - ratio**2).sqrt()
        square = self.b2 * std**2 * process.sigma(early) / process.sigma(self.times[-1])
        whole = late >= self.times[0]
        parts = torch.where(whole, 1.0, ratio), std, square, torch.where(whole, 0.0, 1.0).to(std)
        return tuple(expand(p, like) for p in parts)  # type: ignore[return-value]

    def energy(self, y: Tensor, s: Time) -> Tensor:
        """f(y, s) of y = a x_s, (B,): the network's own number."""
        level = torch.as_tensor(s, dtype=torch.float64, device=y.device).expand(len(y))
        return self.net(y, (1000.0 * level).to(y), None)

    def log_density(self, xt: Tensor, t: Time, cond: Any = None) -> Tensor:
        rows = torch.as_tensor(t, dtype=torch.float64).expand(len(xt)).tolist()
        below = [max((s for s in self.times[1:] if s <= row + 1e-9), default=self.times[-1]) for row in rows]
        above = [min(s for s in self.times if s > row) for row in below]
        early, late = (xt.new_tensor(v, dtype=torch.float64) for v in (below, above))
        a, _, square, _ = self.bridge(late, early, xt)
        return self.energy(a * xt, early) / square.flatten()


@dataclass(frozen=True)
class Recovery(Sampler):
    """x_s by `moves` Langevin moves of p(y | x_t), started at y = x_t; then x_s = y / a. For a `RecoveryEnergy`.

    Source: Gao et al. 2021 (2012.08125) algorithm 2.
    """

    moves: int = 30
    noise: float = 1.0

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        if not isinstance(denoiser, RecoveryEnergy):
            raise TypeError(f"Recovery samples a RecoveryEnergy, got {type(denoiser).__name__}: use Langevin.")
        a, std, square, recovery = denoiser.bridge(t, s, xt)
        y = xt.detach()
        for _ in range(self.moves):
            with torch.enable_grad():
                x = y.requires_grad_()
                (pull,) = torch.autograd.grad(denoiser.energy(x, s).sum(), x)
            # (d^2 / 2) grad (f / d^2): the step cancels the scale of the energy.
            drift = 0.5 * pull + 0.5 * square * recovery * (xt - y) / std**2
            y = (y + drift + self.noise * square.sqrt() * noise.normal(y)).detach()
        return y / a, memory


class Contrastive(nn.Module):
    """(s_1 / s_{t+1}) (f(y-) - f(y+)) at a uniform level of each sample; y- is detached.

    Source: Gao et al. 2021 (2012.08125) algorithm 1; public code for the weight.
    """

    def __init__(self, denoiser: RecoveryEnergy, sampler: Recovery) -> None:
        super().__init__()
        self.denoiser, self.sampler = denoiser, sampler

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); below 0 where the data are preferred."""
        denoiser, process = self.denoiser, self.denoiser.process
        grid = x0.new_tensor(denoiser.times[::-1], dtype=torch.float64)
        level = noise.choice(torch.ones(len(x0), len(grid) - 1, dtype=torch.float64)).to(x0.device)
        s, t = grid[level], grid[level + 1]
        xs = process.marginal(x0, s).sample(noise)
        xt = process.forward(xs, s, t).sample(noise)
        lower, _ = self.sampler.step(denoiser, xt, t, s, None, noise)
        a, std, _, _ = denoiser.bridge(t, s, x0)
        first = denoiser.bridge(grid[1], grid[0], x0[:1])[1]
        weight = (first / std).flatten()
        gap = denoiser.energy(a * lower.detach(), s) - denoiser.energy(a * xs, s)
        return weight * gap
