"""JPEG files of photo12, restored with the shipped photo model by DDRM-JPEG, against the decoder's own picture.

    python benchmarks/jpeg.py --root ROOT --out build/jpeg.json

Each picture's central square is written by Pillow at --quality, with its default sampling (4:2:0), read back as a
measurement, and restored: one sample, and the mean of --samples. PSNR and SSIM on colors in [0, 1], mean over pictures
and the standard error of the gain over the decoder.
"""

from __future__ import annotations

import io
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from shared import options, write
from torch import Tensor
from tqdm import tqdm

import sfumato
from sfumato import metrics
from sfumato.data.jpeg import read_jpeg
from sfumato.data.photo12 import SIDE, photo12


def stored(x: Tensor, quality: int) -> bytes:
    """The JPEG file of a picture (3, H, W)."""
    file = io.BytesIO()
    Image.fromarray((x.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def main() -> None:
    """Parses the command line, writes and restores files, scores."""
    parser = options(__doc__)
    parser.add_argument("--quality", type=int, default=10)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--side", type=int, default=96)
    args = parser.parse_args()
    model, rows = sfumato.load("photo"), {}
    first = (SIDE - args.side) // 2
    for name, x in tqdm(photo12(args.root), total=12):
        x = x[:, first : first + args.side, first : first + args.side]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.jpg"
            path.write_bytes(stored(x, args.quality))
            m = read_jpeg(path)
            decoded = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
        result = model.restore(m, samples=args.samples, seed=0)
        answers = {"decoder": decoded, "one": result.samples[0], "mean": result.mean}
        rows[name] = {
            key: [float(score(answer.clamp(0, 1), x[None])) for score in (metrics.psnr, metrics.ssim)]
            for key, answer in answers.items()
        }
    scores = torch.tensor([list(row.values()) for row in rows.values()])  # pictures, answers, scores
    gain = scores[:, 1:, 0] - scores[:, :1, 0]
    table = {key: {"psnr": p, "ssim": s} for key, (p, s) in zip(answers, scores.mean(0).tolist(), strict=True)}
    errors = (gain.std(0) / math.sqrt(len(gain))).tolist()
    write(args, {"quality": args.quality, "samples": args.samples, "means": table, "gain_errors": errors, "rows": rows})


if __name__ == "__main__":
    main()
