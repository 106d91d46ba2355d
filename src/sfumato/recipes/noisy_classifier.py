"""The classifier of noisy pictures that guides guided-diffusion (Dhariwal & Nichol 2021, 2105.05233)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.nets.ablated import AblatedClassifier
from sfumato.processes import Time

EXAMPLE = "sfumato convert 64x64_classifier.pt -o model"


class NoisyClassifier(nn.Module):
    """log p(y | x_t), (B,), for labels y (B,): what `ClassifierGuidance(denoiser, classifier, scale)` takes.

    Args:
        net: (x_t, index of the step) to logits.
        steps: N of its table; it is told t N - 1.
    """

    def __init__(self, net: nn.Module, steps: int) -> None:
        super().__init__()
        self.net, self.steps = net, steps

    def forward(self, xt: Tensor, t: Time, cond: Any) -> Tensor:
        index = (torch.as_tensor(t, device=xt.device) * self.steps - 1.0).expand(len(xt))
        weight = next(self.net.parameters())
        log_probs = F.log_softmax(self.net(xt.to(weight.dtype), index), -1)
        labels = torch.as_tensor(cond, device=xt.device).expand(len(xt))
        return log_probs.gather(1, labels[:, None])[:, 0].to(xt.dtype)


@dataclass(frozen=True)
class Recipe:
    """Half an ablated U-Net with attention pooling, trained on pictures at all levels of a table of N steps.

    Not a generator: `zoo.load_classifier(FOLDER)` gives (x_t, t, y) -> log p(y | x_t) for `ClassifierGuidance` and
    `GuidedAncestral` over a denoiser of the same table. The defaults are those of 64 pixels.

    Args:
        size: side of the pictures, the only one that it takes.

    Source: Dhariwal & Nichol 2021 (2105.05233) section 4, appendix H and public code.
    """

    size: int = 64
    channels: int = 3
    base: int = 128
    widths: tuple[int, ...] = (128, 256, 384, 512)
    blocks: int = 4
    attention: tuple[int, ...] = (1, 2, 3)
    head_channels: int = 64
    resample: str = "block"
    film: bool = True
    classes: int = 1000
    steps: int = 1000

    def classifier(self) -> NoisyClassifier:
        """The untrained classifier."""
        net = AblatedClassifier(
            self.size,
            self.channels,
            self.base,
            self.widths,
            self.blocks,
            attention=self.attention,
            head_channels=self.head_channels,
            resample=self.resample,
            film=self.film,
            classes=self.classes,
        )
        return NoisyClassifier(net, self.steps)
