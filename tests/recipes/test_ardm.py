"""ARDM: orders, steps merged by dynamic programming, and bytes that come back as they were."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from worlds_for_tests import close, tensor

from sfumato.denoisers import Denoiser
from sfumato.likelihood import elbo
from sfumato.noise import Noise, Seeds
from sfumato.processes import Discrete
from sfumato.recipes import ardm
from sfumato.recipes.ardm import merged_costs
from sfumato.recipes.learned_steps import shortest
from sfumato.samplers import AnyOrder, sample
from sfumato.training import OrderAgnostic
from sfumato.worlds import TableWorld

pytestmark = pytest.mark.usefixtures("double")
RECIPE = ardm.Recipe(levels=2, length=3)
MASK = Discrete(3, absorbing=2)


def bits_world() -> TableWorld:
    table = torch.zeros(3, 3, 3)
    table[:2, :2, :2] = torch.tensor([[[0.3, 0.02], [0.05, 0.1]], [[0.02, 0.11], [0.1, 0.3]]])
    return TableWorld(table)


def independent_world() -> TableWorld:
    a, b, c = tensor(0.9, 0.1, 0), tensor(0.6, 0.4, 0), tensor(0.2, 0.8, 0)
    return TableWorld(a[:, None, None] * b[:, None] * c)


def exact_losses(world: TableWorld, denoiser: Denoiser) -> Tensor:
    """L_a of the table, by enumeration of the data and of what is known."""
    data = world._states
    found = []
    for a in range(3):
        subsets = list(itertools.combinations(range(3), a))
        total = 0.0
        for subset in subsets:
            known = torch.zeros(3, dtype=torch.bool)
            known[list(subset)] = True
            probs = denoiser(torch.where(known, data, 2), 1 - a / 3).mean.gather(-1, data[..., None])[..., 0]
            logs = torch.where(known | (world.table.flatten() == 0)[:, None], 0.0, probs.log()).sum(1)
            total -= float(world.table.flatten() @ logs) / (3 - a)
        found.append(total / len(subsets))
    return tensor(*found)


# Losses, and steps merged


def test_losses_add_up_to_the_entropy_and_are_equal_where_positions_are_independent() -> None:
    for world in (bits_world(), independent_world()):
        losses = exact_losses(world, world.denoiser(MASK))
        close(losses.sum(), -torch.xlogy(world.table, world.table).sum())
    close(losses, losses[0])


def test_losses_of_the_recipe_draw_them() -> None:
    world = bits_world()
    x = world.sample(20_000, Noise(0))
    found = RECIPE.losses(world.denoiser(MASK), x, Noise(1))
    close(found, exact_losses(world, world.denoiser(MASK)), 0.02)
    ends = RECIPE.losses(world.denoiser(MASK), x, Noise(1), calls=2)
    close(ends[1], 0.5 * (ends[0] + ends[2]))
    close(RECIPE.losses(world.denoiser(MASK), x, Noise(1), calls=1)[2], found[0], 0.02)


def test_merged_steps_cost_more_unless_positions_are_independent() -> None:
    for world, equal in ((bits_world(), False), (independent_world(), True)):
        costs = merged_costs(exact_losses(world, world.denoiser(MASK)))
        whole = float(-torch.xlogy(world.table, world.table).sum())
        found = [shortest(costs, steps)[1] for steps in (1, 2, 3)]
        assert found[2] == pytest.approx(whole)
        assert (found[0] > found[1] + 0.01 > found[2] + 0.02) is not equal
        assert not equal or found == pytest.approx([whole] * 3)


def test_costs_of_merged_steps_by_hand() -> None:
    costs = merged_costs(tensor(3.0, 2.0, 1.0))
    want = torch.full((4, 4), math.inf)
    want[0, 1:], want[1, 2:], want[2, 3] = tensor(3, 6, 9), tensor(2, 4), 1.0
    close(costs.nan_to_num(posinf=1e9), want.nan_to_num(posinf=1e9))


def test_the_best_grid_is_the_best_of_all() -> None:
    losses = tensor(5.0, 4.6, 3.0, 2.9, 1.0, 0.9, 0.2)
    best = min(
        (sum((b - a) * float(losses[a]) for a, b in itertools.pairwise((0, *inner, 7))), inner)
        for inner in itertools.combinations(range(1, 7), 2)
    )
    times = RECIPE.times(7, 3, losses)
    assert [round(7 * (1 - t)) for t in times] == [0, *best[1], 7]
    assert RECIPE.times(7) == (1.0, *(n / 7 for n in range(6, -1, -1)))
    assert RECIPE.times(7, 2) == (1.0, round(3.5) / 7, 0.0)
    assert RECIPE.times(7, None, losses) == RECIPE.times(7)


# The tie to D3PM, the loss


def test_absorbing_chain_has_the_same_bound_for_each_datum() -> None:
    """In the limit of many steps; three bits, where the chain of 64 steps still loses a little."""
    world = bits_world()
    denoiser, n = world.denoiser(MASK), 64
    x = torch.tensor([[0, 0, 1]]).expand(1500, -1)
    chain = elbo(denoiser, x, tuple(i / n for i in range(n, -1, -1)), Noise(0)).total
    exact = -float(world.log_prob(x[:1])[0])
    assert abs(float(chain.mean()) - exact) < 4 * float(chain.std()) / 1500**0.5 + 0.05


def test_the_loss_draws_the_likelihood_in_bits_a_dimension() -> None:
    world = bits_world()
    x = torch.tensor([[0, 0, 1]]).expand(6000, -1)
    exact = -float(world.log_prob(x[:1])[0]) / (3 * math.log(2))
    loss = OrderAgnostic(world.denoiser(MASK), 0.0)(x, None, Noise(0))
    assert abs(float(loss.mean()) - exact) < 4 * float(loss.std()) / 6000**0.5
    more = OrderAgnostic(world.denoiser(MASK), 0.5)(x, None, Noise(0))
    # With k known the loss has the factor 3 / (3 - k) of the plain sum: 1, 1.5 or 3.
    share = loss / (more - loss) * 0.5
    assert sorted({round(v, 6) for v in share.tolist()}) == [1.0, 1.5, 3.0]
    with pytest.raises(ValueError, match="random orders need a mask"):
        OrderAgnostic(world.denoiser(Discrete(3)))


def test_the_defaults_of_the_recipe_fit_together() -> None:
    recipe = ardm.Recipe(channels=1, levels=4, widths=(8,), blocks=1, attention=())
    denoiser = recipe.model()
    assert denoiser.process == Discrete(5, absorbing=4)
    told = []
    denoiser.net.register_forward_hook(lambda module, args, out: told.append(args[1]))
    estimate = denoiser(torch.tensor([[[[4, 0], [1, 4]]]]), 0.5).mean
    assert told[0].tolist() == [500.0]
    assert estimate.shape == (1, 1, 2, 2, 5) and float(estimate.detach()[..., 4].abs().max()) == 0.0
    assert isinstance(recipe.sampler(), AnyOrder) and recipe.objective(denoiser).weight == 1e-3


# Lossless coding


@pytest.mark.parametrize("steps", [None, 2, 1])
def test_code_comes_back_and_is_as_long_as_the_model_says(steps: int | None) -> None:
    """4000 rows, exact denoiser: bytes against -log2 p in the orders of the seed."""
    world = bits_world()
    denoiser = world.denoiser(MASK)
    x = world.sample(4000, Noise(2))
    code = RECIPE.encode(denoiser, x, seed=5, steps=steps)
    assert torch.equal(RECIPE.decode(denoiser, code, x.shape, seed=5, steps=steps), x)
    if steps is None:
        exact = -float(world.log_prob(x).sum()) / math.log(2)
        assert exact - 1 <= 8 * len(code) <= exact + 96  # three words at most for the state
    if steps == 1:
        alone = [world.table.sum(axes) for axes in ((1, 2), (0, 2), (0, 1))]
        exact = -float(sum(p[x[:, i]].log2().sum() for i, p in enumerate(alone)))
        assert exact - 1 <= 8 * len(code) <= exact + 96  # three words at most for the state


def test_another_seed_is_another_order_and_another_code() -> None:
    world = bits_world()
    denoiser, x = world.denoiser(MASK), bits_world().sample(200, Noise(2))
    codes = [RECIPE.encode(denoiser, x, seed=seed) for seed in (0, 0, 1)]
    assert codes[0] == codes[1] != codes[2]
    assert not torch.equal(RECIPE.decode(denoiser, codes[2] + codes[2], x.shape, seed=0), x)


def test_networks_code_pictures_and_text() -> None:
    torch.manual_seed(0)
    for recipe, shape in (
        (ardm.Recipe(channels=1, levels=4, widths=(8,), blocks=1, attention=(), dropout=0.0), (3, 1, 5, 4)),
        (ardm.Recipe(levels=7, length=9, width=16, depth=1, heads=2, dropout=0.0), (3, 9)),
    ):
        denoiser = recipe.model().eval()
        x = Noise(0).choice(torch.ones(*shape, recipe.levels))
        assert torch.equal(recipe.decode(denoiser, recipe.encode(denoiser, x, steps=4), shape, steps=4), x)


# Sampling


def test_one_at_a_time_in_any_order_is_exact() -> None:
    world = bits_world()
    n = 8000
    for order in ("random", "forward"):
        x = sample(world.denoiser(MASK), AnyOrder(order), shape=(n, 3), times=RECIPE.times(3), noise=Noise(0))
        shares = torch.bincount((x * torch.tensor([4, 2, 1])).sum(1), minlength=8) / n
        close(shares, world.table[:2, :2, :2].flatten(), 4 * 0.5 / n**0.5)


def test_two_at_once_are_drawn_as_if_independent() -> None:
    world = bits_world()
    n = 8000
    x = sample(world.denoiser(MASK), AnyOrder("forward"), shape=(n, 3), times=(1.0, 1 / 3, 0.0), noise=Noise(0))
    table = world.table[:2, :2, :2]
    want = table.sum((1, 2))[:, None] * table.sum((0, 2))
    shares = torch.bincount(2 * x[:, 0] + x[:, 1], minlength=4) / n
    close(shares, want.flatten(), 4 * 0.5 / n**0.5)
    assert float((table.sum(2) - want).abs().max()) > 0.1


def test_each_step_reveals_what_the_time_says_and_keeps_what_is_known() -> None:
    denoiser = bits_world().denoiser(MASK)
    x = torch.tensor([[2, 2, 2], [2, 0, 2], [1, 1, 2]])
    after, _ = AnyOrder().step(denoiser, x, 0.9, 1 / 3, None, Noise(0))
    assert (after == 2).sum(1).tolist() == [1, 1, 1]
    assert after[1, 1] == 0 and after[2].tolist() == [1, 1, 2]
    first, _ = AnyOrder("forward").step(denoiser, x, 0.9, 2 / 3, None, Noise(0))
    assert (first == 2).tolist() == [[False, True, True], [True, False, True], [False, False, True]]
    places = {
        int((AnyOrder().step(denoiser, x[:1], 1.0, 2 / 3, None, Noise(i))[0] != 2).long().argmax()) for i in range(20)
    }
    assert places == {0, 1, 2}


def test_samples_do_not_depend_on_the_batch() -> None:
    denoiser = bits_world().denoiser(MASK)
    whole = sample(denoiser, AnyOrder(), shape=(4, 3), times=RECIPE.times(3), noise=Seeds(range(4)))
    for i in range(4):
        one = sample(denoiser, AnyOrder(), shape=(1, 3), times=RECIPE.times(3), noise=Seeds([i]))
        assert torch.equal(whole[i : i + 1], one)


def test_any_order_needs_a_mask() -> None:
    world = bits_world()
    with pytest.raises(ValueError, match="needs a process with a mask and one time for the batch, got Discrete"):
        AnyOrder().step(world.denoiser(Discrete(3)), torch.zeros(1, 3).long(), 1.0, 0.5, None, Noise(0))
    with pytest.raises(ValueError, match="one time for the batch"):
        AnyOrder().step(world.denoiser(MASK), torch.zeros(1, 3).long(), 1.0, tensor(0.5), None, Noise(0))
