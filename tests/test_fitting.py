"""Bringing images to one size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plainfilm.data.fitting import check_fit, fit_image
from plainfilm.errors import UsageError

sides = st.integers(1, 40)
dtypes = st.sampled_from([np.uint8, np.uint16, np.float32])
fits = st.sampled_from(["pad", "stretch"])


@st.composite
def images(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype = np.dtype(draw(dtypes))
    bounds = {"min_value": -1000, "max_value": 1000} if dtype.kind == "f" else {}
    return draw(hnp.arrays(dtype, st.tuples(sides, sides), elements=hnp.from_dtype(dtype, **bounds)))


@settings(deadline=None)
@given(images(), sides, sides, fits)
def test_the_result_has_the_size_the_dtype_and_no_new_extremes(image, height, width, fit):
    fitted = fit_image(image, height=height, width=width, fit=fit)
    slack = 1e-3 if image.dtype.kind == "f" else 0

    assert fitted.shape == (height, width)
    assert fitted.dtype == image.dtype
    assert image.min() - slack <= fitted.min()
    assert fitted.max() <= image.max() + slack


@settings(deadline=None)
@given(images(), fits)
def test_an_image_of_the_size_comes_back_bit_for_bit(image, fit):
    height, width = image.shape

    assert fit_image(image, height=height, width=width, fit=fit).tobytes() == image.tobytes()


@settings(deadline=None)
@given(images(), st.integers(0, 9), st.integers(0, 9))
def test_padding_alone_keeps_every_pixel(image, above_and_below, left_and_right):
    height, width = image.shape
    if height >= width:
        above_and_below = 0  # the longer side already fits
    else:
        left_and_right = 0
    padded = fit_image(image, height=height + 2 * above_and_below, width=width + 2 * left_and_right)
    inner = padded[above_and_below : above_and_below + height, left_and_right : left_and_right + width]

    assert np.array_equal(inner, image)
    assert padded.astype(float).sum() == pytest.approx(
        image.astype(float).sum() + (padded.size - image.size) * float(image.min()), rel=1e-6, abs=1e-3
    )


def test_the_border_is_even_and_has_the_minimum_of_the_image():
    image = np.full((10, 20), 9, np.uint16)
    image[5, 5] = 7
    padded = fit_image(image, height=15, width=20)

    assert (padded[:2] == 7).all()
    assert (padded[-3:] == 7).all()
    assert np.array_equal(padded[2:12], image)


def test_padding_keeps_the_aspect_ratio_and_stretching_does_not():
    disc = (np.hypot(*np.mgrid[-20:20, -20:20]) < 15).astype(np.float32)
    wide = np.pad(disc, ((0, 0), (20, 20)))
    padded = fit_image(wide, height=40, width=40, fit="pad")
    stretched = fit_image(wide, height=40, width=40, fit="stretch")

    def extent(image: np.ndarray[Any, Any]) -> tuple[int, int]:
        rows, columns = np.nonzero(image > 0.5)
        return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1

    assert extent(wide) == (29, 29)
    assert extent(padded) in ((14, 14), (15, 15))
    assert extent(stretched) in ((29, 14), (29, 15))


def test_shrinking_sees_every_pixel():
    stripes = np.zeros((64, 64), np.float32)
    stripes[:, ::8] = 800  # one column in eight; sampling every eighth would give 0 or 800

    assert np.allclose(fit_image(stripes, height=8, width=8)[:, 1:-1], 100, atol=15)


def test_shrinking_keeps_the_mean_of_16_bit_noise():
    noise = np.random.default_rng(0).integers(0, 65536, (120, 120), np.uint16)

    assert abs(fit_image(noise, height=30, width=30).mean() - noise.mean()) < 400


def test_values_are_rounded_and_not_cut():
    edge = np.array([[0, 255]], np.uint8)

    assert fit_image(edge, height=1, width=3, fit="stretch").tolist() == [[0, 128, 255]]


def test_unknown_fits_and_empty_sizes_are_refused():
    with pytest.raises(UsageError, match="Did you mean 'pad'"):
        check_fit("padd")
    with pytest.raises(UsageError, match="No fit named 'crop'"):
        fit_image(np.zeros((2, 2), np.uint8), height=1, width=1, fit="crop")
    with pytest.raises(UsageError, match="at least 1 x 1"):
        fit_image(np.zeros((2, 2), np.uint8), height=0, width=1)
