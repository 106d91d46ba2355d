"""DPnP: provably robust posterior sampling for plug-and-play reconstruction (Xu & Chi 2024, 2403.17042)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.solvers.pnp_dm import PnPDM


@dataclass(frozen=True)
class DPnP(PnPDM):
    """The split Gibbs sampler of `PnPDM`, found independently, with its own annealing of eta_k (rho) from 0.5 to 0.1.

    Its total variation to the posterior is bounded by the errors of the score and by eta_k. The prior draw is DDS-DDPM:
    the reverse chain from the level eta_k; the likelihood draw is exact where A is linear, and elsewhere Langevin moves
    without the paper's accept step. The widths and their decay are ours: the paper's vary by task.

    Source: Xu & Chi 2024 (2403.17042) algorithms 1 to 3.
    """

    steps: int = 40
    rho: float = 0.1
    first: float = 0.5
    prior_steps: int = 50


Recipe = DPnP
