"""DSB: diffusion Schroedinger bridge (De Bortoli et al. 2021, 2106.01357)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sfumato.noise import Noise
from sfumato.samplers.sde import last
from sfumato.training import Ema, Source, fit
from sfumato.training.chains import LearnedMove, Move, Reference, Reversal, Transitions, walk

EXAMPLE = "python benchmarks/bridges.py dsb"

Refill = Callable[[int], Transitions]  # a new cache, by its number
Fitter = Callable[[tuple[float, ...], Refill, int], Move]  # (times of the direction, refill, half round) -> move


class Half(NamedTuple):
    """What half a round of iterative proportional fitting leaves: its number from 1 and the two chains."""

    index: int  # type: ignore[assignment]
    forward: Move
    backward: Move


@dataclass(frozen=True)
class Recipe:
    """Transport between two laws by alternately reversing a chain, each time started at the law of its own end.

    On the grid 0 = t_0 < .. < t_N with steps g_k = t_k - t_{k-1}, the reference is X + g f(X) + sqrt(2 g) Z. Of the
    forward chain with means F_k the backward one is learned, and of that the forward one again:

        L_B = E |B(X_{k+1}) - (X_{k+1} + F_k(X_k) - F_k(X_{k+1}))|^2,   X_0 ~ data,
        L_F = E |F(X_k) - (X_k + B_{k+1}(X_{k+1}) - B_{k+1}(X_k))|^2,   X_N ~ prior,

    on cached trajectories, which averaged networks make. The first half round is a score-based model. The defaults are
    those of the 2-d experiments; their code takes no average there. Each half round begins with a new network, as there
    (`warm`: with the one before). The steps of the schedule rise from `first` to `last` and fall again; walked down,
    they are taken in reverse, and the network is told the time that it is at (the public code indexes both directions
    from the start and is one step off: ours).

    Limits: both directions keep the variance 2 g, so even perfect fits miss the end's law by O(g), and further rounds
    drift away from the bridge: stop after a few. `learned=True` fits a variance by likelihood (ours), exact on
    Gaussian data. Two data sets, or a data set and a prior, are two sources:

        recipe = Recipe(rounds=5)
        for half in recipe.train(net, start, end, seed=0): ...      # start, end: (n, noise) -> (n, *event)
        x1 = recipe.transport(half.forward, x0, sf.Noise(0));  x0 = recipe.transport(half.backward, x1, ..., down=True)

    Source: De Bortoli et al. 2021 (2106.01357) algorithm 1, eq. 12 and 13, appendix J; MIT code of the authors.
    """

    steps: int = 20  # N
    first: float = 0.01  # step size at both ends
    last: float = 0.01  # step size in the middle
    rounds: int = 20  # of two halves each
    iterations: int = 10_000  # optimizer steps of a half round
    batch: int = 512
    rate: float = 1e-4  # of Adam
    decay: float = 0.999  # of the average that makes the trajectories
    cache: int = 10_000  # trajectories held
    refresh: int = 100  # optimizer steps between caches
    drift: bool = True  # the network predicts mean - x; False: the mean
    learned: bool = False  # each direction learns its variance (ours); the net has twice the channels
    warm: bool = False  # a half round goes on with the network of the round before

    def times(self) -> tuple[float, ...]:
        """t_0 = 0 to t_N, the sum of all steps; the sizes are linear up to the middle and mirrored after it."""
        half = (self.steps + 1) // 2
        gap = (self.last - self.first) / max(half - 1, 1)
        up = [self.first + i * gap for i in range(half)]
        return (0.0, *accumulate([*up, *reversed(up[: self.steps - half])]))

    def reference(self, force: Callable[[Tensor], Tensor] | None = None) -> Reference:
        """The chain of the first half round: Brownian motion, or with f, such as the score of a Gaussian prior."""
        return Reference(self.times(), force)

    def alternate(
        self, start: Source, end: Source, fitter: Fitter, noise: Noise, *, reference: Move | None = None
    ) -> Iterator[Half]:
        """Yields each half round: backward, forward, backward ...

        Args:
            start, end: draws of the two laws.
            fitter: makes the move of a direction from caches of the opposite one.
            reference: Brownian motion if not given.
        """
        up = self.times()
        down = up[::-1]
        forward: Move = reference or self.reference()
        for index in range(1, 2 * self.rounds + 1):
            if index % 2:
                backward = fitter(down, self._recorder(forward, start, up, noise), index)
            else:
                forward = fitter(up, self._recorder(backward, end, down, noise), index)
            yield Half(index, forward, backward)

    def _recorder(self, move: Move, source: Source, times: tuple[float, ...], noise: Noise) -> Refill:
        return lambda i: Transitions.record(move, source(self.cache, noise), times, noise)

    def train(
        self,
        net: Callable[[], nn.Module],
        start: Source,
        end: Source,
        *,
        seed: int = 0,
        reference: Move | None = None,
        report: Callable[[int, int, float], object] | None = None,
    ) -> Iterator[Half]:
        """Yields each half round, trained: the moves are networks, averaged.

        Args:
            net: makes an untrained network `net(u, c_noise, cond)`.
            report: told (half round, optimizer step, loss) at every step.
        """
        return self.alternate(start, end, self.fitter(net, seed, report), Noise(seed), reference=reference)

    def fitter(
        self, net: Callable[[], nn.Module], seed: int = 0, report: Callable[[int, int, float], object] | None = None
    ) -> Fitter:
        """A fitter that trains a network by Adam on caches that are renewed every `refresh` steps."""
        kept: dict[bool, nn.Module] = {}

        def make(times: tuple[float, ...], refill: Refill, index: int) -> Move:
            rising = times[-1] > times[0]
            inner = copy.deepcopy(kept[rising]) if self.warm and rising in kept else net()
            objective = Reversal(LearnedMove(inner, times, drift=self.drift, learned=self.learned))
            ema = Ema(objective, self.decay)
            optimizer = torch.optim.Adam(objective.parameters(), self.rate)
            for done in range(0, self.iterations, self.refresh):
                for step in fit(
                    objective,
                    refill(done // self.refresh),
                    optimizer,
                    steps=min(done + self.refresh, self.iterations),
                    start=done,
                    batch=self.batch,
                    seed=seed + index,
                    ema=ema,
                ):
                    if report is not None:
                        report(index, step.index, step.loss)
            kept[rising] = inner
            average: Reversal = ema.average  # type: ignore[assignment]
            return average.move

        return make

    @torch.no_grad()
    def transport(self, move: Move, x: Tensor, noise: Noise, *, down: bool = False) -> Tensor:
        """The end of the chain from x, (B, *event): up, or `down` from the far end; the last step without noise."""
        times = self.times()
        return last(walk(move, x, times[::-1] if down else times, noise, quiet=True))
