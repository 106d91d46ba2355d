"""Sound files: numbers of every width, windows, rates that differ, files that are none."""

from __future__ import annotations

import sys
import wave

import numpy as np
import pytest
import torch

from sfumato.data.wave import WaveFolder, read_wave, write_wave


def written(path, width, numbers, channels=1, rate=8000):
    """Whole numbers as they are, interleaved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = b"".join(int(n).to_bytes(width, "little", signed=width > 1) for n in numbers)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


@pytest.mark.parametrize(
    ("width", "numbers"),
    [(1, [0, 64, 128, 255]), (2, [-(2**15), -(2**14), 0, 2**15 - 1]), (3, [-(2**23), -(2**22), 0, 2**23 - 1]),
     (4, [-(2**31), -(2**30), 0, 2**31 - 1])],
)  # fmt: skip
def test_full_scale_is_one_whatever_the_width(tmp_path, width, numbers):
    x, rate = read_wave(written(tmp_path / "a.wav", width, numbers))
    assert rate == 8000 and x.shape == (1, 4)
    assert x[0].tolist() == pytest.approx([-1.0, -0.5, 0.0, 1.0], abs=2.0 / 2 ** (8 * width - 1) + 1e-7)


def test_channels_are_apart_and_averaged_in_a_folder(tmp_path):
    numbers = [1000, 3000, -2000, 4000, 0, 600, 70, 90]
    x, _ = read_wave(written(tmp_path / "a.wav", 2, numbers, channels=2))
    assert (x * 2**15).tolist() == [numbers[::2], numbers[1::2]]
    folder = WaveFolder(tmp_path, 2)
    assert len(folder) == 2 and folder.event == (1, 2) and folder.rate == 8000
    x0, cond = folder.batch([1, 0], None)
    mono = torch.tensor([[2000.0, 1000.0], [300.0, 80.0]]) / 2**15
    assert cond is None and torch.allclose(folder.codec.decode(x0)[:, 0], mono[[1, 0]])
    whole = folder.batch([0, 1], None)[0]
    assert float(whole.std(correction=0)) == pytest.approx(0.5) and folder.codec.shift == 0.0


def test_windows_follow_one_another_and_the_rest_is_left(tmp_path):
    written(tmp_path / "b" / "second.wav", 2, range(100, 107))
    written(tmp_path / "a.WAV", 2, range(1, 12))
    written(tmp_path / ".hidden" / "c.wav", 2, range(50))
    folder = WaveFolder(tmp_path, 5)
    got = folder.codec.decode(folder.batch([0, 1, 2], None)[0]) * 2**15
    assert got[:, 0].round().tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [100, 101, 102, 103, 104]]


def test_a_written_sound_is_read_back(tmp_path):
    x = torch.tensor([[0.5, -0.25, 3.0, -3.0], [0.0, 1.0, -1.0, 0.1]])
    write_wave(tmp_path / "x.wav", x, 16000)
    back, rate = read_wave(tmp_path / "x.wav")
    assert rate == 16000 and np.abs(back - x.clamp(-1, 1).numpy()).max() < 1e-4


def test_what_cannot_be_trained_on(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no sound below"):
        WaveFolder(tmp_path)
    written(tmp_path / "a.wav", 2, [5] * 4 + [9] * 4)
    with pytest.raises(ValueError, match="shorter than a window of 9 samples"):
        WaveFolder(tmp_path, 9)
    written(tmp_path / "b.wav", 2, range(9), rate=16000)
    with pytest.raises(ValueError, match=r"b\.wav has 16000 samples a second, .*a\.wav 8000: resample"):
        WaveFolder(tmp_path, 4)
    (tmp_path / "b.wav").unlink()
    written(tmp_path / "a.wav", 2, [0] * 8)
    with pytest.raises(ValueError, match="are silent"):
        WaveFolder(tmp_path, 4)


@pytest.mark.parametrize("content", [b"RIFF", b"hello there, this is no sound at all", b"RIFF\x00\x00\x00\x00WAVEfmt "])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.wav is damaged or no WAV file"):
        read_wave(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_wave(tmp_path / "a.wav")


def test_other_formats_need_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(ImportError, match=r"a\.flac is no WAV file of whole numbers.*sfumato\[audio\]"):
        read_wave(tmp_path / "a.flac")
    floats = written(tmp_path / "f.wav", 4, [0, 1])
    raw = bytearray(floats.read_bytes())
    raw[20] = 3  # IEEE floats
    floats.write_bytes(raw)
    with pytest.raises(ImportError, match="audio"):
        read_wave(floats)


def test_other_formats_by_the_extra(tmp_path, monkeypatch):
    """What soundfile gives, (frames, channels), is taken channels first; what it refuses is one sentence."""

    class SoundFile:
        @staticmethod
        def read(path, dtype, always_2d):
            assert dtype == "float32" and always_2d
            if path.stat().st_size < 4:
                raise RuntimeError("format not recognised")
            return np.arange(6, dtype=np.float32).reshape(3, 2) / 8, 22050

    monkeypatch.setitem(sys.modules, "soundfile", SoundFile)
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    x, rate = read_wave(tmp_path / "a.flac")
    assert rate == 22050 and (x * 8).tolist() == [[0, 2, 4], [1, 3, 5]]
    (tmp_path / "a.flac").write_bytes(b"fL")
    with pytest.raises(ValueError, match="damaged or no sound"):
        read_wave(tmp_path / "a.flac")
