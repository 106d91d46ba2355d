"""D3PM: structured denoising diffusion models in discrete state-spaces (Austin et al. 2021, 2107.03006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sfumato import grids
from sfumato.denoisers import Denoiser, Logits
from sfumato.likelihood import Bound, elbo
from sfumato.noise import Noise
from sfumato.processes import Categories, Discrete, Transitions
from sfumato.processes.keeps import Cosine
from sfumato.recipes.tokens import Tokens
from sfumato.samplers import Ancestral
from sfumato.training import DiscreteChain


@dataclass(frozen=True)
class Recipe(Tokens):
    """A chain of N transition matrices on categories, a network that predicts p(x_0 | x_n), and its bound.

    q(x_n | x_{n-1}) = Cat(row of Q_n), Q_n uniform (beta_n of a cosine), absorbing (beta_n = 1 / (N - n + 1)) or a
    Gaussian on the levels (beta_n linear, `first` to `last`);

        p(x_{n-1} | x_n) ~ sum_k q(x_{n-1}, x_n | x_0 = k) p(x_0 = k | x_n),   L_vb + weight E[-log p(x_0 | x_n)].

    This published mixture is not sum_k q(x_{n-1} | x_n, k) p(k | x_n) unless q(x_n | x_0) is one number, so an exact p
    would give wrong reverse laws; `bayes` divides by q(x_n | x_0 = k) (ours). Bits per dimension are
    `bound(...).bits(d)`. Pictures: levels through the library's U-Net with logistic outputs; text: a transformer.

    The mask of the absorbing chain is a state more, for pictures too, where the paper takes the grey K / 2 (ours).
    The last step at n = 1 is sampled from p(x_0 | x_1), where the public code takes its largest (ours).

    Source: Austin et al. 2021 (2107.03006) eq. 3 to 5, sections 3 to 6, appendices A and B; public code.
    """

    transition: Literal["gaussian", "uniform", "absorbing"] = "gaussian"
    steps: int = 1000  # N
    first: float = 1e-4  # beta_1, gaussian
    last: float = 0.02  # beta_N, gaussian
    logistic: bool = True  # pictures: a truncated logistic law in place of free logits
    weight: float = 0.001  # of the cross-entropy; 0.01 for masked text, 0 for uniform text
    bayes: bool = False  # the exact mixture in place of the published one

    def process(self) -> Categories:
        """The chain; K + 1 states where there is a mask."""
        published = not self.bayes
        if self.transition == "gaussian":
            betas = [self.first + (self.last - self.first) * i / max(1, self.steps - 1) for i in range(self.steps)]
            return Transitions.gaussian(self.levels, betas, published)
        if self.transition == "uniform":
            return Discrete(self.levels, schedule=Cosine(), published=published)
        return Discrete(self.levels + 1, absorbing=self.levels, published=published)

    def net(self) -> nn.Module:
        """The network of logits."""
        return self.network(masked=self.transition == "absorbing", logistic=self.logistic)

    def model(self) -> Logits:
        """The untrained denoiser; the network is told n - 1, as the paper's is."""
        return Logits(self.net(), self.process(), clock=lambda t: t * self.steps - 1.0)

    def objective(self, denoiser: Denoiser) -> DiscreteChain:
        """L_vb and the cross-entropy."""
        return DiscreteChain(denoiser, self.steps, self.weight)

    def sampler(self) -> Ancestral:
        """Ancestral sampling."""
        return Ancestral()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """Levels of the chain from 1 to 0, all N or evenly `steps` of them."""
        return grids.levels_of(self.steps, steps or self.steps)

    def bound(self, denoiser: Denoiser, x0: Tensor, noise: Noise, steps: int | None = None) -> Bound:
        """The variational bound, in nats: a call of the denoiser for each step. Steps left out loosen it."""
        return elbo(denoiser, x0, self.times(steps), noise)
