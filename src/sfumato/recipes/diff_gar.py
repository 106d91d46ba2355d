"""DiffGAR: model-agnostic restoration from generative artifacts (Yin et al. 2022, 2210.08573)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.data.damages.redrawn import Redrawn
from sfumato.data.paired import PairCrops, damaged
from sfumato.denoisers import Denoiser
from sfumato.recipes.sr3 import Recipe as Plain
from sfumato.samplers import DDIM

EXAMPLE = """\
mkdir worse
python -c 'import sfumato as sf; from pathlib import Path; from sfumato.data.images import read_image, write_image
make = sf.recipes.load("diff-gar").Recipe().damage(sf.load("photo").denoiser)
for i, file in enumerate(sorted(Path("FOLDER").glob("*.png"))):
    write_image(Path("worse") / file.name, make(read_image(file), sf.Noise(i))["image"])'
sfumato train FOLDER --recipe diff-gar --damaged worse --size 32 -o run
sfumato enhance made.png --model run -o out"""


@dataclass(frozen=True)
class Recipe(Plain):
    """SR3 trained to undo what generators do to real pictures: pairs are simulated, by drawing a part of them again.

    y is a real picture noised to a level t ~ U(low, high) and denoised by a weak generator, few steps of DDIM with any
    unconditional denoiser: its artifacts, on content that is known (`damage`, `pairs`). The restorer, told y beside
    x_t, is SR3's. At strength 0 the simulator is the identity, so that clean pictures are among its inputs and are
    left alone; one fixed strength is refused, as it teaches to change all pictures by as much.

    Limits: this is the diffusion part of the paper's simulator. Those of adversarial and autoregressive generators
    (inversion, tokens drawn anew) need such a generator, and any pictures it has made go in as a folder:
    `sfumato train FOLDER --recipe diff-gar --damaged THEIRS`. Range and steps are not stated in the paper (ours).

    Args:
        low, high: of the strength.
        weak: steps of the generator.

    Source: Yin et al. 2022 (2210.08573) section 3; no public code was found.
    """

    low: float = 0.0
    high: float = 0.5
    weak: int = 6

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high <= 1.0:
            raise ValueError(
                f"strengths are drawn from a range, 0 <= low < high <= 1, got {self.low} and {self.high}: artifacts of "
                "one strength alone teach to change clean pictures too."
            )

    def damage(self, generator: Denoiser) -> Redrawn:
        """The artifacts of this generator, of random strength."""
        return Redrawn(generator, (self.low, self.high), self.weak, DDIM(), even=True)

    def pairs(self, found: Any, generator: Denoiser, size: int = 64, **options: Any) -> PairCrops:
        """Training data of clean pictures (files, or uint8 arrays): options of `sfumato.data.paired.damaged`."""
        return damaged(found, self.damage(generator), size, self.channels, **options)
