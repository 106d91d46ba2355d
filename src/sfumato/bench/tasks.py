"""The damages that solvers are compared on: small pictures, so that all of them can be run on a laptop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sfumato.noise import Noise, Seeds
from sfumato.operators import Blur, Downsample, Gray, Identity, Linear, Mask, Measurement


@dataclass(frozen=True)
class Task:
    """A damage of pictures (B, 3, H, W) in [0, 1].

    Attributes:
        name, title: its key, and what it is in words.
        kind: what undoes it: denoise, inpaint, enlarge, deblur or colorize.
        operator: A for pictures of a size (H, W) and a stream of noise.
        sigma: of the measurement noise, data space.
    """

    name: str
    title: str
    kind: str
    operator: Callable[[tuple[int, int], Noise], Linear]
    sigma: float

    def measure(self, x0: Tensor, seed: int = 0) -> Measurement:
        """The measurement of pictures under one operator; their noise is that of their place in the batch."""
        operator = self.operator((x0.shape[2], x0.shape[3]), Seeds.keyed(seed, [(self.name, "operator")]).streams[0])
        noise = Seeds.keyed(seed, [(self.name, i) for i in range(len(x0))])
        return Measurement.simulate(operator, x0, sigma=self.sigma, noise=noise)


def tasks() -> dict[str, Task]:
    """The damages, by name; lengths in pixels, noise in parts of white."""
    every = (
        Task("denoise", "noise of 25/255", "denoise", lambda size, noise: Identity(), 25 / 255),
        Task(
            "inpaint-50", "half of the pixels lost", "inpaint", lambda size, noise: Mask.random(size, 0.5, noise), 0.0
        ),
        Task("inpaint-box", "a square lost, a quarter of each side", "inpaint", _box, 0.0),
        Task("enlarge-2", "reduced by 2, bicubic", "enlarge", lambda size, noise: Downsample.bicubic(2, size), 0.0),
        Task("enlarge-4", "reduced by 4, bicubic", "enlarge", lambda size, noise: Downsample.bicubic(4, size), 0.0),
        Task(
            "deblur-gaussian",
            "Gaussian blur of 2 pixels, noise of 0.01",
            "deblur",
            lambda size, noise: Blur.gaussian(size, 2.0),
            0.01,
        ),
        Task(
            "deblur-motion",
            "camera shake within 21 pixels, noise of 0.01",
            "deblur",
            lambda size, noise: Blur.motion(size, noise, width=21),
            0.01,
        ),
        Task("colorize", "grey made color", "colorize", lambda size, noise: Gray(), 0.0),
    )
    return {task.name: task for task in every}


def _box(size: tuple[int, int], noise: Noise) -> Mask:
    side = min(size) // 4
    return Mask.box(size, noise, size=side, margin=side // 2)
