"""CPU seconds for 200 futures of 48 steps of one series, against the same calls of the network alone.

    python benchmarks/paths.py

CSDI has windows of 128 steps in patches of 4 and is untrained (the time does not depend on the weights); TimeGrad has
its defaults with 12 calls a step. Sampler and grid are the library's default. The shipped `series` model looks back on
256 rows. Last, CSDI fills 10,000 windows, and the peak of memory is told.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import torch

import sfumato as sf
from sfumato.recipes import csdi, timegrad
from sfumato.samplers import Arc, paths
from sfumato.zoo.fill import fill

PATHS, HORIZON, LENGTH = 200, 48, 128
WINDOWS = 10_000
RECIPE = csdi.Recipe(
    width=64, blocks=3, heads=4, forward=128, dropout=0.0, scheme="v", strategy="any", horizon=48, patch=4, joint=True
)


def peak() -> float:
    """The most memory that this process has held, MB (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of one run, all threads together: whatever else the machine does."""
    began = time.process_time()
    run()
    return time.process_time() - began


@torch.no_grad()
def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20, help="calls of CSDI's network for one path")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mask = (torch.arange(LENGTH) < LENGTH - HORIZON).float().expand(1, 1, LENGTH)
    cond = {"observed": mask * 0.3, "mask": mask}
    many = {key: value.expand(PATHS, -1, -1) for key, value in cond.items()}

    filler = RECIPE.model().eval()
    times = sf.grids.default(filler.process, args.steps)  # type: ignore[arg-type]
    u, level = torch.zeros(PATHS, 1, LENGTH), torch.zeros(PATHS)
    floor = seconds(lambda: [filler.net(u, level, many) for _ in range(args.steps)])
    whole = seconds(lambda: paths(filler, cond, PATHS, times=times, sampler=Arc()))
    print(f"csdi      {whole:6.2f} s, its network alone {floor:6.2f} s, {args.steps} calls")

    model = timegrad.Recipe(horizon=HORIZON).model().eval()
    times, calls = sf.grids.default(model.process, 12), 12 * HORIZON  # type: ignore[arg-type]
    net, state = model.inner.net, {"state": torch.zeros(PATHS, 100)}  # type: ignore[attr-defined]
    floor = seconds(lambda: [net(torch.zeros(PATHS, 1), level, state) for _ in range(calls)])
    whole = seconds(lambda: paths(model, cond, PATHS, times=times, sampler=Arc()))
    print(f"timegrad  {whole:6.2f} s, its network alone {floor:6.2f} s, {calls} calls")

    shipped = sf.load("series")
    past = torch.sin(0.26 * torch.arange(256 - HORIZON))[None] + 0.1 * sf.Noise(0).normal(torch.empty(1, 256 - HORIZON))
    whole = seconds(lambda: fill(shipped, past.double(), PATHS, horizon=HORIZON, steps=args.steps))
    print(f"series    {whole:6.2f} s, {args.steps} calls")

    before, many = peak(), {key: value.expand(WINDOWS, -1, -1) for key, value in cond.items()}
    times = sf.grids.default(filler.process, 2)  # type: ignore[arg-type]
    whole = seconds(lambda: paths(filler, many, 1, times=times, sampler=Arc()))
    print(
        f"{WINDOWS} windows by csdi, 2 calls: {whole:.0f} s; peak of memory {before:.0f} MB before, {peak():.0f} after"
    )


if __name__ == "__main__":
    main()
