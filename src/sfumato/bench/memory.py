"""Peak memory of a piece of work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """A list that holds, at the end, the MiB that the work needed beyond what was held before it.

    On CUDA the allocator's figure; on Linux that of the process's resident memory, which the kernel lets one reset;
    nothing elsewhere.
    """
    found: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        found.append((torch.cuda.max_memory_allocated(device) - before) / 2**20)
        return
    try:
        _RESET.write_text("5")
        start = _resident("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found.append(max(_resident("VmHWM") - start, 0.0) / 2**10)


def _resident(name: str) -> float:
    """A line of the process's status, in KiB."""
    lines = _STATUS.read_text("utf-8").splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[1])
