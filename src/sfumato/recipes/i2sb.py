"""I2SB: image-to-image Schroedinger bridge (Liu et al. 2023, 2302.05872), and diffusion bridges with a known end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.nets import UNet
from sfumato.processes import Pinned, Tent, Time, entry, expand
from sfumato.recipes.pictures import Pictures
from sfumato.samplers import Ancestral
from sfumato.training import Denoising, Uniform

EXAMPLE = """\
python -c 'import torch, sfumato as sf; R = sf.recipes.load("i2sb").Recipe(channels=1, widths=(8, 16), steps=10)
D = R.model(); loss, opt, noise = R.objective(D), torch.optim.Adam(D.parameters(), 3e-3), sf.Noise(0)
for _ in range(60):  # clean pictures, and beside them the damaged ones
    x = torch.zeros(8, 1, 16, 16); x[:, :, 4:12, 4:12] = 1; y = torch.nn.functional.avg_pool2d(x, 3, 1, 1)
    opt.zero_grad(); loss(x, {"image": y}, noise).mean().backward(); opt.step()
with torch.no_grad(): z = sf.sample(D.given({"image": y}), R.sampler(), x1=y, times=R.times(), noise=noise)
print((y - x).square().mean(), (z - x).square().mean())'"""


class Bridge(Denoiser):
    """D = x_t - sigma(t) F(x_t, t): the network sees the state itself, sigma is the reference's, without the end.

    Source: Liu et al. 2023 (2302.05872) eq. 12.
    """

    def __init__(self, net: nn.Module, process: Pinned) -> None:
        super().__init__()
        self.net, self.process = net, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process: Pinned = self.process.bind(cond)  # type: ignore[assignment]
        clock = expand(t, xt).reshape(-1) if isinstance(t, Tensor) else xt.new_full((len(xt),), t)
        return Estimate(xt - expand(process.inner.sigma(t), xt) * self.net(xt, clock, cond))


@dataclass(frozen=True)
class Recipe(Pictures):
    """A bridge from each damaged picture to its clean one: restoration that begins at what was seen, not at noise.

    x_t ~ N(w x_0 + (1 - w) x_1, w sigma^2),  w = 1 - sigma(t)^2 / sigma(1)^2,  sigma(t)^2 = integral_0^t beta,
    L = E |F(x_t, t) - (x_t - x_0) / sigma(t)|^2, and sampling is DDPM's posterior of x_s given x_t and D, from x_1 on.
    beta is largest in the middle. The condition is {"image": x_1}: the network sees it beside x_t where `beside` (the
    paper's option, DDBM's rule). Networks are the library's (ours). Any other process in the place of the reference,
    `Pinned(LinearBeta(), read=entry("image"))` say, is a bridge of DDBM, on which every sampler of the library runs.

        fit(recipe.objective(recipe.model()), pairs, ...)           # items (x0, {"image": x1})
        x0 = sample(model.given({"image": x1}), recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)

    Source: Liu et al. 2023 (2302.05872) proposition 3.3, eq. 4, 11 and 12, algorithms 1 and 2; Zhou et al. 2024
    (2309.16948) for other references.
    """

    low: float = 0.1  # beta at both ends
    high: float = 0.3  # beta in the middle
    beside: bool = False  # the network sees x_1 as well
    steps: int = 100

    def process(self) -> Pinned:
        """The bridge; its end is the entry "image" of the condition."""
        return Pinned(Tent(self.low, self.high), read=entry("image"))

    def net(self) -> nn.Module:
        """The U-Net, with a place for x_1 where `beside`."""
        return UNet(
            self.channels, tuple(self.widths), self.blocks, attention=tuple(self.attention), dims=self.dims,
            dropout=self.dropout, image=self.channels if self.beside else 0,
        )  # fmt: skip

    def model(self) -> Bridge:
        """The untrained denoiser."""
        return Bridge(self.net(), self.process())

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The loss on the network's output: 1 / sigma^2 of the reference, which is w over the bridge's variance."""
        return Denoising(denoiser, Uniform(1e-3), lambda alpha, sigma: alpha / sigma**2)

    def sampler(self) -> Ancestral:
        """The posterior of the reference."""
        return Ancestral()

    def times(self) -> tuple[float, ...]:
        """A uniform grid."""
        return grids.uniform(self.steps)
