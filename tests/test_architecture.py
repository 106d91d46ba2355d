"""The shape of the package, read from its text: where imports point, where numbers are drawn, one file per method."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import sfumato

ROOT = Path(sfumato.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")  # the lazy __getattr__ is exempt

# Each part and what it may import beyond itself, as design.md draws the arrows.
BASE = {"noise", "laws", "estimate"}
CORE = BASE | {"processes", "denoisers"}
BESIDE = {"operators", "codecs", "nets"}  # these know torch, numpy and `noise` only, and one another
MIDDLE = CORE | BESIDE | {"worlds", "guides", "grids", "samplers", "likelihood"}
UPPER = MIDDLE | {"solvers", "training", "metrics", "data"}
ALLOWED = {
    "noise": set(),
    "estimate": set(),
    "laws": {"noise"},
    "processes": BASE,
    "denoisers": BASE | {"processes"},
    "operators": {"noise", "codecs"},
    "codecs": {"noise", "nets"},
    "nets": {"noise"},
    **dict.fromkeys(("worlds", "guides", "grids", "samplers", "likelihood"), MIDDLE),
    "solvers": MIDDLE,
    **dict.fromkeys(("training", "metrics", "data"), UPPER),
    "recipes": UPPER,
    "zoo": UPPER | {"recipes"},
    "engines": UPPER | {"recipes", "zoo"},
    "baselines": UPPER,  # what a user would otherwise pick, to compare with
    "demo": UPPER | {"recipes", "zoo", "baselines"},
    "bench": UPPER | {"recipes", "zoo", "baselines"},  # what `sfumato bench` measures
    "cli": UPPER | {"recipes", "zoo", "engines", "baselines", "demo", "bench"},
    "__main__": {"cli"},
}


def part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield node.lineno, "." * node.level + module
            if module == "sfumato":
                yield from ((node.lineno, f"sfumato.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    here = part(path)
    assert here in ALLOWED, f"{here} has no place among the arrows: add it to design.md and to this list."
    for line, name in imports(path):
        assert not name.startswith("."), f"{path}:{line}: import by full name, not {name!r}"
        pieces = name.split(".")
        if pieces[0] == "sfumato" and len(pieces) > 1 and not pieces[1].startswith("_"):
            assert pieces[1] == here or pieces[1] in ALLOWED[here], f"{path}:{line}: {here} must not import {name}"


def test_the_arrows_have_no_cycle() -> None:
    order = ["noise", "estimate", "laws", "processes", "denoisers", "nets", "codecs", "operators"]
    for i, name in enumerate(order):
        assert ALLOWED[name] <= set(order[:i])


HEAVY = {
    "torchvision",
    "torchaudio",
    "hydra",
    "lightning",
    "gradio",
    "pyiqa",
    "k_diffusion",
    "pypots",
    "deepinv",
    "lpips",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_never_imported(path: Path) -> None:
    for line, name in imports(path):
        assert name.split(".")[0] not in HEAVY, f"{path}:{line}: {name}"


DRAWS = {
    "rand",
    "randn",
    "randint",
    "randperm",
    "rand_like",
    "randn_like",
    "randint_like",
    "normal",
    "bernoulli",
    "multinomial",
    "poisson",
}
INPLACE = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_"}


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "noise.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_bare_randomness(path: Path) -> None:
    """Every number is drawn by a Noise. `nn.init` at construction of a network is torch's own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        where = f"{path}:{node.lineno}: {owner}.{node.attr}"
        assert not (owner == "torch" and node.attr in DRAWS), where
        assert not (owner in ("np", "numpy") and node.attr == "random"), where
        assert node.attr not in INPLACE or owner.endswith("init"), where
    assert not any(name == "random" or name.startswith("numpy.random") for _, name in imports(path)), path


def binds_recipe(path: Path) -> bool:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "Recipe":
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(t, ast.Name) and t.id == "Recipe" for t in targets):
            return True
    return False


def test_one_file_for_one_key() -> None:
    keys = Counter(path.stem for path in FILES if binds_recipe(path))
    assert {"ddim", "cfg", "heun"} <= set(keys)
    assert [key for key, n in keys.items() if n > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_short(path: Path) -> None:
    assert path.stem != "utils"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, "look for the second idea in it"
