"""What `sfumato evaluate` runs in blocks: features of pictures, scores of pairs, bits of pictures.

A block comes to one file, and the figures are made of the files of all blocks: by one process, or by `sfumato merge`
of what shards wrote. Of a picture nothing is kept but that.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.evaluate import Settings
    from sfumato.data.picture_sets import Pictures

Block = Callable[[range], dict[str, bytes]]
BALLS = {"pr": ("precision", "recall"), "dc": ("density", "coverage")}
MOST = 2**32  # bytes of features


@dataclass(frozen=True)
class _Work:
    """The settings, and what is made of them."""

    wanted: Settings
    command = "evaluate"

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """The settings alone go to a worker, which looks and loads for itself."""
        return type(self), (self.wanted,)


@dataclass(frozen=True)
class Sets(_Work):
    """Features of the samples, then of the reference."""

    __hash__ = _Work.__hash__

    @cached_property
    def sets(self) -> tuple[Pictures, Pictures]:
        """Samples and reference."""
        return opened(self.wanted, "first"), opened(self.wanted, "second")

    def __len__(self) -> int:
        return sum(len(each.names) for each in self.sets)

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides the figures beside the settings."""
        from sfumato.data.picture_sets import digest

        a, b = self.sets
        return {"names": digest(a, b), "samples": len(a.names), "reference": len(b.names)}

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of all pictures, H and W 0 where they may differ.

        Raises:
            ValueError: if they differ and must not.
        """
        shapes = {(s, i): each.shape(i) for s, each in enumerate(self.sets) for i in range(len(each.names))}
        channels, sizes = max(c for c, _, _ in shapes.values()), {shape[1:] for shape in shapes.values()}
        free = self.wanted.size or self.wanted.features == "inception"
        if len(sizes) > 1 and not free:
            first = shapes[0, 0][1:]
            s, i = next(key for key, shape in shapes.items() if shape[1:] != first)
            raise ValueError(
                f"the pictures have {len(sizes)} sizes, such as {first[0]} x {first[1]} ({self.sets[0].names[0]}) and "
                f"{shapes[s, i][1]} x {shapes[s, i][2]} ({self.sets[s].names[i]}): bring them to one with --size."
            )
        size = (self.wanted.size,) * 2 if self.wanted.size else next(iter(sizes)) if len(sizes) == 1 else (0, 0)
        need = 4 * len(self) * channels * size[0] * size[1]
        if self.wanted.features == "pixels" and need > MOST:
            raise ValueError(
                f"pixels of {channels} x {size[0]} x {size[1]} are {need / 2**30:.0f} GiB for {len(self)} pictures: "
                "reduce them with --size, or take other features."
            )
        return channels, size[0], size[1]

    def check(self) -> None:
        """Looks at everything before the first picture is read."""
        _ = self.shape, self.features

    @cached_property
    def features(self) -> Any:
        """The function."""
        from sfumato.metrics.features import named

        weights = states(self.wanted.weights)
        if len(weights) > 1:
            raise ValueError(f"the features {self.wanted.features} take one file of weights, got {len(weights)}.")
        return named(self.wanted.features, weights[0] if weights else None, device=self.wanted.device)

    def __call__(self) -> Block:
        """The function from a block's numbers to its features, float32 (rows, d)."""
        import numpy as np
        import torch

        from sfumato.metrics.features import resized

        (a, b), (channels, *_), features, size = self.sets, self.shape, self.features, self.wanted.size

        def block(items: range) -> dict[str, bytes]:
            held: list[Tensor] = []
            for i in items:
                x = (a.read(i) if i < len(a.names) else b.read(i - len(a.names))).to(self.wanted.device)
                x = x.expand(channels, -1, -1).unsqueeze(0)
                held.append(resized(x, size) if size else x)
            same = len({x.shape for x in held}) == 1
            found = features(torch.cat(held)) if same else torch.cat([features(x) for x in held])
            file = io.BytesIO()
            np.save(file, found.cpu().numpy())
            return {f"features-{items.start:08d}.npy": file.getvalue()}

        return block


