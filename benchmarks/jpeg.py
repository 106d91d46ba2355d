"""JPEG files of photo12, restored with the shipped photo model by DDRM-JPEG, against the decoder's own picture.

    python benchmarks/jpeg.py --root ROOT --out build/jpeg.json

The central square of every other picture is written by Pillow at each --quality with each --chroma sampling, read back
as a measurement, and restored: one sample, and the mean of --samples. PSNR and SSIM on colors in [0, 1], mean over
pictures and the standard error of the gain over the decoder. Settings are the solver's own, nothing was tuned. Rows
that --out holds are kept.
"""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from shared import gained, keep, options, write
from torch import Tensor
from tqdm import tqdm

import sfumato
from sfumato import metrics
from sfumato.data.jpeg import read_jpeg
from sfumato.data.photo12 import SIDE, photo12
from sfumato.operators import JPEG

QUALITIES, CHROMA = (5, 10, 20, 40), ("4:4:4", "4:2:2", "4:2:0")
ANSWERS = ("decoder", "one", "mean")


def stored(x: Tensor, quality: int, chroma: str) -> bytes:
    """The JPEG file of a picture (3, H, W)."""
    file, pixels = io.BytesIO(), (x.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=chroma)
    return file.getvalue()


def restored(model: Any, x: Tensor, quality: int, chroma: str, samples: int) -> dict[str, list[float]]:
    """[PSNR, SSIM] of each of `ANSWERS` for one picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        path.write_bytes(stored(x, quality, chroma))
        m = read_jpeg(path)
        decoded = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
    assert isinstance(m.operator, JPEG) and m.operator.sampling == chroma
    result = model.restore(m, samples=samples, seed=0)
    answers = zip(ANSWERS, (decoded, result.samples[0], result.mean), strict=True)
    return {
        key: [float(score(answer.clamp(0, 1), x[None])) for score in (metrics.psnr, metrics.ssim)]
        for key, answer in answers
    }


def summary(rows: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Means over pictures, and what one sample and the mean gain over the decoder, '+m +- e' in dB."""
    scores = torch.tensor([[row[key] for key in ANSWERS] for row in rows.values()], dtype=torch.float64)
    table = {
        key: {"psnr": round(p, 3), "ssim": round(s, 4)}
        for key, (p, s) in zip(ANSWERS, scores.mean(0).tolist(), strict=True)
    }
    gains = {key: gained(scores[:, i, 0] - scores[:, 0, 0]) for i, key in enumerate(ANSWERS) if i}
    return {"means": table, "gains": gains}


def main() -> None:
    """Parses the command line, writes and restores files, scores."""
    parser = options(__doc__)
    parser.add_argument("--quality", type=int, nargs="+", default=list(QUALITIES))
    parser.add_argument("--chroma", nargs="+", default=list(CHROMA), choices=CHROMA)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--every", type=int, default=2, help="take every n-th of the twelve pictures")
    args = parser.parse_args()
    how = {"samples": args.samples, "side": args.side, "every": args.every}
    kinds: dict[str, Any] = {}
    if args.out.exists():
        held = json.loads(args.out.read_text("utf-8"))
        if held["settings"] != how:
            raise SystemExit(f"{args.out} holds rows of {held['settings']}: name another file.")
        kinds, args.began = held["kinds"], args.began - 60 * held["minutes"]
    model, first = sfumato.load("photo"), (SIDE - args.side) // 2
    pictures = list(photo12(args.root))[:: args.every]
    for quality in args.quality:
        for chroma in args.chroma:
            own = kinds.setdefault(f"{quality}, {chroma}", {"rows": {}})
            for name, x in tqdm(pictures, desc=f"quality {quality}, {chroma}", mininterval=10):
                if name not in own["rows"]:
                    x = x[:, first : first + args.side, first : first + args.side]
                    own["rows"][name] = restored(model, x, quality, chroma, args.samples)
                    write(args, {"settings": how, "kinds": kinds}, quiet=True)
            own |= summary(own["rows"])
    write(args, {"settings": how, "kinds": kinds})
    keep(args, "ddrm-jpeg", *said(kinds, args.quality, args.chroma, args.samples, args.side, len(pictures)))


def said(
    kinds: dict[str, Any], qualities: list[int], chroma: list[str], samples: int, side: int, count: int
) -> tuple[str, str]:
    """The data, and the figures in one sentence."""

    def gain(quality: int, mode: str, key: str) -> tuple[float, float]:
        mean, error = kinds[f"{quality}, {mode}"]["gains"][key].split(" +- ")
        return float(mean), float(error)

    each = "; ".join(f"{mode} " + ", ".join(f"{gain(q, mode, 'mean')[0]:+.2f}" for q in qualities) for mode in chroma)
    found = {key: [gain(q, mode, key) for q in qualities for mode in chroma] for key in ("one", "mean")}
    ones = [mean for mean, _ in found["one"]]
    lost = [f"{q} {mode}" for q in qualities for mode in chroma if gain(q, mode, "mean")[0] <= 0]
    return (
        f"{count} pictures of photo12, {side} x {side} centres as JPEG files; the shipped model photo",
        f"gain of the mean of {samples} samples over the decoder's picture, dB of PSNR at quality "
        f"{', '.join(map(str, qualities))}: {each} (standard errors up to {max(e for _, e in found['mean']):.2f}; "
        + (f"no gain at {', '.join(lost)}; " if lost else "")
        + f"one sample {min(ones):+.2f} to {max(ones):+.2f})",
    )


if __name__ == "__main__":
    main()
