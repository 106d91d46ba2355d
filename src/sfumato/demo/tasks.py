"""The tasks: what is done to the photograph, which solver undoes it, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato import baselines
from sfumato.noise import Noise
from sfumato.operators import Blur, Downsample, Identity, Mask, Measurement, Operator
from sfumato.solvers import Solver
from sfumato.zoo import defaults

Baseline = Callable[[Measurement], Tensor]


@dataclass(frozen=True)
class Task:
    """One way of damaging a picture, and the way back.

    Attributes:
        key, title, note: its name, its heading, and one sentence.
        operator: A, for pictures of a size (H, W) and a stream of noise.
        sigma: of the measurement noise, data space.
        solver: the way back: what `restore` takes where none is chosen.
        baselines: what to compare with, the best known first.
    """

    key: str
    title: str
    note: str
    operator: Callable[[tuple[int, int], Noise], Operator]
    sigma: float
    solver: Solver
    baselines: Mapping[str, Baseline]

    @property
    def steps(self) -> int:
        """Network calls for each sample."""
        return self.solver.steps

    def measure(self, x0: Tensor, noise: Noise) -> Measurement:
        """The measurement of pictures (B, 3, H, W) in [0, 1]."""
        height, width = x0.shape[2:]
        return Measurement.simulate(self.operator((height, width), noise), x0, sigma=self.sigma, noise=noise)


def tasks(steps: int = 12) -> tuple[Task, ...]:
    """The six tasks of the demo; `steps` network calls for each sample, and one call for denoising."""
    return (
        denoise(25),
        fill("inpaint", "Fill in scribbles and text", lambda size, noise: Mask(scribbles(*size)), steps),
        defocus(steps),
        shake(steps),
        enlarge(2, steps),
        enlarge(4, steps),
    )


def denoise(level: int) -> Task:
    """Gaussian noise of standard deviation level / 255, removed by one network call: the posterior mean."""
    return Task(
        f"denoise-{level}",
        "Denoise",
        f"Gaussian noise of standard deviation {level}/255; the restoration is one call of the network.",
        lambda size, noise: Identity(),
        level / 255,
        defaults.Direct(1),
        {
            "non-local means": lambda m: baselines.non_local_means(m.y, m.sigma),
            "total variation": baselines.total_variation,
        },
    )


def fill(key: str, title: str, mask: Callable[[tuple[int, int], Noise], Mask], steps: int) -> Task:
    """Lost pixels among exact ones."""
    return Task(
        key,
        title,
        "Some pixels are lost; the others are exact.",
        mask,
        0.0,
        defaults.warm("inpaint", steps),
        {"biharmonic": lambda m: baselines.biharmonic(m.y, m.operator.s)},  # type: ignore[attr-defined]
    )


def defocus(steps: int) -> Task:
    """A Gaussian blur and a little noise."""
    return _deblur(
        "deblur-gaussian",
        "Deblur: out of focus",
        "A Gaussian blur of standard deviation 2 pixels, and noise of standard deviation 0.01.",
        lambda size, noise: Blur.gaussian(size, 2.0),
        steps,
    )


def shake(steps: int) -> Task:
    """A random camera shake and a little noise."""
    return _deblur(
        "deblur-motion",
        "Deblur: shaken",
        "A random camera shake within 21 pixels, and noise of standard deviation 0.01.",
        lambda size, noise: Blur.motion(size, noise, width=21),
        steps,
    )


def enlarge(factor: int, steps: int) -> Task:
    """A picture reduced by the bicubic filter, without noise."""
    return Task(
        f"enlarge-{factor}",
        f"Enlarge {factor} times",
        f"Reduced {factor} times with the bicubic filter, without noise.",
        lambda size, noise: Downsample.bicubic(factor, size),
        0.0,
        defaults.warm("enlarge", steps, factor=factor),
        {"bicubic": lambda m: baselines.bicubic(m.y, factor)},
    )


def scribbles(height: int, width: int) -> Tensor:
    """A mask (height, width), 0 under two pen strokes and two lines of text; drawn for 256 x 256 and scaled."""
    canvas = Image.new("L", (256, 256), 255)
    pen = ImageDraw.Draw(canvas)
    for stroke in (
        [(20, 30), (70, 90), (40, 140), (110, 190), (90, 240)],
        [(240, 20), (190, 60), (215, 120), (150, 150), (185, 215), (240, 235)],
    ):
        pen.line(stroke, fill=0, width=5, joint="curve")
    pen.text((128, 52), "sfumato", fill=0, font=ImageFont.load_default(34), anchor="mm")
    pen.text((128, 226), "fill me in", fill=0, font=ImageFont.load_default(26), anchor="mm")
    seen = np.array(canvas.resize((width, height), Image.Resampling.NEAREST)) > 127
    return torch.from_numpy(seen).float()


def _deblur(
    key: str, title: str, note: str, operator: Callable[[tuple[int, int], Noise], Operator], steps: int
) -> Task:
    against: Mapping[str, Baseline] = {
        "total variation": baselines.total_variation,
        "Wiener": baselines.wiener,
        "Richardson-Lucy": baselines.richardson_lucy,
    }
    return Task(key, title, note, operator, 0.01, defaults.warm("deblur", steps), against)
