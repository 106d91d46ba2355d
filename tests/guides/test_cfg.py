"""Classifier-free guidance: the facts of its card."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import PROCESSES, close, full_world, law_of_marginal, moments, normal, tensor

from sfumato import grids
from sfumato.denoisers import Counted, Denoiser, Estimate
from sfumato.guides import CFG
from sfumato.processes import Anchored, Gaussian, LinearBeta, Time, entry
from sfumato.samplers import Ancestral
from sfumato.worlds import GaussianWorld


class Conditional(Denoiser):
    """The exact denoiser of one world for each class, and of one more without a class."""

    def __init__(self, process: Gaussian, mean: Tensor, mean_null: Tensor, cov: Tensor) -> None:
        super().__init__()
        self.process, self.worlds = process, {True: GaussianWorld(mean, cov), False: GaussianWorld(mean_null, cov)}

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        return self.worlds[cond is not None].denoiser(self.process)(xt, t)


MEAN, NULL = tensor(1.0, -0.5, 0.2), tensor(0.1, 0.3, -0.4)


def conditional(process: Gaussian, cov: Tensor | None = None) -> Conditional:
    return Conditional(process, MEAN, NULL, full_world().covs[0] if cov is None else cov)


@pytest.mark.parametrize(("scale", "cond", "calls"), [(1.0, "class", 1), (0.0, None, 1), (2.0, None, 2)])
def test_scale_one_is_the_conditional_and_zero_the_unconditional(scale: float, cond: Any, calls: int) -> None:
    """Bit for bit, each at one call."""
    inner, x = Counted(conditional(LinearBeta())), normal(4, 3)
    got = CFG(inner, scale)(x, 0.4, "class")
    assert inner.calls == calls
    if calls == 1:
        assert torch.equal(got.mean, inner(x, 0.4, cond).mean)


@pytest.mark.parametrize("name", ["LinearBeta", "EDM", "Rectified", "Anchored.scaled"])
@pytest.mark.parametrize("scale", [3.0, 0.4, -1.0])
def test_normals_of_one_covariance_move_their_mean(name: str, scale: float) -> None:
    """The guided model is exactly the normal of mean m_null + scale (m_c - m_null), at every t."""
    process = PROCESSES[name]
    moved = GaussianWorld(NULL + scale * (MEAN - NULL), full_world().covs[0]).denoiser(process)
    guided, x = CFG(conditional(process), scale), normal(4, 3)
    for t in (0.1, 0.5, 0.95):
        got, want = guided(x, t, "class"), moved(x, t)
        close(got.mean, want.mean)
        close(got.var, want.var)


def test_sampling_the_guided_normal_is_exact() -> None:
    process, cov = PROCESSES["Rectified"], torch.diag(tensor(0.2, 1.0, 0.5))
    guided = CFG(conditional(process, cov), 2.5).given("class")
    mean, var = moments(guided, Ancestral(), grids.uniform(4), *law_of_marginal(GaussianWorld(NULL, cov), process, 1.0))
    close(mean, NULL + 2.5 * (MEAN - NULL), 1e-11)
    close(var, cov.diagonal(), 1e-11)


def test_the_default_scale_is_in_the_convention_of_one_plus_w() -> None:
    x, denoiser = normal(4, 3), conditional(LinearBeta())
    with_c, without = denoiser(x, 0.4, "class").mean, denoiser(x, 0.4).mean
    w = 2.0  # the paper's: (1 + w) D_c - w D_null
    close(CFG(denoiser)(x, 0.4, "class").mean, (1 + w) * with_c - w * without)


def test_the_variance_is_the_conditional_ones() -> None:
    class Known(Denoiser):
        process = LinearBeta()

        def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
            return Estimate(xt, torch.full_like(xt, 1.0 if cond is None else 2.0), {"head": cond})

    got = CFG(Known(), 3.0)(normal(2, 3), 0.5, "class")
    close(got.var, 2.0)
    assert got.aux == {"head": "class"}


def test_null_may_keep_part_of_the_condition_and_the_anchor_stays() -> None:
    seen: list[Any] = []

    class Listener(Denoiser):
        process = Anchored(LinearBeta(), read=entry("image"))

        def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
            seen.append((cond, self.process))
            return Estimate(torch.zeros_like(xt))

    image = normal(1, 3)
    guided = CFG(Listener(), 3.0, null=lambda cond: {**cond, "class": None}).given({"image": image, "class": 4})
    guided(normal(2, 3), 0.5)
    assert {c["class"] for c, _ in seen} == {4, None}
    assert all(c["image"] is image and p.anchor is image for c, p in seen)
    assert guided.process.anchor is image
