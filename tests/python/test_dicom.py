"""DICOM images: synthetic data sets against the formulas of the standard, and the files that come with pydicom."""

import io
import pathlib

import libxai
import libxai.dicom
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage  # noqa: E402

FILES = pathlib.Path(pydicom.__file__).parent / "data/test_files"
PHANTOM = pathlib.Path(__file__).resolve().parents[2] / "examples/phantom/models"


def make(pixels, bits=16, signed=False, **attributes):
    """A data set of stored values (H, W) or (F, H, W)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = 8 if bits <= 8 else 16
    made.BitsStored, made.HighBit, made.PixelRepresentation = bits, bits - 1, int(signed)
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.astype(("i" if signed else "u") + ("1" if bits <= 8 else "2")).tobytes()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


STORED = np.array([[0, 100, 1000], [2000, 3000, 4095]])


def test_rescale_and_window_of_12_bits():
    image = libxai.dicom.read(
        make(STORED, 12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=976, WindowWidth=4001)
    )
    assert np.array_equal(image.values, STORED * 2.0 - 1024)
    # PS3.3 C.11.2.1.2: ((x - (c - 0.5)) / (w - 1) + 0.5), cut to [0, 1]
    expected = np.clip((STORED * 2.0 - 1024 - 975.5) / 4000 + 0.5, 0, 1)
    assert np.allclose(image.grey, expected, atol=1e-6) and image.window == (976, 4001)
    assert image.grey[0, 0] == pytest.approx(0.5 / 4000, abs=1e-7) and image.grey[1, 2] == 1


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_pydicom(function):
    dataset = make(STORED, 12, WindowCenter=1500, WindowWidth=1800, VOILUTFunction=function)
    theirs = pydicom.pixels.apply_windowing(STORED, dataset) / 4095
    assert np.allclose(libxai.dicom.read(dataset).grey, theirs, atol=1e-6)


def test_signed_values():
    stored = STORED - 2000
    image = libxai.dicom.read(make(stored, 16, signed=True))
    assert np.array_equal(image.values, stored)
    assert np.allclose(image.grey, (stored + 2000) / 4095, atol=1e-6)  # the whole range


def test_monochrome1_is_turned_around():
    plain = libxai.dicom.read(make(STORED, 12))
    turned = libxai.dicom.read(make(STORED, 12, PhotometricInterpretation="MONOCHROME1"))
    assert np.allclose(turned.grey, 1 - plain.grey, atol=1e-7)
    assert np.array_equal(turned.values, plain.values)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_widens_no_window(photometric):
    stored = STORED.copy()
    stored[0, 0], stored[1, 2] = 65535, 65534
    attributes = {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 65534, "PhotometricInterpretation": photometric}
    image = libxai.dicom.read(make(stored, 16, **attributes))
    assert np.array_equal(image.valid, [[False, True, True], [True, True, False]])
    assert image.grey[0, 0] == image.grey[1, 2] == 0
    darkest, brightest = (100, 3000) if photometric == "MONOCHROME2" else (3000, 100)
    assert image.grey[stored == darkest] == 0 and image.grey[stored == brightest] == 1


def test_voi_lut():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 1, 8], [0, 51, 102, 255]
    dataset = make(np.array([[0, 1, 2], [3, 4, 9]]), 8, VOILUTSequence=[table])
    assert np.allclose(libxai.dicom.read(dataset).grey, np.array([[0, 0, 51], [102, 255, 255]]) / 255)


def test_modality_lut():
    table = Dataset()
    table.LUTDescriptor, table.LUTData, table.ModalityLUTType = [3, 0, 16], [10, 500, 1000], "US"
    dataset = make(np.array([[0, 1, 2]]), 8, ModalityLUTSequence=[table])
    assert np.array_equal(libxai.dicom.read(dataset).values, [[10, 500, 1000]])


def test_frames_and_their_windows():
    frames = np.stack([STORED, STORED[::-1]])
    shared, per_frame = Dataset(), []
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.25]
    for centre in (1000, 3000):
        groups = Dataset()
        groups.FrameVOILUTSequence = [Dataset()]
        groups.FrameVOILUTSequence[0].WindowCenter = centre
        groups.FrameVOILUTSequence[0].WindowWidth = 501
        per_frame.append(groups)
    dataset = make(frames, 12, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=per_frame)
    image = libxai.dicom.read(dataset)
    assert image.values.shape == image.grey.shape == image.valid.shape == (2, 2, 3)
    for i, centre in enumerate((1000, 3000)):
        one = libxai.dicom.read(dataset, frame=i)
        assert one.window == (centre, 501) and np.array_equal(one.grey, image.grey[i])
        assert np.allclose(one.grey, np.clip((frames[i] - centre + 0.5) / 500 + 0.5, 0, 1), atol=1e-6)
    assert image.spacing == (0.5, 0.25) and image.spacing_source == "PixelSpacing"
    with pytest.raises(ValueError, match="frame"):
        libxai.dicom.read(dataset, frame=2)


def test_chosen_windows():
    dataset = make(STORED, 12, WindowCenter=[100, 2000], WindowWidth=[51, 1001])
    assert libxai.dicom.read(dataset).window == (100, 51)
    assert libxai.dicom.read(dataset, window=1).window == (2000, 1001)
    assert libxai.dicom.read(dataset, window=(40, 400)).window == (40, 400)
    with pytest.raises(ValueError, match="window"):
        libxai.dicom.read(dataset, window=2)


def test_millimetres():
    image = libxai.dicom.read(make(np.zeros((40, 60)), 8, PixelSpacing=[0.2, 0.3]))
    assert image.shape == (40, 60)
    assert image.spacing_of(np.zeros((10, 20))) == pytest.approx((0.8, 0.9))
    mask = np.zeros((10, 20), bool)
    mask[2:4, 5:10] = True
    assert image.area(mask) == pytest.approx(10 * 0.8 * 0.9)
    assert image.area(np.ones((10, 20), bool)) == pytest.approx(40 * 0.2 * 60 * 0.3)  # the whole picture
    assert image.fit(mask).shape == (40, 60) and image.fit(np.ones((10, 20))).min() == 1
    detector = libxai.dicom.read(make(STORED, 12, ImagerPixelSpacing=[0.1, 0.1]))
    assert detector.spacing_source == "ImagerPixelSpacing" and "detector" in detector.warnings[0]
    with pytest.raises(libxai.UnsupportedError, match="how large"):
        libxai.dicom.read(make(STORED, 12)).area(mask)


def test_into_a_model(tmp_path):
    model = libxai.Model(PHANTOM / "chest.onnx")
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 260))
    path = tmp_path / "a.dcm"
    dataset = make(pixels, 12, PixelSpacing=[0.4, 0.4], WindowCenter=2048, WindowWidth=4096)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.save_as(path, enforce_file_format=True)
    image = libxai.dicom.read(path)
    x = model.prepare(image.grey)
    assert x.shape == (1, 128, 128)
    assert np.allclose(x, model.prepare(pixels.astype(np.uint16), 0, 4095), atol=1e-5)
    found = libxai.explain(model, x, "gradcam", 0)
    area = image.area(np.ones_like(found.map))
    assert area == pytest.approx(300 * 0.4 * 260 * 0.4)


# Name, photometric interpretation, shape: the transfer syntaxes that pylibjpeg and pydicom decode.
@pytest.mark.parametrize(
    "name",
    ["implicit", "expb", "bigendian", "RLE", "jp2klossless", "jpeg_ls_lossless", "padded"],
)
def test_lossless_transfer_syntaxes_agree(name):
    plain = libxai.dicom.read(FILES / "MR_small.dcm")
    try:
        other = libxai.dicom.read(FILES / f"MR_small_{name}.dcm")
    except libxai.UnsupportedError as error:
        pytest.skip(f"no decoder: {error}")
    assert np.array_equal(plain.values, other.values) and np.array_equal(plain.grey, other.grey)
    assert other.spacing == (0.3125, 0.3125) and other.modality == "MR"


@pytest.mark.parametrize("name", ["cy+n1", "cy+n2", "cy+np", "cy+s2", "cy+s4"])
def test_colour_spaces_agree(name):
    rgb = libxai.dicom.read(FILES / "SC_rgb_dcmtk_+eb+cr.dcm")
    other = libxai.dicom.read(FILES / f"SC_rgb_dcmtk_+eb+{name}.dcm")
    assert rgb.grey.shape == (100, 100, 3)
    # JPEG at quality 90 and halved colours: 8 % at the edges, less within.
    assert np.abs(rgb.grey - other.grey).mean() < 0.02


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(libxai.FormatError, match="not a DICOM file"):
        libxai.dicom.read(__file__)
    with pytest.raises(libxai.FormatError, match="no image"):
        libxai.dicom.read(FILES / "test-SR.dcm")
    with pytest.raises(libxai.FileError):
        libxai.dicom.read(tmp_path / "absent.dcm")
    with pytest.raises(libxai.LibXaiError):
        libxai.dicom.read(FILES / "MR_truncated.dcm")


def encapsulated(frames, syntax, **attributes):
    """A data set of frames compressed here, by Pillow or below: by none of the decoders under test."""
    made = make(np.stack([each for each, _ in frames]), **attributes)
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = pydicom.encaps.encapsulate([data for _, data in frames])
    made["PixelData"].is_undefined_length = True
    return made


def compress(pixels, **options):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    file = io.BytesIO()
    try:
        image.fromarray(pixels).save(file, **options)
    except (OSError, KeyError) as error:
        pytest.skip(f"Pillow cannot write it: {error}")
    return file.getvalue()


def read_or_skip(dataset, **options):
    try:
        return libxai.dicom.read(dataset, **options)
    except libxai.UnsupportedError as error:
        pytest.skip(f"no decoder: {error}")


def test_frames_of_12_bits_in_jpeg_2000():
    """Lossless: every stored value, rescale, window and padding of every frame come out."""
    stored = np.random.default_rng(0).integers(0, 4096, (3, 40, 56)).astype(np.uint16)
    stored[:, :4] = 4095  # padding
    frames = [(each, compress(each, format="JPEG2000", irreversible=False, no_jp2=True)) for each in stored]
    attributes = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 500, "WindowWidth": 1501}
    image = read_or_skip(
        encapsulated(frames, pydicom.uid.JPEG2000Lossless, bits=12, PixelPaddingValue=4095, **attributes)
    )
    assert np.array_equal(image.values, stored - 1024.0)
    assert np.array_equal(image.valid, stored != 4095)
    expected = np.clip((stored - 1024.0 - 499.5) / 1500 + 0.5, 0, 1)  # PS3.3 C.11.2.1.2
    assert np.allclose(image.grey, np.where(stored == 4095, 0, expected), atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_baseline_jpeg_of_a_radiograph(photometric):
    """As most films were digitised: 8 bits, lossy, and 0 may be white."""
    import PIL.Image

    y, x = np.mgrid[0:64, 0:96]
    pixels = (120 + 100 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint8)
    data = compress(pixels, format="JPEG", quality=90)
    decoded = np.asarray(PIL.Image.open(io.BytesIO(data)), float)
    attributes = {"PhotometricInterpretation": photometric, "PixelSpacing": [0.168, 0.168]}
    image = read_or_skip(encapsulated([(pixels, data)], pydicom.uid.JPEGBaseline8Bit, bits=8, **attributes))
    assert (
        image.values.shape == (64, 96) and np.abs(image.values - decoded).max() <= 1
    )  # two decoders may round differently
    low, high = image.values.min(), image.values.max()
    shown = (image.values - low) / (high - low)
    assert np.allclose(image.grey, shown if photometric == "MONOCHROME2" else 1 - shown, atol=1e-6)
    assert image.spacing == (0.168, 0.168) and image.area(np.ones((8, 12), bool)) == pytest.approx(64 * 96 * 0.168**2)


def test_frames_of_32_bits_in_rle():
    plain, other = (read_or_skip(FILES / name) for name in ("rtdose.dcm", "rtdose_rle.dcm"))
    assert plain.values.shape == (15, 10, 10) and plain.values.max() > 0
    assert np.array_equal(plain.values, other.values) and np.array_equal(plain.grey, other.grey)


def lossless_jpeg(planes, bits, predictor=1, restart=0):
    """Write JPEG process 14 (ITU T.81, annex H): planes (C, H, W), interleaved, one Huffman table for all.

    `restart`: lines between restart markers.
    """
    components, height, width = planes.shape
    # Categories 0 to 16 with codes of five bits each: as good as any table for a test. None is all ones.
    table = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    segment = lambda marker, body: bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body  # noqa: E731
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    frame = bytes([bits]) + size + bytes([components])
    frame += b"".join(bytes([c + 1, 0x11, 0]) for c in range(components))
    scan = bytes([components]) + b"".join(bytes([c + 1, 0]) for c in range(components)) + bytes([predictor, 0, 0])
    out = b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, b"\0" + table)
    if restart:
        out += segment(0xDD, (restart * width).to_bytes(2, "big"))
    out += segment(0xDA, scan)
    pixels, digits, interval = planes.astype(int), [], 0
    for y in range(height):
        if restart and y and y % restart == 0:
            out += entropy_coded(digits) + bytes([0xFF, 0xD0 + interval % 8])
            digits, interval = [], interval + 1
        first = y == 0 or (restart and y % restart == 0)
        for x in range(width):
            for plane in pixels:
                if x == 0:
                    predicted = 1 << (bits - 1) if first else plane[y - 1, 0]
                elif first:
                    predicted = plane[y, x - 1]
                else:
                    a, b, c = plane[y, x - 1], plane[y - 1, x], plane[y - 1, x - 1]
                    ways = [a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1]
                    predicted = ways[predictor - 1]
                difference = (plane[y, x] - predicted + 32768) % 65536 - 32768
                category = int(abs(difference)).bit_length()  # 16 only for -32768, which has no further bits
                digits.append(f"{category:05b}")
                if 0 < category < 16:
                    digits.append(f"{difference if difference > 0 else difference + (1 << category) - 1:0{category}b}")
    return out + entropy_coded(digits) + b"\xff\xd9"


def entropy_coded(digits):
    text = "".join(digits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")


SV1, PROCESS_14 = pydicom.uid.JPEGLosslessSV1, pydicom.uid.JPEGLossless


@pytest.mark.parametrize("syntax, predictor", [(SV1, 1), *[(PROCESS_14, k) for k in range(1, 8)]])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg(bits, syntax, predictor):
    """1.2.840.10008.1.2.4.70 and .57, as most archives hold radiographs: every stored value comes out."""
    rng = np.random.default_rng(bits)
    y, x = np.mgrid[0:37, 0:41]
    stored = ((np.sin(x / 9) * np.cos(y / 7) + 1) * 2 ** (bits - 2)).astype(int) + rng.integers(0, 9, (37, 41))
    stored[:4] = rng.integers(0, 2**bits, (4, 41))  # the largest differences, too
    stored[0, :4] = 0, 2**bits - 1, 0, 2 ** (bits - 1)
    made = encapsulated(
        [(stored, lossless_jpeg(stored[None], bits, predictor))],
        syntax,
        bits=bits,
        RescaleSlope=0.5,
        RescaleIntercept=-3,
        PixelSpacing=[0.143, 0.143],
        PhotometricInterpretation="MONOCHROME1",
    )
    image = read_or_skip(made)
    assert np.array_equal(image.values, stored * 0.5 - 3)
    assert np.allclose(image.grey, 1 - stored / (2**bits - 1), atol=1e-6)
    assert image.spacing == (0.143, 0.143)


def test_frames_and_restarts_in_lossless_jpeg():
    rng = np.random.default_rng(2)
    stored = rng.integers(0, 4096, (3, 16, 20))
    data = [lossless_jpeg(each[None], 12, restart=4 * i) for i, each in enumerate(stored)]
    image = read_or_skip(encapsulated(list(zip(stored, data, strict=True)), SV1, bits=12))
    assert np.array_equal(image.values, stored)


def test_colour_in_lossless_jpeg():
    """Written here, and by GDCM: two files that come with pydicom hold one picture."""
    stored = np.random.default_rng(3).integers(0, 256, (3, 12, 18))
    made = encapsulated([(stored[0], lossless_jpeg(stored, 8))], SV1, bits=8)
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    assert np.allclose(read_or_skip(made).grey, stored.transpose(1, 2, 0) / 255, atol=1e-7)
    theirs, other = (read_or_skip(FILES / name) for name in ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"))
    assert theirs.grey.shape == (100, 100, 3) and np.array_equal(theirs.grey, other.grey)
    bars = [[255, 0, 0], [255, 128, 128], [0, 255, 0], [128, 255, 128], [0, 0, 255], [128, 128, 255]]
    assert np.allclose(theirs.grey[5:65:10, 50], np.array(bars) / 255)
