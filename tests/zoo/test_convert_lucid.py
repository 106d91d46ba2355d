"""Checkpoints of denoising-diffusion-pytorch against what that code computes with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import case, converted

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate
from sfumato.processes.variances import learned
from sfumato.recipes.rms_unet import Recipe
from sfumato.samplers import DDIM, SelfConditioned
from sfumato.zoo import files

BUFFERS = ("betas", "alphas_cumprod", "loss_weight")
NETS = {  # what no default says
    "lucid-v": {"widths": (12, 8, 16, 16), "full": (1, 2), "heads": (1, 2, 4), "head_channels": (8, 4, 6)},
    "lucid-self": {"widths": (8, 8, 16, 16), "full": (2,), "selfed": True, "predicts": "x0", "schedule": "cosine"},
    "lucid-variance": {"widths": (8, 8, 16), "learned": True, "predicts": "eps", "schedule": "linear", "full": (1,)},
}
COUNTED = {"base": 8, "steps": 20}


def checkpoint(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The case, and the file as the code's trainer writes it."""
    want = case(name, "lucid", 8)
    whole = {f"model.{k}": v for k, v in want["state"].items()}
    whole |= {key: want[key] for key in BUFFERS if key in want}
    other = {k: 2.0 * v for k, v in whole.items()}
    average = {"initted": torch.tensor(True), "step": torch.tensor(7)}
    average |= {f"online_model.{k}": v for k, v in other.items()} | {f"ema_model.{k}": v for k, v in whole.items()}
    return want, {"step": 3, "model": other, "opt": {}, "ema": average, "scaler": None, "version": "2.3.1"}


@pytest.mark.parametrize("name", ["lucid-v", "lucid-self"])
def test_ddim_draws_what_the_code_draws(tmp_path: Path, name: str) -> None:
    want, content = checkpoint(name)
    model = converted(tmp_path, content)
    recipe = files.made(model.config)
    levels = len(NETS[name]["widths"]) - 1
    plain = {"heads": (4,) * levels, "head_channels": (32,) * levels}
    assert recipe == Recipe(**{**plain, **COUNTED, **NETS[name]})
    with torch.no_grad():
        assert torch.allclose(model.denoiser.net(want["x"], want["t"].float()), want["out"], atol=1e-5)
        if recipe.selfed:
            beside = model.denoiser.net(want["x"], want["t"].float(), want["x"].flip(0))
            assert torch.allclose(beside, want["beside"], atol=1e-5)
    # Their levels -1, 3, 7, 11, 15, 19 of 20 are our 0, 4, 8, 12, 16, 20.
    drawn = sf.sample(
        recipe.guide(model.denoiser),
        recipe.sampler(),
        x1=want["x"],
        times=(1.0, 0.8, 0.6, 0.4, 0.2, 0.0),
        noise=sf.Noise(0),
    )
    assert torch.allclose(model.codec.decode(drawn), want["drawn"], atol=1e-5)
    assert float(want["drawn"].std()) > 0.1


def test_the_learned_variance_is_that_of_the_code(tmp_path: Path) -> None:
    want, content = checkpoint("lucid-variance")
    with pytest.raises(ValueError, match=r"of another shape|do not fit"):
        converted(tmp_path, content, learned=False)
    model = converted(tmp_path, content, theta=1000.0)
    recipe = files.made(model.config)
    plain = {"heads": (4, 4), "head_channels": (32, 32), "theta": 1000.0}
    assert recipe == Recipe(**{**plain, **COUNTED, **NETS["lucid-variance"]})
    denoiser = recipe.guide(model.denoiser)
    with torch.no_grad():
        law = learned(denoiser.process, denoiser(want["x"], 8 / 20), want["x"], 8 / 20, 7 / 20)
    assert torch.allclose(law.mean, want["mean"], atol=1e-5)
    assert torch.allclose(law.std**2, want["variance"], rtol=1e-4)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_fourier_features_are_told_log_snr(tmp_path: Path, schedule: str) -> None:
    want = case("lucid-fourier", "lucid", 8)
    content = {f"model.{k}": v for k, v in want["state"].items()}
    with pytest.raises(ValueError, match=r"does not say its predicts, schedule.*--set predicts=eps"):
        converted(tmp_path, content)
    model = converted(tmp_path, content, predicts="eps", schedule=schedule)
    recipe = files.made(model.config)
    assert recipe.frequencies == 8 and recipe.steps == 0
    denoiser, process = recipe.guide(model.denoiser), model.denoiser.process
    # Times of the same log SNR: theirs have a little noise at 0.
    t, s = (process.time_of(float(value)) for value in want[f"{schedule}-log-snr"])
    assert t == pytest.approx(0.6, abs=2e-3) and s == pytest.approx(0.4, abs=2e-3)
    with torch.no_grad():
        law = process.reverse(Estimate(denoiser(want["x"], t).mean), want["x"], t, s)
    assert torch.allclose(law.mean, want[f"{schedule}-mean"], atol=1e-5)
    assert law.std**2 == pytest.approx(float(want[f"{schedule}-variance"]), rel=1e-4)


