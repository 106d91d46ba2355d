"""The driver: what it yields, where it starts, which way it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import ANCHOR, close, mixture_world, normal, point_world, tensor

from sfumato import grids
from sfumato.denoisers import Counted, Denoiser
from sfumato.noise import Noise
from sfumato.processes import EDM, Anchored, LinearBeta, Time
from sfumato.samplers import DDIM, DPMpp2M, Sampler, Step, blank, sample, trajectory


@dataclass(frozen=True)
class Diary(Sampler):
    """Moves nothing; its memory is the list of what it was asked."""

    def init(self, denoiser: Denoiser, xt: Tensor) -> Any:
        assert denoiser.process is not None and xt.shape == (2, 3)
        return ("init",)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        return xt + 1, (*memory, (t, s))


def test_steps_in_order() -> None:
    denoiser, x1 = point_world().denoiser(LinearBeta()), normal(2, 3)
    steps = list(trajectory(denoiser, Diary(), x1, (0.9, 0.5, 0.2), Noise(0)))
    assert [step.index for step in steps] == [0, 1, 2]
    assert [step.time for step in steps] == [0.9, 0.5, 0.2]
    assert steps[0].x is x1 and steps[0].memory == ("init",)
    assert steps[2].memory == ("init", (0.9, 0.5), (0.5, 0.2))
    close(steps[2].x, x1 + 2)
    assert isinstance(steps[0], Step)


def test_upwards_is_the_forward_law_and_restarts() -> None:
    process = LinearBeta()
    denoiser, x1 = point_world().denoiser(process), normal(2, 3)
    steps = list(trajectory(denoiser, Diary(), x1, (0.5, 0.2, 0.6, 0.1), Noise(4)))
    assert steps[2].memory == ("init",) and steps[3].memory == ("init", (0.6, 0.1))
    close(steps[2].x, process.forward(x1 + 1, 0.2, 0.6).sample(Noise(4)), 0.0)


def test_restart_may_keep_the_memory() -> None:
    class Keeper(Diary):
        def restart(self, denoiser: Denoiser, xt: Tensor, memory: Any) -> Any:
            return (*memory, "up")

    denoiser = point_world().denoiser(LinearBeta())
    *_, last = trajectory(denoiser, Keeper(), normal(2, 3), (0.5, 0.2, 0.6), Noise(4))
    assert last.memory == ("init", (0.5, 0.2), "up")


def test_dpmpp_forgets_its_history_on_the_way_up() -> None:
    denoiser, noise = mixture_world().denoiser(LinearBeta()), Noise(4)
    steps = list(trajectory(denoiser, DPMpp2M(), normal(2, 3), (0.5, 0.4, 0.6, 0.5), noise))
    assert steps[1].memory is not None and steps[2].memory is None
    close(steps[3].x, sample(denoiser, DDIM(), x1=steps[2].x, times=(0.6, 0.5), noise=Noise(0)))


def test_gradients_only_when_asked() -> None:
    denoiser = mixture_world().denoiser(LinearBeta())
    x1, times = normal(2, 3).requires_grad_(), (0.9, 0.5, 0.2)
    assert not sample(denoiser, DDIM(), x1=x1, times=times, noise=Noise(0)).requires_grad
    for denoise in (False, True):
        x = sample(denoiser, DDIM(), x1=x1, times=times, noise=Noise(0), grad=True, denoise=denoise)
        (g,) = torch.autograd.grad(x[0, 0], x1)
        h = 1e-6 * torch.eye(3, dtype=torch.float64)[1]
        ends = [
            sample(denoiser, DDIM(), x1=x1.detach() + d, times=times, noise=Noise(0), denoise=denoise) for d in (h, -h)
        ]
        close(g[0, 1], (ends[0] - ends[1])[0, 0] / 2e-6, 1e-7)
        close(g[1], 0.0)
        assert not ends[0].requires_grad
    # a caller's own setting is restored between the steps
    run = trajectory(denoiser, DDIM(), x1, times, Noise(0))
    for _ in run:
        assert torch.is_grad_enabled()


def test_the_start_is_drawn_from_the_prior() -> None:
    for process in (EDM(), Anchored(LinearBeta(), ANCHOR.float())):
        denoiser = mixture_world().denoiser(process)
        noise = Noise(3)
        start = process.prior(torch.zeros(4, 3)).sample(noise)
        want = sample(denoiser, DDIM(), x1=start, times=grids.uniform(3), noise=noise)
        got = sample(denoiser, DDIM(), shape=(4, 3), times=grids.uniform(3), noise=Noise(3))
        assert got.dtype == torch.get_default_dtype()
        close(got, want, 0.0)


def test_one_more_call_to_denoise() -> None:
    """sigma(0) = 0.002 of EDM stays in the sample unless asked; the call is counted."""
    world = point_world()
    counted = Counted(world.denoiser(EDM()))
    start = 80 * normal(4, 3)
    noisy = sample(counted, DDIM(), x1=start, times=grids.uniform(3), noise=Noise(0))
    assert counted.calls == 3
    close(noisy - world.mean, 0.002 / 80 * (start - world.mean), 1e-10)
    close(
        sample(counted, DDIM(), x1=start, times=grids.uniform(3), noise=Noise(0), denoise=True), world.mean.expand(4, 3)
    )
    assert counted.calls == 7


def test_exactly_one_start() -> None:
    denoiser = point_world().denoiser(LinearBeta())
    for start in ({}, {"shape": (2, 3), "x1": normal(2, 3)}):
        with pytest.raises(ValueError, match=r"give either `shape` .* or `x1`"):
            sample(denoiser, DDIM(), times=grids.uniform(2), noise=Noise(0), **start)
    for times in ((0.5, 0.0), torch.tensor([[1.0, 0.5], [0.0, 0.0]])):
        with pytest.raises(
            ValueError, match=r"the grid starts at t = .*, where the prior is not the law of x_t: give `x1`"
        ):
            sample(denoiser, DDIM(), shape=(2, 3), times=times, noise=Noise(0))
    times = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert sample(denoiser, DDIM(), shape=(2, 3), times=times, noise=Noise(0)).shape == (2, 3)


def test_one_time_is_the_start_itself() -> None:
    x1 = normal(2, 3)
    assert sample(point_world().denoiser(LinearBeta()), DDIM(), x1=x1, times=(0.5,), noise=Noise(0)) is x1


def test_blank_has_the_device_of_parameters_or_buffers() -> None:
    denoiser = point_world().denoiser(LinearBeta())
    assert blank(denoiser, [2, 3]).device.type == "cpu"
    denoiser.register_buffer("table", torch.zeros(1, device="meta"))
    assert blank(denoiser, (2, 3)).device.type == "meta"
    denoiser.weight = torch.nn.Parameter(torch.zeros(1))
    assert blank(denoiser, (2, 3)).device.type == "cpu"
    assert torch.equal(blank(point_world().denoiser(EDM()), (1,)), tensor(0.0).float())
