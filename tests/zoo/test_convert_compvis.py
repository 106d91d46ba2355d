"""Checkpoints of CompVis' latent diffusion against what that code computes with the same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from published import case, converted, folder
from safetensors.torch import save_file

import sfumato as sf
from sfumato.nets.taming import Taming
from sfumato.recipes.compvis_ldm import Recipe
from sfumato.zoo import convert, files
from sfumato.zoo.formats import compvis

SHARED = {"base": 32, "widths": (32, 64), "blocks": 1, "coder_base": 32, "coder_blocks": 1, "last": 0.0195, "steps": 20}
CASES: dict[str, dict[str, Any]] = {
    "compvis-kl": {
        "attention": (0,),
        "heads": 2,
        "inner": 3,
        "coder": (32, 64),
        "coder_attention": (0,),
        "scale": 0.75,
    },
    "compvis-class": {
        "attention": (1,),
        "head_channels": 16,
        "coder": (32, 32),
        "entries": 20,
        "resample": "conv",
        "film": False,
        "classes": 6,
        "context": 12,
    },
}
SETTINGS = {"compvis-kl": {"heads": 2, "head_channels": 0}, "compvis-class": {"heads": 8, "head_channels": 16}}
PLACES = ((compvis.NET, ".0.0."), (f"{compvis.AVERAGE}diffusion_model", "00"))  # of the last weights, the averaged ones


def checkpoint(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The case, and the state dict as the code writes it, buffers too: the last weights are not the averaged ones."""
    want = case(name, "compvis")
    state = dict(want["state"])
    extra = {"betas": want["betas"], "alphas_cumprod_prev": torch.ones(20), "logvar": torch.zeros(20)}
    if name == "compvis-kl":
        extra["scale_factor"] = torch.tensor(0.75)
    for key in want["state"]:
        if key.startswith(compvis.NET):
            state[key] = torch.zeros_like(state[key])
    return want, {**state, **extra}


@pytest.mark.parametrize("name", CASES)
def test_ddim_draws_what_the_code_draws(tmp_path: Path, name: str) -> None:
    want, state = checkpoint(name)
    with pytest.raises(ValueError, match="does not say its heads, head_channels, "):
        converted(tmp_path, {"state_dict": state})
    model = converted(tmp_path, {"state_dict": state, "epoch": 3}, **SETTINGS[name])
    assert files.made(model.config) == Recipe(**{**SHARED, **SETTINGS[name], **CASES[name]})
    z, cond = want["z"], want["y"] if model.classes else None
    denoiser = model.denoiser if cond is None else model.denoiser.given(cond)
    with torch.no_grad():
        assert torch.allclose(model.denoiser.inner.net(z, want["t"], cond), want["out"], atol=1e-5)
        # Their indices 1, 5, 9, 13, 17 of 20; the last step leaves the level of index 0.
        times = (*((n + 1) / 20 for n in (17, 13, 9, 5, 1)), 1 / 20)
        drawn = sf.sample(denoiser, sf.samplers.DDIM(), x1=z, times=times, noise=sf.Noise(0))
        assert torch.allclose(drawn, want["drawn"], atol=2e-5 * float(want["drawn"].abs().max()))
        pictures = model.codec.sized((3, 16, 16)).decode(want["drawn"])
        assert torch.allclose(2.0 * pictures - 1.0, want["decoded"], atol=1e-5 * float(want["decoded"].abs().max()))
        x = want["x"].tanh()
        codes = model.codec.encode(0.5 * x + 0.5)
        assert torch.allclose(codes, CASES[name].get("scale", 1.0) * want["mean"], atol=1e-5)
    drawn = model.sample(1, cond=None if cond is None else 2, steps=2, size=15)
    assert drawn.shape == (1, 3, 15, 15) and drawn.isfinite().all()
    model.save(tmp_path / "again")
    assert torch.equal(sf.load(tmp_path / "again").codec.encode(drawn), model.codec.encode(drawn))


def test_without_averages_or_a_pickle(tmp_path: Path) -> None:
    want, state = checkpoint("compvis-kl")
    bare = {k: v for k, v in want["state"].items() if not k.startswith(compvis.AVERAGE)}
    with pytest.raises(
        ValueError, match=r"--set first=0\.0015 --set last=0\.0195 --set steps=20 --set scale=1\.0|scale"
    ):
        folder(tmp_path, bare, **SETTINGS["compvis-kl"])
    save_file(bare, tmp_path / "model.safetensors")
    said = {"scale": 0.5, "first": 0.001, "last": 0.02, "steps": 20, **SETTINGS["compvis-kl"]}
    convert(tmp_path / "model.safetensors", tmp_path / "m", settings=said)
    model = sf.load(tmp_path / "m")
    key = "input_blocks.0.0.weight"
    assert torch.equal(model.denoiser.inner.net.state_dict()[key], bare[compvis.NET + key])
    assert model.denoiser.process == sf.processes.Table.scaled_linear(20, 0.001, 0.02)
    averaged = converted(tmp_path, state, **SETTINGS["compvis-kl"]).denoiser.inner.net.state_dict()[key]
    assert torch.equal(averaged, want["state"][f"{compvis.AVERAGE}diffusion_modelinput_blocks00weight"])


