"""Averages of weights whose length is chosen after training: power-function profiles, and any other from a few of them.

With profile exponent g the average of theta over steps 1 .. t has weights proportional to tau^g,

    theta_g(t) = (g + 1) / t^(g + 1) integral_0^t tau^g theta(tau) dtau,

whose relative width is s = sqrt((g + 1) / ((g + 2)^2 (g + 3))): s = 0.10 is g = 6.94, s = 0.05 is g = 16.97. Snapshots
of two such averages, kept now and then, span the averages of other widths: `reconstruct` finds the least-squares mix.

Source: Karras et al. 2024 (2312.02696) section 3 and appendix C.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.training.ema import follow
from sfumato.training.sharding import tensors


class Profile(NamedTuple):
    """The profile of one average: its exponent, and the step at which it was taken."""

    exponent: float
    step: float


def exponent_of(width: float) -> float:
    """The exponent g whose relative width is `width`: the largest root of g^3 + 7 g^2 + (16 - w) g + 12 - w, w = s^-2.

    Raises:
        ValueError: outside (0, 0.288), where no profile with g >= 0 is.

    Source: Karras et al. 2024 (2312.02696) eq. 126, algorithm 2.
    """
    if not 0.0 < width < width_of(0.0):
        raise ValueError(f"the relative width of a profile lies between 0 and {width_of(0.0):.4f}, got {width}.")
    w = width**-2
    return float(np.roots([1.0, 7.0, 16.0 - w, 12.0 - w]).real.max())


def width_of(exponent: float) -> float:
    """sqrt((g + 1) / ((g + 2)^2 (g + 3))). Source: Karras et al. 2024 (2312.02696) eq. 123."""
    return float(np.sqrt((exponent + 1.0) / ((exponent + 2.0) ** 2 * (exponent + 3.0))))


class PowerEma:
    """Averages of a module's weights with one power-function profile for each width.

    At step t the decay is (1 - 1/t)^(g + 1): the first update copies the weights. Buffers are copied.

    Args:
        module: what is averaged.
        widths: relative widths s of the profiles.

    Attributes:
        averages: a copy of the module for each width.

    Source: Karras et al. 2024 (2312.02696) eq. 127.
    """

    def __init__(self, module: nn.Module, widths: Sequence[float] = (0.05, 0.10)) -> None:
        self.exponents = tuple(exponent_of(width) for width in widths)
        self.averages = [copy.deepcopy(module).requires_grad_(False).eval() for _ in widths]
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves every average towards the module's weights."""
        self.updates += 1
        theirs = tensors(module)
        for exponent, average in zip(self.exponents, self.averages, strict=True):
            share = 1.0 - (1.0 - 1.0 / self.updates) ** (exponent + 1.0)
            follow(average, theirs, share)

    def snapshots(self) -> list[tuple[Profile, dict[str, Tensor]]]:
        """(profile, a copy of the averaged weights) of each average, to keep now and then."""
        return [
            (Profile(exponent, self.updates), {k: v.detach().clone() for k, v in average.state_dict().items()})
            for exponent, average in zip(self.exponents, self.averages, strict=True)
        ]


def mixing(stored: Sequence[Profile], wanted: Profile) -> list[float]:
    """Weights, summing to one, of the stored averages in the mix whose profile is nearest to the wanted one.

    They solve A w = b, A_ij = <p_i, p_j>, b_i = <p_i, p>, with

        <p_a, p_b> = (g_a + 1) (g_b + 1) (t_a / t_b)^e / ((g_a + g_b + 1) max(t_a, t_b)),
        e = g_b if t_a < t_b else -g_a,

    and are then divided by their sum. Source: Karras et al. 2024 (2312.02696) eq. 151, algorithm 3.
    """
    A = np.array([[_overlap(a, b) for b in stored] for a in stored])
    b = np.array([_overlap(a, wanted) for a in stored])
    # Profiles of nearby steps are nearly parallel: least squares is steadier than the inverse.
    w = np.linalg.lstsq(A, b, rcond=1e-14)[0]
    return [float(v) for v in w / w.sum()]


def reconstruct(
    snapshots: Sequence[tuple[Profile, Mapping[str, Tensor]]], width: float, step: float | None = None
) -> dict[str, Tensor]:
    """The weights averaged with a profile of relative width `width` at `step`, from what was stored: a state_dict.

    Numbers that are not floating point are those of the last snapshot.

    Args:
        snapshots: what `PowerEma.snapshots` gave over the run, in any order.
        step: where the profile ends; the last of the snapshots if not given. Those after it are left out.

    Raises:
        ValueError: if there is no snapshot up to `step`.
    """
    end = max((profile.step for profile, _ in snapshots), default=0.0) if step is None else step
    kept = [(profile, state) for profile, state in snapshots if profile.step <= end]
    if not kept:
        raise ValueError(f"there is no snapshot up to step {end}: keep some of `PowerEma.snapshots()` while training.")
    weights = mixing([profile for profile, _ in kept], Profile(exponent_of(width), end))
    last = max(kept, key=lambda pair: pair[0].step)[1]
    return {key: _mixed(key, weights, kept) if last[key].is_floating_point() else last[key] for key in last}


def _mixed(key: str, weights: Sequence[float], kept: Sequence[tuple[Profile, Mapping[str, Tensor]]]) -> Tensor:
    """Summed in float64: the weights are large and of both signs."""
    parts = [w * state[key].double() for w, (_, state) in zip(weights, kept, strict=True)]
    return torch.stack(parts).sum(0).to(kept[0][1][key].dtype)


def _overlap(a: Profile, b: Profile) -> float:
    power = b.exponent if a.step < b.step else -a.exponent
    top = (a.exponent + 1.0) * (b.exponent + 1.0) * (a.step / b.step) ** power
    return top / ((a.exponent + b.exponent + 1.0) * max(a.step, b.step))
