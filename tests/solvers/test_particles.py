import pytest
import torch

import sfumato as sf
from sfumato.processes import Anchored, LinearBeta
from sfumato.solvers import FPSSMC, TDS
from sfumato.solvers.particles import Folded, ancestors, effective, multinomial, pick, systematic

W = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.0, 0.0, 1.0, 0.0]]).double()


def test_systematic_copies_are_within_one_of_their_expectation():
    log = torch.log(W.repeat(1, 5) + 1e-300)
    index = systematic(log, sf.Seeds([1, 2]))
    copies = torch.stack([torch.bincount(row, minlength=20) for row in index]).double()
    expected = 20 * torch.softmax(log, 1)
    assert float((copies - expected).abs().max()) < 1.0


@pytest.mark.parametrize("resample", [systematic, multinomial])
def test_resampling_is_unbiased(resample):
    log, n = torch.log(W[:1] + 1e-300).repeat(4000, 1) + 3.0, 4000
    index = resample(log, sf.Noise(0))
    shares = torch.bincount(index.flatten(), minlength=4).double() / (4 * n)
    torch.testing.assert_close(shares, W[0], atol=4 * (0.25 / (4 * n)) ** 0.5, rtol=0)
    # copies of one row: independent draws for one, fewer surprises for the other
    spread = float((index == 0).double().sum(1).var())
    assert spread == pytest.approx(1.0, abs=0.1) if resample is multinomial else spread < 0.01


def test_ancestors_at_the_edges():
    log = torch.log(W[:1])
    u = torch.tensor([[0.0, 0.4999, 0.5001, 0.7999, 0.8001, 1.0]]).double()
    assert ancestors(log, u).tolist() == [[0, 0, 1, 1, 2, 3]]


def test_effective_number_and_pick():
    torch.testing.assert_close(effective(torch.tensor([[0.0, 0.0, 0.0], [0.0, -1e9, -1e9]])), torch.tensor([3.0, 1.0]))
    x = torch.arange(12).reshape(2, 3, 2)
    assert pick(x, torch.tensor([[2, 0], [1, 1]])).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_the_noise_of_a_set_is_that_of_its_row():
    like = torch.zeros(6, 2).double()
    z = Folded(sf.Seeds([7, 8]), 3).normal(like)
    torch.testing.assert_close(z[3:], sf.Seeds([8]).normal(torch.zeros(1, 3, 2).double())[0])


def test_start_and_result(world, matrix):
    process = Anchored(LinearBeta(), torch.full((1, 3), 2.0).double())
    m = sf.Measurement(matrix, torch.tensor([[0.0, 0.5], [1.0, 2.0]]).double(), 0.3)
    solver, D = TDS(particles=5, steps=4), world.denoiser(process)
    assert solver.many(m).y.tolist() == [[0.0, 0.5]] * 5 + [[1.0, 2.0]] * 5
    x = solver.start(D, m, 1.0, sf.Seeds([0, 1]))
    z = sf.Seeds([0, 1]).normal(torch.zeros(2, 5, 3).double())
    law = process.prior(torch.zeros(1, 1, 3).double())
    torch.testing.assert_close(x, law.mean + law.std * z)
    *_, last = solver.trajectory(D, m, sf.Seeds([0, 1]))
    one = solver(D, m, sf.Seeds([0, 1]))
    assert last.x.shape == (2, 5, 3) and one.shape == (2, 3)
    assert all(bool((one[b] == last.x[b]).all(1).any()) for b in range(2))


def test_the_result_is_drawn_by_weight(world, matrix):
    """Of a last set with one heavy particle it is that one."""

    class Heavy(TDS):
        def trajectory(self, denoiser, m, noise, **kwargs):
            for step in super().trajectory(denoiser, m, noise, **kwargs):
                log = torch.tensor([[-1e9, 0.0, -1e9]]).double()
                yield step._replace(memory=step.memory._replace(log_weight=log), x=torch.arange(3.0)[None, :, None])

    m = sf.Measurement(matrix, torch.ones(1, 2).double(), 0.3)
    assert float(Heavy(particles=3, steps=2)(world.denoiser(LinearBeta()), m, sf.Noise(0))) == 1.0


@pytest.mark.parametrize("kind", [TDS, FPSSMC])
def test_particles_are_counted(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: particles is at least 1, got 0"):
        kind(particles=0)
    with pytest.raises(ValueError, match=f"{kind.__name__}: last is the std of the last kernel and must be above 0"):
        kind(last=0.0)
