"""EDM's sampler, preconditioning and loss against numbers of its public code (`public/README.md`)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from public_codes import Given, kept, two_normals
from torch import Tensor, nn

from sfumato import grids, sample
from sfumato.denoisers import MeanOnly, Parameterization, Preconditioned, edm, predict_eps, predict_score
from sfumato.noise import Noise
from sfumato.processes import EDM, Gaussian, LinearBeta, Table
from sfumato.samplers import DDIM, Heun
from sfumato.training import Denoising, LogNormal, edm_weight

DATA = kept(Path(__file__).parent / "public" / "edm.npz")
STEPS = 18
# The range of the public code, where a state may be churned beyond the first level and the last step goes to 0.
WIDE = EDM(0.0, 120.0)
# Their last step but one falls by more than our guard, 10, on grids that are not Karras': we stay at first order there.
FREE = Heun(guard=1e9)


def levels(process: Gaussian, times: tuple[float, ...]) -> list[float]:
    return [process.sigma(t) / process.alpha(t) for t in times]


def ran(process: Gaussian, sampler: Any, times: tuple[float, ...], noise: Noise | None = None) -> Tensor:
    """The end of a run from their start, which is in the unit of x / alpha."""
    D = MeanOnly(two_normals().denoiser(process))
    first = levels(process, times[:1])[0]
    x1 = process.alpha(times[0]) * first * DATA["x"]
    return sample(D, sampler, x1=x1, times=times, noise=noise or Noise(0), denoise=process.sigma(times[-1]) > 0)


def wide() -> tuple[float, ...]:
    return grids.karras(WIDE, STEPS, start=WIDE.time_of(-2 * math.log(80.0)))


def test_deterministic() -> None:
    """On the paper's process, and on one that holds its levels in a wider range."""
    torch.testing.assert_close(ran(EDM(), Heun(), grids.uniform(STEPS - 1)), DATA["heun"], rtol=0, atol=1e-11)
    torch.testing.assert_close(ran(WIDE, Heun(), wide()), DATA["heun"], rtol=0, atol=1e-11)
    torch.testing.assert_close(ran(WIDE, DDIM(), wide()), DATA["ab_euler"], rtol=0, atol=1e-11)


def test_churn_within_a_range() -> None:
    """S_churn 5, S_min 0.05, S_max 50, S_noise 1.003. They draw in every step, we where something is added."""
    times = grids.uniform(STEPS - 1)
    churned = [0.05 <= level <= 50.0 for level in levels(EDM(), times)]
    assert 3 < sum(churned) < STEPS
    noise = Given(z for z, used in zip(DATA["z"], churned, strict=True) if used)
    sampler = Heun(5.0 / STEPS, 0.05, 50.0, 1.003)
    torch.testing.assert_close(ran(EDM(), sampler, times, noise), DATA["churn"], rtol=0, atol=1e-11)


def test_churn_everywhere() -> None:
    """S_churn 30, so gamma at its bound sqrt(2) - 1, and S_noise 1.007, the first and the last step among them.

    The paper's process ends at sigma = 0.002 and 80, and neither adds noise above 80 nor churns before the last call
    (`denoise`): there the same settings give another sample of the same law.
    """
    sampler = Heun(math.sqrt(2) - 1, churn_noise=1.007)
    torch.testing.assert_close(ran(WIDE, sampler, wide(), Given(DATA["z"])), DATA["churn_all"], rtol=0, atol=1e-11)
    narrow = ran(EDM(), sampler, grids.uniform(STEPS - 1), Given(DATA["z"][1:]))
    assert (narrow - DATA["churn_all"]).abs().max() > 1e-4


@pytest.mark.parametrize(("name", "sampler"), [("vp", FREE), ("vp_euler", DDIM())])
def test_their_vp_levels_are_ours(name: str, sampler: Any) -> None:
    """Their run in x / alpha is ours in x, on the VP process itself, at N equal times from 1 to 1e-3."""
    times = (*grids.uniform(STEPS - 1, end=1e-3), 0.0)
    seen = DATA[f"ab_{name}_levels"]
    seen = seen[[0, *range(1, len(seen), 2)]] if name == "vp" else seen  # Heun asks twice at each level but the first
    torch.testing.assert_close(
        torch.tensor(levels(LinearBeta(), times[:-1]), dtype=torch.float64), seen, rtol=1e-9, atol=0
    )
    torch.testing.assert_close(ran(LinearBeta(), sampler, times), DATA[f"ab_{name}"], rtol=0, atol=1e-10)


def test_their_iddpm_levels_are_the_cosine_table() -> None:
    """C_1 = 0.001 and C_2 = 0.008 are the clip and the offset of `Table.cosine`; states are ours at these levels."""
    table = Table.cosine(1000)
    seen = DATA["ab_iddpm_levels"][[0, *range(1, 35, 2)]]
    times = tuple(round(1000 * table.time_of(-2 * math.log(level))) / 1000 for level in seen.tolist())
    torch.testing.assert_close(torch.tensor(levels(table, times), dtype=torch.float64), seen, rtol=1e-9, atol=0)
    got = ran(table, FREE, (*times, 0.0))
    torch.testing.assert_close(got, DATA["ab_iddpm"], rtol=0, atol=1e-10)


class Fixed(nn.Module):
    """0.4 tanh(u) + 0.1 c_noise, in float32 as there."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, u: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        return 0.4 * torch.tanh(u) + 0.1 * c_noise.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("name", "process", "scheme", "clock"),
    [
        ("edm", EDM(), edm(0.5), None),
        ("vp", LinearBeta(), predict_eps, lambda t: 999 * t),
        # log(sigma / 2); our own clock of this scheme is the log SNR
        ("ve", EDM(), predict_score, lambda t: torch.log(0.5 * EDM().sigma(t))),
    ],
)
def test_preconditioning(name: str, process: Gaussian, scheme: Parameterization, clock: Any) -> None:
    """A level for each row, from 0.003 to 70, in the unit of x / alpha."""
    t = process.time_of(-2 * DATA["pre_sigma"].double().log())
    alpha = process.alpha(t).reshape(-1, 1, 1, 1)
    xt = alpha * DATA["pre_x"].float().double()
    got = Preconditioned(Fixed(), process, scheme, clock=clock)(xt, t).mean.detach()
    # An error of float32 in F is multiplied by c_out, sigma for the last two; the clock of "vp" is near 999 itself.
    size = 1.0 if name == "edm" else 1.0 + DATA["pre_sigma"].reshape(-1, 1, 1, 1)
    gap = ((got - DATA[f"pre_{name}"]) / size).abs().max()
    assert gap < (1e-4 if name == "vp" else 2e-6)


def test_loss() -> None:
    """Element by element there, the mean over the event here."""
    denoiser = Preconditioned(Fixed(), EDM(), edm(0.5))
    noise = Given([DATA["loss_u"], DATA["loss_n"]])
    got = Denoising(denoiser, LogNormal(-1.2, 1.2), edm_weight(0.5))(DATA["loss_x0"], None, noise)
    torch.testing.assert_close(got.detach(), DATA["loss"].flatten(1).mean(1), rtol=1e-5, atol=0)
