"""Times and weights of flow matching and its kin, by their densities and identities; the flow-matching recipe."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, full_world, normal

from sfumato import Noise, grids, recipes, sample
from sfumato.denoisers import predict_flow
from sfumato.processes import Cosine, Rectified
from sfumato.samplers import Euler
from sfumato.training import (
    CosMap,
    LogitNormal,
    Mode,
    Shifted,
    Uniform,
    eps_weight,
    output_weight,
    sigmoid_weight,
    x0_weight,
)
from sfumato.training.times import TimeLaw

N = 200_000


def cdf(law: TimeLaw, at: Tensor) -> Tensor:
    """The share of draws below each number."""
    t = law(Rectified(), N, Noise(0))
    assert t.shape == (N,) and t.dtype == torch.float64 and float(t.min()) >= 0.0 and float(t.max()) <= 1.0
    return (t[:, None] < at).double().mean(0)


AT = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
ERROR = 4 * 0.5 / math.sqrt(N)  # four standard errors of a share


def test_cosmap_has_the_density_of_the_paper() -> None:
    """2 / (pi (1 - 2 t + 2 t^2)), whose integral is 1/2 + 2 / pi atan(2 t - 1)."""
    close(cdf(CosMap(), AT), 0.5 + 2 / math.pi * torch.atan(2 * AT - 1), ERROR)
    # It is the log SNR of the cosine schedule at uniform times.
    u = Noise(0).uniform(torch.empty(N, dtype=torch.float64))[:100].clamp(min=1e-6)
    t = CosMap()(Rectified(), N, Noise(0))[:100]
    close(Rectified().log_snr(t), Cosine(0.0).log_snr(u), 1e-8)


@pytest.mark.parametrize("scale", [0.0, 1.29, -0.8])
def test_mode_law_has_its_density(scale: float) -> None:
    """P(t < f(u)) = 1 - u, for a map f that falls from 1 to 0; the density at the middle grows with the scale."""
    u = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    at = 1 - u - scale * (torch.cos(0.5 * math.pi * u) ** 2 - 1 + u)
    close(cdf(Mode(scale), at), 1 - u, ERROR)
    near = cdf(Mode(scale), torch.tensor([0.48, 0.52], dtype=torch.float64))
    assert (float(near[1] - near[0]) > 0.04) == (scale > 0) or scale == 0.0


def test_shifted_times_move_log_snr_by_twice_the_logarithm() -> None:
    t = LogitNormal()(Rectified(), 100, Noise(0))
    moved = Shifted(LogitNormal(), 3.0)(Rectified(), 100, Noise(0))
    close(Rectified().log_snr(moved), Rectified().log_snr(t) - 2 * math.log(3), 1e-10)
    close(Shifted(Uniform(0.0, 1.0), 1.0)(Rectified(), 100, Noise(0)), Uniform(0.0, 1.0)(Rectified(), 100, Noise(0)))
    # A shifted logit-normal law is one with its mean moved by log k.
    close(cdf(Shifted(LogitNormal(), 3.0), AT), cdf(LogitNormal(math.log(3.0)), AT), ERROR)
    grid = grids.shifted((1.0, 0.5, 0.25, 0.0), 3.0)
    assert grid == pytest.approx((1.0, 0.75, 0.5, 0.0)) and (grid[0], grid[-1]) == (1.0, 0.0)
    with pytest.raises(ValueError, match="factor above 0, got 0"):
        grids.shifted((1.0,), 0.0)


def test_sigmoid_weight_is_the_loss_on_eps_times_a_sigmoid() -> None:
    for log_snr in (-12.0, -1.0, 0.0, 3.0):
        alpha = math.sqrt(1 / (1 + math.exp(-log_snr)))
        sigma = math.sqrt(1 / (1 + math.exp(log_snr)))
        for bias in (-1.0, 2.0):
            expected = math.exp(log_snr) / (1 + math.exp(log_snr - bias))
            assert sigmoid_weight(bias)(alpha, sigma) == pytest.approx(expected, rel=1e-10)
    assert sigmoid_weight()(0.01, 1.0) == pytest.approx(eps_weight(0.01, 1.0), rel=1e-3)
    assert sigmoid_weight(-1.0)(1.0, 1e-4) == pytest.approx(math.exp(-1.0) * x0_weight(1.0, 1e-4), rel=1e-3)
    both = torch.tensor([0.6, 0.8], dtype=torch.float64)
    close(sigmoid_weight(-1.0)(both, both.flip(0))[0], sigmoid_weight(-1.0)(0.6, 0.8))


class Straight:
    """Makes `Recipe` for the tests below."""

    fields: dict[str, Any] = {"channels": 1, "widths": (8,), "blocks": 1}  # noqa: RUF012

    def __new__(cls, **fields: Any) -> Any:  # type: ignore[misc]
        return recipes.load("flow-matching").Recipe(**cls.fields, **fields)


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({}, Uniform(1e-5, 1.0)),
        ({"law": "logit-normal", "mean": 0.3, "std": 0.6}, LogitNormal(0.3, 0.6)),
        ({"law": "mode", "mode": 0.8}, Mode(0.8)),
        ({"law": "cosmap", "shift": 2.0}, Shifted(CosMap(), 2.0)),
    ],
)
def test_recipe_draws_times_by_its_law_and_learns_the_velocity(fields: dict[str, Any], law: TimeLaw) -> None:
    recipe = Straight(**fields)
    torch.manual_seed(0)
    loss = recipe.objective(recipe.model())
    assert loss.times == law
    torch.nn.init.normal_(loss.denoiser.net.leave.weight)
    x0 = normal(4, 1, 4, 4).float()
    value, noise = loss(x0, None, Noise(1)), Noise(1)
    t = law(Rectified(), 4, noise)
    eps = noise.normal(x0)
    s = t.float()[:, None, None, None]
    xt = (1 - s) * x0 + s * eps
    out = loss.denoiser.net(xt / ((1 - s) ** 2 + s**2).sqrt(), t.float())
    close(value.detach(), (eps - x0 - out).square().flatten(1).mean(1).detach(), 1e-3)


def test_recipe_samples_with_euler_on_a_shifted_grid() -> None:
    recipe = Straight(steps=4, shift=3.0)
    assert recipe.times() == grids.shifted(grids.uniform(4), 3.0) and recipe.sampler() == Euler()
    sd3 = recipes.load("flow-matching").Recipe.sd3(2.0)
    assert (sd3.law, sd3.mean, sd3.std, sd3.shift, sd3.steps) == ("logit-normal", 0.0, 1.0, 2.0, 28)
    assert output_weight(predict_flow)(0.3, 0.7) == pytest.approx(1 / 0.49)
    with pytest.raises(ValueError, match=r"law is 'uniform', .* got 'linear'"):
        Straight(law="linear")
    # The exact velocity of the world, Euler by hand.
    D, x = full_world().denoiser(recipe.process()), normal(2, 3)
    out = sample(D, recipe.sampler(), x1=x, times=recipe.times(), noise=Noise(0))
    for t, s in zip(recipe.times(), recipe.times()[1:], strict=False):
        x = x + (s - t) * (x - D(x, t).mean) / t
    close(out, x, 1e-10)


def test_the_command_line_trains_it(tmp_path) -> None:
    import numpy as np
    from typer.testing import CliRunner

    from sfumato.cli.main import app

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(24, 1, 8)).astype("float32"))
    out = tmp_path / "run"
    command = ["train", str(tmp_path / "x.npy"), "-o", str(out), "--recipe", "flow-matching", "--steps", "3"]
    done = CliRunner().invoke(app, [*command, "--batch", "4", "--set", "law=logit-normal"])
    assert done.exit_code == 0, done.output
    import sfumato

    model = sfumato.load(out)
    assert isinstance(model.denoiser.process, Rectified) and model.sample(2, seed=0).shape == (2, 1, 8)
