"""Grids of times: tuples of floats, falling from `start` to `end`, made by small functions.

The grid matters as much as the order of the solver: on exact mixtures `log_snr` makes a second-order sampler thirty
times as accurate as `uniform` at 50 steps. `default` names what the library runs where nothing else is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sfumato.processes import Gaussian, Table


def uniform(steps: int, *, start: float = 1.0, end: float = 0.0) -> tuple[float, ...]:
    """`steps` equal steps from `start` to `end`: steps + 1 times."""
    _positive(steps)
    return (*(start + (end - start) * i / steps for i in range(steps)), end)


def power(steps: int, *, power: float = 2.0, start: float = 1.0, end: float = 0.0) -> tuple[float, ...]:
    """`steps` equal steps in t^(1/power): the quadratic grid of DEIS at 2. Source: Zhang & Chen 2023 (2204.13902)."""
    times = uniform(steps, start=start ** (1.0 / power), end=end ** (1.0 / power))
    return (start, *(t**power for t in times[1:-1]), end)


def shifted(times: tuple[float, ...], k: float) -> tuple[float, ...]:
    """t' = k t / (1 + (k - 1) t) for each time: on the straight path log SNR moves by -2 log k, the ends stay.

    Once only: not on a grid that is shifted already. Source: Esser et al. 2024 (2403.03206) eq. 23.
    """
    if k <= 0.0:
        raise ValueError(f"the shift is a factor above 0, got {k}.")
    return tuple(k * t / (1.0 + (k - 1.0) * t) for t in times)


def log_snr(
    process: Gaussian, steps: int, *, low: float = -10.12, high: float = 9.21, start: float = 1.0, end: float = 0.0
) -> tuple[float, ...]:
    """`steps` steps, uniform in log SNR between two ends, with `start` before and `end` after.

    The inner ends are `low` and `high`, held to what the process reaches between start and end; the defaults are the
    ends of DDPM's training grid, sigma / alpha from 158 to 0.01. An end that the process reaches itself within the
    range is its own inner end.
    """
    _positive(steps)
    first, last = process.log_snr(start), process.log_snr(end)
    head = () if first >= low else (start,)
    tail = () if last <= high else (end,)
    inner = steps + 1 - len(head) - len(tail)
    if inner < 2:
        return (start, *_between(process, max(first, low), min(last, high), steps + 1)[1:-1], end)
    times = list(_between(process, max(first, low), min(last, high), inner))
    if not head:
        times[0] = start
    if not tail:
        times[-1] = end
    return (*head, *times, *tail)


def karras(
    process: Gaussian,
    steps: int,
    *,
    rho: float = 7.0,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    start: float = 1.0,
) -> tuple[float, ...]:
    """Karras' grid in sigma / alpha, held to what the process reaches, and t = 0 at the end where sigma(0) = 0.

    sigma_i = (sigma_max^(1/rho) + i / (steps - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, i = 0 .. steps - 1. It
    begins at `start`. On `EDM()`, whose sigma(0) is sigma_min, it is `uniform(steps - 1)`; end with `denoise=True`.
    Source: Karras et al. 2022 (2206.00364) eq. 5.
    """
    if steps < 2:
        raise ValueError(f"Karras' grid needs at least 2 steps, got {steps}.")
    high = min(sigma_max, _level(process, start))
    low = max(sigma_min, _level(process, 0.0))
    a, b = high ** (1.0 / rho), low ** (1.0 / rho)
    levels = [(a + i / (steps - 1) * (b - a)) ** rho for i in range(steps)]
    times = [start, *(process.time_of(-2.0 * math.log(level)) for level in levels[1:])]
    return tuple(times) if _level(process, 0.0) > 0.0 else (*times, 0.0)


def arc(
    process: Gaussian,
    steps: int,
    *,
    power: float = 2.0,
    radius: float = 1.0,
    low: float = 0.002,
    start: float = 1.0,
    end: float = 0.0,
) -> tuple[float, ...]:
    """`steps` steps, uniform in a root of the angle theta = atan2(sigma, radius alpha), for `samplers.Arc` (ours).

        theta_i = (theta_0^(1/power) (1 - i/m) + theta_m^(1/power) i/m)^power,  i = 0 .. m = steps - 1,  then `end`.

    The angle is finite at both ends, so that the rule needs no inner ends: theta_m makes the last step like the others,
    theta_end + (theta_0 - theta_end) / steps^power. It is held to sigma / (radius alpha) = `low` at least, and to the
    first level of a table, as networks are not trained below; the smallest level thus follows the number of steps.

    Args:
        power: 1 is uniform in the angle; more puts more of the steps near the clean end. From 10 steps on 3 errs less
            than 2 on the exact worlds, and more on the shipped networks: hence 2.
        radius: as of the sampler.
        low: smallest sigma / (radius alpha) before the end; 0.002 is EDM's sigma_min, the end of `karras` as well.
    """
    _positive(steps)
    first, last = (math.atan(_level(process, t) / radius) for t in (start, end))
    if isinstance(process, Table):
        low = max(low, _level(process, 1.0 / process.steps) / radius)
    inner = max(last + (first - last) / steps**power, math.atan(low))
    if inner >= first or steps == 1:
        return uniform(steps, start=start, end=end)
    a, b, m = first ** (1.0 / power), inner ** (1.0 / power), steps - 1
    angles = [(a + i / m * (b - a)) ** power for i in range(1, steps)]
    return (start, *(process.time_of(-2.0 * math.log(radius * math.tan(angle))) for angle in angles), end)


def default(process: Gaussian, steps: int, *, start: float = 1.0, end: float = 0.0) -> tuple[float, ...]:
    """The grid of `Model` and of solvers whose paper names none: `arc` with its defaults, for any process (ours).

    The sampler to run on it is `Arc`: of the pairs measured on exact worlds this one errs least from 10 calls on, and
    is at or near the best with fewer (`sfumato bench samplers`).
    """
    return arc(process, steps, start=start, end=end)


def levels_of(N: int, steps: int) -> tuple[float, ...]:
    """`steps` of the levels n / N of a chain of N steps, evenly spread from 1 on, and 0 at the end."""
    _positive(steps)
    if steps > N:
        raise ValueError(f"a chain of {N} levels cannot give {steps} steps.")
    return (*(round(N - i * N / steps) / N for i in range(steps)), 0.0)


def table(process: Table, steps: int, *, spacing: str = "trailing") -> tuple[float, ...]:
    """Integer steps n of a table as times n / N, and 0 at the end.

    Args:
        spacing: "trailing": N, N - N/steps, ..., (begins at the last level, as sampling should); "leading": the papers'
            0, N/steps, ... counted from the first level (never visits the last ones); "linspace": both ends, rounded;
            "quadratic": dense near clean, linspace(0, sqrt(0.8 N), steps)^2, as DDIM on CIFAR-10.

    Source: Lin et al. 2024 (2305.08891) table 2; Song et al. 2021 (2010.02502) appendix D.2 for the quadratic one.
    """
    _positive(steps)
    N = process.steps
    if steps > N:
        raise ValueError(f"this table has {N} levels: it cannot give {steps} steps.")
    if spacing == "trailing":
        return levels_of(N, steps)
    if spacing == "leading":
        levels = [1 + i * (N // steps) for i in reversed(range(steps))]
    elif spacing == "linspace":
        levels = [1 + round((N - 1) * i / max(steps - 1, 1)) for i in reversed(range(steps))]
    elif spacing == "quadratic":
        levels = [1 + int((math.sqrt(0.8 * N) * i / max(steps - 1, 1)) ** 2) for i in reversed(range(steps))]
    else:
        raise ValueError(f"spacing is trailing, leading, linspace or quadratic, got {spacing!r}.")
    return (*(n / N for n in levels), 0.0)


def free(process: Gaussian, betas: Sequence[float]) -> tuple[float, ...]:
    """The grid of a list beta_1 .. beta_S of its own: alpha^2 = prod_{i <= s} (1 - beta_i), s = S .. 1, and 0.

    It need not begin at t = 1: then `sample` wants a start of its own.

    Source: Kong et al. 2021 (2009.09761) appendix B.

    Raises:
        ValueError: for an empty list, or betas outside (0, 1).
    """
    if not betas or not all(0.0 < beta < 1.0 for beta in betas):
        raise ValueError(f"betas lie in (0, 1), one at least, got {tuple(betas)}.")
    log, found = 0.0, [0.0]
    for beta in betas:
        log += math.log1p(-beta)
        found.append(process.time_of(log - math.log(-math.expm1(log))))
    return tuple(reversed(found))


def travel(times: tuple[float, ...], *, jump: int = 10, repeats: int = 10) -> tuple[float, ...]:
    """The grid with time travel: after every `jump` steps, back up by `jump` and down again, `repeats` passes in all.

    A sampler's driver takes an upward step by adding noise. Source: Lugmayr et al. 2022 (2201.09865) algorithm 1 and
    its schedule of jumps; Wang et al. 2023 (2212.00490) section 3.4, travel length and repeat times.
    """
    if jump < 1 or repeats < 1:
        raise ValueError(f"jump and repeats are at least 1, got {jump} and {repeats}.")
    path = [times[0]]
    for first in range(0, len(times) - 1, jump):
        last = min(first + jump, len(times) - 1)
        down = list(times[first + 1 : last + 1])
        path += down
        # The last stretch ends at the clean end and is not repeated: from sigma = 0 nothing is left to resample.
        for _ in range(repeats - 1 if last < len(times) - 1 else 0):
            path += [times[first], *down]
    return tuple(path)


def _between(process: Gaussian, low: float, high: float, count: int) -> tuple[float, ...]:
    gap = (high - low) / max(count - 1, 1)
    return tuple(process.time_of(low + i * gap) for i in range(count))


def _level(process: Gaussian, t: float) -> float:
    log_snr: float = process.log_snr(t)
    return math.exp(-0.5 * log_snr)


def _positive(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"a grid needs at least 1 step, got {steps}.")
