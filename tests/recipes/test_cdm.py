"""CDM and SR3+: a corrupted condition, its level told, and cascades of exact stages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data.resizing import resized
from sfumato.denoisers import Denoiser, LearnedVariance
from sfumato.estimate import Estimate
from sfumato.noise import Noise, Seeds
from sfumato.recipes import cdm, sr3, sr3_plus
from sfumato.recipes.augmented import Augment, level
from sfumato.samplers import Ancestral, sample
from sfumato.zoo import Model
from sfumato.zoo.cascade import Cascade

SMALL = {"channels": 1, "widths": (8,)}


# What corrupts


@pytest.mark.parametrize("s", [0.02, 0.4, 1.0])
def test_noise_is_that_of_the_small_picture_before_it_is_enlarged(s: float) -> None:
    process = cdm.Recipe().process()
    z = torch.rand(2, 1, 5, 4).double()
    y = resized(z, (10, 8), 2.0)
    found = Augment(process, 2.0)({"image": y}, s, Noise(3))["image"]
    small = process.alpha(s) * z + process.sigma(s) * Noise(3).normal(z)
    assert torch.allclose(found, resized(small, (10, 8), 2.0), atol=1e-12)
    plain = Augment(process)({"image": y}, s, Noise(3))["image"]
    assert torch.allclose(plain, process.alpha(s) * y + process.sigma(s) * Noise(3).normal(y), atol=1e-12)


def test_sizes_that_do_not_divide_come_from_a_small_picture_rounded_up() -> None:
    found = Augment(cdm.Recipe().process(), 2.0).enlarged(torch.empty(1, 1, 9, 7), Noise(0))
    want = resized(Noise(0).normal(torch.empty(1, 1, 5, 4)), (9, 7), 2.0)
    assert torch.equal(found, want)


def test_level_zero_is_exactly_clean_and_draws_nothing() -> None:
    augment, y = Augment(cdm.Recipe().process()), torch.rand(3, 1, 4, 4)
    noise = Noise(0)
    assert torch.equal(augment({"image": y}, 0.0, noise)["image"], y)
    assert torch.equal(noise.normal(y), Noise(0).normal(y))
    some = augment({"image": y}, torch.tensor([0.0, 0.3, 0.0]), Seeds([0, 1, 2]))["image"]
    assert torch.equal(some[[0, 2]], y[[0, 2]]) and (some[1] - y[1]).abs().min() > 0.0


def test_the_level_is_told_and_levels_differ() -> None:
    augment, y = Augment(cdm.Recipe().process()), torch.zeros(2, 1, 4, 4)
    told = augment({"image": y, "label": torch.tensor([1, 2])}, torch.tensor([0.1, 0.2]), Noise(0))
    assert torch.equal(told["vector"], level(torch.tensor([0.1, 0.2]).double()).float())
    assert (told["vector"][0] - told["vector"][1]).norm() > 1.0 and told["label"].tolist() == [1, 2]
    assert torch.equal(augment({"image": y}, 0.0, Noise(0))["vector"], level(torch.zeros(2)))
    assert level(torch.tensor([0.001]))[0, 0] == pytest.approx(math.cos(1.0), abs=1e-6)


@pytest.mark.parametrize("make", [cdm.Recipe, sr3_plus.Recipe])
def test_training_tells_levels_over_their_range_and_noise_of_that_level(make: Any) -> None:
    recipe = make(**SMALL, most=0.4, level=0.0, factor=1.0)
    y = torch.zeros(400, 1, 8, 8)
    told = recipe.corrupted({"image": y}, Seeds(range(400)))
    at = (recipe.process(), torch.linspace(0, 0.4, 401).double())
    features = level(at[1])
    s = at[1][(told["vector"][:, None] - features[None]).norm(dim=2).argmin(1)]
    assert float(s.mean()) == pytest.approx(0.2, abs=4 * 0.4 / math.sqrt(12 * 400)) and float(s.max()) > 0.37
    ratio = told["image"].flatten(1).std(1).double() / at[0].sigma(s.clamp(min=0.01))
    assert float(ratio[s > 0.05].mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("make", [cdm.Recipe, sr3_plus.Recipe])
def test_the_network_hears_the_level_in_training_and_in_drawing(make: Any) -> None:
    recipe = make(**SMALL, level=0.2)
    D, seen = recipe.model(), []

    class Told(torch.nn.Module):
        def forward(self, u: torch.Tensor, c_noise: torch.Tensor, cond: dict) -> torch.Tensor:
            seen.append(cond)
            return torch.zeros(len(u), 2 if isinstance(D, LearnedVariance) else 1, *u.shape[2:])

    D.net = Told()
    y = torch.rand(2, 1, 8, 8)
    recipe.objective(D)(y, {"image": y}, Seeds([0, 1]))
    want = recipe.corrupted({"image": y}, Seeds([0, 1]))
    assert torch.equal(seen[0]["image"], want["image"]) and torch.equal(seen[0]["vector"], want["vector"])
    told = recipe.condition(D, {"image": y}, Noise(0))
    assert torch.equal(told["vector"], level(torch.full((2,), 0.2).double()).float())
    assert torch.equal(told["image"], recipe.augment()({"image": y}, 0.2, Noise(0))["image"])
    assert recipe.condition(D, told, Noise(0)) is told  # what is told its level is noised already


def test_a_network_changes_its_mind_with_the_level_and_the_class() -> None:
    recipe = cdm.Recipe(**SMALL, classes=3)
    torch.manual_seed(0)
    D = recipe.model()
    with torch.no_grad():
        for p in D.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x, y = torch.randn(1, 1, 8, 8), torch.rand(1, 1, 8, 8)

    def says(s: float, label: int) -> torch.Tensor:
        return D(x, 0.5, {"image": y, "vector": level(torch.tensor([s])), "label": torch.tensor([label])}).mean

    assert not torch.allclose(says(0.0, 0), says(0.2, 0)) and not torch.allclose(says(0.0, 0), says(0.0, 1))
    assert recipe.guide(D)(9 * x, 0.01, {"image": y}).mean.abs().max() <= 1.0


# Two exact stages in one dimension: z ~ N(0, v), x | z ~ N(c z, w)

V, C, W = 0.5, 0.8, 0.1


class Second(Denoiser):
    """E and Var of x_0 given x_t and z_s, of which the gain follows the level that is told."""

    def __init__(self, recipe: cdm.Recipe, s: float) -> None:
        super().__init__()
        self.process, self.s, self.stage = recipe.process(), s, recipe

    def forward(self, xt: torch.Tensor, t: float, cond: Any = None) -> Estimate:
        assert torch.equal(cond["vector"][0], level(torch.tensor([self.s]).double())[0].to(xt))
        a, b = (self.stage.process().alpha(self.s), self.stage.process().sigma(self.s)) if self.s else (1.0, 0.0)
        k = a * V / (a * a * V + b * b)
        mean, var = C * k * cond["image"], W + C * C * (V - k * a * V)
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        gain = alpha * var / (alpha**2 * var + sigma**2)
        return Estimate(mean + gain * (xt - alpha * mean), torch.full_like(xt, var * (1 - gain * alpha)))


def second(z: torch.Tensor, s: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The condition z_s and the draws of the second stage."""
    recipe = cdm.Recipe(**SMALL, factor=1.0, level=s)
    D = Second(recipe, s)
    told = recipe.condition(D, {"image": z}, Noise(7))
    x1 = Noise(8).normal(z)
    return told["image"], sample(D.given(told), Ancestral(), x1=x1, times=(1.0, 0.6, 0.2, 0.0), noise=Noise(9))


