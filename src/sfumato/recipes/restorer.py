"""What recipes trained on pairs of clean and damaged pictures share: the network, and how one draws from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.nets import UNet
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table
from sfumato.samplers import Sampler


@dataclass(frozen=True)
class Restorer(ABC):
    """A U-Net that sees the damaged picture beside x_t: items are (x0, {"image": y}), y of the size of x0.

    A recipe of this kind is trained by `sfumato train FOLDER --recipe KEY --damage NAME` (or --damaged FOLDER, or on
    the pairs of a set), and `sfumato enhance PICTURE --model RUN` and `Model.enhance` draw from it. It has

        process(), model(), objective(denoiser)      as every trained recipe
        sampler(), times(steps)                      the published way to draw, `steps` calls

    and, where the method asks for it, `condition`, `sampler_given`, `state` and `picture`, which `Model.enhance` uses.
    Networks are the library's (ours), of the sizes that `sfumato train` chooses.
    """

    paired: ClassVar[bool] = True
    spatial: ClassVar[bool] = True  # the state is a picture, which may be cut into windows

    channels: int = 3
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    patch: int = 1  # space-to-depth factor at the entrance
    attention: tuple[int, ...] = ()  # levels with self-attention, 0 the finest
    dropout: float = 0.0
    calls: int = 100  # of the network when a picture is drawn

    @abstractmethod
    def process(self) -> Gaussian:
        """The forward process."""

    def net(self) -> nn.Module:
        """The untrained network."""
        return self.unet()

    def unet(self, beside: int = 1, leaving: int = 1, *, vector: int = 0, classes: int = 0) -> UNet:
        """A U-Net with `beside` pictures at its entrance beside x_t, told a vector and a class where there are any."""
        return UNet(
            self.channels,
            tuple(self.widths),
            self.blocks,
            patch=self.patch,
            attention=tuple(self.attention),
            dropout=self.dropout,
            classes=classes,
            vector=vector,
            image=self.channels * beside,
            out=self.channels * leaving,
        )

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """What is drawn with: the denoiser itself, unless a recipe holds its estimates to something."""
        return denoiser

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """The grid of sampling: levels of the table evenly spaced, or uniform times where there is no table."""
        count, process = steps or self.calls, self.process()
        inner = getattr(process, "inner", process)
        return grids.table(inner, count) if isinstance(inner, Table) else grids.uniform(count)

    # What a recipe may add to the way a model draws

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """What the network is told when pictures are drawn, from {"image": y, ...}: the same, unless a recipe fills,
        corrupts or improves it. `noise` is a stream of its own."""
        return cond

    def sampler_given(self, cond: dict[str, Tensor]) -> Sampler:
        """The published way to draw under this condition: `sampler`, unless it holds y itself."""
        return self.sampler()

    def state(self, cond: dict[str, Tensor]) -> Tensor:
        """A tensor of the shape of the state that is drawn, of which `picture` is the picture."""
        return cond["image"]

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The picture in a state that was drawn under this condition."""
        return x

    @abstractmethod
    def sampler(self) -> Sampler:
        """The published way to draw."""
