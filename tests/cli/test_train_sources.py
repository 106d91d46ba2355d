"""`sfumato train` from shards and from Parquet, and on a disk that is full."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from test_train_command import SCRIPT, SMALL, config, digits, same, sfumato, weights  # noqa: F401

import sfumato as sf
from sfumato.training import checkpoints


def test_shards_of_a_webdataset(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"part-{shard}.tar", "w") as file:
            for i in range(3):
                raw = io.BytesIO()
                Image.new("L", (9, 9), 40 * i).save(raw, "PNG")
                for suffix, content in (("png", raw.getvalue()), ("cls", str(i).encode())):
                    entry = tarfile.TarInfo(f"{shard}{i}.{suffix}")
                    entry.size = len(content)
                    file.addfile(entry, io.BytesIO(content))
    words = ["--size", 8, "--channels", 1, "--classes", *SMALL, "-q"]
    for data, items in ((folder, 6), (folder / "part-1.tar", 3)):
        run = tmp_path / f"run{items}"
        assert sfumato("train", data, "-o", run, "--steps", 1, *words).exit_code == 0
        made = config(run)
        assert made["training"]["kind"] == "shards" and made["training"]["items"] == items
        assert made["fields"]["classes"] == 3 == sf.load(run).classes
        assert sfumato("train", data, "-o", run, "--resume", "--steps", 2, "-q").exit_code == 0


def test_a_parquet_file_is_the_table_that_it_holds(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    t = np.arange(60)
    parquet.write_table(pyarrow.table({"a": np.sin(t / 3), "b": 1.0 * (t % 5)}), tmp_path / "x.parquet")
    done = sfumato("train", tmp_path / "x.parquet", "-o", tmp_path / "run", "--size", 16, "--dry-run")
    assert done.exit_code == 0 and "csdi" in done.stdout and '"a"' in done.stdout and '"table"' in done.stdout


@pytest.mark.slow
def test_a_disk_that_is_full_loses_nothing(digits, tmp_path):  # noqa: F811
    """A limit on the size of files stands for it: the checkpoint of step 4 is not written, that of step 2 is kept."""
    words = [*SMALL, "--every", "2", "--steps", "4", "-q"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert sfumato("train", digits, "-o", whole, *words).exit_code == 0
    assert sfumato("train", digits, "-o", run, *words[:-2], "2", "-q").exit_code == 0
    size = (run / "checkpoint.safetensors").stat().st_size

    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    again = ["train", str(digits), "-o", str(run), "--resume", "--steps", "4", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *again], env=env, capture_output=True, text=True, preexec_fn=full
    )
    assert done.returncode == 1 and "is the disk full?" in done.stderr, done.stderr
    assert checkpoints.info(run / "checkpoint.safetensors")["step"] == 2
    assert sorted(p.name for p in run.iterdir()) == ["checkpoint.safetensors", "config.json", "metrics.jsonl"]
    assert sfumato(*again).exit_code == 0 and same(weights(run), weights(whole))
