"""Networks with drawn weights and pictures, on which other codes were run beside ours.

tests/data/metric_peers.npz holds what they gave on exactly these: torch-fidelity 0.4.0 (Inception features, FID, KID,
precision and recall), lpips 0.1.4, pytorch-msssim 1.0.0, prdc 0.2.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.nets.inception import Inception
from sfumato.nets.trunks import TRUNKS, Trunk
from sfumato.noise import Noise

KEPT = Path(__file__).parent / "data" / "metric_peers.npz"


def pictures(seed: int, count: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Pictures of 8 bits in [0, 1]: coarse blobs of differing contrast, and grain."""
    noise = Noise(seed)
    coarse = F.interpolate(noise.uniform(torch.empty(count, channels, 4, 5)), (height, width), mode="bilinear")
    contrast = 0.3 + noise.uniform(torch.empty(count, channels, 1, 1))
    grain = 0.05 * noise.normal(torch.empty(count, channels, height, width))
    return ((contrast * coarse + grain).clamp(0.0, 1.0) * 255.0).round() / 255.0


def inception(seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the layout of FID's Inception."""
    noise, state = Noise(seed), {}
    for key, value in Inception().state_dict().items():
        if key.endswith("conv.weight"):
            state[key] = noise.normal(value) * (2.0 / value[0].numel()) ** 0.5
        elif key.endswith("running_var"):
            state[key] = 0.5 + noise.uniform(value)
        elif not key.endswith("num_batches_tracked"):
            state[key] = 0.2 * noise.normal(value) + float(key.endswith("bn.weight"))
    return state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


def lpips(name: str, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State dicts of a trunk, with a classifier that LPIPS passes over, and of its heads."""
    noise, trunk = Noise(seed), Trunk(TRUNKS[name])
    state = {}
    for key, value in trunk.state_dict().items():
        size = value[0].numel() if value.ndim > 1 else 100
        state[key] = noise.normal(value) * (2.0 / size) ** 0.5
    heads = {f"lin{i}.model.1.weight": noise.uniform(torch.empty(1, n, 1, 1)) for i, n in enumerate(trunk.widths)}
    return state | {"classifier.0.weight": torch.zeros(2, 2)}, heads
