"""k-space, its masks, one coil and several, against plain transforms and closed forms."""

import math

import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.operators import SENSE, Fourier, Measurement, kspace
from sfumato.operators.espirit import espirit
from sfumato.operators.sense import birdcage, sensitivities
from sfumato.processes import LinearBeta
from sfumato.solvers import DDNM


def normal(*shape, seed=0):
    return sf.Noise(seed).normal(torch.empty(shape, dtype=torch.float64))


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (4, 5)])
def test_the_transform_is_centred_and_unitary(size):
    """A wave of frequency (a, b) about the middle pixel is one number sqrt(H W) at (H // 2 + a, W // 2 + b)."""
    H, W = size
    rows, cols = torch.arange(H).double()[:, None] - H // 2, torch.arange(W).double() - W // 2
    wave = torch.exp(2j * math.pi * (rows / H - 2 * cols / W))
    expected = torch.zeros(H, W, dtype=torch.complex128)
    expected[H // 2 + 1, W // 2 - 2] = math.sqrt(H * W)
    torch.testing.assert_close(kspace.transform(wave), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(kspace.inverse(kspace.transform(wave)), wave, atol=1e-12, rtol=0)
    x = normal(*size)
    torch.testing.assert_close(kspace.mirrored(kspace.transform(x)), kspace.transform(x).conj(), atol=1e-12, rtol=0)
    z = kspace.transform(wave + x)
    assert torch.equal(kspace.to_complex(kspace.to_channels(z)), z)
    assert torch.equal(kspace.to_channels(z)[1], z.imag)


@pytest.mark.parametrize("complex_valued", [False, True])
def test_what_one_coil_measures(complex_valued):
    mask = kspace.columns((6, 8), sf.Noise(0), acceleration=2.0, centre=0.25)
    A, x = Fourier(mask, complex_valued), normal(2, 4, 6, 8)
    image = torch.complex(x[:, ::2], x[:, 1::2]) if complex_valued else x
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image.numpy(), axes=(-2, -1)), norm="ortho"), axes=(-2, -1))
    y = A(x)
    np.testing.assert_allclose(y[:, :, 0].numpy(), spectrum.real * mask.numpy(), atol=1e-12)
    np.testing.assert_allclose(y[:, :, 1].numpy(), spectrum.imag * mask.numpy(), atol=1e-12)
    noisy = Measurement.simulate(A, x, sigma=0.1, noise=sf.Noise(0))
    assert torch.equal(noisy.y[..., ~mask], torch.zeros_like(noisy.y[..., ~mask]))
    assert float((noisy.y - y)[..., mask].std()) == pytest.approx(0.1, rel=0.1)


def test_symmetry_fills_the_other_half_of_a_real_image():
    """Every frequency or its opposite was sampled: a real image is known, which the adjoint alone does not find."""
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[:, :4] = True
    mask[:, 3] = True
    A, x = Fourier(mask), normal(1, 1, 6, 7)
    torch.testing.assert_close(A.pinv(A(x)), x, atol=1e-12, rtol=0)
    half = kspace.transform(A.adjoint(A(x)))[..., 0]
    torch.testing.assert_close(half, kspace.transform(x)[..., 0] / 2, atol=1e-12, rtol=0)


def test_ddnm_reconstructs_what_was_sampled():
    """The prior is white: what was sampled is met, the rest is a draw of the prior."""
    world = sf.GaussianWorld(torch.zeros(1, 4, 4).double(), torch.eye(16).double())
    A = Fourier(kspace.equispaced((4, 4), acceleration=2.0, centre=0.0, offset=0))
    m = Measurement.simulate(A, normal(1, 1, 4, 4, seed=3), sigma=0.0, noise=sf.Noise(0)).repeat(3)
    x = DDNM(steps=5)(world.denoiser(LinearBeta()), m, sf.Noise(1))
    torch.testing.assert_close(A(x), m.y, atol=1e-12, rtol=0)


def test_random_columns():
    mask = kspace.columns((3, 400), sf.Noise(0), acceleration=4.0, centre=0.08)
    assert mask.shape == (3, 400) and bool((mask == mask[0]).all())
    assert bool(mask[0, 184:216].all())
    outside = torch.cat([mask[0, :184], mask[0, 216:]]).double()
    share = (100 - 32) / (400 - 32)
    assert abs(float(outside.mean()) - share) < 4 * math.sqrt(share * (1 - share) / 368)
    # an odd number of columns in the middle of an even number: fastMRI's place for them
    only = kspace.columns((1, 10), sf.Noise(0), acceleration=10 / 3, centre=0.3)
    assert only.nonzero()[:, 1].tolist() == [4, 5, 6]
    assert bool(kspace.columns((1, 8), sf.Noise(0), acceleration=1.0, centre=1.0).all())


