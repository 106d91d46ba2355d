"""Text: files of characters, windows of them as training items, and the fortunes of Debian."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from sfumato.codecs import Alphabet
from sfumato.codecs.alphabet import points
from sfumato.noise import Seeds

FILES = (
    "computers", "cookie", "definitions", "education", "law", "linux", "people", "platitudes", "science", "songs-poems",
    "wisdom", "work",
)  # fmt: skip


class Text:
    """Windows of `length` characters, each from a random place of its own stretch of the text.

    Args:
        text: at least `length` characters.
        length: of a window.
        alphabet: the characters that are told apart; those of the text if not given.

    Raises:
        ValueError: for a text that is too short.
    """

    names: tuple[str, ...] = ()

    def __init__(self, text: str, length: int, alphabet: Alphabet | None = None) -> None:
        if len(text) < max(1, length):
            raise ValueError(
                f"the text has {len(text)} characters, a window {length}: give more text, or a shorter one."
            )
        self.codec = alphabet or Alphabet("".join(sorted(set(text))))
        self.event, self.symbols = (length,), self.codec.encode(points(text))

    def __len__(self) -> int:
        return len(self.symbols) // self.event[0]

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): (B, length) int64, in the alphabet; the place is drawn."""
        length = self.event[0]
        shift = (noise.uniform(torch.empty(len(items), dtype=torch.float64)) * length).long()
        first = (torch.tensor(items) * length + shift).clamp(max=len(self.symbols) - length)
        return self.symbols[first.unsqueeze(1) + torch.arange(length)], None

    def windows(self) -> Tensor:
        """The text cut into windows, in order, without the rest: (N, length)."""
        length = self.event[0]
        return self.symbols[: len(self) * length].reshape(-1, length)


def read(path: Path) -> str:
    """The text of a UTF-8 file, line ends as "\\n".

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, or no text in UTF-8.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there.")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}).") from None
    if not text.strip() or "\0" in text:
        raise ValueError(f"{path} is {'empty' if not text.strip() else 'no text: it holds zero bytes'}.")
    return text


def common(text: str, least: int = 50, other: str = "~") -> str:
    """The text with characters seen fewer than `least` times replaced by `other`, so that the alphabet stays small."""
    seen = Counter(text)
    return "".join(c if seen[c] >= least else other for c in text)


def fortunes(root: Path) -> str:
    """Sayings on science, computers, people and work, 1.5 million characters, one after another, "%" between.

    From Debian's package fortunes, unpacked under `root` or installed (`/`).

    Raises:
        FileNotFoundError: with the package to unpack.
    """
    folder = root / "usr/share/games/fortunes"
    parts = [folder / name for name in FILES]
    if missing := [path for path in parts if not path.exists()]:
        raise FileNotFoundError(f"{missing[0]} is not there: `apt-get download fortunes`, `dpkg -x` it, name the root.")
    return "".join(path.read_text("utf-8", errors="replace") for path in parts)
