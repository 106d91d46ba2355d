"""Checkpoints: bit for bit, whole or not at all, and clear when they cannot be read."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sfumato.training import Ema, checkpoints


def trained(steps: int, seed: int = 0, **options):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3))
    module = module.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2, fused=True, **options)
    ema = Ema(module, 0.9)
    go(module, optimizer, ema, range(steps))
    return module, optimizer, ema


def go(module, optimizer, ema, steps):
    for step in steps:
        x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (module(x) * torch.linspace(0, 1, 128).reshape(2, 4, 4, 4)).square().mean().backward()
        optimizer.step()
        ema.update(module)


def states(module, optimizer, ema):
    whole = {**module.state_dict(), **{f"ema.{k}": v for k, v in ema.average.state_dict().items()}}
    for i, slots in optimizer.state_dict()["state"].items():
        whole |= {f"{i}.{k}": v for k, v in slots.items()}
    return copy.deepcopy(whole)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_round_trip_is_bit_for_bit_and_so_is_what_follows(tmp_path):
    """The weights lie channels last: moments that come back in another order of memory would pair the wrong numbers."""
    before = trained(3)
    checkpoints.save(tmp_path / "c.safetensors", *before, {"step": 3, "note": "x"})
    after = trained(1, seed=5)
    assert checkpoints.load(tmp_path / "c.safetensors", *after) == {"step": 3, "note": "x"}
    assert checkpoints.info(tmp_path / "c.safetensors") == {"step": 3, "note": "x"}
    assert same(states(*before), states(*after)) and after[2].updates == 3
    assert before[1].param_groups[0]["betas"] == tuple(after[1].param_groups[0]["betas"])
    for trio in (before, after):
        go(*trio, range(3, 6))
    assert same(states(*before), states(*after))


def test_saving_changes_nothing_and_needs_no_average(tmp_path):
    module, optimizer, ema = trained(2)
    before = states(module, optimizer, ema)
    checkpoints.save(tmp_path / "deep" / "c.safetensors", module, optimizer, None, {})
    assert same(before, states(module, optimizer, ema))
    assert not any(k.startswith("ema.") for k in load_file(tmp_path / "deep" / "c.safetensors"))
    other, other_optimizer, _ = trained(0, seed=9)
    assert checkpoints.load(tmp_path / "deep" / "c.safetensors", other, other_optimizer, None) == {}
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_state_that_is_no_tensor_comes_back(tmp_path):
    module, optimizer, _ = trained(1)
    first = next(iter(module.parameters()))
    optimizer.state[first]["turns"] = 7
    checkpoints.save(tmp_path / "c.safetensors", module, optimizer, None, {})
    other, fresh, _ = trained(0)
    checkpoints.load(tmp_path / "c.safetensors", other, fresh, None)
    assert fresh.state[next(iter(other.parameters()))]["turns"] == 7


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    path, trio = tmp_path / "c.safetensors", trained(1)
    checkpoints.save(path, *trio, {"step": 1})
    whole = path.read_bytes()

    def full(tensors, part, metadata):
        part.write_bytes(b"half")
        raise checkpoints.SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match=r"cannot be written .*No space left.*is the disk full"):
        checkpoints.save(path, *trio, {"step": 2})
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["short", "header", "text", "empty", "foreign", "bare"])
def test_a_damaged_or_foreign_file_is_one_sentence(tmp_path, damage):
    path, trio = tmp_path / "c.safetensors", trained(1)
    checkpoints.save(path, *trio, {"step": 1})
    raw = path.read_bytes()
    if damage == "foreign":
        save_file({"a": torch.zeros(1)}, path, metadata={"other": "x"})
    elif damage == "bare":
        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes({"short": raw[:-7], "header": raw[:50], "text": b"hello there", "empty": b""}[damage])
    before = states(*trio)
    with pytest.raises(ValueError, match=r"c\.safetensors is no checkpoint of sfumato, or is truncated"):
        checkpoints.load(path, *trio)
    assert same(before, states(*trio))


def test_another_network_is_an_error(tmp_path):
    checkpoints.save(tmp_path / "c.safetensors", *trained(1), {})
    other = nn.Conv2d(2, 3, 5)
    with pytest.raises(ValueError, match="weights of another network"):
        checkpoints.load(tmp_path / "c.safetensors", other, torch.optim.AdamW(other.parameters()), None)


def test_the_format_is_plain(tmp_path):
    """Names that the zoo and runs under way rely on."""
    checkpoints.save(tmp_path / "c.safetensors", *trained(2), {"step": 2})
    from safetensors import safe_open

    with safe_open(tmp_path / "c.safetensors", "pt") as file:
        header, keys = json.loads(file.metadata()["sfumato"]), set(file.keys())
    assert header["info"] == {"step": 2} and header["ema_updates"] == 2
    assert header["optimizer"]["groups"][0]["lr"] == 1e-2
    assert {
        "module.0.weight",
        "ema.0.weight",
        "module.1.running_mean",
        "optimizer.0.exp_avg",
        "optimizer.0.step",
    } <= keys
