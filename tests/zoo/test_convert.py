"""`convert`: what is refused and why, what is never run, and the command's exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from published import case
from safetensors.torch import save_file
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.zoo import convert

SETTINGS = {"heads": 4, "head_channels": 16, "ordered": True, "schedule": "linear", "steps": 50}
WORDS = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={str(value).lower()}")]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state():
    return case("guided")["state"]


def test_nothing_is_unpickled_without_trust(tmp_path: Path, state) -> None:
    bad, ran = tmp_path / "bad.pt", tmp_path / "ran"
    torch.save({"state_dict": state, "args": Malicious(ran)}, bad)
    with pytest.raises(ValueError, match=r"reading it could run code: not read .*If you trust where it comes from"):
        convert(bad, tmp_path / "out", settings=SETTINGS)
    assert not ran.exists() and not (tmp_path / "out").exists()
    assert convert(bad, tmp_path / "out", trust=True, settings=SETTINGS).recipe == "ablated"
    assert ran.exists()  # trust means that it is run


def test_keys_that_do_not_fit_are_all_named(tmp_path: Path, state) -> None:
    del state["middle_block.1.qkv.bias"]
    state["input_blocks.0.0.extra"] = torch.zeros(2)
    state["out.2.bias"] = torch.zeros(5)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError) as error:
        convert(tmp_path / "w.safetensors", tmp_path / "out", settings=SETTINGS)
    assert "1 without a place: input_blocks.0.0.extra" in str(error.value)
    assert "1 missing: middle_block.1.qkv.bias" in str(error.value)
    assert "1 of another shape: out.2.bias (5,), not (6,)" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_many_keys_are_counted(tmp_path: Path, state) -> None:
    save_file({**state, **{f"extra.{i}": torch.zeros(1) for i in range(20)}}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"20 without a place: extra\.0, .* and 8 more"):
        convert(tmp_path / "w.safetensors", tmp_path / "out", settings=SETTINGS)


def test_an_unknown_code_is_named_by_its_keys(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(2), "a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"of no code that can be converted: a, encoder\.weight\. Known: guided"):
        convert(tmp_path / "w.pt", tmp_path / "out")
    torch.save(torch.zeros(2), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="of no code that can be converted: Tensor"):
        convert(tmp_path / "w.pt", tmp_path / "out")


def test_what_the_file_does_not_say_is_asked_for(tmp_path: Path, state) -> None:
    torch.save(state, tmp_path / "w.pt")
    some = {k: v for k, v in SETTINGS.items() if k != "ordered"}
    with pytest.raises(ValueError, match=r"does not say its ordered, .*--set heads=4 .*--set ordered=false"):
        convert(tmp_path / "w.pt", tmp_path / "out", settings=some)
    with pytest.raises(ValueError, match=r"'ablated' has no field 'head'\. Nearest: heads"):
        convert(tmp_path / "w.pt", tmp_path / "out", settings={"head": 4})


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("w.safetensors", b"text", "damaged or no safetensors file"),
        ("w.pt", b"some text that is no pickle", "cannot be read"),
        ("w.pt", b"", "empty"),
        ("w.pt", b"PK\x03\x04broken", "cannot be read"),
    ],
)
def test_damaged_files_are_said_to_be(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=match):
        convert(tmp_path / name, tmp_path / "out")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not there"):
        convert(tmp_path / "no.pt", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="this is no folder of diffusers"):
        convert(tmp_path, tmp_path / "out")


def test_the_command_converts_and_its_model_draws(tmp_path: Path, state) -> None:
    torch.save(state, tmp_path / "w.pt")
    run = CliRunner()
    dry = run.invoke(app, ["convert", str(tmp_path / "w.pt"), "-o", str(tmp_path / "m"), *WORDS, "--dry-run"])
    assert dry.exit_code == 0 and "would convert" in dry.stdout and not (tmp_path / "m").exists()
    done = run.invoke(app, ["convert", str(tmp_path / "w.pt"), "-o", str(tmp_path / "m"), *WORDS, "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["start", "done"]
    assert lines[0]["config"]["fields"]["head_channels"] == 16
    model = sf.load(tmp_path / "m")
    assert model.config["from"].startswith("guided-diffusion")
    model.save(tmp_path / "again")
    both = [m.sample(1, cond=2, steps=2, size=16) for m in (model, sf.load(tmp_path / "again"))]
    assert torch.equal(*both)


def test_the_command_ends_with_3_for_bad_input(tmp_path: Path, state) -> None:
    run = CliRunner()
    torch.save({"state_dict": state, "args": Malicious(tmp_path / "ran")}, tmp_path / "w.pt")
    for name in ("no.pt", "w.pt"):
        result = run.invoke(app, ["convert", str(tmp_path / name), "-o", str(tmp_path / "m")])
        assert result.exit_code == 3, result.output
    assert not (tmp_path / "ran").exists()
    torch.save(state, tmp_path / "w.pt")
    result = run.invoke(app, ["convert", str(tmp_path / "w.pt"), "-o", str(tmp_path / "m")])
    assert result.exit_code == 3 and "does not say its heads" in result.output
    result = run.invoke(app, ["convert", str(tmp_path / "w.pt"), "-o", str(tmp_path / "m"), "--set", "heeds=4"])
    assert result.exit_code == 2 and "heads" in result.output
