"""Inception-v3 as ported from TensorFlow for FID: 2048 features of pictures of 299 x 299.

The state dict is that of the published port (pt_inception-2015-12-05). It differs from the Inception of other
libraries in four places, all of which move FID: pictures are enlarged as TensorFlow 1 did it, numbers are
(x - 128) / 128, means at the border are of what is there, and the last block takes a maximum where others take a mean.

Source: Szegedy et al. 2016 (1512.00567) section 6; Heusel et al. 2017 (1706.08500), public code.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
Line = list[tuple[str, int, tuple[int, int]]]  # convolutions in turn: name, channels out, kernel

# The blocks: what pools the input of the last branch, stride of the branches' last layer, and the branches. A name with
# a and b at its end forks: both see what comes before them.
STEM: Line = [
    ("Conv2d_1a_3x3", 32, (3, 3)),
    ("Conv2d_2a_3x3", 32, (3, 3)),
    ("Conv2d_2b_3x3", 64, (3, 3)),
    ("Conv2d_3b_1x1", 80, (1, 1)),
    ("Conv2d_4a_3x3", 192, (3, 3)),
]


def _double(first: int) -> Line:
    names = [f"branch3x3dbl_{i}" for i in (1, 2, 3)]
    return [(names[0], first, (1, 1)), (names[1], 96, (3, 3)), (names[2], 96, (3, 3))]


def _a(pooled: int) -> list[Line]:
    return [
        [("branch1x1", 64, (1, 1))],
        [("branch5x5_1", 48, (1, 1)), ("branch5x5_2", 64, (5, 5))],
        _double(64),
        [("branch_pool", pooled, (1, 1))],
    ]


def _c(width: int) -> list[Line]:
    def seven(name: str, kernels: list[tuple[int, int]]) -> Line:
        outs = [width] * (len(kernels) - 1) + [192]
        return [(f"{name}_{i}", out, k) for i, (out, k) in enumerate(zip(outs, kernels, strict=True), 1)]

    across, down = (1, 7), (7, 1)
    return [
        [("branch1x1", 192, (1, 1))],
        seven("branch7x7", [(1, 1), across, down]),
        seven("branch7x7dbl", [(1, 1), down, across, down, across]),
        [("branch_pool", 192, (1, 1))],
    ]


B = [[("branch3x3", 384, (3, 3))], _double(64)]
D = [
    [("branch3x3_1", 192, (1, 1)), ("branch3x3_2", 320, (3, 3))],
    [(f"branch7x7x3_{i}", 192, k) for i, k in enumerate([(1, 1), (1, 7), (7, 1), (3, 3)], 1)],
]
E = [
    [("branch1x1", 320, (1, 1))],
    [("branch3x3_1", 384, (1, 1)), ("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))],
    [
        ("branch3x3dbl_1", 448, (1, 1)),
        ("branch3x3dbl_2", 384, (3, 3)),
        ("branch3x3dbl_3a", 384, (1, 3)),
        ("branch3x3dbl_3b", 384, (3, 1)),
    ],
    [("branch_pool", 192, (1, 1))],
]
BLOCKS: tuple[tuple[str, str, list[Line]], ...] = (
    ("Mixed_5b", "mean", _a(32)),
    ("Mixed_5c", "mean", _a(64)),
    ("Mixed_5d", "mean", _a(64)),
    ("Mixed_6a", "halve", B),
    ("Mixed_6b", "mean", _c(128)),
    ("Mixed_6c", "mean", _c(160)),
    ("Mixed_6d", "mean", _c(160)),
    ("Mixed_6e", "mean", _c(192)),
    ("Mixed_7a", "halve", D),
    ("Mixed_7b", "mean", E),
    ("Mixed_7c", "max", E),
)


class Inception(nn.Module):
    """2048 features, (B, 2048), of pictures (B, 3, H, W) or (B, 1, H, W) in [0, 1], which are rounded to 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        width = 3
        for i, (name, out, kernel) in enumerate(STEM):
            self.add_module(name, _Conv(width, out, kernel, 1 if i else 2, (i == 2) * 1))
            width = out
        for name, pool, branches in BLOCKS:
            block = _Mixed(width, pool, branches)
            self.add_module(name, block)
            width = block.width

    @classmethod
    def load(cls, state: Mapping[str, Tensor]) -> Inception:
        """With the weights of a file; its classifier (`fc`) is passed over.

        Raises:
            ValueError: if the file holds another network.
        """
        net = cls()
        own = net.state_dict()
        counts = {k for k in own if k.endswith("num_batches_tracked")}  # which old files lack, and nothing uses
        wrong = [k for k, v in own.items() if k not in counts and (k not in state or state[k].shape != v.shape)]
        if wrong or ("fc.weight" in state and len(state["fc.weight"]) != 1008):
            what = ", ".join(wrong[:3]) or "fc.weight"
            raise ValueError(
                "these are no weights of the Inception of FID (pt_inception-2015-12-05, 1008 classes): "
                f"{what} missing or of another shape."
            )
        net.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)
        return net.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        levels = (x.expand(-1, 3, -1, -1).clamp(0.0, 1.0) * 255.0).round()
        x = (tensorflow_bilinear(levels, SIDE) - 128.0) / 128.0
        for i, (name, _, _) in enumerate(STEM):
            x = self.get_submodule(name)(x)
            if i in (2, 4):
                x = F.max_pool2d(x, 3, 2)
        for name, _, _ in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


def tensorflow_bilinear(x: Tensor, side: int) -> Tensor:
    """x (B, C, H, W) brought to side x side as TensorFlow 1 does: output i lies at i n / side, and nothing is averaged.

    Pixels count from their corners there, not from their middles, so the picture moves by up to half a pixel.
    """
    for axis in (2, 3):
        n = x.shape[axis]
        place = torch.arange(side, dtype=x.dtype, device=x.device) * torch.tensor(n / side, dtype=torch.float32)
        low = place.long()
        high = (low + 1).clamp(max=n - 1)
        part = (place - low).reshape(-1, *[1] * (3 - axis))
        below, above = x.index_select(axis, low), x.index_select(axis, high)
        x = below + (above - below) * part
    return x


class _Conv(nn.Module):
    def __init__(self, width: int, out: int, kernel: tuple[int, int], stride: int, padding: int | tuple) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches side by side. pool: "mean" and "max" before the last branch, "halve": all branches end with stride 2."""

    def __init__(self, width: int, pool: str, branches: list[Line]) -> None:
        super().__init__()
        self.pool, self.branches, self.width = pool, branches, width if pool == "halve" else 0
        for line in branches:
            now = width
            for i, (name, out, (h, w)) in enumerate(line):
                last = pool == "halve" and i == len(line) - 1
                self.add_module(name, _Conv(now, out, (h, w), 2 if last else 1, 0 if last else (h // 2, w // 2)))
                now = now if name.endswith("a") else out
                self.width += out if name.endswith("a") else 0
            self.width += now

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for line in self.branches:
            y = self._pooled(x) if line[0][0] == "branch_pool" else x
            for name, _, _ in line:
                z = self.get_submodule(name)(y)
                if name.endswith("a"):
                    parts.append(z)
                else:
                    y = z
            parts.append(y)
        return torch.cat([*parts, F.max_pool2d(x, 3, 2)] if self.pool == "halve" else parts, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "max":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
