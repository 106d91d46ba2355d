"""What the package costs before it does anything: seconds to import it and to ask for help, packages it brings.

Processor seconds of child processes, medians of several; import time is what `import sfumato` adds after
`import torch`.
Packages are those installed here, in the closure of the hard dependencies, beyond torch and numpy and what those need.
Run: `make bench`.
"""

from __future__ import annotations

import importlib.util
import re
import resource
import statistics
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

ROUNDS = 7
ADDED = """
import time, torch
start = time.process_time()
import sfumato
{then}
print(time.process_time() - start)
"""
NAMES = "for name in sfumato.__all__: getattr(sfumato, name, None)"
HELP = """
import sys
from sfumato.cli.main import run
sys.argv = ["sfumato", "--help"]
try:
    run()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "sfumato --help imports torch"
"""


def added(then: str = "") -> float:
    """Median processor seconds, inside one process, between `import torch` and the end of `import sfumato; then`."""
    command = [sys.executable, "-c", ADDED.format(then=then)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(ROUNDS)]
    return statistics.median(float(run.stdout) for run in runs)


def cpu_seconds(code: str) -> float:
    """Median processor seconds (user and system) of a Python process that runs `code`."""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)  # fills the caches
    found = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(found)


def closure(name: str, leave: frozenset[str] = frozenset()) -> set[str]:
    """Names of the installed packages that `name` needs, itself included, without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        key = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if key in found or key in leave:
            continue
        try:
            requires = distribution(key).requires or []
        except PackageNotFoundError:
            continue  # needed on another platform only
        found.add(key)
        for text in requires:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def megabytes(package: Distribution) -> float:
    """Size of a package's installed files."""
    sizes = (package.locate_file(file) for file in package.files or [])
    return sum(path.stat().st_size for path in sizes if path.is_file()) / 1e6  # type: ignore[attr-defined]


def main() -> int:
    """Prints each figure beside its bar; 1 if one is missed."""
    missed = 0

    def row(what: str, value: float, bar: float | None, unit: str) -> None:
        nonlocal missed
        verdict = "" if bar is None else ("ok" if value <= bar else "MISSED")
        missed += verdict == "MISSED"
        print(f"{what:58} {value:7.2f} {unit:9} {'' if bar is None else f'bar {bar:g}':9} {verdict}")

    row("import torch", cpu_seconds("import torch"), None, "s")
    row("import sfumato, after import torch", added(), 0.1, "s")
    row("import sfumato and every public name, after import torch", added(NAMES), None, "s")
    if importlib.util.find_spec("sfumato.cli.main"):
        row("sfumato --help (no torch inside)", cpu_seconds(HELP), 0.3, "s")
    else:
        print("sfumato --help: there is no command line yet")
    try:
        ours = closure("sfumato", frozenset(closure("torch") | {"numpy"})) - {"sfumato"}
    except PackageNotFoundError:
        ours = set()
    if ours:
        sizes = {name: megabytes(distribution(name)) for name in sorted(ours)}
        row("packages beyond torch and numpy", len(sizes), 16, "packages")
        row("their size", sum(sizes.values()), 60, "MB")
        print("  " + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items()))
    else:
        print("packages: sfumato is not installed here (pip install -e .)")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
