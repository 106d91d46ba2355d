"""Windows: any size, the same as the inner denoiser where that is local, smooth where it is not."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, normal

from sfumato.denoisers import Denoiser, Estimate, Windowed
from sfumato.denoisers.windowed import _spans
from sfumato.noise import Noise
from sfumato.processes import Anchored, LinearBeta, Time, entry
from sfumato.samplers import DDIM, sample

SIZES = [(8, 8), (9, 8), (17, 23), (31, 13), (5, 29), (3, 4), (1, 19), (64, 11)]


class Pointwise(Denoiser):
    """Each number by itself, mean and variance; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.process = LinearBeta()
        self.asked: list[tuple[Tensor, Time, Any]] = []

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        self.asked.append((xt, t, cond))
        level = t.reshape(-1, *[1] * (xt.ndim - 1)) if isinstance(t, Tensor) else t
        return Estimate(torch.sin(3 * xt) * level, xt**2)


class Average(Pointwise):
    """The mean over the window: as far from local as can be."""

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        super().forward(xt, t, cond)
        return Estimate(xt.mean((-1, -2), keepdim=True).expand_as(xt))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("window", "overlap", "batch"), [(8, 3, 8), (8, 0, 3), (8, 7, 5), (7, 2, 1)])
def test_pointwise_denoisers_are_unchanged(size: tuple[int, int], window: int, overlap: int, batch: int) -> None:
    """Weights that sum to one, at every odd, prime and short size."""
    x, inner = normal(2, 3, *size), Pointwise()
    for t in (0.4, torch.tensor([0.2, 0.7], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)):
        if isinstance(t, Tensor) and t.ndim == 0:
            got = Windowed(inner, window, overlap, batch=batch)(x, t)
            close(got.mean, torch.sin(3 * x) * 0.4)
            continue
        got, want = Windowed(inner, window, overlap, batch=batch)(x, t), inner(x, t)
        close(got.mean, want.mean)
        close(got.var, want.var)
    for crops, _, _ in inner.asked:
        assert len(crops) <= 2 * batch or crops.shape == x.shape
    assert any(crops.shape[-2:] == (min(window, size[0]), min(window, size[1])) for crops, _, _ in inner.asked)


def test_a_constant_is_a_constant() -> None:
    class Constant(Pointwise):
        def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
            return Estimate(torch.full_like(xt, 0.7))

    got = Windowed(Constant(), (6, 5), 2)(normal(1, 2, 23, 19), 0.5)
    close(got.mean, 0.7)
    assert got.var is None


def test_windows_cover_evenly_and_end_at_the_border() -> None:
    """Corners by hand: 20 numbers, windows of 8 that overlap by at least 2, so three of them: 0, 6, 12."""
    inner = Pointwise()
    Windowed(inner, (8,), 2, position=True)(normal(1, 20), 0.5)
    assert inner.asked[0][2]["position"].flatten().tolist() == [0, 6, 12]
    inner.asked.clear()
    Windowed(inner, (8,), 2, position=True)(normal(1, 21), 0.5)  # one more needs four
    corners = inner.asked[0][2]["position"].flatten().tolist()
    assert len(corners) == 4 and corners[0] == 0 and corners[-1] == 13
    assert all(4 <= b - a <= 5 for a, b in itertools.pairwise(corners))


def test_an_event_of_one_window_is_one_call_of_the_inner() -> None:
    inner, x = Pointwise(), normal(2, 1, 8, 5)
    Windowed(inner, 8, 3)(x, 0.5, "cond")
    assert len(inner.asked) == 1 and inner.asked[0][0] is x and inner.asked[0][2] == "cond"
    inner.asked.clear()
    Windowed(inner, 8, 3, position=True)(x, 0.5)
    assert inner.asked[0][2]["position"].tolist() == [[0, 0], [0, 0]]


