import pytest
import torch

import sfumato as sf
from sfumato.operators import Function, Identity
from sfumato.processes import EDM, LinearBeta, Rectified
from sfumato.solvers import REDDiff
from sfumato.solvers.adam import adam


def test_adam_is_that_of_torch():
    x = torch.tensor([1.0, -2.0, 0.3]).double().requires_grad_()
    oracle = torch.optim.Adam([x], lr=0.2, betas=(0.8, 0.97))
    mine, moments = x.detach().clone(), None
    for k in range(6):
        g = torch.sin(mine * (k + 1)) + 0.1
        x.grad = g.clone()
        oracle.step()
        move, moments = adam(g, moments, lr=0.2, betas=(0.8, 0.97))
        mine = mine - move
        torch.testing.assert_close(mine, x.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("process", [LinearBeta(), EDM()], ids=lambda p: type(p).__name__)
def test_the_gradient_changes_sign_where_the_objective_says(world, matrix, given, reduction, process):
    """Adam's first move is -lr sign(g): it flips at lambda = -fit / (sigma_t / alpha_t (eps_hat - z)), per element."""
    t, sigma, mu, z = 0.4, 0.3, torch.tensor([[0.5, 0.2, -0.4]]).double(), torch.tensor([[0.1, -0.7, 1.2]]).double()
    m, D = sf.Measurement(matrix, torch.tensor([[0.3, 0.1]]).double(), sigma), world.denoiser(process)
    xt = process.alpha(t) * mu + process.sigma(t) * z
    eps = (xt - process.alpha(t) * D(xt, t).mean) / process.sigma(t)
    fit, prior = -(m.y - mu @ matrix.A.T) @ matrix.A, process.sigma(t) / process.alpha(t) * (eps - z)
    fit, prior = (fit / 2, prior / 3) if reduction == "mean" else (fit / sigma**2, prior)
    for j in range(3):
        flip = -float(fit[0, j] / prior[0, j])
        moves = [
            REDDiff(lambda_=flip * f, reduction=reduction).step(D, m, mu, t, 0.3, None, given(z))[0][0, j] - mu[0, j]
            for f in (1 - 1e-4, 1 + 1e-4)
        ]
        assert moves[0] * moves[1] < 0 and abs(float(moves[0])) == pytest.approx(0.1, rel=2e-2)


def test_no_gradient_through_the_network(matrix):
    class Watched(sf.denoisers.Denoiser):
        process = LinearBeta()

        def forward(self, xt, t, cond=None):
            assert not xt.requires_grad and not torch.is_grad_enabled()
            return sf.Estimate(0.5 * xt)

    m = sf.Measurement(matrix, torch.ones(2, 2).double(), 0.1)
    assert not REDDiff(steps=3)(Watched(), m, sf.Noise(0)).requires_grad


@pytest.mark.parametrize("process", [LinearBeta(), Rectified()], ids=lambda p: type(p).__name__)
def test_it_finds_a_point(world, matrix, process):
    """Other noise, nearly the same point: spread far below the posterior's along A, and a mean within it."""
    m = sf.Measurement.simulate(matrix, world.sample(1, sf.Noise(5)), sigma=0.3, noise=sf.Noise(6))
    x = REDDiff(steps=300, lr=0.05, reduction="sum")(world.denoiser(process), m.repeat(40), sf.Noise(0))
    truth = world.posterior(m)
    assert float(torch.cov((x @ matrix.A.T).T).trace()) < 0.2 * float((matrix.A @ truth.cov @ matrix.A.T).trace())
    assert float((x.mean(0) - truth.mean).norm()) < 1.5 * float(truth.cov.trace()) ** 0.5


def test_start(world, matrix):
    D = world.denoiser(LinearBeta())
    for sigma in (0.0, 0.1):
        m = sf.Measurement(matrix, torch.ones(1, 2).double(), sigma)
        first = next(REDDiff().trajectory(D, m, sf.Noise(0), times=(0.01, 0.0)))
        held = torch.linalg.inv(matrix.A @ matrix.A.T + sigma**2 * torch.eye(2).double())
        torch.testing.assert_close(first.x, m.y @ held @ matrix.A)
    bent = sf.Measurement(Function(lambda x: x.abs(), (3,)), torch.ones(1, 3).double(), 0.1)
    assert not next(REDDiff().trajectory(D, bent, sf.Noise(0))).x.any()


def test_errors_and_defaults(world, ddpm):
    s = REDDiff()
    assert (s.steps, s.lr, s.betas, s.lambda_, s.reduction) == (1000, 0.1, (0.9, 0.99), 0.25, "mean")
    assert REDDiff(steps=3).times(ddpm) == (1.0, 0.501, 0.001, 0.0)
    with pytest.raises(ValueError, match="reduction is mean or sum, got 'max'"):
        REDDiff(reduction="max")
    with pytest.raises(ValueError, match="divides by sigma_y"):
        m = sf.Measurement(Identity(), torch.ones(1, 3).double(), 0.0)
        REDDiff(reduction="sum")(world.denoiser(LinearBeta()), m, sf.Noise(0))
