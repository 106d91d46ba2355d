"""Palette: holes are drawn, known pixels are kept, the loss and its gradient live in the holes alone."""

from __future__ import annotations

import math

import pytest
import torch
from drawn_by_paper import ancestral

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data import damages
from sfumato.denoisers import Denoiser
from sfumato.denoisers.kept import Kept
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.recipes.palette import Recipe, filled
from sfumato.samplers import sample
from sfumato.zoo import Model

SMALL = {"channels": 1, "widths": (8,)}


def rough(recipe: Recipe) -> Kept:
    torch.manual_seed(0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return D.eval()


def test_a_draw_keeps_the_known_pixels_exactly() -> None:
    """Mask 1 is a hole, in data space; what stands in the holes of y is of no account."""
    fields = {**SMALL, "calls": 6}
    model = Model(Affine.unit(), rough(Recipe(**fields)), {"recipe": "palette", "fields": fields, "event": [1, 8, 8]})
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 3:] = 1.0
    y = (torch.rand(1, 1, 8, 8) * 255).round() / 255
    x = model.enhance(y, beside={"mask": mask}, samples=2).samples[:, 0]
    kept = mask[0] == 0
    known = Affine.unit().decode(Affine.unit().encode(y))[0]
    assert all(torch.equal(each[kept], known[kept]) for each in x)
    assert (x[0] - x[1]).abs()[~kept].mean() > 0.1
    other = torch.where(mask > 0, 1.0 - y, y)
    assert torch.equal(model.enhance(other, beside={"mask": mask}, samples=2).samples[:, 0], x)


def test_the_network_sees_clean_known_pixels_and_noise_in_the_holes() -> None:
    """In training as in drawing; the noise of the holes is the items' own."""
    recipe, seen = Recipe(**SMALL), {}

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.update(u=u, image=cond["image"])
            return torch.zeros_like(u)

    D = recipe.model()
    D.inner.net = Told()
    x0 = torch.rand(2, 1, 64, 64) * 0.01
    mask = torch.full_like(x0, -1.0)
    mask[..., :32] = 1.0
    recipe.objective(D)(x0, {"image": x0, "mask": mask}, Seeds([0, 1]))
    hole = mask > 0
    assert torch.equal(seen["u"][~hole], x0[~hole]) and torch.equal(seen["image"][~hole], x0[~hole])
    noise = seen["image"][hole]
    assert float(noise.mean()) == pytest.approx(0.0, abs=4 / math.sqrt(noise.numel()))
    assert float(noise.var()) == pytest.approx(1.0, rel=4 * math.sqrt(2 / noise.numel()))
    whole = filled({"image": x0, "mask": mask}, Seeds([0, 1]))["image"]
    assert torch.equal(filled({"image": x0[1:], "mask": mask[1:]}, Seeds([1]))["image"], whole[1:])
    # eps of a hole is computed from the noisy state: D = (x_t - sigma F) / alpha with F = 0
    t, xt = 0.5, torch.randn(2, 1, 64, 64)
    got = D(xt, t, {"image": x0, "mask": mask}).mean
    assert torch.allclose(got[hole], xt[hole] / recipe.process().alpha(t), rtol=1e-5)


