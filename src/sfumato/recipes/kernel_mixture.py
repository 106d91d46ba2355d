"""Kernel mixture: any series as a mixture of Student-t laws, with the exact denoiser under any gaps (ours)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Coefficient, Gaussian, LinearBeta, Time, expand

EXAMPLE = "sfumato forecast demand.csv --horizon 48 --model series -o out"
PERIODS = (4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 24, 28, 30, 36, 42, 48, 52, 60, 72, 84, 96, 120, 144, 168, 336)
PARTS = 6  # of a kernel: a level, one that wanders, a season, short memory, smooth movement, noise
LEAST, MOST = 1e-3, 12  # shares of the posterior below the first are left out, and all but so many


@dataclass(frozen=True)
class Recipe:
    """A denoiser of windows (1, L) of any length, given what is known of them, for series that it has never seen.

    A kernel is a weighted sum of stationary covariances over a lag of so many rows,

        K(lag) = a_0 + a_1 exp(-|lag| / r_1) + a_2 exp(-2 sin^2(pi lag / P) / l^2 - |lag| / (r_2 P))
                 + a_3 exp(-|lag| / r_3) + a_4 exp(-(lag / r_4)^2 / 2) + a_5 [lag = 0],      sum a = 1,

    and the law of a window the mixture over kernels of multivariate t laws, x ~ t_nu(0, K_k), since its scale is
    unknown: `shapes` with each period P, as likely each, and `flat` shapes without a season. Given the numbers x_o,

        w_k ~ pi_k |K_oo|^(-1/2) (1 + q / nu)^(-(nu + n_o) / 2),      q = x_o^T K_oo^{-1} x_o,
        x_h | x_o, k ~ N(K_ho K_oo^{-1} x_o, (nu + q) / (nu + n_o) (K_hh - K_ho K_oo^{-1} K_oh)),

    the last in the place of a t law of nu + n_o degrees. Of that mixture E[x_h | x_t, x_o] is known in closed form, so
    sampling errs by its steps alone. What is learned is a, r, l, pi and nu, by the likelihood of whole windows.
    Limits: linear in what is known but for the choice of kernels; no trend goes on by itself.

    Source: Rasmussen and Williams 2006 (ISBN 026218253X) section 4.2.1 and eq. 4.31 for the kernels, section 5.4 for
    their choice by evidence; Shah et al. 2014 (1402.4306) lemma 3 for the scale.
    """

    shapes: int = 12
    flat: int = 12
    periods: tuple[int, ...] = PERIODS

    def __post_init__(self) -> None:
        if self.shapes + self.flat < 1 or (self.shapes > 0 and not self.periods):
            raise ValueError(
                f"a mixture has a shape at least, and those with a season need periods: got {self.shapes} shapes with "
                f"the periods {list(self.periods)} and {self.flat} flat ones."
            )

    def model(self) -> KernelMixture:
        """The untrained denoiser of (B, 1, L), its condition a dict: observed, mask."""
        return KernelMixture(self.shapes, self.flat, tuple(self.periods))

    def objective(self, denoiser: KernelMixture) -> Evidence:
        """Minus the log likelihood of whole windows, over their length."""
        return Evidence(denoiser)


class KernelMixture(Denoiser):
    """E[x_0 | x_t, what is known] of single series; see `Recipe`."""

    def __init__(self, shapes: int, flat: int, periods: tuple[int, ...]) -> None:
        super().__init__()
        self.process: Gaussian = LinearBeta()
        self.shapes, self.periods, count = shapes, periods, shapes + flat
        # Begun apart from one another, by a grid that draws nothing.
        turn = torch.arange(count * (PARTS + 5), dtype=torch.float32).mul(0.61803399).frac().reshape(count, -1)
        self.share = nn.Parameter(4.0 * turn[:, :PARTS] - 2.0)
        start = torch.tensor([math.log(100.0), 0.0, math.log(20.0), math.log(5.0), math.log(4.0)])
        self.log_reach = nn.Parameter(start + 2.0 * turn[:, PARTS:] - 1.0)  # r_1, l, r_2, r_3, r_4
        self.weight = nn.Parameter(torch.zeros(count))
        self.log_dof = nn.Parameter(torch.tensor(1.0))

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """(K at lags 0 .. length - 1 of every kernel, (K, length); log pi, (K,)), float64."""
        lag = torch.arange(length, dtype=torch.float64, device=self.share.device)
        flat = torch.arange(len(self.share), device=lag.device) >= self.shapes
        share = self.share.double().masked_fill(flat[:, None] & (torch.arange(PARTS, device=lag.device) == 2), -1e9)
        a, r = share.softmax(1)[:, :, None], self.log_reach.double().exp()[:, :, None]
        wander, short = torch.exp(-lag / r[:, 0]), torch.exp(-lag / r[:, 3])
        rest = a[:, 0] + a[:, 1] * wander + a[:, 3] * short + a[:, 4] * torch.exp(-0.5 * (lag / r[:, 4]) ** 2)
        rest = rest + (a[:, 5] + 1e-4) * (lag == 0)
        P = torch.tensor(self.periods, dtype=torch.float64, device=lag.device)[:, None]
        n, season = self.shapes, torch.sin(math.pi * lag / P) ** 2
        waves = torch.exp(-2.0 * season / r[:n, None, 1] ** 2 - lag / (r[:n, None, 2] * P))
        tables = torch.cat([(rest[:n, None] + a[:n, None, 2] * waves).flatten(0, 1), rest[n:]])
        log_pi = self.weight.double().log_softmax(0)
        each = (log_pi[:n, None] - math.log(max(1, len(self.periods)))).expand(n, len(self.periods))
        return tables, torch.cat([each.flatten(), log_pi[n:]])

    def evidence(self, K: Tensor, x: Tensor, log_pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log pi_k t_nu(x; 0, K_k), (K, B); q, (K, B); the Cholesky factors) of covariances (K, n, n) and x (B, n)."""
        root, n, nu = torch.linalg.cholesky(K), x.shape[1], self.log_dof.double().exp()
        q = torch.linalg.solve_triangular(root, x.T.expand(len(K), -1, -1), upper=False).square().sum(1)
        half_log_det = root.diagonal(dim1=1, dim2=2).log().sum(1)
        scale = torch.lgamma((nu + n) / 2) - torch.lgamma(nu / 2) - 0.5 * n * torch.log(math.pi * nu)
        log_t = scale - half_log_det[:, None] - 0.5 * (nu + n) * torch.log1p(q / nu)
        return log_pi[:, None] + log_t, q, root

    def given(self, cond: Any) -> Denoiser:
        """With the posterior of each window computed once."""
        return Filled(self, cond)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        """Without a condition nothing is known: the mixture itself."""
        if cond is None:
            cond = {"observed": torch.zeros_like(xt), "mask": torch.zeros_like(xt)}
        return Filled(self, cond)(xt, t)

    @torch.no_grad()
    def posterior(self, x: Tensor, known: Tensor) -> Part:
        """The mixture of normals of what is not known of one window, (L,) each."""
        tables, log_pi = self.tables(len(x))
        o, h = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
        log_w, q, root = self.evidence(tables[:, (o[:, None] - o).abs()], x[o].double()[None], log_pi)
        w = log_w[:, 0].softmax(0)
        best = w.argsort(descending=True)[:MOST]
        best = best[w[best] >= LEAST * w.max()]
        kept, nu = tables[best], self.log_dof.double().exp()
        across, root = kept[:, (o[:, None] - h).abs()], root[best]
        half = torch.linalg.solve_triangular(root, across, upper=False)
        white = torch.linalg.solve_triangular(root, x[o].double().expand(len(best), -1)[..., None], upper=False)
        S = kept[:, (h[:, None] - h).abs()] - half.mT @ half
        c, V = torch.linalg.eigh(S * ((nu + q[best, 0]) / (nu + len(o)))[:, None, None])
        return Part(h, w[best].log(), (half.mT @ white)[..., 0], c.clamp(min=0.0), V)