@pytest.mark.parametrize("s", [0.0, 0.1, 0.3])
def test_exact_stages_have_the_joint_law_at_every_level(s: float) -> None:
    n = 40_000
    z = math.sqrt(V) * Noise(0).normal(torch.empty(n, 1, 1, 1).double())
    zs, x = second(z, s)
    assert float(x.mean()) == pytest.approx(0.0, abs=4 * math.sqrt((C * C * V + W) / n))
    assert float(x.var()) == pytest.approx(C * C * V + W, rel=4 * math.sqrt(2 / n))
    process = cdm.Recipe().process()
    a = process.alpha(s) if s else 1.0
    total = (a * a * V + process.sigma(s) ** 2) if s else V
    assert float(zs.var()) == pytest.approx(total, rel=4 * math.sqrt(2 / n))
    both = math.sqrt(total * (C * C * V + W) / n)
    assert float((zs * x).mean()) == pytest.approx(C * a * V, abs=6 * both)


def test_the_bias_of_a_base_is_passed_on_less_the_more_the_level() -> None:
    n, d, found = 40_000, 0.6, []
    process = cdm.Recipe().process()
    for s in (0.0, 0.1, 0.3, 0.5):
        z = d + math.sqrt(V) * Noise(0).normal(torch.empty(n, 1, 1, 1).double())
        _, x = second(z, s)
        a, b = (process.alpha(s), process.sigma(s)) if s else (1.0, 0.0)
        want = C * d * a * a * V / (a * a * V + b * b)
        assert float(x.mean()) == pytest.approx(want, abs=4 * math.sqrt((C * C * V + W) / n))
        found.append(want)
    assert found == sorted(found, reverse=True) and found[0] == pytest.approx(C * d) and found[-1] < 0.5 * C * d


