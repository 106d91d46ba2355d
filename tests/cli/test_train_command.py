"""`sfumato train`: what it chooses, keeps, refuses, continues."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli import train_data, train_plan
from sfumato.cli.console import Console
from sfumato.cli.main import app
from sfumato.training import checkpoints, precision

SMALL = ["--set", "widths=[8]", "--set", "blocks=1", "--set", "attention=[]", "--batch", "4"]


def sfumato(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def digits(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", x=x, y=np.arange(20) % 3)
    return tmp_path / "digits.npz"


def weights(run):
    return load_file(run / "checkpoint.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def config(run):
    return json.loads((run / "config.json").read_text())


def test_dry_run_says_what_would_happen_and_writes_nothing(digits, tmp_path):
    out = tmp_path / "run"
    done = sfumato("train", digits, "--out", out, "--dry-run", "--steps", 50)
    assert done.exit_code == 0 and not out.exists()
    assert "20 items of 1 x 6 x 6" in done.stdout and "steps 1 to 50" in done.stdout
    chosen = json.loads(done.stdout[done.stdout.index("{") :])
    assert chosen["fields"]["classes"] == 3 and chosen["fields"]["channels"] == 1 and chosen["names"] == ["0", "1", "2"]
    assert chosen["training"] == {
        "kind": "array", "preset": "small", "items": 20, "shape": [1, 6, 6], "steps": 50, "batch": 20, "rate": 1e-3,
        "seed": 0, "schedule": "decay", "warmup": 100, "precision": precision.best(), "accumulate": 1, "compile": False,
        "ema": [0.999],
        "ema_width": [], "held_out": 0.0, "augment": 0.0, "every": 250, "preview": 1000, "log": [],
    }  # fmt: skip
    x = np.load(digits)["x"] / 127.5 - 1
    assert chosen["fields"]["sigma_data"] == pytest.approx(x.std(), abs=0.006)


def test_a_run_stopped_and_resumed_is_that_of_one_go_and_nothing_is_overwritten(digits, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert sfumato("train", digits, "--out", whole, "--steps", 6, *SMALL, "-q").exit_code == 0
    assert sfumato("train", digits, "-o", run, "--steps", 3, *SMALL, "--json").exit_code == 0
    again = sfumato("train", digits, "-o", run, "--steps", 6, *SMALL)
    assert again.exit_code == 2 and "holds a run" in again.stderr and "--resume" in again.stderr
    # What contradicts the run is an error that names it.
    contradictions = [
        (["--batch", 5], "training.batch: 4 there, 5 here"),
        (["--set", "blocks=2"], "fields.blocks: 1 there, 2 here"),
        (["--recipe", "edm", "--seed", 1], "training.seed: 0 there, 1 here"),
    ]
    for words, said in contradictions:
        wrong = sfumato("train", digits, "-o", run, "--resume", *words)
        assert wrong.exit_code == 2 and said in " ".join(wrong.stderr.split())
    idle = sfumato("train", digits, "-o", run, "--resume")
    assert idle.exit_code == 0 and "is trained: it is at step 3" in idle.stderr and idle.stdout.strip() == str(run)
    longer = sfumato("train", digits, "-o", run, "--resume", "--steps", 6)
    assert longer.exit_code == 0 and "warning" not in longer.stderr  # all of it is warmup: no rate depends on the steps
    assert config(run) == config(whole) and same(weights(run), weights(whole))
    assert checkpoints.info(run / "checkpoint.safetensors")["step"] == 6


def test_prolonging_warns_where_the_decay_had_begun(capsys):
    """Of 200 steps the last 60 decay: step 141 still has the full rate, step 142 has not."""
    short, long = {"steps": 200}, {"steps": 400}  # as a run whose config says no more
    train_plan.prolonged(short, long, 141, Console())
    train_plan.prolonged(short, short, 200, Console())
    assert capsys.readouterr().err == ""
    train_plan.prolonged(short, long, 142, Console())
    assert "ran with the rates of a run of 200 steps" in capsys.readouterr().err


def test_resuming_needs_the_run_and_its_data(digits, tmp_path):
    run = tmp_path / "run"
    none = sfumato("train", digits, "-o", run, "--resume")
    assert none.exit_code == 3 and "there is no run in" in none.stderr
    sfumato("train", digits, "-o", run, "--steps", 1, *SMALL, "-q")
    np.savez(tmp_path / "other.npz", x=np.zeros((9, 6, 6), np.uint8))
    other = sfumato("train", tmp_path / "other.npz", "-o", run, "--resume")
    assert other.exit_code == 3 and "items: 20 there, 9 here" in other.stderr
    (run / "config.json").write_text('{"recipe": "edm"}')
    foreign = sfumato("train", digits, "-o", run, "--resume")
    assert foreign.exit_code == 3 and "no run of `sfumato train`" in foreign.stderr
    (tmp_path / "file").write_text("x")
    assert sfumato("train", digits, "-o", tmp_path / "file").exit_code == 3


SCRIPT = "import sys; from sfumato.cli.main import run; sys.argv[0] = 'sfumato'; run()"


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_saves_the_step_and_says_how_to_go_on(digits, tmp_path, number):
    run = tmp_path / "run"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    words = ["train", str(digits), "--out", str(run), "--steps", "100000", "--json", "-q", *SMALL]
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line)["event"] == "step":
            child.send_signal(number)
            break
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130
    stopped = int(re.search(r"stopped after step (\d+), which is saved: --resume", said)[1])  # type: ignore[index]
    assert checkpoints.info(run / "checkpoint.safetensors")["step"] == stopped >= 50


def test_a_folder_of_pictures_with_classes(tmp_path):
    for i in range(6):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (40 * i, 0, 0)).save(folder / f"{i}.png")
    words = ["train", tmp_path / "data", "-o", tmp_path / "run", "--steps", 2, "--size", 8, "--channels", 1, *SMALL]
    assert sfumato(*words, "--classes", "--fit", "crop", "-q").exit_code == 0
    made = config(tmp_path / "run")
    assert made["names"] == ["a", "b"] and made["event"] == [1, None, None] and made["size"] == [8, 8]
    assert made["codec"] == {"kind": "affine", "scale": 0.5, "shift": 0.5}
    assert made["training"]["fit"] == "crop" and made["training"]["classes"] is True
    grouped = sfumato(*words[:2], "-o", tmp_path / "grouped", *words[4:], "--fit", "crop", "--set", "groups=4", "-q")
    assert grouped.exit_code == 0
    made = config(tmp_path / "grouped")  # normalised over all positions: of one size alone
    assert made["fields"]["groups"] == 4 and made["event"] == [1, 8, 8] and "size" not in made
    assert any(isinstance(m, torch.nn.GroupNorm) for m in sf.load(tmp_path / "grouped").denoiser.modules())
    assert sfumato("train", tmp_path / "data", "-o", tmp_path / "run", "--resume", "--steps", 3, "-q").exit_code == 0
    wrong = sfumato(*words[:2], "-o", tmp_path / "other", "--fit", "pad")
    assert wrong.exit_code == 3 and "got 'pad'" in wrong.stderr


def test_a_run_is_a_model(tmp_path):
    """What was trained is loaded with its averaged weights and codec, and sampled in data space."""
    x = 300 + 40 * np.random.default_rng(0).standard_normal((30, 12))
    np.save(tmp_path / "x.npy", x)
    run = tmp_path / "run"
    assert sfumato("train", tmp_path / "x.npy", "-o", run, "--steps", 2, *SMALL, "-q").exit_code == 0
    model = sf.load(run)
    drawn = model.sample(64, steps=10, seed=0)
    # Two steps leave the network near zero, so that EDM's own scaling makes N(mean, std^2) of the data.
    assert drawn.shape == (64, 1, 12) and abs(float(drawn.mean()) - x.mean()) < 10
    assert 0.8 < float(drawn.std()) / x.std() < 1.2
    averaged = {k.removeprefix("ema.denoiser."): v for k, v in weights(run).items() if k.startswith("ema.denoiser.")}
    assert same(averaged, dict(model.denoiser.state_dict()))


def test_errors_have_their_codes(digits, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "x.doc").write_text("1,2")
    table = [
        ([tmp_path / "none.npz"], 3, "is not there"),
        ([tmp_path / "x.doc"], 3, "a folder of pictures, sounds, shapes or .tar shards, or a .npy, .npz"),
        (
            [digits, "--size", 8],
            2,
            "--size is for pictures and shards and sound and table and text and pairs and points and",
        ),
        ([digits, "--set", "widhts=[8]"], 2, "widths"),
        ([digits, "--set", "channels=3"], 2, "channels is decided by the data"),
        ([digits, "--set", "blocks=many"], 2, "does not fit"),
        ([digits, "--recipe", "edn"], 2, "edm"),
        ([digits, "--steps", 0], 2, "steps"),
        ([digits, "--device", "warp"], 2, "warp"),
        ([tmp_path / "empty"], 3, "no picture below"),
    ]
    (tmp_path / "empty").mkdir()
    for words, code, said in table:
        done = sfumato("train", *words, "-o", out)
        assert (done.exit_code, said in " ".join(done.stderr.split())) == (code, True), (words, done.stderr)
        assert not out.exists()


def test_json_lines(digits, tmp_path):
    done = sfumato("train", digits, "-o", tmp_path / "run", "--steps", 50, *SMALL, "--json", "-q")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["event"] for row in rows] == ["start", "step", "done"]
    assert rows[0]["config"] == config(tmp_path / "run") and rows[0]["parameters"] > 100
    assert rows[1]["done"] == rows[1]["total"] == rows[2]["step"] == 50 and 0 < rows[1]["loss"] < 5
    assert rows[1]["seconds_left"] == 0


@pytest.mark.parametrize(
    ("event", "levels", "patch", "attention"),
    [((1, 2), 1, 1, True), ((1, 12, 12), 2, 1, True), ((3, 28, 28), 2, 2, True), ((3, 64, 64), 3, 2, True),
     ((3, 256, 256), 3, 2, False), ((2, 1000), 3, 2, True), ((1, 1, 1), 1, 1, True)],
)  # fmt: skip
def test_the_network_fits_the_data(event, levels, patch, attention):
    """Its stride never exceeds the shorter side, and attention looks at 256 positions at most."""
    guess = train_data.network(event, 10_000, whole=True)
    assert len(guess["widths"]) == levels and guess["patch"] == patch and guess["dims"] == len(event) - 1
    assert patch * 2 ** (levels - 1) <= min(event[1:]) and guess["dropout"] == 0.0
    assert guess["attention"] == ((levels - 1,) if attention else ())
    assert train_data.network(event, 4999, whole=False) == {**guess, "attention": (), "dropout": 0.1}
