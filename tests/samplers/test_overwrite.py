"""Overwriting: the seen part is a fresh (or held) draw of q(x_s | y), the rest is left alone, in any basis."""

from __future__ import annotations

import pytest
import torch
from worlds_for_tests import close, full_world, normal, tensor

from sfumato import Measurement, Noise, sample
from sfumato.denoisers import Counted
from sfumato.operators import Function, Gray, Mask
from sfumato.processes import Geometric, LinearBeta
from sfumato.samplers import DDIM, Blend, Chain, Held, Langevin, Overwrite, SNRLangevin, UniPC, trajectory

MASK, Y = tensor(1.0, 0.0, 0.0), tensor(0.8, 0.0, 0.0)


def seen(rows: int) -> Measurement:
    return Measurement(Mask(MASK.bool()), Y.expand(rows, 3), 0.3)


def test_with_a_mask_it_is_blend() -> None:
    D, x = full_world().denoiser(LinearBeta()), normal(4, 3)
    a = sample(D, Overwrite(DDIM(1.0), seen(4)), x1=x, times=(0.9, 0.5, 0.2), noise=Noise(3))
    b = sample(D, Blend(DDIM(1.0), MASK, Y), x1=x, times=(0.9, 0.5, 0.2), noise=Noise(3))
    close(a, b)
    end = sample(D, Overwrite(DDIM(), seen(4)), x1=x, times=(0.9, 0.5, 0.0), noise=Noise(3))
    close(end[:, 0], 0.8)


def test_gray_is_the_papers_colourisation() -> None:
    """Public code: rotate the channels by M, overwrite the first one, rotate back."""
    M = torch.tensor(
        [
            [5.7735014e-01, -8.1649649e-01, 4.7008697e-08],
            [5.7735026e-01, 4.0824834e-01, 7.0710671e-01],
            [5.7735026e-01, 4.0824822e-01, -7.0710683e-01],
        ],
        dtype=torch.float64,
    )
    x, gray, process = normal(2, 3, 4, 4), normal(2, 1, 4, 4, seed=1), LinearBeta()

    class Still(DDIM):
        def step(self, denoiser, xt, t, s, memory, noise):
            return xt, memory

    D = Counted(full_world().denoiser(process))
    out, _ = Overwrite(Still(), Measurement(Gray(), gray, 0.0)).step(D, x, 0.6, 0.4, None, Noise(2))
    known = process.alpha(0.4) * gray.expand(2, 3, 4, 4) + process.sigma(0.4) * Noise(2).normal(x)
    turned, wanted = (torch.einsum("bihw,ij->bjhw", v, M) for v in (x, known))
    turned[:, :1] = wanted[:, :1]
    close(out, torch.einsum("bihw,ij->bjhw", turned, torch.linalg.inv(M)), 1e-6)


def test_held_draws_once_a_level_and_writes_after_each_move() -> None:
    """Algorithm 2 of NCSN by hand; at the end the seen part is y + sigma_L z."""
    process, world, moves, size = Geometric(0.1, 2.0), full_world(), 3, 0.2
    D, x = world.denoiser(process), normal(4, 3)
    times = (1.0, 1.0, 0.5, 0.0)
    steps = list(trajectory(D, Held(Langevin(size, 1), seen(4), moves), x, times, Noise(5)))
    stream, z = Noise(5), x
    for s in times[1:]:
        level = process.sigma(s)
        known = Y + level * stream.normal(z)
        z = torch.where(MASK.bool(), known, z)
        for _ in range(moves):
            score = (D(z, s).mean - z) / level**2
            e = size * level**2
            z = z + e * score + (2 * e) ** 0.5 * stream.normal(z)
            z = torch.where(MASK.bool(), known, z)
    close(steps[-1].x, z, 1e-10)
    close(steps[-1].x[:, 0], known[:, 0])
    assert Held(Langevin(), seen(1)).moves == 100


def test_memory_is_the_inner_samplers() -> None:
    D, x = full_world().denoiser(LinearBeta()), normal(4, 3)
    inner = Chain(UniPC(2), SNRLangevin())
    for sampler in (Overwrite(inner, seen(4)), Held(inner, seen(4), 1)):
        assert sampler.init(D, x) == (None, None)
        memory = list(trajectory(D, sampler, x, (0.9, 0.7, 0.5), Noise(0)))[-1].memory
        assert memory[0] is not None
        assert sampler.restart(D, x, memory) == (None, None)


@pytest.mark.parametrize("make", [Overwrite, Held])
def test_an_operator_that_is_not_linear_is_refused(make: type) -> None:
    bent = Measurement(Function(torch.tanh, (3,)), Y[None], 0.0)
    with pytest.raises(ValueError, match=f"{make.__name__} needs a Linear operator, got Function.*DPS"):
        make(DDIM(), bent)
