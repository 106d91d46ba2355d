"""Guides: denoisers made of denoisers, that steer."""

from sfumato.guides.adm import ClassifierGuidance, GuidedAncestral
from sfumato.guides.autoguidance import Autoguidance
from sfumato.guides.cfg import CFG
from sfumato.guides.interval import Interval
from sfumato.guides.rescaled import RescaledCFG

__all__ = ["CFG", "Autoguidance", "ClassifierGuidance", "GuidedAncestral", "Interval", "RescaledCFG"]
