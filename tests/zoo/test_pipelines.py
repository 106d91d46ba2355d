"""Latent pipelines of diffusers against what that library draws from them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.guides import CFG
from sfumato.nets import foreign
from sfumato.nets.text import without
from sfumato.recipes.diffusers_latent import Recipe
from sfumato.zoo import convert

TEXTS, NEGATIVE = ["red cat", "a"], "dog"
ZERO = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "set_alpha_to_one": True}


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("transformers", reason="needs the extra `diffusers`")
    return pytest.importorskip("diffusers", reason="needs the extra `diffusers`")


@pytest.fixture(scope="module")
def stable(library, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("stable")
    return SimpleNamespace(pipe=tiny.stable(library, folder, tiny.STABLE), folder=folder / "p")


def drawn(model: sf.Model, x1: torch.Tensor, scheduler: Any, cond: Any = None, scale: float = 1.0) -> torch.Tensor:
    """DDIM on the levels that a scheduler visits, decoded."""
    denoiser = CFG(model.denoiser, scale, without) if scale != 1.0 else model.denoiser
    # The last step ends at the first level where the scheduler says so, and else at the data.
    end = 0.0 if scheduler.config.set_alpha_to_one else 1 / 50
    times = (*((int(n) + 1) / 50 for n in scheduler.timesteps), end)
    bound = denoiser if cond is None else denoiser.given(cond)
    with torch.no_grad():
        return model.codec.decode(sf.sample(bound, sf.samplers.DDIM(), x1=x1, times=times, noise=sf.Noise(0)))


def altered(folder: Path, to: Path, name: str, **changes: Any) -> Path:
    """A copy of a folder, with a config changed."""
    shutil.copytree(folder, to)
    said = json.loads((to / name).read_text())
    (to / name).write_text(json.dumps({**said, **changes}))
    return to


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("epsilon", tiny.STABLE), ("v_prediction", tiny.STABLE), ("v_prediction", {**tiny.STABLE, **ZERO})],
    ids=["eps", "v", "v-to-zero-snr"],
)
def test_a_text_draws_what_the_library_draws(library, stable, tmp_path: Path, kind: str, schedule: dict) -> None:
    """Guided DDIM; a scale beside it, or another factor of the codes, draws something else."""
    pipe = stable.pipe
    pipe.scheduler = library.DDIMScheduler(50, clip_sample=False, prediction_type=kind, **schedule)
    folder = shutil.copytree(stable.folder, tmp_path / "p")
    pipe.scheduler.save_pretrained(folder / "scheduler")
    model, x1 = sf.load(folder), sf.Noise(0).normal(torch.zeros(2, 4, 8, 8))
    settings = {"num_inference_steps": 5, "latents": x1, "output_type": "pt"}
    want = pipe(TEXTS, negative_prompt=[NEGATIVE] * 2, guidance_scale=7.5, **settings).images
    cond = model.prompts(TEXTS, NEGATIVE)
    got = drawn(model, x1, pipe.scheduler, cond, 7.5).clamp(0.0, 1.0)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0.0)
    for wrong in (1.0, 6.5, 8.5):
        assert float((drawn(model, x1, pipe.scheduler, cond, wrong).clamp(0.0, 1.0) - want).abs().max()) > 1e-2
    empty = pipe(TEXTS, guidance_scale=7.5, **settings).images
    torch.testing.assert_close(
        drawn(model, x1, pipe.scheduler, model.prompts(TEXTS), 7.5).clamp(0.0, 1.0), empty, atol=1e-4, rtol=0.0
    )
    assert float((empty - want).abs().max()) > 1e-2
    other = sf.load(altered(folder, tmp_path / "q", "vae/config.json", scaling_factor=0.3))
    assert float((drawn(other, x1, pipe.scheduler, cond, 7.5).clamp(0.0, 1.0) - want).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_denoiser_says_what_the_network_says(library, stable, tmp_path: Path, kind: str) -> None:
    scheduler = library.DDIMScheduler(50, clip_sample=False, prediction_type=kind, **tiny.STABLE)
    scheduler.set_timesteps(50)
    folder = shutil.copytree(stable.folder, tmp_path / "p")
    scheduler.save_pretrained(folder / "scheduler")
    model, x = sf.load(folder), sf.Noise(1).normal(torch.zeros(2, 4, 8, 8))
    texts = stable.pipe.encode_prompt(TEXTS, "cpu", 1, False)[0]
    cond = model.prompts(TEXTS)
    torch.testing.assert_close(cond["text"], texts)
    for n in (0, 20, 49):
        with torch.no_grad():
            out = stable.pipe.unet(x, n, encoder_hidden_states=texts).sample
            got = model.denoiser(x, (n + 1) / 50, cond).mean
        torch.testing.assert_close(got, scheduler.step(out, n, x).pred_original_sample, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="the network reads a text"):
        model.denoiser(x, 0.5)


@pytest.mark.parametrize("kind", ["VQModel", "AutoencoderKL"])
def test_codes_without_a_text(library, tmp_path: Path, kind: str) -> None:
    pipe = tiny.latent(library, tmp_path, kind)
    model = sf.load(tmp_path / "p")
    want = pipe(2, generator=torch.Generator().manual_seed(0), num_inference_steps=5, output_type="np").images
    x1 = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    got = drawn(model, x1, pipe.scheduler).clamp(0.0, 1.0)
    torch.testing.assert_close(got, torch.from_numpy(want).movedim(-1, 1), atol=1e-4, rtol=0.0)
    x = sf.Noise(2).uniform(torch.zeros(2, 3, 16, 16))
    with torch.no_grad():
        code = pipe.vqvae.encode(2 * x - 1)
        mean = code.latents if kind == "VQModel" else code.latent_dist.mean
        torch.testing.assert_close(model.codec.encode(x), 0.7 * mean, atol=1e-5, rtol=1e-4)
        back = pipe.vqvae.decode(mean).sample / 2 + 0.5
        torch.testing.assert_close(model.codec.decode(0.7 * mean), back, atol=1e-4, rtol=1e-4)
        log_var = model.denoiser.autoencoder.encode(2 * x - 1)[1]
    if kind == "VQModel":
        assert set(log_var.flatten().tolist()) == {-30.0}
    else:
        torch.testing.assert_close(log_var, code.latent_dist.logvar, atol=1e-5, rtol=1e-4)
    assert model.classes == 0 and model.sample(1, steps=2).shape == (1, 3, 16, 16)
    assert model.sample(1, steps=2, size=(13, 18)).shape == (1, 3, 13, 18)
    assert model.codec.encode(x[..., :13, :11]).shape == (2, 3, 7, 6)


def test_codes_with_labels(library, tmp_path: Path) -> None:
    pipe = tiny.latent(library, tmp_path, "AutoencoderKL", classes=3)
    model, x, labels = sf.load(tmp_path / "p"), sf.Noise(1).normal(torch.zeros(2, 3, 8, 8)), torch.tensor([2, 0])
    with torch.no_grad():
        out = pipe.unet(x, 9, class_labels=labels).sample
        got = model.denoiser(x, 0.2, labels).mean
    pipe.scheduler.set_timesteps(50)
    want = pipe.scheduler.step(out, 9, x).pred_original_sample
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)
    assert model.classes == 3 and model.sample(1, cond=2, steps=2).shape == (1, 3, 16, 16)


def test_a_text_that_a_bert_reads(library, tmp_path: Path) -> None:
    pipe = tiny.text_to_image(library, tmp_path)
    model, x1 = sf.load(tmp_path / "p"), sf.Noise(0).normal(torch.zeros(2, 4, 8, 8))
    pipe.vae_scale_factor = 8  # the pipeline takes a side that 8 divides, and codes an eighth of it
    want = pipe(TEXTS, guidance_scale=5.0, num_inference_steps=5, latents=x1, output_type="pt").images
    cond = model.prompts(TEXTS)
    assert cond["text"].shape == (2, 77, 8)
    torch.testing.assert_close(drawn(model, x1, pipe.scheduler, cond, 5.0).clamp(0, 1), want, atol=1e-4, rtol=0.0)
    assert float((drawn(model, x1, pipe.scheduler, cond).clamp(0, 1) - want).abs().max()) > 1e-2


def test_saved_and_converted_it_is_the_same(stable, tmp_path: Path) -> None:
    """The words of the tokenizer are in the file of weights."""
    model = sf.load(stable.folder)
    model.save(tmp_path / "saved")
    convert(stable.folder, tmp_path / "converted")
    want = model.sample(1, cond="red cat", scale=3.0, steps=3, sampler=sf.samplers.DDIM())
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["config.json", "model.safetensors"]
    for name in ("saved", "converted"):
        other = sf.load(tmp_path / name)
        assert torch.equal(other.sample(1, cond="red cat", scale=3.0, steps=3, sampler=sf.samplers.DDIM()), want)
        assert other.config["size"] == 16 and other.event == (3, None, None)
    assert (
        float((model.sample(1, cond="dog", scale=3.0, steps=3, sampler=sf.samplers.DDIM()) - want).abs().max()) > 1e-2
    )


def test_files_of_other_days(library, stable, tmp_path: Path) -> None:
    """Names of before 2023, names of before transformers 5, weights in parts, weights of half precision, pickles."""
    want, x = sf.load(stable.folder).denoiser, sf.Noise(1).normal(torch.zeros(1, 4, 8, 8))
    folder = shutil.copytree(stable.folder, tmp_path / "p")
    coder = folder / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(coder)
    for new, was in old.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{was}."): value for key, value in state.items()}
    assert any("proj_attn" in key for key in state)
    save_file(state, coder)
    text = folder / "text_encoder" / "model.safetensors"
    state = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in load_file(text).items()}
    torch.save(
        {**state, "text_model.embeddings.position_ids": torch.arange(9)[None]}, text.with_name("pytorch_model.bin")
    )
    text.unlink()
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is a pickle, which is not loaded: `sfumato convert`"):
        sf.load(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    stable.pipe.unet.save_pretrained(folder / "unet", max_shard_size="30KB")
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").is_file()
    convert(folder, tmp_path / "m")
    model = sf.load(tmp_path / "m")
    cond = model.prompts(["red cat"])
    with torch.no_grad():
        torch.testing.assert_close(model.denoiser(x, 0.5, cond).mean, want(x, 0.5, cond).mean)
        torch.testing.assert_close(model.denoiser.autoencoder.decode(x), want.autoencoder.decode(x))
        torch.testing.assert_close(cond["text"], sf.load(stable.folder).prompts(["red cat"])["text"])
    half = {key: value.half() for key, value in load_file(coder).items()}
    coder.unlink()
    save_file(half, coder.with_name("diffusion_pytorch_model.fp16.safetensors"))
    convert(folder, tmp_path / "h")
    decoded = sf.load(tmp_path / "h").denoiser.autoencoder.decode(x)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, want.autoencoder.decode(x), atol=1e-2, rtol=1e-2)


def test_words_are_cut_and_each_text_is_read_by_itself(stable) -> None:
    words = sf.load(stable.folder).denoiser.text
    long = words(["red cat dog red cat dog red cat dog"])
    assert torch.equal(long, words(["red cat dog red cat dog red"])) and long.shape == (1, tiny.PLACES, 8)
    both = words(["red", "dog"])
    assert torch.equal(both[1:], words(["dog"])) and not torch.allclose(both[0], both[1])
    words.length = 5
    assert words(["red"]).shape == (1, 5, 8)
    with pytest.raises(ValueError, match=r"tokenizer is one of CLIPTokenizer, .*, got 'AutoTokenizer'"):
        foreign.Words(torch.nn.Identity(), "AutoTokenizer", 3)


def test_the_command_draws_what_a_text_says(stable, tmp_path: Path) -> None:
    run, start = CliRunner(), ["sample", str(stable.folder), "-n", "3", "--steps", "3", "--sampler", "ddim", "-q"]
    said = ["--prompt", "red cat", "--prompt", "dog", "--negative", "a", "--guidance", "4"]
    done = run.invoke(app, [*start, *said, "-o", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    model = sf.load(stable.folder)
    cond = model.prompts(["red cat", "dog", "red cat"], "a")
    want = model.sample(3, cond=cond, scale=4.0, steps=3, sampler=sf.samplers.DDIM())
    for i, path in enumerate(sorted((tmp_path / "o").glob("sample*.png"))):
        got = torch.from_numpy(np.asarray(Image.open(path)).copy()).movedim(-1, 0) / 255
        torch.testing.assert_close(got, want[i].clamp(0, 1), atol=2.1 / 255, rtol=0.0)
    assert i == 2
    for more, words in (
        (["--prompt", "a", "--cond", "1"], "give one of them"),
        (["--prompt", "a", "--negative", "b"], "--guidance above 1"),
        (["--negative", "b", "--guidance", "3"], "--guidance above 1"),
    ):
        bad = run.invoke(app, [*start, *more, "-o", str(tmp_path / "n")])
        assert bad.exit_code == 2 and words in " ".join(bad.output.replace("│", " ").split())


def test_the_command_refuses_a_text_for_a_model_without() -> None:
    bad = CliRunner().invoke(app, ["sample", "fashion", "--prompt", "a shoe", "--dry-run"])
    assert bad.exit_code == 2 and "reads no text" in " ".join(bad.output.replace("│", " ").split())


# Folders that are refused; none of these needs the library

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "image_encoder": [None, None],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "requires_safety_checker": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All but the weights."""
    for name, content in {
        "model_index": INDEX,
        "vae/config": {"latent_channels": 4, "block_out_channels": [8, 8]},
        "unet/config": {"in_channels": 4, "sample_size": [8, 8]},
        "text_encoder/config": {"hidden_size": 8},
        "tokenizer/vocab": {},
        "scheduler/scheduler_config": {"num_train_timesteps": 10, "beta_schedule": "linear"},
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    for name in ("vae/diffusion_pytorch_model", "unet/diffusion_pytorch_model", "text_encoder/model"):
        save_file({"w": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("model_index.json", {"encoder_2": ["a", "B"], "words_2": ["a", "B"]}, "here: encoder_2, words_2"),
        ("model_index.json", {"vae": ["a", "AsymmetricKL"]}, "the vae of a Stable.*, VQModel, got Asym"),
        ("model_index.json", {"unet": ["a", "UNet3D"]}, "the unet of a .*, got UNet3D"),
        ("model_index.json", {"text_encoder": ["a", "T5"]}, "is one of CLIPTextModel, .*, got T5"),
        ("model_index.json", {"tokenizer": ["a", "T5"]}, "the tokenizer of a .* is one of CLIPTokenizer, .* got T5"),
        ("model_index.json", {"tokenizer": [None, None], "scheduler": [None, None]}, "has no tokenizer, scheduler"),
        ("unet/config.json", {"in_channels": 9}, "takes 9 channels and a code has 4: a picture"),
        ("vae/config.json", {"vq_embed_dim": 3}, "takes 4 channels and a code has 3: a picture"),
        ("unet/config.json", {"time_cond_proj_dim": 8, "class_embed_type": "a"}, r"\(class_embed_type, time_cond"),
        ("vae/config.json", {"shift_factor": 0.1}, "vae shifts its codes"),
        ("vae/config.json", {"latents_mean": [0.1]}, "vae shifts its codes"),
        ("text_encoder/config.json", {"use_attention_mask": True}, "leaves out the tokens that fill a text"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "schedule is one of .*, got 'sigmoid'"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named(folder: Path, tmp_path: Path, name: str, changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sf.load(altered(folder, tmp_path / "changed", name, **changes))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vae/config.json", r"vae/config\.json is not there"),
        ("unet/config.json", r"unet/config\.json is not there"),
        ("text_encoder/config.json", r"text_encoder/config\.json is not there"),
        ("scheduler/scheduler_config.json", r"scheduler_config\.json is not there"),
        ("tokenizer/vocab.json", "tokenizer has no words: neither"),
        ("vae/diffusion_pytorch_model.safetensors", "vae has no weights: neither diffusion_pytorch_model.safetensors"),
        ("unet/diffusion_pytorch_model.safetensors", "unet has no weights: neither"),
        ("text_encoder/model.safetensors", "encoder has no weights: neither model.safetensors nor pytorch_model.bin"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(folder: Path, name: str, words: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=words):
        sf.load(folder)


def test_what_is_found_without_the_library(folder: Path) -> None:
    """The fields; an error names the extra; a factor from before it was written is the library's own."""
    from sfumato.zoo.foreign import find

    found = find(folder)
    assert found.fields["scale"] == 0.18215 and found.fields["size"] == 0 and not found.fields["codebook"]
    assert found.fields["scheduler"] == {"num_train_timesteps": 10, "beta_schedule": "linear"}
    assert {"inner.net.unet.w", "autoencoder.coder.w", "text.encoder.w", "text.files"} == set(found.weights)
    assert json.loads(bytes(found.weights["text.files"].numpy())) == {"vocab.json": "{}"}
    with pytest.raises(ValueError, match=r"scale is above 0, got 0\.0"):
        Recipe(scale=0.0)


@pytest.mark.parametrize("missing", ["diffusers", "transformers"])
def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    name = {"diffusers": "AutoencoderKL", "transformers": "CLIPTextModel"}[missing]
    with pytest.raises(ImportError, match=r"pip install 'sfumato\[diffusers\]'"):
        foreign.made(name, {})
