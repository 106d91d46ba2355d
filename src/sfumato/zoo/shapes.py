"""Whether data are of the shape that a model is for."""

from __future__ import annotations


def fit(want: tuple[int | None, ...], event: tuple[int, ...]) -> None:
    """Refuses data of another shape than `want`, None where any size will do.

    Raises:
        ValueError: with what to do about the channels of pictures.
    """
    if len(want) == len(event) and all(w in (None, n) for w, n in zip(want, event, strict=True)):
        return
    hint = ""
    if len(want) == len(event) == 3 and want[0] == 3 and event[0] == 1:
        hint = " It is a grey image, the model is for color: repeat its channel three times, or color it with Gray()."
    elif len(want) == len(event) == 3 and want[0] == 1 and event[0] == 3:
        hint = " It is a color image, the model is for grey: restore each channel by itself, or take a color model."
    raise ValueError(f"the model is for data of the shape {_words(want)}, the measurement is of {_words(event)}.{hint}")


def _words(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
