"""Checkpoints of score_sde_pytorch against the score that code computes with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import case, converted, folder

import sfumato as sf

LEVELS = torch.logspace(1.6989700043360187, -2.0, 1000)  # their buffer: 50 down to 0.01
KINDS = {"sde-ve": {}, "sde-vp": {"kind": "vp"}, "sde-skip": {}}


def checkpoint(name: str) -> dict[str, Any]:
    found = case(name)
    found["state"]["sigmas"] = LEVELS
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_score_is_that_of_the_public_code(tmp_path: Path, name: str) -> None:
    want = checkpoint(name)
    content = {"model": {f"module.{k}": v for k, v in want["state"].items()}, "step": 3}
    denoiser = converted(tmp_path, content, **KINDS[name]).denoiser
    unit = 1.0 if name == "sde-vp" else 2.0  # their VE has data in [0, 1], ours in [-1, 1]
    xt = unit * want["x"] - (unit - 1.0)
    for row, t in enumerate(want["t"].tolist()):
        with torch.no_grad():
            mean = denoiser(xt, t).mean
        score = unit * denoiser.process.score(xt, mean, t)[row, :, ::2, ::2]
        assert torch.allclose(score, want["score"][row], rtol=1e-3, atol=1e-5 * float(want["score"][row].abs().max()))


def test_averaged_weights_are_taken_and_counted(tmp_path: Path) -> None:
    state = checkpoint("sde-ve")["state"]
    learned = [key for key in state if key not in ("sigmas", "all_modules.0.W")]
    average = [2.0 * state[key] for key in learned]
    content = {"model": {f"module.{k}": v for k, v in state.items()}, "ema": {"decay": 0.9, "shadow_params": average}}
    found = folder(tmp_path, content)
    assert torch.equal(found.weights["enter.weight"], 2.0 * state["all_modules.3.weight"])
    assert torch.equal(found.weights["frequencies"], state["all_modules.0.W"])
    content["ema"]["shadow_params"] = average[1:]
    with pytest.raises(ValueError, match=f"has {len(average) - 1} averaged parameters for {len(average)}"):
        folder(tmp_path, content)


def test_what_the_file_does_not_say_or_has_no_place(tmp_path: Path) -> None:
    state = checkpoint("sde-vp")["state"]
    with pytest.raises(ValueError, match="does not say its kind"):
        folder(tmp_path, state)
    odd = {"all_modules.99.weight": torch.zeros(1), "all_modules.3.odd": torch.zeros(1), "other": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"3 without a place: all_modules\.3\.odd, all_modules\.99\.weight, other"):
        folder(tmp_path, state | odd, kind="vp")


def test_the_levels_are_those_of_the_file(tmp_path: Path) -> None:
    state = case("sde-ve")["state"]
    state["sigmas"] = torch.tensor([348.0, 1.0, 0.25])
    assert converted(tmp_path, state).denoiser.process == sf.processes.Geometric(0.5, 696.0)
    del state["sigmas"]
    assert converted(tmp_path, state).denoiser.process == sf.processes.Geometric(0.02, 100.0)
