"""ADIR: adaptive diffusion for image reconstruction (Abu-Hussein, Tirer & Giryes 2022, 2212.03221)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.operators import Measurement, Operator
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver
from sfumato.solvers.dps import DPS

EXAMPLE = "sfumato restore picture.png --operator deblur --std 2 --sigma 0.02 --solver adir --set updates=50 -o out"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class ADIR(Solver):
    """The network is first adapted to the picture at hand, on its K nearest neighbours, and then any solver runs:

    L = E |eps - eps_hat(alpha x + sigma eps, t)|^2,  x one of the neighbours, t uniform,  by Adam, then `solver`.

    Neighbours are looked for with y, for the truth is not known: those of `images` with the least |y - A x| or, given
    an `embed`, the largest cosine of embed(x) and embed(A^+ y) (CLIP in the paper). Without `images` the network is
    adapted to A^+ y alone, the weaker choice of the paper's first version. All weights move, as in that version; the
    second moves low-rank factors. The denoiser that was given keeps its own weights; each distinct y has its own set,
    whose training draws depend on `seed` alone, in `step.memory[0]`. With 0 updates it is the solver itself.

    Args:
        solver: runs with the adapted network; guidance by a gradient (ours: DPS, for the paper's preconditioned one).
        images: (N, *event), model space, of the size of x_0.
        neighbours: K.
        updates: of the weights (ours: the paper's numbers are of this size).
        lr: of Adam (ours, as above).
        embed: features of pictures, (N, *event) to (N, f).
        seed: of the noise in training.

    Source: Abu-Hussein et al. 2022 (2212.03221) section 4, algorithm 1 of its first version.
    """

    solver: Solver = field(default_factory=DPS)
    images: Tensor | None = field(default=None, compare=False, repr=False)
    neighbours: int = 20
    updates: int = 400
    lr: float = 1e-4
    embed: Callable[[Tensor], Tensor] | None = field(default=None, compare=False)
    seed: int = 0
    climbs = True
    differentiates = True

    @property
    def warm(self) -> bool:  # type: ignore[override]
        """As the solver inside."""
        return self.solver.warm

    def check(self, operator: Operator) -> None:
        self.solver.check(operator)
        if (self.images is None or self.embed is not None) and not hasattr(operator, "pinv"):
            raise TypeError(f"ADIR looks at A^+ y, which {type(operator).__name__} has not: give `images`, no `embed`.")

    def times(self, process: Gaussian) -> Times:
        return self.solver.times(process)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        return self.solver.start(denoiser, m, t, noise)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> tuple[Adapted, Any]:
        kinds: list[list[Tensor]] = []
        weights, of = [], []
        for row in range(len(m)):
            near = self.nearest(m.rows([row]), xt)
            known = [k for k, (y, x) in enumerate(kinds) if torch.equal(y, m.y[row]) and torch.equal(x, near)]
            if not known:
                kinds.append([m.y[row], near])
                weights.append(self.adapt(denoiser, near))
            of.append(known[0] if known else len(kinds) - 1)
        adapted = Adapted(denoiser, weights, torch.tensor(of, device=xt.device))
        return adapted, self.solver.init(adapted, m, xt)

    def restart(self, denoiser: Denoiser, m: Measurement, xt: Tensor, memory: Any) -> Any:
        return memory[0], self.solver.restart(memory[0], m, xt, memory[1])

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        xs, inner = self.solver.step(memory[0], m, xt, t, s, memory[1], noise)
        return xs, (memory[0], inner)

    def nearest(self, m: Measurement, like: Tensor) -> Tensor:
        """The neighbours of one y, nearest first, (K, *event); A^+ y where there are no images."""
        if self.images is None:
            return m.operator.pinv(m.y).to(like)  # type: ignore[attr-defined, no-any-return]
        images = self.images.to(like)
        if self.embed is None:
            far = m.rows([0] * len(images)).residual(images).abs().flatten(1).norm(dim=1)
        else:
            first = self.embed(m.operator.pinv(m.y).to(like))  # type: ignore[attr-defined]
            far = -torch.cosine_similarity(self.embed(images), first, dim=1)
        return images[far.argsort(stable=True)[: self.neighbours]]

    def adapt(self, denoiser: Denoiser, x0: Tensor) -> Weights:
        """The denoiser's weights after training on x0, (K, *event)."""
        process, noise = denoiser.process, Noise(self.seed)
        assert isinstance(process, Gaussian)
        weights = {name: p.detach().clone().requires_grad_() for name, p in denoiser.named_parameters()}
        if not self.updates or not weights:
            return {name: p.detach() for name, p in weights.items()}
        optimizer = torch.optim.Adam(weights.values(), lr=self.lr)
        for _ in range(self.updates):
            t = noise.uniform(torch.empty(len(x0), dtype=torch.float64)).clamp(min=1e-5).to(x0.device)
            eps = noise.normal(x0)
            with torch.enable_grad():
                xt = process.perturb(x0, t, eps)
                D = functional_call(denoiser, weights, (xt, t)).mean
                gradients = torch.autograd.grad((process.eps(xt, D, t) - eps).square().mean(), list(weights.values()))
            for weight, g in zip(weights.values(), gradients, strict=True):
                weight.grad = g
            optimizer.step()
        return {name: p.detach() for name, p in weights.items()}


class Adapted(Wrapper):
    """`inner` with its own weights for each row: set `of[i]` of `weights` for row i; no weight is copied or changed."""

    def __init__(self, inner: Denoiser, weights: list[Weights], of: Tensor) -> None:
        super().__init__(inner)
        self.weights, self.of = weights, of

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        if len(self.weights) == 1:
            found: Estimate = functional_call(self.inner, self.weights[0], (xt, t, cond))
            return found
        mean = torch.zeros_like(xt)
        for k, weights in enumerate(self.weights):
            rows = (self.of == k).nonzero().flatten()
            now = t[rows] if isinstance(t, Tensor) and t.ndim else t
            part = functional_call(self.inner, weights, (xt[rows], now, cond)).mean
            mean = mean.index_copy(0, rows, part.to(xt))
        return Estimate(mean)


Recipe = ADIR
