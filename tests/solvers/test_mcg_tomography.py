"""MCG on projections as its paper weights them: the measurement seen through filtered backprojection."""

import torch

import sfumato as sf
from sfumato.operators import LinearFunction, Measurement, Radon
from sfumato.solvers import MCG
from sfumato.solvers.dps import pulled


def test_the_weight_of_the_paper_is_a_composition():
    """W = FBP: y' = W y through A' = W A. The gradient is that of |W (y - A D)|, and the end meets W A x = W y."""
    A, size = Radon.parallel((8, 8), 5), (1, 8, 8)
    B = LinearFunction(lambda x: A.fbp(A(x)), size)
    at = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    # neighbours belong together, so that the gradient reaches what A does not see
    world = sf.GaussianWorld(torch.zeros(size).double(), 0.3 * torch.exp(-torch.cdist(at, at) / 2))
    denoiser = world.denoiser(sf.processes.LinearBeta())
    y = A(sf.Noise(0).normal(torch.empty(1, *size, dtype=torch.float64)))
    m = Measurement(B, A.fbp(y), 0.0)
    results = [MCG(steps=6, zeta=zeta)(denoiser, m, sf.Noise(1)) for zeta in (0.0, 1.0)]
    for x in results:
        torch.testing.assert_close(B(x), m.y, atol=1e-5, rtol=0)
    assert float((results[0] - results[1]).abs().max()) > 1e-3
    xt = sf.Noise(2).normal(m.y).requires_grad_()
    D = denoiser(xt, 0.5).mean
    (g,) = torch.autograd.grad(A.fbp(y - A(D)).norm(), xt)
    with_pull, without = (pulled(denoiser, m, xt.detach(), 0.5, 0.4, sf.Noise(3), zeta) for zeta in (0.7, 0.0))
    torch.testing.assert_close(without - with_pull, 0.7 * g, atol=1e-9, rtol=0)
