"""Numbers of public code on the same inputs, in tests/data/public_bridges.json.

torchcfm (atong01/conditional-flow-matching): paths, targets and plans. JTT94/diffusion_schrodinger_bridge: the recorded
trajectories and targets of the first half round and of a learned one. YangLabHKUST/DGLSB: both stages on N(0, 0.3),
with exact score and ratio. Their draws are replayed.
"""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close

from sfumato.noise import Noise
from sfumato.processes import Anchored, Brownian, Pinned, Rectified
from sfumato.recipes.schrodinger_generative import Recipe, TwoStage
from sfumato.training import couplings
from sfumato.training.chains import Reference, Transitions, walk
from sfumato.worlds import GaussianWorld

PUBLIC = json.loads((Path(__file__).parent.parent / "data" / "public_bridges.json").read_text("utf-8"))


def read(value: list) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


class Replay(Noise):
    """Gives back recorded draws, in their order."""

    def __init__(self, draws: list) -> None:
        self.draws = [read(z) for z in draws]

    def normal(self, like: Tensor) -> Tensor:
        return self.draws.pop(0).reshape(like.shape)


def test_conditional_paths_and_targets_of_torchcfm() -> None:
    x0, x1, eps, t = (read(PUBLIC[k]) for k in ("x0", "x1", "eps", "t"))
    straight = Anchored(Rectified(), x1, scale=0.0)
    xt = straight.perturb(x0, t, eps)
    close(xt, read(PUBLIC["cfm"]["xt"]), 1e-12)
    close((xt - x0) / t[:, None], read(PUBLIC["cfm"]["ut"]), 1e-12)
    close(straight.velocity(xt, x0, t), read(PUBLIC["cfm"]["ut"]), 1e-12)
    bridge = Pinned(Brownian(PUBLIC["sbcfm"]["sigma"]), x1)
    xt = bridge.perturb(x0, t, eps)
    close(xt, read(PUBLIC["sbcfm"]["xt"]), 1e-12)
    close(bridge.velocity(xt, x0, t), read(PUBLIC["sbcfm"]["ut"]), 1e-6)  # theirs adds 1e-8 to a denominator


def test_plans_of_torchcfm() -> None:
    pytest.importorskip("ot")
    a, b, exact = (read(PUBLIC["plan"][k]) for k in ("a", "b", "exact"))
    assert torch.equal(couplings.optimal(a, b, Noise(0))[1], b[exact.argmax(1)])

    class Asked(Noise):
        def choice(self, probs: Tensor) -> Tensor:
            self.probs = probs
            return super().choice(probs)

    noise = Asked(0)
    couplings.Entropic(PUBLIC["plan"]["sigma"] ** 2)(a, b, noise)
    close(noise.probs, read(PUBLIC["plan"]["sinkhorn"]), 1e-6)  # x_1 is drawn for each row by it


def grid() -> tuple[float, ...]:
    return (0.0, *torch.tensor(PUBLIC["dsb"]["gammas"], dtype=torch.float64).cumsum(0).tolist())


def compare(data: Transitions, name: str) -> None:
    """Theirs is (row, step, number), ours step by step; their target is less the state."""
    x, out = (read(PUBLIC[name][k]).transpose(0, 1).flatten(0, 1) for k in ("x", "out"))
    close(data.new, x, 1e-7)
    close(data.target - data.new, out, 1e-7)


def test_first_trajectories_of_the_public_dsb() -> None:
    mean, var = read(PUBLIC["dsb"]["mean"]), read(PUBLIC["dsb"]["var"])
    reference = Reference(grid(), lambda x: -(x - mean) / var)
    compare(Transitions.record(reference, read(PUBLIC["dsb"]["start"]), grid(), Replay(PUBLIC["dsb"]["z"])), "dsb")


@pytest.mark.parametrize("name", ["dsb_mean", "dsb_drift"])
def test_learned_trajectories_of_the_public_dsb(name: str) -> None:
    """Their network is told the time after the step; the last step is without noise, as theirs for samples."""
    after = dict(pairwise(grid()))

    class Learned(Reference):
        def mean(self, x: Tensor, t: float) -> Tensor:
            return 0.9 * x + 0.1 * after[t]

    states = list(walk(Learned(grid()), read(PUBLIC["dsb"]["start"]), grid(), Replay(PUBLIC[name]["z"]), quiet=True))
    close(torch.cat(states), read(PUBLIC[name]["x"]).transpose(0, 1).flatten(0, 1), 1e-7)
    targets = [
        Learned(grid()).mean(x, t) - Learned(grid()).mean(new, t)
        for t, x, new in zip(grid(), [read(PUBLIC["dsb"]["start"]), *states], states)
    ]
    close(torch.cat(targets), read(PUBLIC[name]["out"]).transpose(0, 1).flatten(0, 1), 1e-7)


@torch.no_grad()
def test_both_stages_of_the_public_dglsb() -> None:
    public = PUBLIC["dglsb"]
    s2, tau, K = public["s2"], public["tau"], public["K"]

    class Ratio(torch.nn.Module):
        def forward(self, x: Tensor, c_noise: Tensor, cond: object) -> Tensor:
            normal = torch.distributions.Normal
            return normal(0.0, (s2 + 1) ** 0.5).log_prob(x) - normal(0.0, tau**0.5).log_prob(x)

    world = GaussianWorld(torch.zeros(1).double(), torch.full((1, 1), s2).double())
    model, recipe = TwoStage(world.denoiser(Brownian(1.0)), Ratio()), Recipe.paper(tau=tau, levels=K)
    one = recipe.first(model, torch.zeros(3, 1).double(), Replay(public["z1"]))
    close(one.flatten(), read(public["one"]), 1e-6)
    two = recipe.second(model, read(public["start"]).reshape(3, 1), Replay(public["z2"]))
    last = two + model.score(two, 1 / K) / K
    close(last.flatten(), read(public["two"]), 1e-6)
