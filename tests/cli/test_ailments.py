"""Broken installations are found, each with what to do; a sound one has nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli import ailments, doctor
from sfumato.cli.main import app


def said(found: list[ailments.Ailment]) -> str:
    (only,) = found
    return f"{only.what}: {only.remedy}"


def test_a_missing_package_is_named() -> None:
    assert (
        said(list(ailments.missing(("torch", "no-such-thing"))))
        == "no-such-thing is not installed: pip install no-such-thing"
    )


def test_a_torch_that_does_not_know_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(ailments.numpy_and_torch()) == []

    def fail(array: object) -> None:
        raise RuntimeError("Numpy is not available")

    monkeypatch.setattr(torch, "from_numpy", fail)
    assert "Numpy is not available" in said(list(ailments.numpy_and_torch()))


def test_a_package_beside_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "brokenvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (tmp_path / "soundvision.py").write_text("")
    monkeypatch.setattr(ailments, "BESIDE", ("brokenvision", "soundvision", "absentvision"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))))
    words = said(list(ailments.beside_torch()))
    assert words.startswith("brokenvision is installed") and "torchvision::nms does not exist" in words
    assert "pip uninstall brokenvision" in words


def test_a_process_that_dies_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", ""))
    assert ailments.failure("x") == "no message"


def test_a_package_that_never_ends_its_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sleepyvision.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(ailments, "PATIENCE", 0.2)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ailments.failure("sleepyvision") == "not done after 0.2 seconds"


@pytest.mark.parametrize(
    ("cuda", "words"),
    [(None, "this torch is built for the CPU"), ("13.0", "needs a driver for CUDA 13.0 and cannot use this: NVRM 470")],
)
def test_a_gpu_out_of_reach(cuda: str | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ailments, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert list(ailments.graphics()) == []  # no driver, no GPU: nothing is wrong
    (tmp_path / "version").write_text("NVRM 470\nGCC\n")
    assert words in said(list(ailments.graphics()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert list(ailments.graphics()) == []


def test_places_that_are_full_or_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    room = {"free": 2**30}
    monkeypatch.setattr(ailments.shutil, "disk_usage", lambda folder: usage(0, 0, room["free"]))
    assert list(ailments.places([tmp_path])) == []
    room["free"] -= 2**20
    assert said(list(ailments.places([tmp_path]))).startswith(f"{tmp_path} has 1023 MiB left")
    gone = tmp_path / "gone"
    found = list(ailments.places([gone, tmp_path]))
    assert f"{gone} cannot be written (No such file" in found[0].what and len(found) == 2
    assert list(tmp_path.iterdir()) == []


def test_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    assert list(ailments.threads()) == []
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed + 1)
    assert f"export OMP_NUM_THREADS={allowed}" in said(list(ailments.threads()))


def test_the_command_tells_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ailments", lambda core: [])
    assert CliRunner().invoke(app, ["doctor", "-q"]).exit_code == 0
    monkeypatch.setattr(doctor, "ailments", lambda core: [ailments.Ailment("it creaks", "oil it")])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1 and "problem    it creaks: oil it" in result.stdout
    rows = [json.loads(row) for row in CliRunner().invoke(app, ["doctor", "--json"]).stdout.splitlines()]
    assert rows[-2:] == [
        {"event": "warning", "what": "it creaks", "remedy": "oil it"},
        {"event": "done", "problems": 1},
    ]


def test_all_checks_run_on_this_machine(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    words = [found.what.split(" cannot")[0] for found in ailments.ailments(["no-such-thing"], gone)]
    assert {"no-such-thing is not installed", str(gone)} <= set(words)
    assert sys.modules.get("torchvision") is None
