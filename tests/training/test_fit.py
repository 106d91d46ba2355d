"""The loop: keyed steps, an order that is a permutation, losses that are not finite, schedules, averaged weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from sfumato.training import Ema, fit, warmup_decay
from sfumato.training.fit import Order


class Points:
    """Items 0 .. n-1; remembers which were asked for."""

    def __init__(self, n: int = 10) -> None:
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    def batch(self, items, noise):
        self.asked.append(items)
        return torch.tensor(items, dtype=torch.float32).unsqueeze(1) + noise.normal(torch.empty(len(items), 1)), None


class Quadratic(nn.Module):
    """(w - x0 - noise)^2, with dropout on the way if asked for."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.w, self.frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1), requires_grad=False)
        self.dropout, self.told = nn.Dropout(dropout), []

    def forward(self, x0, cond, noise):
        return (self.dropout(self.w.expand(len(x0))) - x0[:, 0] - noise.normal(x0)[:, 0]).square()


def train(objective, steps, start=0, optimizer=None, data=None, **kw):
    optimizer = optimizer or torch.optim.SGD(objective.parameters(), 0.05)
    return list(fit(objective, Points() if data is None else data, optimizer, steps=steps, start=start, batch=4, **kw))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_step_n_is_the_same_however_often_the_run_was_stopped(dropout):
    whole, parts = Quadratic(dropout), Quadratic(dropout)
    a = train(whole, 12, seed=3)
    b = []
    for start, stop in ((0, 1), (1, 5), (5, 5), (5, 12)):
        torch.manual_seed(start)  # what else the program draws must not matter
        b += train(parts, stop, start, seed=3)
    assert a == b and torch.equal(whole.w, parts.w)
    assert [step.index for step in a] == list(range(1, 13))
    assert train(Quadratic(dropout), 12, seed=4) != a


def test_layers_draw_anew_each_step_and_leave_the_global_stream_alone():
    objective = Quadratic(0.5)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    masks = []
    objective.dropout.register_forward_hook(lambda m, i, out: masks.append(out.detach() != 0))
    nn.init.ones_(objective.w)
    train(objective, 8, clip=1e-9)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({tuple(mask.tolist()) for mask in masks}) > 2


def test_one_step_is_the_gradient_step_of_the_mean_loss():
    data, objective = Points(), Quadratic()
    step = train(objective, 1, data=data, clip=math.inf)[0]
    # d/dw mean (w - z)^2 at w = 0 is -2 mean z, and the loss is mean z^2; SGD moves by -0.05 of it.
    assert objective.w.item() == pytest.approx(0.05 * step.norm, rel=1e-6)
    assert step.rate == 0.05 and step.loss >= (step.norm / 2) ** 2


def test_clip_bounds_the_move_and_reports_the_norm_before():
    free, held = Quadratic(), Quadratic()
    a, b = train(free, 1, clip=math.inf)[0], train(held, 1, clip=0.01)[0]
    assert a.norm == b.norm > 1
    assert held.w.item() == pytest.approx(0.05 * 0.01, rel=1e-4)


def test_the_order_is_a_permutation_in_each_epoch():
    n, size = 10, 4
    order = Order(n, size, seed=1)
    flat = [i for step in range(1, 16) for i in order.items(step)]
    epochs = [flat[i : i + n] for i in range(0, 60, n)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert Order(n, size, 1).items(7) == flat[24:28]  # from any step, without those before
    assert Order(n, size, 2).items(7) != flat[24:28]
    assert sorted(Order(3, 7, 0).items(1)[:3]) == [0, 1, 2]  # a batch larger than the data


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        train(Quadratic(), 1, data=Points(0))
    with pytest.raises(ValueError, match="at least 1 item, got 0"):
        next(fit(Quadratic(), Points(), torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1), steps=1, batch=0))


class Broken(Quadratic):
    """A loss, or a gradient, that is not finite."""

    def __init__(self, value: float, gradient: float) -> None:
        super().__init__()
        self.value, self.gradient = value, gradient

    def forward(self, x0, cond, noise):
        wrong = self.w * self.gradient
        return super().forward(x0, cond, noise) + (wrong - wrong.detach()) + self.value


