import subprocess
import sys
from pathlib import Path

import pytest

from sfumato import recipes

METHOD = '''"""A file."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from package.base import Parent


@dataclass(frozen=True)
class Method(Parent):
    """What it is.

    Args:
        rate, size: of the step,
            and more.
        other: last.
    """

    rate: float = 0.5
    size: int = 3
    other: str  # said here
    kind: ClassVar[int] = 3

    def solver(self): ...

    def _hidden(self): ...


Recipe = Method
'''
PARENT = "from dataclasses import dataclass\n\n@dataclass\nclass Parent:\n    first: int = 7\n    rate: float = 0.1\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "package"
    (folder / "solvers").mkdir(parents=True)
    (folder / "solvers" / "two_words.py").write_text(METHOD)
    (folder / "base.py").write_text(PARENT)
    monkeypatch.setattr(recipes, "PACKAGE", folder)
    recipes._tree.cache_clear()
    yield folder
    recipes._tree.cache_clear()
    recipes._names.cache_clear()


def test_keys_are_file_names_with_dashes_and_files_without_a_recipe_are_left_out(package: Path) -> None:
    (package / "solvers" / "no.py").write_text('"""\nRecipe = 3\n"""\n\ndef f():\n    Recipe = 2\n')
    (package / "solvers" / "annotated.py").write_text("Recipe: type = int\n")
    (package / "solvers" / "own.py").write_text("class Recipe:\n    pass\n")
    assert recipes.names() == {
        "annotated": "package.solvers.annotated",
        "own": "package.solvers.own",
        "two-words": "package.solvers.two_words",
    }


def test_two_files_for_one_key_are_an_error_that_names_both(package: Path) -> None:
    (package / "recipes").mkdir()
    (package / "recipes" / "two_words.py").write_text("class Recipe: ...\n")
    with pytest.raises(ValueError, match=r"'two-words': package\.recipes\.two_words and package\.solvers\.two_words"):
        recipes.names()


def test_describe_reads_text_fields_and_inherited_fields(package: Path) -> None:
    said = recipes.describe("two-words")
    assert (said.module, said.title) == ("package.solvers.two_words", "A file.")
    assert said.text.startswith("What it is.")
    assert said.methods == ("solver",)
    assert [tuple(field) for field in said.fields] == [
        ("first", "int", "7", ""),
        ("rate", "float", "0.5", "of the step, and more."),
        ("size", "int", "3", "of the step, and more."),
        ("other", "str", None, "said here"),
    ]


def test_describe_of_what_is_no_class_still_has_the_title(package: Path) -> None:
    (package / "plain.py").write_text('"""A function."""\nRecipe = len\n')
    said = recipes.describe("plain")
    assert (said.title, said.text, said.fields, said.methods) == ("A function.", "", (), ())


def test_describe_reads_the_example_of_a_file(package: Path) -> None:
    (package / "own_example.py").write_text('EXAMPLE = "do this"\nclass Recipe: ...\n')
    (package / "bound.py").write_text('EXAMPLE = "do that"\nRecipe = len\n')
    assert recipes.describe("own-example").example == "do this"
    assert recipes.describe("bound").example == "do that"
    assert recipes.describe("two-words").example == ""


def test_describe_of_a_class_without_fields(package: Path) -> None:
    (package / "bare.py").write_text('class Recipe:\n    """Doc."""\n    x: int = 3\n')
    said = recipes.describe("bare")
    assert (said.text, said.fields) == ("Doc.", ())


def test_every_key_of_the_package_loads_and_is_described() -> None:
    for key, module in recipes.names().items():
        loaded = recipes.load(key)
        assert loaded.__name__ == module
        assert loaded.Recipe is not None
        said = recipes.describe(key)
        assert said.title and said.text and said.module == module


def test_described_fields_are_those_of_the_dataclass() -> None:
    import dataclasses

    for key in recipes.names():
        recipe = recipes.load(key).Recipe
        if dataclasses.is_dataclass(recipe):
            real = [field.name for field in dataclasses.fields(recipe) if field.init]
            assert [field.name for field in recipes.describe(key).fields] == real, key


@pytest.mark.parametrize("function", [recipes.load, recipes.describe])
def test_unknown_keys_name_the_nearest(function) -> None:
    with pytest.raises(ValueError, match=r"no method has the key 'ddimm'\. Nearest: ddim"):
        function("ddimm")


def test_a_key_of_the_catalogue_that_is_not_here_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "_names", lambda package: {})
    with pytest.raises(ValueError, match="It is in the catalogue, but does not work here yet"):
        recipes.load("ddrm")
    with pytest.raises(ValueError, match=r"key 'zzzzzz'\.$"):
        recipes.load("zzzzzz")


def test_catalogue_has_every_method_once() -> None:
    entries = recipes.catalogue()
    assert len(entries) == 110 == len({entry.key for entry in entries})
    ddim = next(entry for entry in entries if entry.key == "ddim")
    assert (ddim.venue, ddim.reference, ddim.code) == ("ICLR 2021", "arXiv 2010.02502", "ermongroup/ddim")
    assert all(entry.title and entry.reference and entry.tasks and entry.kind for entry in entries)


def test_nothing_here_imports_torch() -> None:
    code = (
        "import sys; from sfumato import recipes; recipes.catalogue(); "
        "[recipes.describe(k) for k in recipes.names()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
