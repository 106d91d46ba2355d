"""Data with known answers: the exact denoiser, score, density, posterior, flow.

`MixtureWorld` is sum_k w_k N(m_k, C_k); `GaussianWorld` is the case of one component and adds the flow in closed form;
`autoregressive` is the normal law of a window of a linear time series; `TableWorld` is any law over a few categories.
Every sampler, solver, objective and likelihood of the library is tested
against them, and they are public: a method that fails on a Gaussian is wrong.

With C_k = U diag(c) U^T, S_k = alpha^2 C_k + sigma^2 I and r_k the responsibilities of x_t:

    mu_k = m_k + alpha C_k S_k^{-1} (x_t - alpha m_k),      V_k = C_k - alpha^2 C_k S_k^{-1} C_k,
    D = sum_k r_k mu_k,      Cov[x_0 | x_t] = sum_k r_k (V_k + mu_k mu_k^T) - D D^T.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.estimate import Estimate
from sfumato.laws import Categorical
from sfumato.noise import Noise
from sfumato.operators import Linear, Measurement
from sfumato.processes import Categories, Gaussian, Process, Time


class MixtureWorld:
    """sum_k weights_k N(means_k, covs_k) over events of d numbers.

    Args:
        weights: (K,), positive; made to sum to one.
        means: (K, d).
        covs: (K, d, d), symmetric, positive semi-definite; zero for points of mass (the empirical law of a data set).
        event: shape of one x_0, any shape of d numbers; (d,) by default.
    """

    def __init__(self, weights: Tensor, means: Tensor, covs: Tensor, event: Sequence[int] | None = None) -> None:
        K, d = means.shape
        if weights.shape != (K,) or covs.shape != (K, d, d):
            raise ValueError(
                f"a mixture is weights (K,), means (K, d), covs (K, d, d); got {tuple(weights.shape)}, "
                f"{tuple(means.shape)}, {tuple(covs.shape)}."
            )
        self.event = tuple(event) if event is not None else (d,)
        if math.prod(self.event) != d:
            raise ValueError(f"an event of shape {self.event} has {math.prod(self.event)} numbers, the means have {d}.")
        self.weights, self.means, self.covs = weights / weights.sum(), means, covs
        self._c, self._U = torch.linalg.eigh(covs)
        self._c = self._c.clamp(min=0.0)

    @property
    def mean(self) -> Tensor:
        """E[x_0], (*event)."""
        return (self.weights @ self.means).reshape(self.event)

    @property
    def cov(self) -> Tensor:
        """Cov[x_0], (d, d)."""
        centred = self.means - self.weights @ self.means
        return (self.weights[:, None, None] * (self.covs + centred[:, :, None] * centred[:, None, :])).sum(0)

    def sample(self, n: int, noise: Noise) -> Tensor:
        """n draws, (n, *event)."""
        k = noise.choice(self.weights.expand(n, -1))
        z = noise.normal(self.means.new_empty(n, self.means.shape[1]))
        x = self.means[k] + torch.einsum("nij,nj->ni", self._U[k] * self._c[k].sqrt()[:, None, :], z)
        return x.reshape(n, *self.event)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (B,)."""
        gap = x.reshape(-1, 1, self.means.shape[1]) - self.means
        return torch.logsumexp(self.weights.log() + self._log_normals(gap, self._c), 1)

    def score(self, x: Tensor) -> Tensor:
        """grad log p(x), (B, *event)."""
        gap = x.reshape(-1, 1, self.means.shape[1]) - self.means
        r = torch.softmax(self.weights.log() + self._log_normals(gap, self._c), 1)
        pulls = torch.einsum("kij,kj,bkj->bki", self._U, 1 / self._c, self._turn(gap))
        return -(r[:, :, None] * pulls).sum(1).reshape(x.shape)

    def marginal(self, process: Gaussian, t: float) -> MixtureWorld:
        """The law of x_t: sum_k w_k N(alpha m_k + shift, alpha^2 C_k + sigma^2)."""
        alpha, like = process.alpha(t), self.means.reshape(-1, *self.event)
        mean = (alpha * like + process.shift(t, like)).reshape(self.means.shape)
        sigma = torch.as_tensor(process.sigma(t), dtype=mean.dtype).expand(1, *self.event).reshape(-1)
        return MixtureWorld(self.weights, mean, alpha**2 * self.covs + torch.diag(sigma**2), self.event)

    def denoiser(self, process: Gaussian) -> WorldDenoiser:
        """The exact denoiser: mean and elementwise variance of x_0 given x_t."""
        return WorldDenoiser(self, process)

    def covariance(self, xt: Tensor, t: Time, process: Gaussian) -> Tensor:
        """Cov[x_0 | x_t], (B, d, d)."""
        world, u, alpha, sigma = self._standard(xt, t, process)
        r, mu, _, kept = world._parts(u, alpha, sigma)
        D = (r[:, :, None] * mu).sum(1)
        V = torch.einsum("kij,bkj,klj->bkil", world._U, kept, world._U)
        second = (r[:, :, None, None] * (V + mu[:, :, :, None] * mu[:, :, None, :])).sum(1)
        cov = second - D[:, :, None] * D[:, None, :]
        scale = _scale(process, xt)
        return cov if scale is None else cov * scale[:, :, None] * scale[:, None, :]

    def posterior(self, measurement: Measurement) -> MixtureWorld:
        """The law of x_0 given one y (B = 1) through a linear operator with Gaussian noise: another mixture.

        E_k = A C_k A^T + sigma^2 I, K_k = C_k A^T E_k^{-1}: weights w_k N(y; A m_k, E_k), means m_k + K_k (y - A m_k),
        covariances C_k - K_k A C_k. Where sigma = 0 the inverse is the pseudo-inverse.

        Raises:
            ValueError: for more than one y, or an operator that is not linear.
        """
        if len(measurement) != 1 or not isinstance(measurement.operator, Linear):
            raise ValueError("the exact posterior is known for one y (B = 1) through a Linear operator.")
        d, y = self.means.shape[1], measurement.y.reshape(1, -1).to(self.means.dtype)
        A = measurement.operator(torch.eye(d, dtype=self.means.dtype).reshape(d, *self.event)).reshape(d, -1).T
        E = A @ self.covs @ A.T + measurement.sigma**2 * torch.eye(len(A), dtype=A.dtype)
        e, Q = torch.linalg.eigh(E)
        alive = e > 1e-12 * e.amax(-1, keepdim=True)
        inverse = torch.where(alive, 1 / torch.where(alive, e, 1.0), 0.0)
        gap = y - self.means @ A.T
        turned = torch.einsum("kij,ki->kj", Q, gap)
        log_evidence = -0.5 * (turned**2 * inverse + torch.where(alive, e, 1.0).log()).sum(1)
        gain = self.covs @ A.T @ ((Q * inverse[:, None, :]) @ Q.transpose(1, 2))
        means = self.means + torch.einsum("kij,kj->ki", gain, gap)
        covs = self.covs - gain @ A @ self.covs
        weights = torch.softmax(self.weights.log() + log_evidence, 0)
        return MixtureWorld(weights, means, 0.5 * (covs + covs.transpose(1, 2)), self.event)

    def flow(self, xt: Tensor, t: float, s: float, process: Gaussian, *, steps: int = 2000) -> Tensor:
        """x_s on the probability-flow ODE through x_t, (B, *event), by Runge-Kutta steps of fourth order in log SNR.

        In half log SNR l, u = (x - shift) / sigma obeys du/dl = (alpha / sigma) D, so both times need a finite log SNR;
        sigma with its elementwise scale, where it has one.
        """
        denoiser = self.denoiser(process)
        a: float = 0.5 * process.log_snr(t)
        b: float = 0.5 * process.log_snr(s)
        h = (b - a) / steps

        def slope(l: float, u: Tensor) -> Tensor:
            time = process.time_of(2 * l)
            x = u * process.sigma(time) + process.shift(time, u)
            return math.exp(l) * denoiser(x, time).mean / process.scale

        u = (xt - process.shift(t, xt)) / process.sigma(t)
        for i in range(steps):
            l = a + i * h
            k1 = slope(l, u)
            k2 = slope(l + 0.5 * h, u + 0.5 * h * k1)
            k3 = slope(l + 0.5 * h, u + 0.5 * h * k2)
            k4 = slope(l + h, u + h * k3)
            u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return u * process.sigma(s) + process.shift(s, xt)

    # Internals: everything is computed in the eigenbasis of each component

    def _turn(self, gap: Tensor) -> Tensor:
        """U_k^T gap, (B, K, d)."""
        return torch.einsum("kij,bki->bkj", self._U, gap)

    def _log_normals(self, gap: Tensor, variances: Tensor) -> Tensor:
        """log N(gap; 0, U diag(variances) U^T), (B, K)."""
        d = gap.shape[-1]
        return -0.5 * ((self._turn(gap) ** 2 / variances + variances.log()).sum(-1) + d * math.log(2 * math.pi))

    def _standard(self, xt: Tensor, t: Time, process: Gaussian) -> tuple[MixtureWorld, Tensor, Tensor, Tensor]:
        """The problem without shift and elementwise scale: (world, u (B, d), alpha, sigma) with 3 axes each."""
        shift = process.shift(t, xt)
        u = (xt - shift).reshape(xt.shape[0], -1).to(self.means.dtype)
        scale, world = _scale(process, xt), self
        if scale is not None:
            if scale.shape[0] != 1:
                raise ValueError("the exact denoiser needs one elementwise scale for the whole batch.")
            u, row = u / scale, scale[0]
            world = MixtureWorld(self.weights, self.means / row, self.covs / (row[:, None] * row), self.event)
        alpha, sigma = (
            torch.as_tensor(v, dtype=u.dtype, device=u.device).reshape(-1, 1, 1)
            for v in (process.alpha(t), process._level(t))
        )
        return world, u, alpha, sigma

    def _parts(self, u: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Responsibilities (B, K), component means (B, K, d), gains and kept variances in the eigenbases (B, K, d)."""
        gap = u[:, None, :] - alpha * self.means
        noisy = alpha**2 * self._c + sigma**2
        alive = noisy > 0
        safe = torch.where(alive, noisy, 1.0)
        gain = torch.where(alive, alpha * self._c / safe, 0.0)
        kept = torch.where(alive, self._c * sigma**2 / safe, self._c)  # alpha = sigma = 0: nothing is known
        z = self._turn(gap)
        mu = self.means + torch.einsum("kij,bkj->bki", self._U, gain * z)
        logits = self.weights.log() - 0.5 * torch.where(alive, z**2 / safe + safe.log(), 0.0).sum(-1)
        return torch.softmax(logits, 1), mu, gain, kept.expand_as(z)


class GaussianWorld(MixtureWorld):
    """N(mean, cov) over events of d numbers.

    Args:
        mean: any shape of d numbers, which is the event.
        cov: (d, d).
    """

    def __init__(self, mean: Tensor, cov: Tensor) -> None:
        super().__init__(mean.new_ones(1), mean.reshape(1, -1), cov.unsqueeze(0), mean.shape)

    def flow(self, xt: Tensor, t: float, s: float, process: Gaussian, *, steps: int = 0) -> Tensor:
        """x_s on the probability-flow ODE through x_t, in closed form: each eigendirection keeps its standard score."""
        world, u, alpha_t, sigma_t = self._standard(xt, t, process)
        _, _, alpha_s, sigma_s = self._standard(xt, s, process)
        c = world._c
        ratio = ((alpha_s**2 * c + sigma_s**2) / (alpha_t**2 * c + sigma_t**2)).sqrt()
        z = ratio * world._turn(u[:, None, :] - alpha_t * world.means)
        moved = (alpha_s * world.means + torch.einsum("kij,bkj->bki", world._U, z))[:, 0]
        scale = _scale(process, xt)
        return (moved if scale is None else moved * scale).reshape(xt.shape) + process.shift(s, xt)


def autoregressive(coefficients: Sequence[Tensor], noise: Tensor, length: int) -> GaussianWorld:
    """The law of a stationary window x_1 .. x_L of a vector autoregression, an event (C, L) with mean 0.

        x_t = sum_k A_k x_{t-k} + w_t,  w_t ~ N(0, Q);   Cov[x_{t+h}, x_t] = (F^h P)_00,  P = F P F^T + Q_F,

    F the companion matrix and P the covariance of p steps at once, summed by doubling. Its posteriors under a `Mask`
    are the exact forecasts and imputations.

    Args:
        coefficients: A_1 .. A_p, each (C, C).
        noise: Q, (C, C).
        length: L.

    Raises:
        ValueError: where the process is not stationary: an eigenvalue of F reaches the unit circle.
    """
    p, C = len(coefficients), noise.shape[0]
    F = torch.zeros(p * C, p * C, dtype=noise.dtype)
    F[:C] = torch.cat(list(coefficients), 1)
    F[C:, :-C] = torch.eye((p - 1) * C, dtype=noise.dtype)
    radius = float(torch.linalg.eigvals(F).abs().max())
    if radius >= 1.0 - 1e-9:
        raise ValueError(f"a stationary autoregression has all eigenvalues below 1 in size, got one of {radius:.6g}.")
    P, power = torch.zeros_like(F), F
    P[:C, :C] = noise
    for _ in range(40):  # after k rounds the sum holds 2^k terms F^j Q_F F^jT
        P, power = P + power @ P @ power.T, power @ power
    cov, lagged = noise.new_zeros(C, length, C, length), P
    for h in range(length):
        for t in range(length - h):
            cov[:, t + h, :, t] = lagged[:C, :C]
            cov[:, t, :, t + h] = lagged[:C, :C].T
        lagged = F @ lagged
    return GaussianWorld(noise.new_zeros(C, length), cov.reshape(C * length, C * length))


class WorldDenoiser(Denoiser):
    """The exact denoiser of a mixture under a Gaussian process, mean and variance; differentiable in x_t."""

    def __init__(self, world: MixtureWorld, process: Gaussian) -> None:
        super().__init__()
        self.world, self.process = world, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        process = self.process.bind(cond)
        assert isinstance(process, Gaussian)
        world, u, alpha, sigma = self.world._standard(xt, t, process)
        r, mu, _, kept = world._parts(u, alpha, sigma)
        r = r[:, :, None]
        D = (r * mu).sum(1)
        within = torch.einsum("kij,bkj->bki", world._U**2, kept)
        # Spread of the component means about D: no cancellation, never negative.
        var = (r * (within + (mu - D[:, None, :]) ** 2)).sum(1)
        scale = _scale(process, xt)
        if scale is not None:
            D, var = D * scale, var * scale**2
        return Estimate(D.reshape(xt.shape).to(xt.dtype), var.reshape(xt.shape).to(xt.dtype))


class TableWorld:
    """Any law over sequences of categories, given as a table.

    Args:
        table: (K, ..., K), n axes: the probability of each sequence of n categories; made to sum to one.
    """

    def __init__(self, table: Tensor) -> None:
        self.table = table / table.sum()
        self.classes, self.event = table.shape[0], (table.ndim,)
        if any(n != self.classes for n in table.shape):
            raise ValueError(
                f"every axis of the table is one position over the same K categories, got {tuple(table.shape)}."
            )
        grid = torch.cartesian_prod(*[torch.arange(self.classes)] * table.ndim)
        self._states = grid.reshape(-1, table.ndim)

    def sample(self, n: int, noise: Noise) -> Tensor:
        """n sequences, int64, (n, positions)."""
        return self._states[noise.choice(self.table.flatten().expand(n, -1))]

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), (B,)."""
        return self.table[tuple(x.T)].log()

    def denoiser(self, process: Categories) -> TableDenoiser:
        """The exact denoiser: class probabilities of each position of x_0 given x_t, by Bayes' rule."""
        return TableDenoiser(self, process)


class TableDenoiser(Denoiser):
    """p(x_0 position by position | x_t) of a table world, (B, n, K)."""

    def __init__(self, world: TableWorld, process: Process) -> None:
        super().__init__()
        self.world, self.process = world, process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        states, K = self.world._states, self.world.classes
        like = self.world.table
        if isinstance(t, Tensor):  # a time for each row: every state under each
            rows = states.repeat(len(xt), 1), t.repeat_interleave(len(states))
            law = self.process.marginal(*rows)
        else:
            law = self.process.marginal(states, t)
        assert isinstance(law, Categorical)
        index = xt[:, None, :, None].expand(-1, len(states), -1, 1)
        # q(. | each state), (B or 1, S, n, K).
        under = law.probs.to(like).reshape(-1, *states.shape, K)
        reach = under.expand(len(xt), -1, -1, -1).gather(-1, index).squeeze(-1).prod(-1)
        joint = like.flatten() * reach
        joint = joint / joint.sum(1, keepdim=True)
        one_hot = torch.nn.functional.one_hot(states, K).to(like)
        return Estimate(torch.einsum("bs,snk->bnk", joint, one_hot))


def _scale(process: Gaussian, xt: Tensor) -> Tensor | None:
    """The elementwise scale as rows, (1 or B, d), or None where it is 1."""
    scale = process.scale
    if isinstance(scale, float) and scale == 1.0:
        return None
    whole = torch.as_tensor(scale, dtype=xt.dtype, device=xt.device)
    rows = whole.shape[0] if whole.ndim == xt.ndim else 1
    return whole.expand(rows, *xt.shape[1:]).reshape(rows, -1)
