"""FSDP2 on two processes: half of the weights each, the weights of one process, a kill, other numbers of processes."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from test_ranks import RECIPE, Crops, distance, train

from sfumato.training import HeldOut, sharding
from sfumato.training.ranks import Ranks, joined
from sfumato.training.runs import run

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_sharding import sharded
sharded(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""


def sharded(folder, steps, accumulate, doomed):
    """Trains as one of the processes; the second ends by SIGKILL at the step `doomed`, if there is one."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    with joined(sharded=True) as ranks:
        torch.manual_seed(ranks.rank)  # the first process's weights must become everyone's
        objective = RECIPE.objective(RECIPE.model())
        held = sum(p.numel() for p in objective.parameters())
        for step in run(folder, {"recipe": "edm"}, objective, Crops(), steps=steps, batch=5, seed=5, every=2,
                        accumulate=accumulate, held_out=HeldOut(Crops(), 5), ranks=ranks):  # fmt: skip
            mine = sum(p.to_local().numel() for p in objective.parameters())
            moments = sum(p.to_local().numel() for p in step.average.average.parameters())
            assert 0.4 < mine / held < 0.6 and mine == moments, (mine, held)
            if ranks.rank == 1 and step.index == doomed:
                os.kill(os.getpid(), signal.SIGKILL)


def together(folder, steps, accumulate=1, doomed=0):
    """The exit codes of two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(p for p in sys.path if p)
    base = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    words = [sys.executable, "-c", SCRIPT.format(here=os.path.dirname(__file__)), str(folder), str(steps)]
    processes = [
        subprocess.Popen([*words, str(accumulate), str(doomed)], stderr=subprocess.PIPE, text=True,
                         env={**base, "RANK": str(rank), "MASTER_ADDR": "127.0.0.1"})
        for rank in range(2)
    ]  # fmt: skip
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert doomed or not any(process.returncode for process in processes), errors[0][-2000:]
    return [process.returncode for process in processes]


def test_two_halves_are_one_and_go_on_alone(tmp_path):
    train(tmp_path / "one", 6, 5)
    together(tmp_path / "two", 4)
    last = json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[-1])
    average = RECIPE.objective(RECIPE.model()).double().eval()
    held = load_file(tmp_path / "two" / "checkpoint.safetensors")
    average.load_state_dict({k.removeprefix("ema."): v for k, v in held.items() if k.startswith("ema.")})
    torch.set_default_dtype(torch.float64)
    assert last["held_out"] == pytest.approx(HeldOut(Crops(), 5).loss(average), rel=1e-9) and "levels" not in last
    torch.set_default_dtype(torch.float32)
    train(tmp_path / "two", 6, 5)  # on with one process, which is not sharded
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-9


@pytest.mark.slow
def test_begun_by_one_killed_with_two_and_resumed(tmp_path):
    train(tmp_path / "one", 8, 5)
    train(tmp_path / "more", 2, 5)
    codes = together(tmp_path / "more", 8, 2, doomed=5)  # the checkpoint of step 4 is left
    assert codes[1] == -signal.SIGKILL and codes[0] != 0
    together(tmp_path / "more", 8, 2)
    assert distance(tmp_path / "one", tmp_path / "more") < 1e-9


def test_tensors_are_found_once_and_in_the_order_of_a_copy():
    shared, inner = torch.nn.Linear(2, 2, bias=False), torch.nn.BatchNorm1d(2)
    module = torch.nn.Module()
    module.first, module.norm, module.list = shared, inner, torch.nn.ModuleList([inner, torch.nn.Linear(2, 3)])
    module.tied = torch.nn.Linear(2, 2, bias=False)
    module.tied.weight = shared.weight
    module.own, module.absent = torch.nn.Parameter(torch.ones(1)), None
    module.register_buffer("kept", torch.zeros(2))
    module.register_buffer("none", None)
    parameters, buffers = sharding.tensors(module)
    for mine, theirs in ((parameters, module.parameters()), (buffers, module.buffers())):
        theirs = list(theirs)
        assert len(mine) == len(theirs) and {id(x) for x in mine} == {id(x) for x in theirs}
    names = {id(p): name for name, p in (*module.named_parameters(), *module.named_buffers())}
    other = copy.deepcopy(module)
    copied = {id(p): name for name, p in (*other.named_parameters(), *other.named_buffers())}
    for mine, theirs in zip((parameters, buffers), sharding.tensors(other), strict=True):
        assert [names[id(x)] for x in mine] == [copied[id(x)] for x in theirs]


def test_alone_nothing_is_divided():
    layer = torch.nn.Linear(2, 2)
    Ranks(sharded=True).shard(layer)
    assert type(layer) is torch.nn.Linear and not hasattr(layer.weight, "to_local")
