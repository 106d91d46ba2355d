"""Pictures in files: any mode in, exact numbers out; bad files are one sentence; folders as training data."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import images
from sfumato.data.images import Cache, ImageFolder, read_image, write_image
from sfumato.noise import Seeds

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def chw(array, top=255):
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.astype(np.float32) / np.float32(top)).permute(2, 0, 1)


def png(path, array, mode=None):
    Image.fromarray(array, mode).save(path) if mode else Image.fromarray(array).save(path)
    return path


def test_grey_and_color_are_taken_as_they_are(tmp_path):
    color = read_image(png(tmp_path / "c.png", COLOR))
    assert color.dtype == torch.float32 and torch.equal(color, chw(COLOR))
    grey = png(tmp_path / "g.png", COLOR[..., 0])
    assert torch.equal(read_image(str(grey)), chw(COLOR[..., 0]))
    assert torch.equal(read_image(grey, channels=3), chw(COLOR[..., 0]).expand(3, -1, -1))
    luma = 0.299 * color[:1] + 0.587 * color[1:2] + 0.114 * color[2:]
    torch.testing.assert_close(read_image(tmp_path / "c.png", channels=1), luma)
    with pytest.raises(ValueError, match=r"1 .grey., 3 .color. or None"):
        read_image(grey, channels=2)


def test_bilevel_and_one_pixel(tmp_path):
    bits = COLOR[..., 0] > 100
    Image.fromarray(bits).save(tmp_path / "b.png")
    assert torch.equal(read_image(tmp_path / "b.png"), chw(bits, 1))
    assert torch.equal(read_image(png(tmp_path / "p.png", COLOR[:1, :1])), chw(COLOR[:1, :1]))


def test_palette_is_color(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png")
    assert torch.equal(read_image(tmp_path / "p.png") * 255, torch.tensor([[[10.0, 200]], [[20, 100]], [[30, 0]]]))
    picture.save(tmp_path / "t.png", transparency=0)
    assert torch.equal(read_image(tmp_path / "t.png")[:, 0, 0], torch.ones(3))  # see-through: white
    assert read_image(tmp_path / "t.png", alpha=True)[3].tolist() == [[0.0, 1.0]]


def test_cmyk_is_color(tmp_path):
    Image.new("CMYK", (3, 2), (255, 0, 0, 0)).save(tmp_path / "c.tif")
    assert torch.equal(read_image(tmp_path / "c.tif")[:, 0, 0], torch.tensor([0.0, 1, 1]))


def test_alpha_lies_on_white_or_is_kept(tmp_path):
    rgba = np.dstack([COLOR, RNG.integers(0, 256, (5, 7), dtype=np.uint8)])
    path = png(tmp_path / "a.png", rgba)
    color, a = chw(rgba)[:3], chw(rgba)[3:]
    torch.testing.assert_close(read_image(path), 1 + a * (color - 1))
    assert torch.equal(read_image(path, alpha=True), chw(rgba))
    la = png(tmp_path / "la.png", rgba[..., 2:])
    torch.testing.assert_close(read_image(la), 1 + a * (color[2:] - 1))
    assert torch.equal(read_image(la, alpha=True), chw(rgba[..., 2:]))
    assert torch.equal(read_image(png(tmp_path / "o.png", COLOR), alpha=True)[3], torch.ones(5, 7))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(tmp_path, orientation):
    """The tag says how the stored picture lies: what is read is upright."""
    upright = torch.arange(6, dtype=torch.float32).reshape(1, 2, 3) * 40 / 255
    stored = {
        1: upright,
        2: upright.flip(2),
        3: upright.flip(1, 2),
        4: upright.flip(1),
        5: upright.transpose(1, 2),
        6: upright.rot90(1, (1, 2)),
        7: upright.rot90(2, (1, 2)).transpose(1, 2),
        8: upright.rot90(-1, (1, 2)),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = (stored[0] * 255).round().byte().numpy()
    Image.fromarray(array).save(tmp_path / "e.png", exif=exif)
    torch.testing.assert_close(read_image(tmp_path / "e.png"), upright)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_keep_every_level(tmp_path, channels):
    levels = torch.from_numpy(RNG.integers(0, 65536, (channels, 6, 5)).astype(np.float32))
    write_image(tmp_path / "x.png", levels / 65535, bits=16)
    back = read_image(tmp_path / "x.png", alpha=channels == 4)
    assert torch.equal((back * 65535).round(), levels)


def test_sixteen_bits_of_other_writers(tmp_path):
    array = RNG.integers(0, 65536, (4, 3), dtype=np.uint16)
    Image.fromarray(array).save(tmp_path / "x.png")
    Image.fromarray(array).save(tmp_path / "x.tif")
    for name in ("x.png", "x.tif"):
        assert torch.equal((read_image(tmp_path / name) * 65535).round(), chw(array, 1))
    write_image(tmp_path / "la.png", chw(array, 65535).expand(2, -1, -1), bits=16)  # 8 bits, as documented
    assert (read_image(tmp_path / "la.png", alpha=True) - chw(array, 65535)).abs().max() < 1 / 255


def test_floats_must_lie_in_their_range(tmp_path):
    array = RNG.random((3, 4)).astype(np.float32)
    Image.fromarray(array).save(tmp_path / "f.tif")
    assert torch.equal(read_image(tmp_path / "f.tif"), chw(array, 1))
    for wrong in (2.0, -0.5, np.nan):
        Image.fromarray(np.where(array == array.max(), np.float32(wrong), array)).save(tmp_path / "w.tif")
        with pytest.raises(ValueError, match=r"holds floats from .*: scale them"):
            read_image(tmp_path / "w.tif")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(ValueError, match="32-bit whole numbers"):
        read_image(tmp_path / "i.tif")


def damaged(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(whole, "JPEG" if kind == "jpeg" else "PNG")
    raw = whole.getvalue()
    cut = {
        "truncated": raw[: len(raw) // 2],
        "jpeg": raw[: len(raw) // 2],
        "head": raw[:20],
        "empty": b"",
        "text": b"hi",
    }
    if kind != "missing":
        path.write_bytes(cut[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("truncated", ValueError, "is damaged or no picture"),
        ("jpeg", ValueError, "is damaged or no picture"),
        ("head", ValueError, "is damaged or no picture"),
        ("text", ValueError, "not a format that Pillow knows"),
        ("empty", ValueError, r"is empty \(0 bytes\)"),
        ("missing", FileNotFoundError, "is not there"),
    ],
)
def test_bad_files_are_one_sentence_that_names_them(tmp_path, kind, error, words):
    path = damaged(tmp_path, kind)
    with pytest.raises(error, match=words) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and str(caught.value).count(". ") == 0
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_image(tmp_path)


def test_too_many_pixels_are_one_sentence(tmp_path, monkeypatch):
    path = png(tmp_path / "c.png", COLOR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match="more pixels than can be read safely"):
        read_image(path)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bits_round_to_the_nearest(tmp_path, channels):
    x = torch.rand(channels, 4, 6, generator=torch.Generator().manual_seed(1))
    write_image(tmp_path / "deep" / "x.png", x)
    back = read_image(tmp_path / "deep" / "x.png", alpha=channels in (2, 4))
    assert torch.equal((back * 255).round(), (x * 255).round())
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["x.png"]


def test_what_cannot_be_written_is_an_error_and_leaves_the_old(tmp_path):
    path = tmp_path / "x.png"
    write_image(path, torch.zeros(1, 2, 2))
    old = path.read_bytes()
    wrong = [
        (torch.full((1, 2, 2), 1.01), {}, "lies in .0, 1., got values from 1.01"),
        (torch.full((1, 2, 2), -0.01), {}, "clamp it first"),
        (torch.full((1, 2, 2), float("nan")), {}, "clamp it first"),
        (torch.zeros(2, 2), {}, r"\(C, H, W\) with 1 to 4 channels"),
        (torch.zeros(5, 2, 2), {}, "1 to 4 channels"),
        (torch.zeros(1, 0, 2), {}, "1 to 4 channels"),
        (torch.zeros(1, 2, 2), {"bits": 12}, "8 or 16 bits, got 12"),
    ]
    for x, options, words in wrong:
        with pytest.raises(ValueError, match=words):
            write_image(path, x, **options)
    write_image(path, torch.full((1, 2, 2), 1 + 1e-4))  # rounding of float arithmetic is let through
    path.write_bytes(old)
    with pytest.raises(ValueError, match=r"x\.jpg cannot hold a picture of 4 channels"):
        write_image(tmp_path / "x.jpg", torch.zeros(4, 2, 2))
    with pytest.raises(ValueError, match=r"not written as \.xyz"):
        write_image(tmp_path / "x.xyz", torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="without a suffix"):
        write_image(tmp_path / "x", torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="16 bits are written as PNG"):
        write_image(tmp_path / "x.jpg", torch.zeros(1, 2, 2), bits=16)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    write_image(path, torch.zeros(1, 2, 2))
    old = path.read_bytes()

    def full(self, file, *args, **kw):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images.Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_image(path, torch.ones(1, 2, 2))
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


# Folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for i, name in enumerate(("b/0.png", "a/1.png", "a/deep/2.png", "b/.hidden/3.png", "a/notes.txt")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (root / name).write_text("x")
        else:
            Image.new("RGB", (12, 9), (10 * i, 0, 0)).save(root / name)
    return root


def reds(x0):
    return ((x0[:, 0, 0, 0] + 1) * 127.5).round().tolist()


def test_a_folder_is_sorted_and_deep(folder):
    data = ImageFolder(folder, 4)
    assert [str(f.relative_to(folder)) for f in data.files] == ["a/1.png", "a/deep/2.png", "b/0.png"]
    x0, cond = data.batch([2, 0, 1], Seeds([0, 1, 2]))
    assert len(data) == 3 and cond is None and x0.shape == (3, 3, 4, 4) and data.event == (3, 4, 4)
    assert reds(x0) == [0, 10, 20] and torch.equal(x0[:, 1], torch.full((3, 4, 4), -1.0))
    assert ImageFolder(folder, 4, 1).batch([0], Seeds([0]))[0].shape == (1, 1, 4, 4)


def test_subfolders_are_classes(folder):
    data = ImageFolder(folder, 4, classes=True)
    _, label = data.batch([2, 0, 1], Seeds([0, 1, 2]))
    assert data.names == ("a", "b") and label.dtype == torch.int64 and label.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="has no classes"):
        ImageFolder(folder / "a", 4, classes=True)
    with pytest.raises(ValueError, match="has no classes"):
        ImageFolder(folder / "b", 4, classes=True)


def test_crops_are_places_of_the_picture_keyed_by_row(tmp_path):
    picture = np.arange(48, dtype=np.uint8).reshape(6, 8)
    png(tmp_path / "x.png", picture)
    data = ImageFolder(tmp_path, 3, 1, fit="crop", flip=False)
    x0, _ = data.batch([0] * 200, Seeds(range(200)))
    corners = ((x0[:, 0] + 1) * 127.5).round().int()
    places = {(int(c[0, 0]) // 8, int(c[0, 0]) % 8) for c in corners}
    assert places == {(i, j) for i in range(4) for j in range(6)}  # each of 4 x 6 places, none outside
    for crop in corners[:20]:
        i, j = int(crop[0, 0]) // 8, int(crop[0, 0]) % 8
        assert torch.equal(crop, torch.from_numpy(picture[i : i + 3, j : j + 3].astype(np.int32)))
    assert torch.equal(data.batch([0], Seeds([7]))[0][0], x0[7])
    flipped, _ = ImageFolder(tmp_path, 3, 1, fit="crop").batch([0] * 200, Seeds(range(200)))
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, x0, strict=True)]
    assert 70 < sum(mirrored) < 130
    assert all(m or torch.equal(a, b) for m, a, b in zip(mirrored, flipped, x0, strict=True))


def test_pictures_are_brought_to_the_size(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 40).round().astype(np.uint8), (20, 1))
    png(tmp_path / "wide.png", ramp)
    x0, _ = ImageFolder(tmp_path, 10, 1, flip=False).batch([0] * 30, Seeds(range(30)))
    # 20 x 40 becomes 10 x 20: a crop spans about half of the ramp, wherever it lies.
    spans = (x0[:, 0, 5, -1] - x0[:, 0, 5, 0]) / 2
    assert ((spans - 9 / 19.5).abs() < 0.03).all() and x0[:, 0, 5, 0].std() > 0.1
    crop, _ = ImageFolder(tmp_path, 10, 1, fit="crop").batch([0], Seeds([0]))
    assert abs(abs(float(crop[0, 0, 5, -1] - crop[0, 0, 5, 0]) / 2) - 9 / 39) < 0.02  # at its own resolution
    small, _ = ImageFolder(tmp_path, 30, 1, fit="crop", flip=False).batch([0], Seeds([0]))
    assert small.shape == (1, 1, 30, 30) and abs(float(small[0, 0, 5, -1] - small[0, 0, 5, 0]) / 2 - 29 / 59) < 0.03


def test_one_pixel_and_a_long_strip_are_enlarged(tmp_path):
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "p.png")
    Image.new("RGB", (3000, 2), (0, 255, 0)).save(tmp_path / "s.png")
    data = ImageFolder(tmp_path, 8)
    x0, _ = data.batch([0, 1], Seeds([0, 1]))
    assert torch.allclose(x0[0], torch.tensor([1.0, -1.0, -0.6]).reshape(3, 1, 1).expand(3, 8, 8))
    assert data._cache.bytes <= 3 * 8 * 8 * (1 + 4)  # the strip's ends are cut off before it grows


def test_bad_files_are_reported_once_and_left_out(folder):
    (folder / "a" / "0.png").write_bytes(b"")
    (folder / "a" / "9.png").write_text("text")
    with pytest.warns(UserWarning, match=r"2 of 5 pictures are left out: 0\.png \(empty\), 9\.png \(not a format"):
        data = ImageFolder(folder, 4)
    assert len(data) == 3 and {p.name for p in data.bad} == {"0.png", "9.png"}


def test_a_file_that_turns_out_damaged_is_replaced_by_the_next(folder):
    noisy = RNG.integers(0, 256, (60, 60, 3), dtype=np.uint8)
    bad = png(folder / "a" / "deep" / "2.png", noisy)
    bad.write_bytes(bad.read_bytes()[:2000])
    data = ImageFolder(folder, 4, classes=True)
    with pytest.warns(UserWarning, match=r"left out: .*2\.png is damaged"):
        x0, label = data.batch([1], Seeds([0]))
    assert reds(x0) == [0] and label.tolist() == [1]  # b/0.png, with its own label
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reds(data.batch([1, 0], Seeds([0, 1]))[0]) == [0, 10]
    for file in data.files:
        file.unlink()
    fresh = ImageFolder.__new__(ImageFolder)
    fresh.__dict__.update(data.__dict__ | {"_cache": Cache(0)})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="can be read any more"):
        fresh.batch([0], Seeds([0]))


def test_folders_without_a_picture_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"no picture below .* \(0 damaged\)"):
        ImageFolder(tmp_path)
    (tmp_path / "x.png").write_text("text")
    with pytest.raises(ValueError, match=r"\(1 damaged\)"):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder of pictures"):
        ImageFolder(tmp_path / "x.png")
    for options, words in (
        ({"fit": "pad"}, "got 'pad'"),
        ({"size": 0}, "got 0 and 3"),
        ({"channels": 2}, "got 64 and 2"),
    ):
        with pytest.raises(ValueError, match=words):
            ImageFolder(tmp_path, **options)


def test_the_cache_is_bounded_and_forgets_what_was_not_used_for_longest():
    cache, item = Cache(25), lambda n: torch.zeros(n, dtype=torch.uint8)
    assert cache.get(0) is None
    first = item(10)
    assert cache.put(0, first) is first is cache.get(0)
    cache.put(1, item(10))
    cache.put(1, item(10))  # twice is once
    assert cache.bytes == 20
    cache.get(0)
    cache.put(2, item(10))
    assert cache.get(1) is None and cache.get(0) is first and cache.bytes == 20
    cache.put(3, item(26))
    assert cache.get(3) is None and cache.bytes == 20


def test_the_cache_changes_nothing(folder):
    a, b = ImageFolder(folder, 4), ImageFolder(folder, 4, cache=0)
    for _ in range(2):
        assert torch.equal(a.batch([0, 1, 2], Seeds([1, 2, 3]))[0], b.batch([0, 1, 2], Seeds([1, 2, 3]))[0])
    assert a._cache.bytes > 0 == b._cache.bytes
