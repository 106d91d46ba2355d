"""What breaks installations, each looked for, with what to do about it: the second half of `sfumato doctor`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

DRIVER = Path("/proc/driver/nvidia/version")  # there where the kernel has NVIDIA's driver
LITTLE = 2**30  # bytes: a run of training keeps a few checkpoints of hundreds of MB
PATIENCE = 120  # seconds that an import may take
BESIDE = ("torchvision", "torchaudio")


class Ailment(NamedTuple):
    """What is wrong, and what to do."""

    what: str
    remedy: str


def ailments(core: Iterable[str], folder: Path | None = None) -> list[Ailment]:
    """All that was found; empty on a sound installation.

    Args:
        core: distributions that must be there.
        folder: where results would be written; the current folder.
    """
    folder = folder or Path.cwd()
    checks: tuple[Callable[[], Iterable[Ailment]], ...] = (
        lambda: missing(core),
        numpy_and_torch,
        beside_torch,
        graphics,
        lambda: places((folder, Path(tempfile.gettempdir()))),
        threads,
    )
    return [ailment for check in checks for ailment in check()]


def missing(core: Iterable[str]) -> Iterable[Ailment]:
    """Distributions that are needed and not installed."""
    for name in core:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Ailment(f"{name} is not installed", f"pip install {name}")


def numpy_and_torch() -> Iterable[Ailment]:
    """A torch built for another major version of numpy cannot share memory with it."""
    import numpy
    import torch

    try:
        torch.from_numpy(numpy.zeros(1))
    except RuntimeError as error:
        words = f"torch {torch.__version__} does not work with numpy {numpy.__version__} ({error})"
        yield Ailment(words, "pip install --upgrade torch numpy")


def beside_torch() -> Iterable[Ailment]:
    """torchvision and torchaudio must be of the very build of torch: otherwise whatever tries to import them dies."""
    for name in BESIDE:
        if importlib.util.find_spec(name) and (error := failure(name)):
            words = f"{name} is installed and cannot be imported ({error}): it was built for another torch"
            yield Ailment(words, f"pip uninstall {name}; sfumato does not use it")


def failure(name: str) -> str:
    """The last line of what importing a module in another process says, or nothing where it works."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE} seconds"
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def graphics() -> Iterable[Ailment]:
    """A GPU that this torch cannot reach."""
    import torch

    if torch.cuda.is_available() or not DRIVER.exists():
        return
    driver = DRIVER.read_text("utf-8").splitlines()[0]
    if torch.version.cuda is None:
        remedy = "install the CUDA build of torch (pytorch.org, Get Started), or go on with the CPU"
        yield Ailment(f"there is an NVIDIA GPU, but this torch is built for the CPU ({torch.__version__})", remedy)
    else:
        words = f"torch {torch.__version__} needs a driver for CUDA {torch.version.cuda} and cannot use this: {driver}"
        yield Ailment(words, "update the driver, or install a torch built for an older CUDA")


def places(folders: Iterable[Path]) -> Iterable[Ailment]:
    """Folders that cannot be written or are nearly full."""
    for folder in folders:
        try:
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
            free = shutil.disk_usage(folder).free
        except OSError as error:
            yield Ailment(f"{folder} cannot be written ({error.strerror})", "work in another folder, or give -o")
            continue
        if free < LITTLE:
            yield Ailment(f"{folder} has {free / 2**20:.0f} MiB left", "make room, or give -o on another disk")


def threads() -> Iterable[Ailment]:
    """More threads than processors: they wait for each other."""
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.get_num_threads() > allowed:
        words = f"torch runs {torch.get_num_threads()} threads on {allowed} processors"
        yield Ailment(words, f"export OMP_NUM_THREADS={allowed}")
