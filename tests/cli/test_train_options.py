"""Options of `sfumato train`: in the config, obeyed, and said; data of other kinds."""

from __future__ import annotations

import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from test_train_command import SMALL, config, digits, same, sfumato, weights  # noqa: F401

import sfumato as sf
from sfumato.cli import loggers, train_data, train_loop
from sfumato.codecs import Channels

CSDI = ["--set", "width=8", "--set", "blocks=1", "--set", "heads=2", "--set", "forward=8", "--batch", "4"]


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_every_option_is_in_the_config_and_a_resumed_run_keeps_it(digits, tmp_path):  # noqa: F811
    words = [
        "--schedule", "cosine", "--warmup", 3, "--precision", "fp16", "--accumulate", 2, "--ema", 0.9, "--ema", 0.5,
        "--ema-width", 0.1, "--drop", 0.25, "--held-out", 0.2, "--every", 2,
    ]  # fmt: skip
    run, whole = tmp_path / "run", tmp_path / "whole"
    done = sfumato("train", digits, "-o", whole, "--steps", 4, *SMALL, *words, "-q")
    assert done.exit_code == 0 and "this processor does not multiply fp16 numbers itself" in done.stderr
    plan = config(whole)["training"]
    want = {"schedule": "cosine", "warmup": 3, "precision": "fp16", "accumulate": 2, "ema": [0.9, 0.5],
            "ema_width": [0.1], "held_out": 0.2, "every": 2, "snapshots": 1}  # fmt: skip
    assert {k: plan[k] for k in want} == want and config(whole)["fields"]["drop"] == 0.25
    assert {k.partition(".")[0] for k in weights(whole)} == {"module", "ema", "ema1", "power0", "optimizer"}
    assert [row["step"] for row in rows(whole)] == [2, 4]
    assert all(row["held_out"] > 0 and len(row["levels"]) == 7 for row in rows(whole))
    # The rates of steps 2 and 4 by hand: 2 / 3 on the way up with the cosine's start, then the cosine's end.
    assert [row["rate"] for row in rows(whole)] == pytest.approx([1e-3 * 2 / 3, 0.0])
    changed = sfumato("train", digits, "-o", whole, "--resume", "--ema", 0.8, "--steps", 5)
    assert changed.exit_code == 2 and "training.ema: [0.9, 0.5] there, [0.8] here" in " ".join(changed.stderr.split())
    stop = sfumato("train", digits, "-o", run, "--steps", 2, *SMALL, *words, "-q")
    assert stop.exit_code == 0
    longer = sfumato("train", digits, "-o", run, "--resume", "--steps", 4, "-q")
    assert longer.exit_code == 0 and "ran with the rates" not in longer.stderr  # it was all warm-up
    assert same(weights(run), weights(whole))
    longer = sfumato("train", digits, "-o", whole, "--resume", "--steps", 5, "-q")
    assert longer.exit_code == 0 and "ran with the rates of a run of 4 steps" in longer.stderr


