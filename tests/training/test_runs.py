"""Runs in a folder: exact after a kill, a stop or a prolongation; metrics without gaps; nothing overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file

from sfumato.recipes.edm import Recipe
from sfumato.training import checkpoints
from sfumato.training.runs import OnDevice, differences, gained, run

RECIPE = Recipe(channels=1, widths=(8, 16), blocks=1, patch=2, classes=3, dropout=0.1)
SCRIPT = """
import sys, time
from pathlib import Path
import torch
sys.path.insert(0, {here!r})
from test_runs import start
torch.set_num_threads(1)
for step in start(Path(sys.argv[1]), 60, every=3):
    print(step.index, flush=True)
    time.sleep(0.02)
"""


class Stripes:
    """Eleven fixed pictures with labels."""

    def __init__(self) -> None:
        t = torch.linspace(0, 6, 9)
        self.x = torch.stack([torch.sin(t * (1 + i / 3)).outer(torch.cos(t + i)) * 0.5 for i in range(11)])[:, None]

    def __len__(self):
        return 11

    def batch(self, items, noise):
        flip = noise.uniform(torch.empty(len(items), 1, 1, 1)) < 0.5
        x = self.x[items]
        return torch.where(flip, x.flip(3), x), torch.tensor(items) % 3


def start(folder, steps, **options):
    torch.manual_seed(0)
    objective = RECIPE.objective(RECIPE.model())
    return run(folder, {"recipe": "edm"}, objective, Stripes(), steps=steps, batch=4, seed=5, **options)


def finish(folder, steps, **options):
    for _ in start(folder, steps, **options):
        pass
    return load_file(folder / "checkpoint.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_kill_9_at_any_step_then_resume_gives_the_same_weights(tmp_path):
    whole = finish(tmp_path / "whole", 24, every=100)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = SCRIPT.format(here=os.path.dirname(__file__))
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, env=env)
    stop = 4 + time.time_ns() % 12
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= stop:
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    reached = checkpoints.info(tmp_path / "run" / "checkpoint.safetensors")["step"]
    assert 3 <= reached < 24 and reached % 3 == 0
    assert same(finish(tmp_path / "run", 24, every=3), whole), f"killed after step {stop}, resumed from {reached}"
    assert [row["step"] for row in metrics(tmp_path / "run")] == list(range(3, 25, 3))


def test_leaving_the_loop_saves_the_step(tmp_path):
    for step in (steps := start(tmp_path / "run", 10, every=4)):
        if step.index == 6:
            break
    steps.close()
    assert checkpoints.info(tmp_path / "run" / "checkpoint.safetensors")["step"] == 6
    assert same(finish(tmp_path / "run", 10, every=4), finish(tmp_path / "whole", 10, every=100))
    assert [row["step"] for row in metrics(tmp_path / "run")] == [4, 6, 8, 10]


def test_leaving_after_a_checkpoint_does_not_save_it_twice(tmp_path):
    steps = start(tmp_path, 10, every=2)
    next(steps), next(steps)
    before = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    steps.close()
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == before and len(metrics(tmp_path)) == 1


def test_metrics_are_means_since_the_line_before(tmp_path):
    seen = list(start(tmp_path, 7, every=3, schedule=lambda n: 1 / n))
    rows = metrics(tmp_path)
    for row, part in zip(rows, (seen[:3], seen[3:6], seen[6:]), strict=True):
        assert row["step"] == part[-1].index and row["rate"] == part[-1].rate == pytest.approx(1e-3 / row["step"])
        assert row["loss"] == pytest.approx(sum(s.loss for s in part) / len(part), rel=1e-12)
    assert 0 < rows[0]["hours"] <= rows[1]["hours"] <= rows[2]["hours"] < 0.1
    assert checkpoints.info(tmp_path / "checkpoint.safetensors") == {"step": 7, "hours": rows[2]["hours"]}
    finish(tmp_path, 8)
    assert metrics(tmp_path)[3]["hours"] > rows[2]["hours"]


def test_torn_lines_and_lines_of_lost_steps_go(tmp_path):
    finish(tmp_path, 4, every=2)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 9}\nnonsense\n[1]\n{"other": 1}\n{"step": 3, "lo')
    finish(tmp_path, 6, every=2)
    assert [row["step"] for row in metrics(tmp_path)] == [2, 4, 6]


def test_a_failing_checkpoint_stops_the_run_and_keeps_the_one_before(tmp_path, monkeypatch):
    whole = finish(tmp_path / "whole", 6, every=100)
    steps = start(tmp_path / "run", 6, every=2)
    next(steps), next(steps)

    def full(*args, **kw):
        raise checkpoints.SafetensorError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        with pytest.raises(OSError, match="is the disk full"):
            next(steps), next(steps)
    assert checkpoints.info(tmp_path / "run" / "checkpoint.safetensors")["step"] == 2
    assert same(finish(tmp_path / "run", 6, every=2), whole)
    assert [row["step"] for row in metrics(tmp_path / "run")] == [2, 4, 6]


def test_another_config_is_an_error_that_says_what_differs(tmp_path):
    objective, data = RECIPE.objective(RECIPE.model()), Stripes()
    config = {"recipe": "edm", "fields": {"a": (1, 2), "b": 2}}
    next(run(tmp_path, config, objective, data, steps=1, batch=1))
    next(run(tmp_path, config, objective, data, steps=2, batch=1))  # the same: goes on
    with pytest.raises(ValueError, match=r"other settings \(fields.b: 2 there, 3 here, more: nothing there, x here\)"):
        next(
            run(
                tmp_path,
                {"recipe": "edm", "fields": {"a": [1, 2], "b": 3}, "more": "x"},
                objective,
                data,
                steps=2,
                batch=1,
            )
        )
    (tmp_path / "config.json").write_text('{"recipe')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        next(run(tmp_path, config, objective, data, steps=2, batch=1))
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"a checkpoint but no config\.json"):
        next(run(tmp_path, config, objective, data, steps=2, batch=1))


class Known:
    """Stands for a recipe; `made` has no default, and `kept` none that a caller gives."""

    made: int
    widths: tuple[int, ...] = (1, 2)
    names: list[str] = field(default_factory=lambda: ["x"])
    kept: int = field(default=3, init=False)


KNOWN = dataclass(Known)


def test_a_field_that_the_recipe_has_gained_is_named_once_and_its_value_counts(tmp_path):
    fields, said = {"made": 1, "widths": (1, 2), "names": ["x"]}, []
    path = tmp_path / "run" / "config.json"

    def go(steps, fields, recipe=KNOWN, folder="run"):
        torch.manual_seed(0)
        objective = RECIPE.objective(RECIPE.model())
        config = {"recipe": "edm", "fields": fields, "event": [1]}
        options = {"steps": steps, "batch": 4, "seed": 5, "warn": said.append, "recipe": recipe}
        return list(run(tmp_path / folder, config, objective, Stripes(), **options))

    def lose(*names):
        config = json.loads(path.read_text())
        config["fields"] = {k: v for k, v in config["fields"].items() if k not in names}
        path.write_text(json.dumps(config))

    go(4, fields, folder="whole"), go(2, fields)
    lose("widths", "names")
    for other, difference in (
        ({"widths": (1, 3)}, r"fields.widths: \[1, 2\] there, \[1, 3\] here"),
        ({"names": []}, r"fields.names: \['x'\] there, \[\] here"),
        ({"made": 2}, "fields.made: 1 there, 2 here"),
        ({"kept": 3}, "fields.kept: nothing there, 3 here"),
    ):
        with pytest.raises(ValueError, match=rf"other settings \({difference}\)"):
            go(4, fields | other)
    with pytest.raises(ValueError, match=r"fields.widths: nothing there, \[1, 2\] here"):
        go(4, fields, recipe=None)
    assert not said and "widths" not in path.read_text()
    go(3, fields)
    assert said == [f"{path} was written before its recipe had all of its fields; these take their defaults: "
                    'widths = [1, 2], names = ["x"].']  # fmt: skip
    assert json.loads(path.read_text())["fields"] == {"made": 1, "widths": [1, 2], "names": ["x"]}
    go(4, fields)
    assert len(said) == 1
    assert same(*(load_file(tmp_path / name / "checkpoint.safetensors") for name in ("run", "whole")))
    lose("made")
    with pytest.raises(ValueError, match=r"fields.made: nothing there, 1 here"):
        go(5, fields)
    go(5, {"widths": (1, 2)}, folder="other"), go(6, {"widths": (1, 2)}, folder="other")  # what neither says is no news
    assert len(said) == 1 and gained({"recipe": "edm"}, KNOWN) == {}


def test_differences():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "c": 2}) == []
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 5}}) == ["a.b: 1 there, 5 here", "c: 2 there, nothing here"]


def test_the_average_lives_where_the_weights_do(tmp_path):
    """`run` moves the objective first: the meta device stands for any other."""
    batch = OnDevice(Stripes(), "meta").batch([1, 2], __import__("sfumato.noise").noise.Seeds([0, 1]))
    assert batch[0].device.type == "meta" and batch[1].device.type == "meta" and len(OnDevice(Stripes(), "cpu")) == 11

    class Pairs(Stripes):
        def batch(self, items, noise):
            return self.x[items], {"a": self.x[items]} if len(items) > 1 else None

    x0, cond = OnDevice(Pairs(), "meta").batch([1, 2], None)
    assert x0.device.type == cond["a"].device.type == "meta"
    assert OnDevice(Pairs(), "meta").batch([1], None)[1] is None