# Cascades


class Saying(Denoiser):
    """Keeps what it is told; its answer is the picture that it is told."""

    def __init__(self, recipe: cdm.Recipe) -> None:
        super().__init__()
        self.process, self.told = recipe.process(), []

    def forward(self, xt: torch.Tensor, t: float, cond: Any = None) -> Estimate:
        self.told.append(cond)
        return Estimate(cond["image"], aux={"v": torch.zeros_like(xt)})


def cascade(s: float, *, factor: float = 2.0, truncated: bool = False, **fields: Any) -> tuple[Cascade, Saying]:
    recipe = cdm.Recipe(**SMALL, factor=factor)
    base = sf.GaussianWorld(torch.zeros(1, 2, 2), 0.04 * torch.eye(4)).denoiser(sf.processes.LinearBeta())
    told = Saying(recipe)
    config = {"recipe": "cdm", "fields": {**SMALL, "factor": factor, **fields}, "event": [1, None, None]}
    start = Model(Affine.unit(), base, {"event": [1, 2, 2]})
    return Cascade(start, (Model(Affine.unit(), told, config),), s, truncated), told


@pytest.fixture(autouse=True)
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_a_stage_is_told_the_enlarged_picture_noised_and_the_level() -> None:
    clean, told = cascade(0.0)
    z = clean.base.sample(6, seed=3, steps=4)
    x = clean.sample(6, seed=3, steps=4)
    y = resized(z, (4, 4), 2.0).clamp(0, 1)
    assert torch.allclose(told.told[0]["image"], 2 * y - 1) and torch.allclose(x, y.clamp(0, 1), atol=1e-6)
    assert torch.equal(told.told[0]["vector"], level(torch.zeros(6)).to(y))
    noised, told = cascade(0.2)
    noised.sample(6, seed=3, steps=4)
    process, image = cdm.Recipe().process(), told.told[0]["image"]
    eps = (image - process.alpha(0.2) * (2 * y - 1)) / process.sigma(0.2)
    assert torch.linalg.matrix_rank(eps[0, 0], atol=1e-9) == 2  # of four: noise of 2 x 2, enlarged
    assert torch.allclose(told.told[0]["vector"], level(torch.full((6,), 0.2).double()).to(y))


def test_draws_of_a_cascade_do_not_depend_on_the_batch_and_stages_do_on_the_seed() -> None:
    pipe, _ = cascade(0.1)
    whole = pipe.sample(4, seed=1, steps=3)
    assert torch.allclose(pipe.sample(4, seed=1, steps=3, batch=3), whole, atol=1e-12)
    assert torch.allclose(pipe.sample(2, seed=1, steps=3), whole[:2], atol=1e-12)
    assert not torch.allclose(pipe.sample(4, seed=2, steps=3), whole)


@pytest.mark.parametrize("s", [0.05, 0.3])
def test_a_truncated_base_hands_over_z_s_in_law(s: float) -> None:
    """An exact base of another process, stopped at the same log SNR: N(0, alpha^2 v + sigma^2), as noised again."""
    n, v = 3000, 0.04
    process = cdm.Recipe().process()
    want = process.alpha(s) ** 2 * v + process.sigma(s) ** 2
    for truncated in (True, False):
        pipe, told = cascade(s, factor=1.0, truncated=truncated)
        pipe.sample(n, seed=0, steps=12, batch=n)
        image = told.told[0]["image"]
        assert float(image.mean()) == pytest.approx(0.0, abs=4 * math.sqrt(want / n / 4))
        assert float(image.var()) == pytest.approx(want, rel=4 * math.sqrt(2 / n / 4) + 0.01)
        assert torch.allclose(told.told[0]["vector"], level(torch.full((n,), s)).to(image))


