import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Denoiser, Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, LinearBeta
from sfumato.samplers import DDIM, Ancestral, paths
from sfumato.worlds import GaussianWorld, autoregressive

TIMES = sf.grids.uniform(6)


def world() -> GaussianWorld:
    A = torch.tensor([[0.8, 0.1], [-0.2, 0.6]], dtype=torch.float64)
    return autoregressive([A], torch.tensor([[0.3, 0.1], [0.1, 0.4]], dtype=torch.float64), 5)


class Conditional(Denoiser):
    """E[x_0 | x_t of the hidden entries, the given ones], exact, for masks that all rows share."""

    def __init__(self, world: GaussianWorld, process: Gaussian) -> None:
        super().__init__()
        self.world, self.process = world, process

    def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
        means = []
        for x, seen, mask in zip(xt, cond["observed"], cond["mask"], strict=True):
            m = sf.Measurement(sf.operators.Mask(mask), seen[None], 0.0)
            means.append(self.world.posterior(m).denoiser(self.process)(x[None], t).mean)
        return Estimate(torch.cat(means))


def cond() -> dict[str, torch.Tensor]:
    x = world().sample(3, Noise(4))
    mask = torch.tensor([[1, 1, 0, 0, 1], [1, 0, 0, 1, 1]]).double().expand(3, 2, 5)
    return {"observed": x * mask, "mask": mask}


@pytest.mark.parametrize("sampler", [DDIM(), Ancestral()], ids=str)
def test_a_path_depends_on_seed_item_and_number_alone(sampler: sf.samplers.Sampler) -> None:
    denoiser, c = Conditional(world(), LinearBeta()), cond()
    drawn = paths(denoiser, c, 4, times=TIMES, sampler=sampler, seed=3)
    assert drawn.shape == (4, 3, 2, 5)
    assert torch.equal(drawn * c["mask"], c["observed"].expand(4, 3, 2, 5))
    torch.testing.assert_close(paths(denoiser, c, 4, times=TIMES, sampler=sampler, seed=3, batch=5), drawn)
    fewer = paths(denoiser, c, 2, times=TIMES, sampler=sampler, seed=3)
    torch.testing.assert_close(fewer, drawn[:2])
    last = paths(denoiser, {k: v[2:] for k, v in c.items()}, 4, times=TIMES, sampler=sampler, seed=3, items=[2])
    torch.testing.assert_close(last, drawn[:, 2:])
    hidden = c["mask"][0] == 0
    for other in (
        paths(denoiser, c, 4, times=TIMES, sampler=sampler, seed=4),
        paths(denoiser, c, 4, times=TIMES, sampler=sampler, seed=3, items=["a", "b", "c"]),
        drawn.roll(1, 0),
    ):
        assert ((other - drawn)[:, :, hidden].abs() > 1e-9).all()


def test_bad_requests() -> None:
    denoiser, c = Conditional(world(), LinearBeta()), cond()
    for wrong in ({"n": 0}, {"n": 2, "batch": 0}, {"n": 2, "items": [1, 2]}):
        with pytest.raises(ValueError, match="paths in batches of"):
            paths(denoiser, c, times=TIMES, sampler=DDIM(), **wrong)  # type: ignore[arg-type]


def test_nothing_keeps_a_graph_and_the_start_is_that_of_the_process() -> None:
    class Linear(Conditional):
        def forward(self, xt, t, cond=None):  # type: ignore[no-untyped-def]
            assert not torch.is_grad_enabled()
            return Estimate(xt)

    c = cond()
    start = paths(Linear(world(), sf.processes.EDM()), c, 500, times=(1.0, 1.0), sampler=DDIM())
    hidden = start[:, 0, c["mask"][0] == 0]
    assert abs(float(hidden.std()) / 80.0 - 1) < 0.03
    anchored = sf.processes.Anchored(LinearBeta(), None, read=lambda c: 100.0 + c["mask"])
    moved = paths(Linear(world(), anchored), c, 500, times=(1.0, 1.0), sampler=DDIM())
    assert abs(float(moved[:, 0, c["mask"][0] == 0].mean()) - 100.0 * (1 - anchored.alpha(1.0))) < 0.1
