"""Folders of diffusers against what that library draws from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sfumato as sf
from sfumato.recipes.diffusers_unet import Recipe, borrowed
from sfumato.zoo import convert

SMALL = {"sample_size": 8, "block_out_channels": (32, 32), "layers_per_block": 1}
BLOCKS = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("diffusers", reason="needs the extra `diffusers`")


def pipeline(library, folder: Path, kind: str, **schedule):
    torch.manual_seed(0)
    unet = library.UNet2DModel(**SMALL, **BLOCKS, num_class_embeds=4)
    scheduler = library.DDIMScheduler(
        50, prediction_type=kind, clip_sample=False, timestep_spacing="trailing", **schedule
    )
    unet.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    return unet.eval(), scheduler


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("epsilon", {}), ("v_prediction", {"beta_schedule": "scaled_linear"}), ("sample", {"beta_start": 0.001})],
)
def test_ddim_draws_what_the_library_draws(library, tmp_path: Path, kind: str, schedule: dict) -> None:
    unet, scheduler = pipeline(library, tmp_path / "p", kind, **schedule)
    convert(tmp_path / "p", tmp_path / "m")
    model = sf.load(tmp_path / "m")
    labels = torch.tensor([1, 3])
    want = x1 = sf.Noise(0).normal(torch.zeros(2, 3, 8, 8))
    scheduler.set_timesteps(5)
    with torch.no_grad():
        for n in scheduler.timesteps:
            want = scheduler.step(unet(want, n, class_labels=labels).sample, n, want).prev_sample
    times = (*((int(n) + 1) / 50 for n in scheduler.timesteps), 0.0)
    got = sf.sample(model.denoiser.given(labels), sf.samplers.DDIM(), x1=x1, times=times, noise=sf.Noise(0))
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4)
    assert model.classes == 4 and model.sample(1, cond=2, steps=2).shape == (1, 3, 8, 8)


def test_betas_of_its_own(library, tmp_path: Path) -> None:
    """The table that they are; its length is that of the clock."""
    betas = [0.02, 0.1, 0.3, 0.2, 0.5]
    unet, _ = pipeline(library, tmp_path / "p", "epsilon")
    scheduler = library.DDIMScheduler(trained_betas=betas)
    scheduler.save_pretrained(tmp_path / "p" / "scheduler")
    convert(tmp_path / "p", tmp_path / "m")
    ours, theirs = sf.load(tmp_path / "m").denoiser, borrowed(unet, scheduler)
    assert torch.allclose(torch.tensor(ours.process.alpha_bars), scheduler.alphas_cumprod)
    x, labels = sf.Noise(0).normal(torch.zeros(1, 3, 8, 8)), torch.tensor([1])
    with torch.no_grad():
        assert torch.allclose(ours(x, 0.6, labels).mean, theirs(x, 0.6, labels).mean, atol=1e-5)


def test_what_is_in_memory_is_borrowed(library, tmp_path: Path) -> None:
    unet, scheduler = pipeline(library, tmp_path / "p", "v_prediction", beta_schedule="scaled_linear")
    denoiser, labels = borrowed(unet, scheduler), torch.tensor([1, 3])
    convert(tmp_path / "p", tmp_path / "m")
    folder = sf.load(tmp_path / "m").denoiser
    x = sf.Noise(0).normal(torch.zeros(2, 3, 8, 8))
    with torch.no_grad():
        for t in (0.3, 1.0):
            assert torch.allclose(denoiser(x, t, labels).mean, folder(x, t, labels).mean, atol=1e-5)
    assert denoiser.net.unet is unet
    with pytest.raises(ValueError, match="VQDiffusionScheduler has no table"):
        borrowed(unet, library.VQDiffusionScheduler(4))
    with pytest.raises(ValueError, match="predicts one of epsilon, sample, v_prediction, got 'flow'"):
        borrowed(unet, library.DDIMScheduler(50, prediction_type="flow"))


def test_the_table_of_zero_terminal_snr_is_the_library_s(library) -> None:
    made = Recipe(schedule="squaredcos_cap_v2", steps=20, zero=True).process()
    theirs = library.DDIMScheduler(20, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True)
    assert torch.allclose(torch.tensor(made.alpha_bars), theirs.alphas_cumprod, atol=1e-5)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def write(name: str, content: dict) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))

    write("unet/config.json", {"_class_name": "UNet2DConditionModel"})
    with pytest.raises(ValueError, match="holds a UNet2DConditionModel: of diffusers, a UNet2DModel can"):
        convert(tmp_path, tmp_path / "m")
    write("unet/config.json", {"_class_name": "UNet2DModel", "in_channels": 3, "sample_size": [8, 16]})
    with pytest.raises(FileNotFoundError, match="has no weights: neither"):
        convert(tmp_path, tmp_path / "m")
    torch.save({"a": torch.zeros(1)}, tmp_path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="does not say its schedule, steps"):
        convert(tmp_path, tmp_path / "m")
    write("scheduler/scheduler_config.json", {"_class_name": "FlowMatchScheduler", "num_train_timesteps": 1000})
    with pytest.raises(ValueError, match="of a FlowMatchScheduler, which has no table"):
        convert(tmp_path, tmp_path / "m")
    (tmp_path / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        convert(tmp_path, tmp_path / "m")


def test_settings_that_are_no_schedule_are_refused() -> None:
    with pytest.raises(ValueError, match="schedule is one of linear, scaled_linear, squaredcos_cap_v2, got 'cosine'"):
        Recipe(schedule="cosine")
    with pytest.raises(ValueError, match="predicts is one of epsilon, sample, v_prediction, got 'flow'"):
        Recipe(predicts="flow")
