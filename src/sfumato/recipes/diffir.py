"""DiffIR: efficient diffusion model for image restoration (Xia et al. 2023, 2303.09472)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, Wrapper, predict_x0
from sfumato.estimate import Estimate
from sfumato.nets.prior_vector import Told, VectorEncoder, VectorNet
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time
from sfumato.processes.variances import none
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import Ancestral, sample
from sfumato.training import Staged

EXAMPLE = """\
sfumato train FOLDER --recipe diffir --damage motion:15 --size 64 -o run
sfumato enhance blurred.png --model run -o out"""


class OfVector(Wrapper):
    """A denoiser of the vector, and beside it the encoders of (y, x_0) and of y, and the network told by a vector."""

    def __init__(self, inner: Denoiser, first: VectorEncoder, second: VectorEncoder, restorer: Told) -> None:
        super().__init__(inner)
        self.first, self.second, self.restorer = first, second, restorer

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        return estimate

    def truth(self, x0: Tensor, y: Tensor) -> Tensor:
        """z of a pair."""
        out: Tensor = self.first(torch.cat([y, x0], 1))
        return out


class First(nn.Module):
    """mean |x_0 - x_hat(y, z)|, z = E_1(y, x_0), (B,)."""

    def __init__(self, denoiser: OfVector) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        D, y = self.denoiser, cond["image"]
        return _absolute(x0, D.restorer(y, D.truth(x0, y)))


class Second(nn.Module):
    """mean |z_hat - z| + mean |x_0 - x_hat(y, z_hat)|, (B,), z_hat by all T steps from a noised z, with gradients.

    E_1 stands still. Source: Xia et al. 2023 (2303.09472); public code.
    """

    def __init__(self, denoiser: OfVector, recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.recipe = denoiser, recipe

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        D, y = self.denoiser, cond["image"]
        process = D.process
        assert isinstance(process, Gaussian)
        with torch.no_grad():
            z = D.truth(x0, y)
        start = process.marginal(z, 1.0).sample(noise)
        bound, times = D.inner.given({"vector": D.second(y)}), self.recipe.times()
        found = sample(bound, self.recipe.sampler(), x1=start, times=times, noise=noise, grad=True)
        return _absolute(z, found) + _absolute(x0, D.restorer(y, found))


@dataclass(frozen=True)
class Recipe(Restorer):
    """Diffusion of a vector that says what a picture lacks; one pass of a network, told by it, restores the picture.

    First z = E_1(y, x_0) and x_hat = G(y, z) are trained together, |x_hat - x_0|. Then E_1 stands still: from
    z_T = sqrt(abar_T) z + sqrt(1 - abar_T) eps all T steps are run, z_(t-1) the posterior's mean under the estimate of
    z_0 that an MLP makes of (E_2(y), t, z_t), nothing drawn, and |z_hat - z| + |x_hat - x_0| trains the MLP, E_2 and G
    through all of them. Drawing begins at z_T ~ N(0, I).

    G is the library's U-Net, each block scaled and shifted by z (ours; the paper: a transformer); both stages are one
    run (ours), the second all at once; the MLP is told log SNR / 10 (ours; the code: t / (10 T)).

    Limits: nothing is drawn but z_T, so that pictures of one y hardly differ; abar_T = 0.0026 is taken for 0. For a
    Gaussian z any T gives E[z | z_T, c]. The vector is not normalised.

    Args:
        size: of the vector.
        encoder, depth: features and residual blocks of both encoders.
        pretrain: steps of the first stage.
        first, last: of the betas, whose square roots are evenly spread.
        calls: T.

    Source: Xia et al. 2023 (2303.09472); public code for sizes and betas.
    """

    spatial: ClassVar[bool] = False

    calls: int = 4
    size: int = 256
    encoder: int = 64
    depth: int = 5
    pretrain: int = 1000
    first: float = 0.1
    last: float = 0.99

    def process(self) -> Table:
        """The table of T levels."""
        return Table.scaled_linear(self.calls, self.first, self.last)

    def model(self) -> OfVector:
        """The untrained denoiser of the vector, with both encoders and the restoring network."""
        inner = Preconditioned(VectorNet(self.size), self.process(), predict_x0, clock=self._clock)
        first, second = (VectorEncoder(n * self.channels, self.size, self.encoder, self.depth) for n in (2, 1))
        return OfVector(inner, first, second, Told(self.unet(beside=0, vector=self.size)))

    def _clock(self, t: Time) -> Time:
        return 0.1 * self.process().log_snr(t)

    def objective(self, denoiser: Denoiser) -> Staged:
        """First the pictures' error, then the vectors' and the pictures'."""
        assert isinstance(denoiser, OfVector)
        return Staged(denoiser, First(denoiser), Second(denoiser, self), self.pretrain)

    def sampler(self) -> Ancestral:
        """Means of posteriors."""
        return Ancestral(none)

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """All T levels, or fewer of them."""
        return grids.table(self.process(), steps or self.calls)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """The vector of y, and y."""
        assert isinstance(denoiser, OfVector)
        return {"vector": denoiser.second(cond["image"]), "image": cond["image"]}

    def state(self, cond: dict[str, Tensor]) -> Tensor:
        """A vector."""
        return cond["vector"]

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """y restored, told by the vector."""
        assert isinstance(denoiser, OfVector)
        with torch.no_grad():
            out: Tensor = denoiser.restorer(cond["image"], x)
        return out


def _absolute(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).flatten(1).abs().mean(1)
