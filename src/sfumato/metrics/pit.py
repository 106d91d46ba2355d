"""Probability integral transform: where the truth lies among the samples."""

from __future__ import annotations

from torch import Tensor

from sfumato.noise import Noise


def pit(samples: Tensor, truth: Tensor, noise: Noise) -> Tensor:
    """(r + u) / (S + 1), elementwise, (B, *event): r samples are below y, u ~ U[0, 1). Uniform if calibrated.

    S samples cut the line into S + 1 parts that y falls into with equal probability; where it equals k of them, it is
    put among those parts by chance. Flat histograms are honest; a hump in the middle says that the samples are too
    wide, two at the ends that they are too narrow.

    Args:
        samples: (S, B, *event).
        truth: (B, *event).
        noise: for u and the ties.

    Source: Czado et al. 2009 (10.1111/j.1541-0420.2009.01191.x) section 2.1, the randomized transform.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if samples.shape[1:] != truth.shape:
        raise ValueError(f"samples are (S, B, *event), got {tuple(samples.shape)} for a truth {tuple(truth.shape)}.")
    below, equal = (samples < truth).sum(0), (samples == truth).sum(0)
    return (below + noise.uniform(truth) * (equal + 1)) / (len(samples) + 1)
