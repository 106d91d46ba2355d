"""ScorePrior: score-based diffusion models as principled priors for inverse imaging (Feng et al. 2023, 2304.11751)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from sfumato import grids
from sfumato.denoisers import Denoiser
from sfumato.likelihood import continuous_elbo, log_prob
from sfumato.likelihood.elbo import rescaled
from sfumato.nets import RealNVP
from sfumato.noise import Noise
from sfumato.operators import Measurement
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver

EXAMPLE = """\
python -c 'import torch, sfumato as sf; S = sf.solvers.ScorePrior(steps=500, prior="bound", lr=0.01, layers=8);
D = sf.GaussianWorld(torch.zeros(4), torch.eye(4) + 1).denoiser(sf.processes.LinearBeta())
m = sf.Measurement(sf.operators.Mask(torch.tensor([1.0, 1.0, 0, 0])), torch.tensor([[1.0, 2.0, 0, 0]]), 0.2)
x = S(D, m.repeat(500), sf.Noise(0)); print(x.mean(0), x.std(0))'"""


class Fit(NamedTuple):
    """A flow for each distinct measurement, and what fits it.

    Attributes:
        flows, optimizers, streams: one for each.
        of: the number of the flow of each row, (B,).
        first: the first row of each.
        u: the normal numbers that each row's sample is made of, (B, d).
    """

    flows: list[RealNVP]
    optimizers: list[torch.optim.Adam]
    streams: list[Noise]
    of: Tensor
    first: list[int]
    u: Tensor


@dataclass(frozen=True)
class ScorePrior(Solver):
    """The posterior itself, fitted by a normalising flow G under the density of the diffusion model; no weight to tune:

    min over G of  E_u [ -log p(y | G(u)) - log p_theta(G(u)) - log |det dG/du| ],   u ~ N(0, I),

    which is KL(q | posterior) but for a constant, so never more spread than the posterior where G cannot follow it.
    `prior="flow"`: log p_theta along the probability-flow ODE,

    log p_theta(x) = log p_1(x_1) + integral of div v(x_t, t) from `start_time` to 1,

    with gradients through the solver, `points` Runge-Kutta steps of fourth order uniform in log SNR (ours: the paper
    solves to a tolerance, with adjoints) and Hutchinson's probes, drawn anew for each iteration and held along the
    path. `prior="bound"`: the evidence lower bound instead, tight for an exact denoiser, at `points` calls of the
    denoiser where the ODE takes 4 (1 + probes) times as many: its authors' own advice. What lies below `start_time` is
    read from x_t / alpha (ours); the public code reads it from D there, a call more, which draws x_0 to the network.

    G is a RealNVP on all numbers of x_0: for small pictures (32 x 32 in the paper), and not for modes apart from each
    other. One is fitted for each distinct y; rows that share y are samples of one flow, so any number of them is free,
    and its training draws depend on `seed` alone. The flows are in the last `step.memory.flows`.

    Args:
        steps: iterations of Adam.
        prior: "flow" or "bound".
        points: steps of the ODE, or terms of the bound.
        probes: of the divergence; 0: the exact trace.
        start_time: the time that stands for clean data.
        lr, clip, batch: of Adam: its rate, the largest gradient norm, draws of u in an iteration.
        layers, width: of the RealNVP (ours).
        seed: of its weights and training draws.

    Source: Feng et al. 2023 (2304.11751) eq. 7 and 9; Feng & Bouman 2023 (2309.01949) eq. 8 for the bound.
    """

    steps: int = 10000
    prior: str = "flow"
    points: int = 20
    probes: int = 1
    start_time: float = 1e-3
    lr: float = 2e-4
    clip: float = 1.0
    batch: int = 32
    layers: int = 32
    width: int = 64
    seed: int = 0
    climbs = True
    differentiates = True
    warm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.prior not in ("flow", "bound"):
            raise ValueError(f"ScorePrior: prior is flow or bound, got {self.prior!r}.")

    def times(self, process: Gaussian) -> Times:
        """Equal steps, which only count iterations."""
        return grids.uniform(self.steps)

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        """u, which is what the flow makes of it before it is trained."""
        return noise.normal(self.like(denoiser, m))

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Fit:
        probe = torch.cos(torch.arange(xt[0].numel(), device=xt.device)).to(xt).reshape(1, *m.event)
        seen = m.operator(probe.expand_as(xt))
        said = torch.cat([torch.view_as_real(v.to(v.dtype.to_complex())).flatten(1) for v in (m.y, seen)], 1)
        of = torch.unique(said, dim=0, return_inverse=True)[1]
        first = [int((of == k).nonzero()[0]) for k in range(int(of.max()) + 1)]
        streams = [Noise(self.seed) for _ in first]
        flows = [RealNVP(probe.numel(), self.layers, self.width, noise=stream).to(xt) for stream in streams]
        optimizers = [torch.optim.Adam(flow.parameters(), lr=self.lr) for flow in flows]
        return Fit(flows, optimizers, streams, of, first, xt.flatten(1))

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Fit]:
        x = torch.empty_like(memory.u)
        for k, (flow, optimizer, stream) in enumerate(zip(*memory[:3], strict=True)):
            one = m.rows([memory.first[k]] * self.batch)
            with torch.enable_grad():
                loss = self.divergence(denoiser, one, flow, stream, xt).mean()
                weights = list(flow.parameters())
                for weight, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    weight.grad = g
            clip_grad_norm_(weights, self.clip)
            optimizer.step()
            mine = memory.of == k
            x[mine] = flow(memory.u[mine])[0].detach()
        return x.reshape(xt.shape), memory

    def divergence(self, denoiser: Denoiser, m: Measurement, flow: RealNVP, noise: Noise, like: Tensor) -> Tensor:
        """-log p(y | x) - log p_theta(x) - log |det dG/du| of one draw for each row of m, (B,)."""
        u = noise.normal(torch.empty(len(m), like[0].numel(), dtype=like.dtype, device=like.device))
        x, volume = flow(u)
        x = x.reshape(len(m), *m.event)
        if self.prior == "bound":
            bound = continuous_elbo(denoiser, x, noise, end=self.start_time, points=self.points, readout=rescaled)
            return m.energy(x) + bound.total - volume
        process = denoiser.process
        assert isinstance(process, Gaussian)
        rising = grids.log_snr(process, self.points, high=process.log_snr(self.start_time), end=self.start_time)[::-1]
        probes = {"noise": noise, "probes": self.probes} if self.probes else {}
        density = log_prob(denoiser, x, rising, graph=True, **probes)  # type: ignore[arg-type]
        return m.energy(x) - density - volume


Recipe = ScorePrior
