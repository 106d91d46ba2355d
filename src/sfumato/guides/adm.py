"""ADM: classifier guidance, from diffusion models beat GANs on image synthesis (Dhariwal & Nichol 2021, 2105.05233)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.denoisers import Denoiser, Wrapper
from sfumato.estimate import Estimate
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Time, expand
from sfumato.processes.variances import Reverse, known
from sfumato.samplers import Sampler

EXAMPLE = """\
python -c 'import torch, sfumato as sf; P = sf.processes.LinearBeta()
D = sf.GaussianWorld(torch.zeros(2), torch.eye(2)).denoiser(P)
wish = lambda x, t, y: torch.nn.functional.logsigmoid(3 * P.alpha(t) * x[:, 0])  # x[0] > 0
C = sf.guides.ClassifierGuidance(D, wish, 1.0)
x = sf.sample(C, sf.samplers.DDIM(), shape=(999, 2), times=sf.grids.default(P, 20), noise=sf.Noise(0))
print(x.mean(0))'"""

LogProb = Callable[[Tensor, Time, Any], Tensor]


def gradient(log_prob: LogProb, xt: Tensor, t: Time, cond: Any) -> Tensor:
    """grad log p(y | x_t) at x_t, (B, *event): of the sum over the batch, so each row has its own."""
    with torch.enable_grad():
        at = xt.detach().requires_grad_()
        (g,) = torch.autograd.grad(log_prob(at, t, cond).sum(), at)
    return g


class ClassifierGuidance(Wrapper):
    """D + scale (sigma^2 / alpha) grad log p(y | x_t): score + scale grad log p(y | x_t), for any sampler.

    At scale 1 and with the exact classifier it is the conditional denoiser; above, it has the score of
    p_t(x) p_t(y | x)^scale, which is not the marginal of any one law of x_0. The variance is that of `inner`. At
    alpha = 0 x_t says nothing of the class: D is left as it is. This is the paper's guide; its network is
    the recipe `ablated`, its classifiers are read by `sfumato convert` and `zoo.load_classifier`.

    Args:
        inner: a denoiser; the condition is passed to it too, so give it `D.given(None)`, or a conditional one.
        log_prob: (x_t, t, cond) to log p(cond | x_t), (B,), differentiable in x_t: a classifier trained on noisy data.
        scale: s; of the paper: 1.0 for 64 pixels, 0.5 for 128, 1.0 for 256 (10.0 without class), 4.0 for 512.

    Source: Dhariwal & Nichol 2021 (2105.05233) eq. 14, algorithm 2.
    """

    def __init__(self, inner: Denoiser, log_prob: LogProb, scale: float = 1.0) -> None:
        super().__init__(inner)
        self.log_prob, self.scale = log_prob, scale

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        estimate: Estimate = self.inner(xt, t, cond)
        process = self.process.bind(cond)
        assert isinstance(process, Gaussian)
        alpha, sigma = expand(process.alpha(t), xt), expand(process.sigma(t), xt)
        if isinstance(alpha, float) and alpha == 0.0:
            return estimate
        gain = self.scale * sigma**2 / alpha
        if isinstance(alpha, Tensor):
            gain = torch.where(alpha > 0.0, gain, 0.0)
        return estimate._replace(mean=estimate.mean + gain * gradient(self.log_prob, xt, t, cond))


@dataclass(frozen=True)
class GuidedAncestral(Sampler):
    """Ancestral sampling whose mean is moved by scale Sigma grad log p(y | x_t), Sigma the variance of the step.

    The gradient is taken at x_t, not at the mean. It is first order in the step: `ClassifierGuidance` moves the mean by
    (q^2 / r) scale grad instead, q^2 and r those of the forward transition, beta / sqrt(1 - beta) on a table; with the
    small variance the two differ most in the last steps. Source: Dhariwal & Nichol 2021 (2105.05233) algorithm 1.

    The last step, to s = 0, is a point and is not moved; the public code moves it by the variance that stands there for
    its decoder.

    Args:
        log_prob: (x_t, t, cond) to (B,); its condition is `cond`.
        cond: y, a label for each row.
        scale: s.
        reverse: the law of a step, as of `Ancestral`; `learned` of `sfumato.processes.variances` for the paper's.
    """

    log_prob: LogProb
    cond: Any = None
    scale: float = 1.0
    reverse: Reverse = field(default=known, repr=False)

    def step(self, denoiser: Denoiser, xt: Tensor, t: Time, s: Time, memory: Any, noise: Noise) -> tuple[Tensor, Any]:
        law = self.reverse(denoiser.process, denoiser(xt, t), xt, t, s)
        moved = self.scale * law.std**2 * gradient(self.log_prob, xt, t, self.cond)  # type: ignore[attr-defined]
        return law.sample(noise) + moved, memory


Recipe = ClassifierGuidance
