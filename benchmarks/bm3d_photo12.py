"""BM3D on photo12: the figures in data/bm3d_photo12.json, which `photo.py` prints beside ours.

    pip install bm3d                         # non-commercial licence: in an environment of its own, never a dependency
    python benchmarks/bm3d_photo12.py --root ROOT --out benchmarks/data/bm3d_photo12.json

The pictures and the noise are those of `photo.py`, clipped nowhere before and to [0, 1] after.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
from pathlib import Path

import torch
from tasks import noise_for
from tqdm import tqdm

from sfumato.data.photo12 import photo12
from sfumato.metrics import psnr, ssim


def main() -> None:
    """Parses the command line, runs BM3D and writes its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the packages of photo12 are unpacked")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bm3d = importlib.import_module("bm3d")  # here, and by name: no part of the project depends on it
    pictures = dict(photo12(args.root))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for level in (15, 25, 50):
        task = f"denoise-{level}"
        figures[task] = {}
        for name, picture in tqdm(pictures.items(), desc=task):
            x0, sigma = picture[None], level / 255
            noisy = x0 + sigma * noise_for(task, name).normal(x0)
            clean = bm3d.bm3d_rgb(noisy[0].permute(1, 2, 0).double().numpy(), sigma)
            x = torch.from_numpy(clean).permute(2, 0, 1)[None].float().clamp(0, 1)
            figures[task][name] = {"psnr": round(float(psnr(x, x0)), 3), "ssim": round(float(ssim(x, x0)), 4)}
    result = {
        "command": "python benchmarks/bm3d_photo12.py --root ROOT --out benchmarks/data/bm3d_photo12.json",
        "method": f"bm3d {importlib.metadata.version('bm3d')}, bm3d_rgb, profile np",
        "figures": figures,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
