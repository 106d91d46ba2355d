"""All averages of a run: plain ones, the first of which is the model's, and power-function ones to mix afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.data.files import beside
from sfumato.training.ema import Ema
from sfumato.training.power_ema import PowerEma, Profile, reconstruct

FOLDER = "averages"  # of a run: one file for each snapshot, named for its step


class Averages:
    """Averages of one module.

    Args:
        module: what is averaged.
        decays: of plain averages; the first is what `average` gives.
        widths: relative widths of power-function profiles, which snapshots are kept of.
    """

    def __init__(self, module: nn.Module, decays: Sequence[float] = (0.999,), widths: Sequence[float] = ()) -> None:
        if not decays:
            raise ValueError("a run needs one decay at least: its average is the model.")
        self.plain = [Ema(module, decay) for decay in decays]
        self.power = PowerEma(module, widths) if widths else None

    @property
    def average(self) -> nn.Module:
        """The model's average."""
        return self.plain[0].average

    @property
    def updates(self) -> int:
        """How often they were updated."""
        return self.plain[0].updates

    @updates.setter
    def updates(self, count: int) -> None:
        for each in self.plain:
            each.updates = count
        if self.power:
            self.power.updates = count

    def update(self, module: nn.Module) -> None:
        """Moves every average towards the module's weights."""
        for each in self.plain:
            each.update(module)
        if self.power:
            self.power.update(module)

    def modules(self) -> dict[str, nn.Module]:
        """Every average by its name in a checkpoint: ema, ema1, ..., power0, power1, ..."""
        plain = {f"ema{i or ''}": each.average for i, each in enumerate(self.plain)}
        return plain | {f"power{i}": each for i, each in enumerate(self.power.averages if self.power else ())}


def write(folder: Path, step: int, exponents: Sequence[float], states: Sequence[Mapping[str, Tensor]]) -> None:
    """Keeps the power-function averages of a step in a run's folder, beside and renamed.

    Raises:
        OSError: if it cannot be written.
    """
    tensors = {f"{i}.{k}": v.detach().cpu().contiguous() for i, state in enumerate(states) for k, v in state.items()}
    header = json.dumps({"step": step, "exponents": list(exponents)})
    with beside(folder / FOLDER / f"{step:08d}.safetensors") as part:
        try:
            save_file({k: v.clone() for k, v in tensors.items()}, part, metadata={"sfumato": header})
        except SafetensorError as error:
            raise OSError(f"the snapshot of step {step} cannot be written ({error}): is the disk full?") from error


def read(folder: Path) -> list[tuple[Profile, dict[str, Tensor]]]:
    """The snapshots of a run, for `reconstruct`.

    Raises:
        FileNotFoundError: if it kept none.
        ValueError: if one is damaged.
    """
    paths = sorted((folder / FOLDER).glob("*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no snapshots of averages: train with --ema-width 0.05 --ema-width 0.10.")
    found = []
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {})["sfumato"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or no snapshot of averages ({error}): remove it.") from None
        for i, exponent in enumerate(header["exponents"]):
            mine = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{i}.")}
            found.append((Profile(exponent, header["step"]), mine))
    return found


def mixed(folder: Path, width: float, step: int | None = None) -> dict[str, Tensor]:
    """The weights of a run averaged with a profile of this width, ending at a step (the last snapshot's).

    Raises:
        FileNotFoundError, ValueError: if the run kept no snapshots, none up to the step, or the width is none.
    """
    with torch.no_grad():
        return reconstruct(read(folder), width, step)
