"""WeatherDiffusion: restoring vision in adverse weather conditions with patch-based denoising diffusion models
(Özdenizci & Legenstein 2023, 2207.14626)."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato import grids
from sfumato.denoisers import Denoiser, Preconditioned, Windowed, predict_eps
from sfumato.processes import Table
from sfumato.recipes.restorer import Restorer
from sfumato.samplers import DDIM
from sfumato.training import Antithetic, Denoising, eps_weight

EXAMPLE = """\
sfumato train FOLDER --recipe weather-diffusion --damage snow --size 64 -o run
sfumato enhance snowy.png --model run -o out"""


@dataclass(frozen=True)
class Recipe(Restorer):
    """DDPM of patches beside the damaged ones; whole pictures by averaging the estimates of overlapping patches.

    L = |f(y, x_t, n) - eps|^2 on crops, n in pairs n, N + 1 - n. In each step of deterministic DDIM the noise estimate
    of a pixel is the mean of those of all windows that cover it, `stride` apart: averaging estimates and not draws, the
    windows agree step by step. Levels of sampling as in the public code, 961, 921, ... 1 of 1000 at 25 steps.

    Windows are spread evenly, at most `stride` apart, the last flush with the border; a side shorter than a window is
    one window (ours: the public code leaves a border where the stride does not divide). The network is told log SNR
    (the paper: n). With `flat` off the windows' weights fall to their borders (ours).

    Limits: seams are weaker, not gone. Correlation of neighbours across the edge of a window over the true one, for a
    stationary normal and exact denoisers: 0 without overlap, 0.58 / 0.82 / 0.93 at stride 1/2, 1/4, 1/8 of a window.

    Args:
        window: side of the patches, that of the crops in training.
        stride: of the windows, 1 to `window`.
        flat: plain averages.
        first, last, levels: of the linear betas.

    Source: Özdenizci & Legenstein 2023 (2207.14626) algorithms 1 and 2; public code for sizes.
    """

    calls: int = 25
    window: int = 64
    stride: int = 16
    flat: bool = True
    first: float = 1e-4
    last: float = 2e-2
    levels: int = 1000

    def process(self) -> Table:
        """The table of N levels."""
        return Table.linear(self.levels, self.first, self.last)

    def model(self) -> Preconditioned:
        """The untrained denoiser of patches."""
        return Preconditioned(self.net(), self.process(), predict_eps)

    def objective(self, denoiser: Denoiser) -> Denoising:
        """The square error of eps at levels of the table, in pairs."""
        return Denoising(denoiser, Antithetic(self.levels), eps_weight)

    def guide(self, denoiser: Denoiser) -> Windowed:
        """The mean over windows."""
        return Windowed(denoiser, self.window, self.window - self.stride, aligned=("image",), flat=self.flat)

    def sampler(self) -> DDIM:
        """DDIM without noise."""
        return DDIM()

    def times(self, steps: int | None = None) -> tuple[float, ...]:
        """Levels counted from the first, N / steps apart."""
        return grids.table(self.process(), steps or self.calls, spacing="leading")
