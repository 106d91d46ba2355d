"""`sfumato finetune`: from a model's weights, in full or by adapters; what is stored, sampled, merged and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_train_command import SMALL, config, same, sfumato, weights

import sfumato as sf
from sfumato.training import checkpoints, lora
from sfumato.zoo import files


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of pictures of three classes, with weights that are not those of its seed."""
    folder = tmp_path_factory.mktemp("base")
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6), dtype=np.uint8)
    np.savez(folder / "digits.npz", x=x, y=np.arange(20) % 3)
    words = ["train", folder / "digits.npz", "-o", folder / "run", "--steps", 2, *SMALL, "-q", "--rate", 0.1]
    assert sfumato(*words, "--warmup", 1).exit_code == 0
    sf.load(folder / "run").save(folder / "model")
    np.savez(folder / "new.npz", x=x[:12] // 2, y=np.arange(12) % 2)
    return folder


def drawn(folder, **more):
    return sf.load(folder).sample(4, steps=4, seed=1, cond=1, **more)


def test_adapters_from_the_first_step_to_a_merged_model(base, tmp_path):
    run = tmp_path / "run"
    words = ["finetune", base / "model", base / "new.npz", "-o", run, "--lora", 2, "-q"]
    assert sfumato(*words, "--steps", 1, "--rate", 0).exit_code == 0
    assert torch.equal(drawn(run), drawn(base / "model"))  # nothing has moved: the base model to the bit
    shutil.rmtree(run)
    assert sfumato(*words, "--steps", 3, "--rate", 0.1, "--seed", 4, "--every", 2).exit_code == 0
    assert float((drawn(run) - drawn(base / "model")).abs().max()) > 1e-4
    held = [k for k in weights(run) if not k.startswith("optimizer.")]
    assert held and all(lora.is_adapter(k) for k in held)
    made = config(run)
    assert made["lora"] == 2 and made["base"]["model"] == str(base / "model")
    assert (
        made["training"]["preset"] == "lora" and made["training"]["ema"] == [0.99] and made["names"] == ["0", "1", "2"]
    )
    merged = sfumato("merge", run, "-o", tmp_path / "merged")
    assert merged.exit_code == 0 and merged.stdout.strip() == str(tmp_path / "merged")
    assert torch.equal(drawn(tmp_path / "merged"), drawn(run)) and "lora" not in config(tmp_path / "merged")
    # The adapters themselves, not merged, say the same to rounding.
    _, denoiser = files.build(made)
    denoiser.load_state_dict(sf.load(base / "model").denoiser.state_dict())
    lora.adapt(denoiser, 2)
    averaged = {k.removeprefix(files.EMA): v for k, v in weights(run).items() if k.startswith(files.EMA)}
    denoiser.load_state_dict(averaged, strict=False)
    x = torch.linspace(-1, 1, 72).reshape(2, 1, 6, 6)
    label = torch.tensor([0, 2])
    with torch.no_grad():
        a = denoiser.eval()(x, 0.5, label).mean
        b = sf.load(run).denoiser(x, 0.5, label).mean
    assert float((a - b).abs().max()) < 1e-5
    # It goes on as one that never stopped.
    assert sfumato(*words, "--resume", "--steps", 5).exit_code == 0
    assert (
        sfumato(*words[:3], "-o", tmp_path / "whole", *words[5:], "--steps", 5, "--rate", 0.1, "--seed", 4).exit_code
        == 0
    )
    assert same(weights(run), weights(tmp_path / "whole"))


def test_in_full(base, tmp_path):
    run = tmp_path / "run"
    done = sfumato("finetune", base / "run", base / "new.npz", "-o", run, "--steps", 2, "-q", "--held-out", 0.25)
    assert done.exit_code == 0
    made = config(run)
    assert "lora" not in made and made["training"]["rate"] == 1e-4 and made["training"]["held_out"] == 0.25
    assert made["codec"] == config(base / "run")["codec"] and made["fields"] == config(base / "run")["fields"]
    start = {k.removeprefix(files.EMA): v for k, v in weights(base / "run").items() if k.startswith(files.EMA)}
    now = {k.removeprefix(files.EMA): v for k, v in weights(run).items() if k.startswith(files.EMA)}
    moved = max(float((now[k] - start[k]).abs().max()) for k in start)
    assert 0 < moved < 1e-3  # two steps of 1e-4 from the base model's average
    assert sfumato("sample", run, "-n", 2, "--steps", 2, "-o", tmp_path / "out", "-q").exit_code == 0
    other = sfumato("finetune", base / "model", base / "new.npz", "-o", run, "--resume", "--steps", 3, "-q")
    assert other.exit_code == 2 and f"base.model: {base / 'run'} there, {base / 'model'} here" in " ".join(
        other.stderr.split()
    )
    again = sfumato("finetune", base / "run", base / "new.npz", "-o", run, "--resume", "--steps", 3, "-q")
    assert again.exit_code == 0 and checkpoints.info(run / "checkpoint.safetensors")["step"] == 3


def test_data_of_another_scale_are_brought_to_the_models(tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 12))
    np.save(tmp_path / "x.npy", 300 + 40 * x)
    np.save(tmp_path / "y.npy", 340 + 10 * x)
    words = ["--steps", 1, *SMALL, "-q"]
    assert sfumato("train", tmp_path / "x.npy", "-o", tmp_path / "base", *words).exit_code == 0
    done = sfumato("finetune", tmp_path / "base", tmp_path / "y.npy", "-o", tmp_path / "run", "--steps", 1, "-q")
    assert done.exit_code == 0 and config(tmp_path / "run")["codec"] == config(tmp_path / "base")["codec"]
    from sfumato.cli.finetune import fitted
    from sfumato.data.arrays import Arrays

    x0, _ = fitted(Arrays.read(tmp_path / "y.npy"), config(tmp_path / "run")).batch(list(range(30)), None)
    assert float(x0.mean()) == pytest.approx((340 + 10 * x.mean() - 300) / 80, abs=0.05)
    assert float(x0.std()) == pytest.approx(10 / 80, rel=0.1)


