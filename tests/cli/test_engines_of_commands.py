"""`evaluate`, `sample` and `restore` by shards, torchrun, Dask and Ray: the bytes of every block are the same."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.evaluate import Settings
from sfumato.cli.evaluations import Bits, Pairs, Sets
from sfumato.cli.main import app
from sfumato.cli.shards import job
from sfumato.data.images import write_image
from sfumato.engines import Cluster, Shard, clusters, collect, on_dask, on_ray, run
from sfumato.noise import Noise


def call(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folders of 7 and 7 grey pictures of the same names."""
    root = tmp_path_factory.mktemp("pictures")
    for k, name in enumerate("ab"):
        (root / name).mkdir()
        for i, x in enumerate(Noise(k).uniform(torch.empty(7, 1, 28, 28))):
            write_image(root / name / f"{i}.png", x)
    return root


def works(root):
    """One of each kind of evaluation."""
    sides = {"first": str(root / "a"), "second": str(root / "b")}
    return {
        "sets": Sets(Settings("sets", **sides, metrics=["fd"], size=8, block=3)),
        "paired": Pairs(Settings("paired", **sides, metrics=["psnr", "ssim"], against=str(root / "b"), block=3)),
        "bits": Bits(Settings("bits", "fashion", sides["second"], ["bound"], points=2, items=5, block=2)),
    }


def contents(folder):
    return {name: path.read_bytes() for name, path in collect([folder])[1].items()}


@pytest.fixture(scope="module")
def truth(pictures, tmp_path_factory):
    """The bytes of every file of each kind, from one process."""
    folder, found = tmp_path_factory.mktemp("truth"), {}
    for kind, work in works(pictures).items():
        assert all(new for _, new in run(job(work, len(work), work.wanted.block), work, folder / kind))
        found[kind] = contents(folder / kind)
        assert len(found[kind]) == (5 if kind == "sets" else 3)
    return found


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}


def words(work):
    w = work.wanted
    mode = {"sets": ["--metrics", "fd", "--size", 8], "paired": ["--paired", "--against", w.against],
            "bits": ["--bits", "--points", 2, "-n", 5]}  # fmt: skip
    return [str(word) for word in ("evaluate", w.first, w.second, "--block", w.block, "-q", *mode[w.mode])]


def test_a_work_goes_to_a_worker_as_its_settings_alone(pictures):
    for work in works(pictures).values():
        work.check()  # loads
        sent = pickle.dumps(work)
        assert len(sent) < 2000 and b"cached" not in sent
        there = pickle.loads(sent)
        assert there == work and hash(there) == hash(work) and list(vars(there)) == ["wanted"]


@pytest.mark.parametrize("kind", ["sets", "paired", "bits"])
def test_shards_give_the_same_bytes_of_an_evaluation(kind, pictures, truth, tmp_path):
    work = works(pictures)[kind]
    for i in (2, 1):
        call(*words(work), "--shard", f"{i}/2", "-o", tmp_path)
    assert contents(tmp_path) == truth[kind]


