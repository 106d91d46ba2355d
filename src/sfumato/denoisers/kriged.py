"""What is hidden of a window of series, by best linear prediction, and a denoiser that begins there (ours).

A window is (C, L) numbers. Under a law with covariance K(c, d, lag) the hidden numbers h given the observed ones o are

    N(m, S),   m = K_ho K_oo^{-1} x_o,   S = K_hh - K_ho K_oo^{-1} K_oh   (simple kriging).

In units of that prediction, z = (x_h - m) / s with s^2 = diag S (bent by a factor b of asinh z where errors have other
tails: b = 1 is this), the noised z_t = alpha z + sigma eps has the estimate

    D = V diag(alpha c / (alpha^2 c + sigma^2)) V^T z_t + v F,   S / (s s^T) = V diag(c) V^T,

v the standard deviation of z given z_t in that law and F a network. With F = 0 the sampler draws from N(m, S): what the
network has to learn is only what is not Gaussian, or not stationary, in the data.

Source for m and S: Cressie 1993 (10.1002/9781119115151) section 3.2; for the unknown scale, Shah et al. 2014
(1402.4306) lemma 3; for v F, the preconditioning of Karras et al. 2022
(2206.00364) with the law's own posterior in the place of c_skip and c_out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Denoiser
from sfumato.estimate import Estimate
from sfumato.processes import Coefficient, Gaussian, Time, expand, lib

Bases = dict[bytes, tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Kriging:
    """A law of windows: zero mean, covariance K(c, d, t_i - t_j), a Gaussian posterior for any mask.

    Attributes:
        table: K at lags -M .. M, (C, C, 2 M + 1): of channel c at time i and d at time j, lag t_i - t_j. Between whole
            lags it is interpolated, beyond M held.
        floor: least eigenvalue allowed to the covariance of a window, which also makes it definite.
        gain: (C,), factor of s that makes held-out z of unit variance.
        tail: b of the errors' shape, x = m + s sinh(b asinh z): 1 for normal ones, more for heavier tails.
        dof: nu of a law whose overall scale is unknown: s grows where the observed numbers of a window are larger than
            K says, s^2 (nu + x_o^T K_oo^{-1} x_o) / (nu + n_o), as in a multivariate t; math.inf for a known scale.
    """

    table: Tensor
    floor: float = 1e-3
    gain: Tensor | None = None
    tail: float = 1.0
    dof: float = math.inf

    def basis(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues (C L,), as they are, and eigenvectors (C L, C L) of K over one window with times (L,)."""
        C, most = self.table.shape[0], self.table.shape[2] // 2
        lag = (time[:, None] - time[None, :]).to(self.table).clamp(-most, most) + most
        low = lag.floor().long().clamp(max=max(2 * most - 1, 0))
        high = (low + 1).clamp(max=2 * most)
        K = self.table[:, :, low].lerp(self.table[:, :, high], (lag - low).expand(C, C, -1, -1))
        K = K.permute(0, 2, 1, 3).reshape(C * len(time), -1)
        values, vectors = torch.linalg.eigh(0.5 * (K + K.T))
        return values, vectors

    def covariance(self, time: Tensor, basis: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(C L, C L), of one window with times (L,); eigenvalues at least `floor`."""
        values, vectors = self.basis(time) if basis is None else basis
        return (vectors * values.clamp(min=self.floor)) @ vectors.T

    def solve(
        self, observed: Tensor, mask: Tensor, time: Tensor, wanted: Tensor | None = None, bases: Bases | None = None
    ) -> tuple[Solved, ...]:
        """m and S of what is wanted, one for each pattern of masks; `gain` and `dof` have no part in it.

        Args:
            observed: (B, C, L), read where `mask` is 1.
            mask: (B, C, L).
            time: (B, L), in steps.
            wanted: (B, C, L), all that is not observed by default; what is neither is left out of the law.
            bases: of windows met before under the same table, by their times; new ones are put in.
        """
        known = mask.bool()
        wanted = ~known if wanted is None else wanted.bool() & ~known
        x, B = observed.double().flatten(1), len(observed)
        relative = time.double() - time[:, :1].double()
        bases = {} if bases is None else bases
        places: dict[tuple[bytes, bytes, bytes], list[int]] = {}
        for b in range(B):
            key = (known[b].numpy().tobytes(), wanted[b].numpy().tobytes(), relative[b].numpy().tobytes())
            places.setdefault(key, []).append(b)
        covariances: dict[bytes, Tensor] = {}
        found = []
        for (_, _, name), rows in places.items():
            first = rows[0]
            o, h = known[first].flatten().nonzero()[:, 0], wanted[first].flatten().nonzero()[:, 0]
            if not len(h):
                continue
            if name not in covariances:
                if name not in bases:
                    bases[name] = self.basis(relative[first])
                covariances[name] = self.covariance(relative[first], bases[name])
            K = covariances[name]
            root = torch.linalg.cholesky(K[o][:, o])
            half = torch.linalg.solve_triangular(root, K[o][:, h], upper=False)
            white = torch.linalg.solve_triangular(root, x[rows][:, o].T, upper=False).T
            S, size = K[h][:, h] - half.T @ half, white.square().sum(1)
            found.append(Solved(torch.tensor(rows), h, white @ half, S, size, len(o)))
        return tuple(found)

    def posterior(
        self, observed: Tensor, mask: Tensor, time: Tensor, wanted: Tensor | None = None, bases: Bases | None = None
    ) -> Posterior:
        """The law of what is wanted given what is observed; arguments as in `solve`."""
        wanted = ~mask.bool() if wanted is None else wanted.bool() & ~mask.bool()
        return self.posed(self.solve(observed, mask, time, wanted, bases), wanted, observed)

    def posed(self, solved: Sequence[Solved], wanted: Tensor, like: Tensor) -> Posterior:
        """The posterior that these parts make up, with this law's gain, tail and degrees of freedom."""
        mean, std = torch.zeros(wanted.shape, dtype=torch.float64), torch.ones(wanted.shape, dtype=torch.float64)
        parts, (B, _, L) = [], wanted.shape
        for one in solved:
            s = one.S.diagonal().clamp(min=1e-12).sqrt()
            gain = s if self.gain is None else s * self.gain.double().repeat_interleave(L)[one.places]
            if math.isfinite(self.dof):
                gain = gain * ((self.dof + one.size[:, None]) / (self.dof + one.count)).sqrt()
            mean.view(B, -1)[one.rows[:, None], one.places] = one.m
            std.view(B, -1)[one.rows[:, None], one.places] = gain.expand(len(one.rows), -1)
            parts.append((one.rows, one.places, one.S / (s[:, None] * s)))
        return Posterior(mean.to(like), std.to(like), wanted, tuple(parts), self.tail)


@dataclass(frozen=True, eq=False)
class Solved:
    """What kriging gives for windows of one pattern of masks.

    Attributes:
        rows: which windows, (R,).
        places: what is wanted of C L, (H,).
        m: (R, H).
        S: (H, H).
        size: x_o^T K_oo^{-1} x_o, (R,).
        count: n_o.
    """

    rows: Tensor
    places: Tensor
    m: Tensor
    S: Tensor
    size: Tensor
    count: int


@dataclass(frozen=True, eq=False)
class Posterior:
    """N(m, S) of what is wanted of each window.

    Attributes:
        mean, std: m and s, (B, C, L); 0 and 1 where nothing is wanted.
        wanted: (B, C, L).
        parts: for each pattern of masks, its rows, its places in C L, and S / (s s^T).
        tail: b.
    """

    mean: Tensor
    std: Tensor
    wanted: Tensor
    parts: tuple[tuple[Tensor, Tensor, Tensor], ...]
    tail: float = 1.0

    @cached_property
    def spectra(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """c and V of each part."""
        found = (torch.linalg.eigh(R) for _, _, R in self.parts)
        return tuple((values.clamp(min=0.0), vectors) for values, vectors in found)

    def encode(self, x: Tensor) -> Tensor:
        """z = sinh(asinh((x - m) / s) / b) where wanted, 0 elsewhere."""
        return torch.where(self.wanted, bent((x - self.mean) / self.std, 1.0 / self.tail), 0.0)

    def decode(self, z: Tensor) -> Tensor:
        """x = m + s sinh(b asinh z)."""
        return self.mean + self.std * bent(z, self.tail)

    def estimate(self, zt: Tensor, alpha: Coefficient, sigma: Coefficient) -> tuple[Tensor, Tensor]:
        """E[z | z_t] and its standard deviation v, (B, C, L), under the law; 0 and 1 where nothing is wanted."""
        D, v = torch.zeros_like(zt), torch.ones_like(zt)
        flat = zt.reshape(len(zt), -1)
        for (rows, h, _), (values, vectors) in zip(self.parts, self.spectra, strict=True):
            c, V = values.to(zt), vectors.to(zt)
            a, s = (k[rows, None].to(zt) if isinstance(k, Tensor) else k for k in (alpha, sigma))
            level = a**2 * c + s**2
            D.view(len(zt), -1)[rows[:, None], h] = ((flat[rows][:, h] @ V) * (a * c / level)) @ V.T
            spread = (c * s**2 / level).expand(len(rows), -1) @ (V**2).T
            v.view(len(zt), -1)[rows[:, None], h] = spread.clamp(min=1e-12).sqrt()
        return D, v


def bent(z: Tensor, tail: float) -> Tensor:
    """sinh(b asinh z): odd, z itself at b = 1; its inverse has 1 / b.

    Source: Jones and Pewsey 2009 (10.1093/biomet/asp053) eq. 2, without skewness.
    """
    return z if tail == 1.0 else torch.sinh(tail * torch.asinh(z))


class Kriged(Denoiser):
    """E[z | z_t, cond] of z = (x - m) / s: the law's own estimate, and v times what a network adds.

    The network sees, besides what CSDI's sees, m, s and the law's estimate of x_0 at this level as further covariates:
    `net(z_t, level, cond)` with "covariates" (B, F + 3 C, L).

    Args:
        net: as in `recipes.csdi`; None for the law alone.
        law: the kriging.
        process: of z.
        clock: what the network is told of t.
    """

    def __init__(self, net: nn.Module | None, law: Kriging, process: Gaussian, clock: Callable[[Time], Time]) -> None:
        super().__init__()
        self.net, self.law, self.process, self.clock = net, law, process, clock

    def given(self, cond: Any) -> Denoiser:
        """With the posterior computed once."""
        return Posed(self, cond, self.posterior(cond))

    def posterior(self, cond: Mapping[str, Tensor], wanted: Tensor | None = None) -> Posterior:
        """The law's posterior under a condition with "observed", "mask" and "time"."""
        return self.law.posterior(cond["observed"], cond["mask"], cond["time"], wanted)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.at(xt, t, cond, self.posterior(cond))

    def at(self, zt: Tensor, t: Time, cond: Mapping[str, Tensor], posterior: Posterior) -> Estimate:
        """The estimate under a posterior that is known; `aux` holds the law's own and v."""
        process = self.process
        assert isinstance(process, Gaussian)
        D, v = posterior.estimate(zt, process.alpha(t), process.sigma(t))
        if self.net is None:
            return Estimate(D, aux={"law": D, "v": v})
        known = dict(cond)
        seen = known["observed"] * known["mask"]
        shown = [torch.where(posterior.wanted, x, seen) for x in (posterior.mean, posterior.decode(D))]
        parts = [known["covariates"]] if "covariates" in known else []
        known["covariates"] = torch.cat([*parts, *shown, (posterior.std * posterior.wanted).clamp(min=1e-4).log()], 1)
        size = lib(t).sqrt(process.alpha(t) ** 2 + process.sigma(t) ** 2)
        level = torch.as_tensor(self.clock(t), dtype=zt.dtype).expand(len(zt))
        return Estimate(D + v * self.net(zt / expand(size, zt), level, known), aux={"law": D, "v": v})


class Posed(Denoiser):
    """A `Kriged` under one condition."""

    def __init__(self, inner: Kriged, cond: Any, posterior: Posterior) -> None:
        super().__init__()
        self.inner, self.cond, self.posterior, self.process = inner, cond, posterior, inner.process

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.inner.at(xt, t, self.cond, self.posterior)


class KrigedLoss(nn.Module):
    """mean over what is hidden of ((z_0 - E_law[z_0 | z_t]) / v - F)^2: of unit size where the law is right and F = 0.

    Args:
        denoiser: the model.
        hide: what is known (B, C, L) and a stream, to what is given.
        noisy, clean: log SNR of the noisiest and the cleanest level; levels are uniform between them (ours).
    """

    def __init__(self, denoiser: Kriged, hide: Callable[[Tensor, Any], Tensor], *, noisy: float, clean: float) -> None:
        super().__init__()
        self.denoiser, self.hide, self.noisy, self.clean = denoiser, hide, noisy, clean

    def forward(self, x0: Tensor, cond: Mapping[str, Tensor], noise: Any) -> Tensor:
        """The loss of each row, (B,); their mean is the loss of the batch."""
        known = dict(cond)
        valid = known.pop("valid").bool()
        given = self.hide(valid, noise)
        wanted = valid & ~given
        known |= {"observed": torch.where(given, x0, 0.0), "mask": given.to(x0)}
        posterior = self.denoiser.posterior(known, wanted)
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        u = noise.uniform(torch.empty(len(x0), dtype=torch.float64))
        t = process.time_of(self.noisy + (self.clean - self.noisy) * u)
        z0 = posterior.encode(x0)
        zt = process.marginal(z0, t).sample(noise)
        estimate = self.denoiser.at(zt, t, known, posterior)
        assert estimate.aux is not None
        error = wanted * ((z0 - estimate.mean) / estimate.aux["v"]) ** 2
        return len(x0) * error.flatten(1).sum(1) / wanted.sum().clamp(min=1)
