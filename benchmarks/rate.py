"""Pictures a second of `sfumato sample`, and what a million of them cost: the measured rate times the count.

    python benchmarks/rate.py --model fashion --steps 50 --batch 16 --blocks 2

Prints the time to load (once a process), the median time of a block with its spread, and the arithmetic for 10^6
pictures on one process and on 64. On a CPU a block counts by its processor time (of one thread: OMP_NUM_THREADS=1),
which what else the machine does changes least. Disk and price follow from the same count. Blocks do not speak to each
other, so n processes on machines of this kind take 1/n of the time, beside the loading.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sfumato import engines
from sfumato.cli.sample import Blocks, Settings
from sfumato.cli.shards import job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fashion")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=3, help="measured; one more runs first and is not counted")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--price", type=float, default=None, help="of an hour of one process; its cost is printed")
    arguments = parser.parse_args()
    work = Blocks(
        Settings(
            arguments.model,
            (arguments.blocks + 1) * arguments.batch,
            steps=arguments.steps,
            batch=arguments.batch,
            device=arguments.device,
        )
    )
    began = time.perf_counter()
    work()
    loading = time.perf_counter() - began
    with TemporaryDirectory() as folder:
        whole, walls, cores = job(work, work.wanted.n, arguments.batch), [], []
        before = (time.perf_counter(), time.process_time())
        for block, _ in engines.run(whole, work, Path(folder)):
            now = (time.perf_counter(), time.process_time())
            if block:
                walls.append(now[0] - before[0])
                cores.append(now[1] - before[1])
            before = now
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / work.wanted.n
    on_cpu = arguments.device == "cpu"
    middle = statistics.median(cores if on_cpu else walls)
    blocks = math.ceil(arguments.count / arguments.batch)
    hours = blocks * middle / 3600
    what = f"{torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name(arguments.device)
    print(f"{arguments.model}, {arguments.steps} steps, blocks of {arguments.batch}, {what}")
    print(f"loading {loading:.2f} s a process; a block {statistics.median(walls):.2f} s of wall ({min(walls):.2f} to "
          f"{max(walls):.2f}), {statistics.median(cores):.2f} s of processor ({min(cores):.2f} to {max(cores):.2f}), "
          f"medians of {len(walls)}")  # fmt: skip
    print(f"{'processor' if on_cpu else 'wall'} time counts: {arguments.batch} / {middle:.2f} s = "
          f"{arguments.batch / middle:.2f} pictures/s")  # fmt: skip
    print(f"{arguments.count} pictures / {arguments.batch} = {blocks} blocks; x {middle:.2f} s / 3600 = "
          f"{hours:.1f} h on one process")  # fmt: skip
    print(f"/ {arguments.workers} processes = {hours / arguments.workers:.2f} h each, + {loading:.0f} s of loading")
    print(f"disk: {arguments.count} x {size:.0f} bytes (files and records) = {arguments.count * size / 1e9:.2f} GB")
    if arguments.price is not None:
        print(f"cost: {hours:.1f} h x {arguments.price} = {hours * arguments.price:.2f}")


if __name__ == "__main__":
    main()
