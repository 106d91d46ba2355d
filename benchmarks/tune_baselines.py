"""Finds the constants of `sfumato.baselines`: the best mean PSNR on training photographs, never on photo12.

    python benchmarks/tune_baselines.py --root ROOT

Denoising at sigma 15, 25 and 50 of 255 and the two deblurrings of the demo, on 128 x 128 crops of eight photographs.
Prints each constant with the mean PSNR of every candidate; write the best ones at the head of baselines.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sfumato import Measurement, Noise, baselines
from sfumato.data.photographs import photographs, reduced
from sfumato.demo.tasks import defocus, denoise, shake
from sfumato.metrics import psnr

SIDE, COUNT, EVERY = 128, 8, 15
DENOISING = tuple(denoise(level) for level in (15, 25, 50))
DEBLURRING = (defocus(1), shake(1))

SEARCHES: dict[str, tuple[tuple, tuple[float, ...], Callable[[Measurement, float], Tensor]]] = {
    "TV_DENOISE": (
        DENOISING,
        (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2),
        lambda m, c: baselines.total_variation(m, weight=c * m.sigma),
    ),
    "NLM": (
        DENOISING,
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        lambda m, c: baselines.non_local_means(m.y, m.sigma, cutoff=c * m.sigma),
    ),
    "TV_RESTORE": (
        DEBLURRING,
        (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2),
        lambda m, c: baselines.total_variation(m, weight=c * m.sigma),
    ),
    "WIENER": (DEBLURRING, (0.04, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22), lambda m, c: baselines.wiener(m, spread=c)),
    "LUCY": (
        DEBLURRING,
        (10, 15, 20, 30, 45, 70, 100),
        lambda m, c: baselines.richardson_lucy(m, steps=int(c)),
    ),
}


def crops(root: Path) -> list[Tensor]:
    """Centre crops (3, SIDE, SIDE) of every EVERY-th training photograph."""
    found = []
    for _, picture in islice(photographs(root), 0, COUNT * EVERY, EVERY):
        pixels = reduced(picture)
        top, left = ((n - SIDE) // 2 for n in pixels.shape[:2])
        crop = np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE])
        found.append(torch.from_numpy(crop).permute(2, 0, 1).float() / 255)
    return found


def main() -> None:
    """Parses the command line, searches, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the photographs' packages are unpacked")
    pictures = crops(parser.parse_args().root)
    for name, (tasks, candidates, method) in SEARCHES.items():
        measured = [(task.measure(x[None], Noise(i)), x[None]) for task in tasks for i, x in enumerate(pictures)]
        scores = {}
        for c in tqdm(candidates, desc=name):
            scores[c] = sum(float(psnr(method(m, c), x0)) for m, x0 in measured) / len(measured)
        best = max(scores, key=lambda c: scores[c])
        print(f"{name} = {best}   # {', '.join(f'{c}: {v:.2f}' for c, v in scores.items())}", flush=True)


if __name__ == "__main__":
    main()
