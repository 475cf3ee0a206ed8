from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from gluondense.data import read_image


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_grey_and_colour_are_exact_at_their_own_size(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = save(tmp_path / "grey.png", grey)
    np.testing.assert_array_equal(read_image(path, 1, (3, 4))[..., 0], grey)
    np.testing.assert_array_equal(read_image(path, 3, (3, 4)), grey[..., None].repeat(3, axis=2))
    colour = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    path = save(tmp_path / "colour.png", colour)
    np.testing.assert_array_equal(read_image(path, 3, (3, 4)), colour)
    assert read_image(path, 1, (3, 4)).shape == (3, 4, 1)


def test_size_is_height_and_width(tmp_path):
    path = save(tmp_path / "grey.png", np.full((30, 50), 9, np.uint8))
    image = read_image(path, 3, (7, 5))
    assert image.shape == (7, 5, 3)
    assert image.dtype == np.uint8
    assert (image == 9).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90° clockwise
    array = np.zeros((16, 32), np.uint8)
    array[:, :16] = 255
    path = save(tmp_path / "turned.jpg", array, exif=exif)
    image = read_image(path, 1, (32, 16))[..., 0]
    assert image[:14].min() > 200
    assert image[18:].max() < 50


def test_sixteen_bit_grey_is_scaled(tmp_path):
    path = save(tmp_path / "deep.png", np.array([[0, 257 * 100, 65535]], np.uint16))
    assert read_image(path, 1, (1, 3)).ravel().tolist() == [0, 100, 255]


def test_transparency_becomes_black(tmp_path):
    array = np.full((1, 2, 4), 255, np.uint8)
    array[0, 0, 3] = 0
    path = save(tmp_path / "clear.png", array)
    assert read_image(path, 1, (1, 2)).ravel().tolist() == [0, 255]


def error_of(path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_image(path, 1, (28, 28))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("lenient", [False, True])
def test_bad_files_are_named(tmp_path, monkeypatch, lenient):
    # GluonCV sets this for the whole process when it is imported.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    assert "no image" in error_of(tmp_path / "nothing.png")
    assert "is a folder" in error_of(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    assert "not an image in a format that Pillow knows" in error_of(tmp_path / "text.png")
    noise = np.random.RandomState(0).randint(0, 256, (64, 64)).astype(np.uint8)
    for name in ("cut.png", "cut.jpg"):
        path = save(tmp_path / name, noise)
        path.write_bytes(path.read_bytes()[:1500])
        assert "not a readable image" in error_of(path)


def test_a_length_beyond_the_memory_is_a_damaged_file(tmp_path, monkeypatch):
    """Pillow allocates the length that a chunk of a PNG claims to have."""

    def transpose(image):
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", transpose)
    path = save(tmp_path / "long.png", np.zeros((8, 8), np.uint8))
    assert "not a readable image (it needs too much memory)" in error_of(path)


def test_channels_must_be_grey_or_rgb(tmp_path):
    with pytest.raises(ValueError, match=r"channels \(=2\)"):
        read_image(tmp_path / "any.png", 2, (28, 28))


def test_fifos_and_devices_are_refused_without_reading_them(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "zero.jpg"):
        assert error_of(tmp_path / name).endswith(
            f"{name} is not a regular file; name an image file"
        )


def test_ghostscript_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *args, **kwargs: pytest.fail("it ran"))
    path = tmp_path / "image.jpg"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    with pytest.raises(ValueError, match=r"image\.jpg .*Pillow would run Ghostscript"):
        read_image(path, 3, (8, 8))
