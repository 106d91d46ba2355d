"""A model of photographs on photo12, against classical baselines and BM3D.

    pip install 'sfumato[baselines]' scikit-learn
    python benchmarks/photo.py --root ROOT --model photo --out build/photo12

Denoising at sigma 15, 25 and 50 of 255 (one network call), random inpainting of half the pixels, two deblurrings and
two enlargements (the mean of `--samples` samples, and the mean score of one sample). Scores are means over pictures.
Writes OUT.json, which holds every picture's scores, and OUT.md, the table of the model's card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tasks import noise_for
from tqdm import tqdm

import sfumato
from sfumato.data.photo12 import photo12
from sfumato.demo.run import run
from sfumato.demo.tasks import Task, defocus, denoise, enlarge, fill, shake
from sfumato.operators import Mask

BM3D = Path(__file__).parent / "data/bm3d_photo12.json"

Figures = dict[str, dict[str, dict[str, dict[str, float]]]]  # task, method, picture: psnr and ssim


def tasks(steps: int) -> tuple[Task, ...]:
    """The eight tasks."""
    half = fill("inpaint-50", "Random inpainting 50 %", lambda size, noise: Mask.random(size, 0.5, noise), steps)
    return (
        *(denoise(level) for level in (15, 25, 50)),
        half,
        defocus(steps),
        shake(steps),
        enlarge(2, steps),
        enlarge(4, steps),
    )


def evaluate(model: Any, pictures: Mapping[str, torch.Tensor], chosen: tuple[Task, ...], samples: int) -> Figures:
    """Every score of every method on every picture."""
    figures: Figures = {}
    for task in chosen:
        methods = figures.setdefault(task.key, {})
        for name, picture in tqdm(pictures.items(), desc=task.key):
            outcome = run(model, picture, task, samples=samples, seed=0, noise=noise_for(task.key, name))
            for score in outcome.scores:
                if score.psnr is None or score.ssim is None:
                    raise ImportError("the baselines need scikit-image: pip install 'sfumato[baselines]'.")
                methods.setdefault(score.method, {})[name] = {"psnr": score.psnr, "ssim": score.ssim}
    return figures


def markdown(figures: Figures) -> str:
    """Mean PSNR and SSIM of each method on each task, as a table."""
    lines = ["| task | method | PSNR, dB | SSIM |", "| --- | --- | ---: | ---: |"]
    for task, methods in figures.items():
        for method, scores in methods.items():
            psnr, ssim = (sum(s[k] for s in scores.values()) / len(scores) for k in ("psnr", "ssim"))
            lines.append(f"| {task} | {method} | {psnr:.2f} | {ssim:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parses the command line, evaluates, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages of photo12 are unpacked")
    parser.add_argument("--model", default="photo", help="a shipped name or a folder")
    parser.add_argument("--out", type=Path, required=True, help="without suffix")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", nargs="*", help="keys of tasks; all by default")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    chosen = tuple(task for task in tasks(args.steps) if not args.only or task.key in args.only)
    figures = evaluate(sfumato.load(args.model, device=args.device), dict(photo12(args.root)), chosen, args.samples)
    for task, scores in json.loads(BM3D.read_text("utf-8"))["figures"].items():
        if task in figures:
            figures[task]["BM3D"] = scores
    settings = {"model": args.model, "samples": args.samples, "steps": args.steps, "sfumato": sfumato.__version__}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(
        json.dumps({"settings": settings, "figures": figures}, indent=1) + "\n", "utf-8"
    )
    args.out.with_suffix(".md").write_text(markdown(figures), "utf-8")
    print(markdown(figures))


if __name__ == "__main__":
    main()
