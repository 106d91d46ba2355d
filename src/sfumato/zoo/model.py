"""A trained model: the denoiser, the codec to its space, and the config that rebuilds both."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.codecs import Codec, Latent
from sfumato.denoisers import Counted, Denoiser, Sparing, Windowed
from sfumato.guides import CFG
from sfumato.guides.cfg import nothing
from sfumato.noise import Seeds
from sfumato.operators import Measurement
from sfumato.processes import Gaussian
from sfumato.samplers import Sampler, blank
from sfumato.solvers import Solver
from sfumato.zoo import conditions, defaults, files, foreign, hub, memory, shapes, tuned
from sfumato.zoo.drawing import Progress, Ticker, chunks_of, drawn
from sfumato.zoo.result import Result

WINDOW = 256  # (ours) side of the windows that an image is cut into,
LARGE = 512  # where a side is longer than this: memory stays that of a few windows
OVERLAP = 32
ALIGNED = ("image", "mask", "rough", "anchor", "features")  # what is beside the picture, of its size


@dataclass(frozen=True, eq=False)
class Model:
    """Generation and restoration in data space.

    Sample i is the same whatever the batch: its noise is keyed by the seed and i, or by the seed, the item and the
    sample for a restoration. (Its value is the same to float rounding.)

    Args:
        codec: data space <-> model space.
        denoiser: with the weights that are used.
        config: what rebuilds the denoiser, and "event": the shape of one x_0, None where any size will do.
    """

    codec: Codec
    denoiser: Denoiser
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def event(self) -> tuple[int | None, ...]:
        """Shape of one x_0 in data space, None where any size will do."""
        if "event" not in self.config:
            raise ValueError('this model does not know the shape of its data: Model(codec, denoiser, {"event": [2]}).')
        return tuple(self.config["event"])

    @property
    def classes(self) -> int:
        """Number of classes of the label condition; 0: none."""
        return int(self.config.get("fields", {}).get("classes", 0))

    @property
    def reads(self) -> bool:
        """Whether its condition is a text."""
        return conditions.encoder(self.denoiser) is not None

    def save(self, folder: str | Path, *, half: bool = False) -> None:
        """Writes config.json and model.safetensors, beside and renamed.

        Args:
            half: weights as float16, half the size; they are loaded back as float32.

        Raises:
            ValueError: for a model without a recipe, or with a codec that a config cannot hold.
        """
        if "recipe" not in self.config:
            raise ValueError('only a model of a recipe can be saved: its config needs "recipe" and "fields".')
        # The autoencoder of a latent codec is part of the denoiser: its weights are saved there.
        codec = files.codec_config(self.codec.outer if isinstance(self.codec, Latent) else self.codec)
        weights = {k: v.detach().cpu().contiguous().clone() for k, v in self.denoiser.state_dict().items()}
        if half:
            weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        fields = self.config["fields"] | files.unsaid(self.config)
        files.write(Path(folder), {**self.config, "fields": fields, "codec": codec}, weights)

    def push_to_hub(self, hub_id: str, *, half: bool = False, private: bool = False, message: str = "A model") -> str:
        """Uploads the model to owner/name on the Hugging Face Hub, with a page about it; returns the address (extra
        `hub`).

        Args:
            half: weights as float16.
            private: a repository that is made now is private.
            message: of the commit.

        Raises:
            ValueError: for a model that cannot be saved, or an id that is not owner/name.
            ImportError: without the extra.
            ConnectionError: if the Hub cannot be reached, or does not let it in.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            self.save(folder, half=half)
            name = hub_id.removeprefix("hf://")
            page = hub.CARD.format(name=name.rpartition("/")[2], recipe=self.config["recipe"], hub_id=name)
            (folder / "README.md").write_text(page, "utf-8")
            return hub.upload(folder, hub_id, private=private, message=message)

    def sample(
        self,
        n: int,
        *,
        first: int = 0,
        seed: int = 0,
        cond: Any = None,
        steps: int = defaults.STEPS,
        sampler: Sampler | None = None,
        scale: float | None = None,
        size: int | tuple[int, ...] | None = None,
        batch: int = 16,
        dtype: torch.dtype | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """n draws, (n, *event), data space.

        Args:
            first: number of the first draw: draws 5 to 7 are `sample(3, first=5)`.
            cond: a label for all, or a tensor of n labels; a text for all, or n texts; a dict of tensors with n rows
                for other conditions, and what `prompts` makes of texts.
            steps: network calls, of the grid `defaults.times`.
            sampler: the model's own way if it has one, with its own grid, else `defaults.sampler` of the process.
            scale: of classifier-free guidance, 1: none; needs a condition. It is diffusers' `guidance_scale`, and 1 + w
                in the paper's w.
            size: of the axes that the event leaves open; by default the config's "size", else 64 (ours).
            batch: rows that run together; the result does not depend on it.
            dtype: of the state, torch's default if not given.
            progress: called with the steps done and the steps in all.

        Raises:
            ValueError: for a condition that the model does not know, or a size that does not fit its event.
        """
        shape, process = self._shape(size), self.denoiser.process
        own = defaults.own(self.denoiser) if sampler is None else None
        sampler, times = own or (sampler or defaults.sampler(process), defaults.times(process, steps))
        condition, codec = self._condition(cond, n), self.codec.sized(shape)
        latent = tuple(codec.latent(shape))
        denoiser = self._sized(self.denoiser, latent)
        if scale is not None and scale != 1.0:
            if cond is None:
                raise ValueError("guidance needs a condition: give `cond`, or leave `scale` out.")
            denoiser = CFG(denoiser, scale, self._null())
        chunks = chunks_of(n, batch)
        tick = Ticker(progress, len(chunks) * (len(times) - 1))
        parts = []
        for rows in chunks:
            bound = denoiser if condition is None else denoiser.given(conditions.rows(condition, rows))
            noise = Seeds.keyed(seed, (first + row for row in rows))
            like = blank(bound, (len(rows), *latent)).to(dtype)
            parts.append(codec.decode(drawn(bound, sampler, times, like, noise, tick)))
        return torch.cat(parts) if parts else torch.empty(0, *shape)

    def enhance(
        self,
        y: Tensor,
        *,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        sampler: Sampler | None = None,
        beside: Mapping[str, Tensor] | None = None,
        batch: int = 8,
        progress: Progress | None = None,
    ) -> Result:
        """Draws of x_0 given each y, in data space, by a model that was trained on pairs; no operator is named.

        Args:
            y: (B, *event), damaged, of the size of x_0 and in the unit of the data.
            samples: of each y.
            steps: network calls; the recipe's if not given.
            sampler: the recipe's if not given, on its grid.
            beside: what else the model is told, (B, ...) each: pictures in data space, {"mask": ...}; labels, vectors.
            batch: rows that run together; the result does not depend on it.
            progress: called with the steps done and the steps in all.

        Raises:
            ValueError: for a model that was not trained on pairs, or data that do not fit it.
        """
        recipe: Any = files.made(self.config) if "recipe" in self.config else None
        if not getattr(recipe, "paired", False):
            raise ValueError("this model was not trained on pairs: `restore` takes it, with an operator.")
        if samples < 1:
            raise ValueError(f"samples is at least 1, got {samples}.")
        shapes.fit(self.event, tuple(y.shape[1:]))
        event, codec = tuple(y.shape[1:]), self._codec(tuple(y.shape[1:]))
        others = {key: codec.encode(v) if v.ndim == y.ndim else v for key, v in (beside or {}).items()}
        z, heard = codec.encode(y), getattr(recipe, "heard", False)
        cond = {"image": recipe.padded(z) if heard else z, **others}  # frames of a sound are whole
        guided = recipe.guide(self.denoiser)
        denoiser = Counted(self._sized(guided, event) if recipe.spatial else guided)
        times = recipe.times() if steps is None else recipe.times(steps)
        rows = [(item, sample) for sample in range(samples) for item in range(len(y))]
        chunks = chunks_of(len(rows), batch)
        tick = Ticker(progress, len(chunks) * (len(times) - 1))
        parts = []
        for part in chunks:
            index = [rows[i] for i in part]
            noise, given = Seeds.keyed(seed, index), conditions.rows(cond, [item for item, _ in index])
            with torch.no_grad():
                told = recipe.condition(self.denoiser, given, noise.at("condition"))
            way, like = sampler or recipe.sampler_given(told), given["image"] if heard else recipe.state(told)
            x0 = drawn(denoiser.given(told), way, times, like, noise, tick)
            parts.append(codec.decode(recipe.picture(self.denoiser, x0, told)))
        x0 = torch.cat(parts)[..., : event[-1]]
        nfe = denoiser.calls // max(len(chunks), 1)
        return Result(x0.reshape(samples, len(y), *x0.shape[1:]), repr(sampler or recipe.sampler()), "", nfe)

    def prompts(self, texts: Sequence[str], negative: str = "") -> dict[str, Tensor]:
        """The condition that texts are, a row for each; guidance leads away from `negative`, of all of them.

        Raises:
            ValueError: for a model that reads no text.
        """
        return conditions.prompts(self.denoiser, texts, negative)

    def restore(
        self,
        m: Measurement,
        *,
        solver: Solver | None = None,
        samples: int = 1,
        seed: int = 0,
        steps: int | None = None,
        cond: Any = None,
        batch: int = 8,
        low_memory: bool = False,
        same_noise: bool = False,
        progress: Progress | None = None,
    ) -> Result:
        """Samples of x_0 given each y of m, in data space.

        Args:
            m: a measurement in data space: y in the unit of the data; masks and kernels may differ from row to row.
            solver: chosen by `defaults.solver` if not given; the result says which and why.
            samples: of each y.
            steps: of the chosen solver, where none is given.
            cond: a label for all, or a tensor of B labels; a text or B texts; a dict of tensors.
            batch: rows that run together; the result does not depend on it.
            low_memory: the network sees one row, or one window, at a time, and a solver that differentiates it keeps
                nothing of it: the same result, `memory` says for how many bytes, at one call more for each gradient.
            same_noise: every item draws what item 0 draws: slices of a volume, or frames, that should not flicker.
            progress: called with the steps done and the steps in all.

        Raises:
            ValueError: if the data of m are not of the model's shape, or samples is less than 1.
        """
        if samples < 1:
            raise ValueError(f"samples is at least 1, got {samples}.")
        if solver is not None and steps is not None:
            raise ValueError("steps is a setting of the solver that you gave: set it there.")
        if not isinstance(self.denoiser.process, Gaussian):
            raise ValueError(
                "restoration needs a model of real numbers: this one makes categories, and can be sampled."
            )
        shapes.fit(self.event, m.event)
        codec, items = self._codec(m.event, low_memory), len(m)
        z = m.to_model(codec)
        reason = ""
        if solver is None:
            solver, reason = defaults.solver(z, samples, steps, denoiser=self.denoiser)
        process = self.denoiser.process
        assert isinstance(process, Gaussian)
        condition = self._condition(cond, items)
        denoiser = Counted(self._sized(self.denoiser, z.event, low_memory))
        rows = [(item, sample) for sample in range(samples) for item in range(items)]
        chunks = chunks_of(len(rows), batch)
        tick = Ticker(progress, len(chunks) * (len(solver.times(process)) - 1))
        parts: list[Tensor] = []
        kernels: list[Tensor] = []
        for part in chunks:
            index = [rows[i] for i in part]
            of = [item for item, _ in index]
            keys = [(0, sample) for _, sample in index] if same_noise else index
            bound = denoiser if condition is None else denoiser.given(conditions.rows(condition, of))
            for last in tick.over(solver.trajectory(bound, z.rows(of), Seeds.keyed(seed, keys))):
                pass
            with torch.no_grad():
                parts.append(codec.decode(last.x))
            if (kernel := solver.found(last.memory)) is not None:
                kernels.append(kernel)
        x0 = torch.cat(parts)
        nfe = denoiser.calls // len(chunks)
        found = torch.cat(kernels).unflatten(0, (samples, items)) if kernels else None
        return Result(x0.reshape(samples, items, *x0.shape[1:]), repr(solver), reason, nfe, found)

    def memory(
        self, m: Measurement, solver: Solver, *, samples: int = 1, batch: int = 8, low_memory: bool = False
    ) -> int:
        """About how many bytes `restore` takes with these settings, beside the weights; the network is tried once."""
        shapes.fit(self.event, m.event)
        event = tuple(self.codec.latent(m.event))
        rows, window, windows = min(batch, samples * len(m)), event, 1
        if _large(event):
            window = (event[0], *(min(n, WINDOW) for n in event[1:]))
            windows = math.prod(Windowed.count(n, WINDOW, OVERLAP) for n in event[1:])
        at_once = 1 if low_memory else rows * windows if solver.differentiates else rows
        cond = self._condition(None, 1)
        denoiser = self.denoiser if cond is None else self.denoiser.given(cond)
        need = memory.estimate(
            denoiser, event, rows=rows, at_once=at_once, window=window, gradient=solver.differentiates
        )
        return need + (1 if low_memory else rows) * memory.decoding(self.codec, m.event, gradient=solver.differentiates)

    def _shape(self, size: int | tuple[int, ...] | None) -> tuple[int, ...]:
        """Shape of one x_0 whose open axes are `size`."""
        opened = [i for i, n in enumerate(self.event) if n is None]
        if size is None:
            size = self.config.get("size", 64)
        elif not opened:
            raise ValueError(f"this model makes data of the shape {self.event} only: leave `size` out.")
        sizes = [size] * len(opened) if isinstance(size, int) else list(size)
        if len(sizes) != len(opened) or min(sizes, default=1) < 1:
            raise ValueError(f"the shape {self.event} leaves {len(opened)} axes open, got the sizes {sizes}.")
        return tuple(sizes.pop(0) if n is None else n for n in self.event)

    def _condition(self, cond: Any, n: int) -> Any:
        """The condition with one row for each of n items."""
        return conditions.of(cond, n, self.denoiser, self.classes)

    def _null(self) -> Callable[[Any], Any]:
        """What stands for no condition."""
        if "recipe" not in self.config:
            return nothing
        return getattr(files.made(self.config), "null", nothing)

    def _codec(self, event: tuple[int, ...], low_memory: bool = False) -> Codec:
        """The codec for data of this shape."""
        codec = self.codec.sized(event)
        return codec.sparing() if low_memory else codec

    def _sized(self, denoiser: Denoiser, event: tuple[int, ...], low_memory: bool = False) -> Denoiser:
        """The denoiser, in windows where an image is large; in its own, where it has windows."""
        inner = Sparing(denoiser) if low_memory else denoiser
        if not _large(event) or any(isinstance(part, Windowed) for part in inner.modules()):
            return inner
        return Windowed(inner, WINDOW, OVERLAP, batch=1, aligned=ALIGNED)


def load(name: str | Path, *, device: torch.device | str = "cpu") -> Model:
    """A trained model, ready to use: a shipped name, a folder, a training run's folder, or a Hub id (extra `hub`).

    The folder of a pipeline of diffusers is one too (extra `diffusers`): its network, autoencoder and encoder of text.

    Raises:
        FileNotFoundError: if there is no such model, with the nearest names.
        ValueError: if its files are damaged, or do not fit each other.
    """
    folder = files.find(name)
    if not (folder / "config.json").is_file():
        config, denoiser = foreign.assembled(folder)
    else:
        config = files.read_config(folder)
        _, denoiser = files.build(config)
        if "lora" in config:
            config = tuned.read(folder, config, denoiser)
        else:
            files.read_weights(folder, denoiser)
    codec = files.read_codec(config)
    denoiser = denoiser.to(device).eval().requires_grad_(False)
    if inner := getattr(denoiser, "codec", None):
        codec = inner(codec)  # a latent model carries its autoencoder
    elif len(config["event"]) > 1 and config["event"][0] != config["fields"].get("channels", config["event"][0]):
        raise ValueError(
            f"{folder}: data of shape {config['event']} do not go through {config['fields']['channels']} channels."
        )
    return Model(codec, denoiser, config)


def load_classifier(folder: str | Path, *, device: torch.device | str = "cpu") -> nn.Module:
    """A classifier of noisy data, as `convert` writes it: (x_t, t, label) to log p(label | x_t), (B,), model space.

    Raises:
        ValueError: if the folder holds no classifier, or its weights do not fit.
    """
    path = files.find(folder)
    config = files.read_config(path)
    recipe = files.made(config)
    if not hasattr(recipe, "classifier"):
        raise ValueError(f"{folder} holds {config['recipe']!r}, which is no classifier: sf.load takes it.")
    classifier: nn.Module = recipe.classifier()
    files.read_weights(path, classifier)
    return classifier.to(device).eval().requires_grad_(False)


def _large(event: tuple[int, ...]) -> bool:
    return len(event) == 3 and max(event[1:]) > LARGE
