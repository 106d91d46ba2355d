"""Draws docs/images/damages.jpg: one photograph under each damage that restorers are trained on (`make docs`)."""

from __future__ import annotations

from pathlib import Path

import torch

from sfumato.cli.outputs import grid
from sfumato.data import damages
from sfumato.data.images import write_image
from sfumato.data.photo12 import fixture
from sfumato.noise import Noise

PAGE = Path(__file__).parent.parent / "docs" / "images" / "damages.jpg"
SHOWN = (
    "rain:middle", "rainfog:middle", "snow:middle", "haze:middle",
    "shadow:light", "shadow:heavy", "lowlight:middle", "motion:15",
    "jpeg:10", "enlarge:4", "real", "noise:25",
)  # fmt: skip


def main() -> None:
    """Writes the picture: four rows of three."""
    x = fixture()[:, 96:240, 72:216]
    sheet = grid(torch.stack([damages.parse(name)(x, Noise(1))["image"] for name in SHOWN]))
    write_image(PAGE, sheet)
    print(PAGE.name)


if __name__ == "__main__":
    main()
