"""Synthesizing realistic image restoration training pairs: a diffusion approach (Yang et al. 2023, 2303.06994)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.data.damages import Damage
from sfumato.data.damages.redrawn import Redrawn
from sfumato.data.paired import PairCrops, damaged
from sfumato.denoisers import Denoiser
from sfumato.recipes.ddpm import Recipe as Plain
from sfumato.samplers import Ancestral

EXAMPLE = """\
sfumato train REAL_DAMAGED --recipe restoration-pairs --size 32 -o prior
python -c 'import sfumato as sf; from pathlib import Path; from sfumato.data import damages
from sfumato.data.images import read_image, write_image
R = sf.recipes.load("restoration-pairs").Recipe(); Path("worse").mkdir()
make = R.damage(sf.load("prior").denoiser, damages.parse("noise"))
for i, file in enumerate(sorted(Path("CLEAN").glob("*.png"))):
    write_image(Path("worse") / file.name, make(read_image(file), sf.Noise(i))["image"])'
sfumato train CLEAN --recipe sr3 --damaged worse --size 32 -o run"""


@dataclass(frozen=True)
class Recipe(Plain):
    """A DDPM of real damaged pictures, unconditional, makes a roughly damaged clean picture look like one of them.

    x' = first(x), a damage made by hand; x_t* = alpha x' + sigma eps; the reverse chain of the prior from t* to 0 gives
    y, and (x, y) trains any restorer (`damage`, `pairs`). The prior is trained on damaged pictures, not on clean ones,
    and is told nothing of x'. Small t* keeps the content of x and the look of the hand-made damage; large t* looks real
    and drifts from x. Under a Gaussian prior N(m, S) y has the mean m + G (x' - m), where G falls from 1 to 0 as t*
    grows: alpha^2 S (alpha^2 S + sigma^2)^-1 for the chain.

    Limits: t* by task is not stated in the text that we have (ours: 0.1 to 0.3).

    Args:
        low, high: of t*.

    Source: Yang et al. 2023 (2303.06994) section 3; no public code was found.
    """

    low: float = 0.1
    high: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise ValueError(f"0 <= low <= high <= 1 for t*, got {self.low} and {self.high}.")

    def damage(self, prior: Denoiser, first: Damage | None = None, steps: int | None = None) -> Redrawn:
        """`first`, and what the prior makes of it; `steps` of a whole chain, all of its levels if not given."""
        return Redrawn(self.guide(prior), (self.low, self.high), steps or self.steps, Ancestral(self.reverse()), first)

    def pairs(
        self, found: Any, prior: Denoiser, first: Damage, size: int = 64, *, steps: int | None = None, **options: Any
    ) -> PairCrops:
        """Training data of clean pictures (files, or uint8 arrays): options of `sfumato.data.paired.damaged`."""
        return damaged(found, self.damage(prior, first, steps), size, self.channels, **options)
