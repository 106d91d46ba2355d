"""Tomography against closed forms (Gaussian blobs, a disc) and an independent implementation."""

import math

import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.operators import Radon


def normal(*shape, seed=0):
    return sf.Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


def blob(size, row, col, std):
    rows, cols = (torch.arange(n).double() - (n - 1) / 2 for n in size)
    return torch.exp(-((rows[:, None] - row) ** 2 + (cols - col) ** 2) / (2 * std**2))[None, None]


ANGLES = (0.0, 0.4, math.pi / 4, 1.3, math.pi / 2, 2.0, 2.9, 4.0, 5.5)


@pytest.mark.parametrize("size", [(40, 33), (31, 40)])
def test_projections_of_a_blob(size):
    """exp(-r^2 / 2 s^2) about (row, col) projects to s sqrt(2 pi) exp(-(u - u0)^2 / 2 s^2), u0 = col cos - row sin."""
    A = Radon(size, ANGLES, 60, spacing=0.8)
    u = (torch.arange(60).double() - 29.5) * 0.8
    for row, col in ((0.0, 0.0), (4.0, -3.0)):
        y = A(blob(size, row, col, 3.0))
        theta = torch.tensor(ANGLES).double()[:, None]
        u0 = col * theta.cos() - row * theta.sin()
        expected = 3.0 * math.sqrt(2 * math.pi) * torch.exp(-((u - u0) ** 2) / 18)
        # linear interpolation widens the blob by at most 1 / 4 of a pixel in variance
        torch.testing.assert_close(y[0, 0], expected, atol=0.02 * 3.0 * math.sqrt(2 * math.pi), rtol=0)
        torch.testing.assert_close(y.sum(-1)[0, 0] * 0.8, torch.full((9,), 18 * math.pi).double(), atol=0.5, rtol=0)


def test_a_fan_sees_the_same_lines():
    """The line from the source at v = -s through the origin of the detector's point u, looked up as a parallel one."""
    size, s, b = (40, 40), 60.0, 25.0
    A = Radon(size, ANGLES, 21, 3.0, source=s, behind=b)
    y = A(blob(size, 4.0, -3.0, 3.0))
    u = (torch.arange(21).double() - 10) * 3.0
    theta = torch.tensor(ANGLES).double()[:, None]
    away = (-3.0) * theta.cos() - 4.0 * theta.sin()
    along = (-3.0) * theta.sin() + 4.0 * theta.cos()
    # distance of the blob's middle (away, along) from the line through (0, -s) and (u, b)
    distance = ((along + s) * u - away * (b + s)) / (u**2 + (b + s) ** 2).sqrt()
    expected = 3.0 * math.sqrt(2 * math.pi) * torch.exp(-(distance**2) / 18)
    torch.testing.assert_close(y[0, 0], expected, atol=0.15, rtol=0)


def test_a_distant_source_is_parallel():
    x = normal(1, 2, 9, 8)
    fan = Radon((9, 8), ANGLES, 13, source=1e9)
    torch.testing.assert_close(fan(x), Radon((9, 8), ANGLES, 13)(x), atol=1e-6, rtol=0)


def test_the_fan_covers_the_image():
    """Its outermost line touches the circle around the image: source s, half diagonal h, width 2 h (s + b) / sqrt(s^2 -
    h^2)."""
    A = Radon.fan((30, 40), 4, source=50.0, behind=10.0, detectors=20)
    edge = A.spacing * A.detectors / 2
    assert edge * 50.0 / math.hypot(edge, 60.0) == pytest.approx(25.0)
    assert A.angles == (0.0, math.pi / 2, math.pi, 3 * math.pi / 2)
    assert Radon.fan((30, 40), 4, source=50.0).detectors == 50


