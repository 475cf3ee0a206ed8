"""Boxes of images in the network's input and back; the pixels that they surround."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gluondense.data.boxes import PADDING
from gluondense.data.preprocessing import IMAGENET, Preprocessing

SIDES = st.integers(1, 3000)


@pytest.mark.parametrize("resize", ["shorter", "exact", "letterbox"])
@given(height=SIDES, width=SIDES, seed=st.integers(0, 99))
def test_boxes_come_back(resize, height, width, seed):
    one = dataclasses.replace(IMAGENET, resize=resize, input_size=(416, 320))
    rng = np.random.default_rng(seed)
    low, high = rng.random((2, 20, 2))
    boxes = np.sort([low, high], axis=0).transpose(1, 0, 2).reshape(20, 4)
    boxes *= np.array([width, height] * 2)
    placement = one.placement(height, width)
    back = placement.to_original(placement.to_input(boxes).astype(np.float64), clip=False)
    # A float32 of the input has a resolution of 2^-15 at 416 pixels.
    scale = max(height / placement.resized[0], width / placement.resized[1])
    np.testing.assert_allclose(back, boxes, atol=1e-4 * max(scale, 1))


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (33, 500), (1, 1), (7, 416)])
def test_a_letterboxed_image_is_centered_and_as_large_as_it_fits(size):
    one = dataclasses.replace(IMAGENET, resize="letterbox", input_size=(416, 320))
    placement = one.placement(*size)
    (height, width), (top, left) = placement.resized, placement.offset
    assert (height == 416) or (width == 320)
    assert 0 <= 416 - height - 2 * top <= 1
    assert 0 <= 320 - width - 2 * left <= 1
    assert abs(height / width - size[0] / size[1]) < 0.5 / min(height, width) * height / width + 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["shorter", "exact", "letterbox"])
@pytest.mark.parametrize("size", [(120, 90), (50, 200)])
def test_the_pixels_of_a_box_are_where_its_box_is(resize, size, channels):
    one = Preprocessing((0.5,) * channels, (0.5,) * channels, input_size=(96, 64), resize=resize)
    image = np.zeros((*size, 3), np.uint8)
    left = size[1] // 2 - 15  # near the center, which "shorter" keeps
    box = np.array([left, 20.0, left + 30, 40.0])
    image[20:40, left : left + 30] = 255
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    pixels, placement = one.placed(file.getvalue())
    np.testing.assert_array_equal(pixels, one.pixels(file.getvalue()))
    rows, columns = np.nonzero(pixels.min(axis=2) > 127)
    x1, y1, x2, y2 = np.clip(placement.to_input(box), 0, [64, 96, 64, 96])
    found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(found, (x1, y1, x2, y2), atol=0.75)


def test_padding_is_gray_and_the_image_in_between_is_only_resized():
    one = Preprocessing((0.5,) * 3, (0.5,) * 3, input_size=(64, 64), resize="letterbox")
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 80, 3), dtype=np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    pixels = one.pixels(file.getvalue())
    expected = np.asarray(image.resize((64, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels[16:48], expected)
    assert (pixels[:16] == PADDING).all()
    assert (pixels[48:] == PADDING).all()
    assert one.describe().startswith("letterboxed to 64x64 (bilinear), RGB")
    assert Preprocessing.from_json(one.to_json()) == one


def test_boxes_are_clipped_to_the_image():
    one = dataclasses.replace(IMAGENET, resize="letterbox", input_size=416)
    placement = one.placement(480, 640)
    boxes = np.array([[-10.0, 0.0, 500.0, 416.0]])
    assert placement.to_original(boxes).tolist() == [[0, 0, 640, 480]]
    assert placement.to_original(boxes, clip=False)[0, 0] < 0