def test_what_is_no_latent_model_of_classes_is_refused(tmp_path: Path) -> None:
    _, state = checkpoint("compvis-class")
    said = SETTINGS["compvis-class"]
    text = {k: v for k, v in state.items() if not k.startswith(compvis.CLASS)}
    with pytest.raises(ValueError, match="reads a condition that is no class"):
        folder(tmp_path, text, **said)
    alone = {k: v for k, v in state.items() if not k.startswith(compvis.FIRST)}
    with pytest.raises(ValueError, match="without its autoencoder"):
        folder(tmp_path, alone, **said)
    wide = {f"{where}input_blocks{dots}weight": torch.zeros(32, 7, 3, 3) for where, dots in PLACES}
    with pytest.raises(ValueError, match="takes 7 channels and a code has 4: a picture is laid beside it"):
        folder(tmp_path, {**state, **wide}, **said)
    odd = {"cond_stage_model.transformer.weight": torch.zeros(1), f"{compvis.FIRST}odd": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"2 without a place: autoencoder\.odd, cond_stage_model\.transformer\.weight"):
        folder(tmp_path, {**state, **odd, f"{compvis.FIRST}loss.w": torch.zeros(1)}, **said)


def test_the_label_after_imagenet_s_means_no_class(tmp_path: Path) -> None:
    _, state = checkpoint("compvis-class")
    state[f"{compvis.CLASS}embedding.weight"] = torch.randn(1001, 12)
    model = converted(tmp_path, state, **SETTINGS["compvis-class"])
    assert model.classes == 1000 and model.config["fields"]["dropped"]
    null = files.made(model.config).null(torch.tensor([3, 4]))
    assert null.tolist() == [1000, 1000]
    assert model.sample(1, cond=2, scale=2.0, steps=2, size=16).isfinite().all()
    with pytest.raises(ValueError, match="a label between 0 and 1000"):
        model.denoiser(torch.zeros(1, 4, 8, 8), 0.5)
    with pytest.raises(ValueError, match="no label for no class"):
        Recipe(classes=4, context=8).null(torch.tensor([1]))


RELEASED = {
    "faces or bedrooms 256, latent-diffusion": {
        "latent": 3,
        "inner": 3,
        "coder": (128, 256, 512),
        "entries": 8192,
        "base": 224,
        "widths": (224, 448, 672, 896),
        "attention": (1, 2, 3),
        "head_channels": 32,
        "resample": "conv",
        "film": False,
        "last": 0.0195,
    },
    "churches 256, latent-diffusion": {"scale": 0.22765929},
    "ImageNet 256, latent-diffusion": {
        "coder": (128, 256, 256, 512),
        "coder_attention": (3,),
        "entries": 16384,
        "base": 256,
        "widths": (256, 512, 1024),
        "attention": (0, 1, 2),
        "head_channels": 32,
        "resample": "conv",
        "film": False,
        "classes": 1000,
        "dropped": True,
        "context": 512,
        "last": 0.0195,
    },
}


@pytest.mark.parametrize("name", RELEASED)
def test_releases_are_known_by_their_shapes(name: str) -> None:
    recipe = Recipe(**RELEASED[name])
    with torch.device("meta"):
        model = recipe.model()
        state = {f"{compvis.NET}{k}": v for k, v in model.inner.net.state_dict().items()}
        state |= {f"{compvis.FIRST}{k}": v for k, v in model.autoencoder.state_dict().items()}
    if recipe.classes:
        state[f"{compvis.CLASS}embedding.weight"] = state.pop(f"{compvis.NET}label_emb.weight")
    if not recipe.entries:
        state["scale_factor"] = torch.tensor(recipe.scale)
    state["betas"] = torch.linspace(recipe.first**0.5, recipe.last**0.5, 1000, dtype=torch.float64).square().float()
    found = compvis.find({"state_dict": state})
    assert found is not None and found.release == name and not found.unsaid and not found.left
    got = Recipe(**found.fields)
    assert got.scale == pytest.approx(recipe.scale)
    assert dataclasses.replace(got, scale=recipe.scale) == recipe


def test_every_release_of_the_table_is_tested() -> None:
    assert [name for name, _, _ in compvis.RELEASES] == list(RELEASED)


def test_a_code_is_rounded_to_the_nearest_entry_and_gradients_pass() -> None:
    coder = Taming(1, 2, (32,), 1, entries=3, middle=False)
    book = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    coder.quantize.embedding.weight.data = book
    z = torch.tensor([[0.4, 0.6, 0.1], [0.1, -0.2, 1.1]]).view(1, 2, 1, 3).requires_grad_()
    assert torch.equal(coder.nearest(z)[0, :, 0].T, book)
    seen = []
    coder.post_quant_conv.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    out = coder.decode(z)
    assert torch.allclose(seen[0], coder.nearest(z))
    (passed,) = torch.autograd.grad(out.square().sum(), z)
    (want,) = torch.autograd.grad(coder.decoder(coder.post_quant_conv(seen[0])).square().sum(), seen[0])
    assert torch.allclose(passed, want, rtol=1e-4) and float(passed.abs().max()) > 0.0
    mean, log_var = coder.encode(torch.zeros(1, 1, 4, 4))
    assert mean.shape == (1, 2, 4, 4) and bool((log_var == -30.0).all())
    assert Taming(1, 2, (32,), 1, middle=False).encode(torch.full((1, 1, 2, 2), 1e6))[1].max() <= 20.0


def test_settings_that_make_no_model_are_refused() -> None:
    with pytest.raises(ValueError, match="predicts is 'eps' or 'x0', got 'v'"):
        Recipe(predicts="v")
    with pytest.raises(ValueError, match=r"scale is above 0, got 0\.0"):
        Recipe(scale=0.0)
    assert Recipe(betas=(0.1, 0.2)).process().alpha_bars == pytest.approx((0.9, 0.72))
