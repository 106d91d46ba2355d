"""The convolutions of AlexNet and VGG-16 as published for ImageNet: features of five layers, for perceptual distances.

The layers are numbered as in the published state dicts: "features.N.weight" and "features.N.bias".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Design:
    """A trunk: its convolutions (out, kernel, stride, padding), "pool", and "tap" where features are taken.

    A ReLU follows every convolution; pool is the kernel of max pooling with stride 2.
    """

    name: str
    layers: tuple[tuple[int, int, int, int] | str, ...]
    pool: int

    @property
    def first(self) -> tuple[int, int, int, int]:
        """Shape of the first convolution's weight, by which files are told apart."""
        layer = self.layers[0]
        assert isinstance(layer, tuple)  # a trunk begins with a convolution
        return (layer[0], 3, layer[1], layer[1])

    def load(self, state: Mapping[str, Tensor]) -> Trunk:
        """The trunk with the weights of a state dict; keys of other parts are passed over.

        Raises:
            ValueError: if one is missing or of another shape.
        """
        trunk = Trunk(self)
        own = trunk.state_dict()
        if wrong := [k for k, v in own.items() if k not in state or state[k].shape != v.shape]:
            raise ValueError(
                f"these are no weights of {self.name}: {', '.join(wrong[:4])} missing or of another shape."
            )
        trunk.load_state_dict({key: state[key] for key in own})
        return trunk


class Trunk(nn.Module):
    """Features of five layers, after their ReLU, of pictures (B, 3, H, W) as the network was trained on them."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.name, self.taps, self.widths = design.name, [], []
        parts: list[nn.Module] = []
        width = 3
        for layer in design.layers:
            if layer == "tap":
                self.taps.append(len(parts) - 1)
                self.widths.append(width)
            elif isinstance(layer, tuple):
                out, kernel, stride, padding = layer
                parts += [nn.Conv2d(width, out, kernel, stride, padding), nn.ReLU()]
                width = out
            else:
                parts.append(nn.MaxPool2d(design.pool, 2))
        self.features = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One tensor (B, C_l, H_l, W_l) for each layer.

        Raises:
            ValueError: if the pictures are too small for the last of them.
        """
        found = []
        for i, part in enumerate(self.features):
            if min(x.shape[2:]) < (part.kernel_size if isinstance(part, nn.MaxPool2d) else 1):  # type: ignore[operator]
                raise ValueError(f"pictures are too small for {self.name}: nothing is left at layer {i}.")
            x = part(x)
            if i in self.taps:
                found.append(x)
        return found


def _block(count: int, width: int) -> tuple[tuple[int, int, int, int] | str, ...]:
    return ((width, 3, 1, 1),) * count


TRUNKS = {
    "alex": Design(
        "alex",
        ((64, 11, 4, 2), "tap", "pool", (192, 5, 1, 2), "tap", "pool", (384, 3, 1, 1), "tap",
         (256, 3, 1, 1), "tap", (256, 3, 1, 1), "tap"),
        3,
    ),
    "vgg": Design(
        "vgg",
        (*_block(2, 64), "tap", "pool", *_block(2, 128), "tap", "pool", *_block(3, 256), "tap", "pool",
         *_block(3, 512), "tap", "pool", *_block(3, 512), "tap"),
        2,
    ),
}  # fmt: skip
