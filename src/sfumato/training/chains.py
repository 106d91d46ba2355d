"""Chains in two directions: learned steps, their simulation, and caches of what they leave behind.

A move is one step of a Markov chain on a grid of times, X <- mean(X, t) + std(X, t) Z. A chain runs up the grid or down
it; what is recorded of one direction is what the other is trained on (iterative proportional fitting).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.noise import Noise, Seeds
from sfumato.processes import Time, expand
from sfumato.samplers.sde import simulate


class Move(Protocol):
    """The law of the next state given x at time t: normal, with this mean and standard deviation."""

    def mean(self, x: Tensor, t: Time) -> Tensor: ...

    def std(self, x: Tensor, t: Time) -> Any: ...


def walk(move: Move, x: Tensor, times: Sequence[float], noise: Noise, *, quiet: bool = False) -> Iterator[Tensor]:
    """Yields the states after each step of the grid, (B, *event), by `simulate`.

    Args:
        quiet: the last step without noise.
    """
    after = dict(pairwise(times))

    def drift(x: Tensor, t: float) -> Tensor:
        return (move.mean(x, t) - x) / (after[t] - t)

    def diffusion(x: Tensor, t: float) -> Any:
        return 0.0 if quiet and after[t] == times[-1] else move.std(x, t) / math.sqrt(abs(after[t] - t))

    return simulate(drift, diffusion, x, times, noise)


class Reference:
    """X <- X + h f(X) + sqrt(2 h) Z: a Langevin step of length h, the same for every step between two times.

    Args:
        times: the grid, rising.
        force: f; None: Brownian motion.
    """

    def __init__(self, times: Sequence[float], force: Callable[[Tensor], Tensor] | None = None) -> None:
        self.lengths = {t: s - t for t, s in pairwise(times)}
        self.force = force

    def mean(self, x: Tensor, t: Time) -> Tensor:
        """X + h f(X)."""
        assert isinstance(t, float)
        return x if self.force is None else x + self.lengths[t] * self.force(x)

    def std(self, x: Tensor, t: Time) -> float:
        """sqrt(2 h)."""
        assert isinstance(t, float)
        return math.sqrt(2.0 * self.lengths[t])


class LearnedMove(nn.Module):
    """A network as a move: `net(x, t / T)` is the mean less x (drift form), or the mean itself.

    Args:
        net: `net(u, c_noise, cond)`; where `learned`, of twice the channels (axis 1), the second half
            log std - log sqrt(2 h).
        times: the grid in the order of this direction: rising, or falling.
        drift: the network predicts mean - x.
        learned: a standard deviation of its own, else sqrt(2 h).
    """

    def __init__(self, net: nn.Module, times: Sequence[float], *, drift: bool = True, learned: bool = False) -> None:
        super().__init__()
        self.net, self.drift, self.learned = net, drift, learned
        self.span = max(times)
        self.register_buffer("grid", torch.tensor(times, dtype=torch.float64), persistent=False)

    def mean(self, x: Tensor, t: Time) -> Tensor:
        """The mean of the next state, (B, *event)."""
        return self.both(x, t)[0]

    def std(self, x: Tensor, t: Time) -> Any:
        """The standard deviation of the step: sqrt(2 h), or what the network says."""
        if not self.learned and isinstance(t, float):
            return math.sqrt(2.0 * float(self._length(t)))
        return self.both(x, t)[1]

    def both(self, x: Tensor, t: Time) -> tuple[Tensor, Any]:
        """(mean, std) with one call of the network."""
        clock = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x)) / self.span
        out = self.net(x, clock, None)
        std = expand(torch.sqrt(2.0 * self._length(t)), x)
        if self.learned:
            out, log_factor = out.chunk(2, 1)
            std = std * torch.exp(log_factor)
        return (x + out if self.drift else out), std

    def _length(self, t: Time) -> Tensor:
        """h of the step that begins at t, by the nearest time of the grid."""
        grid: Tensor = self.grid  # type: ignore[assignment]
        times = torch.as_tensor(t, dtype=torch.float64, device=grid.device)
        index = (times.unsqueeze(-1) - grid[:-1]).abs().argmin(-1)
        return (grid[1:] - grid[:-1]).abs()[index]


class Transitions:
    """Recorded steps as training data of the opposite direction: items as (x_new, {"time", "target", "old"}).

        target = x_new + M(x_old) - M(x_new),   M the mean of the step that was taken.

    Args:
        new, old, target: (N, *event) each.
        time: (N,), that of `new`.

    Source: De Bortoli et al. 2021 (2106.01357) proposition 3, eq. 12 and 13.
    """

    def __init__(self, new: Tensor, old: Tensor, target: Tensor, time: Tensor) -> None:
        self.new, self.old, self.target, self.time = new, old, target, time

    @classmethod
    @torch.no_grad()
    def record(cls, move: Move, x: Tensor, times: Sequence[float], noise: Noise) -> Transitions:
        """Every step of one run of the chain from x, (B, *event): B (len(times) - 1) items, the last steps last."""
        news, olds, targets = [], [], []
        for t, new in zip(times, walk(move, x, times, noise)):
            news.append(new)
            olds.append(x)
            targets.append(new + move.mean(x, t) - move.mean(new, t))
            x = new
        reached = torch.tensor(times[1:], dtype=torch.float64).repeat_interleave(len(x))
        return cls(torch.cat(news), torch.cat(olds), torch.cat(targets), reached)

    def __len__(self) -> int:
        return len(self.new)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x_new, {"time", "target", "old"}) of these items; nothing is drawn."""
        return self.new[items], {"time": self.time[items], "target": self.target[items], "old": self.old[items]}


class Reversal(nn.Module):
    """The loss of a move on recorded transitions of the other direction, mean over the event, (B,).

    Mean matching, |mean(x_new) - target|^2; or, where the move learns its variance, -log N(x_old; mean, std^2), whose
    least is the exact reversal of a Gaussian chain. Source: De Bortoli et al. 2021 (2106.01357) eq. 12 and 13; the
    likelihood is (ours).
    """

    def __init__(self, move: LearnedMove) -> None:
        super().__init__()
        self.move = move

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        mean, std = self.move.both(x0, cond["time"].to(x0.device))
        if not self.move.learned:
            return (mean - cond["target"]).flatten(1).square().mean(1)
        return (0.5 * ((cond["old"] - mean) / std).square() + std.log()).flatten(1).mean(1)
