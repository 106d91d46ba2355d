import dataclasses
import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import sfumato as sf
from sfumato.codecs import Affine, Codec
from sfumato.recipes.edm import Recipe
from sfumato.training import Ema, checkpoints
from sfumato.zoo import Model, files, shipped

FIELDS = json.loads(json.dumps(dataclasses.asdict(Recipe(channels=3, widths=(8, 16), blocks=1))))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    denoiser = Recipe(channels=3, widths=(8, 16), blocks=1).model()
    randomize(denoiser)
    config = {"recipe": "edm", "fields": FIELDS, "event": [3, None, None], "size": 16, "note": "kept"}
    return Model(Affine(0.25, 0.75), denoiser.eval(), config)


def randomize(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.1 * torch.randn_like(p))


def test_a_model_is_the_same_after_saving_and_loading(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "deep" / "m")
    loaded = sf.load(tmp_path / "deep" / "m")
    assert loaded.codec == model.codec
    assert loaded.config == {**model.config, "codec": {"kind": "affine", "scale": 0.25, "shift": 0.75}}
    assert torch.equal(loaded.sample(2, steps=3), model.sample(2, steps=3))
    assert not any(p.requires_grad for p in loaded.denoiser.parameters()) and not loaded.denoiser.training
    assert sorted(os.listdir(tmp_path / "deep" / "m")) == ["config.json", "model.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_float32(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    loaded = sf.load(tmp_path / "half")
    for (name, p), q in zip(model.denoiser.state_dict().items(), loaded.denoiser.state_dict().values(), strict=True):
        assert q.dtype == p.dtype and torch.equal(q, p.half().float() if p.is_floating_point() else p), name


def test_saving_again_replaces_both_files_and_leaves_others(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    (tmp_path / "README.md").write_text("card")
    randomize(model.denoiser)
    model.save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["README.md", "config.json", "model.safetensors"]
    assert torch.equal(sf.load(tmp_path).sample(1, steps=2), model.sample(1, steps=2))


def test_a_failed_save_leaves_nothing_half_written(model: Model, tmp_path: Path, monkeypatch) -> None:
    model.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    randomize(model.denoiser)
    monkeypatch.setattr(files.json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_training_run_gives_its_averaged_weights(tmp_path: Path) -> None:
    recipe = Recipe(channels=1, widths=(8, 16), blocks=1, classes=3)
    objective = recipe.objective(recipe.model())
    optimizer = torch.optim.AdamW(objective.parameters())
    ema = Ema(objective, 0.9)
    randomize(ema.average)
    checkpoints.save(tmp_path / "checkpoint.safetensors", objective, optimizer, ema, {"step": 1})
    fields = {"channels": 1, "widths": [8, 16], "blocks": 1, "classes": 3}
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "edm", "fields": fields}))
    loaded = sf.load(str(tmp_path))
    assert loaded.codec == Affine.unit() and loaded.event == (1, None, None) and loaded.classes == 3
    for name, p in loaded.denoiser.state_dict().items():
        assert torch.equal(p, ema.average.denoiser.state_dict()[name]), name
    assert loaded.sample(2, cond=1, scale=2.0, steps=2, size=8).shape == (2, 1, 8, 8)
    # The null is the label of no class: with it alone, guidance of scale 0 forgets the class.
    one, two = (loaded.sample(1, cond=c, scale=0.0, steps=2, size=8) for c in (0, 2))
    assert torch.equal(one, two)
    none = loaded.sample(1, steps=2, size=8)
    assert torch.allclose(one, none, atol=1e-6)


def test_one_dimensional_runs_have_one_open_axis(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "edm", "fields": {"dims": 1, "channels": 2}}))
    assert files.read_config(tmp_path)["event"] == [2, None]
    (tmp_path / "config.json").write_text(json.dumps({"recipe": "edm", "fields": {}}))
    assert files.read_config(tmp_path)["event"] == [3, None, None]


