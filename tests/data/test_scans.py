"""NIfTI and DICOM files made here, read and written back: numbers, orientation and scaling, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from scans_for_tests import dicom

from sfumato.data import medical

nibabel = pytest.importorskip("nibabel", reason="needs the extra medical")
pydicom = pytest.importorskip("pydicom", reason="needs the extra medical")

OBLIQUE = np.array([[0.0, -1.5, 0.1, 10.0], [0.9, 0.0, 0.0, -20.0], [0.05, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


def nifti(path, array, affine=OBLIQUE, slope=None, inter=None, kind=nibabel.Nifti1Image):
    image = kind(array, affine)
    image.header["descrip"] = b"made here"
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    if slope is not None:  # by hand: nibabel's own writer would choose other stored numbers
        raw = bytearray(path.read_bytes())
        raw[112:120] = np.array([slope, inter], "<f4").tobytes()
        path.write_bytes(raw)
    return path


def numbers(dtype, *shape):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("name", ["a.nii", "b.nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<u2", "<f4"])
def test_nifti_there_and_back(tmp_path, name, dtype):
    """The same bytes of data, the same header, whatever the scaling in it."""
    array = numbers(dtype, 4, 5, 3)
    path = nifti(tmp_path / name, array)
    scan = medical.read(path)
    assert torch.equal(scan.values, torch.from_numpy(array.astype(float)))
    np.testing.assert_allclose(scan.affine.numpy(), OBLIQUE, atol=1e-6)
    assert scan.axis == 2 and scan.spacing == pytest.approx((np.hypot(0.9, 0.05), 1.5, np.hypot(3.0, 0.1)))
    assert scan.slices.shape == (3, 4, 5) and torch.equal(scan.slices[1], scan.values[:, :, 1])
    medical.write(scan, scan.values, tmp_path / f"again-{name}")
    one, two = nibabel.load(path), nibabel.load(tmp_path / f"again-{name}")
    assert one.header.binaryblock == two.header.binaryblock
    assert np.array_equal(one.dataobj.get_unscaled(), two.dataobj.get_unscaled())
    assert two.dataobj.get_unscaled().dtype == one.dataobj.get_unscaled().dtype


def test_nifti_scaling(tmp_path):
    """Values are stored times slope plus intercept; what is written is rounded to the nearest stored number."""
    path = nifti(tmp_path / "a.nii", numbers("<i2", 4, 5, 3), slope=0.25, inter=-7.0)
    scan = medical.read(path)
    assert torch.equal(scan.values, torch.from_numpy(numbers("<i2", 4, 5, 3) * 0.25 - 7.0))
    medical.write(scan, scan.values, tmp_path / "b.nii")
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    medical.write(scan, scan.values + 0.13, tmp_path / "c.nii", note="brighter")
    moved = nibabel.load(tmp_path / "c.nii")
    assert np.array_equal(moved.dataobj.get_unscaled(), numbers("<i2", 4, 5, 3) + 1)
    assert (float(moved.dataobj.slope), float(moved.dataobj.inter)) == (0.25, -7.0)
    assert moved.header["descrip"].item() == b"brighter"
    huge = scan.values.clone()
    huge[0, 0, 0], huge[0, 0, 1] = 1e9, -1e9
    medical.write(scan, huge, tmp_path / "d.nii")
    assert nibabel.load(tmp_path / "d.nii").dataobj.get_unscaled()[0, 0, :2].tolist() == [32767, -32768]


def test_nifti_of_other_sizes(tmp_path):
    """A single slice, and a series of one volume, keep the size that their file has."""
    for shape, layers in (((4, 5), 1), ((4, 5, 3, 1), 3)):
        scan = medical.read(nifti(tmp_path / "a.nii", numbers("<i2", *shape)))
        assert scan.values.shape == (4, 5, layers) and scan.axis == 2
        medical.write(scan, scan.values, tmp_path / "b.nii")
        assert nibabel.load(tmp_path / "b.nii").shape == shape
    thick = medical.read(nifti(tmp_path / "c.nii", numbers("<i2", 4, 5, 3), np.diag([5.0, 1.0, 1.0, 1.0])))
    assert thick.axis == 0 and thick.slices.shape == (4, 5, 3)
    assert medical.read(nifti(tmp_path / "d.nii", numbers("u1", 2, 2, 2), np.eye(4))).axis == 2
    second = medical.read(nifti(tmp_path / "e.nii", numbers("u1", 2, 3, 2), kind=nibabel.Nifti2Image))
    medical.write(second, second.values, tmp_path / "f.nii")
    assert (tmp_path / "e.nii").read_bytes() == (tmp_path / "f.nii").read_bytes()


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<u2"])
def test_dicom_there_and_back(tmp_path, dtype):
    array = numbers(dtype, 5, 7)
    fields = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 80}
    path = dicom(tmp_path / "a.dcm", array, position=(1.0, 2.0, 3.0), **fields)
    scan = medical.read(path)
    assert torch.equal(scan.values, torch.from_numpy(array.astype(float) * 2 - 1000)[None])
    assert scan.modality == "MR" and scan.window == (0.0, 80.0) and scan.axis == 0
    # pixel (row 2, column 3) in DICOM's axes: position + 2 x 0.8 down the column, 3 x 0.5 along the row; RAS turns x, y
    at = scan.affine @ torch.tensor([0.0, 2.0, 3.0, 1.0]).double()
    expected = [-(1.0 + 1.5), -(2.0 + 1.6 * 0.6), 3.0 + 1.6 * 0.8, 1.0]
    np.testing.assert_allclose(at.numpy(), expected, atol=1e-12)
    # the next slice: 4 mm along the normal, (1, 0, 0) x (0, 0.6, 0.8) = (0, -0.8, 0.6)
    step = scan.affine @ torch.tensor([1.0, 0.0, 0.0, 0.0]).double()
    np.testing.assert_allclose(step.numpy(), [0.0, 3.2, 2.4, 0.0], atol=1e-12)
    medical.write(scan, scan.values, tmp_path / "b.dcm")
    assert path.read_bytes() == (tmp_path / "b.dcm").read_bytes()
    medical.write(scan, scan.values + 1.2, tmp_path / "c.dcm", note="brighter")
    moved = pydicom.dcmread(tmp_path / "c.dcm")
    assert np.array_equal(moved.pixel_array, array + 1) and moved.ImageType[0] == "DERIVED"
    assert moved.DerivationDescription == "brighter" and moved.PatientName == "Nobody"
    assert moved.SOPInstanceUID != "1.2.3.4.1" and moved.file_meta.MediaStorageSOPInstanceUID == moved.SOPInstanceUID
    assert moved.SeriesInstanceUID != "1.2.3" and moved.ImagePositionPatient == [1, 2, 3]


def test_dicom_numbers_are_held_to_the_bits_that_are_stored(tmp_path):
    for dtype, bits, least, most in (("<u2", 12, 0, 4095), ("<i2", 12, -2048, 2047), ("<i2", 16, -32768, 32767)):
        path = dicom(tmp_path / "a.dcm", numbers(dtype, 2, 2), BitsStored=bits, HighBit=bits - 1)
        scan = medical.read(path)
        medical.write(scan, torch.tensor([[[-1e6, 1e6], [3.4, 5.6]]]).double(), tmp_path / "b.dcm")
        assert pydicom.dcmread(tmp_path / "b.dcm").pixel_array.tolist() == [[least, most], [3, 6]]


def test_an_odd_number_of_bytes_is_filled_up(tmp_path):
    array = numbers("u1", 3, 3)
    meta = {"PixelData": array.tobytes() + b"\0"}
    path = dicom(tmp_path / "a.dcm", array)
    data = pydicom.dcmread(path)
    data.PixelData = meta["PixelData"]
    data.save_as(path)
    scan = medical.read(path)
    medical.write(scan, scan.values, tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").PixelData == array.tobytes() + b"\0"


def test_big_endian_and_compressed_files(tmp_path):
    array = numbers("<i2", 4, 4)
    path = dicom(tmp_path / "a.dcm", array)
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.save_as(tmp_path / "rle.dcm")
    scan = medical.read(tmp_path / "rle.dcm")
    assert torch.equal(scan.values[0], torch.from_numpy(array.astype(float)))
    medical.write(scan, scan.values, tmp_path / "b.dcm")
    plain = pydicom.dcmread(tmp_path / "b.dcm")
    assert plain.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert np.array_equal(plain.pixel_array, array)
    big = dicom(tmp_path / "big.dcm", array.astype(">i2"), syntax=pydicom.uid.ExplicitVRBigEndian)
    scan = medical.read(big)
    assert torch.equal(scan.values[0], torch.from_numpy(array.astype(float)))
    medical.write(scan, scan.values, tmp_path / "c.dcm")
    assert big.read_bytes() == (tmp_path / "c.dcm").read_bytes()


def series(folder, count=3):
    """Slices along (0, -0.8, 0.6), 5 mm apart, their names and numbers in another order than their places."""
    folder.mkdir()
    arrays = [numbers("<i2", 4, 5) + i for i in range(count)]
    for i, name in enumerate(["c", "a", "b"][:count]):
        place = (1.0, 2.0 - 0.8 * 5 * i, 3.0 + 0.6 * 5 * i)
        dicom(folder / f"{name}.dcm", arrays[i], position=place, number=7 - i)
    return arrays


def test_a_series_lies_as_it_does_in_the_patient(tmp_path):
    arrays = series(tmp_path / "s")
    (tmp_path / "s" / "notes.txt").write_text("no picture")
    scan = medical.read(tmp_path / "s")
    assert torch.equal(scan.values, torch.from_numpy(np.stack(arrays).astype(float)))
    assert scan.spacing == pytest.approx((5.0, 0.8, 0.5))
    third = scan.affine @ torch.tensor([2.0, 0.0, 0.0, 1.0]).double()
    np.testing.assert_allclose(third.numpy(), [-1.0, -(2.0 - 8.0), 9.0, 1.0], atol=1e-12)
    medical.write(scan, scan.values, tmp_path / "out")
    for name in "abc":
        assert (tmp_path / "s" / f"{name}.dcm").read_bytes() == (tmp_path / "out" / f"{name}.dcm").read_bytes()
    medical.write(scan, scan.values + 1, tmp_path / "new", note="brighter")
    new = [pydicom.dcmread(p) for p in sorted((tmp_path / "new").iterdir())]
    assert len({d.SOPInstanceUID for d in new}) == 3 and len({d.SeriesInstanceUID for d in new}) == 1


def test_directions_that_are_rounded_otherwise_are_the_same(tmp_path):
    dicom(tmp_path / "a.dcm", numbers("u1", 4, 5))
    turned = [1.0, -0.0000001, 0.0, 0.0, 0.60001, 0.79999]
    dicom(tmp_path / "b.dcm", numbers("u1", 4, 5), position=(0, 0, 4.0), ImageOrientationPatient=turned)
    assert medical.read(tmp_path).values.shape == (2, 4, 5)


def test_a_series_without_places_goes_by_its_numbers(tmp_path):
    (tmp_path / "s").mkdir()
    for name, number in (("a", 2), ("b", 1)):
        dicom(tmp_path / "s" / name, numbers("u1", 2, 2) + number, number=number, ImagePositionPatient=None)
    scan = medical.read(tmp_path / "s")
    assert float((scan.values[1] - scan.values[0]).mean()) == 1.0
    assert scan.spacing == pytest.approx((4.0, 0.8, 0.5))


def test_frames(tmp_path):
    array = numbers("<u2", 3, 4, 5)
    scan = medical.read(dicom(tmp_path / "a.dcm", array, SpacingBetweenSlices=6.0))
    assert torch.equal(scan.values, torch.from_numpy(array.astype(float))) and scan.spacing[0] == pytest.approx(6.0)
    medical.write(scan, scan.values, tmp_path / "b.dcm")
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_what_is_black_and_white(tmp_path):
    array = numbers("<i2", 4, 5)
    assert medical.read(dicom(tmp_path / "a.dcm", array, Modality="CT")).range == (-1000.0, 1500.0)
    assert medical.read(dicom(tmp_path / "a.dcm", array)).range == (0.0, float(array.max()))
    assert medical.read(dicom(tmp_path / "a.dcm", array - 300)).range == (array.min() - 300.0, array.max() - 300.0)
    with pytest.raises(ValueError, match="every number is 0"):
        _ = medical.read(dicom(tmp_path / "a.dcm", array * 0)).range


def test_which_files_are_scans(tmp_path):
    nameless = dicom(tmp_path / "IM0001", numbers("u1", 2, 2))
    text = tmp_path / "text"
    text.write_text("no")
    assert medical.is_scan(nameless) and medical.is_scan(tmp_path) and medical.is_scan(tmp_path / "not/there.NII.gz")
    assert medical.is_scan(tmp_path / "x.nii") and medical.is_scan(tmp_path / "x.DCM")
    assert not medical.is_scan(text) and not medical.is_scan(tmp_path / "picture.png")
    nameless.unlink()
    assert not medical.is_scan(tmp_path)


def broken(tmp_path, case):
    """A file or folder that cannot be a scan."""
    path = tmp_path / {"short-gz": "a.nii.gz"}.get(case, "a.dcm" if case.startswith("d-") else "a.nii")
    if case == "short":
        nifti(path, numbers("<i2", 9, 9, 9))
        path.write_bytes(path.read_bytes()[:900])
    elif case == "short-gz":
        nifti(path, np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype("<i2"))
        path.write_bytes(path.read_bytes()[:2000])
    elif case == "header":
        path.write_bytes(b"x" * 500)
    elif case == "empty":
        path.touch()
    elif case == "time":
        nifti(path, numbers("<i2", 3, 3, 3, 2))
    elif case == "complex":
        nifti(path, numbers("<i2", 3, 3, 3).astype("c8"))
    elif case == "d-text":
        path.write_text("no picture at all " * 30)
    elif case == "d-short":
        dicom(path, numbers("<i2", 30, 30))
        path.write_bytes(path.read_bytes()[:-600])
    elif case == "d-color":
        dicom(path, numbers("u1", 4, 4, 3), SamplesPerPixel=3, PhotometricInterpretation="RGB", NumberOfFrames=1)
    elif case == "d-palette":
        dicom(path, numbers("u1", 4, 4), PhotometricInterpretation="PALETTE COLOR")
    elif case == "d-none":
        dicom(path, numbers("u1", 4, 4))
        data = pydicom.dcmread(path)
        del data.PixelData
        data.save_as(path)
    elif case == "d-jpeg":
        dicom(path, numbers("u1", 4, 4))
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLSLossless
        data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        data["PixelData"].is_undefined_length = True
        data.save_as(path)
    return path


@pytest.mark.parametrize(
    "case, message",
    [
        ("short", r"a\.nii is damaged or no NIfTI file"),
        ("short-gz", r"a\.nii\.gz is damaged or no NIfTI file"),
        ("header", r"a\.nii is damaged or no NIfTI file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("time", r"has the size \(3, 3, 3, 2\): one volume is needed"),
        ("complex", "the type complex64: real grey values"),
        ("d-text", "is damaged or no DICOM file"),
        ("d-short", "is damaged"),
        ("d-color", r"is in color \(RGB\)"),
        ("d-palette", r"is in color \(PALETTE COLOR\)"),
        ("d-none", "holds no picture"),
        ("d-jpeg", r"is compressed \(JPEG-LS.*no plug-in here decodes it"),
    ],
)
def test_what_is_refused(tmp_path, case, message):
    with pytest.raises(ValueError, match=message) as found:
        medical.read(broken(tmp_path, case))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("series", {"series": "9.9"}, "series of 2 kinds"),
        ("heights", {"shape": (5, 5)}, "heights of 2 kinds"),
        ("widths", {"shape": (4, 6)}, "widths of 2 kinds"),
        ("directions", {"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "directions of 2 kinds"),
        ("frames", {"NumberOfFrames": 1}, "frames of 2 kinds"),
        ("places", {"ImagePositionPatient": [5, 0, 0.0001]}, "several slices of one place"),
    ],
)
def test_folders_that_are_no_one_series(tmp_path, name, fields, message):
    dicom(tmp_path / "a.dcm", numbers("u1", 4, 5))
    dicom(tmp_path / "b.dcm", numbers("u1", *fields.pop("shape", (4, 5))), position=(0, 0, 4.0), **fields)
    with pytest.raises(ValueError, match=message):
        medical.read(tmp_path)


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there"):
        medical.read(tmp_path / "a.nii")
    with pytest.raises(ValueError, match="has no DICOM files"):
        medical.read(tmp_path)
    scan = medical.read(nifti(tmp_path / "a.nii", numbers("<i2", 2, 3, 4)))
    with pytest.raises(ValueError, match=r"\(2, 3, 4\), got values of \(2, 3, 5\)"):
        medical.write(scan, torch.zeros(2, 3, 5), tmp_path / "b.nii")
    with pytest.raises(ValueError, match="NaN or infinite"):
        medical.write(scan, scan.values / 0, tmp_path / "b.nii")
    assert not (tmp_path / "b.nii").exists()


@pytest.mark.parametrize("package, name", [("nibabel", "a.nii"), ("pydicom", "a.dcm")])
def test_without_the_extra(tmp_path, monkeypatch, package, name):
    (tmp_path / name).write_bytes(b"x" * 200)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"need {package}: pip install 'sfumato\[medical\]'"):
        medical.read(tmp_path / name)
