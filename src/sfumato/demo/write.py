"""Everything that the demo leaves in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import sfumato
from sfumato.demo.page import page
from sfumato.demo.pictures import gif, heat, image, png
from sfumato.demo.run import Outcome, forward
from sfumato.zoo import Model


def write(
    folder: Path, model: Model, picture: Tensor, outcomes: Sequence[Outcome], *, name: str, samples: int, seed: int
) -> Path:
    """Writes the page, every picture as a PNG, the animation and a manifest; returns the page's path.

    Files are written beside their places and renamed. All but the page, which holds the seconds, are functions of the
    arguments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = max(outcomes, key=lambda o: len(o.states))
    times = [t for t, _ in reversed(shown.states)]
    frames = [*forward(model, picture, times, seed), *(state for _, state in shown.states), shown.samples[0]]
    animation, truth = gif([image(frame) for frame in frames]), png(image(picture))
    files = {"photograph.png": truth, "process.gif": animation}
    for o in outcomes:
        files[f"{o.task.key}-measured.png"] = png(image(o.measured))
        files[f"{o.task.key}-restored.png"] = png(image(o.restored))
        if o.baseline:
            files[f"{o.task.key}-baseline.png"] = png(image(o.baseline[1]))
        if o.spread is not None:
            files[f"{o.task.key}-spread.png"] = png(heat(o.spread, float(o.spread.max())))
    settings = {
        "model": name,
        "seed": seed,
        "samples": samples,
        "sfumato": sfumato.__version__,
        "torch": torch.__version__,
    }
    manifest = {
        **settings,
        "tasks": {
            o.task.key: {
                "solver": repr(o.task.solver),
                "nfe": o.nfe,
                "scores": {s.method: {"psnr": s.psnr, "ssim": s.ssim} for s in o.scores},
            }
            for o in outcomes
        },
    }
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    words = ", ".join(f"{key} {value}" for key, value in settings.items())
    files["index.html"] = page(outcomes, truth, animation, words).encode()
    for file, content in files.items():
        beside = folder / f".{file}.{os.getpid()}.part"
        beside.write_bytes(content)
        os.replace(beside, folder / file)
    return folder / "index.html"
