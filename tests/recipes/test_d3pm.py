"""D3PM and masked diffusion: the recipes' parts, their objectives, sampling from exact denoisers, the public code."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from worlds_for_tests import close, tensor

from sfumato.denoisers import Estimate, Logits
from sfumato.likelihood import chain_term
from sfumato.nets import Levels, Transformer, truncated_logistic
from sfumato.noise import Noise
from sfumato.processes import Discrete, Transitions
from sfumato.processes.keeps import Cosine, Late, Linear
from sfumato.recipes import d3pm, mdlm
from sfumato.samplers import Ancestral, AnyOrder, sample
from sfumato.training import DiscreteChain, Jumps
from sfumato.worlds import TableWorld

PUBLIC = json.loads((Path(__file__).parent / "d3pm_public.json").read_text("utf-8"))
P = tensor(0.5, 0.3, 0.15, 0.05)
SMALL = {"channels": 1, "levels": 4, "widths": (8,), "blocks": 1, "attention": (), "dropout": 0.0}


def clocks(denoiser: Logits) -> list[Tensor]:
    """What the network is told of the time in each call from now on."""
    told: list[Tensor] = []
    denoiser.net.register_forward_hook(lambda module, args, out: told.append(args[1]))
    return told


def numbers(value: object) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


# Against google-research/d3pm


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("transition", ["gaussian", "uniform", "absorbing", "band"])
def test_matrices_of_the_public_code(transition: str) -> None:
    """Q_n and Q_1 ... Q_n in float64. Its Gaussian has a factor 255 / (K - 1) in the distance, undone here in beta; its
    mask is the level K / 2.
    """
    theirs = PUBLIC[transition]
    K, N = len(theirs["step"][0]), len(theirs["step"])
    betas = theirs["betas"]
    process = {
        "gaussian": lambda: Transitions.gaussian(K, [b * ((K - 1) / 255) ** 2 for b in betas]),
        "band": lambda: Transitions.banded(K, betas, bands=2),
        "uniform": lambda: Discrete(K, schedule=Cosine()),
        "absorbing": lambda: Discrete(K, absorbing=K // 2),
    }[transition]()
    x = torch.arange(K).reshape(K, 1)
    for n in range(1, N + 1):
        if transition == "uniform" and n == N:
            break  # the code holds its last beta to 0.999
        one = process.forward(x, (n - 1) / N, n / N).probs[:, 0]
        close(one, numbers(theirs["step"][n - 1]), 1e-12)
        close(process.marginal(x, n / N).probs[:, 0], numbers(theirs["product"][n - 1]), 1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("transition", ["gaussian", "absorbing"])
def test_terms_of_the_public_code(transition: str) -> None:
    """Its terms in bits, from logits of x_0, in the published form; its 1e-6 inside logarithms is felt."""
    theirs = PUBLIC[transition]
    K, N = len(theirs["step"][0]), len(theirs["step"])
    betas = [b * ((K - 1) / 255) ** 2 for b in theirs["betas"]]
    process = (
        Transitions.gaussian(K, betas, published=True)
        if transition == "gaussian"
        else Discrete(K, absorbing=K // 2, published=True)
    )
    x0, xt, p = torch.tensor(theirs["x0"]), torch.tensor(theirs["xt"]), torch.softmax(numbers(theirs["logits"]), -1)
    t = (numbers(theirs["t"]) + 1) / N
    nats = chain_term(process, Estimate(p), x0, xt, t, t - 1 / N)
    close(nats / (x0[0].numel() * math.log(2)), numbers(theirs["terms"]), 2e-4)


@pytest.mark.usefixtures("double")
def test_logistic_logits_of_the_public_code() -> None:
    """The function takes the log scale itself; the code's network gives it 2 higher."""
    theirs = PUBLIC["logistic"]
    location, scale = numbers(theirs["loc"]), numbers(theirs["log_scale"])
    got = truncated_logistic(location, scale - 2.0, len(theirs["logits"][0]))
    close(torch.softmax(got, -1), torch.softmax(numbers(theirs["logits"]), -1), 2e-6)


