"""Models of ours as folders of diffusers: that library draws from them what we draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published import case, folder
from safetensors.torch import load_file
from typer.testing import CliRunner

import sfumato as sf
from sfumato.cli.main import app
from sfumato.denoisers import Preconditioned, edm, predict_eps, predict_v, predict_x0
from sfumato.nets.ablated import Ablated
from sfumato.processes import Cosine, Table
from sfumato.recipes.ablated import Recipe
from sfumato.zoo import convert
from sfumato.zoo.outgoing import obstacles, outgoing

GUIDED = {"heads": 4, "head_channels": 16, "ordered": True, "schedule": "linear", "steps": 50}
BASE = {"base": 32, "widths": (32, 64), "blocks": 1, "steps": 50, "size": 8}
CASES: dict[str, dict[str, Any]] = {
    "resampling blocks": {"attention": (1,), "head_channels": 16, "classes": 3, "schedule": "cosine"},
    "convolutions": {"attention": (0,), "head_channels": 32, "resample": "conv", "film": False, "learned": False},
    "one head": {"attention": (), "head_channels": 0, "heads": 2, "widths": (32, 32), "ordered": True},
}


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("diffusers", reason="needs the extra `diffusers`")


def drawn(library, at: Path, x1: torch.Tensor, labels: torch.Tensor | None, steps: int) -> torch.Tensor:
    """What the library draws from its folder with DDIM."""
    unet, info = library.UNet2DModel.from_pretrained(at, subfolder="unet", output_loading_info=True)
    assert not any(info.values()), info
    scheduler = library.DDIMScheduler.from_pretrained(at, subfolder="scheduler")
    scheduler.set_timesteps(steps)
    x = x1
    with torch.no_grad():
        for n in scheduler.timesteps:
            x = scheduler.step(unet.eval()(x, n, class_labels=labels).sample, n, x).prev_sample
    return x


def saved(recipe: Any, at: Path) -> sf.Model:
    """A model of a recipe with random weights, and its folder."""
    model = sf.Model(sf.codecs.Affine.unit(), recipe.model().eval(), {})
    torch.manual_seed(0)
    for p in model.denoiser.parameters():
        p.data = torch.randn_like(p) / max(p[0].numel(), 1) ** 0.5
    fields = {k: getattr(recipe, k) for k in recipe.__dataclass_fields__}
    model.config.update(recipe="ablated", fields=fields, event=[3, None, None])
    model.save(at)
    return model


@pytest.mark.parametrize("name", CASES)
def test_ddim_of_diffusers_draws_what_ours_draws(library, tmp_path: Path, name: str) -> None:
    recipe = Recipe(**{**BASE, **CASES[name]})
    model = saved(recipe, tmp_path / "m")
    outgoing(tmp_path / "m").write(tmp_path / "d")
    x1 = sf.Noise(0).normal(torch.zeros(2, 3, 8, 8))
    labels = torch.tensor([2, 0]) if recipe.classes else None
    for steps in (5, 50):
        times = sf.grids.table(model.denoiser.process, steps, spacing="trailing")
        denoiser = model.denoiser if labels is None else model.denoiser.given(labels)
        got = sf.sample(denoiser, sf.samplers.DDIM(), x1=x1, times=times, noise=sf.Noise(0))
        want = drawn(library, tmp_path / "d", x1, labels, steps)
        assert torch.allclose(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    assert library.DDIMPipeline.from_pretrained(tmp_path / "d").unet.config.sample_size == 8
    # And back: the same function under the library's own network.
    convert(tmp_path / "d", tmp_path / "again")
    again = sf.load(tmp_path / "again").denoiser
    with torch.no_grad():
        assert torch.allclose(again(x1, 0.5, labels).mean, model.denoiser(x1, 0.5, labels).mean, atol=1e-3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_what_came_from_diffusers_goes_back_bit_for_bit(library, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    unet = library.UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = library.PNDMScheduler(50, prediction_type=kind, beta_schedule="scaled_linear", steps_offset=1)
    library.PNDMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    convert(tmp_path / "p", tmp_path / "m")
    outgoing(tmp_path / "m").write(tmp_path / "d")
    weights = "unet/diffusion_pytorch_model.safetensors"
    one, two = (load_file(tmp_path / where / weights) for where in ("p", "d"))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    said = [json.loads((tmp_path / where / "scheduler/scheduler_config.json").read_text()) for where in ("p", "d")]
    assert said[0] == said[1]
    said = [json.loads((tmp_path / where / "unet/config.json").read_text()) for where in ("p", "d")]
    assert {k: v for k, v in said[0].items() if k != "_diffusers_version"} == said[1]


TABLES = {
    "linear": (Table.linear(50), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "scaled": (Table.scaled_linear(50), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    "sigmoid": (Table.sigmoid(50), None),
    "zero": (Table.linear(50).zero_terminal(), None),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scheme", [predict_eps, predict_x0, predict_v])
def test_the_scheduler_has_our_levels_and_kind(library, name: str, scheme) -> None:
    from sfumato.zoo.outgoing import _scheduler

    table, named = TABLES[name]
    said = _scheduler(Preconditioned(torch.nn.Identity(), table, scheme, clock=lambda t: t * 50 - 1.0))
    assert named is None or {key: said[key] for key in named} == named
    theirs = library.DDIMScheduler.from_config(said)
    bars = torch.tensor(table.alpha_bars)
    assert torch.allclose(theirs.alphas_cumprod, bars, rtol=1e-5, atol=1e-9)
    # One step from level 30 to 20 of what the network said.
    x, out = (sf.Noise(k).normal(torch.zeros(2, 5)) for k in range(2))
    theirs.set_timesteps(5)
    want = theirs.step(out, 29, x).prev_sample
    alpha, sigma = table.alpha(0.6), table.sigma(0.6)
    c = scheme(alpha, sigma)
    got = table.reverse(sf.Estimate(c.c_skip * x + c.c_out * out), x, 0.6, 0.4, 0.0).mean
    assert torch.allclose(got, want, atol=1e-5)


def test_all_that_has_no_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"photo cannot be said as a UNet2DModel .* `sf\.load` and `sfumato sample`"):
        outgoing("photo")

    def said(scheme=predict_eps, process=None, clock=lambda t: 50 * t - 1, **settings: Any) -> list[str]:
        net = Ablated(3, **{"base": 32, "widths": (32, 64), "blocks": 1, "attention": (1,), **settings})
        return obstacles(Preconditioned(net, process or Table.linear(50), scheme, clock=clock))

    assert said() == []
    assert said(image=3, unlabelled=True) == ["it enlarges an image", "it knows a label for no class"]
    assert said(base=16) == ["its clock has other channels than its entrance"]
    assert said(attention=(0, 1), heads=2) == ["its heads have 16, 32 channels, not all as many"]
    assert said(least=2) == ["its norms have 16, 32 groups, not all as many"]
    assert said(resample="pool") == ["it halves the resolution by a mean"]
    assert said(process=Cosine()) == ["its noise levels are those of Cosine, no table of betas"]
    assert said(scheme=edm()) == ["its network says neither eps nor x_0 nor v"]
    assert said(clock=None) == said(clock=lambda t: 50 * t) == ["its network is not told the index of a step"]
    assert said(clock=lambda t: 51 * t - 1.02) == ["its network is not told the index of a step"]
    world = sf.GaussianWorld(torch.zeros(2), torch.eye(2)).denoiser(Table.linear(50))
    assert obstacles(world) == [
        f"its network, {type(world).__name__}, is made of other blocks",
        "its network says neither eps nor x_0 nor v",
    ]


def test_the_command_goes_both_ways(tmp_path: Path) -> None:
    folder(tmp_path, case("guided")["state"], **GUIDED)
    run, at = CliRunner(), [str(tmp_path / "model"), "--to", "diffusers", "-o", str(tmp_path / "d")]
    dry = run.invoke(app, ["convert", *at, "--dry-run"])
    assert dry.exit_code == 0 and "would write a UNet2DModel into" in dry.stdout and not (tmp_path / "d").exists()
    done = run.invoke(app, ["convert", *at, "--json"])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["start", "done"]
    assert lines[0]["config"]["num_train_timesteps"] == 50 and lines[1]["out"] == str(tmp_path / "d")
    index = json.loads((tmp_path / "d" / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "DDIMScheduler"]
    bad = run.invoke(app, ["convert", *at, "--set", "heads=4"])
    assert bad.exit_code == 2 and "no use with --to" in bad.output
    bad = run.invoke(app, ["convert", "photo", "--to", "diffusers", "-o", str(tmp_path / "e")])
    assert bad.exit_code == 3 and "made of other blocks" in bad.output and not (tmp_path / "e").exists()
    assert run.invoke(app, ["convert", "photo", "--to", "jax"]).exit_code == 2
