"""ARDM beside its public code: google-research/autoregressive_diffusion (Apache-2.0), ao_arm.py at 1d4d2f1.

`ardm_public.json` holds sequences, orders, numbers of known positions, the weights of a linear network of logits,
and what a transcription of that code's `elbo` makes of them under jax in float64 (bits per dimension: the bound, its
term, the plain cross-entropy), its mask at K.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise
from sfumato.processes import Discrete, Time
from sfumato.training import OrderAgnostic

KEPT = json.loads((Path(__file__).parent / "ardm_public.json").read_text("utf-8"))
pytestmark = pytest.mark.usefixtures("double")


class Linear(Denoiser):
    """softmax of sum_i W[i, x_i]."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights, self.process = weights, Discrete(weights.shape[1], absorbing=weights.shape[1] - 1)

    def forward(self, xt: Tensor, t: Time, cond: object = None) -> Estimate:
        seen = torch.nn.functional.one_hot(xt, self.weights.shape[1]).to(self.weights)
        p = torch.softmax(torch.einsum("bik,ikjl->bjl", seen, self.weights), -1)
        return Estimate(torch.nn.functional.pad(p, (0, 1)))


class Scripted(Noise):
    """Gives the kept numbers of known positions, then the kept orders."""

    def __init__(self, *draws: Tensor) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def uniform(self, like: Tensor) -> Tensor:
        draw = self.draws.pop(0)
        assert draw.shape == like.shape
        return draw


@pytest.mark.parametrize("weight", [0.0, 0.001, 0.5])
def test_loss_is_that_of_the_public_code(weight: float) -> None:
    x0, place = torch.tensor(KEPT["x"]), torch.tensor(KEPT["sigmas"])
    known, D = torch.tensor(KEPT["t"]), x0.shape[1]
    denoiser = Linear(torch.tensor(KEPT["weights"], dtype=torch.float64))
    noise = Scripted((known + 0.5) / D, place.double() / D)  # position i comes as number place[i]
    loss = OrderAgnostic(denoiser, weight)(x0, None, noise)
    theirs = -torch.tensor(KEPT["elbo"]) - weight * torch.tensor(KEPT["nce"])
    assert torch.allclose(loss, theirs.double(), rtol=1e-9)
    per_step = -torch.tensor(KEPT["elbo_per_t"]).double() * D  # the bound is the mean of D terms of one position each
    assert torch.allclose(
        OrderAgnostic(denoiser, 0.0)(x0, None, Scripted((known + 0.5) / D, place.double() / D)), per_step
    )
