"""Denoisers of pictures in shadow: a network with a mask at both ends, and the proximal step of y = h x (Guo et al.
2023, 2212.04711)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers.base import Wrapper
from sfumato.denoisers.preconditioned import Parameterization, Preconditioned, Scheme, predict_eps
from sfumato.estimate import Estimate
from sfumato.processes import Gaussian, Time


class Shadowed(Preconditioned):
    """A preconditioned network that sees (y, m, x_t), and says a refined mask as its last channel, `aux["mask"]`.

    m is cond["rough"], or cond["mask"] where there is none, (B, 1, H, W). The light h that the shadow leaves is
    cond["light"] where it is known (in model space, [-1, 1] for [0, 1]), else what `degradation` makes of y and m.

    Args:
        net: F, told {"image": (y, m)}, C + 1 channels; it returns C + 1.
        degradation: (y, m) to h.
    """

    def __init__(
        self, net: nn.Module, process: Gaussian, degradation: nn.Module, scheme: Parameterization = predict_eps
    ) -> None:
        super().__init__(net, process, scheme)
        self.degradation = degradation

    def light(self, cond: Any) -> Tensor:
        """h, (B, C, H, W) or broadcastable to it, in (0, 1]."""
        if "light" in cond:
            return (cond["light"] + 1.0) / 2.0
        y = cond["image"]
        h: Tensor = self.degradation(y.to(self._dtype() or y.dtype), marked(cond))
        return h.to(y)

    def _run(self, u: Tensor, c_noise: Time, cond: Any) -> Tensor:
        mask = marked(cond)
        return super()._run(u, c_noise, {"image": torch.cat([cond["image"], mask.to(cond["image"])], 1)})

    def _estimate(self, u: Tensor, c: Scheme, out: Tensor) -> Estimate:
        head, mask = out[:, :-1], out[:, -1:]
        return super()._estimate(u, c, head)._replace(aux={"mask": mask})


def marked(cond: Any) -> Tensor:
    """The mask that the network is told.

    Raises:
        ValueError: if there is none.
    """
    for key in ("rough", "mask"):
        if cond is not None and key in cond:
            mask: Tensor = cond[key]
            return mask
    raise ValueError('a shadow needs a mask of where it is: give beside={"mask": ...}, 1 in the shadow.')


class Lit(Wrapper):
    """D moved towards y = h x:  D' = argmin |y - h x|^2 + g |x - D|^2 = (h y + g D) / (h^2 + g),  in [0, 1] space.

    y = h x does not hold between pictures in [-1, 1]: y and D are carried to [0, 1] and D' back. The noise that leads
    from D, not from D', to x_t is kept in `aux["eps"]`.

    Args:
        inner: D.
        light: a condition to h.
        weight: t to g.

    Source: Guo et al. 2023 (2212.04711), the closed form of the public code.
    """

    def __init__(self, inner: Shadowed | Any, light: Callable[[Any], Tensor], weight: Callable[[Time], float]) -> None:
        super().__init__(inner)
        self.light, self.weight = light, weight

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        process = self.process if cond is None else self.process.bind(cond)
        assert isinstance(process, Gaussian)
        h, g = self.light(cond).to(xt), self.weight(t)
        y, D = (cond["image"].to(xt) + 1.0) / 2.0, (estimate.mean + 1.0) / 2.0
        mean = 2.0 * (h * y + g * D) / (h * h + g) - 1.0
        aux = {**(estimate.aux or {}), "eps": process.eps(xt, estimate.mean, t)}
        return Estimate(mean, None, aux)
