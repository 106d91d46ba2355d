"""Coil sensitivities from the middle of k-space by ESPIRiT, where `sense.sensitivities` is only an image divided."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.operators import kspace


def espirit(y: Tensor, width: int, *, kernel: int = 6, threshold: float = 0.02, crop: float = 0.8) -> Tensor:
    """Maps (coils, H, W), complex: at each pixel the eigenvector of eigenvalue 1 of a coils x coils matrix.

    Patches of k-space of `kernel` x `kernel` points of all coils, taken from the fully sampled square, span a small
    space: the row space V of the matrix that has them as rows. Multiplied out in the image, the projection on it is
    W(r) = sum of the outer products of the kernels' images, over kernel^2; coils that see one image x have W S = S
    where x is not 0. The phase is that of the first coil, taken out (maps are known up to one phase at each pixel), and
    sum_c |S_c|^2 = 1 where the eigenvalue is above `crop`, else 0.

    Args:
        y: one measurement (coils, 2, H, W), whose middle square was fully sampled.
        width: side of that square, larger than the kernel.
        kernel: side of the patches.
        threshold: singular values above this share of the largest belong to V.
        crop: least eigenvalue of a pixel that is seen.

    Raises:
        ValueError: for a square that is not larger than the kernel, or than k-space.

    Source: Uecker et al. 2014, Magnetic Resonance in Medicine 71 (10.1002/mrm.24751), equations 13 to 21; defaults of
    its public code (kernel 6, threshold 0.02 of singular values, crop 0.8).
    """
    coils, _, H, W = y.shape
    if not kernel < width <= min(H, W):
        raise ValueError(f"the square is larger than the kernel, {kernel}, and at most {min(H, W)}, got {width}.")
    spectrum = kspace.to_complex(y)
    rows, cols = ((n - width + 1) // 2 for n in (H, W))
    middle = spectrum[:, rows : rows + width, cols : cols + width]
    patches = middle.unfold(1, kernel, 1).unfold(2, kernel, 1)  # (coils, positions, positions, kernel, kernel)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, coils * kernel**2)
    _, s, Vh = torch.linalg.svd(matrix, full_matrices=False)
    kernels = Vh[s > threshold * s[0]].reshape(-1, coils, kernel, kernel)
    # conjugate and turned around: a patch times a kernel's conjugate is a convolution, a product in the image
    top, left = (n // 2 - kernel // 2 for n in (H, W))
    gram = torch.zeros(H, W, coils, coils, dtype=kernels.dtype, device=y.device)
    for part in kernels.flip(-2, -1).conj().split(8):  # some at a time, for memory
        images = torch.zeros(len(part), coils, H, W, dtype=kernels.dtype, device=y.device)
        images[..., top : top + kernel, left : left + kernel] = part
        images = kspace.inverse(images) * (H * W) ** 0.5 / kernel
        gram += torch.einsum("nahw,nbhw->hwab", images.conj(), images)
    values, vectors = torch.linalg.eigh(gram)
    maps = vectors[..., -1].permute(2, 0, 1)
    phase = torch.where(maps[0].abs() > 0, maps[0].conj() / maps[0].abs().clamp(min=1e-30), 1.0)
    return torch.where(values[..., -1] > crop, maps * phase, 0.0)