@dataclass(frozen=True)
class Pairs(_Work):
    """Scores of restored pictures, and of those of another method, against the truth."""

    __hash__ = _Work.__hash__

    @cached_property
    def sets(self) -> tuple[Pictures, Pictures, Pictures | None]:
        """Restored, truth, and restored by the other method."""
        other = opened(self.wanted, "against") if self.wanted.against else None
        return opened(self.wanted, "first"), opened(self.wanted, "second"), other

    @cached_property
    def pairs(self) -> list[tuple[int, int, int]]:
        """Places of the pictures of one name in the sets; 0 where there is no other method."""
        from sfumato.data.picture_sets import partners, unequal

        a, b, other = self.sets
        found = partners(a, b)
        unequal(a, b, found)
        if other is None:
            return [(i, j, 0) for i, j in found]
        second = partners(a, other)
        unequal(a, other, second)
        return [(i, j, k) for (i, j), (_, k) in zip(found, second, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides the figures beside the settings."""
        from sfumato.data.picture_sets import digest

        return {"names": digest(*(each for each in self.sets if each is not None))}

    def check(self) -> None:
        """Looks at everything before the first picture is read."""
        _ = self.pairs, self.scores

    @cached_property
    def scores(self) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
        """The metrics by name."""
        from sfumato import metrics

        weights = states(self.wanted.weights)
        known: dict[str, Any] = {
            name: getattr(metrics, name.replace("-", "_")) for name in ("psnr", "ssim", "ms-ssim", "gmsd")
        }
        found = {name: known[name] for name in self.wanted.metrics if name != "lpips"}
        if "lpips" in self.wanted.metrics:
            net = metrics.LPIPS.of(*weights).to(self.wanted.device)
            found[net.name] = net
        elif weights:
            raise ValueError("--weights are for lpips: name it with --metrics, or leave them out.")
        return found

    def __call__(self) -> Block:
        """The function from a block's numbers to its scores, JSON."""
        from sfumato.metrics import Protocol

        a, b, other = self.sets
        protocol, scores = Protocol(self.wanted.y, self.wanted.crop, self.wanted.levels), self.scores

        def score(x: Tensor, truth: Tensor) -> dict[str, float]:
            channels = max(len(x), len(truth))
            x, truth = (v.to(self.wanted.device).expand(channels, -1, -1)[None].double() for v in (x, truth))
            x, truth = protocol(x), protocol(truth)
            return {
                name: float(f(x.float(), truth.float()) if name.startswith("lpips") else f(x, truth))
                for name, f in scores.items()
            }

        def block(items: range) -> dict[str, bytes]:
            rows = {}
            for i, j, k in (self.pairs[item] for item in items):
                try:
                    truth = b.read(j)
                    own = {"first": score(a.read(i), truth)}
                    rows[a.names[i]] = own | ({"against": score(other.read(k), truth)} if other else {})
                except ValueError as error:
                    raise ValueError(f"{a.names[i]}: {error}") from None
            return {f"scores-{items.start:08d}.json": json.dumps(rows).encode()}

        return block


@dataclass(frozen=True)
class Bits(_Work):
    """Bits per dimension of pictures under a model."""

    __hash__ = _Work.__hash__

    @cached_property
    def data(self) -> Pictures:
        """The pictures."""
        return opened(self.wanted, "second")

    def __len__(self) -> int:
        count = len(self.data.names)
        return min(count, self.wanted.items) if self.wanted.items else count

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides the figures beside the settings."""
        from sfumato.data.picture_sets import digest

        return {"names": digest(self.data)}

    @cached_property
    def model(self) -> Any:
        """The model, which is of pictures."""
        from sfumato import zoo

        return zoo.load(self.wanted.first, device=self.wanted.device)

    def check(self) -> None:
        """Looks at everything before the first picture is read.

        Raises:
            ValueError: for pictures that are not of the model's shape, or a model whose bits are not known.
        """
        from sfumato.cli.bits import suits

        suits(self.model, self.wanted.metrics)
        event = self.model.event
        for i in range(len(self)):
            shape = self.data.shape(i)
            if len(event) != 3 or any(want not in (None, n) for want, n in zip(event, shape, strict=True)):
                raise ValueError(f"the model is for data of the shape {event}, {self.data.names[i]} is {shape}.")

    def __call__(self) -> Block:
        """The function from a block's numbers to their bits, JSON."""
        import torch

        from sfumato.cli.bits import bits
        from sfumato.noise import Seeds

        def block(items: range) -> dict[str, bytes]:
            x = torch.stack([self.data.read(i) for i in items]).to(self.wanted.device)
            labels = [self.data.label(i) for i in items]
            cond = torch.tensor(labels, device=x.device) if self.model.classes and None not in labels else None
            found = bits(self.model, x, cond, Seeds.keyed(self.wanted.seed, items), self.wanted)
            rows = {
                self.data.names[i]: {"first": {name: float(values[row]) for name, values in found.items()}}
                for row, i in enumerate(items)
            }
            return {f"scores-{items.start:08d}.json": json.dumps(rows).encode()}

        return block


def opened(wanted: Settings, side: str) -> Pictures:
    """The set that a setting names; of a benchmark set the clean side."""
    from sfumato.data import layouts
    from sfumato.data.picture_sets import Files, Truths, opened

    if side != "second" or not wanted.dataset:
        return opened(Path(getattr(wanted, side)))
    name, root = wanted.dataset, Path(wanted.second)
    if wanted.mode == "paired":
        return Truths(layouts.held(name, root, wanted.split))
    return Files({str(path): path for path in layouts.clean(name, root, wanted.split)})


def states(files: Iterable[str]) -> list[Mapping[str, Tensor]]:
    """The state dicts of files of weights."""
    from sfumato.zoo.formats.reading import read

    found = []
    for file in files:
        held = read(Path(file))
        if not isinstance(held, Mapping):
            raise ValueError(f"{file} holds no weights by name, but {type(held).__name__}.")
        found.append(held)
    return found


def of_sets(wanted: Settings, inputs: dict[str, Any], files: Iterable[bytes]) -> dict[str, Any]:
    """The figures of two sets of features, with their standard errors."""
    import numpy as np
    import torch

    from sfumato import metrics
    from sfumato.noise import Noise

    rows = torch.cat([torch.from_numpy(np.load(io.BytesIO(file))) for file in files])
    a, b = rows[: inputs["samples"]], rows[inputs["samples"] :]
    noise, found = Noise(wanted.seed), {}
    if "kd" in wanted.metrics:
        kd = metrics.kernel_distance(a, b, noise=noise.at("kernel"), size=wanted.subset)
        found["kd"] = {"value": kd.value, "error": kd.error, "blocks": kd.blocks}
    enough = wanted.groups > 1 and min(len(a), len(b)) >= 10 * wanted.groups
    groups = metrics.group_numbers(len(a), len(b), wanted.groups, noise.at("groups")) if enough else None
    if "fd" in wanted.metrics:
        error = math.nan
        if enough:
            distance = lambda x, y: torch.tensor([metrics.frechet(x, y)])  # noqa: E731
            error = float(metrics.jackknife(distance, a, b, noise.at("groups"), wanted.groups))
        found["fd"] = {"value": metrics.frechet(a, b), "error": error}
    if names := [name for key in ("pr", "dc") if key in wanted.metrics for name in BALLS[key]]:
        whole, left = metrics.balls(a, b, groups=groups)
        errors = metrics.left_out_error(left) if enough else torch.full((4,), math.nan)
        for name in names:
            place = (*BALLS["pr"], *BALLS["dc"]).index(name)
            found[name] = {"value": float(whole[place]), "error": float(errors[place])}
    if wanted.features == "inception":
        found = {{"fd": "FID", "kd": "KID"}.get(name, name): value for name, value in found.items()}
    return {"samples": len(a), "reference": len(b), "dimensions": rows.shape[1], "figures": found}


def of_items(wanted: Settings, files: Iterable[bytes]) -> dict[str, Any]:
    """Means over items with their intervals, of both methods and of their differences, and the items themselves."""
    import torch

    from sfumato import metrics
    from sfumato.noise import Noise

    rows: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        rows |= json.loads(file)
    columns = next(iter(rows.values()))
    found: dict[str, Any] = {}

    def interval(values: Tensor, name: str) -> dict[str, float]:
        got = metrics.bootstrap(values, Noise(wanted.seed).at(name), level=wanted.level)
        return {"value": got.mean, "low": got.low, "high": got.high}

    for name in columns["first"]:
        each = {side: torch.tensor([row[side][name] for row in rows.values()]).double() for side in columns}
        found[name] = interval(each["first"], name)
        if "against" in each:
            found[name]["against"] = interval(each["against"], name)
            found[name]["difference"] = interval(each["first"] - each["against"], name)
    return {"count": len(rows), "level": wanted.level, "figures": found, "items": rows}
