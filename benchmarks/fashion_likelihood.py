"""Bits per dimension of a model of Fashion-MNIST on test images: the flow's own, and the bound of continuous time.

    python benchmarks/fashion_likelihood.py --root ROOT [--model fashion] [--images 64]

Images of 8 bits, dequantised with uniform noise; the model is told the class. The flow's number is RK45 at 1e-4 with
one Rademacher vector, of the density at the model's lowest noise, sigma(0); the bound is ScoreFlow's, its offset
included, from 100 stratified levels an image. They are two different numbers, each with its standard error over images.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor

import sfumato
from sfumato import Noise
from sfumato.data.labelled import fashion_mnist
from sfumato.likelihood import bits_per_dim, continuous_elbo, dequantize, log_prob_adaptive


def main() -> None:
    """Parses the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--model", default="fashion", help="a shipped name or a folder")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data" / "fashion_likelihood.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    began, model, data = time.perf_counter(), sfumato.load(args.model), fashion_mnist(args.root, train=False)
    noise, flow, bound, calls = Noise(0), [], [], 0
    for first in range(0, args.images, args.batch):
        rows = range(first, min(first + args.batch, args.images))
        x0 = dequantize(data.images[list(rows)], noise)
        denoiser = model.denoiser.given(data.labels[list(rows)])
        dims = x0[0].numel()
        solved = log_prob_adaptive(denoiser, x0, start=0.0, noise=noise, rtol=1e-4, atol=1e-4)
        flow.append(bits_per_dim(solved.log_prob, dims))
        calls += solved.calls
        with torch.no_grad():
            bound.append(bits_per_dim(-continuous_elbo(denoiser, x0, noise, end=0.0).total.double(), dims))
        print(rows, float(flow[-1].mean()), float(bound[-1].mean()), solved.calls, flush=True)
    report = {
        "flow": summary(torch.cat(flow)),
        "bound": summary(torch.cat(bound)),
        "calls of the flow, each batch": calls / len(flow),
        "images": args.images,
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(json.dumps(report, indent=1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def summary(bits: Tensor) -> dict[str, float]:
    """Mean and its standard error."""
    return {"bits/dim": float(bits.mean()), "standard error": float(bits.std()) / math.sqrt(len(bits))}


if __name__ == "__main__":
    main()
