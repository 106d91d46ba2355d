import pytest
import torch

import sfumato as sf
from sfumato.denoisers import Examples
from sfumato.processes import Anchored, LinearBeta, Rectified


@pytest.mark.parametrize(
    "process", [LinearBeta(), Rectified(), Anchored(LinearBeta(), torch.full((1, 1, 3), 0.7).double())]
)
@pytest.mark.parametrize("t", [1.0, 0.4, torch.tensor([0.2, 0.9]).double()])
def test_it_is_the_mixture_without_width(process, t):
    known = sf.Noise(1).normal(torch.zeros(4, 1, 3).double())
    world = sf.MixtureWorld(torch.ones(4).double(), known.flatten(1), torch.zeros(4, 3, 3).double(), (1, 3))
    xt = sf.Noise(2).normal(torch.zeros(2, 1, 3).double())
    got, want = (D(xt, t).mean for D in (Examples(known, process), world.denoiser(process)))
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def test_near_the_clean_end_it_is_the_nearest_example():
    known = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4]])
    got = Examples(known, LinearBeta())(torch.tensor([[0.1, 0.8], [0.5, 0.5]]), 1e-3).mean
    torch.testing.assert_close(got, known[[0, 2]])