def test_equispaced_columns_of_the_public_code():
    """yang-song/score_inverse_problems, get_cartesian_mask((240, 240), 30) and ((64, 64), 16), run beside it."""
    mask = kspace.equispaced((240, 240), acceleration=8.0, centre=0.03)
    seen = [5, 15, 25, 35, 46, 56, 66, 76, 86, 96, 106, *range(116, 124), 127, 137, 147, 157, 167, 177, 187, 197, 208]
    seen += [218, 228, 238]
    assert mask[0].nonzero().flatten().tolist() == seen and bool((mask == mask[0]).all())
    small = kspace.equispaced((2, 64), acceleration=4.0, centre=0.016)
    assert small[1].nonzero().flatten().tolist() == [*(2, 6, 10, 15, 19, 23, 27, 31, 32, 36, 40, 44, 48, 52, 57, 61)]
    moved = kspace.equispaced((1, 16), acceleration=4.0, centre=0.0, offset=1)
    assert moved.nonzero()[:, 1].tolist() == [1, 5, 9, 13]


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_poisson_disc(slope):
    size = (48, 40)
    mask = kspace.poisson_disc(size, sf.Noise(2), acceleration=5.0, centre=0.1, slope=slope)
    assert torch.equal(mask, kspace.poisson_disc(size, sf.Noise(2), acceleration=5.0, centre=0.1, slope=slope))
    assert not torch.equal(mask, kspace.poisson_disc(size, sf.Noise(3), acceleration=5.0, centre=0.1, slope=slope))
    assert 0.2 <= float(mask.double().mean()) < 0.24
    assert bool(mask[22:27, 18:22].all())  # 5 of 48 rows, 4 of 40 columns
    if slope == 0.0:
        # no two points nearer than some r, and no place farther than r from all of them
        plain = kspace.poisson_disc(size, sf.Noise(2), acceleration=5.0, centre=0.0, slope=0.0)
        at, everywhere = plain.nonzero().double(), torch.ones(size).nonzero().double()
        apart = torch.cdist(at, at) + 1e9 * torch.eye(len(at)).double()
        assert float(torch.cdist(everywhere, at).min(1).values.max()) < float(apart.min())
        assert float(apart.min()) > 1.0
    else:
        middle = mask[12:36, 10:30].double().mean()
        assert float(middle) > 1.5 * float((mask.sum() - mask[12:36, 10:30].sum()) / (48 * 40 - 24 * 20))


