"""Haar wavelets: orthonormal, inverted exactly, and each band is what its name says."""

from __future__ import annotations

import pytest
import torch
from worlds_for_tests import close, normal

from sfumato.codecs import Haar
from sfumato.nets.haar import merge, pyramid, rebuilt, split


def test_bands_of_one_block_by_hand() -> None:
    average, details = split(torch.tensor([[[[1.0, 2.0], [4.0, 9.0]]]]))
    assert average.item() == 8.0 and details.flatten().tolist() == [-3.0, -5.0, 2.0]
    both = split(torch.cat([normal(1, 1, 2, 2), torch.tensor([[[[1.0, 2.0], [4.0, 9.0]]]]).double()], 1))[1]
    assert both[0, 1::2].flatten().tolist() == [-3.0, -5.0, 2.0]  # bands outside, channels inside


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_is_orthonormal_and_inverted(levels: int) -> None:
    x = normal(2, 3, 8, 16)
    codec = Haar(levels)
    z = codec.encode(x)
    assert z.shape[1:] == codec.latent((3, 8, 16)) == (3 * 4**levels, 8 // 2**levels, 16 // 2**levels)
    close(codec.decode(z), x)
    close(z.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    basis = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    M = codec.encode(basis).flatten(1)
    close(M @ M.T, torch.eye(64, dtype=torch.float64))
    average, details = pyramid(x, levels)
    close(z[:, :3], average)
    close(average, torch.nn.functional.avg_pool2d(x, 2**levels) * 2**levels)
    close(rebuilt(average, details), x)
    assert [tuple(d.shape[1:]) for d in details] == [(9, 8 // 2**i, 16 // 2**i) for i in range(1, levels + 1)]
    close(z[:, 3:12], details[-1])


def test_merge_is_the_transpose_and_odd_sides_are_refused() -> None:
    x, a, d = normal(1, 2, 4, 6), normal(1, 2, 2, 3), normal(1, 6, 2, 3)
    left = sum((p * q).sum() for p, q in zip(split(x), (a, d), strict=True))
    close(left, (x * merge(a, d)).sum())
    for shape in ((1, 1, 3, 4), (1, 1, 4, 5)):
        with pytest.raises(ValueError, match="sides are even"):
            split(torch.zeros(shape))
