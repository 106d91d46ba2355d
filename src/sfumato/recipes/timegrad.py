"""TimeGrad: autoregressive denoising diffusion models for multivariate forecasting (Rasul et al. 2021, 2101.12072)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.denoisers import Denoiser, Estimate, Preconditioned, Wrapper
from sfumato.nets.ring import Ring
from sfumato.noise import Noise
from sfumato.processes import Gaussian, Table, Time
from sfumato.recipes.series import SCHEMES, Series
from sfumato.samplers import Sampler, Times, sample
from sfumato.training import Steps
from sfumato.training.objectives import Weight

EXAMPLE = "python benchmarks/winds.py timegrad --root ROOT   # ROOT: Debian's ferret-datasets, unpacked"

Memory = Any  # of a recurrent network: a tensor, or a pair of them


class StepByStep(Wrapper):
    """p(x_l | x_1 .. x_{l-1}), one denoiser of a vector (B, C) told the state h_{l-1} of a recurrent network.

    h_{l-1} = RNN(x_{l-k} / scale for k in lags, covariates_l, statics; h_{l-2}): what stands at step l has not been
    seen. Series are divided by `scale`, the mean |x| of what is given of each between the largest lag and the horizon
    (1 where that is 0), and that is the unit of x_t and of the estimate. Numbers that are not given enter as 0.

    Args:
        inner: denoiser of vectors, its condition {"state": (B, state)}.
        rnn: an LSTM or GRU, batch first.
        project: its cells to the state.
        lags: steps back, 1 or more.
        horizon: the last steps of a window, which the scale leaves out.
    """

    def __init__(
        self, inner: Denoiser, rnn: nn.RNNBase, project: nn.Module, lags: tuple[int, ...], horizon: int
    ) -> None:
        super().__init__(inner)
        self.rnn, self.project, self.lags, self.horizon = rnn, project, lags, horizon

    @property
    def start(self) -> int:
        """The first step that has all its lags."""
        return max(self.lags)

    def scale(self, cond: dict[str, Tensor]) -> Tensor:
        """Mean |x| of what is given, (B, C, 1); 1 where there is nothing, or zeros alone."""
        context = slice(self.start, cond["mask"].shape[-1] - self.horizon)
        known = cond["mask"][..., context]
        total = (cond["observed"][..., context].abs() * known).sum(-1, keepdim=True)
        mean = total / known.sum(-1, keepdim=True).clamp(min=1.0)
        return torch.where(mean > 0.0, mean, 1.0)

    def forward(self, xt: Tensor, t: Time, cond: Any = None) -> Estimate:
        """The estimate at every step of a window whose past is given, (B, C, L) in units of `scale`.

        Args:
            t: a float, (B,) or one time per step (B, L). Before `start` the state is 0.
            cond: "observed" and "mask" (B, C, L): the true values; "covariates" (B, F, L); "static" (B, S).
        """
        B, C, L = xt.shape
        z = cond["observed"] / self.scale(cond) * cond["mask"]
        states, _ = self.unroll(z, cond, self.start, L, None)
        states = torch.cat([states.new_zeros(B, self.start, states.shape[-1]), states], 1)
        if isinstance(t, Tensor):
            t = (t if t.ndim == 2 else t.reshape(-1, 1)).expand(B, L).reshape(-1)
        rows = xt.transpose(1, 2).reshape(B * L, C)
        mean = self.inner(rows, t, {"state": states.flatten(0, 1)}).mean
        return Estimate(mean.reshape(B, L, C).transpose(1, 2))

    def unroll(
        self, z: Tensor, cond: dict[str, Tensor], first: int, last: int, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """States for the steps first .. last - 1, (B, last - first, state), of z before each, and the RNN's memory."""
        lagged = torch.cat([z[..., first - k : last - k] for k in self.lags], 1).transpose(1, 2)
        parts = [lagged]
        if "covariates" in cond:
            parts.append(cond["covariates"][..., first:last].transpose(1, 2).to(z))
        if "static" in cond:
            parts.append(cond["static"][:, None].expand(-1, last - first, -1).to(z))
        inputs = torch.cat(parts, -1)
        if inputs.shape[-1] != self.rnn.input_size:
            raise ValueError(
                f"the recurrent network takes {self.rnn.input_size} numbers a step (lags x series, covariates, "
                f"statics), the condition gives {inputs.shape[-1]}: {sorted(cond)}."
            )
        out, memory = self.rnn(inputs, memory)
        return self.project(out), memory

    @torch.no_grad()
    def draw(self, cond: dict[str, Tensor], times: Times, sampler: Sampler, noise: Noise) -> Tensor:
        """One path for each row, (B, C, L), in the unit of the data: drawn step by step, each fed back into the state.

        Numbers that are given are kept, and those missing among them are drawn from what stands before them alone.
        Before `start` nothing can be drawn: what is missing there is NaN.
        """
        mask, scale = cond["mask"].bool(), self.scale(cond)
        z = torch.where(mask, cond["observed"] / scale, 0.0)
        L, process = z.shape[-1], self.process
        assert isinstance(process, Gaussian)
        holes = (~mask).any(1).any(0)
        holes[: self.start] = False
        at = int(holes.nonzero()[0]) if bool(holes.any()) else L
        memory: Memory = None
        if at > self.start:
            _, memory = self.unroll(z, cond, self.start, at, None)
        for l in range(at, L):
            state, memory = self.unroll(z, cond, l, l + 1, memory)
            x1 = process.prior(z[..., l]).sample(noise)
            drawn = sample(self.inner.given({"state": state[:, 0]}), sampler, x1=x1, times=times, noise=noise)
            z[..., l] = torch.where(mask[..., l], z[..., l], drawn)
        z[..., : self.start].masked_fill_(~mask[..., : self.start], torch.nan)
        return z * scale


