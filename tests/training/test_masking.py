import math

import pytest
import torch

from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise, Seeds
from sfumato.processes import Rectified
from sfumato.training import masking
from sfumato.training.masking import Last, Masked, Mix

KNOWN = Noise(1).uniform(torch.empty(4000, 2, 10)) < 0.7


def hidden_share(valid: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    assert not (given & ~valid).any()
    return 1 - given.flatten(1).sum(1) / valid.flatten(1).sum(1)


def test_random_hides_a_uniform_share_of_what_is_known() -> None:
    valid = torch.ones(4000, 5, 20, dtype=torch.bool)
    share = hidden_share(valid, masking.random(valid, Noise(0)))
    torch.testing.assert_close(share * 100, (share * 100).round(), atol=1e-4, rtol=0)
    # Kolmogorov and Smirnov: 1.63 / sqrt(n) at 1 %, and half a point of the grid of 100
    gap = (share.sort().values - (torch.arange(4000) + 0.5) / 4000).abs().max()
    assert gap < 1.63 / math.sqrt(4000) + 0.005


def test_random_hides_exactly_that_share_of_gappy_data_anywhere() -> None:
    given = masking.random(KNOWN, Noise(0))
    u = Noise(0).uniform(torch.empty(4000))
    hidden = KNOWN.flatten(1).sum(1) - given.flatten(1).sum(1)
    torch.testing.assert_close(hidden.float(), (u * KNOWN.flatten(1).sum(1)).round())
    rate = (KNOWN & ~given).double().mean(0) / KNOWN.double().mean(0)
    torch.testing.assert_close(rate, torch.full_like(rate, 0.5), atol=0.04, rtol=0)


def test_historical_takes_the_gaps_of_the_sample_before() -> None:
    known = KNOWN[:5]
    given = masking.historical(known, Noise(0))
    for i in range(5):
        assert torch.equal(given[i], known[i] & known[i - 1])


def test_last_hides_the_horizon() -> None:
    given = Last(3)(KNOWN, Noise(0))
    assert torch.equal(given[..., :7], KNOWN[..., :7]) and not given[..., 7:].any()


def test_last_with_a_horizon_that_varies() -> None:
    valid = torch.ones(6000, 2, 10, dtype=torch.bool)
    given = Last(3, vary=True)(valid, Noise(0))
    count = (~given).sum(-1)
    assert torch.equal(count[:, 0], count[:, 1])
    assert (given[..., :-1] >= given[..., 1:]).all()
    shares = torch.bincount(count[:, 0], minlength=5) / 6000
    torch.testing.assert_close(shares, torch.tensor([0.0, 1, 1, 1, 0]) / 3, atol=0.025, rtol=0)


def test_block_hides_one_gap_of_the_same_place_in_some_series() -> None:
    valid = torch.ones(8000, 2, 10, dtype=torch.bool)
    lost = ~masking.block(valid, Noise(0))
    length = lost.sum(-1)
    assert ((lost[..., 1:] != lost[..., :-1]).sum(-1) <= 2).all()  # one stretch
    both = (length > 0).all(1)
    assert torch.equal(lost[both, 0], lost[both, 1]) and (length.amax(1) >= 1).all()
    assert abs(float(both.double().mean()) - 0.5) < 0.03  # 1/4, and the 1/4 of neither, in which all are taken
    lengths = torch.bincount(length.amax(1), minlength=11)[1:] / 8000
    torch.testing.assert_close(lengths, torch.full((10,), 0.1), atol=0.015, rtol=0)
    first = lost.any(1).int().argmax(1)[length.amax(1) == 9]
    assert abs(float(first.double().mean()) - 0.5) < 0.08 and set(first.tolist()) == {0, 1}
    assert not (masking.block(KNOWN, Noise(0)) & ~KNOWN).any()


def test_mix_takes_each_strategy_as_often() -> None:
    valid = torch.ones(4000, 2, 10, dtype=torch.bool)
    given = Mix((masking.everything, lambda valid, noise: valid, Last(1)))(valid, Noise(0))
    count = given.sum(-1)
    assert torch.equal(count[:, 0], count[:, 1])
    for kept in (0, 9, 10):
        assert abs(float((count[:, 0] == kept).double().mean()) - 1 / 3) < 0.03


@pytest.mark.parametrize(
    "hide",
    [masking.random, masking.block, Last(4, vary=True), masking.everything],
    ids=["random", "block", "last", "everything"],
)
def test_a_row_is_the_same_in_any_batch(hide: masking.Hide) -> None:
    whole = hide(KNOWN[:6], Seeds(range(6)))
    assert torch.equal(whole[4:], hide(KNOWN[4:6], Seeds([4, 5])))


class Seen(Denoiser):
    """Keeps what it is given; its estimate is 0.5 x_t + 0.25 sum of what was observed."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Rectified()
        self.cond: dict[str, torch.Tensor] = {}

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        self.cond, self.xt, self.t = cond, xt, t
        return Estimate(0.5 * xt + 0.25 * cond["observed"].sum((1, 2), keepdim=True))


def half(process, batch, noise):  # type: ignore[no-untyped-def]
    return torch.full((batch,), 0.5, dtype=torch.float64)


X0 = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0, 7.0, 8.0]]])
VALID = torch.tensor([[[1.0, 1.0, 0.0, 1.0]], [[1.0, 0.0, 1.0, 1.0]]])


class Ones(Noise):
    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(like)


def test_loss_by_hand() -> None:
    seen = Seen()
    loss = Masked(seen, Last(2), half, lambda alpha, sigma: 4 * alpha / sigma)(X0, {"valid": VALID, "more": X0}, Ones())
    assert torch.equal(seen.cond["mask"], torch.tensor([[[1.0, 1, 0, 0]], [[1.0, 0, 0, 0]]]))
    assert torch.equal(seen.cond["observed"], torch.tensor([[[1.0, 2, 0, 0]], [[5.0, 0, 0, 0]]]))
    assert torch.equal(seen.cond["more"], X0) and "valid" not in seen.cond
    # Row 0: entry 3, x_t = 2.5, D = 1.25 + 0.75; row 1: entries 2 and 3, x_t = 4 and 4.5, D = 2 + 1.25, 2.25 + 1.25.
    torch.testing.assert_close(loss, 4 * 2 * torch.tensor([(4 - 2.0) ** 2, (7 - 3.25) ** 2 + (8 - 3.5) ** 2]) / 3)


def test_what_is_not_known_is_not_read() -> None:
    seen = Seen()
    losses = [
        Masked(seen, Last(2), half, lambda a, s: 1.0)(torch.where(VALID > 0, X0, fill), {"valid": VALID}, Ones())
        for fill in (0.0, 9.0, math.nan)
    ]
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
    assert seen.xt[0, 0, 2] == 0.5  # noise alone


def test_without_a_mask_all_is_known_and_without_a_target_the_loss_is_zero() -> None:
    loss = Masked(Seen(), lambda valid, noise: valid, half, lambda a, s: 1.0)
    assert torch.equal(loss(X0, None, Ones()), torch.zeros(2))
    everything = Masked(Seen(), masking.everything, half, lambda a, s: 1.0)(X0, None, Ones())
    torch.testing.assert_close(everything, (X0 - 0.5 * (0.5 * X0 + 0.5)).square().mean((1, 2)))


def test_side_information_is_dropped_row_by_row() -> None:
    seen = Seen()
    null = lambda cond: cond | {"more": torch.zeros_like(cond["more"])}  # noqa: E731
    objective = Masked(seen, Last(2), half, lambda a, s: 1.0, drop=0.3, null=null)
    objective(X0.repeat(2000, 1, 1), {"valid": VALID.repeat(2000, 1, 1), "more": torch.ones(4000, 1)}, Noise(0))
    assert abs(float(seen.cond["more"].mean()) - 0.7) < 0.03
    assert seen.cond["observed"].abs().amax((1, 2)).min() > 0
    with pytest.raises(ValueError, match="needs `null`"):
        Masked(seen, Last(2), half, lambda a, s: 1.0, drop=0.3)