def test_the_plain_sums():
    """theta = 0 sums each column, theta = pi / 2 each row from the last to the first, for any size."""
    x = normal(1, 1, 5, 7)
    y = Radon((5, 7), (0.0,), 7)(x)
    torch.testing.assert_close(y[0, 0, 0], x[0, 0].sum(0), atol=1e-12, rtol=0)
    y = Radon((5, 7), (math.pi / 2,), 5)(x)
    torch.testing.assert_close(y[0, 0, 0], x[0, 0].sum(1).flip(0), atol=1e-12, rtol=0)
    assert Radon.parallel((5, 7), 4).angles == (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
    assert Radon.parallel((3, 4), 2).detectors == 5
    assert Radon.parallel((3, 4), 2, detectors=4)(normal(2, 3, 3, 4)).shape == (2, 3, 2, 4)


def disc(n, row, col, radius, fine=8):
    """A disc, each pixel the share of it that is covered."""
    at = (torch.arange(n * fine).double() + 0.5) / fine - n / 2
    inside = ((at[:, None] - row) ** 2 + (at - col) ** 2 <= radius**2).double()
    return inside.reshape(n, fine, n, fine).mean((1, 3))[None, None]


def test_projections_of_a_disc():
    """2 sqrt(r^2 - (u - u0)^2)."""
    A = Radon((64, 64), ANGLES, 91)
    y = A(disc(64, 6.0, -9.0, 17.0))[0, 0]
    u, theta = torch.arange(91).double() - 45, torch.tensor(ANGLES).double()[:, None]
    u0 = -9.0 * theta.cos() - 6.0 * theta.sin()
    expected = 2 * (17.0**2 - (u - u0) ** 2).clamp(min=0).sqrt()
    inner = (u - u0).abs() < 15.5
    assert float((y - expected)[inner].abs().max()) < 0.5
    assert float((y - expected).square().mean().sqrt()) < 0.35


def test_scikit_image_agrees():
    transform = pytest.importorskip("skimage.transform")
    degrees = np.array([0.0, 20.0, 45.0, 77.0, 90.0, 133.0, 170.0])
    n = 65  # odd: its centre pixel is ours
    x = blob((n, n), 8.0, -11.0, 3.5) + 0.5 * blob((n, n), -14.0, 3.0, 5.0)
    theirs = torch.from_numpy(transform.radon(x[0, 0].numpy(), degrees, circle=True, preserve_range=True))
    A = Radon((n, n), tuple(np.deg2rad(degrees)), n)
    y = A(x)[0, 0]
    torch.testing.assert_close(y, theirs.T, atol=0.02 * float(y.max()), rtol=0)
    many = np.arange(0, 180, 2.0)
    A = Radon.parallel((n, n), 90, detectors=n)
    sinogram = A(x)
    for name in ("ramp", "hann"):
        theirs = torch.from_numpy(
            transform.iradon(sinogram[0, 0].T.numpy(), many, filter_name=name, circle=True, preserve_range=True)
        )
        rows, cols = (torch.arange(n).double() - (n - 1) / 2 for _ in "xy")
        inside = rows[:, None] ** 2 + cols**2 < 30.0**2
        ours = A.fbp(sinogram, name)[0, 0]
        torch.testing.assert_close(ours[inside], theirs[inside], atol=5e-3, rtol=0)


@pytest.mark.parametrize("filter, close", [("ramp", 0.02), ("hann", 0.06)])
def test_filtered_backprojection_of_a_disc(filter, close):
    """Of exact projections: its density inside, nothing outside, on a detector twice as fine too."""
    for A in (Radon.parallel((48, 48), 90), Radon((48, 48), Radon.parallel((48, 48), 90).angles, 137, 0.5)):
        u = (torch.arange(A.detectors).double() - (A.detectors - 1) / 2) * A.spacing
        theta = torch.tensor(A.angles).double()[:, None]
        u0 = 5.0 * theta.cos() + 4.0 * theta.sin()
        y = 2.5 * 2 * (12.0**2 - (u - u0) ** 2).clamp(min=0).sqrt()
        x = A.fbp(y[None, None], filter)[0, 0]
        rows, cols = torch.arange(48).double()[:, None] - 23.5, torch.arange(48).double() - 23.5
        r = ((rows + 4.0) ** 2 + (cols - 5.0) ** 2).sqrt()
        assert float(x[r < 10].mean()) == pytest.approx(2.5, rel=0.01)
        assert float((x[r < 9] - 2.5).abs().mean()) < close * 2.5
        outside = x[(r > 14) & (r < 18)]  # what rings there has no mean
        assert abs(float(outside.mean())) < 0.01 * 2.5 and float(outside.abs().mean()) < 0.04 * 2.5


def ellipse(n, row, col, a, b, tilt, fine=6):
    """An ellipse with half axes a along (column, row) = (cos, sin) of tilt and b across, in shares of pixels."""
    at = (torch.arange(n * fine).double() + 0.5) / fine - n / 2
    dc, dr = at - col, at[:, None] - row
    p, q = dc * math.cos(tilt) + dr * math.sin(tilt), dr * math.cos(tilt) - dc * math.sin(tilt)
    return ((p / a) ** 2 + (q / b) ** 2 <= 1).double().reshape(n, fine, n, fine).mean((1, 3))[None, None]


def chords(starts, ends, row, col, a, b, tilt):
    """Lengths of the lines through two points (column, row) inside the ellipse: where |p + k d| = 1 in its own axes."""

    def own(point):
        dc, dr = point[0] - col, point[1] - row
        turned = (dc * math.cos(tilt) + dr * math.sin(tilt)) / a, (dr * math.cos(tilt) - dc * math.sin(tilt)) / b
        return torch.stack(turned)

    p, d = own(starts), own(ends) - own(starts)
    dd, pd, pp = (d * d).sum(0), (p * d).sum(0), (p * p).sum(0)
    length = (ends - starts).square().sum(0).sqrt()
    return 2 * length * (pd**2 - dd * (pp - 1)).clamp(min=0).sqrt() / dd


def test_a_fan_through_an_ellipse():
    """Projections in closed form, and filtered backprojection of those: its density inside, nothing outside."""
    n, views, s, b = 64, 120, 90.0, 30.0
    A, shape = Radon.fan((n, n), views, source=s, behind=b, detectors=140), (7.0, -5.0, 19.0, 10.0, 0.6)
    theta = torch.tensor(A.angles).double()[:, None]
    u = (torch.arange(140).double() - 69.5) * A.spacing
    start = torch.stack([(-s * theta.sin()).expand(-1, 140), (-s * theta.cos()).expand(-1, 140)])
    end = torch.stack([u * theta.cos() + b * theta.sin(), -u * theta.sin() + b * theta.cos()])
    expected = chords(start, end, *shape)
    y = A(ellipse(n, *shape))[0, 0]
    # as of the disc: at the rim the length of a line changes faster than pixels can tell
    inner = expected > 10.0
    assert float((y - expected).square().mean().sqrt()) < 0.35 and float(expected.max()) > 30.0
    # linear interpolation widens by up to 1 / 4 in variance, which lowers a profile that bulges a little
    assert float((y - expected)[inner].abs().mean()) < 0.15 and -0.1 < float((y - expected)[inner].mean()) < 0.01
    for filter, close in (("ramp", 0.005), ("hann", 0.02)):
        x = A.fbp(2.5 * expected[None, None], filter)[0, 0]
        inside, outside = (
            ellipse(n, *shape[:2], 16.0, 7.0, 0.6)[0, 0] == 1,
            ellipse(n, *shape[:2], 22.0, 13.0, 0.6)[0, 0] == 0,
        )
        assert float(x[inside].mean()) == pytest.approx(2.5, rel=0.01)
        assert float((x[inside] - 2.5).abs().mean()) < close * 2.5
        assert abs(float(x[outside].mean())) < 0.01 * 2.5 and float(x[outside].abs().mean()) < 0.04 * 2.5


def test_a_distant_fan_is_filtered_as_parallel_lines_are():
    x = blob((24, 24), 3.0, -2.0, 3.0)
    parallel = Radon((24, 24), Radon.fan((24, 24), 40, source=1e6).angles, 34)
    fan = Radon((24, 24), parallel.angles, 34, source=1e6)
    torch.testing.assert_close(fan.fbp(fan(x)), parallel.fbp(parallel(x)), atol=1e-4, rtol=0)


def test_hann_is_smoother_on_noise():
    """White noise: the ramp keeps a mean square gain of 1 / 12 of its full band, the Hann window much less."""
    A, y = Radon.parallel((32, 32), 40), normal(2, 1, 40, 46)
    assert float(A.fbp(y, "hann").std()) < 0.6 * float(A.fbp(y).std())
    assert A.fbp(y).shape == (2, 1, 32, 32)


def test_pieces_do_not_show(monkeypatch):
    """Lines are looked up some at a time, for memory: the same sums."""
    A, x, y = Radon((7, 6), ANGLES, 9), normal(2, 1, 7, 6), normal(2, 1, 9, 9)
    whole = A(x), A.adjoint(y)
    monkeypatch.setattr("sfumato.operators.radon.SMALL", 0)
    for chunk in (2**20, 12):
        monkeypatch.setattr("sfumato.operators.radon.CHUNK", chunk)
        torch.testing.assert_close((A(x), A.adjoint(y)), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("small", [0, 2**23])
def test_gradients(small, monkeypatch):
    """The gradient of |A x - y|^2 / 2 is A^T (A x - y), kept as a matrix or not, for batches of channels."""
    monkeypatch.setattr("sfumato.operators.radon.SMALL", small)
    for A in (Radon((7, 6), ANGLES, 9), Radon((7, 6), ANGLES, 9, source=12.0, behind=3.0)):
        x, y = normal(2, 3, 7, 6).requires_grad_(), normal(2, 3, 9, 9)
        (g,) = torch.autograd.grad(0.5 * (A(x) - y).square().sum(), x)
        torch.testing.assert_close(g, A.adjoint(A(x.detach()) - y), atol=1e-12, rtol=0)
        single = A(x.detach().float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), A(x.detach()), atol=1e-5, rtol=0)


def test_the_matrix_is_kept_up_to_a_size(monkeypatch):
    """Views x detectors x the longer side."""
    monkeypatch.setattr("sfumato.operators.radon.SMALL", 9 * 9 * 7)
    x = normal(1, 1, 7, 6)
    small, large = Radon((7, 6), ANGLES, 9), Radon((7, 6), ANGLES, 10)
    small(x), large(x)
    assert len(small._kept) == 1 and not large._kept


def test_the_unit_of_length():
    A, cm, x = Radon.parallel((6, 6), 5), Radon((6, 6), Radon.parallel((6, 6), 5).angles, unit=0.07), normal(1, 1, 6, 6)
    torch.testing.assert_close(cm(x), 0.07 * A(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(cm.fbp(cm(x)), A.fbp(A(x)), atol=1e-12, rtol=0)


def test_the_norm_is_the_largest_singular_value():
    A = Radon((6, 5), ANGLES)
    matrix = A(torch.eye(30).double().reshape(30, 1, 6, 5)).flatten(1)
    assert A.norm(60) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-9)


def test_fewer_rounds_stop_early():
    """One round is the steepest descent from 0: |b|^2 / <b, M b> b, of the pseudo-inverse and of `solve`."""
    A = Radon((6, 6), ANGLES, rounds=1)
    y = A(normal(1, 1, 6, 6))
    b = A.adjoint(y)
    Ab = A.adjoint(A(b))
    for found, M in ((A.pinv(y), Ab), (A.solve(b, 0.7), Ab + 0.7 * b)):
        torch.testing.assert_close(found, b * b.square().sum() / (b * M).sum(), atol=1e-12, rtol=0)


def test_many_views_determine_the_image():
    A, x = Radon.parallel((6, 6), 24), normal(1, 1, 6, 6)
    torch.testing.assert_close(A.pinv(A(x)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Radon((6, 8), (0.0,), source=5.0), "beyond 5 pixels"),
        (lambda: Radon((6, 8), ()), "at least one view"),
        (lambda: Radon((6, 8), (0.0,), spacing=0.0), "a spacing and a unit above 0"),
        (lambda: Radon((6, 8), (0.0,), unit=0.0), "a spacing and a unit above 0"),
        (lambda: Radon((6, 8), (0.0,))(torch.zeros(1, 1, 8, 6)), r"made for size \(6, 8\)"),
        (lambda: Radon((6, 8), (0.0,)).fbp(torch.zeros(1, 1, 1, 10), "cosine"), "ramp.*hann.*got 'cosine'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
