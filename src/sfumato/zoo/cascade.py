"""Cascades: a model of small pictures, and stages that make them larger (Ho et al. 2022, 2106.15282)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.data.resizing import resized
from sfumato.noise import Noise, Seeds
from sfumato.processes import Gaussian
from sfumato.recipes.augmented import level
from sfumato.samplers import Sampler, Times, blank
from sfumato.zoo import conditions, defaults, files
from sfumato.zoo.drawing import Ticker, chunks_of, drawn
from sfumato.zoo.model import Model


@dataclass(frozen=True)
class Cascade:
    """A base model, then stages of the recipe `cdm` (or another enlargement with a `factor`), each drawing a larger
    picture given the one before.

    Draw i is the same whatever n: its noise is keyed by the seed, the stage and i.

    Args:
        base: draws pictures by itself.
        stages: in the order they run.
        level: s of the conditions, for every stage that is told one; each stage's own if not given.
        truncated: the base stops at level s, and its noisy state is the condition of the first stage; else pictures
            are finished and noised again, as they are between stages. The base's process may be another one: it stops
            at the same log SNR.

    Source: Ho et al. 2022 (2106.15282) algorithms 1 and 2.
    """

    base: Model
    stages: tuple[Model, ...]
    level: float | None = None
    truncated: bool = False

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        cond: Tensor | None = None,
        steps: int = defaults.STEPS,
        size: int | tuple[int, ...] | None = None,
        batch: int = 16,
    ) -> Tensor:
        """n draws (n, C, H, W), data space.

        Args:
            cond: labels (n,) for the base and the stages that have classes.
            steps: network calls of the base, and of each stage.
            size: of the base's pictures.

        Raises:
            ValueError: for a truncated base before a stage that is told no level.
        """
        z, noisy = self._first(n, seed, cond, steps, size, batch)
        for number, stage in enumerate(self.stages):
            recipe = self._recipe(stage)
            factor = float(recipe.factor)
            y = resized(z, tuple(round(factor * side) for side in z.shape[2:]), factor)
            beside: dict[str, Tensor] = {} if cond is None or not stage.classes else {"label": cond}
            if noisy and number == 0:
                beside["vector"] = level(torch.full((n,), recipe.level, dtype=torch.float64)).to(y)
            else:
                y = y.clamp(0.0, 1.0)
            told = Model(stage.codec, stage.denoiser, {**stage.config, "fields": self._fields(stage)})
            key = Noise(seed).at(("stage", number)).seed
            z = told.enhance(y, beside=beside, seed=key, steps=steps, batch=batch).samples[0]
        return z

    def _first(
        self, n: int, seed: int, cond: Any, steps: int, size: int | tuple[int, ...] | None, batch: int
    ) -> tuple[Tensor, bool]:
        """The base's pictures, or its noisy states as pictures of the first stage's codec; and which they are."""
        if not self.truncated:
            return self.base.sample(n, seed=seed, cond=cond, steps=steps, size=size, batch=batch), False
        recipe = self._recipe(self.stages[0])
        if not hasattr(recipe, "level"):
            raise ValueError("the first stage is told no level: a base that stops early needs the recipe cdm after it.")
        before, process = self.base.denoiser.process, recipe.process()
        assert isinstance(before, Gaussian)
        end = before.time_of(process.log_snr(recipe.level)) if recipe.level > 0.0 else 0.0
        way: tuple[Sampler, Times] = defaults.own(self.base.denoiser) or (
            defaults.sampler(before),
            defaults.times(before, steps),
        )
        times = (*(t for t in way[1] if t > end), end)
        # The state is alpha_before z + ...; the stage knows alpha z + ...
        scale = process.alpha(recipe.level) / before.alpha(end)
        parts, shape = [], self.base._shape(size)
        chunks = chunks_of(n, batch)
        tick = Ticker(None, 0)
        for rows in chunks:
            label = self.base._condition(cond, n)
            bound = self.base.denoiser if label is None else self.base.denoiser.given(conditions.rows(label, rows))
            like = blank(bound, (len(rows), *shape))
            parts.append(scale * drawn(bound, way[0], times, like, Seeds.keyed(seed, rows), tick))
        return self.stages[0].codec.decode(torch.cat(parts)), True

    def _fields(self, stage: Model) -> dict[str, Any]:
        fields = dict(stage.config.get("fields", {}))
        known = hasattr(files.made(stage.config), "level")
        return {**fields, "level": self.level} if known and self.level is not None else fields

    def _recipe(self, stage: Model) -> Any:
        recipe: Any = files.made({**stage.config, "fields": self._fields(stage)})
        if not hasattr(recipe, "factor") or not math.isfinite(recipe.factor):
            raise ValueError(f"a stage enlarges by its recipe's `factor`, which {stage.config['recipe']!r} has not.")
        return recipe
