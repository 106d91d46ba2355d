"""Attacks on linear classifiers, whose worst point in the box is known; intervals and areas by their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from worlds_for_tests import close, normal, tensor

from sfumato.metrics import auroc, classifier_gradient, linf_attack, through, wilson
from sfumato.noise import Noise

W = tensor(0.5, -2.0, 0.0)


def margin(x):
    """Logits of two classes by one direction."""
    return torch.stack([-(x @ W), x @ W], 1)


LABELS = torch.tensor([1, 0, 1])
X = 0.5 + 0.2 * normal(3, 3).tanh()


def test_fgsm_on_a_linear_classifier_goes_to_the_corner() -> None:
    """The loss of class 1 rises along -w: x - eps sign(w), and where w is 0 nothing moves."""
    side = torch.where(LABELS == 1, -1.0, 1.0).double()[:, None]
    want = X + 0.1 * side * W.sign()
    gradient = classifier_gradient(margin)
    close(linf_attack(gradient, X, LABELS, 0.1, steps=1, size=0.1), want)
    close(linf_attack(gradient, X, LABELS, 0.1), want)  # 40 steps of eps / 4 end there too
    close(linf_attack(gradient, X, LABELS, 0.1, steps=2), X + 0.05 * side * W.sign())
    # The gradient itself: (p - y) in logits, times +-w.
    share = torch.softmax(margin(X), 1)[:, 1:] - LABELS.double()[:, None]
    close(gradient(X, LABELS), 2 * share * W)


def test_the_box_and_the_range_hold() -> None:
    gradient = classifier_gradient(margin)
    far = linf_attack(gradient, X, LABELS, 0.6, steps=5, size=0.5)
    assert float((far - X).abs().max()) <= 0.6 + 1e-12 and float(far.min()) >= 0.0 and float(far.max()) <= 1.0
    assert float(far.min()) == 0.0 and float(far.max()) == 1.0
    wide = linf_attack(gradient, X, LABELS, 0.6, steps=5, size=0.5, low=-9.0, high=9.0)
    close((wide - X).abs().amax(0), tensor(0.6, 0.6, 0.0))
    begun = linf_attack(lambda x, y: torch.zeros_like(x), X, LABELS, 0.3, steps=1, start=Noise(0), low=-9.0, high=9.0)
    close(begun, X + 0.3 * (2 * Noise(0).uniform(X) - 1))
    assert not gradient(X, LABELS).requires_grad


def test_bpda_takes_the_purifier_for_the_identity_and_sums_its_draws() -> None:
    seen = []

    def purify(x):
        seen.append(len(seen))
        return x * 0.0 + len(seen)

    gradient = through(purify, lambda x, y: x, draws=3)
    close(gradient(X, LABELS), torch.full_like(X, 6.0))  # 1 + 2 + 3, not the gradient of `purify`, which is 0
    close(through(purify, lambda x, y: x)(X, LABELS), torch.full_like(X, 4.0))


def test_wilson_holds_the_shares_that_are_not_refused() -> None:
    """At its ends the share found is z standard errors away, the error that of the end."""
    for k, n in ((7, 20), (90, 100), (0, 10), (10, 10)):
        low, high = wilson(k, n)
        for end in (low, high):
            if 0.0 < end < 1.0:
                close(abs(k / n - end), 1.96 * math.sqrt(end * (1 - end) / n), 1e-9)
        assert 0.0 <= low <= k / n <= high <= 1.0
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    assert wilson(5, 10, z=1.0)[1] < wilson(5, 10)[1]


def test_area_is_the_share_of_pairs_in_order() -> None:
    a, b = normal(40).round(decimals=1), normal(30, seed=1).round(decimals=1) - 0.4
    pairs = (a[:, None] > b).double() + 0.5 * (a[:, None] == b)
    assert bool((a[:, None] == b).any())
    close(auroc(a, b), pairs.mean())
    assert auroc(b, a) == pytest.approx(1 - auroc(a, b))
    assert auroc(tensor(1.0), tensor(0.0)) == 1.0 and auroc(tensor(1.0), tensor(1.0)) == 0.5


def test_errors() -> None:
    gradient = classifier_gradient(margin)
    with pytest.raises(ValueError, match=r"eps >= 0 and at least 1 step, got -0.1"):
        linf_attack(gradient, X, LABELS, -0.1)
    with pytest.raises(ValueError, match=r"at least 1 step, got 0.1 and 0"):
        linf_attack(gradient, X, LABELS, 0.1, steps=0)
    for wrong in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="0 <= successes <= trials"):
            wilson(*wrong)
    with pytest.raises(ValueError, match="at least one of each"):
        auroc(X, X)
    with pytest.raises(ValueError, match="at least one of each"):
        auroc(tensor(1.0), tensor())
