"""JPEG against Pillow's encoder and decoder, the public code of DDRM-JPEG, and its own identities.

`tests/data/ddrm_jpeg.npz`: bahjat-kawar/ddrm-jpeg (MIT), run on rows 40 to 72 and columns 60 to 92 of the astronaut:
levels `luma` and `chroma` of its encoder at three qualities, every fourth pixel of what its decoder makes of them, and
`states` of three steps of its sampler with the noise predictor 0.3 x + 0.1, at quality 10, every fourth pixel.

`tests/data/sampled_*.jpg`: columns 80 to 155 and rows 40 to 83 of the astronaut by libjpeg-turbo 2.1.5, `cjpeg -quality
30 -sample 1x2` (4:4:0), `4x1` (4:1:1) and `4x2`, which Pillow does not write.
"""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato as sf
from sfumato.codecs import Affine
from sfumato.data.jpeg import read_jpeg
from sfumato.data.photo12 import FIXTURE
from sfumato.denoisers import Denoiser
from sfumato.operators import JPEG, Measurement
from sfumato.operators.jpeg import cosines, tables
from sfumato.processes import Table
from sfumato.solvers import DDRMJPEG

DATA = Path(__file__).parents[1] / "data"
SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


@pytest.fixture(scope="module")
def astronaut():
    return Image.open(FIXTURE).convert("RGB")


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].double() / 255


