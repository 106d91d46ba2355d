"""PyDiff: a switch of size inside a run, what its law lacks by a recursion, and a corrector of colours."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from worlds_for_tests import close, normal, shaken

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser, Estimate
from sfumato.nets.corrector import Corrector
from sfumato.noise import Noise, Seeds
from sfumato.processes import Table
from sfumato.recipes.pydiff import Corrected, Pyramid, Recipe
from sfumato.samplers import DDIM, sample, trajectory
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,)}


class Blocks(Denoiser):
    """Exact for pictures constant on blocks of 2 x 2, each value N(0, v): a block's four pixels tell of one number."""

    def __init__(self, v: float, process: Table) -> None:
        super().__init__()
        self.v, self.process = v, process
        self.asked: list[tuple[int, float]] = []

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        self.asked.append((xt.shape[-1], t))
        a, s2 = self.process.alpha(t), self.process.sigma(t) ** 2
        n = 1 if xt.shape[-1] == 1 else 4
        seen = xt.mean((-1, -2), keepdim=True).expand_as(xt)
        gain = n * a * self.v / (n * a * a * self.v + s2)
        return Estimate(gain * seen, torch.full_like(xt, self.v * s2 / (n * a * a * self.v + s2)))


def by_hand(v: float, bars: list[float], switch: int, *, spread: bool = False) -> float:
    """Variance of a pixel's draw. The state of a block is (common c, within w): DDPM steps act on c with the gain of
    one number seen n times; at step `switch` the state is alpha up(D) + sigma n."""
    c, w = 1.0, 0.0  # variances: of the block's mean, and of a pixel about it (times 4/3)
    for k, (bar, after) in enumerate(zip(bars, [*bars[1:], 1.0], strict=True)):
        n = 1 if k < switch else 4
        alpha, a, s2 = bar / after, math.sqrt(bar), 1 - bar
        gain = n * a * v / (n * bar * v + s2)
        if k == switch - 1:
            left = v * s2 / (n * bar * v + s2) if spread else 0.0
            c, w = after * (gain**2 * c + left) + (1 - after) / 4, (1 - after) * 3 / 4
            continue
        kD = math.sqrt(after) * (1 - alpha) / s2
        kx = math.sqrt(alpha) * (1 - after) / s2
        fresh = (1 - after) / s2 * (1 - alpha)
        c = (kx + kD * gain) ** 2 * c + fresh / n
        w = kx**2 * w + (fresh * 3 / 4 if n == 4 else 0.0)
    return c + w


@pytest.mark.parametrize(
    ("switch", "v", "known"),
    [(0.7, 1.0, 0.99), (0.5, 1.0, 0.93), (0.3, 1.0, 0.68), (0.7, 0.25, 0.99), (0.5, 0.25, 0.99), (0.3, 0.25, 0.86)],
)
def test_the_law_lacks_what_the_recursion_says(switch: float, v: float, known: float) -> None:
    bars = [Table.linear().alpha(n / 1000) ** 2 for n in range(1000, 0, -1)]
    lacking = by_hand(v, bars, round((1 - switch) * 1000)) / v
    assert lacking == pytest.approx(known, abs=0.012)
    assert by_hand(v, bars, round((1 - switch) * 1000), spread=True) / v == pytest.approx(0.99, abs=0.012)


@pytest.mark.parametrize("spread", [False, True])
def test_draws_follow_the_recursion(spread: bool) -> None:
    n, process = 40_000, Table.linear()
    D, times = Blocks(1.0, process), sf.grids.uniform(20)
    x1 = Noise(0).normal(torch.empty(n, 1, 1, 1).double())
    x = sample(D, Pyramid(switch=0.5, spread=spread), x1=x1, times=times, noise=Noise(1))
    bars = [process.alpha(t) ** 2 for t in times[:-1]]
    want = by_hand(1.0, bars, 10, spread=spread)
    assert x.shape == (n, 1, 2, 2)
    assert float(x.square().mean()) == pytest.approx(want, rel=4 * math.sqrt(2 / n))
    assert [size for size, _ in D.asked] == [1] * 10 + [2] * 10 and [t for _, t in D.asked] == list(times[:-1])


def test_one_size_is_ddim() -> None:
    D, x1, times = Blocks(1.0, Table.linear()), normal(3, 1, 2, 2), sf.grids.uniform(6)
    for eta in (0.0, 1.0):
        a, b = (
            sample(D, way, x1=x1, times=times, noise=Noise(2)) for way in (Pyramid(1, eta=eta), DDIM(eta))
        )  # fmt: skip
        close(a, b)


