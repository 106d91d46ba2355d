"""DICOM files made by tests."""

from __future__ import annotations

import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra medical")


def dicom(path, array, *, position=(0.0, 0.0, 0.0), number=1, series="1.2.3", **fields):
    """A slice, or frames, at `path`; further fields take the place of these."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = fields.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    data = pydicom.dataset.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = (
        meta.MediaStorageSOPClassUID,
        f"1.2.3.4.{number}",
        series,
    )
    data.Modality, data.InstanceNumber, data.PatientName = "MR", number, "Nobody"
    data.Rows, data.Columns = array.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = 8 * array.dtype.itemsize
    data.BitsStored, data.PixelRepresentation = data.BitsAllocated, int(array.dtype.kind == "i")
    data.HighBit = data.BitsStored - 1
    data.PixelSpacing, data.SliceThickness = [0.8, 0.5], 4.0
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 0.6, 0.8], list(position)
    if array.ndim == 3:
        data.NumberOfFrames = len(array)
    for name, value in fields.items():
        setattr(data, name, value)
    data.PixelData = array.tobytes()
    data["PixelData"].VR = "OW" if array.dtype.itemsize > 1 else "OB"
    data.save_as(path, enforce_file_format=True)
    return path
