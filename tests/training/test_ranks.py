"""Two processes train as one: the same weights, one writer, another number of processes on resuming."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from sfumato.noise import Seeds
from sfumato.recipes.edm import Recipe
from sfumato.training.ranks import Ranks, joined
from sfumato.training.runs import run

RECIPE = Recipe(channels=1, widths=(8,), blocks=1, patch=2, classes=3, dropout=0.0)
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_ranks import train
print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
"""


class Crops:
    """Seven pictures, of which an item is a crop drawn by its own stream."""

    def __init__(self) -> None:
        t = torch.linspace(0, 6, 12)
        self.x = torch.stack([torch.sin(t * (1 + i / 3)).outer(torch.cos(t + i)) * 0.5 for i in range(7)])[:, None]

    def __len__(self):
        return 7

    def batch(self, items, noise: Seeds):
        corner = (noise.uniform(torch.empty(len(items), 2)) * 5).long()
        return torch.stack([self.x[i, :, r : r + 8, c : c + 8] for i, (r, c) in zip(items, corner.tolist())]), (
            torch.tensor(items) % 3
        )


def train(folder, steps, batch, accumulate=1, dtype=torch.float64):
    """The steps' losses and norms, as one of the processes of the environment."""
    torch.set_num_threads(1)
    torch.set_default_dtype(dtype)
    with joined() as ranks:
        torch.manual_seed(ranks.rank)  # the first process's weights must become everyone's
        objective = RECIPE.objective(RECIPE.model())
        steps = run(folder, {"recipe": "edm"}, objective, Crops(), steps=steps, batch=batch, seed=5, every=2,
                    accumulate=accumulate, ranks=ranks)  # fmt: skip
        found = [(step.index, step.loss, step.norm) for step in steps]
        state = [float(p.detach().double().sum()) for p in objective.parameters()]
    torch.set_default_dtype(torch.float32)
    return {"steps": found, "state": state}


def together(folder, steps, batch, world=2, accumulate=1):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join(p for p in sys.path if p)
    base = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
        "WORLD_SIZE": str(world),
        "MASTER_PORT": str(port),
    }
    script = SCRIPT.format(here=os.path.dirname(__file__))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(steps), str(batch), str(accumulate)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**base, "RANK": str(rank), "MASTER_ADDR": "127.0.0.1"},
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=150) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def distance(a, b):
    a, b = (load_file(folder / "checkpoint.safetensors") for folder in (a, b))
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def test_two_processes_have_the_weights_of_one_and_go_on_as_one(tmp_path):
    one, two = train(tmp_path / "one", 6, 5), together(tmp_path / "two", 4, 5)  # 5 rows: 2 and 3
    assert two[0] == two[1]
    for mine, theirs in zip(one["steps"], two[0]["steps"]):
        assert mine == pytest.approx(theirs, rel=1e-10)
    lines = [json.loads(line)["step"] for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [2, 4]  # one of the two wrote
    train(tmp_path / "two", 6, 5)  # on with one
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-9


@pytest.mark.slow
def test_a_run_begun_by_one_goes_on_with_two(tmp_path):
    train(tmp_path / "one", 6, 5)
    train(tmp_path / "three", 2, 5)
    resumed = together(tmp_path / "three", 6, 5, accumulate=2)  # on with two, whose 2 and 3 rows run in two parts
    assert [step[0] for step in resumed[1]["steps"]] == [3, 4, 5, 6]
    assert distance(tmp_path / "one", tmp_path / "three") < 1e-9


def test_rows_are_divided_once_and_evenly():
    for batch, world in ((8, 2), (5, 2), (7, 3), (4, 4)):
        parts = [list(Ranks(rank, world).rows(batch)) for rank in range(world)]
        assert [row for part in parts for row in part] == list(range(batch))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ValueError, match="2 items cannot be divided among 3"):
        Ranks(0, 3).rows(2)


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == Ranks() and ranks.first and not Ranks(1, 2).first
        assert not torch.distributed.is_initialized()
        layer = torch.nn.Linear(1, 1)
        assert ranks.parallel(layer) is layer and float(ranks.mean(torch.tensor(3.0))) == 3.0
        assert ranks.any(True) and not ranks.any(False)
        ranks.wait()
