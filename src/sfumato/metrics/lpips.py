"""LPIPS: a learned perceptual distance, with weights that the user gives. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sfumato.nets.trunks import TRUNKS, Trunk

# What the trunks' own normalisation (mean 0.485 ..., std 0.229 ... of [0, 1]) is on [-1, 1].
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """sum_l mean over places of w_l . (f_l(x) / |f_l(x)| - f_l(y) / |f_l(y)|)^2, f_l the features of five layers.

    Args:
        trunk: with its weights.
        heads: w_l, one vector of at least 0 for each of its layers.

    Source: Zhang et al. 2018 (1801.03924) eq. 1, version 0.1 of the public weights (whose inputs are scaled).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, heads: list[Tensor]) -> None:
        super().__init__()
        widths = [len(head) for head in heads]
        if widths != trunk.widths:
            raise ValueError(f"the heads of {trunk.name} are of {trunk.widths} channels, got {widths}.")
        self.trunk = trunk
        for i, head in enumerate(heads):
            self.register_buffer(f"head{i}", head.reshape(-1, 1, 1))
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(3, 1, 1))

    @classmethod
    def of(cls, *states: Mapping[str, Tensor]) -> LPIPS:
        """From the files' state dicts, in any order: the trunk of ImageNet ("features.0.weight", ...; what else it
        holds is not used), and the heads ("lin0.model.1.weight", ... as the authors publish them).

        Raises:
            ValueError: if one of them is not there, or it is no trunk that is known.
        """
        held = {key: value for state in states for key, value in state.items()}
        name = next((n for n in TRUNKS if held.get("features.0.weight", torch.empty(0)).shape == TRUNKS[n].first), None)
        if name is None or "lin0.model.1.weight" not in held:
            raise ValueError(
                "LPIPS takes two files of weights: a trunk of ImageNet, AlexNet or VGG-16 (features.0.weight, ...), "
                f"and its heads (lin0.model.1.weight, ...), got {', '.join(sorted(held)[:4]) or 'nothing'}, ..."
            )
        trunk = TRUNKS[name].load(held)
        heads = [held[key].reshape(-1) for i in range(5) if (key := f"lin{i}.model.1.weight") in held]
        return cls(trunk, heads).eval().requires_grad_(False)

    @property
    def name(self) -> str:
        """What the figure is called: its trunk is part of it."""
        return f"lpips-{self.trunk.name}"

    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        """The distance of each picture, (B,), at least 0.

        Args:
            x, truth: (B, 3, H, W), or 1 channel for grey; in [0, 1].

        Raises:
            ValueError: if the shapes differ, or are no pictures.
        """
        if x.shape != truth.shape or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                "LPIPS compares two batches (B, 1 or 3, H, W) of one shape, "
                f"got {tuple(x.shape)} and {tuple(truth.shape)}."
            )
        total = x.new_zeros(len(x))
        for i, (f, g) in enumerate(zip(self._features(x), self._features(truth), strict=True)):
            total = total + (getattr(self, f"head{i}") * (f - g).square()).sum(1).mean((1, 2))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        """Of each layer, of length 1 along the channels."""
        layers = self.trunk((2.0 * x.expand(-1, 3, -1, -1) - 1.0 - self.shift) / self.scale)
        return [f / (torch.linalg.vector_norm(f, dim=1, keepdim=True) + 1e-10) for f in layers]