def test_no_gradient_reaches_the_network_from_known_pixels() -> None:
    recipe = Recipe(**SMALL)

    class Free(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = torch.nn.Parameter(torch.zeros(1, 1, 6, 6))

        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            return self.out.expand(len(u), -1, -1, -1)

    D = recipe.model()
    D.inner.net = free = Free()
    x0 = torch.rand(4, 1, 6, 6)
    mask = torch.full_like(x0, -1.0)
    mask[..., 1:3, 2:] = 1.0
    recipe.objective(D)(x0, {"image": x0, "mask": mask}, Noise(0)).sum().backward()
    hole = mask[:1] > 0
    assert torch.all(free.out.grad[~hole] == 0.0) and torch.all(free.out.grad[hole] != 0.0)


def test_the_loss_of_holes_is_a_share_of_the_whole() -> None:
    """A network of zeros errs by eps^2 = 1 in the holes and by nothing elsewhere; without a mask everywhere."""
    recipe = Recipe(**SMALL)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.zero_()
    x0 = torch.zeros(256, 1, 8, 8)
    mask = torch.full_like(x0, -1.0)
    mask[..., :2] = 1.0
    with torch.no_grad():
        holes = recipe.objective(D)(x0, {"image": x0, "mask": mask}, Noise(0)).mean()
        whole = recipe.objective(D)(x0, {"image": x0}, Noise(0)).mean()
    assert float(holes) == pytest.approx(0.25, abs=4 * math.sqrt(2 / x0.numel() / 4) / 2)
    assert float(whole) == pytest.approx(1.0, abs=4 * math.sqrt(2 / x0.numel()))


def test_holes_are_drawn_given_what_is_known() -> None:
    """Four numbers, two known: mean and variances of x_0 | y, along the paper's recursion at the levels of the grid."""
    recipe = Recipe()
    process, times = recipe.process(), recipe.times(100)
    root = torch.tensor(
        [[1.0, 0.3, 0.2, 0.1], [0.0, 0.6, 0.3, -0.2], [0.0, 0.0, 0.5, 0.2], [0.0, 0.0, 0.0, 0.3]]
    ).double()
    S, m = root @ root.T, torch.tensor([0.2, -0.3, 0.1, 0.4]).double()
    known = torch.tensor([0.9, -0.5]).double()
    K = S[2:, :2] @ S[:2, :2].inverse()
    mean, cov = m[2:] + K @ (known - m[:2]), S[2:, 2:] - K @ S[:2, 2:]
    hole = sf.GaussianWorld(mean, cov)

    class Exact(Denoiser):
        """E[x_0 | holes of x_t, known pixels], which reads the known pixels where x_t holds them."""

        def __init__(self) -> None:
            super().__init__()
            self.process = process

        def forward(self, xt: torch.Tensor, t: float, cond: object = None) -> Estimate:
            assert torch.allclose(xt[:, :2], known.expand(len(xt), 2))
            inside = hole.denoiser(process)(xt[:, 2:], t).mean
            return Estimate(torch.cat([torch.full_like(inside, 9.0), inside], 1))

    n = 20_000
    image = torch.cat([known, torch.zeros(2)]).expand(n, 4)
    mask = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(n, 4)
    D = Kept(Exact()).given({"image": image, "mask": mask})
    x1 = Noise(0).normal(torch.empty(n, 4).double())
    x = sample(D, recipe.sampler(), x1=x1, times=times, noise=Noise(1))
    assert torch.equal(x[:, :2], image[:, :2])
    values, axes = torch.linalg.eigh(cov)
    along, centre = x[:, 2:] @ axes, mean @ axes
    gammas = [process.alpha(t) ** 2 for t in times[:-1]]
    for i in range(2):
        want, var = ancestral(float(values[i]), float(centre[i]), gammas)
        assert float(along[:, i].mean()) == pytest.approx(want, abs=4 * math.sqrt(var / n))
        assert float(along[:, i].var()) == pytest.approx(var, rel=4 * math.sqrt(2 / n))
        assert want == pytest.approx(float(centre[i]), abs=0.01) and var == pytest.approx(float(values[i]), rel=0.35)
    assert abs(float(torch.corrcoef(along.T)[0, 1])) < 4 / math.sqrt(n)


def test_levels_are_those_of_the_second_table_that_training_reaches() -> None:
    recipe = Recipe()
    process, times = recipe.process(), recipe.times()
    bar, inside = 1.0, []
    floor = math.prod(1.0 - (1e-6 + (1e-2 - 1e-6) * n / 1999) for n in range(2000))
    for n in range(1000):
        bar *= 1.0 - (1e-4 + (9e-2 - 1e-4) * n / 999)
        if bar > floor:
            inside.append(bar)
    assert floor == pytest.approx(4.4e-5, rel=0.02) and bar < 1e-19  # the card's figures
    found = [process.alpha(t) ** 2 for t in times]
    assert times[0] == 1.0 and times[-1] == 0.0
    assert found[1:-1] == pytest.approx(list(reversed(inside)), rel=1e-9)
    assert len(inside) == 1000 - 532
    assert min(found) >= floor * (1 - 1e-9)


@pytest.mark.parametrize("steps", [1, 2, 50, 469])
def test_fewer_levels_begin_at_the_floor_and_are_even(steps: int) -> None:
    whole, some = Recipe().times(), Recipe().times(steps)
    assert len(some) == steps + 1 and some[0] == 1.0 and some[-1] == 0.0
    at = [whole.index(t) for t in some[:-1]]
    gaps = [b - a for a, b in zip(at, [*at[1:], 469], strict=True)]
    assert max(gaps) - min(gaps) <= 1
    assert Recipe().times(5000) == whole


def test_estimates_are_held_to_the_range_and_a_variance_is_that_of_the_holes() -> None:
    recipe = Recipe(**SMALL)
    D = recipe.guide(rough(recipe))
    assert D(torch.full((1, 1, 4, 4), 9.0), 0.01, {"image": torch.zeros(1, 1, 4, 4)}).mean.max() == 1.0
    world = sf.GaussianWorld(torch.zeros(2), torch.eye(2))
    cond = {"image": torch.zeros(1, 2), "mask": torch.tensor([[1.0, -1.0]])}
    var = Kept(world.denoiser(recipe.process()))(torch.ones(1, 2), 0.5, cond).var
    assert var is not None and var[0, 1] == 0.0 and var[0, 0] > 0.0


# Damages


def spots(h: int = 64, w: int = 96) -> torch.Tensor:
    return Noise(0).uniform(torch.empty(3, h, w))


@pytest.mark.parametrize("seed", range(6))
def test_holes_have_their_share_and_the_rest_is_the_picture(seed: int) -> None:
    x = spots()
    found = damages.parse("hole:0.25")(x, Noise(seed))
    mask, y = found["mask"], found["image"]
    assert mask.shape == (1, 64, 96) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert 0.22 <= float(mask.mean()) <= 0.35
    out = (mask == 0).expand_as(x)
    assert torch.equal(y[out], ((x * 255).round() / 255)[out]) and y[~out].unique().numel() == 1


def test_holes_are_strokes_or_rectangles() -> None:
    kinds = []
    for seed in range(40):
        mask = damages.Hole((0.2, 0.2))(spots(), Noise(seed))["mask"][0] > 0
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        kinds.append(bool(box.all()))
        if kinds[-1]:
            assert float(mask.float().mean()) == pytest.approx(0.2, abs=0.02) and 0.45 < len(rows) / len(columns) < 2.2
    assert 8 <= sum(kinds) <= 32


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_uncropping_leaves_the_middle_or_one_side(share: float) -> None:
    seen = set()
    for seed in range(40):
        mask = damages.Uncrop(share)(spots(64, 80), Noise(seed))["mask"][0]
        assert float(mask.mean()) == pytest.approx(share, abs=0.03)
        edges = {"top": mask[0], "bottom": mask[-1], "left": mask[:, 0], "right": mask[:, -1]}
        unknown = tuple(name for name, edge in edges.items() if bool(edge.all()))
        assert len(unknown) in (1, 4)
        if len(unknown) == 4:
            rows = (mask == 0).any(1).nonzero().flatten()
            assert rows[0] == pytest.approx(64 - 1 - rows[-1], abs=1)
        seen.add(unknown)
    assert len(seen) == 5