# The recipe


def test_processes_of_the_recipe() -> None:
    gaussian = d3pm.Recipe(levels=8, steps=5).process()
    assert isinstance(gaussian, Transitions) and gaussian.published and gaussian.matrices.shape == (5, 8, 8)
    close(gaussian.matrices, Transitions.gaussian(8, torch.linspace(1e-4, 0.02, 5).tolist()).matrices, 1e-6)
    assert d3pm.Recipe(levels=8, transition="uniform").process() == Discrete(8, schedule=Cosine(), published=True)
    mask = d3pm.Recipe(levels=8, transition="absorbing", bayes=True).process()
    assert mask == Discrete(9, absorbing=8, schedule=Linear(), published=False)
    assert d3pm.Recipe(steps=1000).times(4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert len(d3pm.Recipe(steps=7).times()) == 8
    assert isinstance(d3pm.Recipe().sampler(), Ancestral)


def test_recipe_trains_on_its_chain_and_bounds_with_it() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 4, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    for transition in ("gaussian", "uniform", "absorbing"):
        recipe = d3pm.Recipe(transition=transition, steps=6, **SMALL)
        denoiser = recipe.model()
        told = clocks(denoiser)
        recipe.bound(denoiser, x, Noise(0))
        assert [round(float(v[0]), 4) for v in told] == [5, 4, 3, 2, 1, 0]
        recipe.objective(denoiser)(x, None, Noise(0)).mean().backward()
        assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in denoiser.parameters())


@pytest.mark.usefixtures("double")
def test_objective_draws_the_bound_and_its_auxiliary_loss() -> None:
    """Exact denoiser, one position, four uniform steps: the mean over n is N L_n summed, in bits."""
    process = Discrete(4, schedule=Cosine())
    denoiser = TableWorld(P).denoiser(process)
    n = 30_000
    x = Noise(0).choice(P.expand(n, 4)).reshape(n, 1)
    entropy = -float((P * P.log2()).sum())
    loss = DiscreteChain(denoiser, 4, 0.0)(x, None, Noise(1))
    assert abs(float(loss.mean()) - entropy) < 4 * float(loss.std()) / n**0.5
    more = DiscreteChain(denoiser, 4, 0.1)(x, None, Noise(1)) - loss
    plain = 0.0
    for k in (1, 2, 3, 4):
        keep = process.keep(k / 4)
        joint = P[:, None] * (keep * torch.eye(4) + (1 - keep) / 4)
        plain -= float((joint * (joint / joint.sum(0)).log2()).sum())
    assert abs(float(more.mean()) - 0.1 * plain) < 4 * float(more.std()) / n**0.5
    assert DiscreteChain(denoiser).weight == 0.001 and DiscreteChain(denoiser).times.steps == 1000


@pytest.mark.usefixtures("double")
def test_ancestral_sampling_of_a_chain_is_exact_for_one_position_in_the_bayes_form_only() -> None:
    """The law of x_0 after all steps and after some, followed by matrices."""
    wrong = {}
    for published in (False, True):
        process = Transitions.gaussian(4, [0.4, 0.9, 2.0, 4.0], published=published)
        denoiser, x = TableWorld(P).denoiser(process), torch.arange(4).reshape(4, 1)
        for times in ((1.0, 0.75, 0.5, 0.25, 0.0), (1.0, 0.5, 0.0)):
            p = P @ process.marginal(x, 1.0).probs[:, 0]
            for t, s in itertools.pairwise(times):
                p = p @ process.reverse(denoiser(x, t), x, t, s).probs[:, 0]
            wrong[published] = float((p - P).abs().max())
            assert published or wrong[False] < 1e-12
    assert wrong[True] > 0.002
    drawn = sample(denoiser, Ancestral(), shape=(6, 1), times=(1.0, 0.5, 0.0), noise=Noise(0))
    assert drawn.dtype == torch.int64 and drawn.shape == (6, 1)


# Masked diffusion


