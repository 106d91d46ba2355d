"""A UNet2DModel of the library diffusers, with the schedule of its scheduler (extra `diffusers`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from sfumato.denoisers import Preconditioned, predict_eps, predict_v, predict_x0
from sfumato.nets import foreign
from sfumato.nets.unet import pad_to
from sfumato.processes import Table

EXAMPLE = "sfumato convert FOLDER -o model"

PREDICTS = {"epsilon": predict_eps, "sample": predict_x0, "v_prediction": predict_v}
TABLES = ("linear", "scaled_linear", "squaredcos_cap_v2")


class Borrowed(nn.Module):
    """`net(u, c_noise, cond)` of a network of diffusers, whose label is the condition.

    Sizes that its strides do not divide are padded by reflection, and what it says is cropped.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.stride = 2 ** (len(getattr(getattr(unet, "config", None), "block_out_channels", (1,))) - 1)

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        out: Tensor = self.unet(pad_to(u, self.stride), c_noise, class_labels=cond).sample
        return out[..., : u.shape[-2], : u.shape[-1]]


def borrowed(unet: nn.Module, scheduler: Any) -> Preconditioned:
    """A denoiser of what a pipeline of diffusers has in memory: `borrowed(pipe.unet, pipe.scheduler)`.

    The weights are shared; of the scheduler the noise levels and the kind of prediction are taken, copied.

    Args:
        unet: called as (u, index of the level, class_labels=label).
        scheduler: one with a table, `alphas_cumprod`.

    Raises:
        ValueError: for a scheduler without a table, or of another kind of prediction.
    """
    bars, kind = getattr(scheduler, "alphas_cumprod", None), getattr(scheduler.config, "prediction_type", "epsilon")
    if bars is None:
        raise ValueError(f"{type(scheduler).__name__} has no table of noise levels (`alphas_cumprod`).")
    if kind not in PREDICTS:
        raise ValueError(f"the network predicts one of {', '.join(PREDICTS)}, got {kind!r}.")
    table = Table(tuple(bars.double().tolist()))
    return _told(Borrowed(unet), table, kind)


def _told(net: nn.Module, table: Table, kind: str) -> Preconditioned:
    """A network on a table, told the index n - 1."""
    return Preconditioned(net, table, PREDICTS[kind], clock=lambda t: t * table.steps - 1.0)


@dataclass(frozen=True)
class Recipe:
    """What `sfumato convert` makes of a folder of diffusers with a UNet2DModel: the library's network on our table.

    The network says eps, x_0 or v at the index n - 1 of N levels. Data in [-1, 1]; a condition is a label. The settings
    are those of the folder's config.json and scheduler_config.json; of the scheduler only the noise levels and the kind
    of prediction are taken, any sampler here draws.

    Args:
        unet: the config of the UNet2DModel.
        schedule: "linear", "scaled_linear" or "squaredcos_cap_v2" (`Table.cosine`).
        predicts: "epsilon", "sample" or "v_prediction".
        betas: the table's own, in the place of first and last.
        zero: the table is shifted to end at zero SNR.
        size: side of the pictures that it was trained on.
        scheduler: the config of its scheduler, for the way back.

    Source: Ho et al. 2020 (2006.11239) eq. 11 for eps; public code of diffusers.
    """

    unet: dict[str, Any] = field(default_factory=dict)
    channels: int = 3
    classes: int = 0
    schedule: str = "linear"
    first: float = 1e-4
    last: float = 0.02
    steps: int = 1000
    predicts: str = "epsilon"
    betas: tuple[float, ...] = ()
    zero: bool = False
    size: int = 0
    scheduler: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.schedule not in TABLES:
            raise ValueError(f"schedule is one of {', '.join(TABLES)}, got {self.schedule!r}.")
        if self.predicts not in PREDICTS:
            raise ValueError(f"predicts is one of {', '.join(PREDICTS)}, got {self.predicts!r}.")

    def process(self) -> Table:
        """The table of N levels."""
        if self.betas:
            table = Table.from_betas(self.betas)
        elif self.schedule == "squaredcos_cap_v2":
            table = Table.cosine(self.steps)
        else:
            table = (Table.linear if self.schedule == "linear" else Table.scaled_linear)(
                self.steps, self.first, self.last
            )
        return table.zero_terminal() if self.zero else table

    def model(self) -> Preconditioned:
        """The untrained denoiser.

        Raises:
            ImportError: without the extra.
        """
        return self.denoiser(Borrowed(foreign.made("UNet2DModel", self.unet)))

    def denoiser(self, net: nn.Module) -> Preconditioned:
        """A network of diffusers on the table."""
        return _told(net, self.process(), self.predicts)
