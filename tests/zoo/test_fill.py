import pytest
import torch

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.denoisers import Denoiser, Estimate
from sfumato.processes import LinearBeta
from sfumato.zoo.fill import fill
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
    for event in ([3, 8], [1, None], [1, 8, 8]):
        with pytest.raises(ValueError, match=r"events \(1, L\), got"):
            fill(Model(Affine(1.0, 0.0), Constant(), {"event": event}), GAPPY, 1)
