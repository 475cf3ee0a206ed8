from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from support.images import encoded, gradient, noisy_image

from gluondense.data.files import decode as module
from gluondense.data.files.decode import JPEGHeader, decode


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def worst(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


def test_common_files_equal_pillow():
    for data in (
        encoded(gradient()),
        encoded(gradient(), progressive=True),
        encoded(gradient("L")),
    ):
        assert worst(decode(data, "a"), pillow(data)) <= 2  # two builds of libjpeg
    for data in (encoded(gradient(), "PNG"), encoded(gradient("L"), "PNG")):
        np.testing.assert_array_equal(decode(data, "a"), pillow(data))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("1", "PNG"), ("RGB", "WEBP")],
)
def test_other_modes_and_formats(mode, kind):
    image = gradient(mode)
    found = decode(encoded(image, kind), "a")
    assert found.shape == (40, 60, 3)
    assert found.dtype == np.uint8
    assert worst(found, np.asarray(image.convert("RGB"))) <= 12


def test_sixteen_bits_are_scaled_not_clipped():
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = decode(encoded(Image.fromarray(grey), "PNG"), "a")
    assert worst(found, np.dstack([np.rint(grey / 257)] * 3)) == 0
    color = cv2.imencode(".png", np.dstack([grey, grey * 0, grey[::-1]]))[1].tobytes()
    assert decode(color, "a")[..., 1].max() == 0
    assert decode(color, "a")[..., 2].max() == 255


def test_transparency_becomes_black():
    image = gradient("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert decode(encoded(image, "PNG"), "a").max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(gradient(), exif=exif)
    assert JPEGHeader.read(data).oriented
    upright = decode(data, "a")
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert upright.shape == expected.shape
    assert worst(upright, expected) <= 2


def test_reduced_decoding_keeps_the_requested_size():
    image = gradient(size=(400, 600))
    data = encoded(image)
    for at_least, height in ((0, 400), (400, 400), (201, 400), (200, 200), (99, 100), (10, 50)):
        found = decode(data, "a", at_least)
        assert found.shape == (height, height * 3 // 2, 3)
        resized = np.asarray(image.resize(found.shape[1::-1], Image.Resampling.BOX))
        assert worst(found, resized) <= 6


def test_unreadable_images_raise():
    data = encoded(gradient(size=(200, 300)))
    png = encoded(noisy_image(), "PNG")
    thumbnail = encoded(gradient(size=(8, 8)))
    head = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
    for bytes_, reason in [
        (b"", "is empty"),
        (data[: len(data) // 2], "is truncated"),
        (head[: len(head) // 2], "is truncated"),  # although its thumbnail is complete
        (png[: len(png) // 2], "not a readable image"),
        (b"not an image", "not an image in a format that Pillow knows"),
        (data[:300], "truncated|not a"),
        (encoded(noisy_image(), "PNG", exif=b"Exif\0\0MM\0*\0\xdf"), "not a readable image"),
    ]:
        with pytest.raises(ValueError, match=rf"the\.jpg.*({reason})"):
            decode(bytes_, "the.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_huge_images_raise_before_decoding(monkeypatch, kind):
    monkeypatch.setattr(module, "MAX_PIXELS", 40 * 60 - 1)
    with pytest.raises(ValueError, match="a has 40x60 pixels, more than 2399"):
        decode(encoded(gradient(), kind), "a")
