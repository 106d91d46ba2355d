"""Crops of pictures that belong together: at one place, the same for a seed, with the damage of the whole picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data import damages, paired
from sfumato.data.images import write_image
from sfumato.noise import Noise, Seeds


def ramps(count: int = 3, side: int = 40) -> list[np.ndarray]:
    """Pictures whose levels tell the place: red the row, green the column, blue the number."""
    rows, columns = np.mgrid[:side, :side]
    return [np.stack([rows * 4, columns * 4, np.full_like(rows, 50 * n)], -1).astype(np.uint8) for n in range(count)]


class Marked(damages.Damage):
    """y = 1 - x, and a mask that is x's red: both tell the place too."""

    turns = True

    def apply(self, x: torch.Tensor, noise: Noise) -> dict[str, torch.Tensor]:
        return {"image": 1.0 - x, "mask": x[:1]}


class Upright(Marked):
    turns = False


def test_all_parts_are_cut_at_one_place_and_turned_alike() -> None:
    source = paired.damaged(ramps(), Marked(), 8, seed=1)
    x0, cond = source.batch([0, 1, 2, 1], Seeds.keyed(0, range(4)))
    assert x0.shape == cond["image"].shape == (4, 3, 8, 8)
    assert torch.allclose(cond["image"], -x0, atol=1e-6)
    assert torch.allclose(cond["mask"], x0[:, :1])
    assert sorted(set(((x0[:, 2] + 1) * 127.5).round().flatten().tolist())) == [0.0, 50.0, 100.0]
    again, _ = paired.damaged(ramps(), Marked(), 8, seed=1).batch([1], Seeds.keyed(0, [3]))
    assert torch.equal(again[0], x0[3])


def test_turns_and_mirrors_happen_where_they_may() -> None:
    """Rows grow downwards in a picture that keeps upright; turned, they grow in all four directions."""

    def directions(damage: damages.Damage, flip: bool) -> set[tuple[float, float]]:
        x0, _ = paired.damaged(ramps(), damage, 8, flip=flip).batch([0] * 64, Seeds.keyed(0, range(64)))
        red = x0[:, 0]
        return {
            (float((a[1, 0] - a[0, 0]).sign()), float((a[0, 1] - a[0, 0]).sign())) for a in red
        }  # down, to the right

    assert directions(Upright(), False) == directions(Upright(), True) == {(1.0, 0.0)}
    assert directions(Marked(), False) == {(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)}
    x0, _ = paired.damaged(ramps(), Upright(), 8).batch([0] * 64, Seeds.keyed(0, range(64)))
    assert {float(s) for s in (x0[:, 1, 0, 1] - x0[:, 1, 0, 0]).sign()} == {1.0, -1.0}


def test_the_damage_is_that_of_the_whole_picture() -> None:
    """A crop of the damaged picture, not a damaged crop; and a variant is the same wherever it is asked for."""
    pictures, damage = ramps(1, 48), damages.Haze()
    source = paired.damaged(pictures, damage, 48, seed=7, variants=2, flip=False)
    x = torch.from_numpy(pictures[0]).permute(2, 0, 1) / 255
    want = [damage(x, Noise(7).at((0, variant)))["image"] * 2 - 1 for variant in range(2)]
    seen = set()
    for seed in range(12):
        y = source.batch([0], Seeds([seed]))[1]["image"][0]
        match = [k for k in range(2) if torch.allclose(y, want[k], atol=1e-5)]
        assert len(match) == 1
        seen.update(match)
    assert seen == {0, 1}
    y = paired.damaged(pictures, damage, 16, seed=7, variants=1, flip=False).batch([0], Seeds([3]))[1]["image"][0]
    windows = want[0].unfold(1, 16, 1).unfold(2, 16, 1)
    assert bool((windows - y[:, None, None]).abs().amax((0, 3, 4)).min() < 1e-5)


