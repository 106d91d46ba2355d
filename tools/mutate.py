"""Do the tests notice a fault? Small faults are put into a file, one at a time, and its tests are run on each.

    python tools/mutate.py src/sfumato/grids.py [more files] [--tests tests/test_grids.py ...] [--most 60] [--seed 0]

A fault is a swapped operator or comparison, a changed number, a lost minus or `not`. The package is copied first; the
working tree is not touched. By default the tests are the files that name the module or something public it defines.
Each mutant runs in a fork of one process that has torch loaded. Survivors are printed with their line; the exit status
is 1 where fewer than 90 % of the mutants die. Run: `make mutate FILES=src/sfumato/grids.py`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
SECONDS = 120


def fault(node: ast.AST) -> ast.AST | None:
    """The node with one fault in it, or None where it has none to offer."""
    twin = copy.copy(node)
    if isinstance(twin, ast.BinOp | ast.BoolOp) and type(twin.op) in SWAPS:
        twin.op = SWAPS[type(twin.op)]()  # type: ignore[assignment]
    elif isinstance(twin, ast.Compare) and type(twin.ops[0]) in SWAPS:
        twin.ops = [SWAPS[type(twin.ops[0])](), *twin.ops[1:]]  # type: ignore[list-item]
    elif isinstance(twin, ast.UnaryOp) and isinstance(twin.op, ast.USub | ast.Not):
        return twin.operand
    elif isinstance(twin, ast.Constant) and type(twin.value) is bool:
        twin.value = not twin.value
    elif isinstance(twin, ast.Constant) and type(twin.value) in (int, float):
        twin.value = twin.value + 1  # type: ignore[operator]
    else:
        return None
    return twin


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """(line, what changed, whole source) for each fault; annotations, assertions and messages are left alone."""
    tree = ast.parse(source)
    for parent, field, index, node in places(tree):
        changed = fault(node)
        if changed is None:
            continue
        put(parent, field, index, changed)
        yield node.lineno, f"{ast.unparse(node)}  ->  {ast.unparse(changed)}", ast.unparse(tree)  # type: ignore[attr-defined]
        put(parent, field, index, node)


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """(parent, field, index in a list, child) of every node that runs."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Assert | ast.Raise):
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if isinstance(child, ast.AST):
                yield node, field, index, child
                yield from places(child)


def put(parent: ast.AST, field: str, index: int | None, child: ast.AST) -> None:
    """Sets one child of a node."""
    if index is None:
        setattr(parent, field, child)
    else:
        getattr(parent, field)[index] = child


def tests_of(path: Path) -> list[str]:
    """Test files that name the module or a public name that it defines."""
    tree = ast.parse(path.read_text("utf-8"))
    public = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name[0] != "_"]
    marks = re.compile(rf"\b({'|'.join([path.stem, *public])})\b")
    found = sorted((ROOT / "tests").rglob("test_*.py"), key=lambda p: (path.stem not in p.stem, str(p)))
    return [str(p) for p in found if p.stem not in ("test_project", "test_docs") and marks.search(p.read_text("utf-8"))]


def survives(package: Path, tests: list[str]) -> bool:
    """Whether the tests pass, in a fork of this process, with the package at `package`."""
    child = os.fork()
    if child == 0:
        import pytest

        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        signal_alarm()
        sys.path.insert(0, str(package))
        os.chdir(ROOT)
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def signal_alarm() -> None:
    """Ends this process after `SECONDS`: a fault that never returns counts as noticed."""
    import signal

    signal.alarm(SECONDS)


def main() -> int:
    """Runs the mutants of each file; 1 if too many survive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", help="test files; by default those that name the module")
    parser.add_argument("--most", type=int, default=60, help="mutants of one file, drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.dont_write_bytecode = True
    import numpy  # noqa: F401  # loaded once, before the forks
    import pytest  # noqa: F401
    import torch

    torch.set_num_threads(1)
    died = total = 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(ROOT / "src" / "sfumato", package / "sfumato", ignore=shutil.ignore_patterns("__pycache__"))
        for path in (file.resolve() for file in options.files):
            tests = options.tests or tests_of(path)
            place = package / path.relative_to(ROOT / "src")
            if not tests or not survives(package, tests):
                print(f"{path.relative_to(ROOT)}: no tests name it, or they fail without a fault")
                return 1
            found = list(mutants(path.read_text("utf-8")))
            chosen = random.Random(options.seed).sample(found, min(options.most, len(found)))
            lost = []
            for line, what, source in sorted(chosen):
                place.write_text(source, "utf-8")
                if survives(package, tests):
                    lost.append(f"  line {line}: {what}")
            place.write_text(path.read_text("utf-8"), "utf-8")
            died, total = died + len(chosen) - len(lost), total + len(chosen)
            print(f"{path.relative_to(ROOT)}: {len(chosen) - len(lost)} of {len(chosen)} mutants died", *lost, sep="\n")
    return int(died < 0.9 * total)


if __name__ == "__main__":
    sys.exit(main())