def test_errors_have_their_codes(base, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((4, 7, 7, 3), np.uint8))
    np.savez(tmp_path / "many.npz", x=np.zeros((4, 6, 6), np.uint8), y=np.arange(4))
    np.save(tmp_path / "waves.npy", np.random.default_rng(0).standard_normal((9, 30)))
    table = [
        ([base / "none", base / "new.npz"], 3, "neither a shipped name"),
        ([base / "model", tmp_path / "wide.npy"], 3, "for data of the shape [1, None, None], these are [3, 7, 7]"),
        ([base / "model", tmp_path / "many.npz"], 3, "the model has 3 classes, the data 4"),
        ([base / "model", tmp_path / "waves.npy"], 3, "for data of the shape"),
        ([base / "model", base / "new.npz", "--set", "classes=4"], 2, "classes is decided by the model"),
        ([base / "model", base / "new.npz", "--set", "widths=[16]"], 3, "do not fit these fields"),
        ([base / "model", base / "new.npz", "--augment", 0.1], 2, "was not told of augmentations"),
        ([base / "model", base / "new.npz", "--lora", 0], 2, "lora"),
    ]
    for words, code, said in table:
        done = sfumato("finetune", *words, "-o", tmp_path / "out", "--steps", 1)
        assert (done.exit_code, said in " ".join(done.stderr.split())) == (code, True), (words, done.stderr)
        assert not (tmp_path / "out").exists()


def test_a_base_that_is_gone_or_another(base, tmp_path):
    shutil.copytree(base / "model", tmp_path / "model")
    run = tmp_path / "run"
    words = ["finetune", tmp_path / "model", base / "new.npz", "-o", run, "--lora", 1, "--steps", 1, "-q"]
    assert sfumato(*words).exit_code == 0
    path = tmp_path / "model" / "model.safetensors"
    save_file({k: v + 1 for k, v in load_file(path).items()}, path)
    with pytest.raises(ValueError, match="are not those that this run began with"):
        sf.load(run)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"this run begins with the model .*model, which is gone"):
        sf.load(run)


def test_dry_run_says_what_would_be_trained(base, tmp_path):
    done = sfumato("finetune", base / "model", base / "new.npz", "-o", tmp_path / "x", "--lora", 2, "--dry-run")
    assert done.exit_code == 0 and not (tmp_path / "x").exists()
    chosen = json.loads(done.stdout[done.stdout.index("{") :])
    plan = chosen["training"]
    assert chosen["lora"] == 2 and (plan["rate"], plan["steps"], plan["batch"]) == (1e-3, 400, 12)
    assert plan["warmup"] == 40 and plan["held_out"] == 0.2 and plan["preview"] == 200
    trained, whole = map(float, done.stdout.split(" with ")[1].split(" million")[0].split(" of "))
    assert trained < 0.5 * whole