def test_radial_spokes():
    cross = torch.zeros(8, 6, dtype=torch.bool)
    cross[4, :] = cross[:, 3] = True
    assert torch.equal(kspace.radial((8, 6), 2), cross)
    diagonal = kspace.radial((9, 9), 4)
    assert bool(diagonal.diagonal().all()) and bool(diagonal.flip(0).diagonal().all())
    assert int(diagonal.sum()) == 4 * 9 - 3
    golden = kspace.radial((65, 65), 2, golden=True)
    rows, cols = golden.nonzero().double().T - 32
    angle = torch.atan2(rows, cols)[rows**2 + cols**2 > 400] % math.pi
    turned = angle[(angle > 0.1) & (angle < math.pi - 0.1)]
    assert float(turned.mean()) == pytest.approx(math.radians(111.246), abs=0.02)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kspace.columns((4, 10), sf.Noise(0), acceleration=4.0, centre=0.5), "5 of 10 columns"),
        (lambda: kspace.columns((4, 10), sf.Noise(0), acceleration=0.5), "1 of 10 columns"),
        (lambda: kspace.columns((4, 10), sf.Noise(0), centre=-0.1), "a share, from 0 to 1, got -0.1"),
        (lambda: kspace.columns((4, 10), sf.Noise(0), centre=1.1), "a share, from 0 to 1, got 1.1"),
        (lambda: kspace.equispaced((4, 10), acceleration=5.0, centre=0.2), "2 of 10 columns"),
        (lambda: kspace.poisson_disc((4, 4), sf.Noise(0), acceleration=1.0), "above 1 is needed, got 1.0"),
        (lambda: kspace.radial((4, 4), 0), "at least 1 spoke"),
        (lambda: Fourier(torch.ones(3)), r"\(H, W\) and holds 1 and 0 only, got shape \(3,\)"),
        (lambda: Fourier(torch.full((2, 2), 0.5)), "holds 1 and 0 only"),
        (lambda: Fourier(torch.ones(4, 4))(torch.zeros(1, 1, 4, 5)), "make another mask"),
        (lambda: SENSE(torch.ones(2, 4, 4), torch.ones(4, 4)), "maps are complex"),
        (lambda: SENSE(birdcage((4, 4)), torch.ones(4, 5)), "maps are complex"),
        (lambda: SENSE(birdcage((4, 4))[0], torch.ones(4, 4)), "maps are complex"),
        (lambda: SENSE(birdcage((4, 4)), torch.ones(4, 4))(torch.zeros(1, 2, 4, 4)), "1 channel, or 2"),
        (lambda: SENSE(birdcage((4, 4)), torch.ones(4, 4), True)(torch.zeros(1, 1, 4, 4)), "1 channel, or 2"),
        (lambda: SENSE(birdcage((4, 4)), torch.ones(4, 4))(torch.zeros(1, 1, 5, 4)), "make another mask"),
        (lambda: sensitivities(torch.zeros(2, 2, 4, 6), 5), "1 to 4 fits"),
        (lambda: sensitivities(torch.zeros(2, 2, 4, 6), 0), "1 to 4 fits"),
        (lambda: espirit(torch.zeros(2, 2, 8, 9), 6), "larger than the kernel, 6, and at most 8, got 6"),
        (lambda: espirit(torch.zeros(2, 2, 8, 9), 9), "at most 8, got 9"),
        (lambda: birdcage((4, 4), 0), "at least 1 coil"),
        (lambda: birdcage((4, 4), distance=1.4), "beyond the corners"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("complex_valued", [False, True])
def test_all_coils_and_all_frequencies_are_the_image(complex_valued):
    """sum |S_c|^2 = 1, so A^T A = I; each coil's y is what `Fourier` measures of S_c x."""
    maps = birdcage((5, 6), 4)
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(5, 6).double(), atol=1e-12, rtol=0)
    A, x = SENSE(maps, torch.ones(5, 6), complex_valued), normal(2, 1 + complex_valued, 5, 6)
    torch.testing.assert_close(A.adjoint(A(x)), x, atol=1e-12, rtol=0)
    image = torch.complex(x[:, 0], x[:, 1]) if complex_valued else x[:, 0]
    mask = kspace.columns((5, 6), sf.Noise(1), acceleration=2.0, centre=0.3)
    single, y = Fourier(mask, complex_valued=True), SENSE(maps, mask, complex_valued)(x)
    for c in range(4):
        torch.testing.assert_close(y[:, c], single(kspace.to_channels(maps[c] * image))[:, 0], atol=1e-12, rtol=0)
    assert torch.equal(A.seen(y), torch.ones(5, 6).double())


def test_coils_see_what_one_would_not():
    """Half of the columns and four coils determine the image; one coil leaves half of it."""
    mask, x = torch.arange(8).expand(6, 8) % 2 == 0, normal(1, 2, 6, 8)
    many = SENSE(birdcage((6, 8), 4), mask, complex_valued=True)
    torch.testing.assert_close(many.pinv(many(x)), x, atol=1e-6, rtol=0)
    one = Fourier(mask, complex_valued=True)
    assert float((one.pinv(one(x)) - x).norm() / x.norm()) > 0.5


def test_sensitivities_of_the_middle():
    """Constant maps are found exactly, up to the scale that makes their squares sum to 1; smooth ones nearly."""
    image = torch.exp(-(torch.linspace(-1, 1, 16).double()[:, None] ** 2 + torch.linspace(-1, 1, 18).double() ** 2))
    flat = torch.tensor([1.0 + 2.0j, -0.5j, 3.0]).to(torch.complex128).reshape(3, 1, 1).expand(3, 16, 18)
    y = SENSE(flat, torch.ones(16, 18))(image[None, None])[0]
    found = sensitivities(y, 8)
    torch.testing.assert_close(found, flat / flat[:, 0, 0].abs().square().sum().sqrt(), atol=1e-10, rtol=0)
    maps = birdcage((16, 18), 4)
    y = SENSE(maps, torch.ones(16, 18))(image[None, None])[0]
    errors = [float((sensitivities(y, w) - maps)[:, 4:12, 4:14].abs().max()) for w in (4, 8, 14)]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.05
    # beyond the middle square nothing is looked at
    far = y.clone()
    far[..., :4, :] = far[..., 13:, :] = far[..., :5] = far[..., 14:] = 7.0
    torch.testing.assert_close(sensitivities(far, 8), sensitivities(y, 8), atol=1e-12, rtol=0)
    assert torch.equal(sensitivities(torch.zeros(2, 2, 4, 4), 2), torch.zeros(2, 4, 4, dtype=torch.complex64))


