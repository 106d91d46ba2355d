"""k-space and projections in NumPy files, as measurements of a picture in [0, 1]."""

import numpy as np
import pytest
import torch

from sfumato.data import raw
from sfumato.noise import Noise
from sfumato.operators import SENSE, Measurement, Radon, kspace
from sfumato.operators.sense import birdcage


def head(n):
    """A smooth blob with texture, largest number near 300, and where it is bright."""
    r = torch.linspace(-1, 1, n).double()
    blob = torch.exp(-4 * (r[:, None] ** 2 + r**2))
    return 200 * blob * (1 + 0.5 * torch.cos(4 * r)[:, None] * torch.cos(3 * r)), blob > 0.1


def phase(n):
    return torch.exp(1j * (0.3 + torch.linspace(0, 1.5, n).double()))


def scan(path, *, coils=6, n=40, sigma=0.0, **arrays):
    """The file of a head with a phase, seen in every second column beside the middle half."""
    image, disc = head(n)
    mask = kspace.equispaced((n, n), acceleration=1.5, centre=0.5)
    maps = birdcage((n, n), coils) if coils > 1 else torch.ones(1, n, n, dtype=torch.complex128)
    A = SENSE(maps, mask, complex_valued=True)
    m = Measurement.simulate(A, kspace.to_channels(image * phase(n))[None], sigma=sigma, noise=Noise(0))
    data = kspace.to_complex(m.y)[0].numpy()
    np.savez(path, **{"kspace": data if coils > 1 else data[0], **arrays})
    return image, disc


@pytest.mark.parametrize("coils", [1, 6])
def test_k_space_is_that_of_a_real_image_in_unit_range(tmp_path, coils):
    """The phase goes into the maps: the least-squares image is |x| over its largest number, whatever the unit."""
    image, disc = scan(tmp_path / "a.npz", coils=coils)
    found = raw.read(tmp_path / "a.npz", "mri", 0.01)
    m = found.measurement
    assert m.sigma == 0.01 and m.event == (1, 40, 40)
    assert ("one coil" if coils == 1 else "ESPIRiT maps from the middle 20 x 20") in found.words
    x = m.operator.pinv(m.y)[0, 0].double() * found.white
    assert float((x - image)[disc].abs().max()) < (6.0 if coils == 1 else 15.0)  # maps that are found are not exact
    assert found.white == pytest.approx(float(image.max()), rel=0.05)


def test_given_maps_and_a_given_mask(tmp_path):
    mask = kspace.equispaced((40, 40), acceleration=1.5, centre=0.5)
    image, disc = scan(tmp_path / "a.npz", maps=birdcage((40, 40), 6).numpy(), mask=mask.numpy().astype("u1"))
    found = raw.read(tmp_path / "a.npz", "mri", 0.0)
    assert found.words == "given maps" and torch.equal(found.measurement.operator.mask.bool(), mask)
    x = found.measurement.operator.pinv(found.measurement.y)[0, 0].double() * found.white
    assert float((x - image)[disc].abs().max()) < 6.0
    fewer = mask.clone()
    fewer[:, :6] = False
    scan(tmp_path / "b.npz", maps=birdcage((40, 40), 6).numpy(), mask=fewer.numpy())
    y = raw.read(tmp_path / "b.npz", "mri", 0.0).measurement.y
    assert not y[..., :6].any() and y[..., 6:].any()


