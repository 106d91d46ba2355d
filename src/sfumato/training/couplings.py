"""Couplings: which noise (or which end) goes with which data. Functions `(x0, x1, noise) -> (x0, x1)`.

x_0 stays in its place, so that labels still belong to it; x_1 is put in order, or drawn anew. A coupling sees the whole
batch, so a pair depends on its companions, unlike everything else in training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.noise import Noise

Coupling = Callable[[Tensor, Tensor, Noise], tuple[Tensor, Tensor]]


def independent(x0: Tensor, x1: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """The pairs as they come."""
    return x0, x1


def optimal(x0: Tensor, x1: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
    """x_1 in the order that makes sum |x_0 - x_1|^2 least: optimal transport of the minibatch; needs the extra `ot`.

    The plan of two uniform batches of one size is a permutation; the public code of the paper draws pairs from it with
    replacement, here each is taken once (ours). Source: Tong et al. 2024 (2302.00482) section 3.2.3.

    Raises:
        ValueError: for batches of different sizes.
        ImportError: without POT.
    """
    if len(x0) != len(x1):
        raise ValueError(f"an assignment needs as many x_1 as x_0, got {len(x1)} and {len(x0)}.")
    plan = _pot().emd([], [], _cost(x0, x1))
    return x0, x1[torch.from_numpy(plan.argmax(1)).to(x1.device)]


@dataclass(frozen=True)
class Entropic:
    """x_1 drawn for each x_0 from the row of the entropic plan, cost |x_0 - x_1|^2 and temperature 2 variance.

    It is the static Schroedinger bridge of the two batches under Brownian motion of this variance. Needs the extra
    `ot`. The rows of x_0 stay, where the public code draws both ends from the plan (ours).
    Source: Tong et al. 2024 (2307.03672) proposition 3.1 and algorithm 1.

    Args:
        variance: of the reference between its ends, sigma^2.
    """

    variance: float

    def __call__(self, x0: Tensor, x1: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        ot = _pot()
        plan = ot.sinkhorn(ot.unif(len(x0)), ot.unif(len(x1)), _cost(x0, x1), 2.0 * self.variance, "sinkhorn_log")
        return x0, x1[noise.choice(torch.from_numpy(plan)).to(x1.device)]


@dataclass(frozen=True)
class Exact:
    """x_1 drawn given x_0 from the Schroedinger bridge of two normals under Brownian motion; the x_1 given is not used.

        Cov[x_0, x_1] = C = 1/2 (S_0^(1/2) (4 S_0^(1/2) S_1 S_0^(1/2) + v^2)^(1/2) S_0^(-1/2) - v),
        x_1 | x_0 ~ N(m_1 + C^T S_0^{-1} (x_0 - m_0), S_1 - C^T S_0^{-1} C).

    With v = 0 it is the optimal transport map, and nothing is drawn. In one dimension C = (sqrt(4 s_0^2 s_1^2 + v^2) -
    v) / 2. Source: Janati et al. 2020 (2006.02572) theorem 1; Bunne et al. 2023 (2202.05722) theorem 3.

    Args:
        mean0, cov0: (d,), (d, d), positive definite.
        mean1, cov1: (d,), (d, d).
        variance: v, of the reference between its ends.
    """

    mean0: Tensor
    cov0: Tensor
    mean1: Tensor
    cov1: Tensor
    variance: float = 0.0

    def cross(self) -> Tensor:
        """Cov[x_0, x_1], (d, d)."""
        eye = torch.eye(len(self.cov0), dtype=self.cov0.dtype)
        c, U = torch.linalg.eigh(self.cov0)
        root, inverse = U * c.sqrt() @ U.T, U / c.sqrt() @ U.T
        e, Q = torch.linalg.eigh(4.0 * root @ self.cov1 @ root + self.variance**2 * eye)
        return 0.5 * (root @ (Q * e.clamp(min=0).sqrt() @ Q.T) @ inverse - self.variance * eye)

    def __call__(self, x0: Tensor, x1: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        C = self.cross()
        gain = torch.linalg.solve(self.cov0, C).T
        mean = self.mean1 + (x0.flatten(1) - self.mean0) @ gain.T
        if self.variance > 0.0:
            c, U = torch.linalg.eigh(self.cov1 - gain @ C)
            mean = mean + noise.normal(mean) @ (U * c.clamp(min=0).sqrt()).T
        return x0, mean.reshape(x0.shape)


def _cost(x0: Tensor, x1: Tensor) -> Any:
    a, b = (v.detach().flatten(1).double().cpu() for v in (x0, x1))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()


def _pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise ImportError("optimal transport of minibatches needs POT: pip install 'sfumato[ot]'.") from error
    return ot
