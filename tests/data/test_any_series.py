import math

import pytest
import torch

from sfumato.data.any_series import AnySeries, made
from sfumato.noise import Noise, Seeds


def test_windows_are_cut_from_the_groups_on_a_scale_of_a_part_of_their_own() -> None:
    ramp, wave = torch.arange(100.0).double(), torch.sin(torch.arange(60.0).double())
    data = AnySeries([[1000 + 5 * ramp], [7 * wave, wave]], length=40, share=0.0)
    rows = [data.window(Noise(i)) for i in range(400)]
    ramps = [x for x in rows if (x[-10:].diff(n=2).abs() < 1e-9).all()]
    assert 140 < len(ramps) < 260  # each group as often, however many series it holds
    for x in rows:
        known = x[~x.isnan()]
        assert known.abs().max() <= 10 and 0.2 < float(known.std()) < 5
    slopes = torch.stack([x[-1] - x[-2] for x in ramps])
    # The part has 14 to 40 points of the 40 at least, or of the 10 to 40 that are there: its spread is n / sqrt(12).
    assert (slopes > 0.07).all() and (slopes < 0.45).all() and slopes.std() > 0.01
    assert {float(x[-1].isnan()) for x in rows} == {0.0}


def test_one_window_in_four_lacks_its_first_part() -> None:
    data = AnySeries([[torch.sin(torch.arange(60.0).double())]], length=40, share=0.0)
    gone = torch.tensor([float(data.window(Noise(i)).isnan().sum()) for i in range(1500)])
    assert abs(float((gone > 0).double().mean()) - 0.25) < 0.04 and gone.max() <= 30
    assert abs(float(gone[gone > 0].mean()) - 15) < 2.0
    x = data.window(Noise(int((gone > 5).nonzero()[0])))
    assert x[:5].isnan().all() and not x[30:].isnan().any()


def test_a_short_series_stands_at_the_end_and_gaps_stay() -> None:
    series = torch.arange(20.0).double()
    series[7] = torch.nan
    data = AnySeries([[series]], length=40, share=0.0)
    x = next(x for x in (data.window(Noise(i)) for i in range(20)) if int(x.isnan().sum()) == 21)
    assert x[:20].isnan().all() and x[27].isnan() and not x[28:].isnan().any()
    x0, cond = data.batch([0, 1], Seeds([0, 1]))
    assert x0.shape == (2, 1, 40) and x0.dtype == torch.float32 and not x0.isnan().any()
    assert torch.equal(cond["valid"] == 0, data_missing(data)) and (x0[cond["valid"] == 0] == 0).all()


def data_missing(data: AnySeries) -> torch.Tensor:
    return torch.stack([data.window(Noise(0)), data.window(Noise(1))])[:, None].isnan()


def test_made_series_alone_and_empty_groups() -> None:
    assert AnySeries([], length=30).window(Noise(0)).shape == (30,)
    with pytest.raises(ValueError, match="a group of series is empty"):
        AnySeries([[]])


def test_a_row_depends_on_its_own_stream() -> None:
    data = AnySeries([[torch.sin(torch.arange(60.0).double())]], length=40)
    both, one = data.batch([5, 6], Seeds([1, 2]))[0], data.batch([9], Seeds([2]))[0]
    assert torch.equal(both[1:], one) and len(data) == 2**20


class Chosen(Noise):
    """Uniform numbers as told, normal numbers as they come."""

    def __init__(self, seed: int, **at: float) -> None:
        super().__init__(seed)
        self.at = at

    def uniform(self, like: torch.Tensor) -> torch.Tensor:
        u = torch.zeros_like(like)
        u[9] = 0.9
        for key, value in self.at.items():
            u[int(key[1:])] = value
        return u


def test_made_noise_is_white_or_an_autoregression() -> None:
    white = torch.stack([made(64, Chosen(i, u1=0.5)) for i in range(600)])
    assert abs(float(white.var()) - 1) < 0.03 and abs(float((white[:, 1:] * white[:, :-1]).mean())) < 0.03
    u0 = math.log(2.0) / 4.5  # phi = 1/2
    red = torch.stack([made(64, Chosen(i, u0=u0, u1=0.5)) for i in range(600)])
    for lag, expected in ((0, 1.0), (1, 0.5), (2, 0.25)):
        assert abs(float((red[:, lag:] * red[:, : 64 - lag]).mean()) - expected) < 0.04
    assert abs(float(red[:, 0].var()) - 1) < 0.2


def test_made_periods_and_trends_are_added_to_the_noise() -> None:
    plain = made(64, Chosen(3))
    one = made(64, Chosen(3, u2=0.25, u3=0.5)) - plain  # one period, 4 (64 / 4)^(1/2) = 16
    torch.testing.assert_close(one[16:], one[:-16])
    assert (one[8:] - one[:-8]).abs().max() > 0.1
    line = made(64, Chosen(3, u9=0.1)) - plain
    torch.testing.assert_close(line.diff(), line.diff()[0].expand(63))
    walk = made(64, Chosen(3, u9=0.3)) - plain
    assert walk.diff().std() / walk.diff().abs().mean() > 1.05 and walk.diff().abs().min() > 0
