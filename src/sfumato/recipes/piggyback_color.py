"""PiggybackColor: improved diffusion-based colorization via piggybacked models (Liu et al. 2023, 2304.11105)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Preconditioned, Wrapper, edm
from sfumato.estimate import Estimate
from sfumato.guides import CFG
from sfumato.nets import Guider, Piggyback
from sfumato.noise import Noise, Seeds
from sfumato.operators import Gray, Linear, Measurement, Operator
from sfumato.processes import Time
from sfumato.recipes.edm import Recipe as Prior
from sfumato.solvers.base import Guided, Solver
from sfumato.training import Data, Denoising, LogNormal

EXAMPLE = "sfumato restore grey.png --operator colorize --model RUN -o out"
# RUN comes from `python -m sfumato.zoo.train_color`.
CHANNELS = 5  # of what the guider sees: luma, and of each hint its color (0 where there is none) and 1


class Colorizer(Preconditioned):
    """A denoiser of color pictures, given {"image": `seen`}; without a condition it is the frozen prior."""

    def restoring(self, m: Measurement) -> Solver | None:
        """The solver of `Model.restore` for a grey picture without noise."""
        return Colorize() if _luma(m.operator) and m.sigma == 0.0 else None


@dataclass(frozen=True)
class Colorize(Guided):
    """Colors for a grey picture, from a trained guider: DDIM on D + A^+ (y - A D), A the luma, so that y is kept.

    D is the guided denoiser, CFG with the frozen prior as the null where `scale` is not 1 (two calls). Needs a denoiser
    of `Recipe`, trained on luma. At t = 0 the luma is y once more, and colors out of range are paled until it fits.

    Args:
        scale: of classifier-free guidance.
        hints: colors that are known, model space, and where: (B or 1, 4, H, W), color times mask and mask.
        low, high: range of colors, model space.

    Source: Liu et al. 2023 (2304.11105) sections 3.2 and 3.3; 50 DDIM steps.
    """

    steps: int = 50
    scale: float = 1.0
    hints: Tensor | None = field(default=None, compare=False, repr=False)
    low: float = -1.0
    high: float = 1.0
    needs = Linear

    def check(self, operator: Operator) -> None:
        if not _luma(operator):
            raise TypeError(
                f"the guider was trained on luma: it needs Gray.luma(), got {operator}. Use DDNM or DiffPIR."
            )

    def guide(self, denoiser: Denoiser, m: Measurement) -> Denoiser:
        return _Kept(CFG(denoiser, self.scale).given({"image": seen(m.y, self.hints)}), m)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        xs, memory = super().step(denoiser, m, xt, t, s, memory, noise)
        return (shown(_kept(xs, m), m.y, self.low, self.high) if s == 0.0 else xs), memory


def shown(x: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    """x of luma y, each pixel's color paled (x - y shrunk) as far as it must be to lie in [low, high]."""
    c = x - y
    room = torch.where(c > 0, high - y, low - y).div(torch.where(c == 0, 1.0, c))
    share = torch.where(c == 0, 1.0, room).clamp(0.0, 1.0).amin(1, keepdim=True)
    return y + share * c


def _kept(x: Tensor, m: Measurement) -> Tensor:
    """x with the luma of m."""
    return x + m.operator.pinv(m.residual(x))  # type: ignore[attr-defined, no-any-return]


class _Kept(Wrapper):
    """`inner` with its luma replaced by that of m."""

    def __init__(self, inner: Denoiser, m: Measurement) -> None:
        super().__init__(inner)
        self.m = m

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return Estimate(_kept(self.inner(xt, t, cond).mean, self.m))


@dataclass(frozen=True)
class Recipe(Prior):
    """A small guider, trained to add to the features of a frozen prior, makes it color what is grey:

    D(x_t, y) = c_skip x_t + c_out F(c_in x_t; h + G(c_in x_t, y, hints)),   w |D - x_0|^2 over G alone,

    h the features of the frozen net F on its way down, G zero at first, y the luma of x_0. Sampling is DDIM; the luma
    of each estimate is replaced by y (`Colorize`), and the result holds y exactly. Hints are single pixels of x_0, as a
    user would dot colors, given in training to half of the pictures.

    Ours: no text and no latent space. The paper's prior is Stable Diffusion, its guider is fed the latent code, and a
    decoder that sees the lightness puts it back; here the prior works on pixels, and the luma is put back by
    A^+ = w / |w|^2, exactly and at every step. Its grey is Lab's L; here it is the luma that grey files hold, which is
    linear in x, so that `DDNM` and `DiffPIR` can be set beside it. Colors are as good as the prior's knowledge of
    things: one of textures knows leaves, skies and stone, and gives elsewhere a mean hue.

    Args:
        guider: feature channels of the guider at each level.
        hints: most hints of a picture in training; half of the pictures have none.

    Source: Liu et al. 2023 (2304.11105) section 3.2.
    """

    guider: tuple[int, ...] = (32, 64, 96)
    hints: int = 8

    def net(self) -> Piggyback:
        """The frozen U-Net, with weights yet to be read, and its guider."""
        guider = Guider(self.channels + CHANNELS, tuple(self.guider), tuple(self.widths), self.patch)
        return Piggyback(super().net(), guider)  # type: ignore[arg-type]

    def model(self) -> Colorizer:
        """The untrained denoiser."""
        return Colorizer(self.net(), self.process(), edm(self.sigma_data))

    def objective(self, denoiser: Preconditioned) -> Denoising:
        """The weighted denoising loss, on items of `Greyed`; it has gradients for the guider alone."""
        return Denoising(denoiser, LogNormal(self.mean, self.std))

    def data(self, pictures: Data) -> Greyed:
        """Color pictures (x0, None), with what the guider sees of each."""
        return Greyed(pictures, self.hints)

    def solver(self) -> Colorize:
        """The solver that keeps the luma."""
        return Colorize()


class Greyed:
    """Color pictures in model space as items (x0, {"image": seen}): their luma, and hints drawn from them.

    Args:
        pictures: items (x0, anything).
        hints: a picture has, with equal chances, none or a number from 1 to this.
    """

    def __init__(self, pictures: Data, hints: int = 8) -> None:
        self.pictures, self.hints = pictures, hints

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, {"image": (B, 5, H, W)})."""
        x0, _ = self.pictures.batch(items, noise)
        known = torch.stack([self._dots(x, stream) for x, stream in zip(x0, noise.streams, strict=True)])
        return x0, {"image": seen(Gray.luma()(x0), known)}

    def _dots(self, x: Tensor, noise: Noise) -> Tensor:
        mask = torch.zeros_like(x[:1])
        u = noise.uniform(torch.empty(2 + self.hints))
        count = 0 if u[0] < 0.5 else 1 + int(u[1] * self.hints)
        mask.flatten()[(u[2 : 2 + count] * mask.numel()).long()] = 1.0
        return torch.cat([mask * x, mask])


def seen(y: Tensor, hints: Tensor | None = None) -> Tensor:
    """What the guider sees, (B, 5, H, W): the luma y (B, 1, H, W) and hints (B or 1, 4, H, W), 0 if there are none."""
    known = y.new_zeros(1, CHANNELS - 1, *y.shape[2:]) if hints is None else hints.to(y)
    return torch.cat([y, known.expand(len(y), -1, -1, -1)], 1)


def _luma(operator: Operator) -> bool:
    return isinstance(operator, Gray) and operator.weights == Gray.luma().weights