def test_conditions_are_cropped_or_repeated() -> None:
    inner, x = Pointwise(), normal(2, 1, 12, 9)
    cond = {"image": normal(2, 3, 12, 9, seed=4), "class": torch.tensor([5, 6])}
    Windowed(inner, 6, 2, batch=100, aligned=("image",), position=True)(x, 0.5, cond)
    crops, _, asked = inner.asked[0]
    assert len(asked["image"]) == len(crops) == len(asked["class"]) == len(asked["position"])
    for row in range(len(crops)):
        i, j = asked["position"][row].tolist()
        b = row % 2  # the batch runs inside a window
        assert torch.equal(crops[row], x[b, :, i : i + 6, j : j + 6])
        assert torch.equal(asked["image"][row], cond["image"][b, :, i : i + 6, j : j + 6])
        assert int(asked["class"][row]) == int(cond["class"][b])
    inner.asked.clear()
    Windowed(inner, 6, 2, batch=100)(x, 0.5, cond["class"])
    assert inner.asked[0][2].tolist() == [5, 6] * (len(inner.asked[0][0]) // 2)
    inner.asked.clear()
    Windowed(inner, 6, 2, batch=100)(x, 0.5, torch.tensor(3))
    assert int(inner.asked[0][2]) == 3 and inner.asked[0][2].ndim == 0
    inner.asked.clear()
    Windowed(inner, 6, 2, batch=100)(x, torch.tensor([[0.1], [0.9]]))
    assert inner.asked[0][1].flatten().tolist() == pytest.approx([0.1, 0.9] * (len(inner.asked[0][0]) // 2))
    assert inner.asked[0][2] is None


def test_one_axis() -> None:
    x, inner = normal(2, 3, 101), Pointwise()
    got, want = Windowed(inner, (16,), 5)(x, 0.3), inner(x, 0.3)
    close(got.mean, want.mean)
    close(got.var, want.var)


def test_blending_leaves_no_seams() -> None:
    """On a ramp the mean over a window jumps by its stride; blended over w numbers, by the steps of sin^2."""
    ramp = torch.arange(45.0, dtype=torch.float64).expand(1, 1, 9, 45)
    hard = Windowed(Average(), 9, 0)(ramp, 0.5).mean[0, 0, 0].diff()
    soft = Windowed(Average(), 9, 3)(ramp, 0.5).mean[0, 0, 0].diff()
    close(hard.max(), 9.0)
    # windows every 6, blended over 3 with sin^2 of 22.5, 45 and 67.5 degrees: flat at both ends
    edge = 0.5 - 0.25 * 2**0.5
    close(soft[4:10], 6 * torch.tensor([0.0, edge, 0.5 - edge, 0.5 - edge, edge, 0.0], dtype=torch.float64))
    assert float(soft.min()) >= -1e-12
    # symmetric: a flipped picture gives the flipped answer
    x = normal(1, 1, 8, 40)
    close(Windowed(Average(), 8, 4)(x.flip(-1), 0.5).mean, Windowed(Average(), 8, 4)(x, 0.5).mean.flip(-1))


class Smooth(Pointwise):
    """A network that sees 13 numbers around each, and its border: zero-padded Gaussian convolution, then a squeeze."""

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        taps = torch.exp(-0.5 * (torch.arange(-6, 7, dtype=xt.dtype) / 2.5) ** 2)
        kernel = (taps[:, None] * taps / taps.sum() ** 2)[None, None]
        rows = xt.flatten(0, 1)[:, None]
        smooth = torch.nn.functional.conv2d(rows, kernel, padding=6).reshape(xt.shape)
        return Estimate(torch.tanh(1.5 * smooth))


def seams(picture: Tensor, starts: list[int], window: int) -> float:
    """Energy of the steps across the columns where a window begins or ends, over that of all other steps."""
    steps = picture.diff(dim=-1).square().mean((0, 1, 2))
    border = torch.zeros_like(steps, dtype=torch.bool)
    for start in starts:
        for edge in (start, start + window):
            if 0 < edge < picture.shape[-1]:
                border[edge - 1] = True
    return float(steps[border].mean() / steps[~border].mean())


@pytest.mark.parametrize("size", [(37, 101), (24, 257), (25, 1021), (31, 64)])
def test_a_run_through_windows_has_no_seams(size: tuple[int, int]) -> None:
    """Odd, prime and very long sides, through a whole sampler: steps across the borders of windows are no larger than
    elsewhere, as in a run on the whole; without overlap they are."""
    import sfumato as sf
    from sfumato.samplers import DDIM

    inner, times, x1 = Smooth(), sf.grids.log_snr(LinearBeta(), 8), normal(2, 1, *size, seed=7)
    figures = {}
    for overlap in (None, 0, 12):
        denoiser = inner if overlap is None else Windowed(inner, 24, overlap)
        x0 = sf.sample(denoiser, DDIM(), x1=x1, times=times, noise=sf.Noise(0))
        starts = _spans(size[1], 24, overlap or 12)
        figures[overlap] = seams(x0, starts, 24)
        if overlap == 0:
            figures["cut"] = seams(x0, _spans(size[1], 24, 0), 24)
    noise = 4 * (2 / (2 * size[0])) ** 0.5 + 0.25  # few columns are borders; neighbours are correlated
    assert figures[None] == pytest.approx(1.0, abs=noise)
    assert figures[12] < figures[None] + 0.25
    assert figures["cut"] > 2.0 * figures[None]


@pytest.mark.parametrize(("size", "overlap"), [(8, 8), (8, -1), ((8, 5), 5)])
def test_the_overlap_is_below_the_window(size: Any, overlap: int) -> None:
    with pytest.raises(ValueError, match=f"overlap must be at least 0 and below the window .*, got {overlap}"):
        Windowed(Pointwise(), size, overlap)


@pytest.mark.parametrize("flat", [True, False])
def test_an_anchor_is_cut_with_the_windows(flat: bool) -> None:
    """A process that the picture enters: samplers see the whole of it, each window its own part."""

    class Shrunk(Pointwise):
        def __init__(self) -> None:
            super().__init__()
            self.process = Anchored(LinearBeta(), read=entry("image"))

        def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
            process = self.process.bind(cond)
            return Estimate(torch.sin(xt - process.shift(t, xt)))

    y, inner = normal(2, 1, 13, 9), Shrunk()
    windowed = Windowed(inner, 6, 2, batch=2, aligned=("image",), flat=flat)
    assert windowed.process is inner.process
    x1, times = normal(2, 1, 13, 9), (1.0, 0.6, 0.3, 0.0)
    runs = [sample(D.given({"image": y}), DDIM(), x1=x1, times=times, noise=Noise(0)) for D in (windowed, inner)]
    close(runs[0], runs[1])
    close(windowed.given({"image": y}).process.anchor, y)
    other = windowed.given({"image": y}).with_process(LinearBeta(0.2, 9.0))
    assert other.process == other.inner.inner.process == LinearBeta(0.2, 9.0)
    plain = Windowed(Pointwise(), 6, 2)
    assert plain.bind({"image": y}) is plain


def test_flat_windows_are_a_plain_average() -> None:
    """Three windows of 4 on 8 numbers, each says its own mean: numbers covered twice get the mean of two."""
    x = normal(1, 8)
    got = Windowed(Average(), (4,), 2, flat=True)(x.reshape(1, 1, 8), 0.5).mean.flatten()
    means = [float(x[0, i : i + 4].mean()) for i in (0, 2, 4)]
    want = [means[0]] * 2 + [(means[0] + means[1]) / 2] * 2 + [(means[1] + means[2]) / 2] * 2 + [means[2]] * 2
    close(got, torch.tensor(want, dtype=torch.float64))