def test_a_truncated_base_at_level_zero_is_finished() -> None:
    whole, part = cascade(0.0, factor=1.0)[0], cascade(0.0, factor=1.0, truncated=True)[0]
    assert torch.allclose(whole.sample(3, steps=4), part.sample(3, steps=4), atol=1e-9)


def test_labels_go_to_the_stages_that_have_classes() -> None:
    pipe, told = cascade(0.1, classes=3)
    base = Model(Affine.unit(), pipe.base.denoiser, {"event": [1, 2, 2], "fields": {"classes": 3}})
    Cascade(base, pipe.stages).sample(2, cond=torch.tensor([0, 2]), steps=2)
    assert told.told[0]["label"].tolist() == [0, 2]
    assert torch.equal(told.told[0]["vector"], level(torch.full((2,), 0.1)).to(told.told[0]["image"]))  # its own level


def test_stages_enlarge_and_a_truncated_base_needs_one_that_is_told() -> None:
    pipe, _ = cascade(0.1)
    plain = Model(Affine.unit(), sr3.Recipe(**SMALL).model(), {"recipe": "sr3", "fields": SMALL, "event": [1, 2, 2]})
    with pytest.raises(ValueError, match="enlarges by its recipe's `factor`"):
        Cascade(pipe.base, (plain,)).sample(1, steps=2)


# Settings


@pytest.mark.parametrize("make", [cdm.Recipe, sr3_plus.Recipe])
@pytest.mark.parametrize("wrong", [{"most": 0.0}, {"most": 1.5}, {"level": -0.1}, {"level": 0.6}])
def test_levels_lie_within_those_of_training(make: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="0 <= level <= most <= 1"):
        make(**wrong)


def test_a_blurred_stage() -> None:
    with pytest.raises(ValueError, match="'noise' or 'blur'"):
        cdm.Recipe(kind="smooth")
    recipe = cdm.Recipe(**SMALL, kind="blur")
    spot = torch.zeros(200, 1, 7, 7)
    spot[..., 3, 3] = 1.0
    found = recipe.corrupted({"image": spot}, Seeds(range(200)))
    touched = found["image"][:, 0, 3, 3] < 1.0
    assert 70 <= int(touched.sum()) <= 130
    assert torch.allclose(found["image"].sum((1, 2, 3)), torch.ones(200))
    side, middle = found["image"][touched, 0, 3, 4], found["image"][touched, 0, 3, 3]
    sigma = (0.5 / (middle / side).log()).sqrt()
    assert float(sigma.min()) >= 0.4 and float(sigma.max()) <= 0.6 and float(sigma.std()) > 0.04
    assert torch.all(found["image"][touched, 0, 3, 5] == 0.0)  # 3 x 3 taps
    assert torch.equal(recipe.condition(Saying(recipe), {"image": spot}, Noise(0))["image"], spot)  # none in drawing
    assert torch.equal(found["vector"], level(torch.zeros(200)).to(spot))


def test_at_level_zero_it_is_sr3_itself() -> None:
    """With the same weights, and none on the level: the same draw from the same noise."""
    plus, plain = sr3_plus.Recipe(**SMALL, level=0.0, calls=3), sr3.Recipe(**SMALL, calls=3)
    torch.manual_seed(0)
    a, b = plus.model(), plain.model()
    with torch.no_grad():
        for p in a.parameters():
            p.add_(0.05 * torch.randn_like(p))
        a.net.project.weight.zero_()
        a.net.project.bias.zero_()
    b.load_state_dict({k: v for k, v in a.state_dict().items() if "project" not in k})
    y = torch.rand(2, 1, 8, 8)
    drawn = [
        Model(Affine.unit(), D, {"recipe": key, "fields": {**SMALL, "calls": 3, **more}, "event": [1, 8, 8]})
        .enhance(y, seed=4)
        .samples
        for D, key, more in ((a, "sr3-plus", {"level": 0.0}), (b, "sr3", {}))
    ]
    assert torch.allclose(*drawn, atol=1e-12)
    assert plus.calls == 3 and sr3_plus.Recipe().calls == 256 and len(sr3_plus.Recipe().times()) == 257


def test_the_grid_of_a_stage_has_both_ends() -> None:
    times = cdm.Recipe().times(5)
    assert times[0] == 1.0 and times[-2] == 1 / 4000 and times[-1] == 0.0 and len(times) == 6
    assert len(cdm.Recipe().times()) == 101
