"""Checkpoints of the re-implementation of SR3 against what that code computes with the same weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from published import case, converted

from sfumato.recipes.sr3_unet import Recipe
from sfumato.zoo import files
from sfumato.zoo.formats import sr3

FIELDS = {"base": 8, "widths": (8, 16, 16), "groups": 4, "size": 0, "first": 1e-4, "last": 0.3, "steps": 20}
CASES = {
    "sr3": {"blocks": 2, "attention": (0,)},
    "sr3-plain": {"blocks": 1, "attention": (1,), "image": False},
}


def checkpoint(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The case, and the file as the code writes it, from two GPUs."""
    want = case(name, "sr3", 8)
    state = {f"module.denoise_fn.{k}": v for k, v in want["state"].items()}
    extra = {"alphas_cumprod_prev": torch.ones(20), "posterior_mean_coef1": torch.ones(20), "betas": want["betas"]}
    return want, state | {f"module.{k}": v for k, v in extra.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_chain_is_that_of_the_code(tmp_path: Path, name: str) -> None:
    want, content = checkpoint(name)
    with pytest.raises(ValueError, match=r"does not say its groups, .*--set groups=32$"):
        converted(tmp_path, content)
    model = converted(tmp_path, content, groups=4)
    recipe = files.made(model.config)
    assert recipe == Recipe(**FIELDS, **CASES[name])
    x, low = want["x"], want["x"].flip(0).tanh()
    cond = {"image": low} if recipe.image else None
    with torch.no_grad():
        assert torch.allclose(model.denoiser.net(x, want["level"], cond), want["out"], atol=1e-5)
    denoiser, reverse = recipe.guide(model.denoiser).given(cond), recipe.sampler().reverse
    with torch.no_grad():
        law = reverse(denoiser.process, denoiser(x, 8 / 20), x, 8 / 20, 7 / 20)
        assert torch.allclose(law.mean, want["mean"], atol=1e-5)
        assert law.std**2 == pytest.approx(float(want["variance"]), rel=1e-4)
        for n in range(20, 0, -1):
            x = reverse(denoiser.process, denoiser(x, n / 20), x, n / 20, (n - 1) / 20).mean
    assert torch.allclose(x, want["drawn"], atol=1e-4)
    drawn = model.sample(2, cond=None if cond is None else {"image": low}, steps=2, size=8)
    assert drawn.shape == (2, 3, 8, 8) and drawn.isfinite().all()


def test_releases_are_known_by_their_shapes() -> None:
    big = Recipe(widths=(64, 128, 256, 512, 1024), blocks=1, attention=(), groups=16, size=512)
    for recipe, name in ((Recipe(), "16 to 128 of SR3"), (big, "64 to 512 of SR3")):
        with torch.device("meta"):
            state = recipe.net().state_dict()
        state["betas"] = torch.linspace(1e-6, 1e-2, 2000)
        found = sr3.find(state)
        assert found is not None and found.release == name and not found.unsaid
        assert dataclasses.asdict(Recipe(**found.fields)) == dataclasses.asdict(recipe)
    del state["betas"]
    assert sr3.find(state).unsaid == {"first": 1e-6, "last": 1e-2, "steps": 2000}


def test_betas_that_are_not_linear_are_kept(tmp_path: Path) -> None:
    content = checkpoint("sr3-plain")[1]
    betas = torch.linspace(0.1, 0.5, 20) ** 2
    content["module.betas"] = betas
    process = converted(tmp_path, content, groups=4).denoiser.process
    got = torch.tensor([process.alpha(n / 20) ** 2 for n in range(1, 21)])
    assert torch.allclose(got, torch.cumprod(1.0 - betas, 0), rtol=1e-5)


def test_the_condition_must_be_what_the_network_has(tmp_path: Path) -> None:
    want, content = checkpoint("sr3")
    net, x, level = converted(tmp_path, content, groups=4).denoiser.net, want["x"], want["level"]
    with pytest.raises(ValueError, match=r'this network has an image of the size of its data: .* "image"'):
        net(x, level)
    with pytest.raises(ValueError, match=r"sides that 4 divides, got \(6, 8\)"):
        net(x[:, :, :6], level, x)
    with torch.no_grad():
        assert torch.equal(net(x, level, x[:1]), net(x, level, {"image": x[:1].expand(2, -1, -1, -1)}))
    plain = Recipe(**{**FIELDS, **CASES["sr3-plain"]}).net()
    with pytest.raises(ValueError, match="no condition: leave it out"):
        plain(x, level, x)
    content["module.denoise_fn.time_mlp.0.inv_freq"] = torch.ones(4)
    with pytest.raises(ValueError, match=r"1 without a place: time_mlp\.0\.inv_freq"):
        converted(tmp_path, content, groups=4)