def test_a_run_whose_config_says_little_goes_on(digits, tmp_path):  # noqa: F811
    """As one from before there were these options."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [*SMALL, "-q", "--preview", 0, "--precision", "fp32"]
    assert sfumato("train", digits, "-o", whole, "--steps", 4, *words).exit_code == 0
    assert sfumato("train", digits, "-o", run, "--steps", 2, *words).exit_code == 0
    made = config(run)
    keep = ("items", "shape", "steps", "batch", "rate", "seed")
    made["training"] = {k: made["training"][k] for k in keep}
    (run / "config.json").write_text(json.dumps(made))
    assert sfumato("train", digits, "-o", run, "--resume", "--steps", 4, "-q").exit_code == 0
    assert same(weights(run), weights(whole))


def test_a_run_from_before_its_recipe_had_a_field_goes_on_and_says_so_once(digits, tmp_path):  # noqa: F811
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = [*SMALL, "-q", "--preview", 0]
    assert sfumato("train", digits, "-o", whole, "--steps", 4, *words).exit_code == 0
    assert sfumato("train", digits, "-o", run, "--steps", 2, *words).exit_code == 0
    made = config(run)
    del made["fields"]["augment"], made["fields"]["dims"]
    (run / "config.json").write_text(json.dumps(made))
    go_on = ["train", digits, "-o", run, "--resume", "-q"]
    other = sfumato(*go_on, "--set", "augment=true")
    assert other.exit_code == 2 and "fields.augment: False there, True here" in " ".join(other.stderr.split())
    first = sfumato(*go_on, "--steps", 3, "--set", "augment=false")
    assert first.exit_code == 0 and first.stderr.count("take their defaults: dims = 2, augment = false.") == 1
    again = sfumato(*go_on, "--steps", 4)
    assert again.exit_code == 0 and "defaults" not in again.stderr
    assert same(weights(run), weights(whole)) and config(run)["fields"] == config(whole)["fields"]


def test_an_average_of_any_width_is_a_model(digits, tmp_path):  # noqa: F811
    run = tmp_path / "run"
    words = ["--ema-width", 0.05, "--ema-width", 0.2, "--steps", 20, *SMALL, "-q"]
    assert sfumato("train", digits, "-o", run, *words).exit_code == 0
    made = sfumato("average", run, "--width", 0.2, "-o", tmp_path / "model")
    assert made.exit_code == 0 and made.stdout.strip() == str(tmp_path / "model")
    kept = {k.removeprefix("power1.denoiser."): v for k, v in weights(run).items() if k.startswith("power1.denoiser.")}
    found = sf.load(tmp_path / "model").denoiser.state_dict()
    assert max(float((kept[k] - found[k]).abs().max()) for k in kept) < 1e-5
    assert sfumato("average", run, "--width", 0.5, "-o", tmp_path / "x").exit_code == 3
    assert sfumato("train", digits, "-o", tmp_path / "none", "--steps", 1, *SMALL, "-q").exit_code == 0
    none = sfumato("average", tmp_path / "none", "--width", 0.1, "-o", tmp_path / "x")
    assert none.exit_code == 3 and "no snapshots of averages" in none.stderr


def test_previews(digits, tmp_path):  # noqa: F811
    run = tmp_path / "run"
    words = ["--steps", 4, *SMALL, "--preview", 2, "--json", "-q"]
    assert sfumato("train", digits, "-o", run, *words).exit_code == 0
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["00000002.png", "00000004.png"]
    with Image.open(run / "samples" / "00000004.png") as sheet:
        assert sheet.size == (4 * 6 + 3 * 2,) * 2  # 16 pictures of 6 pixels, 2 between them
    bare = tmp_path / "bare"
    assert sfumato("train", digits, "-o", bare, "--steps", 4, *SMALL, "--preview", 0, "-q").exit_code == 0
    assert not (bare / "samples").exists() and same(weights(run), weights(bare))  # looking changes nothing


def test_logs(digits, tmp_path, monkeypatch):  # noqa: F811
    written, name = [], "torch.utils.tensorboard"

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, key, value, step):
            written.append((key, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(SummaryWriter=SummaryWriter))
    run = tmp_path / "run"
    words = ["--steps", 2, *SMALL, "--log", "tensorboard", "-q", "--every", 1]
    assert sfumato("train", digits, "-o", run, *words).exit_code == 0
    assert written[0] == (str(run / "tensorboard"), 1) and written[-1] == "closed"
    assert [(k, s) for k, _, s in written[1:-1]] == [(k, s) for s in (1, 2) for k in ("loss", "hours", "rate")]
    assert written[1][1] == rows(run)[0]["loss"]
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    for kind, said in (("tensorboard", "sfumato[train]"), ("wandb", "pip install wandb")):
        out = tmp_path / kind
        missing = sfumato("train", digits, "-o", out, "--steps", 1, *SMALL, "--log", kind, "-q")
        assert missing.exit_code == 4 and said in missing.stderr and not (out / "config.json").exists()


def test_weights_and_biases(tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(
        log=lambda row, step: calls.append((row, step)), finish=lambda: calls.append("finished")
    )
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **kw: calls.append(kw) or run))
    (log,) = loggers.opened(["wandb"], tmp_path / "mine", {"recipe": "edm"}, 5)
    log.write({"step": 7, "loss": 0.5, "levels": {"-2": 0.1}})
    log.close()
    assert calls[0]["id"] == calls[0]["name"] == "mine" and calls[0]["config"] == {"recipe": "edm"}
    assert calls[1:] == [({"loss": 0.5, "levels/-2": 0.1}, 7), "finished"]


def test_a_table(tmp_path):
    t = np.arange(80)
    lines = ["day,a,b", *(f"d{i},{100 + 5 * np.sin(i / 3):.4f},{'' if i == 7 else 0.1 * (i % 5)}" for i in t)]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    run = tmp_path / "run"
    words = ["train", tmp_path / "x.csv", "-o", run, "--steps", 2, "--size", 16, *CSDI, "-q"]
    assert sfumato(*words).exit_code == 0
    made = config(run)
    assert made["recipe"] == "csdi" and made["columns"] == ["a", "b"] and made["event"] == [2, 16]
    assert made["fields"]["strategy"] == "prior" and made["training"]["size"] == 16
    model = sf.load(run)
    assert isinstance(model.codec, Channels)
    x = model.sample(32, steps=8, seed=0)
    assert x.shape == (32, 2, 16) and abs(float(x[:, 0].mean()) - 100) < 3 and 0 < float(x[:, 1].mean()) < 0.4
    assert sfumato("train", tmp_path / "x.csv", "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0
    refused = sfumato("train", tmp_path / "x.csv", "-o", tmp_path / "y", "--recipe", "edm")
    assert refused.exit_code == 2 and "numbers are missing in the table" in " ".join(refused.stderr.split())


def test_sounds(tmp_path):
    from sfumato.data.wave import read_wave, write_wave

    for i in range(2):
        write_wave(tmp_path / "data" / f"{i}.wav", 0.2 * torch.sin(torch.arange(100) / (3 + i))[None], 8000)
    run = tmp_path / "run"
    words = ["train", tmp_path / "data", "-o", run, "--steps", 2, "--size", 16, *SMALL, "-q"]
    assert sfumato(*words).exit_code == 0
    made = config(run)
    assert made["hertz"] == 8000 and made["event"] == [1, 16] and made["fields"]["dims"] == 1
    assert made["training"]["kind"] == "sound" and made["training"]["items"] == 12
    assert 0.1 < float(sf.load(run).sample(32, steps=8).std()) < 0.3
    done = sfumato("sample", run, "-n", 2, "--steps", 4, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert f"{run} is a run at step 2: samples are drawn with its averaged weights (EMA, decay 0.999)." in done.stderr
    written, rate = read_wave(tmp_path / "out" / "sample-001.wav")
    assert rate == 8000 and np.abs(written - sf.load(run).sample(2, steps=4)[1].numpy()).max() < 1e-4
    assert sfumato("train", tmp_path / "data", "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0


def test_few_pictures_are_augmented_and_the_network_is_told(tmp_path):
    for i in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (60 * i, 0, 0)).save(tmp_path / "data" / f"{i}.png")
    words = ["train", tmp_path / "data", "--steps", 2, "--size", 8, *SMALL, "-q"]
    run = tmp_path / "run"
    assert sfumato(*words, "-o", run).exit_code == 0
    made = config(run)
    assert made["training"]["augment"] == 0.12 and made["fields"]["augment"] is True
    assert any("augmented" in key for key in weights(run))
    assert sf.load(run).sample(1, steps=2).shape == (1, 3, 8, 8)
    assert sfumato(*words[:2], "-o", run, "--resume", "--steps", 3, "-q").exit_code == 0
    assert sfumato(*words, "-o", tmp_path / "bare", "--augment", 0).exit_code == 0
    assert config(tmp_path / "bare")["fields"]["augment"] is False
    other = sfumato(*words, "-o", tmp_path / "x", "--recipe", "ddpm", "--augment", 0.1)
    assert other.exit_code == 2 and "ddpm is not told of augmentations" in " ".join(other.stderr.split())
    assert sfumato(*words, "-o", tmp_path / "ddpm", "--recipe", "ddpm", "--dry-run").exit_code == 0


def test_what_data_are(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"")
    assert train_data.kind(tmp_path) == "shards" == train_data.kind(tmp_path / "x.tar")
    for name, kind in (("a.csv", "table"), ("a.PARQUET", "table"), ("a.txt", "text"), ("a.npz", "array")):
        (tmp_path / name).write_bytes(b"")
        assert train_data.kind(tmp_path / name) == kind
    sound = tmp_path / "sound"
    sound.mkdir()
    assert train_data.kind(sound) == "pictures"
    (sound / "a.wav").write_bytes(b"")
    assert train_data.kind(sound) == "sound"
    (sound / "cover.jpg").write_bytes(b"")
    assert train_data.kind(sound) == "pictures"


def test_fsdp_alone_is_an_error(digits, tmp_path):  # noqa: F811
    done = sfumato("train", digits, "-o", tmp_path / "run", "--fsdp")
    assert done.exit_code == 2 and "start them with torchrun" in " ".join(done.stderr.split())


def test_compiled(digits, tmp_path, monkeypatch):  # noqa: F811
    """The network alone, by torch; what is averaged and stored is the same module."""
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    words = ["--steps", 1, *SMALL, "-q"]
    assert sfumato("train", digits, "-o", tmp_path / "a", *words).exit_code == 0 and compiled == []
    assert sfumato("train", digits, "-o", tmp_path / "b", *words, "--compile").exit_code == 0
    assert compiled == ["UNet"] and config(tmp_path / "b")["training"]["compile"] is True
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.parametrize("key", ["timegrad", "neural-sde", "csdi", "dsm"])
def test_pictures_for_a_recipe_of_other_things_are_one_sentence(key, digits, tmp_path):  # noqa: F811
    done = sfumato("train", digits, "-o", tmp_path / "run", "--recipe", key, "--steps", 1, "--batch", 2, "-q")
    assert done.exit_code == 3 and done.stderr.count("\n") == 1
    assert (
        done.stderr.startswith(f"error: recipe {key} cannot train on items of ")
        and f"`sfumato show {key}`" in done.stderr
    )


def test_only_the_first_step_is_blamed_on_the_items():
    """Later failures, a full memory and settings that differ keep their own words; closing reaches the run."""
    closed = []

    def steps(error, count):
        try:
            yield from range(count)
            raise error
        finally:
            closed.append(True)

    for error, count in ((RuntimeError("late"), 1), (RuntimeError("out of memory"), 0), (ValueError("settings"), 0)):
        with pytest.raises(type(error), match=str(error)):
            list(train_loop.fitting(steps(error, count), "edm", (3, 8, 8)))
    with pytest.raises(ValueError, match=r"edm cannot train on items of 3 x 8 x 8 \(shapes\)"):
        list(train_loop.fitting(steps(TypeError("shapes"), 0), "edm", (3, 8, 8)))
    going = train_loop.fitting(steps(RuntimeError(), 3), "edm", (3, 8, 8))
    assert next(going) == 0
    going.close()
    assert len(closed) == 5


@pytest.mark.parametrize(("items", "preset", "dropout"), [(4999, "small", 0.1), (5000, "large", 0.0)])
def test_the_preset_changes_at_5000_items(tmp_path: Path, items: int, preset: str, dropout: float) -> None:
    np.savez(tmp_path / "x.npz", images=np.zeros((items, 4, 4, 1), np.uint8))
    said = sfumato("train", tmp_path / "x.npz", "-o", tmp_path / "run", "--dry-run", "-q").stdout
    found = json.loads(said.partition("\n")[2])
    assert (found["training"]["preset"], found["fields"]["dropout"]) == (preset, dropout)
