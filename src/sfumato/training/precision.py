"""Precision of training: weights in float32, the forward pass in half where the processor is quick at it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.training.sharding import whole

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = ("fp32", *HALF)
NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}  # what /proc/cpuinfo calls it on Intel, AMD and ARM


class Precision:
    """How the numbers of a step are kept: forward under autocast, the loss scaled for fp16, the norm clipped.

    In fp16 small gradients would vanish: the loss is multiplied by a scale that halves whenever a gradient overflows
    (that step is left out) and doubles after 2000 steps that went well. It is part of the state of a run.

    Args:
        name: "fp32", "bf16" or "fp16".
        device: where the step runs.

    Raises:
        ValueError: for another name.

    Source: Micikevicius et al. 2018 (1710.03740) section 3.
    """

    def __init__(self, name: str = "fp32", device: torch.device | str = "cpu") -> None:
        if name not in NAMES:
            raise ValueError(f"precision is one of {', '.join(NAMES)}, got {name!r}.")
        self.name, self.kind = name, torch.device(device).type
        self.scaler = torch.amp.GradScaler(self.kind) if name == "fp16" else None

    def running(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return torch.autocast(self.kind, HALF[self.name]) if self.name in HALF else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss, scaled where need be."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def move(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], clip: float, step: int) -> float:
        """Clips the gradients, moves the weights, and returns the norm before clipping (inf: the step is left out).

        Raises:
            FloatingPointError: at a gradient that is not finite, before it reaches the weights; for fp16, at one that
                no scale makes finite.
        """
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        total = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = float(whole(total))
        if not norm <= clip:  # to multiply by one would cost as much
            nn.utils.clip_grads_with_norm_(parameters, clip, total)
        if not math.isfinite(norm) and (self.scaler is None or self.scaler.get_scale() < 1.0):
            raise FloatingPointError(f"the gradient at step {step} has the norm {norm}: lower the learning rate.")
        if self.scaler is None:
            optimizer.step()
            return norm
        self.scaler.step(optimizer)
        self.scaler.update()
        return norm

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on: nothing but for fp16."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from `state()`."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)


def best(device: torch.device | str = "cpu", cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """bf16 where the processor has it, else fp32: emulated, it takes 2 to 2.7 times as long on a CPU.

    Args:
        cpuinfo: where Linux says what the processor has; elsewhere the answer for a CPU is fp32.
    """
    where = torch.device(device)
    if where.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if where.type == "cpu" and native_bf16(cpuinfo) else "fp32"


def native_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    lines = (line.partition(":") for line in text.splitlines())
    words = {word for name, _, rest in lines if name.strip().lower() in ("flags", "features") for word in rest.split()}
    return bool(words & NATIVE)
