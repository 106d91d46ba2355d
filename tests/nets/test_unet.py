"""The U-Net: it learns, every parameter takes part, any size goes through, conditions count, and shifts commute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.nets import UNet
from sfumato.nets.unet import ChannelNorm, pad_to, shuffle, unshuffle


def net(*, waken: bool = True, **options) -> UNet:
    """A small net; `waken`: its zero layers get numbers, so that everything counts."""
    torch.manual_seed(0)
    made = UNet(**{"channels": 2, "widths": (8, 12), "blocks": 1, **options})
    if waken:
        for parameter in made.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.2)
    return made.eval()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LEVEL = torch.tensor([0.3, -1.0])
KINDS = {
    "plain": {},
    "patch": {"patch": 2},
    "attention": {"attention": (1,)},
    "signal": {"dims": 1, "patch": 2, "attention": (0, 1)},
    "label": {"classes": 3},
    "groups": {"groups": 4, "attention": (1,)},
    "all": {"classes": 3, "vector": 4, "image": 1, "blocks": 2, "widths": (8,)},
}


def conditions(made: UNet, like: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = {
        "label": torch.tensor([0, 2]),
        "vector": draw(2, 4, seed=3),
        "image": draw(2, 1, *like.shape[2:], seed=4),
    }
    has = {"label": made.classes, "vector": made.vector, "image": made.image}
    return {key: value for key, value in whole.items() if has[key]}


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_at_zero_every_parameter_learns_and_one_batch_is_overfitted(kind):
    made = net(waken=False, **KINDS[kind])
    x = draw(2, 2, *[8] * made.dims)
    cond, target = conditions(made, x), draw(2, 2, *[8] * made.dims, seed=1)
    assert not made(x, LEVEL, cond).any()
    optimizer = torch.optim.Adam(made.train().parameters(), 2e-2)
    for step in range(100 if kind in ("attention", "all") else 6):
        loss = (made(x, LEVEL, cond) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 5:  # the zero layers have moved by now and let gradients through
            # The label that means none, and labels that are absent, have no share in this batch.
            dead = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()]
            assert dead == []
    if step > 6:
        assert float(loss.detach()) < 0.1 * float(target.square().mean())


@pytest.mark.parametrize("kind", KINDS)
def test_state_dict_round_trip(kind):
    made, other = net(**KINDS[kind]), UNet(**{"channels": 2, "widths": (8, 12), "blocks": 1, **KINDS[kind]}).eval()
    x = draw(2, 2, *[8] * made.dims)
    cond = conditions(made, x)
    assert not torch.equal(other(x, LEVEL, cond), made(x, LEVEL, cond))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(x, LEVEL, cond), made(x, LEVEL, cond))


def test_the_names_that_saved_models_use():
    """Names of the weights are a promise: models under way and shipped ones are read by them."""
    names = set(net(classes=3, vector=4, attention=(1,)).state_dict())
    assert {"enter.weight", "leave.bias", "clock.layers.0.weight", "label.weight", "project.weight"} <= names
    assert {"down.1.0.attention.qkv.weight", "up.0.0.modulate.bias", "shrink.0.weight", "grow.0.weight"} <= names
    assert {"down.0.0.norm1.weight", "down.0.0.conv2.bias"} <= names and "clock.frequencies" not in names


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
@pytest.mark.parametrize("kind", ["plain", "attention", "all"])
def test_half_precision_is_near(kind, dtype, bound):
    made = net(**KINDS[kind])
    x = draw(2, 2, 8, 8)
    cond = conditions(made, x)
    exact = made(x, LEVEL, cond)
    half = made.to(dtype)(x.to(dtype), LEVEL.to(dtype), cond)
    assert half.dtype == dtype
    assert (half.float() - exact).abs().max() < bound * exact.abs().max()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 13), (8, 8), (1, 17), (31, 5)])
def test_any_size_goes_through(size):
    made = net(widths=(8, 8, 8), patch=2)
    out = made(draw(2, 2, *size), LEVEL)
    assert out.shape == (2, 2, *size) and bool(out.isfinite().all()) and bool(out.any())
    line = net(dims=1, patch=2)
    assert line(draw(2, 2, size[1]), LEVEL).shape == (2, 2, size[1])


def test_a_size_that_is_not_divided_is_that_of_the_padded_picture():
    made, x = net(patch=2), draw(2, 2, 6, 7)
    padded = nn.functional.pad(x, (0, 1, 0, 2), mode="reflect")
    torch.testing.assert_close(made(x, LEVEL), made(padded, LEVEL)[..., :6, :7])


def test_samples_of_a_batch_do_not_meet():
    made, x = net(attention=(0,)), draw(2, 2, 6, 6)
    torch.testing.assert_close(made(x, LEVEL)[1:], made(x[1:], LEVEL[1:]), rtol=1e-4, atol=1e-5)


def test_the_level_counts():
    made, x = net(), draw(2, 2, 8, 8)
    assert not torch.allclose(made(x, LEVEL), made(x, LEVEL + 0.5), rtol=1e-2, atol=1e-2)


def test_conditions_count_and_none_is_null():
    made, x = net(**KINDS["all"]), draw(2, 2, 8, 8)
    null = {"label": torch.tensor([3, 3]), "vector": torch.zeros(2, 4), "image": torch.zeros(2, 1, 8, 8)}
    plain = made(x, LEVEL)
    project = made.project
    assert project is not None
    project.bias.data.zero_()  # a zero vector and none differ by the bias alone, and `none` adds nothing
    plain = made(x, LEVEL)
    assert torch.equal(made(x, LEVEL, {}), plain) and torch.equal(made(x, LEVEL, null), plain)
    for key, value in conditions(made, x).items():
        changed = made(x, LEVEL, {key: value})
        assert not torch.allclose(changed, plain, rtol=1e-3, atol=1e-3), key
        assert torch.equal(made(x, LEVEL, {**null, key: value}), changed)  # each for itself


def test_a_bare_tensor_serves_where_there_is_one_kind():
    made, x, label = net(classes=3), draw(2, 2, 8, 8), torch.tensor([0, 1])
    assert torch.equal(made(x, LEVEL, label), made(x, LEVEL, {"label": label}))
    with pytest.raises(ValueError, match=r"\['label', 'vector', 'image'\]: give a dict"):
        net(**KINDS["all"])(x, LEVEL, label)
    with pytest.raises(ValueError, match="the conditions none"):
        net()(x, LEVEL, label)


@pytest.mark.parametrize("kind", ["plain", "patch", "signal"])
def test_a_shift_by_the_stride_commutes_away_from_the_edges(kind):
    """What the fully convolutional net does at a pixel depends on its surroundings alone: no norm sees all of space."""
    made = net(**{**KINDS[kind], "attention": ()})
    s = made.stride
    reach, n = 10 * s, 22 * s  # the ends see 1 pixel of the finest grid each, a block 2 at its level: about 8 strides
    assert s == made.patch * 2
    wide = draw(1, 2, *[n + s] * made.dims)
    a = made(wide[(..., *[slice(0, n)] * made.dims)], LEVEL[:1])
    b = made(wide[(..., *[slice(s, None)] * made.dims)], LEVEL[:1])
    inner, moved = [slice(reach, n - reach)] * made.dims, [slice(reach - s, n - reach - s)] * made.dims
    middle = a[(..., *inner)]
    assert middle.numel() > 0
    torch.testing.assert_close(middle, b[(..., *moved)], rtol=1e-4, atol=1e-5)
    # By less than the stride it does not, so the test sees something.
    c = made(wide[(..., *[slice(1, n + 1)] * made.dims)], LEVEL[:1])
    nearly = [slice(reach - 1, n - reach - 1)] * made.dims
    assert not torch.allclose(middle, c[(..., *nearly)], rtol=1e-3, atol=1e-3)


def test_dropout_acts_in_training_alone():
    made, x = net(dropout=0.5), draw(2, 2, 8, 8)
    assert torch.equal(made(x, LEVEL), made(x, LEVEL))
    made.train()
    assert not torch.equal(made(x, LEVEL), made(x, LEVEL))


def test_out_may_differ_from_channels():
    assert net(out=5)(draw(2, 2, 5, 5), LEVEL).shape == (2, 5, 5, 5)


@pytest.mark.parametrize("shape", [(2, 3, 12), (2, 3, 8, 12)])
@pytest.mark.parametrize("patch", [1, 2, 4])
def test_shuffle_undoes_unshuffle(shape, patch):
    x = draw(*shape)
    deep = unshuffle(x, patch)
    dims = len(shape) - 2
    assert deep.shape == (2, 3 * patch**dims, *(n // patch for n in shape[2:]))
    assert torch.equal(shuffle(deep, patch), x)
    # Channel c patch^dims + j holds the numbers of channel c at offset j of each patch.
    if dims == 1 and patch > 1:
        assert torch.equal(deep[:, 1 * patch + 1], x[:, 1, 1::patch])


def test_pad_to():
    x = torch.arange(5.0).reshape(1, 1, 5)
    assert pad_to(x, 5) is x
    assert pad_to(x, 4).tolist() == [[[0, 1, 2, 3, 4, 3, 2, 1]]]  # reflected, without its edge
    assert pad_to(x[..., :2], 4).tolist() == [[[0, 1, 1, 1]]]  # too short to reflect: the edge
    picture = pad_to(draw(1, 1, 3, 4), 4)
    assert picture.shape == (1, 1, 4, 4) and torch.equal(picture[..., 3, :], picture[..., 1, :])


def test_groups_of_channels_are_normalised_over_all_positions():
    made, fresh = net(groups=2), net(groups=2, waken=False)
    parts = fresh.down[0][0].norm1(3.0 + 5.0 * draw(2, 8, 6, 6)).reshape(2, 2, -1)
    assert parts.mean(-1).abs().max() < 1e-5 and (parts.var(-1, correction=0) - 1.0).abs().max() < 1e-4
    x = draw(1, 2, 64, 64)
    changed = x.clone()
    changed[..., 0, 0] += 5.0

    def moves(kind: UNet) -> bool:  # the far corner is beyond the reach of the convolutions
        ends = (kind(u, LEVEL[:1])[..., -1, -1] for u in (x, changed))
        return not torch.equal(*ends)

    assert moves(made) and not moves(net())


def test_groups_are_everywhere_or_nowhere():
    for groups in (0, 4):
        made = net(attention=(0, 1), groups=groups)
        found = [m for m in made.modules() if isinstance(m, ChannelNorm | nn.GroupNorm)]
        assert len(found) == 3 * 4  # two of a block and one of its attention
        assert all(isinstance(m, nn.GroupNorm) and m.num_groups == 4 if groups else isinstance(m, ChannelNorm)
                   for m in found)  # fmt: skip


def test_groups_divide_every_width():
    with pytest.raises(ValueError, match=r"got 8 groups and widths \(8, 12\)"):
        net(groups=8)


def test_heads_divide_the_channels_of_attention():
    with pytest.raises(ValueError, match="5 heads here, which do not divide 176 channels"):
        net(widths=(8, 176), attention=(1,))
    assert net(widths=(8, 144), attention=(1,)).down[1][0].attention.heads == 4
    net(widths=(8, 176))
