"""Mittal et al.'s music: the code of a bar, levels, the clipped sampler, infilling and its bias."""

from __future__ import annotations

import json
import math

import pytest
import torch

import sfumato as sf
from sfumato.codecs.bars import Bars
from sfumato.estimate import Estimate
from sfumato.recipes.symbolic_music import Continuous, Recipe, clipped
from sfumato.samplers import Ancestral, Overwrite, sample
from sfumato.zoo.files import codec_config, read_codec

TINY = {"code": 5, "width": 16, "layers": 2, "heads": 2, "feed": 16, "hidden": 16, "steps": 8, "last": 0.4}


def windows(n=40, bars=2, symbols=6):
    return sf.Noise(0).choice(torch.ones(n, 16 * bars, symbols))


def test_a_code_of_all_components_loses_nothing_and_lies_in_the_unit_range():
    x = windows()
    codec = Bars.fitted(x, 6, 1000)
    z = codec.encode(x)
    assert z.shape == (40, len(codec.low), 2) == (40, *codec.latent((32,))) and len(codec.low) <= 79
    assert torch.equal(codec.decode(z), x)
    assert torch.allclose(z.amax((0, 2)), torch.ones(len(codec.low)), atol=1e-4)
    assert torch.allclose(z.amin((0, 2)), -torch.ones(len(codec.low)), atol=1e-4)
    assert torch.equal(codec.encode(x[:1].flip(1).reshape(1, 32))[..., 0], codec.encode(x[:1, 16:].flip(1))[..., 0])


def test_the_components_are_the_principal_ones():
    """Rows are orthonormal, scores do not correlate, and no other 3 directions keep more variance."""
    x = windows()
    codec = Bars.fitted(x, 6, 3)
    basis = torch.tensor(codec.basis, dtype=torch.float64)
    assert torch.allclose(basis @ basis.T, torch.eye(3).double(), atol=1e-4)
    hot = torch.nn.functional.one_hot(x.reshape(-1, 16), 6).flatten(1).double()
    kept = ((hot - hot.mean(0)) @ basis.T).square().sum() / len(hot)
    assert float(kept) == pytest.approx(float(torch.linalg.eigvalsh(hot.T.cov(correction=0))[-3:].sum()), rel=1e-4)
    assert torch.allclose(torch.tensor(codec.mean).double(), hot.mean(0), atol=1e-6)


def test_a_config_holds_it_exactly():
    codec = Bars.fitted(windows(), 6, 4)
    assert read_codec({"codec": json.loads(json.dumps(codec_config(codec)))}) == codec


def test_levels_of_the_paper_and_those_of_training():
    process = Recipe().process()
    assert process.steps == 1000 and process.alpha_bars[0] == pytest.approx(1 - 1e-6)
    assert process.alpha_bars[-1] == pytest.approx(math.exp(-5.0), rel=0.03)
    small = Recipe(steps=4, first=0.1, last=0.4).process()
    n = 20_000
    t = Continuous(small.alpha_bars)(small, n, sf.Noise(0))
    alpha = torch.tensor([small.alpha(float(v)) for v in t])
    ends = [1.0, *(math.sqrt(a) for a in small.alpha_bars)]
    for high, low in zip(ends, ends[1:], strict=False):  # noqa: RUF007
        inside = (alpha >= low) & (alpha < high)
        assert float(inside.double().mean()) == pytest.approx(0.25, abs=0.013)
        part = ((alpha[inside] - low) / (high - low)).double()
        assert float(part.mean()) == pytest.approx(0.5, abs=0.02) and float(part.var()) == pytest.approx(
            1 / 12, abs=0.006
        )


def shaken(model):
    for i, weight in enumerate(model.parameters()):
        weight.data.add_(0.2 * sf.Noise(i).normal(weight.data))
    return model


def test_the_network_is_told_alpha_and_hears_every_bar_at_its_place():
    torch.manual_seed(0)
    model = shaken(Recipe(**TINY).model()).double()
    net, seen = model.inner.net, []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    x = sf.Noise(0).normal(torch.zeros(1, 5, 4).double())
    model(x, 0.5)
    assert seen[0].flatten().tolist() == pytest.approx([Recipe(**TINY).process().alpha(0.5)] * seen[0].numel())
    level = torch.tensor([0.5])
    assert not torch.allclose(net(x, level), net(x, torch.tensor([0.6])))
    J = torch.autograd.functional.jacobian(lambda v: net(v, level)[0, :, 0].sum(), x)
    assert bool((J.abs().sum(1) > 0).all())
    assert not torch.allclose(net(x.flip(2), level).flip(2), net(x, level), atol=1e-6)
    net(x, level).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not bool((p.grad != 0).any())] == []


