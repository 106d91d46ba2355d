import math

import pytest
import torch

from sfumato.nets.ring import Ring
from sfumato.nets.steps import StepEmbedding
from sfumato.nets.two_axis import LinearLayer, TwoAxis, sinusoids
from sfumato.noise import Noise


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return Noise(seed).normal(torch.empty(shape))


def awake(net: torch.nn.Module) -> torch.nn.Module:
    """The net with every parameter drawn, the zero head too, without dropout."""
    for i, p in enumerate(net.parameters()):
        p.data = 0.3 * normal(*p.shape, seed=i)
    return net.eval()


def cond(B: int = 2, C: int = 3, L: int = 7) -> dict[str, torch.Tensor]:
    return {
        "observed": normal(B, C, L, seed=90),
        "mask": (normal(B, C, L, seed=91) > 0).float(),
        "covariates": normal(B, 2, L, seed=92),
        "static": normal(B, 1, seed=93),
    }


VARIANTS = {
    "paper": {},
    "patches": {"patch": 3},
    "joint": {"joint": True},
    "joint patches": {"joint": True, "patch": 3},
    "linear": {"linear": True},
}


def two_axis(**options: object) -> TwoAxis:
    options = {"covariates": 2, "statics": 1, "heads": 2} | options
    net = awake(TwoAxis(3, 16, 2, **options))  # type: ignore[arg-type]
    assert isinstance(net, TwoAxis)
    return net


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_given_entries_hide_the_state_and_hidden_ones_their_value(options: dict[str, object]) -> None:
    net, c, u, level = two_axis(**options), cond(), normal(2, 3, 7), torch.tensor([3.0, 20.0])
    out = net(u, level, c)
    hidden = c["mask"] == 0
    same = net(torch.where(hidden, u, 9.0), level, c | {"observed": torch.where(hidden, -7.0, c["observed"])})
    torch.testing.assert_close(same, out, atol=0, rtol=0)
    for changed in ({"mask": 1 - c["mask"]}, {"observed": c["observed"] + 1}, {"static": c["static"] + 1}):
        assert (net(u, level, c | changed) - out).abs().max() > 1e-5
    assert (net(u + 1, level, c) - out).abs().max() > 1e-5
    assert (net(u, level + 1, c) - out).abs().max() > 1e-5
    assert (net(u, level, c | {"time": torch.arange(7.0)[None] + 5}) - out).abs().max() > 1e-5
    torch.testing.assert_close(net(u, level, c | {"time": torch.arange(7.0)[None]}), out)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_number_of_the_window_reaches_every_other(options: dict[str, object]) -> None:
    net, c = two_axis(**options), cond(1)
    c["mask"] = torch.zeros_like(c["mask"])
    u = normal(1, 3, 7).requires_grad_()
    for channel, l in ((0, 0), (2, 6), (1, 3)):
        (grad,) = torch.autograd.grad(net(u, torch.tensor([3.0]), c)[0, channel, l], u)
        assert (grad != 0).all()
    covariates = c["covariates"].requires_grad_()
    (grad,) = torch.autograd.grad(net(u, torch.tensor([3.0]), c)[0, 1, 2], covariates)
    assert (grad != 0).all()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_rows_do_not_see_each_other_and_every_parameter_learns(options: dict[str, object]) -> None:
    net, c, u, level = two_axis(**options), cond(), normal(2, 3, 7), torch.tensor([3.0, 20.0])
    out = net(u, level, c)
    one = net(u[1:], level[1:], {k: v[1:] for k, v in c.items()})
    torch.testing.assert_close(out[1:], one, atol=1e-5, rtol=1e-5)
    out.square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_an_untrained_network_predicts_its_bias_alone() -> None:
    net = TwoAxis(3, 16, 1, heads=2)
    out = net(normal(2, 3, 7), torch.tensor([3.0, 20.0]), None)
    torch.testing.assert_close(out, net.leave[1].bias.detach().expand_as(out))  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("linear", [False, True])
def test_series_permuted_with_their_embeddings(linear: bool) -> None:
    net, c, u, level = two_axis(linear=linear), cond(), normal(2, 3, 7), torch.tensor([3.0, 20.0])
    out, order = net(u, level, c), torch.tensor([2, 0, 1])
    turned = {k: v[:, order] if k in ("observed", "mask") else v for k, v in c.items()}
    named = net(u[:, order], level, turned | {"series": order.expand(2, 3)})
    torch.testing.assert_close(named, out[:, order], atol=1e-5, rtol=1e-5)
    assert (net(u[:, order], level, turned) - out[:, order]).abs().max() > 1e-5


