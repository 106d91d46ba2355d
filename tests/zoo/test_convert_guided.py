"""Checkpoints of improved-diffusion and guided-diffusion against what those codes compute with the same weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from published import case, folder

import sfumato as sf
from sfumato.processes.variances import learned
from sfumato.recipes.ablated import Recipe
from sfumato.zoo import load_classifier
from sfumato.zoo.formats import guided

CHAIN = {"schedule": "linear", "steps": 50}
GUIDED = {"heads": 4, "head_channels": 16, "ordered": True, **CHAIN}
LEGACY = {"heads": 2, "head_channels": 0, "ordered": False, **CHAIN}


@pytest.fixture
def kept(request, tmp_path):
    """A case, and the folder of it, converted with these settings."""
    name, settings, wrapped = request.param
    found = case(name)
    folder(tmp_path, {"state_dict": found["state"]} if wrapped else found["state"], **settings)
    return found, tmp_path / "model"


@pytest.mark.parametrize("kept", [("guided", GUIDED, False)], indirect=True)
def test_a_class_conditional_network_of_guided_diffusion(kept) -> None:
    want, made = kept
    model = sf.load(made)
    denoiser, x, y = model.denoiser, want["x"], want["y"]
    assert model.classes == 5 and model.event == (3, None, None)
    with torch.no_grad():
        # Values up to 2.3: sums in another order (other threads, other vector widths) move them by up to 1.8e-6.
        assert torch.allclose(denoiser.net(x, want["t"], y), want["out"], atol=4e-6)
        # p(x_20 | x_21) with the learned variance; their index 20 is our level 21.
        law = learned(denoiser.process, denoiser(x, 21 / 50, y), x, 21 / 50, 20 / 50)
        assert torch.allclose(law.mean, want["mean"], atol=1e-6)
        assert torch.allclose(law.std**2, want["variance"], rtol=1e-6)
        # Their "ddim5": indices 40, 30, 20, 10, 0 of 50, then the data.
        times = (*((int(n) + 1) / 50 for n in want["levels"].flip(0)), 0.0)
        x0 = sf.sample(denoiser.given(y), sf.samplers.DDIM(), x1=x, times=times, noise=sf.Noise(0))
        assert torch.allclose(x0, want["ddim"], atol=2e-6 * float(want["ddim"].abs().max()))
    drawn = model.sample(1, cond=1, steps=2, size=16)
    assert drawn.shape == (1, 3, 16, 16) and drawn.isfinite().all()


@pytest.mark.parametrize("kept", [("improved", LEGACY | {"schedule": "cosine"}, True)], indirect=True)
def test_a_network_of_improved_diffusion_without_classes(kept) -> None:
    want, made = kept
    model = sf.load(made)
    with torch.no_grad():
        assert torch.allclose(model.denoiser.net(want["x"], want["t"]), want["out"], atol=1e-5)
        estimate = model.denoiser(want["x"], 0.5)
    assert estimate.aux is None  # the variance is not learned
    assert model.denoiser.process == sf.processes.Table.cosine(50)
    with pytest.raises(ValueError, match="no condition: leave it out"):
        model.denoiser.net(want["x"], want["t"], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"sides that 4 divides, got \(14, 16\)"):
        model.denoiser.net(want["x"][:, :, :14], want["t"])


@pytest.mark.parametrize("kept", [("upsampler", LEGACY, True)], indirect=True)
def test_an_upsampler_enlarges_the_image_that_it_is_given(kept) -> None:
    want, made = kept
    net, x, t = sf.load(made).denoiser.net, want["x"], want["t"]
    with torch.no_grad():
        assert torch.allclose(net(x, t, {"label": want["y"], "image": want["low"]}), want["out"], atol=1e-6)
    with pytest.raises(ValueError, match="enlarges an image"):
        net(x, t, {"label": want["y"]})
    with pytest.raises(ValueError, match="a label between 0 and 4"):
        net(x, t, {"image": want["low"]})
    with pytest.raises(ValueError, match="give a dict with both"):
        net(x, t, want["y"])


@pytest.mark.parametrize("kept", [("classifier", {}, False)], indirect=True)
def test_a_classifier_says_log_probabilities(kept) -> None:
    want, made = kept
    classifier = load_classifier(made)
    with torch.no_grad():
        got = classifier(want["x"], (want["t"] + 1.0) / 1000, want["y"])
        one = classifier(want["x"], 4 / 1000, 1)
    assert torch.allclose(got, want["out"].gather(1, want["y"][:, None])[:, 0], atol=1e-6)
    assert torch.allclose(one[0], want["out"][0, 1], atol=1e-6)  # t[0] = 3, y[0] = 1
    with pytest.raises(ValueError, match=r"pictures of 16 x 16, got \(8, 8\)"):
        classifier(want["x"][:, :, :8, :8], 0.5, 1)
    with pytest.raises(ValueError, match="load_classifier takes it"):
        sf.load(made)


@pytest.mark.parametrize("kept", [("guided", GUIDED, False)], indirect=True)
def test_a_denoiser_is_no_classifier(kept) -> None:
    with pytest.raises(ValueError, match=r"holds 'ablated', which is no classifier: sf\.load takes it"):
        load_classifier(kept[1])


# The flags that the README of each code gives for its files.
RELEASED = {
    "ImageNet 64, guided-diffusion": {
        "base": 192,
        "widths": (192, 384, 576, 768),
        "blocks": 3,
        "attention": (1, 2, 3),
        "ordered": True,
        "classes": 1000,
        "size": 64,
        "schedule": "cosine",
    },
    "ImageNet 128, guided-diffusion": {
        "widths": (256, 256, 512, 768, 1024),
        "attention": (2, 3, 4),
        "classes": 1000,
        "size": 128,
        "head_channels": 0,
    },
    "ImageNet or LSUN 256, guided-diffusion": {},
    "ImageNet 512, guided-diffusion": {
        "widths": (128, 256, 256, 512, 512, 1024, 1024),
        "attention": (4, 5, 6),
        "classes": 1000,
        "size": 512,
    },
    "64 to 256 upsampler, guided-diffusion": {
        "base": 192,
        "widths": (192, 192, 384, 384, 768, 768),
        "lowres": True,
        "classes": 1000,
        "head_channels": 0,
    },
    "128 to 512 upsampler, guided-diffusion": {
        "base": 192,
        "widths": (192, 192, 384, 384, 768, 768),
        "attention": (4, 5),
        "lowres": True,
        "classes": 1000,
        "size": 512,
    },
    "FFHQ or AFHQ 256 of 128 channels, ilvr_adm": {
        "base": 128,
        "widths": (128, 128, 256, 256, 512, 512),
        "blocks": 1,
        "attention": (4,),
    },
    "CIFAR-10, improved-diffusion": {
        "base": 128,
        "widths": (128, 256, 256, 256),
        "blocks": 3,
        "attention": (1, 2),
        "head_channels": 0,
        "resample": "conv",
        "size": 32,
        "schedule": "cosine",
        "steps": 4000,
    },
    "ImageNet 64, improved-diffusion": {
        "base": 128,
        "widths": (128, 256, 384, 512),
        "blocks": 3,
        "attention": (2, 3),
        "head_channels": 0,
        "resample": "conv",
        "size": 64,
        "schedule": "cosine",
        "steps": 4000,
    },
    "ImageNet 64 with classes, improved-diffusion": {
        "base": 192,
        "widths": (192, 384, 576, 768),
        "blocks": 3,
        "attention": (2, 3),
        "head_channels": 0,
        "resample": "conv",
        "size": 64,
        "schedule": "cosine",
        "steps": 4000,
        "classes": 1000,
    },
    "LSUN bedroom, improved-diffusion": {
        "base": 128,
        "widths": (128, 128, 256, 256, 512, 512),
        "attention": (4,),
        "heads": 1,
        "head_channels": 0,
        "resample": "conv",
        "film": False,
    },
    "64 to 256 upsampler, improved-diffusion": {
        "base": 192,
        "widths": (192, 192, 384, 384, 768, 768),
        "attention": (4, 5),
        "lowres": True,
        "classes": 1000,
        "head_channels": 0,
        "resample": "conv",
        "steps": 4000,
    },
}


@pytest.mark.parametrize("name", RELEASED)
def test_releases_are_known_by_their_shapes(name: str) -> None:
    recipe = Recipe(**RELEASED[name])
    with torch.device("meta"):
        found = guided.find(recipe.net().state_dict())
    assert found is not None and found.release == name and not found.unsaid
    assert dataclasses.asdict(Recipe(**found.fields)) == dataclasses.asdict(recipe)


def test_every_release_of_the_table_is_tested() -> None:
    assert [name for name, _, _ in guided.RELEASES] == list(RELEASED)


def test_released_classifiers_are_read_from_their_shapes() -> None:
    from sfumato.recipes.noisy_classifier import Recipe as Classifier

    big = {"size": 256, "widths": (128, 128, 256, 256, 512, 512), "blocks": 2, "attention": (3, 4, 5)}
    for recipe in (Classifier(), Classifier(**big), Classifier(**{**big, "resample": "conv", "attention": (5,)})):
        with torch.device("meta"):
            found = guided.find(recipe.classifier().net.state_dict())
        assert found is not None and Classifier(**found.fields) == recipe


def test_the_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="schedule is 'linear' or 'cosine', got 'quadratic'"):
        Recipe(schedule="quadratic")
    with pytest.raises(ValueError, match="resample is one of conv, block, pool, got 'fir'"):
        Recipe(widths=(32,), attention=(), resample="fir").net()
    with pytest.raises(ValueError, match="64 channels do not make heads of 40"):
        Recipe(base=32, widths=(64,), attention=(), head_channels=40).net()
    with pytest.raises(ValueError, match="64 channels do not make heads of 12"):
        Recipe(base=32, widths=(64,), attention=(), head_channels=0, heads=5).net()
