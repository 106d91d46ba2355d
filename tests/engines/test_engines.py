"""Blocks: the same bytes from every engine, none missing or double, none half-written after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sfumato.engines import Job, Shard, collect, run, store

sys.path.insert(0, os.path.dirname(__file__))
from work_for_tests import Draws

JOB = Job("draws", {"seed": 3}, 11, 3)
BLOCKS = [(0, 3), (3, 6), (6, 9), (9, 11)]


@pytest.fixture
def work(tmp_path):
    (tmp_path / "log").mkdir()
    return Draws(tmp_path / "log")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The bytes of every file, from one process."""
    folder = tmp_path_factory.mktemp("truth")
    assert list(run(JOB, Draws(folder), folder / "out")) == [(i, True) for i in range(4)]
    return contents(folder / "out")


def contents(*folders):
    return {name: path.read_bytes() for name, path in collect(folders)[1].items()}


def environment(**more):
    path = os.pathsep.join([os.path.dirname(__file__), *(p for p in sys.path if p)])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


SCRIPT = """
import sys
from pathlib import Path
from work_for_tests import Draws
from sfumato.engines import Job, Shard, run
for _ in run(Job("draws", {"seed": 3}, 11, 3), Draws(Path(sys.argv[1]), float(sys.argv[3])), Path(sys.argv[2]),
             Shard().of_rank()):
    pass
"""


def test_blocks_are_consecutive_and_all_the_items():
    assert [(JOB.items(i).start, JOB.items(i).stop) for i in range(len(JOB))] == BLOCKS
    assert len(Job("x", {}, 6, 3)) == 2 and len(Job("x")) == 0 and Job("x", {}, 0, 1).count == 0
    for block in (-1, 4):
        with pytest.raises(IndexError, match=f"4 blocks, there is no block {block}"):
            JOB.items(block)
    for count, size in ((-1, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"got {count} and {size}"):
            Job("x", {}, count, size)


def test_shards_divide_the_blocks_evenly_and_ranks_divide_a_shard():
    for count in (1, 2, 3, 5):
        parts = [list(Shard(i + 1, count).blocks(JOB)) for i in range(count)]
        assert (
            sorted(block for part in parts for block in part) == [0, 1, 2, 3]
            and max(map(len, parts)) - min(map(len, parts)) <= 1
        )
    assert Shard.parse("3/8") == Shard(3, 8)
    ranks = [Shard(i, 2).of_rank({"RANK": str(r), "WORLD_SIZE": "3"}) for i in (1, 2) for r in range(3)]
    assert ranks == [Shard(i, 6) for i in range(1, 7)]
    assert Shard(2, 3).of_rank({}) == Shard(2, 3)
    for word in ("3", "a/2", "1/", "/2", "-1/2"):
        with pytest.raises(ValueError, match="such as 3/8"):
            Shard.parse(word)
    for word in ("0/2", "3/2", "1/0"):
        with pytest.raises(ValueError, match=f"from 1 to n, got {word}"):
            Shard.parse(word)


def test_items_are_those_of_the_world_and_do_not_depend_on_the_blocks(truth, tmp_path):
    other = Job("draws", {"seed": 3}, 11, 11)
    assert list(run(other, Draws(tmp_path), tmp_path / "out")) == [(0, True)]
    whole = contents(tmp_path / "out")
    assert list(whole) == list(truth) == [f"{i}.f64" for i in range(11)]
    for name in truth:
        a, b = (torch.frombuffer(bytearray(c[name]), dtype=torch.float64) for c in (truth, whole))
        assert torch.allclose(a, b, rtol=0, atol=1e-12)
    assert len(set(truth.values())) == 11


@pytest.mark.parametrize("shared", [True, False])
def test_shards_in_one_folder_or_in_several_give_the_same_bytes(work, truth, tmp_path, shared):
    folders = []
    for i in (3, 1, 2):
        folders.append(tmp_path / ("out" if shared else f"out{i}"))
        assert all(new for _, new in run(JOB, work, folders[-1], Shard(i, 3)))
    assert contents(*dict.fromkeys(folders)) == truth
    assert work.items() == BLOCKS and work.loads() == 3


def test_a_rerun_skips_what_is_done_and_loads_nothing_for_it(work, tmp_path):
    list(run(JOB, work, tmp_path / "out", Shard(2, 2)))
    assert list(run(JOB, work, tmp_path / "out")) == [(0, True), (1, False), (2, True), (3, False)]
    assert list(run(JOB, work, tmp_path / "out")) == [(i, False) for i in range(4)]
    assert work.items() == BLOCKS and work.loads() == 2


def test_torchrun_gives_the_same_bytes(work, truth, tmp_path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(work.log), str(tmp_path / "out"), "0"],
            env=environment(RANK=str(rank), WORLD_SIZE="2"),
        )
        for rank in range(2)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    assert contents(tmp_path / "out") == truth and work.items() == BLOCKS and work.loads() == 2