@dataclass(frozen=True, eq=False)
class Part:
    """sum_k w_k N(m_k, V_k diag(c_k) V_k^T) of the places h of a window.

    Attributes:
        places: (H,).
        log_w: (K,), of weights that need not sum to one.
        m: (K, H).
        c: (K, H).
        V: (K, H, H).
    """

    places: Tensor
    log_w: Tensor
    m: Tensor
    c: Tensor
    V: Tensor

    def mean(self, xt: Tensor, alpha: Coefficient, sigma: Coefficient) -> Tensor:
        """E[x_0 | x_t] of x_t (R, H) = alpha x_0 + sigma eps; alpha and sigma floats, or (R, 1)."""
        c, m = self.c[:, None], self.m[:, None]
        level = (alpha**2 * c + sigma**2).clamp(min=1e-12)
        z = (xt - alpha * m) @ self.V
        log_r = self.log_w[:, None] - 0.5 * (z**2 / level + level.log()).sum(2)
        each = m + (z * (alpha * c / level)) @ self.V.mT
        return (log_r.softmax(0)[..., None] * each).sum(0)


class Filled(Denoiser):
    """A `KernelMixture` given what is known; known places come back as they are."""

    def __init__(self, inner: KernelMixture, cond: Any) -> None:
        super().__init__()
        self.inner, self.process = inner, inner.process
        self.observed, self.known = cond["observed"], cond["mask"].bool()
        names: dict[bytes, list[int]] = {}
        for b, (x, known) in enumerate(zip(self.observed, self.known, strict=True)):
            names.setdefault(torch.where(known, x, torch.nan).cpu().numpy().tobytes(), []).append(b)
        self.parts = [
            (torch.tensor(rows), inner.posterior(self.observed[rows[0], 0], self.known[rows[0], 0]))
            for rows in names.values()
        ]

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process
        assert isinstance(process, Gaussian)
        x, mean = xt[:, 0].double(), torch.where(self.known, self.observed.to(xt), 0.0)
        alpha, sigma = (expand(k, x) if isinstance(k, Tensor) else k for k in (process.alpha(t), process.sigma(t)))
        for rows, part in self.parts:
            a, s = (k[rows] if isinstance(k, Tensor) else k for k in (alpha, sigma))
            if len(part.places):
                found = part.mean(x[rows][:, part.places], a, s)
                mean[rows[:, None], 0, part.places] = found.to(xt)
        return Estimate(mean)


class Evidence(nn.Module):
    """-log p(x) / L of whole windows (B, 1, L), one for each row."""

    def __init__(self, denoiser: KernelMixture) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """(B,); nothing is drawn."""
        tables, log_pi = self.denoiser.tables(x0.shape[2])
        place = torch.arange(x0.shape[2], device=x0.device)
        log_p, _, _ = self.denoiser.evidence(tables[:, (place[:, None] - place).abs()], x0[:, 0].double(), log_pi)
        return (-log_p.logsumexp(0) / x0.shape[2]).to(x0)
