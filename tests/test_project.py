"""The promises of the frame: dependencies, versions, what is in the tree, what an import costs and pulls in."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sfumato as sf

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FORBIDDEN = (
    "torchvision", "torchaudio", "hydra-core", "lightning", "pytorch-lightning", "gradio", "pyiqa", "lpips",
    "flow-matching", "k-diffusion", "pypots", "deepinv", "bm3d",
)  # fmt: skip
needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="reads the list of files from git"
)


def tracked() -> list[Path]:
    """Files of the repository: tracked ones, and new ones that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def python(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh interpreter with `path` before everything else."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT / "src")])}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def requirements() -> list[str]:
    """Every requirement of the project, hard ones and extras, and of the build."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"], *(r for e in extras for r in e)]


# Dependencies


def test_no_forbidden_dependency() -> None:
    names = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower().replace("_", "-") for text in requirements()}
    assert not names & set(FORBIDDEN)


def test_hard_dependencies_are_the_short_list() -> None:
    names = {re.split(r"[^a-z]", text)[0] for text in PROJECT["project"]["dependencies"]}
    assert names == {"torch", "numpy", "pillow", "safetensors", "tqdm", "pyyaml", "pydantic", "typer"}
    assert "torch>=2.6" in PROJECT["project"]["dependencies"]


def test_all_is_every_extra_but_ray_and_dev() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"sfumato\[(.*)\]", everything)
    assert named and set(named.group(1).split(",")) == set(extras) - {"ray", "dev", "all"}


def test_nothing_imports_a_forbidden_package() -> None:
    modules = {name.replace("-", "_") for name in FORBIDDEN} | {"hydra"}
    for folder in ("src", "tests", "benchmarks", "tools", "gallery"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.partition(".")[0] for name in names} & modules, path


# Imports


def test_a_broken_torchvision_breaks_nothing_and_an_import_is_lazy(tmp_path: Path) -> None:
    for name in ("torchvision", "torchaudio"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise OSError('a build that does not fit')")
    code = """
import sys
import sfumato
assert "torch" not in sys.modules, "import sfumato imports torch before it is needed"
for name in sfumato.__all__:
    try:
        getattr(sfumato, name)
    except AttributeError as error:
        assert "sfumato." in str(error), error  # a name whose module is not written yet
assert "torch" in sys.modules and "torchvision" not in sys.modules and "torchaudio" not in sys.modules
assert "matplotlib" not in sys.modules and "scipy" not in sys.modules, "an extra is imported at module level"
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_public_names_agree() -> None:
    text = (ROOT / "src/sfumato/__init__.py").read_text("utf-8")
    assert sorted(sf._MODULES) + sorted(sf._NAMES) == sorted(sf._MODULES) + sorted(set(sf.__all__) - set(sf._MODULES))
    assert set(sf._MODULES) <= set(sf.__all__) <= set(dir(sf))
    block = text.partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    seen = set(re.findall(r"\b\w+\b", block))
    assert set(sf.__all__) <= seen, "a public name is missing from the block that type checkers read"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sf.nonsense  # noqa: B018


def public_objects() -> list[tuple[str, object]]:
    """(dotted name, object) of what the modules of the surface export, with the public methods they define."""
    found: list[tuple[str, object]] = []
    for module_name in sorted({*(f"sfumato.{name}" for name in sf._MODULES), *sf._NAMES.values()}):
        module = importlib.import_module(module_name)
        found.append((module_name, module))
        exported = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
        for name in exported:
            value = getattr(module, name)
            if not callable(value) or not getattr(value, "__module__", "").startswith("sfumato"):
                continue
            found.append((f"{module_name}.{name}", value))
            if isinstance(value, type):
                parts = ((n, v) for n, v in vars(value).items() if not n.startswith("_"))
                found += [(f"{module_name}.{name}.{n}", v) for n, v in parts if callable(v) and inherits_no(value, n)]
    return found


def inherits_no(cls: type, name: str) -> bool:
    """Whether no class above has a method of this name, whose docstring would speak for it."""
    return not any(hasattr(base, name) for base in cls.__mro__[1:])


def test_every_public_name_is_documented() -> None:
    silent = []
    for name, value in public_objects():
        text = getattr(value, "__doc__", None) or ""
        made_up = isinstance(value, type) and text.startswith(f"{value.__name__}(")  # a dataclass without a docstring
        if isinstance(value, type(ast)) and not Path(value.__file__ or "").read_text("utf-8").strip():
            continue  # a package that is still empty
        if not text.strip() or made_up:
            silent.append(name)
    assert not silent


# Version, licence, pages


def test_versions_agree() -> None:
    version = sf.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1] == version  # type: ignore[index]
    assert "version" in PROJECT["project"]["dynamic"]


