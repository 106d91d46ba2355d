"""FastDPM: on fast sampling of diffusion probabilistic models (Kong & Ping 2021, 2106.00132)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sfumato.processes import Table, Time
from sfumato.samplers import DDIM

EXAMPLE = """\
python -c 'import torch, sfumato as sf; R = sf.recipes.load("fastdpm").Recipe(steps=10)
D = sf.GaussianWorld(torch.ones(1), torch.eye(1) * 0.04).denoiser(R.process())
x = sf.sample(D, R.sampler(), shape=(999, 1), times=R.times(), noise=sf.Noise(0)); print(x.mean(), x.std())'"""


@dataclass(frozen=True)
class Recipe:
    """Few steps for a network trained on T linear betas: noise levels are chosen, and the network is asked in between.

    Between integer steps n the paper continues the table by the Gamma function, which is exact at all of them,

        abar(n) = D^n Gamma(c + 1) / Gamma(c + 1 - n),   D = (last - first) / (T - 1),   c = (1 - first) / D,

    (n = 1 .. T; the paper counts from 0). "var" chooses S variances eta_i and finds the steps: abar(n_s) =
    prod_{i <= s} (1 - eta_i), with eta linear, from `first`, or quadratic, first (1 + i x)^2, and x such that the
    product ends at abar(T). "step" chooses integer steps: linear, or quadratic up to 0.8 T.

    It is the grid `times()` on the process `process()`, with the sampler `sampler()`: a DDIM step, kappa for eta. A
    denoiser whose network wants the step itself takes `clock`. The levels of the grid are exact; times between table
    entries are those of `Table`, linear in log SNR, which moves the label and not the level. A
    "step" grid that is quadratic begins below T: give `sample` a start, x1 of N(0, I). At 10 quadratic steps the public
    code stops its search for x short, and begins at step 617 of 1000.

    Args:
        train, first, last: T and the ends of the betas that the network was trained on.
        steps: S.
        choice: "var" or "step".
        schedule: "quadratic" (CIFAR-10) or "linear" (CelebA, LSUN).
        kappa: 0 deterministic, 1 ancestral (speech).

    Source: Kong & Ping 2021 (2106.00132) section 3, appendix A.
    """

    train: int = 1000
    first: float = 1e-4
    last: float = 0.02
    steps: int = 50
    choice: str = "var"
    schedule: str = "quadratic"
    kappa: float = 0.0

    def __post_init__(self) -> None:
        if self.choice not in ("var", "step") or self.schedule not in ("quadratic", "linear"):
            raise ValueError(
                f"choice is 'var' or 'step' and schedule 'quadratic' or 'linear', got {self.choice!r} and "
                f"{self.schedule!r}."
            )
        if not 2 <= self.steps <= self.train:
            raise ValueError(f"FastDPM takes 2 to {self.train} steps of this table, got {self.steps}.")

    def process(self) -> Table:
        """The table of T linear betas."""
        return Table.linear(self.train, self.first, self.last)

    def sampler(self) -> DDIM:
        """DDIM with eta = kappa."""
        return DDIM(self.kappa)

    def times(self) -> tuple[float, ...]:
        """The grid: S noise levels, from the noisiest down, and 0."""
        if self.choice == "step":
            return (*(n / self.train for n in reversed(self._chosen())), 0.0)
        process, times, log = self.process(), [], 0.0
        for eta in self.variances():
            log += math.log1p(-eta)
            times.append(process.time_of(log - math.log(-math.expm1(log))))
        return (1.0, *reversed(times[:-1]), 0.0)

    def variances(self) -> tuple[float, ...]:
        """eta_1 .. eta_S of "var": their product of 1 - eta is that of all T betas."""
        target, S = self._logs[-1], self.steps

        def chosen(x: float) -> list[float]:
            if self.schedule == "linear":
                return [self.first + (x - self.first) * i / (S - 1) for i in range(S)]
            return [self.first * (1.0 + i * x) ** 2 for i in range(S)]

        high = 1.0 if self.schedule == "linear" else (self.first**-0.5 - 1.0) / (S - 1)
        x = _bisected(lambda x: sum(math.log1p(-min(eta, 1.0 - 1e-16)) for eta in chosen(x)), 0.0, high, target)
        return tuple(chosen(x))

    def log_alpha_bar(self, n: float) -> float:
        """log abar at a fractional step n in [0, T], by the Gamma function from the integer below."""
        m = min(int(n), self.train - 1)
        f, slope = n - m, (self.last - self.first) / (self.train - 1)
        # Gamma(x) / Gamma(x - f) with x = c + 1 - m, where slope x = 1 - beta_{m+1} + slope. By Stirling's series for
        # large x, whose leading terms cancel by hand: lgamma(5e4) has no digits left for a beta of 1e-4.
        x = (1.0 - self.first) / slope + 1.0 - m
        if x < 50.0:
            return self._logs[m] + f * math.log(slope) + math.lgamma(x) - math.lgamma(x - f)
        gap = f * math.log(slope * x) - f - (x - f - 0.5) * math.log1p(-f / x)
        return self._logs[m] + gap + _series(x) - _series(x - f)

    def step_of(self, log_alpha_bar: float) -> float:
        """The fractional step n in [0, T] with this log abar; the nearer end where there is none.

        Below n = 1 the continuation falls only if D < 2 first, as it does for tables of many steps.
        """
        return _bisected(self.log_alpha_bar, 0.0, float(self.train), log_alpha_bar)

    def clock(self, t: Time) -> Time:
        """The step that the paper's network is asked at, n - 1, from 0 to T - 1: for `Preconditioned(clock=...)`."""
        if isinstance(t, Tensor):
            return t.new_tensor([self.clock(float(v)) for v in t.flatten()]).reshape(t.shape)
        log_snr = self.process().log_snr(t)
        return self.step_of(-math.log1p(math.exp(-log_snr))) - 1.0 if log_snr < 700.0 else -1.0

    def _chosen(self) -> list[int]:
        """The integer steps of "step", rising, from 1."""
        S, T = self.steps, self.train
        if self.schedule == "linear":
            return [1 + i * (T - 1) // (S - 1) for i in range(S)]
        return [1 + int((math.sqrt(0.8 * T) * i / (S - 1)) ** 2) for i in range(S)]

    @cached_property
    def _logs(self) -> list[float]:
        """log abar at n = 0 .. T."""
        logs = [0.0]
        for i in range(self.train):
            logs.append(logs[-1] + math.log1p(-(self.first + (self.last - self.first) * i / (self.train - 1))))
        return logs


def _bisected(falling: Callable[[float], float], low: float, high: float, target: float) -> float:
    """x in [low, high] with falling(x) = target, to rounding."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return high


def _series(x: float) -> float:
    """The correction of Stirling's formula for log Gamma(x), to 1e-16 from x = 50 on."""
    return 1.0 / (12.0 * x) - 1.0 / (360.0 * x**3) + 1.0 / (1260.0 * x**5)
