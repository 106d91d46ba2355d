"""What is measured on photo12, and with which noise: one place for all programs that must agree."""

from __future__ import annotations

from sfumato import Noise, Seeds


def noise_for(task: str, picture: str) -> Noise:
    """The stream of the measurement (operator, then noise) of this task on this picture."""
    return Seeds.keyed(0, [(task, picture)]).streams[0]