def test_noise_is_estimated_from_the_corners(tmp_path):
    scan(tmp_path / "a.npz", sigma=2.0)
    found = raw.read(tmp_path / "a.npz", "mri", None)
    assert found.measurement.sigma * found.white == pytest.approx(2.0, rel=0.15)
    assert "from the corners of k-space" in found.words
    y = torch.zeros(1, 2, 20, 20)
    y[..., 8:12, 8:12] = 100.0
    assert raw.corner_noise(y, torch.ones(20, 20, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize("fan", [{}, {"source": 60.0, "behind": 20.0, "spacing": 1.5}])
def test_projections(tmp_path, fan):
    image, _ = head(32)
    angles = np.arange(0, 360, 4.0)
    A = Radon((32, 32), tuple(np.deg2rad(angles)), 46, **fan)
    np.savez(tmp_path / "a.npz", sinogram=A(image[None, None])[0, 0].numpy(), angles=angles, size=[32, 32], **fan)
    found = raw.read(tmp_path / "a.npz", "ct", 0.05)
    m = found.measurement
    assert m.sigma == 0.05 and m.event == (1, 32, 32) and m.operator.source == fan.get("source")
    assert found.words == ("a fan" if fan else "parallel lines")
    torch.testing.assert_close(m.operator(image[None, None] / found.white), m.y.double(), atol=1e-3, rtol=0)
    x = m.operator.pinv(m.y)[0, 0] * found.white
    assert float((x - image).abs().mean()) < 3.0


COMPLEX = np.ones((8, 8), "c8")
SINOGRAM = {"sinogram": np.ones((3, 9)), "angles": np.arange(3.0), "size": [6, 6]}


@pytest.mark.parametrize(
    "kind, sigma, arrays, message",
    [
        ("mri", 0.1, {"other": COMPLEX}, "no array 'kspace', only other"),
        ("ct", 0.1, {"kspace": COMPLEX}, "no array 'sinogram', only kspace"),
        ("mri", 0.1, {"kspace": np.ones((8, 8))}, r"kspace is complex.*got float64 \(8, 8\)"),
        ("mri", 0.1, {"kspace": np.ones(8, "c8")}, r"got complex64 \(8,\)"),
        ("mri", 0.1, {"kspace": COMPLEX * np.nan}, "NaN or infinite"),
        ("mri", 0.1, {"kspace": COMPLEX, "mask": np.ones((8, 7))}, r"the mask \(8, 7\) does not fit"),
        ("mri", 0.1, {"kspace": COMPLEX * 0}, "or sees nothing"),
        ("mri", 0.1, {"kspace": COMPLEX, "maps": np.ones((2, 8, 8))}, r"the maps \(2, 8, 8\) do not fit"),
        ("mri", 0.1, {"kspace": np.ones((2, 8, 8), "c8"), "mask": np.eye(8)}, "1 points wide, is too small"),
        ("mri", 0.1, {"kspace": COMPLEX * 0, "mask": np.ones((8, 8))}, "nothing is bright"),
        ("ct", None, SINOGRAM, "--sigma is needed"),
        ("ct", 0.1, {**SINOGRAM, "angles": np.arange(4.0)}, "4 angles and the size"),
        ("ct", 0.1, {**SINOGRAM, "size": [6]}, r"the size \[6\]"),
        ("ct", 0.1, {**SINOGRAM, "sinogram": np.ones(9)}, "needs sinogram"),
        ("ct", 0.1, {"sinogram": np.ones((3, 9))}, "needs sinogram"),
        ("ct", 0.1, {**SINOGRAM, "sinogram": np.zeros((3, 9))}, "nothing is bright"),
    ],
)
def test_what_is_refused(tmp_path, kind, sigma, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        raw.read(tmp_path / "a.npz", kind, sigma)


def test_files_that_are_no_npz(tmp_path):
    (tmp_path / "text.npz").write_text("no")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, words in (("text", "no NumPy file"), ("one", "no array 'kspace', only x")):
        with pytest.raises(ValueError, match=words):
            raw.read(tmp_path / f"{name}.npz", "mri", 0.1)
    with pytest.raises(FileNotFoundError):
        raw.read(tmp_path / "none.npz", "mri", 0.1)


def test_the_middle_that_was_sampled():
    mask = torch.zeros(9, 8, dtype=torch.bool)
    mask[2:7, 2:7] = True
    assert raw._middle(mask) == 5 and raw._middle(~mask) == 0 and raw._middle(torch.ones(6, 9).bool()) == 6
