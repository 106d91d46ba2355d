"""Conditioning augmentation: what a stage is told is corrupted in training, by so much as it is told, so that it bears
the imperfect output of the stage before it, or of the world (Ho et al. 2022, 2106.15282)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.data.resizing import resized
from sfumato.nets.sinusoids import sinusoids
from sfumato.noise import Noise
from sfumato.processes import Gaussian, expand

FEATURES = 32  # of the level that the network is told (ours)


@dataclass(frozen=True)
class Augment:
    """c_s = alpha(s) y_up + sigma(s) n, with the level s told beside it: {"image": c_s, "vector": features of s}.

    n is white noise on the small picture, enlarged as the picture was: enlarging is linear, so that this is the
    enlargement of the noised small picture, up(alpha z + sigma eps), also where only y_up = up(z) is at hand. At s = 0
    the picture is y_up itself, and no noise is drawn.

    Args:
        process: whose alpha and sigma these are.
        factor: by which y was enlarged; 1: the noise is on y_up itself.

    Source: Ho et al. 2022 (2106.15282) section 4.2.
    """

    process: Gaussian
    factor: float = 1.0

    def __call__(self, cond: dict[str, Tensor], s: float | Tensor, noise: Noise) -> dict[str, Tensor]:
        """The condition at level s in [0, 1], a float or one for each row."""
        image = cond["image"]
        told = torch.as_tensor(s, dtype=torch.float64).expand(len(image))
        if bool((told == 0.0).all()):
            return {**cond, "vector": level(told).to(image)}
        clean = expand(told == 0.0, image).bool()
        at = torch.where(told == 0.0, 1.0, told)
        alpha, sigma = (
            expand(torch.as_tensor(f(at)).to(image), image) for f in (self.process.alpha, self.process.sigma)
        )
        noised = alpha * image + sigma * self.enlarged(image, noise)
        return {**cond, "image": torch.where(clean, image, noised), "vector": level(told).to(image)}

    def enlarged(self, image: Tensor, noise: Noise) -> Tensor:
        """White noise of the size of the small picture, enlarged to that of `image`."""
        size = tuple(image.shape[-2:])
        if self.factor == 1.0:
            return noise.normal(image)
        small = [max(1, -int(-n // self.factor)) for n in size]
        return resized(noise.normal(image.new_empty(*image.shape[:-2], *small)), size, self.factor)


def level(s: Tensor) -> Tensor:
    """The features of levels s in [0, 1], (B,) to (B, FEATURES): sinusoids of 1000 s."""
    return sinusoids(1000.0 * s, FEATURES)