def test_a_field_that_the_recipe_has_gained_takes_its_default_and_is_named(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    old = json.loads(path.read_text())
    del old["fields"]["augment"], old["fields"]["blocks"]
    path.write_text(json.dumps({**old, "fields": old["fields"] | {"std": 1.5}}))
    with pytest.warns(
        UserWarning, match=r"config\.json was written before .* defaults: blocks = 2, augment = false\.$"
    ):
        found = files.read_config(tmp_path)
    assert found["fields"] == {**FIELDS, "blocks": 2, "std": 1.5}
    del old["fields"]["channels"]
    path.write_text(json.dumps({**old, "fields": old["fields"] | {"blocks": 1}}))
    with pytest.warns(UserWarning, match="channels = 3, augment = false") as told:
        loaded = sf.load(tmp_path)
    assert len(told) == 1 and loaded.config == {**model.config, "codec": old["codec"]}
    assert torch.equal(loaded.sample(2, steps=3), model.sample(2, steps=3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Model(model.codec, model.denoiser, {**model.config, "fields": {"widths": [8, 16], "blocks": 1}}).save(tmp_path)
        assert sf.load(tmp_path).config == loaded.config  # what is saved is whole
        for name in shipped():
            files.read_config(files.find(name))


def test_shipped_names_come_first_and_are_suggested(model: Model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    model.save(tmp_path / "photo")
    (tmp_path / "code").mkdir()
    assert files.shipped() == ["photo"]
    assert sf.load("photo").config["note"] == "kept"
    with pytest.raises(FileNotFoundError, match=r"no model 'phoot'.*\(photo\) nor a folder\. Nearest: photo"):
        sf.load("phoot")


@pytest.mark.parametrize("name", shipped())
def test_the_configs_of_shipped_models_are_whole(name: str) -> None:
    """A recipe that gains a field gains it in their configs too: nobody is warned of what is shipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files.read_config(files.find(name))


def test_without_shipped_models_the_message_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"\(none\)"):
        sf.load("x")
    assert shipped() == []


def test_a_folder_without_config_or_weights_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        sf.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor checkpoint\.safetensors"):
        sf.load(tmp_path)
    for path in ("./a/b", "~/b", "a//b", "a/b/c", "/a"):
        with pytest.raises(FileNotFoundError, match="no model"):
            sf.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"recipe": "edm"}', '{"fields": {}}'])
def test_a_damaged_config_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is no model's config"):
        sf.load(tmp_path)


def test_unknown_recipes_fields_and_codecs_are_named(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for change, words in (
        ({"recipe": "edmm"}, "no method has the key 'edmm'. Nearest: edm"),
        ({"fields": {"width": 3}}, "the recipe 'edm' has no field 'width'. Nearest: widths"),
        (
            {"codec": {"kind": "wavelet"}},
            "codecs of kind 'affine', 'channels', 'quantized', 'alphabet' and 'bars' can be read, got 'wavelet'",
        ),
    ):
        path.write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError) as error:
            sf.load(tmp_path)
        assert words in str(error.value)


def test_damaged_weights_and_those_of_another_network_are_refused(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("16", "24"))
    with pytest.raises(ValueError, match=r"are not those of its config: .*size mismatch") as error:
        sf.load(tmp_path)
    assert "\n" not in str(error.value)
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    for content in (weights.read_bytes()[:-100], b"", b"text"):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or no safetensors file"):
            sf.load(tmp_path)


def test_models_that_a_config_cannot_hold_are_not_saved(model: Model, tmp_path: Path) -> None:
    class Odd(Codec):
        def encode(self, x):
            return x

        def decode(self, z):
            return z

    with pytest.raises(ValueError, match="only a model of a recipe"):
        Model(Affine(), model.denoiser, {"event": [3, None, None]}).save(tmp_path / "x")
    with pytest.raises(ValueError, match="Affine codec, Channels, Quantized, Alphabet, Bars, got Odd"):
        Model(Odd(), model.denoiser, model.config).save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_hub_ids_are_downloaded_or_name_the_extra(model: Model, tmp_path: Path, monkeypatch) -> None:
    import sys
    import types

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'sfumato\[hub\]'"):
        sf.load("owner/name")
    model.save(tmp_path)
    asked = []
    hub = types.SimpleNamespace(snapshot_download=lambda name, **k: asked.append(name) or str(tmp_path))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert sf.load("owner/name").config["note"] == "kept" and asked == ["owner/name"]
    hub.snapshot_download = lambda name, **k: (_ for _ in ()).throw(RuntimeError("offline"))
    with pytest.raises(FileNotFoundError, match="the Hub did not give it: offline"):
        sf.load("owner/name")


def test_the_device_is_taken(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {p.device.type for p in sf.load(tmp_path, device="meta").denoiser.parameters()} == {"meta"}
