"""CDM: cascaded diffusion models for high fidelity image generation (Ho et al. 2022, 2106.15282)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.data.damages.base import drawn
from sfumato.data.damages.sharpness import convolved, gaussian
from sfumato.denoisers import Clipped, Denoiser, LearnedVariance, predict_eps
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.processes.variances import learned
from sfumato.recipes.augmented import FEATURES, Augment, level
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Ancestral
from sfumato.training import Hybrid
from sfumato.training.told import told

EXAMPLE = """\
sfumato train FOLDER --recipe iddpm --size 16 -o base
sfumato train FOLDER --recipe cdm --damage enlarge:2 --size 32 -o stage
python -c 'import sfumato as sf; from sfumato.zoo.cascade import Cascade
print(Cascade(sf.load("base"), (sf.load("stage"),)).sample(4, seed=0, size=16).shape)'"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """A stage of a cascade: it makes a small picture larger, and is trained on corrupted small pictures.

    The condition z is replaced by z_s = alpha_s z + sigma_s eps, s ~ U(0, most), noise on the small picture and then
    the enlargement (`Augment`), and the network is told s beside t. In drawing one s is chosen (the paper: by FID, on a
    grid), and the small picture comes as z_s either way: noised again from the finished z, or, `truncated`, taken from
    the chain of the stage before, stopped at s. Both have one law where the stage before is exact. With a stage before
    that draws N(d, v) for N(0, v), this one is told of a shift of alpha_s^2 v d / (alpha_s^2 v + sigma_s^2) only.

    With kind "blur", for the last stages, the picture is blurred instead: with probability 0.5, by 3 x 3 taps with
    sigma ~ U(0.4, 0.6), and not at all in drawing.

    `sfumato train` trains one stage; `sfumato.zoo.cascade.Cascade` runs a base model and stages. Everything else is
    Improved DDPM's: the cosine table, learned variances and the hybrid loss.

    Limits: the level that is told goes through 32 sinusoids and one linear layer (ours). `most` and the best s are not
    stated for every stage in the paper: 0.5 and 0.1 (ours).

    Args:
        classes: of the label that goes to every stage beside the picture, {"label": (B,)}; 0: none.
        factor: by which y was enlarged.
        kind: "noise" or "blur".
        most: largest s of training, in (0, 1].
        level: s in drawing, in [0, most].

    Source: Ho et al. 2022 (2106.15282) section 4, algorithms 1 and 2; Nichol & Dhariwal 2021 (2102.09672).
    """

    classes: int = 0
    factor: float = 2.0
    kind: str = "noise"
    most: float = 0.5
    level: float = 0.1
    levels: int = 4000
    scale: float = 0.001  # weight of L_vlb

    def __post_init__(self) -> None:
        if self.kind not in ("noise", "blur"):
            raise ValueError(f"a condition is corrupted by 'noise' or 'blur', got {self.kind!r}.")
        if not 0.0 < self.most <= 1.0 or not 0.0 <= self.level <= self.most:
            raise ValueError(f"0 <= level <= most <= 1 with most > 0, got level {self.level} and most {self.most}.")

    def process(self) -> Table:
        """The cosine table of N levels."""
        return Table.cosine(self.levels)

    def net(self) -> nn.Module:
        """The U-Net with two heads, told s and the class."""
        return self.unet(leaving=2, vector=FEATURES, classes=self.classes)

    def model(self) -> Denoiser:
        """The untrained denoiser."""
        clock = lambda t: (t * self.levels - 1.0) * (1000.0 / self.levels)  # noqa: E731
        return LearnedVariance(self.net(), self.process(), predict_eps, clock=clock)

    def objective(self, denoiser: Denoiser) -> Hybrid:
        """L_hybrid under a corrupted condition."""
        return told(Hybrid(denoiser, self.scale), self.corrupted)

    def guide(self, denoiser: Denoiser) -> Denoiser:
        """D held to [-1, 1]."""
        return Clipped(denoiser)

    def sampler(self) -> Ancestral:
        """Ancestral sampling with the learned variance."""
        return Ancestral(learned)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """`steps` of the levels with both ends, and 0."""
        return grids.table(self.process(), steps or self.calls, spacing="linspace")

    def augment(self) -> Augment:
        """What corrupts."""
        return Augment(self.process(), self.factor)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """z_s at the level of drawing; the picture itself where its level is told already, or training blurred it."""
        if "vector" in cond:
            return cond
        return self.augment()(cond, self.level if self.kind == "noise" else 0.0, noise)

    def corrupted(self, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """The condition of training: noised to s ~ U(0, most), or blurred half of the time."""
        rows = len(cond["image"])
        if self.kind == "noise":
            return self.augment()(cond, self.most * noise.uniform(torch.empty(rows, dtype=torch.float64)), noise)
        u = noise.uniform(torch.empty(rows, 2, dtype=torch.float64))
        image = [blurred(x, row) for x, row in zip(cond["image"], u, strict=True)]
        return {**cond, "image": torch.stack(image), "vector": level(torch.zeros(rows)).to(cond["image"])}


def blurred(x: Tensor, u: Tensor) -> Tensor:
    """x (C, H, W) through 3 x 3 Gaussian taps of sigma 0.4 + 0.2 u_1 where u_0 < 0.5, else itself."""
    sigma = drawn(u[1], (0.4, 0.6))
    return convolved(x, gaussian(3, sigma, sigma, 0.0).to(x)) if u[0] < 0.5 else x
