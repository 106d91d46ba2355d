"""Every option of a run: stopped anywhere and continued, it has the weights of one that never was, bit for bit."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_runs import Stripes, metrics, same

from sfumato.data.augment import Augmented
from sfumato.data.splits import split
from sfumato.data.tar_shards import TarShards
from sfumato.recipes.edm import Recipe
from sfumato.training import HeldOut, lora
from sfumato.training.runs import run

RECIPE = Recipe(channels=1, widths=(8,), blocks=1, patch=2, classes=3, dropout=0.1)
AUGMENTED = Recipe(channels=1, widths=(8,), blocks=1, patch=2, classes=3, dropout=0.1, augment=True)
OPTIONS: dict[str, dict] = {
    "accumulated": {"accumulate": 3},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "several-averages": {"ema_decay": (0.99, 0.5), "widths": (0.05, 0.1), "snapshots": 4},
    "augmented": {"augment": 0.5},
    "held-out": {"held_out": 0.3},
    "lora": {"lora": 2},
    "shards": {"shards": True},
    "all": {"accumulate": 2, "precision": "fp16", "ema_decay": (0.99, 0.5), "widths": (0.1,), "snapshots": 3,
            "augment": 0.5, "held_out": 0.2, "lora": 2},
}  # fmt: skip


def written(folder: Path) -> Path:
    """Two tar files of six pictures each, with classes."""
    folder.mkdir(exist_ok=True)
    for shard in range(2):
        with tarfile.open(folder / f"part-{shard}.tar", "w") as file:
            for i in range(6):
                picture = np.random.default_rng([shard, i]).integers(0, 256, (9, 12), dtype=np.uint8)
                raw = io.BytesIO()
                Image.fromarray(picture).save(raw, "PNG")
                for suffix, content in (("png", raw.getvalue()), ("cls", str(i % 3).encode())):
                    entry = tarfile.TarInfo(f"{shard}{i:03d}.{suffix}")
                    entry.size = len(content)
                    file.addfile(entry, io.BytesIO(content))
    return folder


def start(folder: Path, steps: int, *, augment=0.0, held_out=0.0, lora_rank=0, shards=False, **options):
    torch.manual_seed(0)
    recipe = AUGMENTED if augment else RECIPE
    objective = recipe.objective(recipe.model())
    data = TarShards(written(folder.parent / "tars"), 8, 1, classes=True) if shards else Stripes()
    if lora_rank:
        torch.nn.init.normal_(objective.denoiser.net.leave.weight, std=0.1)
        lora.adapt(objective, lora_rank)
        options["only"] = lora.is_adapter
    if held_out:
        data, part = split(data, held_out, 5)
        options["held_out"] = HeldOut(part, 5)
    if augment:
        data = Augmented(data, augment)
    return run(folder, {"recipe": "edm"}, objective, data, steps=steps, batch=4, seed=5, **options)


def finish(folder: Path, steps: int, options: dict, **more):
    options = {("lora_rank" if k == "lora" else k): v for k, v in options.items()}
    for _ in start(folder, steps, **options, **more):
        pass
    return load_file(folder / "checkpoint.safetensors")


@pytest.mark.parametrize("name", OPTIONS)
def test_stopped_in_the_middle_and_after_a_checkpoint_it_ends_in_the_same_weights(tmp_path, name):
    whole = finish(tmp_path / "whole", 9, OPTIONS[name], every=3)
    options = {("lora_rank" if k == "lora" else k): v for k, v in OPTIONS[name].items()}
    steps = start(tmp_path / "begun", 9, **options, every=3)
    for step in steps:
        if step.index == 5:
            shutil.copytree(tmp_path / "begun", tmp_path / "run")  # what a kill leaves: steps 4 and 5 are lost
            break
    steps.close()
    steps = start(tmp_path / "run", 9, **options, every=3)
    assert next(steps).index == 4
    steps.close()  # a stop, which saves step 4
    assert same(finish(tmp_path / "run", 9, OPTIONS[name], every=3), whole)
    lines = [(row["step"], row.get("held_out"), row.get("levels")) for row in metrics(tmp_path / "whole")]
    again = [(row["step"], row.get("held_out"), row.get("levels")) for row in metrics(tmp_path / "run")]
    assert [line for line in again if line in lines] == lines
    if "widths" in OPTIONS[name]:
        a, b = (sorted((tmp_path / f / "averages").iterdir()) for f in ("whole", "run"))
        assert [p.name for p in a] == [p.name for p in b] and len(a) > 2
        assert all(p.read_bytes() == q.read_bytes() for p, q in zip(a, b, strict=True))


SCRIPT = """
import sys, time
from pathlib import Path
import torch
sys.path.insert(0, {here!r})
from test_exact_options import OPTIONS, start
torch.set_num_threads(1)
options = {{("lora_rank" if k == "lora" else k): v for k, v in OPTIONS["all"].items()}}
for step in start(Path(sys.argv[1]), 60, **options, every=2):
    print(step.index, flush=True)
    time.sleep(0.02)
"""


def test_killed_with_all_options_at_once(tmp_path):
    torch.set_num_threads(1)
    whole = finish(tmp_path / "whole", 12, OPTIONS["all"], every=100)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = SCRIPT.format(here=os.path.dirname(__file__))
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "run")], stdout=subprocess.PIPE, env=env)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 7:
            os.kill(child.pid, signal.SIGKILL)
            break
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    assert same(finish(tmp_path / "run", 12, OPTIONS["all"], every=2), whole)


def test_a_lora_checkpoint_holds_adapters_alone(tmp_path):
    held = finish(tmp_path / "run", 2, {"lora": 2})
    full = finish(tmp_path / "full", 2, {})
    kept = [k for k in held if k.startswith(("module.", "ema."))]
    assert kept and all(lora.is_adapter(k) for k in kept)
    assert sum(v.numel() for v in held.values()) < sum(v.numel() for v in full.values())
