"""A photograph of 12 megapixels in bounded memory: the peak resident size of a restoration, at several sizes.

Each size runs in a process of its own, which says the most that it ever held (`ru_maxrss`). A solver that
differentiates the network runs with `low_memory`. What a window of the network takes does not depend on the picture:
`photo` shows it at small sizes. What the picture itself takes does not depend on the network: a tiny one shows it at
12 Mpx, in a minute for an hour.

    python benchmarks/large.py                                # all
    python benchmarks/large.py --mpx 3 --key dps --net tiny   # one of them

writes `benchmarks/data/large.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

RUNS = (
    ("ddrm", 0.25, "photo"),
    ("ddrm", 0.5, "photo"),
    ("dps", 0.25, "photo"),
    ("dps", 0.5, "photo"),
    ("ddrm", 3.0, "tiny"),
    ("ddrm", 12.0, "tiny"),
    ("dps", 3.0, "tiny"),
    ("dps", 12.0, "tiny"),
)
STEPS = 2


def one(key: str, mpx: float, net: str) -> dict[str, float | str | int]:
    """Restores a noisy picture of this many megapixels, 4 : 3, here and now."""
    import torch

    import sfumato as sf
    from sfumato.operators import Downsample, Measurement
    from sfumato.recipes.edm import Recipe

    torch.set_num_threads(1)
    side = 4 * round((mpx * 1e6 / 12) ** 0.5 / 4)
    height, width = 3 * side, 4 * side
    model = sf.load("photo")
    if net == "tiny":
        model = replace(model, denoiser=Recipe(widths=(8,), blocks=1).model().eval().requires_grad_(False))
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    x = torch.linspace(0, 1, width).expand(1, 3, height, width)
    m = Measurement.simulate(Downsample(4), x, sigma=0.05, noise=sf.Noise(0))
    solver = sf.recipes.load(key).Recipe(steps=STEPS)
    low = solver.differentiates
    start = time.perf_counter()
    model.restore(m, solver=solver, low_memory=low)
    return {
        "key": key,
        "net": net,
        "mpx": height * width / 1e6,
        "size": f"{width} x {height}",
        "steps": STEPS,
        "low_memory": low,
        "weights_mb": sum(p.numel() * p.element_size() for p in model.denoiser.parameters()) / 1e6,
        "before_mb": base / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "estimate_mb": model.memory(m, solver, low_memory=low) / 1e6,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """All runs, or the one that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mpx", type=float)
    parser.add_argument("--key", default="ddrm")
    parser.add_argument("--net", default="photo", choices=["photo", "tiny"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "large.json")
    wanted = parser.parse_args()
    if wanted.mpx is not None:
        print(json.dumps(one(wanted.key, wanted.mpx, wanted.net)))
        return
    rows = []
    for key, mpx, net in RUNS:
        command = [sys.executable, __file__, "--key", key, "--mpx", str(mpx), "--net", net]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        row = rows[-1]
        print(f"{key:6} {net:6} {row['mpx']:5.1f} Mpx {row['peak_mb']:7.0f} MB, {row['seconds']:5.0f} s", flush=True)
    slopes = {
        key: (parts[-1]["peak_mb"] - parts[0]["peak_mb"]) / (parts[-1]["mpx"] - parts[0]["mpx"])
        for key, parts in (
            (key, [row for row in rows if row["key"] == key and row["net"] == "tiny"]) for key in ("ddrm", "dps")
        )
    }
    content = {"machine": platform.processor() or platform.machine(), "runs": rows, "bytes_per_pixel": slopes}
    wanted.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
