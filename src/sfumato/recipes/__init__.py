"""Published methods by key: which there are, where they live, what they are. Nothing here imports torch.

A method is the file that is named for its key (`-` becomes `_`) and binds `Recipe` at top level, in whatever folder it
belongs to. Files are found by their text and described from it; `load` alone imports, and only the one module.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent.parent
_BINDS = re.compile(r"^(class\s+Recipe\b|Recipe\s*[:=])", re.MULTILINE)


class Entry(NamedTuple):
    """One row of the catalogue: a published method, whether it works here or not."""

    key: str
    title: str
    authors: str
    venue: str
    reference: str
    modality: str
    tasks: str
    kind: str
    code: str
    card: str


class Field(NamedTuple):
    """One hyper-parameter: its annotation and default as they are written, and what the source says of it."""

    name: str
    annotation: str
    default: str | None
    comment: str


class Description(NamedTuple):
    """What the text of a method says of it.

    Attributes:
        module: dotted name of the file.
        title: the first line of the file's docstring.
        text: the docstring of what `Recipe` binds: formula, arguments, limits, source.
        fields: those of the dataclass, inherited ones first.
        methods: public methods; those of a composition say its kind.
        example: a command or call that runs it, where the file binds `EXAMPLE` to one; else "".
    """

    key: str
    module: str
    title: str
    text: str
    fields: tuple[Field, ...]
    methods: tuple[str, ...]
    example: str = ""


def names() -> dict[str, str]:
    """Key to module name of every method that works here, in alphabetical order.

    Raises:
        ValueError: if two files carry one key.
    """
    return dict(_names(PACKAGE))


def load(key: str) -> Any:
    """The module of a method, imported: `load("ddim").Recipe()` builds it.

    Raises:
        ValueError: for a key that is not there, with the nearest ones.
    """
    return importlib.import_module(_module(key))


def describe(key: str) -> Description:
    """What the text of a method says of it, without importing it.

    Raises:
        ValueError: for a key that is not there, with the nearest ones.
    """
    module = _module(key)
    tree = _tree(module)
    found = _definition(module, "Recipe")
    title = (ast.get_docstring(tree) or "").partition("\n")[0]
    example = _constant(tree, "EXAMPLE")
    if found is None:
        return Description(key, module, title, "", (), (), example)
    where, node = found
    methods = tuple(
        part.name for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")
    )
    fields = tuple({field.name: field for field in _fields(where, node)}.values())
    return Description(key, module, title, ast.get_docstring(node) or "", fields, methods, example)


@functools.cache
def catalogue() -> tuple[Entry, ...]:
    """The published methods of the field, in the order of their appearance."""
    lines = (Path(__file__).parent / "catalogue.tsv").read_text("utf-8").splitlines()
    return tuple(Entry(*line.split("\t")) for line in lines[1:])


def nearest(word: str, known: Iterator[str] | list[str]) -> str:
    """' Nearest: a, b.' for a message about an unknown word, or '' where nothing is near."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 3, 0.5)
    return f" Nearest: {', '.join(near)}." if near else ""


@functools.cache
def _names(package: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(package.rglob("*.py")):
        text = path.read_text("utf-8")
        if not _BINDS.search(text) or not any(_binds(node) for node in ast.parse(text).body):
            continue
        key = path.stem.replace("_", "-")
        module = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        if key in found:
            raise ValueError(f"two files carry the key {key!r}: {found[key]} and {module}; a method is one file.")
        found[key] = module
    return dict(sorted(found.items()))


def _binds(node: ast.stmt) -> bool:
    """Whether a top-level statement binds `Recipe`."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "Recipe" for target in node.targets)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.target.id == "Recipe"
    return isinstance(node, ast.ClassDef) and node.name == "Recipe"


def _module(key: str) -> str:
    known = _names(PACKAGE)
    if key not in known:
        planned = " It is in the catalogue, but does not work here yet." if _planned(key) else ""
        raise ValueError(f"no method has the key {key!r}.{planned}{nearest(key, list(known))}")
    return known[key]


def _planned(key: str) -> bool:
    return any(entry.key == key for entry in catalogue())


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text("utf-8"))


def _constant(tree: ast.Module, name: str) -> str:
    """The string that a file binds to a name at top level, or ""."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return str(ast.literal_eval(node.value))
    return ""


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _definition(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The class that `name` stands for in a module of the package, and the module that holds it."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Name):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return _definition(module, node.value.id)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{PACKAGE.name}."):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _definition(node.module or "", alias.name)
    return None


def _fields(module: str, node: ast.ClassDef) -> Iterator[Field]:
    """The fields of a dataclass, its bases' first."""
    for base in node.bases:
        found = _definition(module, base.id) if isinstance(base, ast.Name) else None
        if found is not None:
            yield from _fields(*found)
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return
    said = _arguments(ast.get_docstring(node) or "")
    lines = _path(module).read_text("utf-8").splitlines()
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name, default = part.target.id, None if part.value is None else ast.unparse(part.value)
            if ast.unparse(part.annotation).startswith("ClassVar") or "init=False" in (default or ""):
                continue
            rest = lines[(part.end_lineno or 1) - 1][part.end_col_offset or 0 :]
            comment = rest.partition("#")[2].strip()
            yield Field(name, ast.unparse(part.annotation), default, comment or said.get(name, ""))


def _arguments(text: str) -> dict[str, str]:
    """The entries of a docstring's "Args:" section."""
    section = re.search(r"^(?:Args|Attributes):\n((?:[ ]{4,}.*\n?|\n)*)", text, re.MULTILINE)
    found: dict[str, str] = {}
    last: list[str] = []
    for line in (section.group(1) if section else "").splitlines():
        entry = re.match(r"    (\w[\w, ]*): (.*)", line)
        if entry:
            last = [name.strip() for name in entry.group(1).split(",")]
            found |= dict.fromkeys(last, entry.group(2).strip())
        else:
            for name in last:
                found[name] = f"{found[name]} {line.strip()}".strip()
    return found
