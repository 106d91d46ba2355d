"""`sample --shard I/N` and `merge`: the bytes of the command without shards, whatever the shards, skipped when done."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.cli.shards import device
from sfumato.data.images import write_image
from sfumato.noise import Noise

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


@pytest.fixture
def folder(tmp_path):
    """Three grey pictures, two of them the same, and what is no picture."""
    (tmp_path / "in").mkdir()
    x = torch.linspace(0.2, 0.8, 28).expand(1, 28, 28)
    for name, picture in (("a.png", x), ("b.png", x.mT), ("c.png", x)):
        write_image(tmp_path / "in" / name, picture)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / ".hidden.png").write_text("no picture")
    return tmp_path / "in"


RESTORE = ["--operator", "denoise", "--sigma", "0.1", "--model", "fashion", "--samples", "2", "--steps", "2", "-q"]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("blocks", "parts")}


def test_a_folder_is_restored_picture_by_picture_whatever_the_shards(folder, tmp_path):
    call("restore", folder, *RESTORE, "-o", tmp_path / "whole")
    for shard in ("2/2", "1/2"):
        call("restore", folder, *RESTORE, "--shard", shard, "-o", tmp_path / "parts")
    call("merge", tmp_path / "parts", "-o", tmp_path / "merged")
    whole, merged = files(tmp_path / "whole"), files(tmp_path / "merged")
    for found in (whole, merged):
        found.pop("job.json", None)
        found.pop("manifest.json")
    kinds = ("manifest.json", "restored.png", "sample-000.png", "sample-001.png", "spread.png")
    assert whole == merged and sorted(whole) == [f"{name}.png.{kind}" for name in "abc" for kind in kinds]
    assert whole["a.png.restored.png"] != whole["c.png.restored.png"]  # equal pictures, noise of their own
    seed = json.loads(whole["b.png.manifest.json"])["settings"]["seed"]
    call("restore", folder / "b.png", *RESTORE, "--seed", seed, "-o", tmp_path / "alone")
    assert (tmp_path / "alone" / "restored.png").read_bytes() == whole["b.png.restored.png"]
    call("run", tmp_path / "merged" / "manifest.json", "-o", tmp_path / "again", "-q")
    assert (tmp_path / "again" / "b.png.restored.png").read_bytes() == whole["b.png.restored.png"]
    write_image(folder / "d.png", torch.full((1, 28, 28), 0.5))
    assert "names" in call("restore", folder, *RESTORE, "-o", tmp_path / "whole", code=3).output
    call("restore", folder, *RESTORE, "--block", "3", "-o", tmp_path / "more")
    assert (tmp_path / "more" / "b.png.restored.png").read_bytes() == whole["b.png.restored.png"]
    assert sorted(path.name for path in (tmp_path / "more" / "blocks").iterdir()) == ["00000000", "00000001"]


def test_folders_that_cannot_be_restored_say_why(folder, tmp_path):
    (folder / "b.png").write_bytes(b"")
    damaged = call("restore", folder, *RESTORE, "-o", tmp_path / "out", code=3)
    assert "b.png" in damaged.output and "empty" in damaged.output
    assert [path.name for path in (tmp_path / "out" / "blocks").iterdir()] == ["00000000"]
    assert "3 pictures" in call("restore", folder, *RESTORE, "--dry-run", "-o", tmp_path / "dry").output
    assert not (tmp_path / "dry").exists()
    call("restore", folder / "a.png", *RESTORE, "--shard", "1/2", "-o", tmp_path / "one", code=2)
    (tmp_path / "none").mkdir()
    assert "no pictures" in call("restore", tmp_path / "none", *RESTORE, "-o", tmp_path / "x", code=3).output


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ACCELERATE = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_train_under_a_launcher_has_the_weights_of_one_process(tmp_path, launcher):
    pytest.importorskip(launcher[0].partition(".")[0])
    np.save(tmp_path / "data.npy", Noise(0).uniform(torch.empty(20, 1, 8, 8)).numpy())
    words = ["-m", "sfumato", "train", tmp_path / "data.npy", "--steps", "4", "--batch", "6", "--set", "dropout=0"]
    words += ["--set", "widths=[8]", "--out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for start, out in (([], "one"), (["-m", *launcher], "two")):
        done = subprocess.run([sys.executable, *start, *words, tmp_path / out], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.splitlines() == [str(tmp_path / out)]  # one process speaks
    one, two = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two"))
    moved = max(float(value.abs().max()) for key, value in one.items() if ".exp_avg" in key)
    assert moved > 1e-3 and one.keys() == two.keys()
    assert max(float((one[key].double() - two[key].double()).abs().max()) for key in one) < 1e-6
