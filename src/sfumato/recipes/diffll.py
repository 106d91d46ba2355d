"""DiffLL: low-light image enhancement with wavelet-based diffusion models (Jiang et al. 2023, 2306.00306)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, Wrapper, predict_eps
from sfumato.estimate import Estimate
from sfumato.metrics import ssim
from sfumato.nets.details import DetailNet
from sfumato.nets.haar import merge, pyramid, rebuilt
from sfumato.nets.unet import pad_to
from sfumato.noise import Noise
from sfumato.processes import Table, Time
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import DDIM, sample
from sfumato.training import Antithetic, Denoising, eps_weight

LEVELS = 2  # of Haar wavelets

EXAMPLE = """\
sfumato train FOLDER --recipe diffll --damage lowlight --size 64 -o run
sfumato enhance dark.png --model run -o out"""


class LowBand(Wrapper):
    """A denoiser of the average band, and beside it the networks that make the details, the finest first."""

    def __init__(self, inner: Denoiser, details: nn.ModuleList) -> None:
        super().__init__(inner)
        self.details = details

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        return estimate

    def bands(self, y: Tensor) -> dict[str, Tensor]:
        """{"image": y's average band, "fine", "coarse": clean details of both levels, "whole": y}."""
        average, found = pyramid(pad_to(y, 2**LEVELS), LEVELS)
        fine, coarse = (net(each) for net, each in zip(self.details, found, strict=True))
        return {"image": average, "fine": fine, "coarse": coarse, "whole": y}


class Objective(nn.Module):
    """|eps - f|^2 + photo + content, (B,), the last two of x_hat, which a short run of the sampler draws from noise:

    photo = mean |x_hat - x_0| + 1 - SSIM, of pictures held to [0, 1],
    content = 0.1 (mean square errors of the details at both levels, and of the finer average) + 0.01 TV of these,

    TV = 2 (mean square step across + down). Gradients of both flow through every step of the run.

    Source: Jiang et al. 2023 (2306.00306) and weights of the public code.
    """

    def __init__(self, denoiser: LowBand, recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.recipe = denoiser, recipe
        self.noise = Denoising(denoiser.inner, Antithetic(recipe.levels), eps_weight)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        x0 = pad_to(x0, 2**LEVELS)
        told = self.denoiser.bands(pad_to(cond["image"], 2**LEVELS))
        loss: Tensor = self.noise(pyramid(x0, LEVELS)[0], told, noise)
        return loss + self.of_draw(x0, told, noise)

    def of_draw(self, x0: Tensor, told: dict[str, Tensor], noise: Noise) -> Tensor:
        """photo + content, of a draw."""
        D, recipe = self.denoiser.inner.given(told), self.recipe
        times, x1 = recipe.times(recipe.inside), noise.normal(told["image"])
        low = sample(D, recipe.sampler(), x1=x1, times=times, noise=noise, grad=True)
        found = [merge(low, told["coarse"]), told["coarse"], told["fine"]]
        drawn = merge(found[0], told["fine"])
        first, (fine, coarse) = pyramid(x0, 1)[0], pyramid(x0, LEVELS)[1]
        content = sum((a - b).square().flatten(1).mean(1) for a, b in zip(found, (first, coarse, fine), strict=True))
        smooth = sum(_variation(a) for a in found)
        seen, true = (0.5 * (x + 1.0) for x in (drawn, x0))
        seen = seen.clamp(0.0, 1.0)
        photo = (seen - true).abs().flatten(1).mean(1) + 1.0 - ssim(seen, true)
        return photo + 0.1 * content + 0.01 * smooth


@dataclass(frozen=True)
class Recipe(Restorer):
    """DDPM of the average band of two levels of Haar wavelets, 1/16 of the pixels; a small network makes the details.

    x -> (LL2, details), orthonormal; LL2 is drawn beside y's by deterministic DDIM, details of y are made clean, and
    the inverse transform is the picture. The sampler runs inside training, so that photo and detail losses of what it
    draws train everything (`Objective`).

    The network is told log SNR (the paper: n).

    Limits: the table ends at alpha_bar = 0.13 and sampling begins at noise where 0.19 is left, with nothing of LL2 in
    it: exact estimates then miss the law, and only training through the sampler makes up for it. A longer table
    (levels 1000) has no such gap. LL2 of data in [-1, 1] lies in [-4, 4], and is not held to any range.

    Args:
        inside: steps of the sampler in training, each with its gradient; the paper's equal `calls`.
        details: width of the networks of details.
        first, last, levels: of the linear betas.

    Source: Jiang et al. 2023 (2306.00306); public code for sizes and weights.
    """

    calls: int = 10
    inside: int = 10
    details: int = 16
    first: float = 1e-4
    last: float = 2e-2
    levels: int = 200

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def model(self) -> LowBand:
        """The untrained denoiser of the average band, with the networks of details."""
        nets = nn.ModuleList(DetailNet(self.channels, self.details) for _ in range(LEVELS))
        return LowBand(Preconditioned(self.net(), self.process(), predict_eps), nets)

    def objective(self, denoiser: Denoiser) -> Objective:
        """The error of eps, and those of what a run of the sampler draws."""
        assert isinstance(denoiser, LowBand)
        return Objective(denoiser, self)

    def sampler(self) -> DDIM:
        """DDIM without noise."""
        return DDIM()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """Levels counted from the first, N / steps apart."""
        return grids.table(self.process(), steps or self.calls, spacing="leading")

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """The average band of y, and the details made of its own."""
        assert isinstance(denoiser, LowBand)
        return denoiser.bands(cond["image"])

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The picture of an average band and the details."""
        rows, columns = cond["whole"].shape[-2:]
        return rebuilt(x, [cond["fine"], cond["coarse"]])[..., :rows, :columns]


def _variation(a: Tensor) -> Tensor:
    """2 (mean square step across + down), (B,)."""
    across, down = (a.diff(dim=axis).square().flatten(1).mean(1) for axis in (-1, -2))
    return 2.0 * (across + down)
