"""What a step costs, without a clock: tensor operations counted, noise not drawn where it would be multiplied by 0."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate
from sfumato.processes import LinearBeta, Rectified
from sfumato.samplers import DDIM, Ancestral, DPMpp2M, Euler, Heun


class Free(Denoiser):
    """The same estimate whatever is asked, at no tensor operation."""

    def __init__(self, mean: Tensor, var: Tensor | None = None) -> None:
        super().__init__()
        self.estimate, self.process = Estimate(mean, var), LinearBeta()

    def forward(self, xt: Tensor, t: Any, cond: Any = None) -> Estimate:
        return self.estimate


class Operations(TorchDispatchMode):
    """Names of the tensor operations that ran inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Silent(sf.Noise):
    """A noise that must not be asked."""

    def _draw(self, like: Tensor, draw: Any) -> Tensor:
        raise AssertionError("noise was drawn for a step without noise")


def operations(sampler: sf.samplers.Sampler, noise: sf.Noise, t: float = 0.5, s: float = 0.4) -> list[str]:
    """Operations of one step whose memory is that of the step before."""
    x, denoiser = torch.ones(2, 3), Free(torch.zeros(2, 3))
    with torch.no_grad():
        xt, memory = sampler.step(denoiser, x, 0.6, t, sampler.init(denoiser, x), sf.Noise(0))
        with Operations() as counted:
            sampler.step(denoiser, xt, t, s, memory, noise)
    return counted.names


@pytest.mark.parametrize("sampler", [DDIM(), Euler(), DPMpp2M(), Heun()], ids=lambda s: type(s).__name__)
def test_a_deterministic_step_costs_no_more_than_by_hand(sampler: sf.samplers.Sampler) -> None:
    # By hand: k_x x and one fused addition of k_D D; one more for extrapolation; two for the corrector's difference.
    by_hand = {DDIM: 2, Euler: 3, DPMpp2M: 3, Heun: 4}
    assert len(operations(sampler, Silent())) <= by_hand[type(sampler)]


@pytest.mark.parametrize("sampler", [DDIM(eta=0.5), Ancestral()], ids=lambda s: type(s).__name__)
def test_a_noisy_step_costs_a_draw_and_an_addition_more(sampler: sf.samplers.Sampler) -> None:
    names = operations(sampler, sf.Noise(0))
    assert len(names) <= 4 and sum("rand" in name for name in names) == 1


def test_the_last_step_draws_nothing() -> None:
    assert len(operations(Ancestral(), Silent(), s=0.0)) == 2


def test_a_step_of_no_length_draws_nothing() -> None:
    operations(Ancestral(), Silent(), t=0.5, s=0.5)


def test_the_loop_adds_no_operation() -> None:
    denoiser, x1, times = Free(torch.zeros(2, 3)), torch.ones(2, 3), sf.grids.uniform(10)
    with Operations() as counted:
        for _ in sf.trajectory(denoiser, DDIM(), x1, times, Silent()):
            pass
    assert len(counted.names) == 2 * 10


def test_a_velocity_costs_two_operations() -> None:
    xt, D = torch.ones(2), torch.zeros(2)
    with Operations() as counted:
        Rectified().velocity(xt, D, 0.5)
    assert len(counted.names) == 2