def test_a_bare_network_is_asked_for_its_schedule(tmp_path: Path) -> None:
    want, content = checkpoint("lucid-v")
    with pytest.raises(ValueError, match="--set predicts=v --set schedule=sigmoid --set steps=1000"):
        converted(tmp_path, want["state"])
    model = converted(tmp_path, want["state"], predicts="v", schedule="sigmoid", steps=20)
    assert model.denoiser.process == sf.processes.Table.sigmoid(20)
    content["ema"]["ema_model.loss_weight"] = torch.full((20,), 2.0)
    with pytest.raises(ValueError, match="does not say its predicts, "):
        converted(tmp_path, content)


def test_betas_without_a_name_are_kept(tmp_path: Path) -> None:
    _, content = checkpoint("lucid-v")
    betas = torch.linspace(0.01, 0.3, 20)
    bars = torch.cumprod(1.0 - betas, 0)
    snr = bars / (1.0 - bars)
    content["ema"] |= {
        "ema_model.betas": betas,
        "ema_model.alphas_cumprod": bars,
        "ema_model.loss_weight": snr.clamp(max=5.0) / snr,
    }
    model = converted(tmp_path, content)
    assert model.config["fields"]["predicts"] == "eps"
    got = torch.tensor([model.denoiser.process.alpha(n / 20) ** 2 for n in range(1, 21)])
    assert torch.allclose(got, bars, rtol=1e-5)


def test_an_older_version_is_refused_by_its_keys(tmp_path: Path) -> None:
    want, _ = checkpoint("lucid-v")
    state = {k.replace("norm.g", "norm.weight"): v for k, v in want["state"].items()}
    with pytest.raises(ValueError, match=r"without a place: .*norm\.weight"):
        converted(tmp_path, state, predicts="v", schedule="sigmoid", steps=20)


def test_the_table_of_sigmoids_is_that_of_the_code() -> None:
    betas = case("lucid-v", "lucid", 8)["betas"].double()
    bars = torch.tensor(sf.processes.Table.sigmoid(20).alpha_bars, dtype=torch.float64)
    assert torch.allclose(bars, torch.cumprod(1.0 - betas, 0), rtol=2e-5)
    # Algorithm 1 of 2212.11972 with other ends, at the middle: half, by the symmetry of the sigmoid.
    assert sf.processes.Table.sigmoid(10, -2.0, 2.0, 0.7).alpha_bars[4] == pytest.approx(0.5)
    # (s(3) - s(0)) / (s(3) - s(-1)), s(v) = sigmoid(v / 2) = 0.817574, 0.5, 0.377541.
    assert sf.processes.Table.sigmoid(4, -1.0, 3.0, 2.0).alpha_bars[0] == pytest.approx(0.72170, abs=1e-5)


def test_self_conditioning_hands_on_the_last_estimate() -> None:
    class Seen(Denoiser):
        process = sf.processes.Cosine()

        def __init__(self) -> None:
            super().__init__()
            self.conditions: list[Any] = []

        def forward(self, xt, t, cond=None):
            self.conditions.append(cond)
            return Estimate(xt + len(self.conditions))

    denoiser, noise = Seen(), sf.Noise(0)
    steps = list(sf.trajectory(denoiser, SelfConditioned(DDIM()), torch.ones(1, 2), (1.0, 0.6, 0.3, 0.5, 0.2), noise))
    first, second, third = denoiser.conditions
    assert first is None and torch.equal(second, torch.full((1, 2), 2.0))
    assert torch.equal(third, steps[1].x + 2.0)  # what the second call gave, across the step upwards
    # Heun calls twice a step: the later estimate is handed on.
    denoiser.conditions.clear()
    list(sf.trajectory(denoiser, SelfConditioned(sf.samplers.Heun()), torch.ones(1, 2), (0.9, 0.6, 0.3), noise))
    assert denoiser.conditions[0] is denoiser.conditions[1] is None
    assert denoiser.conditions[2] is denoiser.conditions[3] and denoiser.conditions[2] is not None


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="predicts is one of eps, x0, v, got 'noise'"):
        Recipe(predicts="noise")
    with pytest.raises(ValueError, match="schedule of 1000 steps is one of linear, cosine, sigmoid, got 'quad'"):
        Recipe(schedule="quad")
    with pytest.raises(ValueError, match="schedule of 0 steps is one of linear, cosine, got 'sigmoid'"):
        Recipe(steps=0, frequencies=8)
    with pytest.raises(ValueError, match="got 8 frequencies and 1000 steps"):
        Recipe(frequencies=8)
    with pytest.raises(ValueError, match="got 0 frequencies and 0 steps"):
        Recipe(steps=0, schedule="cosine")
    with pytest.raises(ValueError, match="2 levels need as many `heads`"):
        Recipe(widths=(8, 8, 8)).net()
    small = Recipe(base=8, widths=(8, 8, 8), full=(), heads=(1, 1), head_channels=(4, 4)).net()
    with pytest.raises(ValueError, match=r"sides that 2 divides, got \(3, 4\)"):
        small(torch.zeros(1, 3, 3, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="no condition: leave it out"):
        small(torch.zeros(1, 3, 4, 4), torch.zeros(1), torch.zeros(1, 3, 4, 4))
