"""Is it the model or the solver, where intervals of reconstructed slices hold too little?

    python benchmarks/medical_world.py --root ROOT --out benchmarks/data/medical_world.json

The solvers of benchmarks/medical.py with its settings, but with an exact denoiser: of a normal law fitted to the
training slices of `sfumato.data.heads`, whole, at 24 x 24 pixels. The truths are draws of that law, a quarter of the
columns of their k-space is measured, and the posterior is known. Three samples of each, as there: the share of the
truth inside the central 50 % interval, and the PSNR of the mean, against draws of the exact posterior. What is short of
a half here is the solver's own; what is shorter with the network is the network's.
"""

from __future__ import annotations

from typing import Any

import medical
import torch
from shared import options, write
from torch import Tensor
from torch.nn import functional as F

import sfumato
from sfumato import GaussianWorld, Measurement, Noise, Seeds, metrics
from sfumato.data import heads
from sfumato.operators import Fourier, kspace

SIDE, TRUTHS = 24, 40


def fitted(root: Any) -> GaussianWorld:
    """The normal law of the training slices, squared with black and reduced, in model space, float64."""
    rows = []
    for picture in heads.training_slices(root)[::2]:
        x = picture.values
        side = max(x.shape)
        down, right = (side - n for n in x.shape)
        square = F.pad(x[None, None], (right // 2, right - right // 2, down // 2, down - down // 2))
        rows.append(2.0 * F.adaptive_avg_pool2d(square, SIDE)[0] - 1.0)
    x = torch.stack(rows).double()
    cov = torch.cov(x.flatten(1).T)
    return GaussianWorld(x.mean(0), cov + 1e-4 * torch.eye(len(cov)))


def scores(samples: Tensor, truth: Tensor) -> dict[str, float]:
    """Of (S, B, 1, H, W) in model space."""
    mean = samples.mean(0)
    return {
        "coverage": round(float(metrics.coverage(samples, truth, level=0.5).mean()), 3),
        "psnr": round(float(metrics.psnr(0.5 + 0.5 * mean, 0.5 + 0.5 * truth).mean()), 2),
    }


def main() -> None:
    """Fits, measures, samples, scores."""
    args = options(__doc__).parse_args()
    torch.set_default_dtype(torch.float64)
    world = fitted(args.root)
    denoiser = world.denoiser(sfumato.processes.EDM())
    mask = kspace.columns((SIDE, SIDE), Noise(0), acceleration=4.0, centre=0.08)
    truth = world.sample(TRUTHS, Noise(1))
    m = Measurement.simulate(Fourier(mask), truth, sigma=2 * medical.SIGMA, noise=Noise(2))
    draws = [world.posterior(m.rows([i])).sample(medical.SAMPLES, Noise(3 + i)) for i in range(TRUTHS)]
    found = {"the exact posterior": scores(torch.stack(draws, 1), truth)}
    for name, solver in medical.solvers("mri").items():
        rows = solver(denoiser, m.repeat(medical.SAMPLES), Seeds(range(medical.SAMPLES * TRUTHS)))
        found[name] = scores(rows.unflatten(0, (medical.SAMPLES, TRUTHS)), truth)
        print(name, found[name], flush=True)
    write(args, {"side": SIDE, "truths": TRUTHS, "samples": medical.SAMPLES, "methods": found})


if __name__ == "__main__":
    main()
