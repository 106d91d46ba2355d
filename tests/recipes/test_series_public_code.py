"""CSDI and TimeGrad beside their public code, on weights, inputs and noise made by a formula.

Expected numbers: printed by ermongroup/CSDI (main_model.py, diff_models.py: two blocks of 8 channels, 2 heads, 3
series) and zalandoresearch/pytorch-ts (epsilon_theta.py, gaussian_diffusion.py: 5 series, a state of 6 numbers) in
float64, the parameters filled in the order of their `named_parameters()` as `filled` does here.
"""

import math

import pytest
import torch

from sfumato.denoisers import Preconditioned, predict_eps
from sfumato.nets.ring import Ring
from sfumato.noise import Noise
from sfumato.processes import Table
from sfumato.recipes import csdi, timegrad
from sfumato.samplers import sample
from sfumato.training import Denoising, eps_weight
from sfumato.training.masking import Masked

LAYER = [f"self_attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")]
LAYER += [f"{part}.{kind}" for part in ("linear1", "linear2", "norm1", "norm2") for kind in ("weight", "bias")]


def both(*names: str) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


CSDI_NAMES = ["series.weight", *both("level.first", "level.last", "enter", "leave.0", "leave.1")]
for i in range(2):
    CSDI_NAMES += [f"blocks.{i}.{name}" for name in both("step", "side", "middle", "leave")]
    CSDI_NAMES += [f"blocks.{i}.{axis}.{name}" for axis in ("time", "across") for name in LAYER]
RING_NAMES = both("enter", "level.first", "level.last", "narrow", "widen")
for i in range(8):
    RING_NAMES += [f"blocks.{i}.{name}" for name in both("conv", "step", "past", "leave")]
RING_NAMES += both("skip", "leave")


def filled(net: torch.nn.Module, names: list[str]) -> torch.nn.Module:
    """The net in float64, parameter i of the public code's order filled with sin(0.37 k^2 + i) sqrt(2 / fan in)."""
    net.double().eval()
    parameters = dict(net.named_parameters())
    assert set(parameters) == set(names)
    for i, name in enumerate(names):
        p = parameters[name]
        k = torch.arange(p.numel(), dtype=torch.float64)
        fan = math.prod(p.shape[1:]) if p.ndim > 1 else 4
        values = torch.sin(0.37 * k * k + i) * math.sqrt(2 / fan) + (
            1.0 if name.endswith(("1.weight", "2.weight")) and "norm" in name else 0.0
        )
        p.data = values.reshape(p.shape)
    return net


def wave(*shape: int, phase: float = 0.0) -> torch.Tensor:
    return (1.3 * torch.sin(1.7 * torch.arange(math.prod(shape), dtype=torch.float64) + phase)).reshape(shape)


class Waves(Noise):
    """Draw n is `wave` with phase n / 10."""

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn = 0

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        self.drawn += 1
        return wave(*like.shape, phase=0.1 * self.drawn)


KNOWN = (wave(2, 3, 5, phase=2.0) > -0.6).double()
GIVEN = KNOWN * (wave(2, 3, 5, phase=4.0) > 0.2)
X0 = wave(2, 3, 5) * KNOWN
COND = {"observed": X0 * GIVEN, "mask": GIVEN}
LEVELS = torch.tensor([4, 41]) / 50  # the public code counts from 0


def numbers(text: str) -> torch.Tensor:
    return torch.tensor([float(word) for word in text.split()], dtype=torch.float64)


@pytest.fixture
def model() -> Preconditioned:
    denoiser = csdi.Recipe(channels=3, width=8, blocks=2, heads=2).model()
    filled(denoiser.net, CSDI_NAMES)
    return denoiser


def test_levels_of_csdi() -> None:
    bars = torch.tensor(csdi.Recipe().table().alpha_bars, dtype=torch.float64)
    expected = torch.tensor(
        [0.9999, 0.9993131272021291, 0.3249896367182266, 3.354078875408494e-05], dtype=torch.float64
    )
    torch.testing.assert_close(bars[[0, 1, 24, 49]], expected, atol=0, rtol=1e-12)