def test_recipe_of_masked_diffusion() -> None:
    assert mdlm.Recipe(levels=8).process() == Discrete(9, absorbing=8, schedule=Linear())
    assert mdlm.Recipe(levels=8, schedule="cosine").process() == Discrete(9, absorbing=8, schedule=Late())
    assert mdlm.Recipe(levels=8, uniform=True).process() == Discrete(8, schedule=Linear())
    assert mdlm.Recipe(levels=8, uniform=True, schedule="cosine").process() == Discrete(8, schedule=Cosine())
    assert isinstance(mdlm.Recipe().sampler(), AnyOrder) and isinstance(mdlm.Recipe(uniform=True).sampler(), Ancestral)
    assert mdlm.Recipe().times(4) == (1.0, 0.75, 0.5, 0.25, 0.0)
    text = {"levels": 5, "length": 6, "width": 8, "depth": 1, "heads": 2}
    x = torch.tensor([[0, 1, 4, 2, 3, 0]])
    for fields, clock in (({}, 0.0), ({"timed": True}, 300.0), ({"uniform": True}, 300.0)):
        recipe = mdlm.Recipe(**text, **fields)
        denoiser = recipe.model()
        told = clocks(denoiser)
        denoiser(x, 0.3)
        assert told[0].tolist() == pytest.approx([clock])
        recipe.objective(denoiser)(x.expand(4, -1), None, Noise(0)).mean().backward()
        bound = recipe.bound(denoiser, x, Noise(0), points=3)
        assert bound.steps.shape == (1, 3) and bool(torch.isfinite(bound.total).all())


@pytest.mark.usefixtures("double")
def test_loss_of_continuous_time_draws_the_entropy() -> None:
    """One position under a mask, exact denoiser: the mean of the loss is -log2 p of each datum."""
    world = TableWorld(torch.cat([P, torch.zeros(1)]))
    x = torch.full((8000, 1), 2)
    loss = Jumps(world.denoiser(Discrete(5, absorbing=4, schedule=Late())))(x, None, Noise(0))
    assert abs(float(loss.mean()) + math.log2(0.15)) < 4 * float(loss.std()) / 8000**0.5
    with pytest.raises(ValueError, match="needs rates of jumps, got Transitions"):
        Jumps(world.denoiser(Transitions.gaussian(5, [0.1])))


def test_the_exact_estimate_under_a_mask_does_not_know_the_time() -> None:
    table = torch.zeros(3, 3, dtype=torch.float64)
    table[:2, :2] = torch.tensor([[0.4, 0.1], [0.15, 0.35]])
    denoiser = TableWorld(table).denoiser(Discrete(3, absorbing=2))
    x = torch.tensor([[0, 2], [2, 1], [2, 2]])
    close(denoiser(x[:2], 0.2).mean, denoiser(x[:2], 0.7).mean, 1e-6)
    close(denoiser(x, tensor(0.2, 0.5, 0.9)).mean, denoiser(x, 0.6).mean, 1e-6)
    uniform = TableWorld(table[:2, :2]).denoiser(Discrete(2))
    assert float((uniform(x[:1] % 2, 0.2).mean - uniform(x[:1] % 2, 0.7).mean).abs().max()) > 0.1


# Networks


def test_logits_are_probabilities_with_a_floor_and_no_mask() -> None:
    net = torch.nn.Module()
    net.forward = lambda x, c, cond: torch.tensor([200.0, 0.0, 0.0]).expand(*x.shape, 3)
    p = Logits(net, Discrete(4, absorbing=3), floor=0.03)(torch.zeros(2, 5).long(), 0.5).mean
    close(p[1, 4], tensor(0.98, 0.01, 0.01, 0.0), 1e-6)
    told = []
    net.forward = lambda x, c, cond: (told.append((c, cond)), torch.zeros(*x.shape, 3))[1]
    Logits(net, Discrete(3), clock=lambda t: 10 * t)(torch.zeros(2, 5).long(), torch.tensor([0.1, 0.2]), "label")
    close(told[0][0], tensor(1.0, 2.0), 1e-6)
    assert told[0][1] == "label"


