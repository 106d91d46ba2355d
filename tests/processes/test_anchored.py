"""Anchored processes: the plain process on the residual x_0 - anchor, carried back and scaled."""

from __future__ import annotations

import pytest
import torch
from worlds_for_tests import ANCHOR, SCALE, close, normal, tensor

from sfumato.denoisers import Estimate
from sfumato.processes import EDM, Anchored, Gaussian, LinearBeta, Rectified, Reverting, entry

X0, XT = normal(4, 3, seed=1), normal(4, 3, seed=2)
INNER = [LinearBeta(), Rectified(), EDM()]


@pytest.mark.parametrize("inner", INNER, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("t", [0.3, 1.0, tensor(0.1, 0.3, 0.7, 1.0)])
def test_it_is_the_plain_process_on_the_scaled_residual(inner: Gaussian, t: float | torch.Tensor) -> None:
    """With z = (x - anchor) / scale every law is that of `inner` at z_0 = (x_0 - anchor) / scale."""
    process, s = Anchored(inner, ANCHOR, SCALE), 0.5 * t

    def there(x: torch.Tensor) -> torch.Tensor:
        return (x - ANCHOR) / SCALE

    var = X0**2
    pairs = [
        (process.marginal(X0, t), inner.marginal(there(X0), t)),
        (process.forward(XT, s, t), inner.forward(there(XT), s, t)),
        (process.reverse(Estimate(X0), XT, t, s, 0.7), inner.reverse(Estimate(there(X0)), there(XT), t, s, 0.7)),
        (
            process.reverse(Estimate(X0, var), XT, t, s),
            inner.reverse(Estimate(there(X0), var / SCALE**2), there(XT), t, s),
        ),
    ]
    for law, plain in pairs:
        close(there(law.mean), plain.mean, 1e-11)
        close(law.std / SCALE, plain.std, 1e-11)
    close(process.velocity(XT, X0, t) / SCALE, inner.velocity(there(XT), there(X0), t), 1e-11)
    close(process.eps(XT, X0, t), inner.eps(there(XT), there(X0), t), 1e-11)


def test_the_prior_is_at_the_anchor_as_far_as_the_signal_is_gone() -> None:
    law = Anchored(Rectified(), ANCHOR, SCALE).prior(XT)
    close(law.mean, ANCHOR)
    close(law.std, SCALE)
    inner = LinearBeta()
    close(Anchored(inner, ANCHOR).prior(XT).mean, (1 - inner.alpha(1.0)) * ANCHOR)
    assert Anchored(inner, ANCHOR).prior(XT).std == 1.0
    close(Anchored(EDM(), ANCHOR).prior(XT).mean, 0.0)  # alpha = 1: there is no shift
    close(Anchored(Rectified(), ANCHOR, 0.5).prior(XT).std, 0.5)  # a scale may be one number
    close(Anchored(Rectified(), ANCHOR, 0.5).marginal(X0, 0.4).std, 0.2)


def test_the_anchor_is_bound_by_a_condition() -> None:
    loose = Anchored(LinearBeta())
    with pytest.raises(ValueError, match=r"no anchor yet: sample with denoiser\.given\(cond\)"):
        loose.marginal(X0, 0.5)
    assert loose.bind(None) is loose
    bound = loose.bind(ANCHOR)
    close(bound.marginal(X0, 0.5).mean, Anchored(LinearBeta(), ANCHOR).marginal(X0, 0.5).mean, 0.0)
    assert bound.bind(2 * ANCHOR) is bound  # the first anchor stays
    read = Anchored(LinearBeta(), read=entry("image")).bind({"image": ANCHOR, "class": 3})
    assert read.anchor is ANCHOR
    close(read.shift(1.0, X0.float()), (1 - read.alpha(1.0)) * ANCHOR, 1e-6)
    assert read.shift(1.0, X0.float()).dtype == torch.float32


def test_a_reverting_process_begins_at_its_anchor_and_a_missing_entry_is_named() -> None:
    process = Reverting(LinearBeta(), scale=0.5, read=entry("image"))
    law = process.bind({"image": torch.tensor([2.0])}).prior(torch.zeros(3, 1))
    assert (
        torch.equal(law.mean, torch.full((3, 1), 2.0)) and float(law.std) == 0.5
    )  # the prior of the schedule, N(0, 1)
    with pytest.raises(ValueError, match=r"no entry 'image', it has \['mask'\]: bind denoiser.prepare"):
        process.bind({"mask": torch.tensor([2.0])})