def test_network_of_csdi(model: Preconditioned) -> None:
    out = model.net(wave(2, 3, 5, phase=1.0), torch.tensor([3.0, 40.0]).double(), COND)
    expected = numbers("""
        -0.52470319 -0.531057682 -0.523452462 -0.531609058 -0.523905155 -0.523644767 -0.534098505 -0.536305806
        -0.530222672 -0.517265785 -0.525730486 -0.529403819 -0.533988578 -0.521794546 -0.520388243 -0.527315728
        -0.535784372 -0.541616921 -0.53434293 -0.525658703 -0.528722341 -0.53393589 -0.535879616 -0.531384336
        -0.527498358 -0.525939615 -0.532533047 -0.536872556 -0.536658847 -0.525172169""")
    torch.testing.assert_close(out.flatten(), expected, atol=2e-6, rtol=0)  # its table of sinusoids is float32


def test_network_of_the_unconditional_csdi() -> None:
    net = csdi.Recipe(channels=3, width=8, blocks=2, heads=2, strategy="prior").net()
    filled(net, CSDI_NAMES)
    out = net(wave(2, 3, 5, phase=1.0), torch.tensor([3.0, 40.0]).double(), None)
    expected = numbers("-0.530323068 -0.529388142 -0.530883257 -0.541299519 -0.52670387 -0.525517916")
    torch.testing.assert_close(out.flatten()[:6], expected, atol=2e-6, rtol=0)


def test_loss_of_csdi(model: Preconditioned) -> None:
    objective = Masked(model, lambda valid, noise: GIVEN.bool(), lambda *_: LEVELS, eps_weight)
    loss = objective(X0, {"valid": KNOWN}, Waves()).mean()
    assert float(loss.detach()) == pytest.approx(1.3074702695297615, abs=2e-6)


def test_chain_of_csdi(model: Preconditioned) -> None:
    recipe = csdi.Recipe()
    noise = Waves()
    x1 = noise.normal(X0)
    x = sample(model.given(COND), recipe.sampler(), x1=x1, times=recipe.times(), noise=noise)
    expected = numbers("""
        375.424424881 689.858678223 -198.529813476 -289.518442842 619.771285667 474.641034352 -395.127186293
        -17.993456815 749.441997353 168.624065362 -445.184451272 289.353823752 725.160285501 -122.099335494
        -347.052660845""")
    torch.testing.assert_close(x[0].flatten(), expected, atol=0, rtol=1e-5)


def ring() -> Preconditioned:
    recipe = timegrad.Recipe(channels=5, state=6)
    net = filled(Ring(5, 6, narrow=2), RING_NAMES)
    return Preconditioned(net, recipe.process(), predict_eps, clock=recipe.clock)


STATE = {"state": wave(2, 6, phase=0.5)}


def test_network_of_timegrad() -> None:
    out = ring().net(wave(2, 5, phase=1.0), torch.tensor([3.0, 77.0]).double(), STATE)
    expected = numbers("""
        0.966149507 0.831530528 0.767017794 1.076216676 1.06369685 0.807996908 0.61553414 1.077785146 1.175276825
        1.005839067""")
    torch.testing.assert_close(out.flatten(), expected, atol=2e-6, rtol=0)


def test_levels_and_loss_of_timegrad() -> None:
    process = timegrad.Recipe().process()
    assert isinstance(process, Table)
    bars = torch.tensor(process.alpha_bars)[[0, 1, 50, 99]]
    torch.testing.assert_close(
        bars, torch.tensor([0.999899983, 0.998791039, 0.26867488, 0.005618761]), atol=1e-7, rtol=0
    )
    objective = Denoising(ring(), lambda *_: torch.tensor([4, 78]) / 100, eps_weight)
    loss = objective(wave(2, 5), STATE, Waves()).mean()
    assert float(loss.detach()) == pytest.approx(1.3141443964487798, abs=2e-6)


def test_chain_of_timegrad() -> None:
    noise = Waves()
    x1 = noise.normal(torch.zeros(2, 5))
    x = sample(ring().given(STATE), timegrad.Recipe().sampler(), x1=x1, times=timegrad.Recipe().times(), noise=noise)
    expected = numbers("""
        17.962638989 -1.000474659 -61.067100437 -37.383138013 25.62086374 -24.563912727 -65.417287598 -12.498040899
        18.978695285 -55.855407974""")
    torch.testing.assert_close(x.flatten(), expected, atol=0, rtol=1e-4)