def test_dask_gives_the_same_bytes(work, truth, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    from sfumato.engines import on_dask

    list(run(JOB, work, tmp_path / "out", Shard(1, 4)))
    on_dask._loaded.clear()
    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        found = list(on_dask.run(JOB, work, tmp_path / "out", client))
    assert found[0] == (0, False) and sorted(found[1:]) == [(i, True) for i in (1, 2, 3)]
    assert contents(tmp_path / "out") == truth and work.items() == BLOCKS
    assert work.loads() == 2  # one of the shard, one of the worker


@pytest.mark.slow
def test_ray_gives_the_same_bytes_and_loads_once_an_actor(work, truth, tmp_path):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    pytest.importorskip("ray.data")
    from sfumato.engines import on_ray

    list(run(JOB, work, tmp_path / "out", Shard(1, 4)))
    variables = {"PYTHONPATH": environment()["PYTHONPATH"], "OMP_NUM_THREADS": "1"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    try:
        found = list(on_ray.run(JOB, work, tmp_path / "out", actors=1))
        again = list(on_ray.run(JOB, work, tmp_path / "out"))
    finally:
        ray.shutdown()
    assert found[0] == (0, False) and sorted(found[1:]) == [(i, True) for i in (1, 2, 3)]
    assert again == [(i, False) for i in range(4)]
    assert contents(tmp_path / "out") == truth and work.items() == BLOCKS
    assert work.loads() == 2


@pytest.mark.parametrize("name", ["on_dask", "on_ray"])
def test_an_engine_that_is_not_installed_names_its_extra(name, work, tmp_path, monkeypatch):
    import importlib

    engine = importlib.import_module(f"sfumato.engines.{name}")
    monkeypatch.setitem(sys.modules, {"on_dask": "distributed", "on_ray": "ray"}[name], None)
    arguments = (None,) if name == "on_dask" else ()
    with pytest.raises(ImportError, match=rf"sfumato\[{name[3:]}\]"):
        list(engine.run(JOB, work, tmp_path / "out", *arguments))


def test_kill_9_leaves_whole_blocks_only_and_a_rerun_ends_the_job(work, truth, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(work.log), str(tmp_path / "out"), "0.3"],
        env=environment(RANK="0", WORLD_SIZE="1"),
    )
    while not (tmp_path / "out" / "blocks" / "00000001").exists():
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    there = store.done(tmp_path / "out")
    assert {0, 1} <= there < {0, 1, 2, 3}
    for block in there:
        store._checked(store.path_of(tmp_path / "out", block), JOB, block)
    assert list(run(JOB, work, tmp_path / "out")) == [(i, i not in there) for i in range(4)]
    assert contents(tmp_path / "out") == truth


def test_a_block_that_fails_leaves_nothing_and_one_that_a_kill_left_is_cleared(tmp_path, monkeypatch):
    store.open_store(tmp_path, JOB)
    left = tmp_path / "parts" / "00000002" / "old"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            store.put(tmp_path, JOB, 1, {"a": b"1"})
    assert calls and store.done(tmp_path) == set() and not (tmp_path / "parts" / "00000001").exists()
    store.put(tmp_path, JOB, 2, {"a": b"2"})
    assert store.done(tmp_path) == {2} and not left.exists()
    store.put(tmp_path, JOB, 2, {"a": b"other"})  # the one that was first stays
    assert (store.path_of(tmp_path, 2) / "a").read_bytes() == b"2"
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="disk full"):
            store.put(tmp_path, JOB, 3, {"a": b"3"})
    for name in ("../a", "record.json", "b/a"):
        with pytest.raises(ValueError, match="plain name"):
            store.put(tmp_path, JOB, 1, {name: b""})


def test_merging_refuses_what_is_missing_double_strange_or_damaged(work, truth, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    list(run(JOB, work, a, Shard(1, 2)))
    with pytest.raises(ValueError, match=r"2 of 4 blocks are missing \(1, 3\)"):
        collect([a])
    list(run(JOB, work, b))
    with pytest.raises(ValueError, match=r"2 blocks are double \(0, 2\): block 0 is in .*a and .*b"):
        collect([a, b])
    job, found, versions = collect([b])
    assert job == JOB and versions == [torch.__version__] and list(found) == list(truth)
    (b / "blocks" / "00000007").mkdir()
    with pytest.raises(ValueError, match=r"blocks 7 are none of the 4"):
        collect([b])
    (b / "blocks" / "00000007").rmdir()
    file = store.path_of(b, 2) / "7.f64"
    whole = file.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"block 2 is damaged: remove .*00000002"):
            collect([b])
    file.unlink()
    with pytest.raises(ValueError, match="block 2 is damaged"):
        collect([b])
    file.write_bytes(whole)
    record = store.path_of(b, 2) / "record.json"
    said = json.loads(record.read_text())
    for changed in ({"block": 1}, {"items": [6, 8]}, {"outputs": None}):
        record.write_text(json.dumps({**said, **changed}))
        with pytest.raises(ValueError, match="block 2 is damaged"):
            collect([b])
    with pytest.raises(ValueError, match="nothing to merge"):
        collect([])


def test_names_that_two_blocks_use_are_refused(tmp_path):
    job = Job("x", {}, 2, 1)
    list(run(job, lambda: lambda items: {"same": b"1"}, tmp_path))
    with pytest.raises(ValueError, match=r"same is in two blocks: .*00000000 and .*00000001"):
        collect([tmp_path])


def test_a_folder_of_another_job_is_refused(work, tmp_path):
    list(run(JOB, work, tmp_path / "out"))
    other = Job("draws", {"seed": 4}, 11, 3)
    with pytest.raises(ValueError, match=r"another job \(settings.seed: 3 there, 4 here\)"):
        list(run(other, work, tmp_path / "out"))
    list(run(other, work, tmp_path / "other"))
    with pytest.raises(ValueError, match=r"different jobs \(settings.seed"):
        collect([tmp_path / "out", tmp_path / "other"])
    with pytest.raises(FileNotFoundError, match="no folder of a job"):
        collect([tmp_path / "log"])
    (tmp_path / "out" / "job.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        list(run(JOB, work, tmp_path / "out"))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        list(run(JOB, work, tmp_path / "file"))


def test_more_than_five_blocks_are_named_by_the_first_five(tmp_path):
    store.open_store(tmp_path, Job("x", {}, 9, 1))
    with pytest.raises(ValueError, match=r"9 of 9 blocks are missing \(0, 1, 2, 3, 4, ...\)"):
        collect([Path(tmp_path)])
