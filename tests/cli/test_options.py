"""--set, keys, devices, and the exit code of every kind of failure."""

import json
from dataclasses import dataclass, field

import pytest
import typer
from typer.testing import CliRunner

from sfumato.cli import main, options
from sfumato.cli.console import Console
from sfumato.samplers import DDIM, Sampler


@dataclass(frozen=True)
class Method:
    count: int = 3
    rate: float = 0.5
    flag: bool = False
    word: str = "a"
    widths: tuple[int, ...] = (1,)
    maybe: float | None = None
    sampler: Sampler = field(default_factory=DDIM)
    hidden: int = field(init=False, default=3)


def test_values_take_the_type_of_their_field() -> None:
    texts = {"count": "7", "rate": "2", "flag": "true", "word": "12", "widths": "[3, 4]", "maybe": "None"}
    want = {"count": 7, "rate": 2.0, "flag": True, "word": "12", "widths": (3, 4), "maybe": None}
    assert options.checked(Method, texts) == want
    assert options.checked(Method, {"maybe": "0.5", "word": "b c"}) == {"maybe": 0.5, "word": "b c"}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", "2.5", "count=2.5 does not fit"),
        ("rate", "fast", "rate=fast does not fit"),
        ("ratte", "1", "no field of Method 'ratte'. Nearest: rate"),
        ("hidden", "1", "no field of Method 'hidden'"),
        ("sampler", "ddim", "is an object"),
    ],
)
def test_values_that_do_not_fit_are_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(typer.BadParameter) as error:
        options.checked(Method, {name: value})
    assert words in str(error.value)


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert options.pairs(["a=1", "b = x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for word in ("a", "=1"):
        with pytest.raises(typer.BadParameter, match="FIELD=VALUE"):
            options.pairs([word])


def test_a_device_that_is_not_there_is_refused() -> None:
    assert options.device("cpu") == "cpu"
    for name in ("cuda:77", "nonsense"):
        with pytest.raises(typer.BadParameter, match="sfumato doctor"):
            options.device(name)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("bad\n  input"), 3, "error: bad input\n"),
        (FileNotFoundError("x is not there."), 3, "error: x is not there.\n"),
        (IsADirectoryError("x"), 3, "error: x\n"),
        (NotADirectoryError("x"), 3, "error: x\n"),
        (ImportError("pip install"), 4, "error: pip install\n"),
        (FloatingPointError("diverged"), 1, "error: diverged\n"),
        (OSError("disk full"), 1, "error: disk full\n"),
        (RuntimeError("odd"), 1, "error: RuntimeError: odd\n"),
        (KeyError(), 1, "error: KeyError: KeyError\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (BrokenPipeError(), 0, ""),
        (typer.Exit(7), 7, ""),
    ],
)
def test_every_failure_is_one_sentence_and_a_code(error: BaseException, code: int, words: str) -> None:
    app = typer.Typer(cls=main.Commands, rich_markup_mode=None)

    @app.command()
    def fail() -> None:
        raise error

    @app.command()
    def other() -> None: ...

    result = CliRunner().invoke(app, ["fail"])
    assert (result.exit_code, result.stderr, result.stdout) == (code, words, "")


def test_verbose_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer(cls=main.Commands, rich_markup_mode=None)

    @app.command()
    def fail(verbose: options.Verbose = False) -> None:
        raise ValueError("bad")

    @app.command()
    def other() -> None: ...

    assert "Traceback" in CliRunner().invoke(app, ["fail", "-v"]).stderr
    monkeypatch.setattr("sys.argv", ["pytest", "-v"])  # of the process, not of this command
    assert CliRunner().invoke(app, ["fail"]).stderr == "error: bad\n"


def test_console_keeps_data_and_words_apart(capsys: pytest.CaptureFixture) -> None:
    plain, lines, quiet = Console(), Console(as_json=True), Console(quiet=True)
    for console in (plain, lines, quiet):
        console.data("data")
        console.note("note")
        console.emit("item", a="é")
        console.warn("careful")
        with console.progress("work") as tick:
            tick(1, 2)
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line == "data"] == ["data"] * 2
    events = [json.loads(line) for line in out.splitlines() if line != "data"]
    assert events == [
        {"event": "item", "a": "é"},
        {"event": "warning", "message": "careful"},
        {"event": "step", "done": 1, "total": 2},
    ]
    assert err.count("note") == 2 and err.count("warning: careful") == 3