def test_flat_crops_are_drawn_again() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 48:] = np.random.default_rng(0).integers(0, 255, (64, 16, 3))
    counts = []
    for flat in (0.0, 0.05):
        x0, _ = paired.damaged([half], Upright(), 16, flat=flat).batch([0] * 64, Seeds.keyed(0, range(64)))
        counts.append(int((x0.flatten(1).std(1) > 0.1).sum()))
    assert counts[1] > 1.5 * counts[0]


def test_a_cache_that_holds_nothing_changes_nothing() -> None:
    kept, none = (paired.damaged(ramps(), damages.Snow(), 16, cache=size) for size in (2**29, 0))
    for seed in range(3):
        a, b = (source.batch([seed], Seeds([seed])) for source in (kept, none))
        assert torch.equal(a[0], b[0]) and torch.equal(a[1]["image"], b[1]["image"])


def test_files_damaged_and_as_they_are_found(tmp_path: Path) -> None:
    clean, worn = tmp_path / "clean", tmp_path / "worn"
    for n, x in enumerate(ramps(2)):
        for folder, value in ((clean, x), (worn, 255 - x)):
            (folder / "a").mkdir(parents=True, exist_ok=True)
            suffix = "png" if folder == clean else "bmp"
            write_image(folder / "a" / f"{n}.{suffix}", torch.from_numpy(value).permute(2, 0, 1) / 255)
    source = paired.of_folders(clean, worn, 8)
    assert len(source) == 2 and source.event == (3, 8, 8)
    x0, cond = source.batch([0, 1], Seeds([0, 1]))
    assert torch.allclose(cond["image"], -x0, atol=1e-6)
    grey = paired.of_folders(clean, worn, 8, 1).batch([0], Seeds([0]))
    assert grey[0].shape == (1, 1, 8, 8) and torch.allclose(grey[1]["image"], -grey[0], atol=0.009)
    read = paired.damaged(sorted(clean.rglob("*.png")), Upright(), 8)
    assert torch.allclose(read.batch([1], Seeds([0]))[1]["image"], -read.batch([1], Seeds([0]))[0])
    (worn / "a" / "1.bmp").unlink()
    with pytest.raises(FileNotFoundError, match="has no a/1"):
        paired.of_folders(clean, worn, 8)
    with pytest.raises(ValueError, match="holds no pictures"):
        paired.of_folders(_empty(tmp_path), worn)


def _empty(tmp_path: Path) -> Path:
    (tmp_path / "none").mkdir(exist_ok=True)
    return tmp_path / "none"


def test_a_set_s_train_pairs(tmp_path: Path) -> None:
    for n, x in enumerate(ramps(2)):
        for folder, value in (("low", 255 - x), ("high", x)):
            path = tmp_path / "our485" / folder
            path.mkdir(parents=True, exist_ok=True)
            write_image(path / f"{n}.png", torch.from_numpy(value).permute(2, 0, 1) / 255)
    x0, cond = paired.of_set("lol", tmp_path, 8).batch([0, 1], Seeds([0, 1]))
    assert torch.allclose(cond["image"], -x0, atol=1e-6)


def test_pictures_too_small_for_the_crops_are_refused(tmp_path: Path) -> None:
    assert len(paired.damaged([*ramps(2), ramps(1, 12)[0]], Upright(), 16)) == 2
    write_image(tmp_path / "x.png", torch.zeros(3, 8, 8))
    for source in (
        paired.damaged([tmp_path / "x.png"], Upright(), 16),
        paired.of_folders(tmp_path, tmp_path, 16),
        paired.PairCrops(1, lambda i, k: {"x0": torch.zeros(3, 8, 8).byte(), "image": torch.zeros(3, 8, 9).byte()}, 8),
    ):
        with pytest.raises(ValueError, match=r"smaller than the crops, 16 x 16|of one size, at least 8"):
            source.batch([0], Seeds([0]))
