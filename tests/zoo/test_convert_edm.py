"""Checkpoints of EDM against what that code computes with the same weights."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import case, converted, folder

import sfumato as sf
from sfumato.recipes.published import Recipe
from sfumato.zoo import convert

BOX, BINOMIAL = (1.0, 1.0), (1.0, 3.0, 3.0, 1.0)
CASES = {
    "edm-ddpmpp": ("edm", BOX),
    "edm-ncsnpp": ("ve", BINOMIAL),
    "edm-skip": ("vp", BINOMIAL),
    "edm-adm": ("edm", BOX),
}


def checkpoint(name: str) -> dict[str, Any]:
    """The case, whose filters are what EDM's are: an outer product that sums to 1."""
    found, taps = case(name), torch.tensor(CASES[name][1])
    filter_ = torch.outer(taps, taps) / taps.sum() ** 2
    for key in found["state"]:
        if key.endswith("resample_filter"):
            found["state"][key] = filter_[None, None]
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_denoised_picture_is_that_of_edm(tmp_path: Path, name: str) -> None:
    want, kind = checkpoint(name), CASES[name][0]
    with pytest.raises(ValueError, match="does not say its kind"):
        folder(tmp_path, want["state"])
    model = converted(tmp_path, want["state"], kind=kind)
    fields, denoiser = model.config["fields"], model.denoiser
    assert fields["size"] == 16 and (name == "edm-adm" or tuple(fields["taps"]) == CASES[name][1])
    process = denoiser.process
    for row, sigma in enumerate(want["sigma"].tolist()):
        # EDM's x is x_t / alpha, with noise sigma.
        t = process.time_of(-2.0 * math.log(sigma))
        xt = process.alpha(t) * want["x"]
        asked = [(want["y"], "out"), (None, "unlabelled")] if fields["classes"] else [(None, "out")]
        for label, key in asked:
            with torch.no_grad():
                got = denoiser(xt, t, label).mean[row]
            if row < len(want[key]):
                assert torch.allclose(got, want[key][row], atol=1e-4 * sigma), (sigma, key)


def test_no_class_is_the_label_after_the_last(tmp_path: Path) -> None:
    for name in ("edm-ddpmpp", "edm-adm"):
        model = converted(tmp_path, checkpoint(name)["state"], kind="edm")
        x, null = torch.ones(2, 3, 16, 16), Recipe(classes=4).null(torch.tensor([0, 1]))
        with torch.no_grad():
            assert torch.allclose(model.denoiser(x, 0.5, null).mean, model.denoiser(x, 0.5).mean, atol=1e-6)
        assert model.sample(1, cond=2, scale=2.0, steps=2, size=16).isfinite().all()


def test_keys_without_a_place_are_named_as_they_are_there(tmp_path: Path) -> None:
    state = checkpoint("edm-ddpmpp")["state"]
    torch.save({**state, "model.enc.16x16_odd.weight": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"1 without a place: model\.enc\.16x16_odd\.weight"):
        convert(tmp_path / "w.pt", tmp_path / "m", settings={"kind": "edm"})
    torch.save({**state, "u": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="iDDPMPrecond rounds its levels"):
        convert(tmp_path / "w.pt", tmp_path / "m")


@dataclasses.dataclass(frozen=True)
class Packed:
    """Pickles as NVlabs' persistent objects do: a function of theirs, and what it is called with."""

    meta: dict[str, Any]

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


@pytest.fixture
def nvlabs(monkeypatch: pytest.MonkeyPatch):
    def _reconstruct_persistent_obj(meta):
        raise AssertionError("their function was run")

    module = types.ModuleType("torch_utils.persistence")
    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def packed(state: dict[str, torch.Tensor], name: str = "") -> Packed:
    """Nested objects of this state dict."""
    own = {k: torch.nn.Parameter(v) for k, v in state.items() if "." not in k}
    heads = {k.partition(".")[0] for k in state if "." in k}
    parts = {h: packed({k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{h}.")}) for h in heads}
    container = torch.nn.ModuleDict()
    container._modules = parts if name == "" else {}  # type: ignore[assignment]
    if name == "" and not own and parts:
        return container  # type: ignore[return-value]
    inside = {
        "_parameters": own,
        "_buffers": {"none": None},
        "_modules": {**parts, "none": None},
        "odd": ({1}, np.float64(0.5), np.ones(2)),
    }
    return Packed({"type": "class", "class_name": name, "module_src": "raise SystemExit", "state": inside})


def test_a_snapshot_is_read_without_running_what_is_in_it(tmp_path: Path, nvlabs) -> None:
    want = checkpoint("edm-ncsnpp")
    with (tmp_path / "w.pkl").open("wb") as file:
        pickle.dump({"ema": packed(want["state"], "VEPrecond"), "loss_fn": None}, file)
    found = convert(tmp_path / "w.pkl", tmp_path / "m")  # the class says the kind
    assert found.fields["kind"] == "ve"
    torch.save(want["state"], tmp_path / "w.pt")
    again = convert(tmp_path / "w.pt", tmp_path / "again", settings={"kind": "ve"})
    assert all(torch.equal(value, again.weights[key]) for key, value in found.weights.items())
    assert sf.load(tmp_path / "m").denoiser.process == sf.processes.Geometric(0.02, 100.0)
    with (tmp_path / "w.pkl").open("wb") as file:
        pickle.dump({"ema": packed(want["state"], "iDDPMPrecond")}, file)
    with pytest.raises(ValueError, match="iDDPMPrecond rounds its levels"):
        convert(tmp_path / "w.pkl", tmp_path / "m")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_snapshot_that_asks_for_anything_else_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "w.pkl").open("wb") as file:
        pickle.dump({"ema": Malicious(tmp_path / "ran")}, file)
    with pytest.raises(ValueError, match=r"not read \(it asks for posix.mkdir\)"):
        convert(tmp_path / "w.pkl", tmp_path / "m")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "w.pkl").write_bytes(b"text")
    with pytest.raises(ValueError, match="no network snapshot"):
        convert(tmp_path / "w.pkl", tmp_path / "m")


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'edm', 'vp', 'sub-vp' or 've', got 'VP'"):
        Recipe(kind="VP")
    with pytest.raises(ValueError, match="net is 'song' or 'adm', got 'unet'"):
        Recipe(net="unet")
    with pytest.raises(ValueError, match="encoder is one of standard, skip, residual, got 'none'"):
        Recipe(encoder="none").network()
    small = Recipe(base=32, widths=(32, 32), blocks=1, attention=()).network()
    with pytest.raises(ValueError, match=r"sides that 2 divides, got \(3, 4\)"):
        small(torch.zeros(1, 3, 3, 4), torch.zeros(1))
    with pytest.raises(ValueError, match="has no classes"):
        small(torch.zeros(1, 3, 4, 4), torch.zeros(1), torch.zeros(1))


def test_sub_vp_says_eps_of_the_bare_state() -> None:
    recipe = Recipe(kind="sub-vp", base=32, widths=(32,), blocks=1, attention=())
    denoiser, xt, t = recipe.model(), torch.ones(1, 3, 4, 4), 0.5
    alpha, sigma = denoiser.process.alpha(t), denoiser.process.sigma(t)
    assert abs(alpha**2 + sigma**2 - 1.0) > 1e-3
    with torch.no_grad():
        eps = denoiser.net(xt, torch.tensor([999 * 0.5]))
        assert torch.allclose(denoiser(xt, t).mean, (xt - sigma * eps) / alpha, atol=1e-5)
