"""The early word on a loss that runs away."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.training.divergence import Watch, keep


def said(losses, factor=4.0):
    watch = Watch(factor)
    return [i for i, loss in enumerate(losses) if watch(loss)]


def test_steady_and_falling_losses_say_nothing():
    noisy = [1.0 + 0.5 * math.sin(7 * i) for i in range(400)]
    assert said(noisy) == said([math.exp(-i / 50) * v for i, v in enumerate(noisy)]) == []
    assert said([1.0] * 60 + [100.0] * 12 + [1.0] * 60) == []  # 12 of 25 are not their median


def test_a_rise_is_told_once_and_again_after_it_has_passed():
    losses = [1.0] * 60 + [4.2] * 40 + [1.0] * 40 + [4.2] * 40
    # The median of 25 is above 4 at the 13th high one.
    assert said(losses) == [72, 152]
    assert said([1.0] * 60 + [3.8] * 40) == [] and said([1.0] * 60 + [3.8] * 40, factor=3.0) == [72]
    assert said([1.0] * 24 + [9.0] * 60) == []  # the first 50 are mostly high: nothing lower to compare with


def test_the_lowest_block_counts_and_losses_may_be_negative():
    falling = [4.0] * 50 + [1.0] * 50
    assert said(falling + [4.5] * 30) == [112] and said([1.0] * 50 + [1.2] * 50 + [4.5] * 30) == [112]
    assert said([-2.0] * 50 + [3.9] * 30) == [] and said([-2.0] * 50 + [4.1] * 30) == [62]
    wide = [0.0, 1.0] * 25  # median 1/2, quartiles 0 and 1: far above is 1/2 + 3
    assert said(wide + [3.4] * 30) == [] and said(wide + [3.6] * 30) == [62]


def test_the_sentence():
    watch = Watch()
    found = [s for s in map(watch, [0.5] * 50 + [3.0] * 20) if s]
    assert len(found) == 1 and "risen to 3 (median of the last 25 steps) from 0.5 at its lowest" in found[0]


@pytest.mark.parametrize("links", [True, False])
def test_the_good_checkpoint_outlives_the_next(tmp_path, monkeypatch, links):
    path = tmp_path / "checkpoint.safetensors"
    assert keep(path) is None
    if not links:
        monkeypatch.setattr("os.link", lambda a, b: (_ for _ in ()).throw(OSError("no links here")))
    for content in (b"one", b"two"):
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(path)
        good = keep(path)
    assert good == tmp_path / "checkpoint.good.safetensors" and good.read_bytes() == b"two"
    (tmp_path / "new").write_bytes(b"three")
    (tmp_path / "new").replace(path)
    assert good.read_bytes() == b"two"


def test_a_run_keeps_the_checkpoint_before_the_rise(tmp_path):
    from test_runs import Stripes

    from sfumato.training import checkpoints
    from sfumato.training.runs import run

    class Rising(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.step = torch.nn.Parameter(torch.zeros(1)), 0

        def advance(self, step):
            self.step = step

        def forward(self, x0, cond, noise):
            return (self.w**2 + (1.0 if self.step <= 60 else 50.0)).expand(len(x0))

    told = []
    for _ in run(tmp_path, {}, Rising(), Stripes(), steps=120, batch=1, every=20, warn=told.append):
        pass
    good = tmp_path / "checkpoint.good.safetensors"
    assert len(told) == 1 and "training seems to diverge" in told[0] and f"kept as {good}" in told[0]
    assert checkpoints.info(good)["step"] == 60  # the rise is noticed at step 73
    assert checkpoints.info(tmp_path / "checkpoint.safetensors")["step"] == 120
