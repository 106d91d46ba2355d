import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data.series import choose
from sfumato.data.tables import as_table
from sfumato.denoisers import Denoiser, Estimate
from sfumato.processes import LinearBeta
from sfumato.zoo.fill import fill, predict_with
from sfumato.zoo.model import Model


class Constant(Denoiser):
    """D = 0.5 everywhere; keeps its condition."""

    def __init__(self) -> None:
        super().__init__()
        self.process = LinearBeta()

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        self.cond = cond
        return Estimate(torch.full_like(xt, 0.5))


def model(length: int = 8) -> Model:
    return Model(Affine(1.0, 0.0), Constant(), {"event": [1, length]})


GAPPY = torch.tensor([[1.0, torch.nan, 3.0, 5.0], [2.0, 2.0, torch.nan, 2.0]])


def test_known_values_stay_and_missing_ones_are_drawn_on_the_scale_of_what_is_known() -> None:
    m = model()
    drawn = fill(m, GAPPY, 3, horizon=2)
    assert drawn.shape == (3, 2, 6)
    known = ~GAPPY.isnan()
    assert torch.equal(drawn[:, :, :4][:, known], GAPPY[known].double().expand(3, -1))
    spread = (8 / 3) ** 0.5  # of 1, 3 and 5
    torch.testing.assert_close(drawn[:, 0, [1, 4, 5]], torch.full((3, 3), 3 + 0.5 * spread).double(), atol=2e-3, rtol=0)
    # A series that never changed has the unit 1.
    torch.testing.assert_close(drawn[:, 1, [2, 4, 5]], torch.full((3, 3), 2.5).double(), atol=2e-3, rtol=0)
    cond = m.denoiser.cond  # type: ignore[union-attr]
    assert cond["mask"][0, 0].tolist() == [0, 0, 1, 0, 1, 1, 0, 0]
    torch.testing.assert_close(cond["observed"][0, 0, [2, 4, 5]], torch.tensor([-2.0, 0.0, 2.0]) / spread)
    assert cond["observed"][0, 0, [0, 1, 3, 6, 7]].tolist() == [0.0] * 5


def test_a_row_is_its_own_whatever_its_unit() -> None:
    recipe = sf.recipes.load("csdi").Recipe(width=8, blocks=1, heads=2, scheme="v", joint=True, patch=2)
    torch.manual_seed(0)
    net = recipe.model().eval()
    for p in net.parameters():
        p.data = p.data + 0.1 * torch.randn_like(p)
    m = Model(Affine(1.0, 0.0), net, {"event": [1, 8]})
    x = torch.stack([GAPPY[0], GAPPY[0] * 3.0])
    drawn = fill(m, x, 2, horizon=1, steps=4, seed=1)
    whole = fill(m, 100.0 - 7.0 * x, 2, horizon=1, steps=4, seed=1, batch=1)
    again = fill(m, x[:1], 2, horizon=1, steps=4, seed=1)
    torch.testing.assert_close(again, drawn[:, :1], atol=1e-5, rtol=1e-5)
    assert (fill(m, x, 2, horizon=1, steps=4, seed=2) - drawn)[:, :, 1].abs().min() > 1e-4
    tenfold = fill(m, 10.0 + 10.0 * x, 2, horizon=1, steps=4, seed=1)
    torch.testing.assert_close(tenfold, 10.0 + 10.0 * drawn, atol=1e-4, rtol=1e-4)
    assert torch.equal(whole[:, 0, 0], torch.full((2,), 93.0).double())


def test_what_cannot_be_filled() -> None:
    with pytest.raises(
        ValueError, match="4 values and a horizon of 5 are longer than the model's window of 8: give the last 3"
    ):
        fill(model(), GAPPY, 1, horizon=5)
    with pytest.raises(ValueError, match="nothing of a series is known"):
        fill(model(), torch.full((1, 4), torch.nan), 1)
    for event in ([3, 8], [8], [1, 8, 8]):
        with pytest.raises(ValueError, match=r"events \(1, L\), got"):
            fill(Model(Affine(1.0, 0.0), Constant(), {"event": event}), GAPPY, 1)


def table(n: int = 40) -> dict[str, list[float]]:
    x = [10.0 + (k % 4) for k in range(n)]
    return {"x": x, "y": [5.0 * v for v in x]}


def test_a_model_of_any_length_takes_a_series_as_it_is() -> None:
    m = Model(Affine(1.0, 0.0), Constant(), {"event": [1, None], "size": 8})
    drawn = fill(m, GAPPY, 3, horizon=7)
    assert drawn.shape == (3, 2, 11)
    assert m.denoiser.cond["mask"].shape == (6, 1, 11)  # type: ignore[union-attr]


@pytest.mark.parametrize("event", [[1, 8], [1, None]])
def test_a_table_by_a_model_as_it_is(event: list[int | None]) -> None:
    m = Model(Affine(1.0, 0.0), Constant(), {"event": event, "size": 8, "recipe": "csdi"})
    ahead = predict_with(m, choose(as_table(table()), horizon=3), samples=4)
    assert ahead.samples.shape == (4, 3, 2) and ahead.about == {"steps": 0, "window": 8, "network": "csdi"}
    # The five rows that are looked back on are 13 10 11 12 13: half a spread above their mean.
    expected = 11.8 + 0.5 * 1.36**0.5
    torch.testing.assert_close(ahead.samples[:, :, 0], torch.full((4, 3), expected).double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(ahead.samples[:, :, 1], 5 * ahead.samples[:, :, 0], atol=2e-2, rtol=0)
    holes = table()
    holes["x"][17] = holes["x"][18] = float("nan")
    ticks: list[tuple[int, int]] = []
    found = predict_with(m, choose(as_table(holes)), samples=4, progress=lambda a, b: ticks.append((a, b)))
    assert ticks == [(0, 2), (1, 2)]
    known = ~torch.tensor(holes["x"]).isnan()
    assert torch.equal(found.samples[:, known, 0], torch.tensor(holes["x"]).double()[known].expand(4, -1))
    assert (found.samples[:, 17:19, 0] > 10).all() and found.filled().numbers("y").tolist() == table()["y"]


def test_tables_that_such_a_model_does_not_take() -> None:
    m = Model(Affine(1.0, 0.0), Constant(), {"event": [1, None], "size": 8, "recipe": "csdi"})
    with pytest.raises(ValueError, match="a horizon of 8 leaves the model's window of 8 rows no past"):
        predict_with(m, choose(as_table(table()), horizon=8), samples=2)
    uneven = {"t": ["2020-01-01", "2020-01-02", "2020-01-04"], "x": [1.0, 2.0, 3.0]}
    with pytest.raises(ValueError, match="are not evenly spaced, as the model takes them: resample"):
        predict_with(m, choose(as_table(uneven), time="t", horizon=1), samples=2)
    wrong = Model(Affine(1.0, 0.0), Constant(), {"event": [3, 8], "recipe": "csdi"})
    with pytest.raises(ValueError, match=r"events \(1, L\), got"):
        predict_with(wrong, choose(as_table(table()), horizon=2), samples=2)