def test_licence_is_apache() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")[:300]
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "license: Apache-2.0" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text("utf-8")):
            if page.parent / target == ROOT / "docs" / "methods.md" and not hasattr(sf.recipes, "catalogue"):
                continue  # written once the catalogue is here
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_extras_on_the_page_are_those_of_the_project() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (ROOT / "docs/index.md").read_text("utf-8"), re.MULTILINE))
    extras = PROJECT["project"]["optional-dependencies"]
    assert rows == {name: ", ".join(needs) for name, needs in extras.items() if name not in ("all", "dev")}


# The tree


@needs_git
def test_no_machine_paths() -> None:
    marks = re.compile(rb"/(?:work|root|home|Users)/[A-Za-z0-9_.-]+/")
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data[:8192] and path != Path(__file__):
            found = marks.search(data)
            assert not found, f"{path.relative_to(ROOT)}: {found and found.group()!r}"


@needs_git
def test_files_are_small() -> None:
    weights = 0
    for path in tracked():
        size = path.stat().st_size
        if path.suffix == ".safetensors":
            weights += size
        else:
            assert size <= 2_000_000, f"{path.relative_to(ROOT)} has {size} bytes"
        assert path.suffix not in (".pt", ".pth", ".pkl", ".ckpt"), f"{path.relative_to(ROOT)} would be unpickled"
    assert weights < 40_000_000


@needs_git
def test_notebooks_and_build_outputs_stay_out() -> None:
    for path in tracked():
        assert path.suffix not in (".ipynb", ".pyc", ".whl"), path
        assert "__pycache__" not in path.parts and ".venv" not in path.parts


# The Makefile

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a copy of the Makefile beside an empty project."""
    shutil.copy(ROOT / "Makefile", folder)
    if not (folder / "pyproject.toml").exists():
        (folder / "pyproject.toml").touch()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "TORCH", "VENV", "PYTHON"))}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True)


def fake(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@needs_make
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 1", "needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_make_stops_with_one_sentence(tmp_path: Path, script: str, sentence: str) -> None:
    old = fake(tmp_path / "old", script)
    done = make(tmp_path, "test", f"PYTHON={old}")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0 and len(said) == 1 and sentence in said[0]
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_make_says_so_where_there_is_no_python(tmp_path: Path) -> None:
    done = make(tmp_path, "test", f"PYTHON={tmp_path / 'absent'}")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0 and len(said) == 1 and "needs Python 3.11" in said[0]


@needs_make
def test_make_asks_the_registry_once(tmp_path: Path) -> None:
    """With a Python that writes down what it is asked: pip runs at first, for another torch, and not otherwise."""
    log = tmp_path / "log"
    inner = f'echo "$@" >> {log}'
    making = f"mkdir -p .venv/bin; printf '#!/bin/sh\\n%s\\n' '{inner}' > .venv/bin/python; chmod +x .venv/bin/python"
    fake(tmp_path / "python", f'case "$*" in "-m venv "*) {making};; esac')

    def asked(*arguments: str, **environment: str) -> list[str]:
        log.write_text("")
        done = make(tmp_path, ".venv/.dev", f"PYTHON={tmp_path / 'python'}", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return [line.partition("--disable-pip-version-check ")[2] for line in log.read_text().splitlines()]

    assert asked() == ["torch==2.13.0", "-e .[dev]"]
    assert asked() == []
    assert asked("TORCH=torch>=2.6 --pre") == ["torch>=2.6 --pre", "-e .[dev]"]
    assert asked("TORCH=torch>=2.6 --pre") == []
    assert asked() == []  # what was asked for stays
    assert asked(TORCH="torch==2.9.1") == ["torch==2.9.1", "-e .[dev]"]
    assert not (tmp_path / "=2.6").exists()
