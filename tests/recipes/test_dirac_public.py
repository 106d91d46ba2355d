"""Our updates of DiracDiffusion on the inputs of `public/README.md`, against what the public code made of them."""

from pathlib import Path

import pytest
import torch
from public_codes import kept

import sfumato as sf
from sfumato.denoisers import Denoiser
from sfumato.recipes.dirac import Degrading, Hole, Recipe, Reconstruct
from sfumato.samplers import sample

DATA = kept(Path(__file__).parent / "public" / "dirac.npz")


class Fading(Denoiser):
    """D = 0.9 sin x_t + 0.2 t where A_t is the product with exp(-2 t c)."""

    process = Degrading(lambda x, t: x * torch.exp(-2.0 * t * DATA["c"]), 0.01, 0.05)

    def forward(self, xt, t, cond=None):
        return sf.Estimate(0.9 * torch.sin(xt) + 0.2 * t)


class Same(sf.Noise):
    def normal(self, like):
        return DATA["z"]


@pytest.mark.parametrize(
    ("run", "grid", "guided"),
    [
        ("blur", Recipe(dt=0.1), {"guidance": 0.5}),
        ("hole", Recipe(dt=0.05, stop=0.0), {"guidance": 20.0, "relative": True, "clean": False}),
        ("plain", Recipe(dt=0.1, stop=0.5), {"guidance": 0.0, "clean": False}),
    ],
    ids=["blur", "hole", "plain"],
)
def test_the_whole_run(run, grid, guided):
    """The result and the times. Their guidance has the sign that leads away from y, so here it is below 0."""
    times = grid.times()
    torch.testing.assert_close(torch.tensor(times[1:], dtype=torch.float64), DATA[f"times_{run}"], atol=1e-12, rtol=0)
    sampler = Reconstruct(DATA["y"], times[-1], **{**guided, "guidance": -guided["guidance"]})
    got = sample(Fading(), sampler, x1=DATA["y"], times=times, noise=Same(0))
    torch.testing.assert_close(got, DATA[run], atol=1e-10, rtol=0)


def test_the_hole():
    """Within four of its widths along both axes, beyond which theirs ends: 1 - exp(-8) to the fourth power is there."""
    at = (torch.arange(16) - 8).abs()
    far = torch.maximum(at[:, None], at)
    for mask, t in zip(DATA["masks"], (0.0, 0.1, 0.5, 1.0), strict=True):
        ours = Hole(high=4.0)(torch.ones(1, 1, 16, 16).double(), t)[0, 0]
        near = far <= 4 * (0.1 + 3.9 * t)
        torch.testing.assert_close(ours[near], mask[near], atol=1e-6, rtol=0)
        torch.testing.assert_close(ours, mask, atol=4.2 * 3.4e-4, rtol=0)
