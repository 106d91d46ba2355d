"""DDRM: denoising diffusion restoration models (Kawar et al. 2022, 2201.11793).

In the singular basis of A = U S V^T each direction j is a scalar problem: y_j = (S^+ U^T y)_j sees x_j with noise
k_j = sigma_y / s_j (infinite where s_j = 0). In the levels of the process, a step from t to s is

    s_j = 0:                 x_j = alpha_s D_j + sigma_s (sqrt(1 - eta^2) eps_j + eta z_j)
    sigma_s < alpha_s k_j:   x_j = alpha_s D_j + sigma_s (sqrt(1 - eta^2) (y_j - D_j) / k_j + eta z_j)
    sigma_s >= alpha_s k_j:  x_j = alpha_s (D_j + eta_b (y_j - D_j)) + sqrt(sigma_s^2 - (eta_b alpha_s k_j)^2) z_j

which is the paper's eq. 7 and 8 with x / alpha written out, so that alpha(1) = 0 needs no care.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser
from sfumato.noise import Noise
from sfumato.operators import Measurement, Spectral
from sfumato.processes import Gaussian, Time
from sfumato.samplers import Times
from sfumato.solvers.base import Solver, indexed, share
from sfumato.solvers.ratio import weights


class Directions(NamedTuple):
    """A measurement direction by direction; each broadcasts to V^T x.

    Attributes:
        y: S^+ U^T y, 0 where A sees nothing.
        k: sigma_y / s, infinite where A sees nothing.
        hidden: 1 where A sees nothing, else 0.
    """

    y: Tensor
    k: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class DDRM(Solver):
    """Denoising in the singular basis of A; noiseless measurements are met exactly.

    Never exact: the fixed share of fresh noise loses variance even where A sees nothing (`ratio`), and directions that
    A sees follow y until sigma = alpha k. With eta_b = 1 it is DDNM+. Times are the paper's, 0, 50, ..., 950 of a table
    of 1000, and uniform on other processes. A time is shared by the batch.

    Args:
        steps: network evaluations.
        eta: share of fresh noise.
        eta_b: weight of y against D where y is sharper than the state.

    Source: Kawar et al. 2022 (2201.11793) eq. 7 and 8, section 5 for the defaults.
    """

    steps: int = 20
    eta: float = 0.85
    eta_b: float = 1.0
    needs = Spectral

    def __post_init__(self) -> None:
        share(self, "eta", "eta_b")

    def times(self, process: Gaussian) -> Times:
        return indexed(process, self.steps, "leading")

    def start(self, denoiser: Denoiser, m: Measurement, t: Time, noise: Noise) -> Tensor:
        process, like = denoiser.process, self.like(denoiser, m)
        assert isinstance(process, Gaussian)
        return spectral_start(denoiser, m, like, t, directions(m, process, like), noise)

    def init(self, denoiser: Denoiser, m: Measurement, xt: Tensor) -> Directions:
        process = denoiser.process
        assert isinstance(process, Gaussian)
        return directions(m, process, xt)

    def step(
        self, denoiser: Denoiser, m: Measurement, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise
    ) -> tuple[Tensor, Any]:
        return spectral_step(denoiser, m, xt, t, s, memory, noise, eta=self.eta, eta_b=self.eta_b), memory


def directions(m: Measurement, process: Gaussian, like: Tensor, least: float = 0.0) -> Directions:
    """What the measurement says in the singular basis, in the dtype of `like`; directions with s <= least are unseen.

    Raises:
        ValueError: if the noise of the process differs from element to element, which singular directions mix.
    """
    if not isinstance(process.scale, float):
        raise ValueError(
            "a spectral solver needs one noise level for all elements, this process scales each. Use MMPS."
        )
    operator = m.operator
    assert isinstance(operator, Spectral)
    s = operator._s(like)
    seen = s > least
    inverse = torch.where(seen, 1.0 / s, 0.0)  # complex numbers are divided by real ones ten times as slowly
    return Directions(operator.Ut(m.y) * inverse, torch.where(seen, m.sigma * inverse, torch.inf), (~seen).to(s.dtype))


def spectral_start(
    denoiser: Denoiser, m: Measurement, like: Tensor, t: Time, known: Directions, noise: Noise
) -> Tensor:
    """alpha y_j + sqrt(sigma^2 - alpha^2 k_j^2) z_j where y is sharper than the level, sigma z_j elsewhere."""
    process, operator = denoiser.process, m.operator
    assert isinstance(process, Gaussian) and isinstance(operator, Spectral)
    alpha, level = process.alpha(t), process.sigma(t)
    floor = alpha * known.k
    sharp = floor <= level  # false where floor is 0 inf
    std = torch.where(sharp, (level**2 - floor**2).sqrt(), level)
    x = operator.V(torch.addcmul(torch.where(sharp, alpha * known.y, 0.0), std, operator.Vt(noise.normal(like))))
    shift = process.shift(t, like)
    return x + shift if isinstance(shift, Tensor) else x


def spectral_step(
    denoiser: Denoiser,
    m: Measurement,
    xt: Tensor,
    t: Time,
    s: Time,
    known: Directions,
    noise: Noise,
    *,
    eta: float,
    eta_b: float,
    eta_c: float | None = None,
    D: Tensor | None = None,
) -> Tensor:
    """x_s of the three rules at the head of this file, as c_x x_t + c_D D + c_y y + c_z z in each direction.

    Args:
        eta_c: weight of (y - D) / k where y is less sharp than the state, beside sqrt(1 - eta_c^2) z;
            sqrt(1 - eta^2) unless given.
        D: the estimate at x_t, where it is known already.
    """
    process, operator = denoiser.process, m.operator
    assert isinstance(process, Gaussian) and isinstance(operator, Spectral)
    D = denoiser(xt, t).mean if D is None else D
    k_x, _, std = weights(process, t, s, eta)
    eta_c = (1.0 - eta**2) ** 0.5 if eta_c is None else eta_c
    alpha, level, shift = process.alpha(s), process.sigma(s), process.shift(t, xt)
    floor = alpha * known.k
    sharp = floor <= level
    c_x = k_x * known.hidden
    c_y = torch.where(sharp, eta_b * alpha, eta_c * level / known.k)
    u = operator.Vt(xt - shift if isinstance(shift, Tensor) else xt)
    x = torch.addcmul(c_x * u, alpha - c_y - process.alpha(t) * c_x, operator.Vt(D))
    x = torch.addcmul(x, c_y, known.y)
    if level > 0.0:
        fresh = (1.0 - eta_c**2) ** 0.5 * level
        blurred = fresh + known.hidden * (std - fresh)
        c_z = torch.where(sharp, (level**2 - (eta_b * floor) ** 2).sqrt(), blurred)
        x = torch.addcmul(x, c_z, operator.Vt(noise.normal(xt)))
    x, shift = operator.V(x), process.shift(s, xt)
    return x + shift if isinstance(shift, Tensor) else x


Recipe = DDRM
