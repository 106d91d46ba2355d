"""Half precision and accumulation: the same step to what rounding allows, a scale that gives way, and who is asked."""

from __future__ import annotations

import math

import pytest
import torch
from test_runs import RECIPE, Stripes
from torch import nn

from sfumato.training import Precision, fit
from sfumato.training.precision import best, native_bf16
from sfumato.training.ranks import Ranks


def trained(steps=3, precision="fp32", dtype=torch.float32, recipe=RECIPE, **options):
    torch.manual_seed(0)
    objective = recipe.objective(recipe.model()).to(dtype)
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-2)
    data = Stripes()
    data.x = data.x.to(dtype)
    found = list(fit(objective, data, optimizer, steps=steps, batch=6, precision=Precision(precision), **options))
    return found, torch.cat([p.detach().flatten() for p in objective.parameters()])


STILL = RECIPE.__class__(channels=1, widths=(8,), blocks=1, patch=2, classes=3, dropout=0.0)


@pytest.mark.parametrize("parts", [2, 4, 6])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    """6 rows in 4 parts: 1, 2, 1 and 2 of them, so that each must count by its size."""
    whole, weights = trained(dtype=torch.float64, recipe=STILL)
    cut, same = trained(dtype=torch.float64, recipe=STILL, accumulate=parts)
    for a, b in zip(whole, cut, strict=True):
        assert (a.loss, a.norm) == pytest.approx((b.loss, b.norm), rel=1e-10)
    assert float((weights - same).abs().max()) < 1e-9


def test_rows_are_cut_once_and_in_order():
    assert Ranks().parts(6, 4) == [range(1), range(1, 3), range(3, 4), range(4, 6)]
    assert Ranks(1, 2).parts(5, 2) == [range(2, 3), range(3, 5)]
    for parts in (0, 7):
        with pytest.raises(ValueError, match=rf"6 rows of a process cannot be cut into {parts} parts: 1 to 6"):
            Ranks().parts(6, parts)


@pytest.mark.parametrize(("name", "bound"), [("bf16", 0.05), ("fp16", 0.005)])
def test_half_precision_is_near_and_keeps_weights_in_float32(name, bound):
    seen = []

    class Spied(RECIPE.__class__):
        def objective(self, denoiser):
            denoiser.net.enter.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
            return super().objective(denoiser)

    spied = Spied(channels=1, widths=(8,), blocks=1, patch=2, classes=3, dropout=0.0)
    full, weights = trained(recipe=STILL)
    half, near = trained(precision=name, recipe=spied)
    assert set(seen) == {torch.bfloat16 if name == "bf16" else torch.float16} and near.dtype == torch.float32
    for a, b in zip(full, half, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=bound) and a.norm != b.norm
        assert a.norm == pytest.approx(b.norm, rel=10 * bound)
    assert float((weights - near).abs().max()) < 0.05


class Steep(nn.Module):
    """A loss with the gradient `steep`, in half precision."""

    def __init__(self, steep):
        super().__init__()
        self.w, self.steep = nn.Parameter(torch.zeros(1)), steep

    def forward(self, x0, cond, noise):
        return (self.w.half() * self.steep).float().expand(len(x0))


def test_the_scale_halves_where_a_gradient_overflows_and_the_step_is_left_out():
    """float16 ends at 65504: with the scale 65536 a gradient of 2 overflows once, at 32768 it passes."""
    objective, precision = Steep(1.9), Precision("fp16")
    optimizer = torch.optim.SGD(objective.parameters(), 0.5)
    steps = fit(objective, Stripes(), optimizer, steps=3, batch=1, precision=precision, clip=math.inf)
    first = next(steps)
    assert not math.isfinite(first.norm) and objective.w.item() == 0.0
    assert precision.state()["scale"] == 2.0**15
    second = next(steps)
    assert second.norm == pytest.approx(1.9, rel=1e-3) and objective.w.item() == pytest.approx(-0.95, rel=1e-3)
    other = Precision("fp16")
    other.load(precision.state())
    assert other.state() == precision.state() and Precision("bf16").state() == {}


def test_what_no_scale_makes_finite_is_an_error():
    objective = Steep(1.0)
    objective.w.register_hook(lambda g: g * math.inf)
    optimizer = torch.optim.SGD(objective.parameters(), 0.5)
    with pytest.raises(FloatingPointError, match="the gradient at step 18 has the norm"):  # 2^16 halved 17 times
        list(fit(objective, Stripes(), optimizer, steps=40, batch=1, precision=Precision("fp16")))
    assert objective.w.item() == 0.0


def test_names():
    with pytest.raises(ValueError, match=r"precision is one of fp32, bf16, fp16, got 'half'"):
        Precision("half")


def test_bf16_is_chosen_where_the_processor_has_it(tmp_path):
    """Lines of /proc/cpuinfo of an AMD without, an Intel with, and an ARM with bfloat16."""
    info = tmp_path / "cpuinfo"
    for line, has in (
        ("flags\t\t: fpu sse2 avx2 fma avx512f", False),
        ("flags\t\t: fpu avx512f avx512_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("model name\t: the bf16 machine", False),
    ):
        info.write_text(f"processor\t: 0\n{line}\n")
        assert native_bf16(info) is has and best("cpu", info) == ("bf16" if has else "fp32")
    assert not native_bf16(tmp_path / "none") and best("meta", info) == "fp32"
