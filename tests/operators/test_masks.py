"""Masks: what each of them hides."""

import numpy as np
import pytest
import torch

from sfumato.noise import Noise
from sfumato.operators import Mask, drawing


def test_a_mask_keeps_the_size_and_serves_every_channel():
    x = torch.arange(12.0).reshape(1, 2, 2, 3)
    y = Mask(torch.tensor([[True, False, True], [False, False, True]]))(x)
    assert y.tolist() == [[[[0, 0, 2], [0, 0, 5]], [[6, 0, 8], [0, 0, 11]]]]


def test_a_mask_holds_zeros_and_ones():
    with pytest.raises(ValueError, match="1 \\(seen\\) and 0"):
        Mask(torch.tensor([0.0, 0.5]))
    with pytest.raises(ValueError, match="1 \\(seen\\) and 0"):
        Mask(torch.tensor([0.0, float("nan")]))


def test_seen_has_the_precision_of_y():
    seen = Mask(torch.tensor([1, 0, 1])).seen(torch.zeros(2, 3, dtype=torch.float64))
    assert seen.dtype == torch.float64 and seen.tolist() == [1, 0, 1]


def test_random_keeps_the_stated_share():
    mask = Mask.random((200, 200), 0.3, Noise(0)).mask
    assert float(mask.mean()) == pytest.approx(0.3, abs=4 * (0.21 / 40000) ** 0.5)
    assert (
        float(Mask.random((9,), 1.0, Noise(0)).mask.min()) == 1
        and float(Mask.random((9,), 0.0, Noise(0)).mask.max()) == 0
    )