def decoded(path):
    return tensor(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("quality", [1, 7, 10, 30, 49, 50, 51, 75, 95, 100])
def test_tables_are_those_of_libjpeg(tmp_path, astronaut, quality):
    astronaut.crop((0, 0, 16, 16)).save(tmp_path / "a.jpg", quality=quality)
    theirs = Image.open(tmp_path / "a.jpg").quantization
    ours = tables(quality)
    assert ours[0].flatten().tolist() == theirs[0] and ours[1].flatten().tolist() == theirs[1]
    assert torch.equal(ours[1], ours[2])


def test_the_cosine_transform():
    """Of a block of ones: 8 in the first place; unitary; a wave of one frequency is one number."""
    ones = torch.ones(1, 1, 8, 16).double()
    expected = torch.zeros_like(ones)
    expected[..., 0, ::8] = 8.0
    torch.testing.assert_close(cosines(ones), expected, atol=1e-12, rtol=0)
    x = sf.Noise(0).normal(torch.zeros(2, 16, 24).double())
    torch.testing.assert_close(cosines(cosines(x), inverse=True), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(cosines(x).norm(), x.norm())
    wave = torch.cos(torch.pi * 3 * (2 * torch.arange(8).double() + 1) / 16)[:, None].expand(8, 8)
    place = torch.zeros(8, 8).double()
    place[3, 0] = 4 * 2**0.5
    torch.testing.assert_close(cosines(wave), place, atol=1e-12, rtol=0)


@pytest.mark.parametrize("sampling", SUBSAMPLING)
@pytest.mark.parametrize("quality", [10, 75])
def test_files_hold_the_levels_of_the_operator(tmp_path, astronaut, sampling, quality):
    """Whatever the size: libjpeg's own rounding, of colors and of averages, moves few of them by one."""
    image = astronaut.crop((30, 20, 30 + 101, 20 + 83))
    image.save(tmp_path / "a.jpg", quality=quality, subsampling=SUBSAMPLING[sampling])
    m = read_jpeg(tmp_path / "a.jpg")
    assert m.operator.sampling == sampling and m.operator.size == (83, 101) and m.sigma == 0.0
    assert torch.equal(m.operator.tables, tables(quality)) and m.event == (3, 83, 101)
    y = JPEG.quality((83, 101), quality, sampling, low=0.0, high=1.0)(tensor(image))
    gap = (m.y - y).abs()
    assert float(gap.max()) <= 1.0 and float((gap > 0).double().mean()) < (0.001 if quality == 10 else 0.01)
    assert float(y.abs().sum()) > 1000.0


@pytest.mark.parametrize("sampling", ["4:4:0", "4:1:1"])
def test_files_of_other_encoders(astronaut, sampling):
    m = read_jpeg(DATA / f"sampled_{sampling.replace(':', '')}.jpg")
    assert m.operator.sampling == sampling and m.event == (3, 43, 75)
    y = JPEG.quality((43, 75), 30, sampling, low=0.0, high=1.0)(tensor(astronaut.crop((80, 40, 155, 83))))
    gap = (m.y - y).abs()
    assert float(gap.max()) <= 1.0 and float((gap > 0).double().mean()) < 0.003
    # chroma alone, which the samplings differ in: most of its levels are 0
    luma = math.prod(m.operator.plane(0))
    own, theirs = m.y[:, luma:], y[:, luma:]
    assert float(theirs.abs().sum()) > 100.0 and float((own - theirs).abs().sum()) < 0.02 * float(theirs.abs().sum())


def test_a_sampling_that_is_not_known():
    with pytest.raises(ValueError, match=r"its chroma is sampled \[\(2, 4\), \(1, 1\), \(1, 1\)\]"):
        read_jpeg(DATA / "sampled_410.jpg")


def test_a_file_decodes_to_what_pillow_makes_of_it(tmp_path, astronaut):
    astronaut.save(tmp_path / "a.jpg", quality=75, subsampling=0)
    m = read_jpeg(tmp_path / "a.jpg")
    theirs = decoded(tmp_path / "a.jpg")
    gap = (m.operator.pinv(m.y.double()).clamp(0, 1) - theirs).abs()
    inside = ((theirs > 0.08) & (theirs < 0.92)).all(1, keepdim=True).expand_as(gap)
    # each color, its luma and the result are rounded to whole levels
    assert float((gap[inside] > 2.5 / 255).double().mean()) < 1e-4 and float(gap.mean()) < 0.6 / 255


def test_thin_chroma_decodes_to_the_same_means(tmp_path, astronaut):
    """Pillow smooths chroma, we repeat it: where there is no clipping the luma is the same."""
    astronaut.crop((0, 0, 96, 96)).save(tmp_path / "a.jpg", quality=60, subsampling=2)
    m = read_jpeg(tmp_path / "a.jpg")
    ours, theirs = m.operator.pinv(m.y.double()), decoded(tmp_path / "a.jpg")
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    gap = torch.einsum("bchw,c->bhw", ours - theirs, weights).abs()
    inside = ((theirs > 0.08) & (theirs < 0.92)).all(1)
    assert float(gap[inside].max()) < 2.0 / 255 and float(inside.double().mean()) > 0.5


def test_grey_files(tmp_path, astronaut):
    grey = astronaut.convert("L").crop((0, 0, 40, 24))
    grey.save(tmp_path / "a.jpg", quality=40)
    m = read_jpeg(tmp_path / "a.jpg")
    assert m.event == (1, 24, 40) and m.operator.channels == 1 and len(m.operator.tables) == 1
    x = torch.from_numpy(np.array(grey))[None, None].double() / 255
    y = m.operator(x)
    assert y.shape == (1, 24 * 40) and float((y != m.y).double().mean()) < 0.002
    color = read_jpeg(tmp_path / "a.jpg", channels=3)
    assert color.event == (3, 24, 40) and torch.equal(color.y, m.y)
    once, thrice = m.operator.pinv(m.y), color.operator.pinv(m.y)
    torch.testing.assert_close(thrice, once.expand(-1, 3, -1, -1))
    torch.testing.assert_close(color.operator(thrice.double()), m.y.double(), atol=1e-4, rtol=0)
    # the luma alone is measured
    red = torch.zeros(1, 3, 24, 40).double()
    red[:, 0] = 0.5
    torch.testing.assert_close(color.operator(red), m.operator(torch.full((1, 1, 24, 40), 0.1495).double()))


def test_progressive_files_hold_the_same(tmp_path, astronaut):
    """But for blocks of chroma that reach beyond the last block of luma, whose rest the decoder cuts off."""
    for size, chroma in ((64, 0), (50, 4 * 3 + 3)):
        image = astronaut.crop((3, 5, 3 + size, 5 + size))
        for name, progressive in (("a", False), ("b", True)):
            image.save(tmp_path / f"{name}.jpg", quality=30, progressive=progressive)
        a, b = (read_jpeg(tmp_path / f"{name}.jpg") for name in "ab")
        differ = (a.y != b.y)[0]
        luma = a.operator.plane(0)[0] * a.operator.plane(0)[1]
        assert not bool(differ[:luma].any()) and int(differ.sum()) <= 2 * chroma


@pytest.mark.parametrize(
    "sampling, size", [("4:4:4", (16, 24)), ("4:2:2", (8, 32)), ("4:2:0", (32, 16)), ("4:4:0", (16, 8))]
)
def test_decoding_and_encoding_again_changes_nothing(sampling, size):
    A = JPEG.quality(size, 30, sampling)
    y = A(0.3 * sf.Noise(0).normal(torch.zeros(2, 3, *size).double()))
    torch.testing.assert_close(A(A.pinv(y)), y, atol=1e-9, rtol=0)
    assert A.event(y) == (3, *size) and A.pinv(y).shape == (2, 3, *size)
    dropped = JPEG(size, tables(30), sampling, dropped=True)
    y = dropped(0.3 * sf.Noise(0).normal(torch.zeros(2, 3, *size).double()))
    torch.testing.assert_close(dropped(dropped.pinv(y)), y, atol=1e-9, rtol=0)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:0"])
def test_one_color_stays_that_color(sampling):
    """Within half a step of the means: tables / 16 grey levels in Y, Cb and Cr."""
    A = JPEG.quality((11, 13), 10, sampling, low=0.0, high=255.0)
    x = torch.tensor([90.0, 30.0, 200.0]).double().reshape(1, 3, 1, 1).expand(1, 3, 11, 13)
    back = A.pinv(A(x))
    gap = (back - x)[0, :, 0, 0]
    torch.testing.assert_close(back, back[..., :1, :1].expand_as(back), atol=1e-9, rtol=0)
    luma = 0.299 * gap[0] + 0.587 * gap[1] + 0.114 * gap[2]
    assert abs(float(luma)) <= 80 / 16 and abs(float((gap[2] - luma) / 1.772)) <= 85 / 16
    assert float(gap.abs().max()) > 0.01


def test_ranges_and_precision():
    """[-1, 1], [0, 1] and any affine codec hold the same levels; float32 follows float64."""
    x = sf.Noise(0).uniform(torch.zeros(1, 3, 16, 16).double())
    data, model = JPEG.quality((16, 16), 50, low=0.0, high=1.0), JPEG.quality((16, 16), 50)
    y = data(x)
    assert torch.equal(y, model(2 * x - 1))
    torch.testing.assert_close(model.pinv(y), 2 * data.pinv(y) - 1, atol=1e-12, rtol=0)
    m = Measurement(data, y, 0.0).to_model(Affine(3.0, -1.0))
    assert isinstance(m.operator, JPEG) and torch.equal(m.y, y)
    assert (m.operator.low, m.operator.high) == pytest.approx((1 / 3, 2 / 3))
    torch.testing.assert_close(m.operator((x + 1) / 3), y)
    assert data(x.float()).dtype == torch.float32
    assert float((data(x.float()) - y).abs().double().mean()) < 1e-3


def test_the_derivative_is_that_without_rounding():
    A = JPEG.quality((8, 8), 50, "4:4:4")
    x = (0.2 * sf.Noise(0).normal(torch.zeros(1, 3, 8, 8).double())).requires_grad_()
    y = A(x)
    assert torch.equal(y, y.round())
    (grad,) = torch.autograd.grad(y[0, 0], x)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).reshape(1, 3, 1, 1)
    torch.testing.assert_close(grad, (weights * 127.5 / 8 / 16).expand(1, 3, 8, 8), atol=1e-9, rtol=0)


@pytest.mark.parametrize("quality", [5, 10, 75])
def test_the_public_encoder_and_decoder(astronaut, theirs, quality):
    """But for its rounded color matrix, which may move a level that lies at a tie."""
    A = JPEG((32, 32), tables(quality), dropped=True)
    x = 2 * tensor(astronaut)[..., 40:72, 60:92] - 1
    public = torch.cat([theirs[f"luma{quality}"].flatten(1), theirs[f"chroma{quality}"].flatten(1)], 1)
    assert int((A(x) != public).sum()) <= (0 if quality < 50 else 5)
    assert float((A(x) - public).abs().max()) <= 1
    torch.testing.assert_close(A.pinv(public)[..., ::4, ::4], theirs[f"decoded{quality}"], atol=2e-4, rtol=0)


@pytest.fixture(scope="module")
def theirs():
    with np.load(Path(__file__).parents[1] / "data" / "ddrm_jpeg.npz") as file:
        return {key: torch.from_numpy(file[key]).double() for key in file}


class Plain(Denoiser):
    """D of the noise predictor 0.3 x + 0.1."""

    process = Table.linear()

    def forward(self, xt, t, cond=None):
        return sf.Estimate((xt - self.process.sigma(t) * (0.3 * xt + 0.1)) / self.process.alpha(t))


@pytest.mark.parametrize("run, eta, eta_b", [("a", 1.0, 0.4), ("b", 0.6, 0.7)])
def test_the_public_sampler(astronaut, theirs, run, eta, eta_b):
    A = JPEG((32, 32), tables(10), dropped=True)
    m = Measurement(A, A(2 * tensor(astronaut)[..., 40:72, 60:92] - 1).float(), 0.0)
    steps = list(DDRMJPEG(3, eta=eta, eta_b=eta_b).trajectory(Plain(), m, sf.Noise(1)))
    for step, expected in zip(steps[1:], theirs["states_" + run], strict=True):
        gap = (step.x[0, :, ::4, ::4].double() - expected).abs()
        # a level at a tie may fall to the other side: a whole wave of one block
        assert float(gap.median()) < 1e-4 and float((gap > 2e-3).double().mean()) < 0.05


def _save(image, **settings):
    file = io.BytesIO()
    image.save(file, "JPEG", **settings)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["missing", "png", "cut", "cmyk", "text"])