class Says(Denoiser):
    """An estimate of 1/4 everywhere, and a corrected one of 3/4 above t = 0.6."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Table.linear()

    def forward(self, xt: Tensor, t: float, cond: object = None) -> Estimate:
        mean = torch.full_like(xt, 0.25)
        return Estimate(mean, None, {"corrected": mean + 0.5} if t > 0.6 else None)


def test_a_corrected_estimate_moves_the_state_and_leaves_its_noise() -> None:
    D, x1, process = Says(), normal(2, 1, 2, 2), Table.linear()
    steps = list(trajectory(D, Pyramid(eta=0.0), x1, (1.0, 0.8, 0.4, 0.2), Noise(3)))
    eps = (x1 - process.alpha(1.0) * 0.25) / process.sigma(1.0)
    close(steps[1].x, process.alpha(0.8) * 0.75 + process.sigma(0.8) * eps)
    fresh = Noise(3).normal(torch.empty(2, 1, 4, 4).double())
    close(steps[2].x, process.alpha(0.4) * 0.75 + process.sigma(0.4) * fresh)
    eps = (steps[2].x - process.alpha(0.4) * 0.25) / process.sigma(0.4)
    close(steps[3].x, process.alpha(0.2) * 0.25 + process.sigma(0.2) * eps)


def made(**more: object) -> tuple[Recipe, Corrected]:
    torch.manual_seed(0)
    recipe = Recipe(**{**SMALL, **more})
    return recipe, shaken(recipe.model())


def test_the_corrector_is_asked_where_noise_is_above_the_signal_once_a_step() -> None:
    recipe, D = made()
    seen: list[Tensor] = []
    D.corrector.register_forward_hook(lambda net, args, out: seen.append(args[1]))
    y, times = normal(1, 1, 8, 8), sf.grids.uniform(8)
    with torch.no_grad():
        sample(D.given({"image": y}), recipe.sampler(), x1=normal(1, 1, 4, 4), times=times, noise=Noise(0))
    process = recipe.process()
    want = [process.alpha(t) for t in times[:-1] if process.sigma(t) > process.alpha(t)]
    assert len(seen) == len(want) and 0 < len(want) < 8
    close(torch.cat(seen), torch.tensor(want, dtype=torch.float64))
    with torch.no_grad():
        D.inner.net.leave.bias.fill_(1e4)
        estimate = D(normal(1, 1, 8, 8), 0.9, {"image": y})
    assert set(estimate.mean.unique().tolist()) == {-1.0} and estimate.aux["corrected"].abs().max() <= 1.0


def test_the_corrector_does_the_same_to_every_pixel_and_sees_the_whole() -> None:
    torch.manual_seed(0)
    net, x = Corrector(3, 8).double(), normal(2, 3, 4, 4)
    level = torch.tensor([0.3, 0.3]).double()
    assert torch.equal(net(x, level), x)
    with torch.no_grad():
        net.leave.weight.normal_()
    got, order = net(x, level), torch.randperm(16)
    close(net(x.flatten(2)[..., order].reshape(x.shape), level), got.detach().flatten(2)[..., order].reshape(x.shape))
    other = x.clone()
    other[:, :, 0, 0] += 3.0
    assert float((net(other, level) - got).detach()[..., 1:, 1:].abs().min()) > 0.0  # by the mean and the spread
    assert not torch.allclose(net(x, 2 * level), got, atol=1e-4)


def test_both_sizes_are_trained_each_on_its_side_of_the_switch() -> None:
    recipe, D = made()
    sizes: dict[int, list[float]] = {4: [], 8: []}
    D.inner.register_forward_hook(lambda mod, args, out: sizes[args[0].shape[-1]].extend(args[1].tolist()))
    objective, x0 = recipe.objective(D), normal(4, 1, 8, 8)
    noise, corrected = Noise(0), []
    D.corrector.register_forward_hook(lambda net, args, out: corrected.append(args[0]))
    for _ in range(12):
        objective(x0, {"image": x0}, noise)
    assert min(sizes[4]) > 0.5 >= max(sizes[8]) and min(sizes[8]) >= 0.5 / 2000
    assert corrected and all(c.shape[-1] == 4 and not c.requires_grad for c in corrected)
    with torch.no_grad():  # f = 0 and the corrector as it is: E |eps| and |clamped D - x_0|
        for p in D.parameters():
            p.zero_()
    found = objective.fine(torch.zeros(256, 1, 8, 8), {"image": torch.zeros(256, 1, 8, 8)}, Noise(1))
    assert float(found.mean()) == pytest.approx(math.sqrt(2 / math.pi), abs=0.02)


def test_small_pictures_are_every_second_pixel_in_training_and_drawing() -> None:
    recipe, D = made()
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def forward(self, u: Tensor, c_noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
            seen.append(cond["image"])
            return torch.zeros_like(u)

    D.inner.net = Sees()
    y = normal(1, 1, 8, 8)
    D(normal(1, 1, 4, 4), 0.9, {"image": y})
    D(normal(1, 1, 8, 8), 0.2, {"image": y})
    close(seen[0], y[..., ::2, ::2])
    close(seen[1], y)
    for seed in range(4):
        recipe.objective(D)(y, {"image": y}, Noise(seed))
    assert {s.shape[-1] for s in seen[2:]} == {4, 8}
    for s in seen[2:]:
        close(s, y if s.shape[-1] == 8 else y[..., ::2, ::2])


def test_a_model_enhances_pictures_of_odd_sizes() -> None:
    recipe, D = made()
    model = Model(Affine.unit(), D.eval(), {"recipe": "pydiff", "fields": dict(SMALL), "event": [1, None, None]})
    y = torch.rand(2, 1, 7, 10, generator=torch.Generator().manual_seed(0)).double()
    result = model.enhance(y, samples=2, seed=3)
    assert result.samples.shape == (2, 2, 1, 7, 10) and result.nfe == 4
    noise, c = Seeds.keyed(3, [(0, 1)]), y[:1] * 2 - 1
    grown = torch.nn.functional.pad(c, (0, 0, 0, 1), mode="reflect")
    with torch.no_grad():
        x1 = noise.normal(torch.empty(1, 1, 4, 5).double())
        x = sample(D.given({"image": grown}), recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    close(result.samples[1, 0], x[0, :, :7] * 0.5 + 0.5, 1e-9)
