"""Several averages of one run: names, counts, snapshots, and the average of another width made of them."""

from __future__ import annotations

import pytest
import torch
from test_runs import start
from torch import nn

from sfumato.training import Averages, Ema, PowerEma, averages, checkpoints


def moved(module, value):
    with torch.no_grad():
        module.weight.fill_(value)
    return module


def test_each_is_the_average_that_it_would_be_alone():
    module = nn.Linear(1, 1, bias=False)
    several = Averages(module, (0.9, 0.5), (0.05, 0.2))
    alone = [Ema(module, 0.9), Ema(module, 0.5)], PowerEma(module, (0.05, 0.2))
    for value in (1.0, -2.0, 3.0, 0.5):
        moved(module, value)
        several.update(module)
        for each in (*alone[0], alone[1]):
            each.update(module)
    found = {name: float(each.weight) for name, each in several.modules().items()}
    want = [*(e.average for e in alone[0]), *alone[1].averages]
    assert found == dict(zip(("ema", "ema1", "power0", "power1"), (float(e.weight) for e in want), strict=True))
    assert several.average is several.plain[0].average and several.updates == 4
    several.updates = 9
    assert [each.updates for each in (*several.plain, several.power)] == [9, 9, 9]
    assert list(Averages(module).modules()) == ["ema"]
    with pytest.raises(ValueError, match="one decay at least"):
        Averages(module, ())


def test_an_average_of_another_width_from_a_run(tmp_path):
    """What the snapshots of widths 0.05 and 0.2 give for 0.1 is nearly the average that a run at 0.1 keeps."""
    for _ in start(tmp_path / "two", 64, widths=(0.05, 0.2), snapshots=4, every=64):
        pass
    for _ in start(tmp_path / "one", 64, widths=(0.1,), snapshots=64, every=64):
        pass
    assert len(list((tmp_path / "two" / "averages").iterdir())) == 16
    mixed, (((profile, kept)),) = averages.mixed(tmp_path / "two", 0.1), averages.read(tmp_path / "one")
    assert profile.step == 64 and kept.keys() == mixed.keys()
    wide = averages.read(tmp_path / "two")[-1][1]

    def apart(a, b):
        return sum(float((a[k] - b[k]).double().square().sum()) for k in a) ** 0.5

    assert apart(mixed, kept) < 0.05 * apart(wide, kept)
    early = averages.mixed(tmp_path / "two", 0.1, step=32)
    assert apart(early, mixed) > 0.1 * apart(wide, kept)


def test_snapshots_that_are_not_there_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match="no snapshots of averages: train with --ema-width"):
        averages.read(tmp_path)
    averages.write(tmp_path, 3, (1.0,), [{"a": torch.ones(2)}])
    (path,) = (tmp_path / "averages").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"00000003\.safetensors is damaged"):
        averages.read(tmp_path)


def test_a_snapshot_on_a_full_disk_leaves_no_litter(tmp_path, monkeypatch):
    def full(*args, **kw):
        raise averages.SafetensorError("No space left on device")

    monkeypatch.setattr(averages, "save_file", full)
    with pytest.raises(OSError, match=r"the snapshot of step 3 cannot be written .*is the disk full"):
        averages.write(tmp_path, 3, (1.0,), [{"a": torch.ones(2)}])
    assert not list((tmp_path / "averages").iterdir())


def test_part_of_the_tensors_alone(tmp_path):
    """Stored, loaded and missed by name."""
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    optimizer, ema = torch.optim.AdamW(module.parameters()), Averages(module, (0.9, 0.5))

    def only(name):
        return name.startswith("1.")

    checkpoints.save(tmp_path / "c.safetensors", module, optimizer, ema, {}, only=only)
    held, _ = checkpoints.gathered(module, optimizer, ema, {}, only=only)
    assert set(held) == {f"{p}.1.{k}" for p in ("module", "ema", "ema1") for k in ("weight", "bias")}
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    kept = other[0].weight.clone()
    checkpoints.load(tmp_path / "c.safetensors", other, torch.optim.AdamW(other.parameters()), None, only=only)
    assert torch.equal(other[1].weight, module[1].weight) and torch.equal(other[0].weight, kept)
    with pytest.raises(ValueError, match=r"another network: it lacks \['0.bias', '0.weight'\], and has \[\]"):
        checkpoints.load(tmp_path / "c.safetensors", other, torch.optim.AdamW(other.parameters()), None)
