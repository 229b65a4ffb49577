"""DICOM images: the standard's grey-scale pipeline, every depth and colour, bright is high."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from bad_dicom import bad_dicom
from dicom_files import as_bytes, dicom, item, lut, ramp, save, sequence
from plainfilm.data.dicom.greyscale import Ramp
from plainfilm.data.images import REASONS, ImageLimits, ImageRef, read_image
from plainfilm.data.windows import parse_window
from plainfilm.data.workers import decode_images
from plainfilm.errors import ImageError, UsageError

SHIPPED = Path(pydicom.data.__file__).parent / "test_files"


def pixels_of(dataset, **how):
    return read_image(as_bytes(dataset), **how)[0]


def notes_of(dataset, **how):
    return read_image(as_bytes(dataset), **how)[1].notes


def frame_of(path: Path, frame: int, window: str = "file"):
    return read_image(ImageRef(path, row=frame, window=window))[0]


# --- grey values --------------------------------------------------------------------------------------------


def test_plain_12_bit_samples_fill_the_range_and_keep_every_step():
    stored = ramp()
    shown, record = read_image(as_bytes(dicom(stored, BitsStored=12)))

    assert shown.dtype == np.uint16
    np.testing.assert_array_equal(shown, np.round(stored.astype(float) * 65535 / 4095))
    assert len(np.unique(shown)) == len(np.unique(stored))
    assert (record.format, record.mode, record.bits) == ("DICOM", "MONOCHROME2", 12)


def test_without_a_window_12_bit_samples_are_as_in_a_png():
    stored = ramp()

    np.testing.assert_array_equal(pixels_of(dicom(stored, BitsStored=12), window="none"), stored)


def test_8_bit_samples_stay_as_they_are():
    stored = ramp("u1", 255)

    np.testing.assert_array_equal(pixels_of(dicom(stored)), stored)
    np.testing.assert_array_equal(pixels_of(dicom(stored, WindowCenter=128, WindowWidth=256)), stored)


def test_monochrome1_is_inverted_so_that_bright_is_high():
    stored = ramp()
    image = dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1")

    np.testing.assert_array_equal(pixels_of(image), pixels_of(dicom(stored[::-1, ::-1], BitsStored=12)))
    np.testing.assert_array_equal(pixels_of(image, window="none"), 4095 - stored)
    assert "monochrome1" in notes_of(image)


def test_inversion_comes_after_the_window():
    stored = ramp()
    windowed = {"BitsStored": 12, "WindowCenter": 1000, "WindowWidth": 500}
    straight = pixels_of(dicom(stored, **windowed)).astype(int)
    inverted = pixels_of(dicom(stored, PhotometricInterpretation="MONOCHROME1", **windowed)).astype(int)
    by_shape = pixels_of(dicom(stored, PresentationLUTShape="INVERSE", **windowed)).astype(int)

    assert np.abs(straight + inverted - 65535).max() <= 1
    np.testing.assert_array_equal(inverted, by_shape)


def test_rescale_then_window_then_inversion_in_that_order():
    stored = ramp()
    image = dicom(
        stored, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400,
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    expected = 1 - np.clip((stored * 2.0 - 1024 - 39.5) / 399 + 0.5, 0, 1)

    np.testing.assert_array_equal(pixels_of(image), np.round(expected * 65535))
    assert notes_of(image)[-3:] == ("rescale", "window", "monochrome1")


def test_a_window_that_is_given_replaces_the_files_own():
    stored = ramp()
    image = dicom(stored, BitsStored=12, RescaleIntercept=-1024, RescaleSlope=1, WindowCenter=0, WindowWidth=10)
    other = dicom(stored, BitsStored=12, RescaleIntercept=-1024, RescaleSlope=1, WindowCenter=40, WindowWidth=80)

    np.testing.assert_array_equal(pixels_of(image, window="40/80"), pixels_of(other))
    np.testing.assert_array_equal(pixels_of(image, window="brain"), pixels_of(other))


def test_the_second_window_of_a_file_can_be_chosen():
    stored = ramp()
    image = dicom(stored, BitsStored=12, WindowCenter=[500, 2000], WindowWidth=[100, 1000])

    np.testing.assert_array_equal(pixels_of(image), pixels_of(image, window="file:1"))
    np.testing.assert_array_equal(pixels_of(image, window="file:2"), pixels_of(image, window="2000/1000"))
    with pytest.raises(ImageError) as caught:
        pixels_of(image, window="file:3")
    assert caught.value.code == "DCM_WINDOW"


def test_ct_without_a_window_stays_in_hounsfield_units():
    stored = ramp()
    shown = pixels_of(dicom(stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024))

    assert shown.dtype == np.float32
    np.testing.assert_array_equal(shown, stored.astype(np.float32) - 1024)


def test_signed_samples_keep_their_sign():
    stored = (ramp().astype("i2") - 2048).astype("i2")

    np.testing.assert_array_equal(pixels_of(dicom(stored, BitsStored=12)), stored)
    np.testing.assert_array_equal(
        pixels_of(dicom(stored, BitsStored=12, WindowCenter=0, WindowWidth=1000)),
        np.round(np.clip((stored + 0.5) / 999 + 0.5, 0, 1) * 65535),
    )


@pytest.mark.parametrize("signed", [False, True])
def test_dirty_high_bits_do_not_count(signed):
    clean = ramp().astype("i2") - (2048 if signed else 0)
    dirt = np.random.default_rng(0).integers(0, 16, clean.shape).astype("u2") << 12
    dirty = ((clean.astype("u2") & 0x0FFF) | dirt).astype("i2" if signed else "u2")
    kind = "i2" if signed else "u2"
    shown, record = read_image(as_bytes(dicom(dirty.astype(kind), BitsStored=12)))

    np.testing.assert_array_equal(shown, pixels_of(dicom(clean.astype(kind), BitsStored=12)))
    assert "unused-bits" in record.notes


def test_a_shifted_high_bit_is_brought_back():
    stored = ramp()
    shifted = dicom((stored << 4).astype("u2"), BitsStored=12, HighBit=15)

    np.testing.assert_array_equal(pixels_of(shifted), pixels_of(dicom(stored, BitsStored=12)))
    with pytest.raises(ImageError) as caught:
        pixels_of(dicom(stored, BitsStored=12, HighBit=15))
    assert caught.value.code == "DCM_DEPTH"


def test_padding_is_dark_whatever_the_inversion():
    stored = ramp()
    stored[:8] = 0
    image = dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    shown, record = read_image(as_bytes(image))

    assert (shown[:8] == 0).all()
    assert "pixel-padding" in record.notes


def test_modality_and_voi_tables_are_looked_up():
    stored = ramp("u1", 255)
    curve = (np.arange(256) ** 2).astype("u2")
    by_modality = pixels_of(dicom(stored, ModalityLUTSequence=sequence(lut(curve))))
    by_voi = pixels_of(dicom(stored, VOILUTSequence=sequence(lut(curve >> 4, bits=12))))

    np.testing.assert_array_equal(by_modality, curve[stored])
    np.testing.assert_array_equal(by_voi, np.round((curve >> 4)[stored] * 65535.0 / 4095))


def test_a_sigmoid_and_an_exact_window():
    stored = ramp()
    windowed = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 1024}
    sigmoid = pixels_of(dicom(stored, VOILUTFunction="SIGMOID", **windowed))
    exact = pixels_of(dicom(stored, VOILUTFunction="LINEAR_EXACT", **windowed))

    np.testing.assert_array_equal(sigmoid, np.round(65535 / (1 + np.exp(-4 * (stored.astype(float) - 2048) / 1024))))
    np.testing.assert_array_equal(exact, np.round(np.clip((stored.astype(float) - 2048) / 1024 + 0.5, 0, 1) * 65535))


@settings(max_examples=50, deadline=None)
@given(st.floats(-1000, 5000), st.floats(1, 4000), st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
def test_a_window_keeps_the_order_of_grey_values(center, width, function):
    shown = Ramp(center, width, function).apply(np.arange(-1024.0, 4096.0))

    assert (np.diff(shown) >= 0).all()
    assert shown.min() >= 0
    assert shown.max() <= 1


@pytest.mark.parametrize("text", ["", "files", "file:0", "40", "40/0", "40/-5", "a/b", "none:2", "40/80/1"])
def test_a_window_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert caught.value.code == "OPT_WINDOW"


# --- frames and colours -------------------------------------------------------------------------------------


def test_each_frame_is_an_image_and_one_must_be_named(tmp_path):
    frames = np.stack([ramp("u1", 255), ramp("u1", 255)[::-1]])
    path = save(dicom(frames), tmp_path / "film.dcm")

    np.testing.assert_array_equal(frame_of(path, 0), frames[0])
    np.testing.assert_array_equal(frame_of(path, 1), frames[1])
    for ref, code in ((path, "IMG_MULTIFRAME"), (ImageRef(path, row=2), "DCM_FRAMES")):
        with pytest.raises(ImageError) as caught:
            read_image(ref)
        assert caught.value.code == code


def test_an_enhanced_file_gives_each_frame_its_own_rescale_and_window(tmp_path):
    frames = np.stack([ramp(), ramp()])
    groups = [
        item(
            PixelValueTransformationSequence=sequence(item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")),
            FrameVOILUTSequence=sequence(item(WindowCenter=center, WindowWidth=1000)),
        )
        for slope, center in ((1, 1000), (2, 3000))
    ]
    path = save(dicom(frames, BitsStored=12, PerFrameFunctionalGroupsSequence=sequence(*groups)), tmp_path / "a.dcm")
    shared = item(FrameVOILUTSequence=sequence(item(WindowCenter=1000, WindowWidth=1000)))
    same = save(dicom(frames, BitsStored=12, SharedFunctionalGroupsSequence=sequence(shared)), tmp_path / "b.dcm")

    np.testing.assert_array_equal(frame_of(path, 0), pixels_of(dicom(frames[0], BitsStored=12), window="1000/1000"))
    doubled = dicom(frames[1], BitsStored=12, RescaleSlope=2, RescaleIntercept=0)
    np.testing.assert_array_equal(frame_of(path, 1), pixels_of(doubled, window="3000/1000"))
    np.testing.assert_array_equal(frame_of(same, 1), frame_of(path, 0))


def test_frames_of_single_bits_need_not_begin_at_a_byte(tmp_path):
    frames = np.random.default_rng(0).integers(0, 2, (3, 9, 11)).astype(np.uint8)
    image = dicom(frames, BitsAllocated=1, BitsStored=1)
    packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
    image.PixelData = packed + b"\0" * (len(packed) % 2)
    path = save(image, tmp_path / "bits.dcm")

    for number in range(3):
        np.testing.assert_array_equal(frame_of(path, number), frames[number] * 255)


def test_colour_planes_and_equal_channels():
    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    planes = dicom(colour, PlanarConfiguration=1, PixelData=np.moveaxis(colour, -1, 0).tobytes())
    grey = ramp("u1", 255)

    np.testing.assert_array_equal(pixels_of(planes), pixels_of(dicom(colour)))
    np.testing.assert_array_equal(pixels_of(dicom(np.stack([grey] * 3, axis=-1))), grey)


def palette(bits: int, **more):
    values = np.arange(256) * (257 if bits == 16 else 1)
    image = dicom(ramp("u1", 255), PhotometricInterpretation="PALETTE COLOR", **more)
    for number, name in enumerate(("Red", "Green", "Blue")):
        setattr(image, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        image.add_new(0x00281201 + number, "OW", values.astype("<u2" if bits == 16 else "u1").tobytes())
    return image


def test_a_palette_is_looked_up():
    np.testing.assert_array_equal(pixels_of(palette(8)), ramp("u1", 255))
    np.testing.assert_array_equal(pixels_of(palette(16)), ramp("u1", 255).astype("u2") * 257)


def test_a_segmented_palette_is_expanded():
    image = palette(16)
    # 0 once; a slope to 65535 over 255 values
    segments = np.array([0, 1, 0, 1, 255, 65535], dtype="<u2").tobytes()
    for number in range(3):
        del image[0x00281201 + number]
        image.add_new(0x00281221 + number, "OW", segments)

    np.testing.assert_array_equal(pixels_of(image), ramp("u1", 255).astype("u2") * 257)


def test_float_pixels_stay_floats():
    stored = np.linspace(-1, 1, 64 * 64).astype("<f4").reshape(64, 64)
    image = dicom(ramp(), BitsAllocated=32, BitsStored=None, HighBit=None, PixelData=None)
    image.FloatPixelData = stored.tobytes()

    np.testing.assert_array_equal(pixels_of(image), stored)


# --- how files are written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_the_way_elements_are_written_does_not_change_a_pixel(syntax):
    np.testing.assert_array_equal(
        pixels_of(dicom(ramp(), syntax=syntax, BitsStored=12)), pixels_of(dicom(ramp(), BitsStored=12))
    )


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1", ExplicitVRBigEndian])
def test_a_file_without_preamble_or_header_is_known_by_its_elements(syntax):
    bare = as_bytes(dicom(ramp(), syntax=syntax, BitsStored=12), preamble=False)
    shown, record = read_image(bare)

    np.testing.assert_array_equal(shown, pixels_of(dicom(ramp(), BitsStored=12)))
    assert {"no-preamble", "syntax-guessed"} <= set(record.notes)


def test_a_program_before_the_mark_is_never_looked_at():
    data = as_bytes(dicom(ramp("u1", 255)))

    np.testing.assert_array_equal(read_image(b"MZ\x90\0".ljust(128, b"\1") + data[128:])[0], ramp("u1", 255))


def test_dicom_under_the_name_of_a_png_is_read_with_a_note(tmp_path):
    path = save(dicom(ramp("u1", 255)), tmp_path / "image.png")

    assert "wrong-extension" in read_image(path)[1].notes
    assert "wrong-extension" not in read_image(path.rename(tmp_path / "1.2.840.3"))[1].notes


def test_the_header_alone_is_held_against_the_limits():
    with pytest.raises(ImageError) as caught:
        read_image(as_bytes(dicom(ramp())), limits=ImageLimits(max_pixels=1000))
    assert caught.value.code == "IMG_TOO_LARGE"


# --- against another reader ---------------------------------------------------------------------------------


def by_pydicom(path: Path, frame: int):
    """Grey in [0, 1] as pydicom's own pipeline has it; None where it has no window, or the file is in colour."""
    dataset = pydicom.dcmread(path)
    if dataset.SamplesPerPixel != 1 or ("WindowWidth" not in dataset and "VOILUTSequence" not in dataset):
        return None
    stored = dataset.pixel_array
    stored = stored[frame] if stored.ndim == 3 else stored
    seen = pydicom.pixels.apply_windowing(pydicom.pixels.apply_modality_lut(stored, dataset), dataset)
    low, high = limits_of(dataset)
    shown = (seen - low) / (high - low)
    return 1 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def limits_of(dataset):
    """The range that pydicom's windows fill."""
    bits = dataset.BitsStored
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dataset.PixelRepresentation else (0, (1 << bits) - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def test_windowed_files_that_ship_with_pydicom_are_as_pydicom_shows_them():
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(SHIPPED.rglob("*")):
            try:
                shown, record = read_image(ImageRef(path))
            except ImageError:
                continue
            expected = by_pydicom(path, 0) if record.format == "DICOM" and "pixel-padding" not in record.notes else None
            if expected is not None:
                compared += 1
                assert np.abs(shown / 65535 - expected).max() <= 1 / 65535, path.name

    assert compared >= 35


def test_what_is_cut_short_anywhere_is_refused_by_a_code():
    data = as_bytes(dicom(ramp("u1", 255), WindowCenter=100, WindowWidth=100))
    for end in range(140, len(data) - 1, 97):
        with pytest.raises(ImageError) as caught:
            read_image(data[:end])
        assert caught.value.code.startswith(("DCM_", "IMG_"))
    assert struct.unpack("<H", data[132:134]) == (2,)


# --- what is refused ----------------------------------------------------------------------------------------


def test_every_bad_file_is_refused_with_its_code_within_its_bounds(tmp_path):
    listed = bad_dicom(tmp_path)
    limits = ImageLimits(max_seconds=5, max_memory_bytes=512 * 2**20)
    refs = [ImageRef(bad.path) for bad in listed]
    found = {one.index: one for one in decode_images(refs, limits=limits, workers=1)}
    for index in [index for index, one in found.items() if one.code == "IMG_TIMEOUT"]:  # a busy machine: once more
        found[index] = next(decode_images([refs[index]], limits=limits, workers=1))

    assert len(listed) >= 70
    assert {listed[index].name: one.code for index, one in found.items()} == {bad.name: bad.code for bad in listed}
    assert all(one.detail.endswith(REASONS[one.code]) for one in found.values())
    assert not any(str(tmp_path) in one.detail or "Nobody" in one.detail for one in found.values())