class Gaussian(sf.denoisers.Denoiser):
    """The exact denoiser of latents (B, 1, 2) ~ N(0, S), S = [[1, r], [r, 1]], times a factor."""

    def __init__(self, process, r=0.8, factor=1.0):
        super().__init__()
        self.process, self.factor = process, factor
        self.S = torch.tensor([[1.0, r], [r, 1.0]], dtype=torch.float64)

    def forward(self, xt, t, cond=None):
        a, b = self.process.alpha(t), self.process.sigma(t)
        K = a * self.S @ torch.linalg.inv(a * a * self.S + b * b * torch.eye(2, dtype=torch.float64))
        return Estimate(self.factor * xt @ K)


class Zero(sf.Noise):
    def normal(self, like):
        return torch.zeros_like(like)


def test_the_estimate_is_held_in_the_range():
    recipe = Recipe(**TINY)
    denoiser = Gaussian(recipe.process(), factor=50.0)
    x1 = torch.tensor([[[3.0, -3.0]]], dtype=torch.float64)
    assert isinstance(recipe.sampler(), Ancestral) and recipe.sampler().reverse is clipped
    x = sample(denoiser, recipe.sampler(), x1=x1, times=recipe.times(), noise=Zero())
    assert x.flatten().tolist() == [1.0, -1.0]
    inside = Gaussian(recipe.process(), factor=0.1)
    a, b = (
        sample(inside, sampler, x1=x1, times=recipe.times(), noise=sf.Noise(1))
        for sampler in (recipe.sampler(), Ancestral())
    )
    assert torch.allclose(a, b, atol=1e-12)


def test_what_is_known_stays_exactly():
    recipe = Recipe(**TINY)
    known = torch.tensor([[[0.3, 0.9]]], dtype=torch.float64)
    infill = recipe.infill(known, torch.tensor([1.0, 0.0]).double())
    assert isinstance(infill, Overwrite)
    x = sample(
        Gaussian(recipe.process()), infill, x1=torch.ones(1, 1, 2).double(), times=recipe.times(), noise=sf.Noise(0)
    )
    assert x[0, 0, 0] == 0.3 and x[0, 0, 1] != 0.9


def test_replacement_is_biased_by_a_computable_amount():
    """The mean of the missing bar, by the linear recursion of mean-only steps, is not r times what is known."""
    r, value, steps = 0.8, 0.5, 8
    recipe = Recipe(steps=steps, last=0.4)
    denoiser, process, times = Gaussian(recipe.process(), r), recipe.process(), recipe.times()
    sampler = recipe.infill(torch.tensor([[[value, 0.0]]], dtype=torch.float64), torch.tensor([1.0, 0.0]).double())
    x = sample(denoiser, sampler, x1=torch.zeros(1, 1, 2).double(), times=times, noise=Zero())
    bars, m = (1.0, *process.alpha_bars), [0.0, 0.0]
    for n in range(steps, 0, -1):
        a2, before = bars[n], bars[n - 1]
        beta = 1 - a2 / before
        total = [[1.0, a2 * r], [a2 * r, 1.0]]  # a2 S + (1 - a2) I
        inverse = 1 / (1 - (a2 * r) ** 2)
        weighed = [
            inverse * (total[1][1] * m[0] - total[0][1] * m[1]),
            inverse * (total[0][0] * m[1] - total[1][0] * m[0]),
        ]
        D = math.sqrt(a2) * (r * weighed[0] + weighed[1])
        m = [
            math.sqrt(before) * value,  # replaced
            (math.sqrt(before) * beta * D + math.sqrt(a2 / before) * (1 - before) * m[1]) / (1 - a2),
        ]
    assert float(x[0, 0, 1]) == pytest.approx(m[1], abs=1e-9)
    assert abs(m[1] - r * value) > 0.02


def test_a_saved_model_draws_tokens(tmp_path):
    torch.manual_seed(0)
    codec = Bars.fitted(windows(), 6, 5)
    config = {"recipe": "symbolic-music", "fields": TINY, "event": [32]}
    sf.Model(codec, shaken(Recipe(**TINY).model()), config).save(tmp_path)
    model = sf.load(tmp_path)
    x = model.sample(3, seed=2)
    assert x.shape == (3, 32) and x.dtype == torch.int64 and int(x.max()) < 6
    assert torch.equal(model.sample(1, first=2, seed=2), x[2:])
    sampler, times = model.denoiser.drawing()
    assert len(times) == 9 and sampler == Ancestral(clipped)
