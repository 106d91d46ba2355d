"""How pictures are brought to what is scored: levels, the luma channel of BT.601, and the border that is left out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

STUDIO = (65.481, 128.553, 24.966)  # of 255, above the black level of 16


def luma(x: Tensor) -> Tensor:
    """Y of BT.601 in studio range, (B, 1, H, W): (16 + 65.481 R + 128.553 G + 24.966 B) / 255, from 16/255 to 235/255.

    It spans 219 of 255 levels, and the papers score it with the peak 255: an error of grey then gains
    20 log10(255 / 219) = 1.32 dB over the same error in RGB.

    Args:
        x: (B, 3, H, W), or (B, 1, H, W) for R = G = B; in [0, 1].

    Raises:
        ValueError: for another number of channels.

    Source: ITU-R BT.601-7 section 2.5.3; MATLAB's rgb2ycbcr, by which the benchmark tables are made, its result not
    rounded to 8 bits (as the Python scripts have it).
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"luma is of pictures (B, 1 or 3, H, W), got {tuple(x.shape)}.")
    weights = x.new_tensor(STUDIO).reshape(3, 1, 1)
    return ((weights * x.expand(-1, 3, -1, -1)).sum(1, keepdim=True) + 16.0) / 255.0


@dataclass(frozen=True)
class Protocol:
    """What is done to a picture before it is scored, in this order: rounding, the border, luma.

    Args:
        y: score `luma` alone, as papers on super-resolution, rain and snow do; else RGB.
        crop: pixels left out on each side; s for super-resolution by s (RCAN), 4 in the script of IR-SDE.
        levels: pictures are rounded to these and held to [0, 1] first, as what is saved is; 0: they are taken as they
            are.

    Raises:
        ValueError: for a border or levels below 0.

    Source: the scripts of the papers that `docs/evaluate.md` names.
    """

    y: bool = False
    crop: int = 0
    levels: int = 256

    def __post_init__(self) -> None:
        if self.crop < 0 or self.levels < 0 or self.levels == 1:
            raise ValueError(f"crop is at least 0, levels 0 or from 2 on, got {self.crop} and {self.levels}.")

    def __call__(self, x: Tensor) -> Tensor:
        """What is scored of pictures (B, C, H, W) in [0, 1].

        Raises:
            ValueError: if the border leaves nothing.
        """
        if min(x.shape[2:]) <= 2 * self.crop:
            raise ValueError(f"a border of {self.crop} leaves nothing of a picture of {x.shape[2]} x {x.shape[3]}.")
        if self.levels:
            x = (x.clamp(0.0, 1.0) * (self.levels - 1)).round() / (self.levels - 1)
        if self.crop:
            x = x[:, :, self.crop : -self.crop, self.crop : -self.crop]
        return luma(x) if self.y else x
