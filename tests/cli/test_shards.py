"""`sample --shard I/N` and `merge`: the bytes of the command without shards, whatever the shards, skipped when done."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.cli.shards import device

ARGUMENTS = ["sample", "fashion", "-n", "7", "--batch", "2", "--steps", "2", "--cond", "3", "--cond", "8", "-q"]


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def pictures(folder):
    return {path.name: path.read_bytes() for path in folder.glob("sample-*.png")}


def test_shards_merged_are_the_samples_of_the_command_without_shards(tmp_path, monkeypatch):
    call(*ARGUMENTS, "-o", tmp_path / "whole")
    call(*ARGUMENTS, "--shard", "1/2", "-o", tmp_path / "parts")
    short = call("merge", tmp_path / "parts", "-o", tmp_path / "merged", code=3)
    assert "2 of 4 blocks are missing (1, 3)" in short.output and not (tmp_path / "merged").exists()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    call(*ARGUMENTS, "-o", tmp_path / "parts")  # rank 1 of torchrun is shard 2/2
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    again = call(*ARGUMENTS, "--shard", "1/1", "-o", tmp_path / "parts", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["made"] == 0
    call("merge", tmp_path / "parts", "-o", tmp_path / "merged")
    assert pictures(tmp_path / "merged") == pictures(tmp_path / "whole") and len(pictures(tmp_path / "whole")) == 7
    manifest = json.loads((tmp_path / "merged" / "manifest.json").read_text())
    whole = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert manifest["settings"] == whole["settings"] and (manifest["items"], manifest["blocks"]) == (7, 4)
    assert all(whole["outputs"][name] == digest for name, digest in manifest["outputs"].items())
    call(*ARGUMENTS, "--seed", "1", "--shard", "1/2", "-o", tmp_path / "parts", code=3)


def test_a_word_that_is_no_shard_is_a_usage_error(tmp_path):
    for word in ("3/2", "x"):
        assert word in call(*ARGUMENTS, "--shard", word, "-o", tmp_path, code=2).output


@pytest.mark.parametrize(("name", "found"), [("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")])
def test_under_torchrun_cuda_is_the_card_of_the_local_rank(monkeypatch, name, found):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device(name) == found
    monkeypatch.delenv("LOCAL_RANK")
    assert device(name) == name