def test_some_of_the_series_alone() -> None:
    net, c, u = two_axis(), cond(C=2), normal(2, 2, 7)
    ids = torch.tensor([[0, 2], [2, 1]])
    out = net(u, torch.tensor([3.0, 20.0]), c | {"series": ids})
    swapped = {k: v.flip(1) if k in ("observed", "mask") else v for k, v in c.items()} | {"series": ids.flip(1)}
    torch.testing.assert_close(net(u.flip(1), torch.tensor([3.0, 20.0]), swapped).flip(1), out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("length", [6, 7, 9])
def test_tokens_hold_the_window_once(joint: bool, length: int) -> None:
    net, x = two_axis(joint=joint, patch=3), normal(2, 3, length)
    tokens = net._fold(x)
    assert tokens.shape == ((2, 1, -(-length // 3), 9) if joint else (2, 3, -(-length // 3), 3))
    assert torch.equal(net._unfold(tokens, x), x)
    assert float(tokens.abs().sum()) == pytest.approx(float(x.abs().sum()), rel=1e-6)


@pytest.mark.parametrize(
    ("key", "value"), [("covariates", None), ("covariates", torch.zeros(2, 3, 7)), ("static", torch.zeros(2, 2))]
)
def test_side_information_that_is_missing_or_misshapen(key: str, value: torch.Tensor | None) -> None:
    c = {k: v for k, v in cond().items() if k != key} | ({} if value is None else {key: value})
    with pytest.raises(ValueError, match=f"needs '{key}' of shape"):
        two_axis()(normal(2, 3, 7), torch.tensor([3.0, 20.0]), c)


def test_linear_attention_is_the_quadratic_one_with_this_kernel() -> None:
    layer = awake(LinearLayer(6, 2, 8, 0.0)).double()
    assert isinstance(layer, LinearLayer)
    x = normal(1, 5, 6).double()
    q, k, v = layer.qkv(x)[0].chunk(3, -1)
    mixed = torch.zeros(5, 6).double()
    for head in range(2):
        at = slice(3 * head, 3 * head + 3)
        phi = torch.where(q > 0, q + 1, q.exp())[:, at], torch.where(k > 0, k + 1, k.exp())[:, at]
        weights = phi[0] @ phi[1].T
        mixed[:, at] = weights / weights.sum(1, keepdim=True) @ v[:, at]
    h = layer.norms[0](x[0] + layer.out(mixed))
    first, last = layer.feed
    expected = layer.norms[1](h + last(torch.nn.functional.gelu(first(h))))
    torch.testing.assert_close(layer(x)[0], expected)


def test_sinusoids_of_time() -> None:
    values = sinusoids(torch.tensor([[0.0, 3.0]]).double(), 4)[0]
    expected = [[0.0, 1.0, 0.0, 1.0], [math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)]]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


def rows(embedding: StepEmbedding, *steps: float) -> torch.Tensor:
    """What the two layers are given: read through layers that pass the table on."""
    seen = []
    embedding.first.register_forward_hook(lambda layer, inputs, out: seen.append(inputs[0]))
    embedding(torch.tensor(steps))
    return seen[0]


def test_rows_of_the_step_table() -> None:
    table = rows(StepEmbedding(50), 0.0, 7.0)
    torch.testing.assert_close(table[0], torch.tensor([0.0] * 64 + [1.0] * 64))
    assert float(table[1, 0]) == pytest.approx(math.sin(7), abs=1e-6)
    assert float(table[1, 63]) == pytest.approx(math.sin(7e4), abs=1e-6)
    assert float(table[1, 64 + 21]) == pytest.approx(math.cos(7 * 10 ** (4 / 3)), abs=1e-6)
    ours = rows(StepEmbedding(100, 16, 64, divisor=16), 3.0)
    assert ours.shape == (1, 32) and float(ours[0, 8]) == pytest.approx(math.sin(300), abs=1e-6)


def test_between_steps_the_table_is_interpolated_and_held_at_its_ends() -> None:
    table = rows(StepEmbedding(5), 1.0, 2.0, 1.25, -0.7, 0.0, 9.0, 4.0)
    torch.testing.assert_close(table[2], 0.75 * table[0] + 0.25 * table[1])
    torch.testing.assert_close(table[3], table[4])
    torch.testing.assert_close(table[5], table[6])


def test_a_ring_of_one_series() -> None:
    net = awake(Ring(1, 4))
    out = net(normal(2, 1), torch.tensor([3.0, 40.0]), {"state": normal(2, 4)})
    assert out.shape == (2, 1) and not torch.equal(out[0], out[1])


def test_the_state_of_few_series_is_not_squeezed() -> None:
    assert (Ring(2, 4).narrow.out_features, Ring(64, 4).narrow.out_features) == (16, 32)
    net = awake(Ring(3, 4)).double()
    u, level = normal(1, 3).double(), torch.tensor([3.0]).double()
    state = normal(1, 4).double().requires_grad_()
    out = net(u, level, {"state": state})[0]
    jacobian = torch.stack([torch.autograd.grad(one, state, retain_graph=True)[0][0] for one in out])
    assert int(torch.linalg.matrix_rank(jacobian, rtol=1e-6)) == 3


def test_the_ring_sees_state_level_and_neighbours() -> None:
    net = awake(Ring(5, 4))
    u, level, c = normal(2, 5), torch.tensor([3.0, 40.0]), {"state": normal(2, 4)}
    out = net(u, level, c)
    assert out.shape == u.shape
    for changed in (net(u, level + 1, c), net(u, level, {"state": c["state"] + 1})):
        assert ((changed - out).abs().amax(1) > 1e-4).all()
    torch.testing.assert_close(net(u[:1], level[:1], {"state": c["state"][:1]}), out[:1], atol=1e-6, rtol=1e-5)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    fresh = Ring(5, 4)
    torch.testing.assert_close(fresh(u, level, c), fresh.leave.bias.expand_as(u))
