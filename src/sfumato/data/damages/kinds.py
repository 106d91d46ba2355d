"""Damages by name: NAME draws its strength anew for each picture, NAME:LEVEL fixes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from sfumato.data.damages.base import Damage
from sfumato.data.damages.light import LowLight, Shadow
from sfumato.data.damages.masks import Hole, Uncrop
from sfumato.data.damages.pixels import Grey, Jpeg, White
from sfumato.data.damages.sharpness import Enlarge, Motion, Real
from sfumato.data.damages.weather import Haze, Rain, RainFog, Snow

WORDS = ("light", "middle", "heavy")


def _haze(beta: float) -> Haze:
    return Haze((beta, beta), (0.9, 0.9), 0.0)


def _fixed(make: Callable[..., Damage]) -> Callable[[float], Damage]:
    return lambda value: make((value, value))


# name: (what it draws without a level, what makes it of one number, the numbers of light, middle and heavy)
KINDS: dict[str, tuple[Damage | None, Callable[[float], Damage] | None, tuple[float, ...]]] = {
    "rain": (Rain(), _fixed(Rain), (0.002, 0.006, 0.012)),
    "rainfog": (RainFog(), lambda p: RainFog(Rain((p, p)), _haze(0.6)), (0.002, 0.006, 0.012)),
    "snow": (Snow(), _fixed(Snow), (0.5, 1.0, 2.0)),
    "haze": (Haze(), _haze, (0.6, 1.2, 2.4)),
    "shadow": (Shadow(), lambda soft: Shadow((soft,)), (0.0, 0.15, 0.6)),
    "lowlight": (LowLight(), _fixed(LowLight), (0.3, 0.1, 0.05)),
    "motion": (Motion(), _fixed(Motion), (9, 15, 25)),
    "jpeg": (Jpeg(), _fixed(Jpeg), (40, 20, 10)),
    "enlarge": (None, Enlarge, (2, 4, 8)),
    "real": (Real(), None, ()),
    "noise": (White(), _fixed(White), (15, 25, 50)),
    "grey": (Grey(), None, ()),
    "hole": (Hole(), _fixed(Hole), (0.1, 0.25, 0.5)),
    "uncrop": (Uncrop(), Uncrop, (0.25, 0.5, 0.75)),
}


def parse(text: str) -> Damage:
    """The damage of NAME, NAME:LEVEL or NAME:NUMBER: "rain", "rain:heavy", "jpeg:10", "enlarge:4".

    The number is the one that `KINDS` fixes: the density of rain, the amount of snow, beta of haze, the softness of a
    shadow, the exposure of low light, the width of a shake, the quality of a JPEG file, the factor of an enlargement,
    the sigma of noise in 255 levels, the share of holes and of what is to be continued.

    Raises:
        ValueError: for an unknown name or level, with those there are.
    """
    name, colon, level = text.partition(":")
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, 1)
        raise ValueError(f"damages are {', '.join(KINDS)}, got {name!r}" + (f": {near[0]}?" if near else "."))
    free, make, numbers = KINDS[name]
    if not colon:
        if free is None:
            raise ValueError(f"{name} needs a level: {name}:{numbers[1]:g}, say.")
        return free
    if make is None:
        raise ValueError(f"{name} has no levels: leave {level!r} out.")
    try:
        value = numbers[WORDS.index(level)] if level in WORDS else float(level)
    except ValueError:
        raise ValueError(f"a level is {', '.join(WORDS)} or a number, got {level!r}.") from None
    return make(value)
