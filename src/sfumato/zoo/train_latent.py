"""Trains a latent model of garments: `python -m sfumato.zoo.train_latent --root ROOT --run RUN`.

Two stages, as latent diffusion has them: RUN/coder holds the autoencoder, RUN/prior the diffusion on its codes, which
is the model: `sf.load("RUN/prior").save(FOLDER, half=True)`. Each continues from its last checkpoint, bit for bit. ROOT
holds Debian's package dataset-fashion-mnist, unpacked.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from sfumato.data.labelled import Labelled, fashion_mnist
from sfumato.noise import Noise
from sfumato.recipes.d2c import LatentDenoiser, Recipe
from sfumato.training import Denoising, Steps, eps_weight, warmup_decay
from sfumato.training.runs import run
from sfumato.zoo import files

RECIPE = Recipe(channels=1, latent=4, coder=(32, 64), patch=2, widths=(64, 96), blocks=1, attention=(1,), contrast=0.0)
KL = 2e-4  # (ours) weight of KL(q(z | x) || N(0, 1)), a number of the code, beside the mean square error of a pixel


class Coding(nn.Module):
    """mean |x - G(z)|^2 + KL mean KL(q(z | x) || N(0, 1)), z ~ q(z | x), (B,).

    Source: Kingma & Welling 2014 (1312.6114) eq. 10, with the small weight of Rombach et al. 2022 (2112.10752) G.
    """

    def __init__(self, denoiser: LatentDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        coder = self.denoiser.autoencoder
        mean, log_var = coder.encode(x0)
        z = mean + torch.exp(0.5 * log_var) * noise.normal(mean)
        error = (x0 - coder.decode(z, x0.shape[2:])).flatten(1).square().mean(1)
        kl = 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var)
        return error + KL * kl.flatten(1).mean(1)


class Prior(nn.Module):
    """The loss of the diffusion on codes drawn from the trained encoder and standardised, (B,)."""

    def __init__(self, denoiser: LatentDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.denoiser.autoencoder.requires_grad_(False)
        self.inner = Denoising(denoiser.inner, Steps(RECIPE.levels), eps_weight)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        two = self.denoiser
        assert isinstance(two.mean, Tensor) and isinstance(two.var, Tensor)
        with torch.no_grad():
            z = two.autoencoder.draw(x0, noise)
            z = (z - two.mean[:, None, None]) / two.var.sqrt()[:, None, None]
        return self.inner(z, None, noise)  # type: ignore[no-any-return]


def standardise(denoiser: LatentDenoiser, data: Labelled, items: int = 10_000) -> None:
    """Sets the mean and variance of the codes, channel by channel, of so many images."""
    with torch.no_grad():
        x = (data.batch(list(range(i, i + 500)), None)[0] for i in range(0, items, 500))  # type: ignore[arg-type]
        z = torch.cat([denoiser.autoencoder.encode(rows)[0] for rows in x]).transpose(0, 1).flatten(1)
    var, mean = torch.var_mean(z, 1)
    denoiser.mean, denoiser.var = mean, var


def stage(folder: Path, objective: nn.Module, data: Labelled, args: argparse.Namespace, steps: int) -> None:
    """One run, with its progress."""
    config = {"recipe": "d2c", "fields": dataclasses.asdict(RECIPE), "event": [1, 28, 28]}
    schedule = warmup_decay(steps, warmup=200, decay=args.decay)
    plan: dict[str, Any] = {"steps": steps, "batch": args.batch, "rate": 2e-3, "schedule": schedule}
    done = run(folder, config, objective, data, **plan, recipe=Recipe, device=args.device)
    for _ in tqdm(done, total=steps, desc=folder.name, mininterval=10):
        pass


def main() -> None:
    """Parses the command line and trains both stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the package is unpacked")
    parser.add_argument("--run", type=Path, required=True, help="folder of the two runs")
    parser.add_argument("--coder-steps", type=int, default=2200)
    parser.add_argument("--prior-steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--decay", type=float, default=0.5, help="share of a run in which the rate falls to 0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = fashion_mnist(args.root)
    torch.manual_seed(0)  # the first weights
    stage(args.run / "coder", Coding(RECIPE.model()), data, args, args.coder_steps)
    torch.manual_seed(1)
    denoiser = RECIPE.model()
    files.read_weights(args.run / "coder", denoiser)
    standardise(denoiser, data)
    stage(args.run / "prior", Prior(denoiser), data, args, args.prior_steps)


if __name__ == "__main__":
    main()