def box_of(mask):
    rows, columns = (mask == 0).any(1).nonzero().flatten(), (mask == 0).any(0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def test_box_is_anywhere_inside_the_margin():
    tops, lefts = set(), set()
    for seed in range(120):
        mask = Mask.box((14, 17), Noise(seed), size=5, margin=3).mask
        top, left, height, width = box_of(mask)
        assert (height, width) == (5, 5) and int((mask == 0).sum()) == 25
        tops.add(top)
        lefts.add(left)
    assert tops == set(range(3, 7)) and lefts == set(range(3, 10))
    top, left, height, width = box_of(Mask.box((256, 256), Noise(0)).mask)
    assert (height, width) == (128, 128) and min(top, left) >= 16 and max(top, left) <= 112


def test_a_box_that_fits_in_one_place_only():
    assert box_of(Mask.box((11, 11), Noise(0), size=5, margin=3).mask) == (3, 3, 5, 5)
    with pytest.raises(ValueError, match="does not fit"):
        Mask.box((11, 10), Noise(0), size=5, margin=3)


def test_half():
    assert Mask.half((2, 5)).mask.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert Mask.half((2, 5), "left").mask.tolist() == [[0, 0, 1, 1, 1]] * 2
    assert Mask.half((4, 2), "top").mask.tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert Mask.half((5, 1), "bottom").mask.flatten().tolist() == [1, 1, 1, 0, 0]
    assert int((Mask.half((256, 256)).mask == 0).sum(1)[0]) == 128
    assert Mask.half((8,)).mask.tolist() == [1, 1, 1, 1, 0, 0, 0, 0]  # the end of a signal
    with pytest.raises(ValueError, match="'middle'"):
        Mask.half((2, 2), "middle")


def test_lines_and_lattice():
    assert Mask.lines((5, 2)).mask.tolist() == [[1, 1], [0, 0], [1, 1], [0, 0], [1, 1]]
    assert Mask.lines((5, 1), period=3).mask.flatten().tolist() == [1, 0, 0, 1, 0]
    assert Mask.lattice((3, 4)).mask.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    assert float(Mask.lattice((9, 9), factor=3).mask.sum()) == 9


def test_expand():
    assert Mask.expand((4, 6), keep=2).mask.tolist() == [[0] * 6, [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0] * 6]
    mask = Mask.expand((256, 256)).mask
    assert float(mask.sum()) == 64**2 and float(mask[96:160, 96:160].min()) == 1
    assert float(Mask.expand((4, 4), keep=4).mask.min()) == 1
    for keep in (0, 5):
        with pytest.raises(ValueError, match=f"got {keep}"):
            Mask.expand((4, 6), keep=keep)


@pytest.mark.parametrize("missing, width", [((0.2, 0.3), 0.05), ((0.4, 0.5), 0.15)])
def test_strokes_cover_the_stated_share(missing, width):
    masks = [Mask.strokes((64, 48), Noise(seed), missing=missing, width=width).mask for seed in range(12)]
    for mask in masks:
        assert missing[0] <= float((mask == 0).double().mean()) <= missing[1]
    assert torch.equal(masks[0], Mask.strokes((64, 48), Noise(0), missing=missing, width=width).mask)
    assert not torch.equal(masks[0], masks[1])
    # anywhere: together they cover nearly all, and no side more than twice as much as the other
    hidden = 1 - torch.stack(masks).mean(0)
    assert float((hidden > 0).double().mean()) > 0.8
    for a, b in ((hidden[:32], hidden[32:]), (hidden[:, :24], hidden[:, 24:])):
        assert 0.4 < float(a.mean() / b.mean()) < 2.5


def test_strokes_are_long_and_round():
    from scipy import ndimage

    mask = Mask.strokes((96, 96), Noise(1), missing=(0.1, 0.15), width=0.08).mask
    labels, count = ndimage.label(mask.numpy() == 0)
    disc = np.pi * (0.04 * 96) ** 2
    assert count <= 6 and np.bincount(labels.ravel())[1:].max() > 4 * disc
    # a brush of radius 3.8 leaves nothing thinner than itself: opening by a disc changes nothing inside
    y, x = np.mgrid[-3:4, -3:4]
    opened = ndimage.binary_opening(np.pad(mask.numpy() == 0, 8, mode="edge"), y**2 + x**2 <= 9)[8:-8, 8:-8]
    assert (opened != (mask.numpy() == 0)).mean() < 0.01


@pytest.mark.parametrize(
    "missing, width", [((0.0, 0.2), 0.1), ((0.3, 0.3), 0.1), ((0.5, 1.1), 0.1), ((0.2, 0.3), 0.0), ((0.01, 0.02), 1.5)]
)
def test_stroke_errors(missing, width):
    with pytest.raises(ValueError, match="bounds"):
        Mask.strokes((32, 32), Noise(0), missing=missing, width=width)


def test_text_writes_seven_segment_figures():
    covered = drawing.text((12, 1400), Noise(0), 11)
    # pen 1, cells of 5 columns every 7; bars at rows 0, 5, 10: compare with figures drawn by hand
    top, middle, right = [1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [0, 0, 0, 0, 1]
    eight = [top] + [middle] * 4 + [top] + [middle] * 4 + [top]
    seven = [top] + [right] * 10
    two = [top] + [right] * 4 + [top] + [[1, 0, 0, 0, 0]] * 4 + [top]
    cells = [covered[:11, 7 * i : 7 * i + 5].int().tolist() for i in range(200)]
    assert eight in cells and seven in cells and two in cells and [[0] * 5] * 11 in cells
    assert len({str(c) for c in cells}) == 11
    assert not bool(covered[11].any()) and not bool(covered[:, 5].any())


def test_text_lines():
    mask = Mask.text((100, 100), Noise(0)).mask
    rows = (mask == 0).any(1)
    starts = [i for i in range(100) if rows[i] and (i == 0 or not rows[i - 1])]
    assert starts == [0, 21, 42, 63, 84]  # 14 pixels high, every 21
    assert bool(rows[84:98].all()) and not bool(rows[98:].any())
    assert 0.05 < float((mask == 0).double().mean()) < 0.5
    for height in (6, 101):
        with pytest.raises(ValueError, match=f"got {height}"):
            Mask.text((100, 120), Noise(0), height=height)


def test_gaps():
    seen_starts = set()
    for seed in range(60):
        mask = Mask.gaps(10, Noise(seed), width=3, count=2).mask
        edges = np.flatnonzero(np.diff(np.concatenate([[1], mask.numpy(), [1]])))
        begins, ends = edges[::2], edges[1::2]
        assert len(begins) == 2 and (ends - begins == 3).all()
        seen_starts |= set(begins.tolist())
    assert seen_starts == set(range(8))  # every place that leaves room for the other gap and a sample between
    assert Mask.gaps(7, Noise(0), width=3, count=2).mask.tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert Mask.gaps(3, Noise(0), width=3).mask.tolist() == [0, 0, 0]


@pytest.mark.parametrize("length, width, count", [(6, 3, 2), (5, 0, 1), (5, 1, 0)])
def test_gap_errors(length, width, count):
    with pytest.raises(ValueError, match="do not fit"):
        Mask.gaps(length, Noise(0), width=width, count=count)


def test_the_brush_is_a_disc():
    """Bounds that the first point of a stroke meets: one disc of the stated width, clear of the borders."""
    for seed in range(30):
        hidden = Mask.strokes((96, 64), Noise(seed), missing=(0.02, 0.2), width=0.4).mask == 0
        if not bool(hidden[[0, -1]].any() or hidden[:, [0, -1]].any()):
            y, x = hidden.nonzero().double().T
            assert float(hidden.sum()) == pytest.approx(np.pi * 12.8**2, rel=0.03)
            assert [float(y.var()), float(x.var())] == pytest.approx([12.8**2 / 4] * 2, rel=0.05)
            break
    else:
        pytest.fail("no disc lies inside")
