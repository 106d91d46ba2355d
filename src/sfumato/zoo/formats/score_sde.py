"""Checkpoints of score_sde_pytorch: the continuous DDPM++ and NCSN++ networks, with their averaged weights.

The modules are a list in the order of use, walked here. What no key says is as in every configuration of that code:
the filter (1, 3, 3, 1) beside a pyramid of pictures or features, (1, 1) without one, and sums scaled by sqrt(1/2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.zoo.formats.base import Found, State, states

CODE = "score_sde_pytorch"
BLOCK = {"GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1"}
BLOCK |= {"Conv_2": "skip"}
BINOMIAL = (1.0, 3.0, 3.0, 1.0)


def find(content: Any) -> Found | None:
    """A network for the score: VE where the clock has Fourier features, else asked for."""
    for state in states(content):
        if any(key.startswith("all_modules.0.") for key in state):
            return _Walk(_averaged(state, content)).found()
    return None


def _averaged(state: State, content: Any) -> State:
    """The state dict with the averaged parameters, which the file holds as a list in the order of the others."""
    average = content.get("ema") if isinstance(content, Mapping) else None
    shadow = average.get("shadow_params") if isinstance(average, Mapping) else None
    if shadow is None:
        return state
    learned = [key for key in state if key not in ("sigmas", "all_modules.0.W")]
    if len(learned) != len(shadow):
        raise ValueError(f"the file has {len(shadow)} averaged parameters for {len(learned)} of its network.")
    return {**state, **dict(zip(learned, shadow, strict=True))}


class _Walk:
    """Goes through the modules in the order of use, and names each as ours."""

    def __init__(self, state: State) -> None:
        self.sigmas = state.get("sigmas")
        self.modules: dict[int, State] = {}
        self.left = []
        for key, value in state.items():
            head, _, rest = key.partition(".")
            number, _, leaf = rest.partition(".")
            if head == "all_modules" and number.isdigit():
                self.modules.setdefault(int(number), {})[leaf] = value
            elif key != "sigmas":
                self.left.append(key)
        self.at, self.weights = 0, dict[str, Tensor]()

    def found(self) -> Found:
        """The whole network."""
        fields: dict[str, Any] = {"net": "song", "embedding": "positional", "encoder": "standard"}
        if self.kind() == "fourier":
            self.weights["frequencies"] = self.take()["W"]
            fields["embedding"] = "fourier"
        for name in ("clock.0", "clock.1", "enter"):
            self.plain(name)
        enter = self.weights["enter.weight"]
        fields |= {"base": len(enter), "channels": enter.shape[1]}
        levels = 1 + sum(self.resamples(i) for i in self.modules) // 2
        widths, attention, blocks = [], [], 0
        for level in range(levels):
            count = 0
            while self.kind() == "block" and not self.resamples(self.at) and not self.is_middle():
                if self.block(f"down.{level}.{count}"):
                    attention.append(level)
                count += 1
            blocks = blocks or count
            widths.append(len(self.weights.get(f"down.{level}.0.conv1.weight", ())))
            if level + 1 < levels:
                self.block(f"shrink.{level}")
                if self.kind() == "beside":
                    fields["encoder"] = self.beside(f"beside.{level}")
        self.block("middle.0")
        self.block("middle.1")
        pictures = 0
        for level in reversed(range(levels)):
            for i in range(blocks + 1):
                self.block(f"up.{level}.{i}")
            if self.kind() == "norm":
                self.plain(f"leave.{level}.0")
                self.plain(f"leave.{level}.2")
                pictures += 1
            if level:
                self.block(f"grow.{level - 1}")
        self.left += [f"all_modules.{i}.{leaf}" for i in self.modules if i >= self.at for leaf in self.modules[i]]
        fields |= {"widths": tuple(widths), "blocks": blocks, "attention": tuple(sorted(set(attention)))}
        fields["decoder"] = "skip" if pictures > 1 else "standard"
        fields["taps"] = (1.0, 1.0) if fields["encoder"] == "standard" else BINOMIAL
        unsaid: dict[str, Any] = {"kind": "vp"}
        if fields["embedding"] == "fourier":
            fields["kind"], unsaid = "ve", {}
            if self.sigmas is not None:
                # Our data are in [-1, 1], theirs in [0, 1].
                fields |= {"sigma_min": 2.0 * float(self.sigmas[-1]), "sigma_max": 2.0 * float(self.sigmas[0])}
        return Found(CODE, "published", {**fields, "size": 0}, self.weights, unsaid, tuple(self.left))

    def kind(self) -> str:
        """What the next module is."""
        names = {leaf.partition(".")[0] for leaf in self.modules.get(self.at, {})}
        if "Dense_0" in names:
            return "block"
        if names in ({"Conv_0"}, {"Conv2d_0"}):
            return "beside"
        known = {"W": "fourier", "NIN_0": "attention"}
        norm = "weight" in names and self.modules[self.at]["weight"].ndim == 1
        return next((kind for name, kind in known.items() if name in names), "norm" if norm else "")

    def resamples(self, index: int) -> bool:
        """Whether a block halves or doubles the resolution: its branch has a convolution, though nothing widens."""
        skip = self.modules.get(index, {}).get("Conv_2.weight")
        return skip is not None and skip.shape[0] == skip.shape[1]

    def is_middle(self) -> bool:
        """Whether a block, attention and a block come, and the last of them is followed by one that takes a skip."""
        at, kinds = self.at, []
        for self.at in range(at, at + 3):
            kinds.append(self.kind())
        self.at = at
        after = self.modules.get(at + 3, {}).get("Conv_2.weight")
        narrows = after is not None and after.shape[1] > after.shape[0]
        return kinds == ["block", "attention", "block"] and narrows

    def take(self) -> State:
        """The next module."""
        self.at += 1
        return self.modules.get(self.at - 1, {})

    def plain(self, name: str) -> None:
        self.weights |= {f"{name}.{leaf}": value for leaf, value in self.take().items()}

    def block(self, name: str) -> bool:
        """A residual block, and the attention that follows it, if one does."""
        index = self.at
        for leaf, value in self.take().items():
            part, _, end = leaf.partition(".")
            if part in BLOCK:
                self.weights[f"{name}.{BLOCK[part]}.{end}"] = value
            else:
                self.left.append(f"all_modules.{index}.{leaf}")
        if self.kind() != "attention":
            return False
        state = self.take()
        self.weights |= {f"{name}.norm2.{end}": state[f"GroupNorm_0.{end}"] for end in ("weight", "bias")}
        columns = [state[f"NIN_{i}.W"].T[:, :, None, None] for i in range(4)]
        self.weights[f"{name}.qkv.weight"], self.weights[f"{name}.proj.weight"] = torch.cat(columns[:3]), columns[3]
        self.weights[f"{name}.qkv.bias"] = torch.cat([state[f"NIN_{i}.b"] for i in range(3)])
        self.weights[f"{name}.proj.bias"] = state["NIN_3.b"]
        return True

    def beside(self, name: str) -> str:
        """What joins the way down: of a picture ("skip") or of learned features ("residual")."""
        state = self.take()
        self.weights |= {f"{name}.{leaf.partition('.')[2]}": value for leaf, value in state.items()}
        return "residual" if "Conv2d_0.weight" in state else "skip"