def test_levels_see_their_states_and_a_mask() -> None:
    seen = []

    class Inner(torch.nn.Module):
        def forward(self, u: Tensor, c: Tensor, cond: object) -> Tensor:
            seen.append(u)
            return torch.full((len(u), 2 * (5 if not logistic else 2), *u.shape[2:]), 0.25)

    x = torch.tensor([[[[0, 4]], [[2, 5]]]])  # (1, 2, 1, 2), 5 the mask
    logistic = False
    out = Levels(Inner(), 5, masked=True, logistic=False)(x, torch.zeros(1))
    close(seen[0], torch.tensor([[[[-1.0, 1.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 1.0]]]]))
    want = 0.25 + F.one_hot(x, 6)[..., :5]
    close(out, want)
    logistic = True
    out = Levels(Inner(), 5, logistic=True)(x[:, :1].expand(-1, 2, -1, -1) % 5, torch.zeros(1))
    close(seen[1][0, 0], torch.tensor([[-1.0, 1.0]]))
    close(out[0, 0, 0, 1], truncated_logistic(torch.tanh(torch.tensor(1.25)), torch.tensor(0.25 - 2.0), 5), 1e-6)


@pytest.mark.usefixtures("double")
def test_truncated_logistic_is_a_cut_logistic_law() -> None:
    """Differences of the distribution function 1 / (1 + exp(-(x - m) / s)) at half levels, up to the code's 1e-6."""
    m, s = 0.13, 0.4
    edges = torch.linspace(-1.25, 1.25, 6)
    mass = torch.sigmoid((edges[1:] - m) / s) - torch.sigmoid((edges[:-1] - m) / s)
    got = torch.softmax(truncated_logistic(tensor(m), tensor(math.log(s)), 5), -1)
    close(got, mass / mass.sum(), 1e-5)


@pytest.mark.usefixtures("double")
def test_transformer_sees_order_distance_and_both_sides() -> None:
    torch.manual_seed(0)
    net = Transformer(5, 4, width=16, depth=2, heads=2)
    assert float(net(torch.tensor([[0, 1]]), torch.zeros(1)).detach().abs().max()) < 0.5
    torch.nn.init.eye_(net.leave.weight)
    x, c = torch.tensor([[0, 1, 2, 3, 4]]), torch.tensor([0.0])
    out = net(x, c)
    assert out.shape == (1, 5, 4)
    changed = net(torch.tensor([[0, 1, 2, 3, 0]]), c) - out
    assert bool((changed.abs().amax(-1) > 1e-6).all())  # the last symbol is felt at every place
    assert float((net(x.flip(1), c).flip(1) - out).abs().max()) > 1e-4  # direction matters
    assert float((net(x, c + 5) - out).abs().max()) > 1e-4
    # Places enter by their distance alone: the same symbol everywhere gives the same answer everywhere.
    same = net(torch.full((1, 7), 2), c)
    close(same, same[:, :1].expand_as(same), 1e-10)
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(ValueError, match="multiple of twice the heads, got 12 and 4"):
        Transformer(5, 4, width=12, heads=4)


def test_transformer_learns_to_copy() -> None:
    """Windows of one symbol of four: two bits in eight symbols, 0.25 a symbol, and samples that are such windows."""
    torch.manual_seed(0)
    recipe = mdlm.Recipe(levels=4, length=8, width=16, depth=1, heads=2, dropout=0.0)
    objective = recipe.objective(recipe.model())
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    losses = []
    for i in range(60):
        x = Noise(1000 + i).choice(torch.ones(16, 1, 4)).expand(16, 8)
        loss = objective(x, None, Noise(i)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert 0.2 < sum(losses[-20:]) / 20 < 0.6
    drawn = sample(objective.denoiser, recipe.sampler(), shape=(20, 8), times=recipe.times(8), noise=Noise(0))
    assert float((drawn == drawn[:, :1]).double().mean()) > 0.9