def test_files_that_cannot_be_used(tmp_path, astronaut, kind):
    path = tmp_path / "a.jpg"
    if kind == "missing":
        with pytest.raises(FileNotFoundError, match="is not there"):
            read_jpeg(path)
        return
    if kind == "png":
        astronaut.save(path, "PNG")
    elif kind == "cmyk":
        path.write_bytes(_save(astronaut.convert("CMYK")))
    elif kind == "text":
        path.write_text("no picture")
    else:
        path.write_bytes(_save(astronaut)[:1500])
    with pytest.raises(ValueError, match=r"a\.jpg is damaged or no JPEG file that can be used"):
        read_jpeg(path)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tables(0), "from 1 to 100 is needed, got 0"),
        (lambda: tables(101), "from 1 to 100 is needed, got 101"),
        (lambda: JPEG((8, 8), torch.ones(2, 8, 8)), r"got \(2, 8, 8\)"),
        (lambda: JPEG((8, 8), torch.zeros(3, 8, 8)), "at least 1"),
        (lambda: JPEG((8, 8), tables(5), "4:1:0"), "one of 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, got '4:1:0'"),
        (lambda: JPEG((8, 8), tables(5), channels=1), "3 tables need as many channels"),
        (lambda: JPEG((8, 8), tables(5), channels=4), "1 or 3, got 4"),
        (lambda: JPEG((8, 8), tables(5), low=1.0, high=1.0), "low < high"),
        (lambda: JPEG.quality((8, 8), 5)(torch.zeros(1, 3, 8, 9)), "make one"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