def head(n):
    """A disc with texture, 0 outside of it, and which pixels it covers."""
    r = torch.linspace(-1, 1, n).double()
    disc = (r[:, None] ** 2 + r**2).sqrt() < 0.8
    return disc * (1 + 0.5 * torch.cos(7 * r)[:, None] * torch.sin(5 * r)), disc


def apart(found, maps, where):
    """Largest 1 - |<found, true>| of unit vectors: the distance up to a phase at each pixel."""
    return float((1 - (found.conj() * maps).sum(0).abs())[where].max())


@pytest.mark.parametrize("size", [(40, 40), (41, 38)])
def test_espirit_finds_the_maps_up_to_a_phase(size):
    """Of simulated coils, also with a phase of the image's own: far closer than images divided by their sum."""
    H, W = size
    disc = head(44)[1][:H, :W]
    image = head(44)[0][:H, :W].to(torch.complex128) * torch.exp(2j * torch.linspace(0, 2, W).double())
    maps = birdcage(size, 6)
    y = SENSE(maps, torch.ones(size), complex_valued=True)(kspace.to_channels(image)[None])[0]
    inner = disc.clone()
    inner[:, -4:] = inner[-4:] = False  # the cut disc ends at the border, where k-space wraps around
    found = espirit(y, 20)
    assert apart(found, maps, inner) < 1e-3 < apart(sensitivities(y, 20), maps, inner)
    torch.testing.assert_close(found.abs().square().sum(0)[inner], torch.ones_like(found.real[0][inner]))
    assert float(found[0].imag.abs().max()) < 1e-12 and float(found[0].real.min()) >= 0.0
    # beyond the middle square nothing is looked at, and the scale of y does not matter
    far = torch.full_like(y, 7.0)
    rows, cols = (H - 19) // 2, (W - 19) // 2
    far[..., rows : rows + 20, cols : cols + 20] = 3.0 * y[..., rows : rows + 20, cols : cols + 20]
    torch.testing.assert_close(espirit(far, 20).abs(), found.abs(), atol=1e-9, rtol=0)


def test_espirit_of_coils_that_see_evenly():
    """Constant maps are found exactly, with the first coil's phase taken out, and nothing where nothing is seen."""
    image, disc = head(32)
    flat = torch.tensor([1.0 + 2.0j, -0.5j, 3.0]).to(torch.complex128)
    y = SENSE(flat.reshape(3, 1, 1).expand(3, 32, 32), torch.ones(32, 32))(image[None, None])[0]
    found = espirit(y, 16, kernel=4)
    turned = flat * flat[0].conj().abs() / flat[0]
    expected = (turned / turned.abs().square().sum().sqrt())[:, None].expand(-1, int(disc.sum()))
    torch.testing.assert_close(found[:, disc], expected, atol=1e-9, rtol=0)
    far = torch.linspace(-1, 1, 32).double()
    corner = (far[:, None].abs() > 0.95) & (far.abs() > 0.95)
    maps = espirit(SENSE(birdcage((32, 32), 6), torch.ones(32, 32))(image[None, None])[0], 20)
    assert not maps[:, corner].any()


def test_maps_of_espirit_reconstruct_what_was_not_seen():
    """Every second column beside the middle ones: |image| by least squares."""
    image, disc = head(40)
    maps = birdcage((40, 40), 6)
    mask = kspace.equispaced((40, 40), acceleration=1.5, centre=0.5)
    y = SENSE(maps, mask)(image[None, None])
    x = SENSE(espirit(y[0], 20), mask, complex_valued=True).pinv(y)
    found = kspace.to_complex(x)[0].abs()
    assert float((found - image)[disc].abs().max()) < 0.03