class TeacherForcing(nn.Module):
    """w |x_0 - D(x_t, t, h)|^2 at every step that has its lags, with the true past: context and horizon alike.

    Every step has a time of its own, uniform on the N levels. Unknown entries are left out.

    Args:
        denoiser: of a window, told its past.
        steps: N, or 0 for times uniform on (0, 1].
        weight: w(alpha, sigma).

    Source: Rasul et al. 2021 (2101.12072) eq. 9 and algorithm 1.
    """

    def __init__(self, denoiser: StepByStep, steps: int, weight: Weight) -> None:
        super().__init__()
        self.denoiser, self.steps, self.weight = denoiser, steps, weight

    def forward(self, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """The loss of each sample, (B,); their mean is the mean over the known numbers of the batch."""
        rest = dict(cond or {})
        valid = rest.pop("valid", torch.ones_like(x0)).bool()
        known = rest | {"observed": torch.where(valid, x0, 0.0), "mask": valid.to(x0)}
        z = (known["observed"] / self.denoiser.scale(known)).transpose(1, 2)
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        u = noise.uniform(torch.empty(z.shape[:2], dtype=torch.float64)).to(z.device)
        t = (torch.floor(u * self.steps) + 1.0) / self.steps if self.steps else 1.0 - u
        zt = process.marginal(z, t).sample(noise)
        error = (z - self.denoiser(zt.transpose(1, 2), t, known).mean.transpose(1, 2)) ** 2
        weight = torch.as_tensor(self.weight(process.alpha(t), process.sigma(t))).to(error)
        counted = valid.transpose(1, 2).to(error)
        counted[:, : self.denoiser.start] = 0.0
        return len(x0) * (counted * weight[..., None] * error).flatten(1).sum(1) / counted.sum().clamp(min=1.0)


@dataclass(frozen=True)
class Recipe(Series):
    """Forecasts drawn step by step: a diffusion of the vector x_l given the state of a recurrent network.

        p(x_l | x_{<l}) = p(x_l | h_{l-1}),   h_l = RNN(lags of x, covariates, statics; h_{l-1}),
        L = E |eps - eps_hat(x_l^n, h_{l-1}, n)|^2  over context and horizon.

    Series are divided by the mean |x| of their context, and samples multiplied back (`StepByStep`). `samplers.paths`
    draws futures with any sampler of the library in place of the paper's ancestral one; calls of the network are
    times x horizon. It forecasts: a gap inside the past is drawn from what came before it, and blind to what follows.
    The state of few series is not squeezed through C / 2 numbers as in the paper (`Ring`; ours). The code's index
    embedding is a constant input of the network, the same as a bias, and left out. `scheme` "v" and "flow" are
    ours, and better with deterministic samplers in few steps (see CSDI). A window holds max(lags) steps, the context
    and the horizon.

    Source: Rasul et al. 2021 (2101.12072) section 3, algorithms 1 and 2, section 4.3; public code.
    """

    lags: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)  # by the frequency of the data
    cells: int = 40
    layers: int = 2
    cell: str = "lstm"  # or "gru"
    dropout: float = 0.1
    state: int = 100
    width: int = 8
    blocks: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lags or min(self.lags) < 1 or len(set(self.lags)) < len(self.lags):
            raise ValueError(f"lags are different steps back, each 1 or more (0 would be the future), got {self.lags}.")
        if self.cell not in ("lstm", "gru"):
            raise ValueError(f"cell is lstm or gru, got {self.cell!r}.")

    def table(self) -> Table:
        """Linear betas."""
        return Table.linear(self.steps, self.first, self.last)

    def net(self) -> nn.Module:
        """The network along the series of one step."""
        return Ring(self.channels, self.state, steps=self.steps, width=self.width, blocks=self.blocks)

    def model(self) -> StepByStep:
        """The untrained denoiser of a window given its past."""
        inner = Preconditioned(self.net(), self.process(), SCHEMES[self.scheme], clock=self.clock)
        entering = len(self.lags) * self.channels + self.covariates + self.statics
        kind = nn.LSTM if self.cell == "lstm" else nn.GRU
        between = self.dropout if self.layers > 1 else 0.0
        rnn = kind(entering, self.cells, self.layers, dropout=between, batch_first=True)
        return StepByStep(inner, rnn, nn.Linear(self.cells, self.state), tuple(self.lags), self.horizon)

    def objective(self, denoiser: StepByStep) -> TeacherForcing:
        """The loss at every step, with the true past; x_0 (B, C, L), cond a dict with "valid" where entries lack."""
        times, weight = self.law()
        return TeacherForcing(denoiser, times.steps if isinstance(times, Steps) else 0, weight)
