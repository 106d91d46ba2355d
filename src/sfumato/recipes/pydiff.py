"""PyDiff: pyramid diffusion models for low-light image enhancement (Zhou et al. 2023, 2305.10028)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Preconditioned, Windowed, Wrapper
from sfumato.estimate import Estimate
from sfumato.nets.corrector import Corrector
from sfumato.nets.unet import pad_to
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time, exact
from sfumato.recipes.restorer import Restorer
from sfumato.recipes.sr3_unet import of_signal
from sfumato.samplers import Sampler
from sfumato.training import Denoising, Uniform, eps_weight

WINDOW, OVERLAP = 256, 32  # (ours) of large pictures

EXAMPLE = """\
sfumato train FOLDER --recipe pydiff --damage lowlight --size 64 -o run
sfumato enhance dark.png --model run -o out"""


class Corrected(Wrapper):
    """A denoiser of pictures of two sizes, and a corrector of their colours.

    A picture beside x_t that is a whole number of times larger is taken at every so many-th pixel, in training and in
    drawing alike. `corrected` puts the corrector's picture into the estimate's aux, which `Pyramid` reads.
    """

    def __init__(self, inner: Denoiser, corrector: nn.Module, above: float) -> None:
        super().__init__(inner)
        self.corrector, self.above = corrector, above

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        mean, var, _ = self.inner(xt, t, None if cond is None else {"image": _as_small(cond["image"], xt)})
        process = self.process
        assert isinstance(process, Gaussian)
        mean = mean.clamp(-1.0, 1.0)
        if process.sigma(t) <= self.above * process.alpha(t):
            return Estimate(mean, var)
        return Estimate(mean, var, {"corrected": self.correct(mean, t)})

    def correct(self, mean: Tensor, t: Time) -> Tensor:
        """An estimate with its colours corrected, held to [-1, 1]; the corrector is told alpha."""
        process = self.process
        assert isinstance(process, Gaussian)
        alpha = torch.as_tensor(process.alpha(exact(t)), dtype=mean.dtype, device=mean.device).expand(len(mean))
        out: Tensor = self.corrector(mean, alpha).clamp(-1.0, 1.0)
        return out


@dataclass(frozen=True)
class Pyramid(Sampler):
    """DDIM with eta, on states whose sides are 1 / factor while t > switch, and whole from the first s <= switch on:

    x_s = alpha_s up(D) + sigma_s n,  up: nearest neighbour, n fresh noise,

    since an enlarged x_t would have blocks of equal noise. A corrected estimate C in aux takes the place of D, eps not
    of it: x_s gains alpha_s (C - D).

    The law after a switch lacks alpha_s^2 Var[x_0 | x_t], which later steps repair in part: on pictures constant on
    blocks, of variance 1, 1000 steps end at 0.99, 0.93, 0.68 of it for a switch at 0.7, 0.5, 0.3. `spread` draws from
    the estimate's variance, where it has one, and ends at 0.99 (ours).

    Source: Zhou et al. 2023 (2305.10028); public code (`use_up_v2`).
    """

    factor: int = 2
    switch: float = 0.5
    eta: float = 1.0
    spread: bool = False

    def scale(self, t: float) -> int:
        """How many times smaller the sides are at time t."""
        return self.factor if t > self.switch else 1

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        assert isinstance(t, float) and isinstance(s, float)
        process, estimate = denoiser.process, denoiser(xt, t)
        assert isinstance(process, Gaussian)
        mean, times = estimate.mean, self.scale(t) // self.scale(s)
        better = mean if estimate.aux is None else estimate.aux["corrected"]
        if times == 1:
            law = process.reverse(Estimate(mean), xt, t, s, self.eta)
            return torch.add(law.sample(noise), better - mean, alpha=process.alpha(s)), memory
        clean = _up(better, times)
        if self.spread and estimate.var is not None:
            clean = clean + _up(estimate.var.sqrt() * noise.normal(mean), times)
        return process.marginal(clean, s).sample(noise), memory


class Objective(nn.Module):
    """|eps - f| + |corrector(D) - x_0|, (B,); x_0 and y at half the size for rows with t above the switch.

    The corrector's error does not reach the network. Source: Zhou et al. 2023 (2305.10028); public code.
    """

    def __init__(self, denoiser: Corrected, recipe: Recipe) -> None:
        super().__init__()
        self.denoiser, self.recipe = denoiser, recipe
        low = 0.5 / recipe.levels
        self.fine = Denoising(denoiser.inner, Uniform(low, recipe.switch), eps_weight, power=1.0)
        self.coarse = Denoising(denoiser.inner, Uniform(recipe.switch, 1.0), eps_weight, power=1.0)

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        # One size a batch, each as often as times fall on its side.
        small = float(noise.uniform(torch.empty(len(x0), dtype=torch.float64))[0]) > self.recipe.switch
        f = self.recipe.factor if small else 1
        x0, cond = (x0[..., ::f, ::f], {"image": cond["image"][..., ::f, ::f]})
        loss: Tensor = (self.coarse if small else self.fine)(x0, cond, noise)
        if not small:
            return loss
        D, process = self.denoiser, self.denoiser.process
        t = self.coarse.times(process, len(x0), noise).to(x0.device)
        with torch.no_grad():
            mean = D.inner(process.marginal(x0, t).sample(noise), t, cond).mean.clamp(-1.0, 1.0)
        return loss + (D.correct(mean, t) - x0).flatten(1).abs().mean(1)


@dataclass(frozen=True)
class Recipe(Restorer):
    """SR3 whose noisy steps are made at half the size, with a corrector of the colours that few steps leave shifted.

    While t > switch the state has half the sides, one network for both sizes; at the switch the estimate is enlarged
    and noised anew (`Pyramid`). At levels with sigma / alpha > `above`, a corrector, the same at every pixel, changes
    the estimate's colours. Small pictures are every second pixel, in training and in drawing alike.

    The network sees y beside x_t (the paper: equalised y and a code of positions too), a batch is of one size, and the
    corrector is trained at small sizes, where it is used (ours).

    Limits: not exact even for exact estimates: see `Pyramid`. The published figures of LOL scale the output to the mean
    of the truth; nothing here does.

    Args:
        factor, switch: how many times smaller, and until when.
        above: sigma / alpha from which on the corrector is used.
        first, last, levels: of the linear betas.

    Source: Zhou et al. 2023 (2305.10028); public code for sizes and betas.
    """

    calls: int = 4
    factor: int = 2
    switch: float = 0.5
    above: float = 1.0
    first: float = 1e-6
    last: float = 1e-2
    levels: int = 2000

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def model(self) -> Corrected:
        """The untrained denoiser with its corrector."""
        return Corrected(Preconditioned(self.net(), self.process(), of_signal), Corrector(self.channels), self.above)

    def objective(self, denoiser: Denoiser) -> Objective:
        """The errors of eps and of the corrected picture."""
        assert isinstance(denoiser, Corrected)
        return Objective(denoiser, self)

    def guide(self, denoiser: Denoiser) -> Corrected:
        """In windows inside, at each size its own: the corrector sees the whole picture."""
        assert isinstance(denoiser, Corrected)
        inner = Windowed(denoiser.inner, WINDOW, OVERLAP, batch=1, aligned=("image",))
        return Corrected(inner, denoiser.corrector, denoiser.above)

    def sampler(self) -> Pyramid:
        """DDIM with eta = 1, and a switch of size."""
        return Pyramid(self.factor, self.switch)

    def condition(self, denoiser: Denoiser, cond: dict[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        """The picture, grown to a size that the factor divides."""
        return {"image": pad_to(cond["image"], self.factor), "whole": cond["image"]}

    def state(self, cond: dict[str, Tensor]) -> Tensor:
        """A picture of the first size."""
        f = self.sampler().scale(1.0)
        return cond["image"][..., ::f, ::f]

    def picture(self, denoiser: Denoiser, x: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The picture, of the size of y."""
        rows, columns = cond["whole"].shape[-2:]
        return x[..., :rows, :columns]


def _as_small(value: Tensor, xt: Tensor) -> Tensor:
    step = value.shape[-1] // xt.shape[-1]
    return value[..., ::step, ::step] if step > 1 else value


def _up(x: Tensor, times: int) -> Tensor:
    return x.repeat_interleave(times, -1).repeat_interleave(times, -2)
