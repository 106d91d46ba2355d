"""Sound files as training data: windows of one length.

WAV files of whole numbers (8 to 32 bits) are read with the standard library; other formats (FLAC, Ogg, WAV of floats)
with the extra `audio`. Data space is [-1, 1], full scale.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.codecs import Affine
from sfumato.data.files import below, present
from sfumato.noise import Seeds

PLAIN = (".wav",)
OTHER = (".flac", ".ogg", ".aif", ".aiff")


def read_wave(path: str | Path) -> tuple[NDArray, int]:
    """(samples (channels, L) in [-1, 1], sample rate in hertz) of a sound file.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is empty, damaged or no sound.
        ImportError: for a format that needs the extra `audio`.
    """
    path = present(Path(path))
    if path.suffix.lower() in PLAIN:
        try:
            with wave.open(str(path), "rb") as file:
                width, count, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
                raw = file.readframes(file.getnframes())
            return _numbers(raw, width).reshape(-1, count).T, rate
        except wave.Error as error:
            if "unknown format" not in str(error):  # floats, and others that the extra reads
                raise ValueError(f"{path} is damaged or no WAV file ({error}).") from None
        except (EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged or no WAV file ({error or 'it ends too soon'}).") from None
    try:
        import soundfile  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError(
            f"{path.name} is no WAV file of whole numbers: to read it, pip install 'sfumato[audio]'."
        ) from error
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except RuntimeError as error:
        raise ValueError(f"{path} is damaged or no sound ({error}).") from None
    return np.ascontiguousarray(samples.T), int(rate)


def write_wave(path: Path, x: Tensor, rate: int) -> None:
    """Writes (channels, L) in [-1, 1] as a WAV file of 16 bits; what lies beyond is held to full scale."""
    from sfumato.data.files import beside

    levels = (x.detach().cpu().double().clamp(-1.0, 1.0) * 32767).round().numpy().astype("<i2")
    with beside(path) as part, wave.open(str(part), "wb") as file:
        file.setnchannels(levels.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(levels.T.tobytes())


def _numbers(raw: bytes, width: int) -> NDArray:
    """Little-endian whole numbers as floats: 8 bits are unsigned, the others are not."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        triples = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(triples), 4), np.uint8)
        wide[:, 1:] = triples
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(raw, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)


class WaveFolder:
    """The sound files below a folder: items are windows one after the other, their last samples left out.

    The numbers are divided so that they have the standard deviation 0.5 of EDM's data; several channels are averaged.

    Args:
        path: searched with all its subfolders, hidden ones left out.
        length: samples of a window.

    Raises:
        FileNotFoundError: if there is no sound.
        ValueError: if the files differ in sample rate, all are shorter than a window, or silent.
    """

    names: tuple[str, ...] = ()

    def __init__(self, path: str | Path, length: int = 4096) -> None:
        found = sounds(Path(path))
        if not found:
            raise FileNotFoundError(f"there is no sound below {path}.")
        parts, self.rate = [], 0
        for file in found:
            samples, rate = read_wave(file)
            if self.rate not in (0, rate):
                raise ValueError(f"{file} has {rate} samples a second, {found[0]} {self.rate}: resample them first.")
            mono = torch.from_numpy(samples.mean(0)) if samples.size else torch.empty(0)
            parts.append(mono[: len(mono) // length * length].reshape(-1, length))
            self.rate = rate
        self.windows = torch.cat(parts)
        if not len(self.windows):
            raise ValueError(f"every sound below {path} is shorter than a window of {length} samples: --size is less.")
        spread = float(self.windows.double().std(correction=0))
        if spread == 0.0:
            raise ValueError(f"the sounds below {path} are silent: there is nothing to learn.")
        self.codec, self.event = Affine(2.0 * spread, 0.0), (1, length)

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, None]:
        """(x0, None): (B, 1, length) in model space; nothing is drawn."""
        return self.codec.encode(self.windows[items].unsqueeze(1)), None


class Heard:
    """The windows of a `WaveFolder`, each with what is heard of it: items are (x0, told(damaged(x0))).

    The numbers are divided by one factor, so that the loudest sample is 0.95.

    Args:
        source: windows of one length.
        damaged: (x0, noise) to the sound that is given instead, (B, 1, length) model space.
        told: that sound to a condition.
    """

    names: tuple[str, ...] = ()

    def __init__(
        self,
        source: WaveFolder,
        damaged: Callable[[Tensor, Seeds], Tensor],
        told: Callable[[Tensor], dict[str, Tensor]],
    ) -> None:
        self.source, self.damaged, self.told = source, damaged, told
        self.codec = peaked(source)
        self.event, self.rate = source.event, source.rate

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, dict[str, Tensor]]:
        """(x0, cond): (B, 1, length) in model space, and what is told of each."""
        x0 = self.codec.encode(self.source.windows[items].unsqueeze(1))
        return x0, self.told(self.damaged(x0, noise))


def peaked(source: WaveFolder) -> Affine:
    """The codec whose model space has its largest number at 0.95."""
    return Affine(float(source.windows.abs().max()) / 0.95, 0.0)


def sounds(path: Path) -> list[Path]:
    """The sound files below a folder, sorted, hidden ones left out."""
    return below(path, PLAIN + OTHER)
