"""Damages: what makes a degraded picture out of a clean one, drawn anew for each; what restorers are trained on.

y = damages.parse("rain:heavy")(x, Noise(3))["image"]
"""

from sfumato.data.damages.base import Damage
from sfumato.data.damages.kinds import KINDS, parse
from sfumato.data.damages.light import LowLight, Shadow
from sfumato.data.damages.masks import Hole, Uncrop
from sfumato.data.damages.pixels import Grey, Jpeg, White
from sfumato.data.damages.sharpness import Enlarge, Motion, Real
from sfumato.data.damages.weather import Haze, Rain, RainFog, Snow

__all__ = [
    "KINDS",
    "Damage",
    "Enlarge",
    "Grey",
    "Haze",
    "Hole",
    "Jpeg",
    "LowLight",
    "Motion",
    "Rain",
    "RainFog",
    "Real",
    "Shadow",
    "Snow",
    "Uncrop",
    "White",
    "parse",
]