@pytest.mark.parametrize(
    ("value", "gradient", "words"),
    [(math.nan, 1, "loss at step 1 is nan"), (math.inf, 1, "loss at step 1 is inf"), (0, 1e38, "gradient at step 1")],
)
def test_what_is_not_finite_stops_before_it_reaches_the_weights(value, gradient, words):
    objective = Broken(value, gradient)
    if gradient > 1:
        objective.w.register_hook(lambda g: g * 10)
    ema = Ema(objective)
    with pytest.raises(FloatingPointError, match=words):
        train(objective, 1, ema=ema)
    assert objective.w.item() == 0.0 and ema.updates == 0


def test_advance_is_told_each_step_before_it_runs():
    objective = Quadratic()
    objective.advance = objective.told.append
    seen = [list(objective.told) for _ in fit(objective, Points(), torch.optim.SGD([objective.w], 0), steps=3, batch=1)]
    assert seen == [[1], [1, 2], [1, 2, 3]]


def test_training_mode_and_learning_rates():
    objective = Quadratic().eval()
    groups = [{"params": [objective.w], "lr": 0.5}, {"params": [objective.frozen], "lr": 2.0}]
    optimizer = torch.optim.SGD(groups, 1.0)
    rates = [s.rate for s in train(objective, 4, optimizer=optimizer, schedule=lambda n: 1 / n)]
    assert objective.training
    assert rates == [0.5, 0.25, 0.5 / 3, 0.125] and optimizer.param_groups[1]["lr"] == 0.5
    # Continued: the base rate is remembered, not the last one.
    assert train(objective, 5, 4, optimizer=optimizer, schedule=lambda n: 1 / n)[0].rate == 0.1


def test_warmup_decay():
    factor = warmup_decay(100, warmup=10, decay=0.2)
    assert [factor(n) for n in (1, 5, 10, 50, 81)] == [0.1, 0.5, 1.0, 1.0, 1.0]
    assert [factor(n) for n in (82, 91, 100)] == pytest.approx([19 / 20, 10 / 20, 1 / 20])
    assert warmup_decay(10, warmup=0, decay=0.0)(1) == 1.0 == warmup_decay(10, warmup=0, decay=0.0)(10)
    longer = warmup_decay(1000, warmup=10, decay=0.2)
    assert all(factor(n) == longer(n) for n in range(1, 82))


def test_prolonging_before_the_decay_is_exact():
    def go(*stops):
        objective, start, out = Quadratic(), 0, []
        for done, steps in stops:  # run to `done` of a run of `steps`
            out += train(objective, done, start, schedule=warmup_decay(steps, warmup=3, decay=0.5))
            start = done
        return out, objective.w

    (a, wa), (b, wb) = go((20, 20)), go((5, 10), (20, 20))
    assert a == b and torch.equal(wa, wb)
    assert go((8, 10), (20, 20))[0] != a


def test_ema_is_the_ramped_average():
    """After updates 1, 2, ... the decay is min(d, (1 + n) / (10 + n)): by hand, 2/11, 3/12, then d = 0.26."""
    module = nn.BatchNorm1d(1)
    values, average = [1.0, 3.0, -2.0, 5.0], None
    with torch.no_grad():
        module.weight.fill_(7.0)
        ema, average = Ema(module, 0.26), 7.0
        for value, decay in zip(values, (2 / 11, 3 / 12, 0.26, 0.26), strict=True):
            module.weight.fill_(value)
            module.running_mean.fill_(value)
            ema.update(module)
            average = decay * average + (1 - decay) * value
            assert float(ema.average.weight) == pytest.approx(average, rel=1e-6)
            assert float(ema.average.running_mean) == value  # buffers are copied
    assert ema.updates == 4 and not ema.average.training
    assert not any(p.requires_grad for p in ema.average.parameters())


def test_ema_forgets_exponentially():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(copy.deepcopy(module), 0.9)
    ema.updates = 10**9  # past the ramp
    nn.init.ones_(module.weight)
    for _ in range(20):
        ema.update(module)
    assert float(ema.average.weight) == pytest.approx(1 - 0.9**20, rel=1e-5)


def test_fit_updates_the_average_after_each_step():
    objective = Quadratic()
    ema, values, average = Ema(objective, 0.5), [], 0.0
    for step in fit(objective, Points(), torch.optim.SGD([objective.w], 0.05), steps=5, batch=2, ema=ema):
        values.append(objective.w.item())
        decay = min(0.5, (1 + step.index) / (10 + step.index))
        average = decay * average + (1 - decay) * values[-1]
        assert float(ema.average.w) == pytest.approx(average, rel=1e-5)
