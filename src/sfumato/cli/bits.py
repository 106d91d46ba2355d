"""Bits per dimension of pictures of 8 bits under a model, for `sfumato evaluate --bits`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.cli.evaluate import Settings
    from sfumato.noise import Noise
    from sfumato.zoo import Model

START = 1e-5  # where data are decoded, or the flow begins, if the process has no noise at 0; Song et al. 2021


def suits(model: Model, metrics: Iterable[str]) -> None:
    """Checks that bits per dimension of the model are known.

    Raises:
        ValueError: for a model in another space than that of pictures in [-1, 1], or of levels.
    """
    from sfumato.codecs import Affine, Quantized
    from sfumato.processes import Gaussian, Jumping

    process, codec = model.denoiser.process, model.codec
    if isinstance(process, Gaussian) and codec == Affine.unit():
        return
    if isinstance(process, Jumping) and codec == Quantized(256) and "flow" not in metrics:
        return
    raise ValueError(
        "bits per dimension are for models of pictures in [-1, 1], or of 256 levels (--metrics bound): this one is of "
        f"{type(process).__name__} in the space of {codec!r}."
    )


def bits(model: Model, x: Tensor, cond: Tensor | None, noise: Noise, wanted: Settings) -> dict[str, Tensor]:
    """Bits per dimension of pictures x (B, C, H, W) in [0, 1], rounded to 8 bits, (B,) each.

    "bound": of continuous time, after dequantisation with uniform noise where the model is of real numbers.
    "flow": the density of the model's flow by RK45, likewise (needs torchdiffeq, extra `ode`).
    """
    import torch

    from sfumato.likelihood import bits_per_dim, continuous_elbo, dequantize, log_prob_adaptive
    from sfumato.processes import Gaussian

    denoiser, dims = model.denoiser.given(cond) if cond is not None else model.denoiser, x[0].numel()
    process, found, level = denoiser.process, {}, (x * 255.0).round().long()
    if not isinstance(process, Gaussian):
        with torch.no_grad():
            bound = continuous_elbo(denoiser, level, noise, end=START, points=wanted.points)
        return {"bound": bound.bits(dims)}
    x0, end = dequantize(level, noise), 0.0 if process.sigma(0.0) > 0.0 else START
    if "bound" in wanted.metrics:
        with torch.no_grad():
            total = continuous_elbo(denoiser, x0, noise, end=end, points=wanted.points).total
        found["bound"] = bits_per_dim(-total.double(), dims)
    if "flow" in wanted.metrics:
        tolerance: dict[str, Any] = {"rtol": wanted.tolerance, "atol": wanted.tolerance}
        solved = log_prob_adaptive(denoiser, x0, start=end, noise=noise, **tolerance)
        found["flow"] = bits_per_dim(solved.log_prob.detach(), dims)
    return found
