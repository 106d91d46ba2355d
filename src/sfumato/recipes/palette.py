"""Palette: image-to-image diffusion models (Saharia et al. 2022, 2111.05826)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.denoisers import Clipped, Denoiser, Preconditioned
from sfumato.denoisers.kept import Kept
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.recipes.sr3 import Recipe as Plain
from sfumato.recipes.sr3_unet import of_signal
from sfumato.training import Denoising, Uniform, eps_weight
from sfumato.training.told import told

EXAMPLE = """\
sfumato train FOLDER --recipe palette --damage hole --size 64 -o run
sfumato enhance damaged.png --mask holes.png --model run --samples 4 -o out
sfumato train FOLDER --recipe palette --damage grey --size 64 -o colors"""


@dataclass(frozen=True)
class Recipe(Plain):
    """SR3 as one model for any task that has pictures on both sides: colour, holes, uncropping, JPEG files.

    The loss, the table and the network's clock are those of SR3; y lies beside x_t at full size. With a mask (1, white:
    a hole) the holes of y are filled with N(0, I), the known pixels of x_t are those of y, and the loss is taken in
    the holes alone, as a share of the whole picture; a draw has the known pixels of y exactly. The square error is the
    paper's choice over the absolute one: as true, and more diverse. The damages `grey`, `hole`, `uncrop` and `jpeg`
    make the paper's four tasks.

    Levels are drawn at from a table of their own, 1000 with betas 1e-4 .. 9e-2, down from the last level of training:
    the noisier 532 lie where gamma is below any that the network has seen (4.4e-5), and one call at the floor stands
    for them all (ours). D is held to [-1, 1].

    Args:
        test_first, test_last, test_levels: of the linear betas that are drawn along.

    Source: Saharia et al. 2022 (2111.05826) eq. 1, section 3 and 4; N, betas and what x_t holds at known pixels of the
    public re-implementation.
    """

    calls: int = 1000  # of the network at most: every level within the trained ones
    test_first: float = 1e-4
    test_last: float = 9e-2
    test_levels: int = 1000

    def model(self) -> Denoiser:
        """The untrained denoiser."""
        return Kept(Preconditioned(self.net(), self.process(), of_signal))

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps, in the holes where there are any."""
        return told(Denoising(denoiser, Uniform(0.5 / self.levels, 1.0), eps_weight), filled)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """y with its holes filled with noise."""
        return filled(cond, noise)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """`steps` of the levels drawn along that training reaches, its own last one first, evenly spread, and 0: times
        of the training's table."""
        process = self.process()
        table = Table.linear(self.test_levels, self.test_first, self.test_last)
        found = [table.log_snr(n / self.test_levels) for n in range(self.test_levels, 0, -1)]
        inside = [1.0, *(process.time_of(each) for each in found if each > process.log_snr(1.0))]
        count = min(steps or self.calls, len(inside))
        return (*(inside[i * len(inside) // count] for i in range(count)), 0.0)


def filled(cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
    """The condition with N(0, I) in the holes of its image, where it has a mask."""
    if "mask" not in cond:
        return cond
    image = cond["image"]
    return {**cond, "image": torch.where(cond["mask"] > 0, noise.normal(image), image)}
