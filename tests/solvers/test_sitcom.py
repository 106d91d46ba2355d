import torch

import sfumato as sf
from sfumato.operators import Identity, Mask, Matrix
from sfumato.operators.levels import count
from sfumato.processes import LinearBeta, Rectified
from sfumato.solvers import SITCOM


class Same(sf.denoisers.Denoiser):
    """D = gain x_t, so that the move can be followed by hand."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.process, self.gain, self.calls = LinearBeta(), gain, 0

    def forward(self, xt, t, cond=None):
        self.calls += 1
        return sf.Estimate(self.gain * xt)


def test_the_residual_stops_at_the_noise(world, matrix):
    """|y - A D|^2 ends just below (sigma_y + 0.001)^2 n: of both rows, though one starts there."""
    m = sf.Measurement(matrix, torch.tensor([[1.5, -1.0], [0.02, 0.03]]).double(), 0.2)
    x, _ = SITCOM(moves=500).step(Same(), m, torch.zeros(2, 3).double(), 0.5, 0.0, None, sf.Noise(0))
    left = m.residual(x).square().sum(1)
    assert 0.201**2 * 2 * 0.9 < float(left[0]) < 0.201**2 * 2
    assert not x[1].any()


def test_what_a_mask_hides_is_not_counted():
    m = sf.Measurement(Mask(torch.tensor([1.0, 0.0, 0.0])), torch.tensor([[1.0, 0.0, 0.0]]).double(), 0.2)
    x, _ = SITCOM(moves=500).step(Same(), m, torch.zeros(1, 3).double(), 0.5, 0.0, None, sf.Noise(0))
    assert count(m).tolist() == [1.0]
    assert 1 - 0.201 <= float(x[0, 0]) < 1 - 0.201 + 0.011 and not x[0, 1:].any()


def test_moves_go_through_the_network_and_are_those_of_adam():
    """Three moves of -lr sign-like steps: torch's Adam on |y - gain v|^2 + lambda |v - x_t|^2 from x_t."""
    m = sf.Measurement(Identity(), torch.tensor([[3.0, -2.0]]).double(), 0.0)
    start = torch.tensor([[0.5, 0.1]]).double()
    D = Same(0.7)
    x, memory = SITCOM(moves=3, lr=0.05, lambda_=2.0).step(D, m, start, 0.5, 0.0, "kept", sf.Noise(0))
    v = start.clone().requires_grad_()
    oracle = torch.optim.Adam([v], lr=0.05)
    for _ in range(3):
        oracle.zero_grad()
        ((m.y - 0.7 * v).square().sum() + 2.0 * (v - start).square().sum()).backward()
        oracle.step()
    torch.testing.assert_close(x, 0.7 * v.detach(), atol=1e-9, rtol=0)
    assert D.calls == 4 and memory == "kept" and not x.requires_grad


def test_the_output_is_noised_afresh(world):
    """Data met at once: x_s = alpha_s D + sigma_s z, all noise fresh."""
    m = sf.Measurement(Matrix(torch.zeros(1, 3).double()), torch.zeros(1, 1).double(), 0.1)
    D, x = world.denoiser(LinearBeta()), torch.ones(1, 3).double()
    xs, _ = SITCOM().step(D, m, x, 0.6, 0.4, None, sf.Noise(4))
    torch.testing.assert_close(xs, LinearBeta().marginal(D(x, 0.6).mean, 0.4).sample(sf.Noise(4)))


def test_it_is_nearly_a_point(world, matrix):
    m = sf.Measurement.simulate(matrix, world.sample(1, sf.Noise(5)), sigma=0.1, noise=sf.Noise(6))
    x = SITCOM(lr=0.05)(world.denoiser(Rectified()), m.repeat(50), sf.Noise(0))
    truth, left = world.posterior(m), m.repeat(50).residual(x).square().sum(1)
    assert float((left < 2.5 * 0.101**2 * 2).double().mean()) > 0.9
    assert float(torch.cov(x.T).trace()) < float(truth.cov.trace())


def test_defaults(ddpm):
    s = SITCOM()
    assert (s.steps, s.moves, s.lr, s.lambda_) == (20, 30, 0.01, 0.0)
    assert SITCOM(steps=2).times(ddpm) == (1.0, 0.5, 0.0)