def test_dask_gives_the_same_bytes_of_every_evaluation(pictures, truth, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    here = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
    with distributed.Client(**here) as client:
        for kind, work in works(pictures).items():
            whole = job(work, len(work), work.wanted.block)
            list(run(whole, work, tmp_path / kind, Shard(1, len(whole))))
            found = list(on_dask.run(whole, work, tmp_path / kind, client))
            assert found[0] == (0, False) and sorted(found[1:]) == [(i, True) for i in range(1, len(whole))]
            assert contents(tmp_path / kind) == truth[kind]


@pytest.mark.slow
def test_torchrun_gives_the_same_bytes_of_every_evaluation(pictures, truth, tmp_path):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sfumato"]
    for kind, work in works(pictures).items():
        command = [*start, *words(work), "-o", str(tmp_path / kind)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert contents(tmp_path / kind) == truth[kind]


@pytest.mark.slow
def test_ray_gives_the_same_bytes_of_every_evaluation(pictures, truth, tmp_path):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    variables = {"PYTHONPATH": environment()["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    try:
        for kind, work in works(pictures).items():
            whole = job(work, len(work), work.wanted.block)
            found = list(Cluster.parse("ray", 2).run(whole, work, tmp_path / kind))
            assert sorted(found) == [(i, True) for i in range(len(whole))]
            assert contents(tmp_path / kind) == truth[kind]
        assert ray.is_initialized()  # what was there is left
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_an_engine_of_a_command_joins_what_its_workers_made(pictures, truth, tmp_path, monkeypatch):
    """Dask on this machine, two processes: sets; then the same folder again, and the file of one process."""
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    work, out = works(pictures)["sets"], tmp_path / "out"
    call(*words(work), "--engine", "dask", "--workers", "2", "-o", out)
    assert contents(out) == truth["sets"]
    call(*words(work), "-o", tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    assert json.loads((out / "result.json").read_text()) == whole
    again = call(*(w for w in words(work) if w != "-q"), "--engine", "dask", "-o", out)
    assert "dask: 0 blocks made, 5 were there." in again.stderr and "When all are done" not in again.stderr
    samples = ["sample", "fashion", "-n", "3", "--batch", "2", "--steps", "1", "-q", "-o"]
    call(*samples, tmp_path / "one")
    call(*samples, tmp_path / "two", "--engine", "dask")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / k).glob("sample-*.png")} for k in ("one", "two"))
    assert one == two and len(one) == 3


def test_what_an_engine_is_asked_for(pictures, tmp_path, monkeypatch):
    base = words(works(pictures)["sets"])
    said = " ".join(call(*base, "--engine", "spark", "-o", tmp_path / "x", code=2).output.split())
    assert "--engine: an engine is one of ray, dask, got 'spark'" in said
    for more in (["--shard", "1/2"], []):
        if not more:
            monkeypatch.setenv("WORLD_SIZE", "2")
            monkeypatch.setenv("RANK", "0")
        said = " ".join(call(*base, "--engine", "dask", *more, "-o", tmp_path / "x", code=2).output.split())
        assert "leave --shard and torchrun out" in said
    monkeypatch.delenv("WORLD_SIZE")
    assert "need --out" in " ".join(call(*base, "--engine", "dask", code=2).output.split())
    restore = ["restore", pictures / "a" / "0.png", "--operator", "denoise", "--engine", "ray", "-o", tmp_path / "x"]
    assert "are for a folder of pictures" in " ".join(call(*restore, code=2).output.split())
    assert not (tmp_path / "x").exists()
    assert Cluster.parse("dask:tcp://here:8786", 3) == Cluster("dask", "tcp://here:8786", 3)
    assert str(Cluster.parse("ray", gpus=1.0)) == "ray" and Cluster.parse("ray", gpus=1.0).gpus == 1.0
    with pytest.raises(ValueError, match="1 worker at least, got 0"):
        Cluster("ray", workers=0)


def test_a_cluster_is_joined_at_its_address_and_left(pictures, tmp_path, monkeypatch):
    """Ray and Dask stand-ins, which keep what they are told."""
    from types import SimpleNamespace

    told = []
    ray = SimpleNamespace(data=None, is_initialized=lambda: False, shutdown=lambda: told.append("shutdown"))
    ray.init = lambda address, **options: told.append(address)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", ray)
    monkeypatch.setattr(on_ray, "run", lambda job, load, folder, **how: iter([(0, how)]))
    cluster = Cluster.parse("ray:ray://head:10001", 3, gpus=1.0)
    assert list(cluster.run(None, None, tmp_path)) == [(0, {"actors": 3, "gpus": 1.0})]
    list(Cluster("ray").run(None, None, tmp_path))
    assert told == ["ray://head:10001", "shutdown", None, "shutdown"]

    class Client:
        def __init__(self, *address, **options):
            told.append((address, options))

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append("left")

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    monkeypatch.setattr(on_dask, "run", lambda job, load, folder, client: iter([(folder, True)]))
    told.clear()
    monkeypatch.chdir(tmp_path)
    assert list(Cluster.parse("dask:tcp://a:1").run(None, None, clusters.Path("x"))) == [(tmp_path / "x", True)]
    list(Cluster.parse("dask", 2).run(None, None, tmp_path))
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    assert told == [(("tcp://a:1",), {}), "left", ((), local), "left"]
