"""What docs/evaluate.md shows: commands of `sfumato evaluate` and what they say, and the bias of the Frechet distance.

    python benchmarks/evaluate.py --root ROOT

Trains the classifier of fashion.py (one epoch), draws 500 samples of the shipped model `fashion`, restores six crops of
the photograph in the repository, runs the commands below from the root of the repository, and writes them with their
output to benchmarks/data/evaluate.json. Then the Frechet and kernel distances between n real test images and n other
real ones, n from 50 to 5000: the truth is 0. About 12 minutes on one core. What is in
build/evaluate and in the JSON file is not computed again: remove them to begin anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from fashion import train
from fashion_features import WEIGHTS, features
from safetensors.torch import save_file

from sfumato import Noise
from sfumato.data.images import read_image, write_image
from sfumato.data.labelled import fashion_mnist
from sfumato.metrics import frechet, kernel_distance

BUILD, HERE = Path("build/evaluate"), Path(__file__).parent
PHOTO = HERE.parent / "src/sfumato/data/fixtures/astronaut.png"
CORNERS = ((0, 60), (10, 130), (60, 80), (90, 10), (90, 150), (150, 60))  # of the crops, chosen before any was restored
SIDE = 64
COUNTS = (50, 100, 200, 500, 1000, 2000, 5000)

DRAW = "sfumato sample fashion -n 500 --steps 20 --batch 50 -q -o build/evaluate/samples " + " ".join(
    f"--cond {k}" for k in range(10)
)
CLASSIFIER = "--features fashion_features:features"
SETS = [
    f"sfumato evaluate build/evaluate/samples build/evaluate/test.npz {CLASSIFIER} --subset 100 -q "
    "-o build/evaluate/samples.json",
    f"sfumato evaluate build/evaluate/train500.npz build/evaluate/test.npz {CLASSIFIER} --subset 100 -q",
    "sfumato evaluate build/evaluate/samples build/evaluate/test.npz --subset 100 --groups 0 -q",
]
RESTORE = [
    f"sfumato restore build/evaluate/crops --operator denoise --sigma 0.1 --simulate --samples {n} -q "
    f"-o build/evaluate/restored{n}"
    for n in (1, 8)
]
PAIRS = [
    "sfumato evaluate build/evaluate/restored8 build/evaluate/crops --paired -q",
    "sfumato evaluate build/evaluate/restored8 build/evaluate/crops --paired --y --crop 4 "
    "--against build/evaluate/restored1 -q",
]
BITS = ["sfumato evaluate fashion build/evaluate/test.npz --bits -n 32 -q"]


def main() -> None:
    """Parses the command line, prepares, runs the commands, measures the bias, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where Fashion-MNIST is unpacked")
    args = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    test, real = fashion_mnist(args.root, train=False), fashion_mnist(args.root)
    if not WEIGHTS.exists():
        save_file(train(real, epochs=1).state_dict(), WEIGHTS)
    for name, data, count in (("test", test, len(test)), ("train500", real, 500)):
        np.savez(BUILD / f"{name}.npz", x=data.images[:count, 0].numpy(), y=data.labels[:count].numpy())
    photo = read_image(PHOTO)
    for top, left in CORNERS:
        crop = photo[:, top : top + SIDE, left : left + SIDE]
        (BUILD / "crops").mkdir(exist_ok=True)
        write_image(BUILD / "crops" / f"{top:03d}-{left:03d}.png", crop)
    if not (BUILD / "samples").exists():
        run(DRAW)
    for command in RESTORE:
        if not Path(command.rpartition(" ")[2]).exists():
            run(command)
    out = HERE / "data" / "evaluate.json"
    kept = json.loads(out.read_text("utf-8")) if out.exists() else {"commands": {}}
    report = {
        "commands": {each: kept["commands"].get(each) or run(each) for each in (*SETS, *PAIRS, *BITS)},
        "drawn": [DRAW, *RESTORE],
        "bias": kept.get("bias") or bias(test.images.float() / 255.0),
    }
    out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def run(command: str) -> str:
    """What a command prints, on both streams."""
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    print(command, done.stdout, done.stderr, sep="\n", flush=True)
    return (done.stdout + done.stderr).strip()


def bias(images: torch.Tensor) -> dict[str, list[dict[str, float]]]:
    """Distances between n real images and n others, by features and n; the truth is 0."""
    with torch.no_grad():
        learned = torch.cat([features(rows) for rows in images.split(500)])
    found = {}
    for name, rows in (("classifier", learned), ("pixels", images.flatten(1))):
        order = Noise(1).permutation(len(rows))
        found[name] = [
            {
                "n": n,
                "fd": frechet(rows[order[:n]], rows[order[n : 2 * n]]),
                "kd": kernel_distance(rows[order[:n]], rows[order[n : 2 * n]], noise=Noise(2), size=50).value,
            }
            for n in COUNTS
        ]
        print(name, found[name], flush=True)
    return found


if __name__ == "__main__":
    main()
