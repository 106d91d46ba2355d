"""Clean pictures with their damaged ones, as training data of restorers: items (x0, {"image": y, ...})."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.codecs import Affine
from sfumato.data.damages import Damage
from sfumato.data.images import LUMA, Cache, pictures, read_image
from sfumato.data.layouts import pairs
from sfumato.data.pairing import Pair
from sfumato.noise import Noise, Seeds

Parts = dict[str, Tensor]  # "x0", the clean picture, "image", the damaged one, and what else is known; (C, H, W), uint8


class PairCrops:
    """Crops at one place of pictures that belong together: items (x0, {"image": y, ...}), all in [-1, 1].

    Args:
        names: of the pictures: one item each.
        read: (number, variant) to the parts of a picture, all of one height and width, at least `size`.
        size: side of the square crops; their place is drawn.
        channels: of x0 and y.
        variants: how many versions `read` knows of a picture; one is drawn.
        flip: mirror every second item at random.
        flat: crops of x0 whose standard deviation, of values in [0, 1], is below this are drawn again, up to 4 times.
        cache: bytes of pictures kept in memory.
    """

    codec = Affine.unit()
    names: tuple[str, ...] = ()

    def __init__(
        self,
        count: int,
        read: Callable[[int, int], Parts],
        size: int = 64,
        channels: int = 3,
        *,
        variants: int = 1,
        flip: bool = True,
        flat: float = 0.0,
        cache: int = 2**29,
    ) -> None:
        self.count, self.read, self.size, self.variants = count, read, size, variants
        self.flip, self.flat, self.event = flip, flat, (channels, size, size)
        self._cache: list[Cache] = [Cache(cache // variants) for _ in range(variants)]
        self._kept: dict[tuple[int, int], list[tuple[str, int]]] = {}

    def __len__(self) -> int:
        return self.count

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, cond) of these items: crops (B, C, size, size)."""
        crops = [self._crop(item, stream) for item, stream in zip(items, noise.streams, strict=True)]
        whole = {key: torch.stack([crop[key] for crop in crops]).float().div_(127.5).sub_(1.0) for key in crops[0]}
        return whole.pop("x0"), whole

    def _crop(self, item: int, noise: Noise) -> Parts:
        u = noise.uniform(torch.empty(2, dtype=torch.float64))
        parts = self._parts(item, int(u[0] * self.variants))
        room = torch.tensor(parts["x0"].shape[1:]) - self.size + 1
        for _ in range(4):
            top, left = (noise.uniform(torch.empty(2)) * room).long().tolist()
            crop = {key: x[:, top : top + self.size, left : left + self.size] for key, x in parts.items()}
            if not self.flat or float(crop["x0"].float().std()) / 255 >= self.flat:
                break
        return {key: x.flip(2) for key, x in crop.items()} if self.flip and u[1] < 0.5 else crop

    def _parts(self, item: int, variant: int) -> Parts:
        """The parts, kept as one tensor with the channels after one another."""
        cache, at = self._cache[variant], (item, variant)
        if (kept := cache.get(item)) is None:
            parts = self.read(item, variant)
            short = min(min(x.shape[1:]) for x in parts.values())
            if short < self.size or len({x.shape[1:] for x in parts.values()}) != 1:
                sizes = ", ".join(f"{key} {x.shape[2]} x {x.shape[1]}" for key, x in parts.items())
                raise ValueError(
                    f"parts of a picture are of one size, at least {self.size} x {self.size}, got {sizes}."
                )
            self._kept[at] = [(key, len(x)) for key, x in parts.items()]
            kept = cache.put(item, torch.cat(list(parts.values())))
        names, counts = zip(*self._kept[at], strict=True)
        return dict(zip(names, kept.split(counts), strict=True))


def damaged(
    found: Sequence[Any],
    damage: Damage,
    size: int = 64,
    channels: int = 3,
    *,
    seed: int = 0,
    variants: int = 8,
    **options: Any,
) -> PairCrops:
    """Pairs made of clean pictures, each damaged whole, in `variants` ways that are a function of (seed, number) alone.

    Args:
        found: files, or uint8 arrays (H, W, C). One that is smaller than the crops is left out.
        damage: what is done to them. Where it may, variant k is first turned by k quarters.
        options: of `PairCrops`.
    """
    kept = [p for p in found if isinstance(p, str | Path) or min(p.shape[:2]) >= size]

    def read(item: int, variant: int) -> Parts:
        x = _clean(kept[item], channels, size)
        if damage.turns:
            x = x.rot90(variant % 4, (1, 2))
        parts = damage(x, Noise(seed).at((item, variant)))
        return {key: _levels(each) for key, each in {"x0": x, **parts}.items()}

    return PairCrops(len(kept), read, size, channels, variants=variants, **options)


def of_set(name: str, root: str | Path, size: int = 64, channels: int = 3, **options: Any) -> PairCrops:
    """The train pairs of a benchmark set (`data.layouts`)."""
    found = pairs(name, root, "train")
    return _files([(pair.target, pair.read) for pair in found], size, channels, **options)


def of_folders(clean: str | Path, degraded: str | Path, size: int = 64, channels: int = 3, **options: Any) -> PairCrops:
    """Files of two folders that have the same names (suffixes apart).

    Raises:
        FileNotFoundError: if a folder is not there, or a clean picture has no partner, which is named.
        ValueError: if there are no pictures.
    """
    here, there = (
        {file.relative_to(folder).with_suffix(""): file for file in pictures(Path(folder))}
        for folder in (clean, degraded)
    )
    if not here:
        raise ValueError(f"{clean} holds no pictures.")
    if missing := [str(name) for name in here if name not in there]:
        raise FileNotFoundError(
            f"{degraded} has no {', '.join(missing[:3])}: every clean picture needs its damaged one."
        )
    found = [Pair(str(name), there[name], path) for name, path in sorted(here.items())]
    return _files([(pair.target, pair.read) for pair in found], size, channels, **options)


def _files(
    found: Sequence[tuple[Path, Callable[[], tuple[Tensor, Tensor]]]], size: int, channels: int, **options: Any
) -> PairCrops:
    def read(item: int, variant: int) -> Parts:
        y, x = found[item][1]()
        if min(x.shape[1:]) < size:
            raise ValueError(f"{found[item][0]} is smaller than the crops, {size} x {size}: take a smaller --size.")
        return {key: _levels(_as(each, channels)) for key, each in (("x0", x), ("image", y))}

    return PairCrops(len(found), read, size, channels, **options)


def _clean(picture: Any, channels: int, size: int) -> Tensor:
    if isinstance(picture, str | Path):
        x = read_image(picture, channels=channels)
        if min(x.shape[1:]) < size:
            raise ValueError(f"{picture} is smaller than the crops, {size} x {size}: take a smaller --size.")
        return x
    return _as(torch.from_numpy(picture).permute(2, 0, 1).float() / 255, channels)


def _as(x: Tensor, channels: int) -> Tensor:
    """x with 1 or 3 channels: its luma, or itself repeated."""
    if len(x) == channels:
        return x
    if channels == 3:
        return x.expand(3, -1, -1)
    return (x * torch.tensor(LUMA).reshape(3, 1, 1)).sum(0, keepdim=True)


def _levels(x: Tensor) -> Tensor:
    return (x.clamp(0.0, 1.0) * 255).round().to(torch.uint8)
