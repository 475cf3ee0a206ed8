"""The description of a preprocessing, and the pixels that it computes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from benchmarking.workers.torch_peer import import_torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.images import encoded, gradient, noisy_image

from gluondense.data.preprocessing import CSP, IMAGENET, Preprocessing
from gluondense.data.transforms.batch import resize

GREY = Preprocessing((0.5,), (0.25,), input_size=(12, 20))
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def test_json_keeps_all_fields():
    for one in (IMAGENET, CSP, GREY, dataclasses.replace(GREY, resize="exact", source_size=(5, 6))):
        assert Preprocessing.from_json(one.to_json()) == one


def test_json_of_version_0_1_0_means_resize_and_crop():
    text = '{"mean": [0.5], "std": [0.25], "interpolation": "bicubic", "crop_ratio": 0.9, '
    found = Preprocessing.from_json(text + '"input_size": 96}')
    assert found == Preprocessing((0.5,), (0.25,), "bicubic", 0.9, 96)
    assert (found.resize, found.invert, found.source_size) == ("shorter", False, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mean": ()}, r"mean \(=\(\)\) must be finite numbers"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean .* must be finite numbers"),
        ({"std": (0.0, 1.0, 1.0)}, r"std .* must be positive"),
        ({"std": (1.0,)}, r"std .* must be 3 numbers"),
        ({"interpolation": "area"}, r"interpolation \(='area'\) must be one of"),
        ({"resize": "longer"}, r"resize \(='longer'\) must be one of"),
        ({"crop_ratio": 0}, r"crop_ratio \(=0\) must be in \(0, 1\]"),
        ({"input_size": 0}, r"input_size \(=0\) must be a positive integer"),
        ({"input_size": (3, 4, 5)}, r"input_size .* must be a positive integer or"),
        ({"input_size": None}, r"input_size \(=None\)"),
        ({"invert": 1}, r"invert \(=1\) must be True or False"),
        ({"source_size": (8, 8)}, r"source_size .* must be None unless resize is 'exact'"),
        ({"colour": "rgb"}, "unknown field of preprocessing 'colour'"),
    ],
)
def test_invalid_fields_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing.from_dict({**IMAGENET.to_dict(), **fields})


def pillow_steps(image: Image.Image, one: Preprocessing) -> np.ndarray:
    """Resize(int) and CenterCrop of torchvision for a square input, step by step."""
    size, shorter = one.size[0], int(one.size[0] / one.crop_ratio)
    width, height = image.size
    scaled = int(shorter * max(width, height) / min(width, height))
    new = (scaled, shorter) if width > height else (shorter, scaled)
    resized = np.asarray(image.resize(new, FILTERS[one.interpolation]))
    top, left = round((new[1] - size) / 2), round((new[0] - size) / 2)
    return resized[top : top + size, left : left + size]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    input_size=st.integers(1, 40),
    ratio=st.sampled_from([0.5, 0.875, 0.887, 0.95, 1.0]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_pixels_of_any_size_are_those_of_resize_and_center_crop(
    size, input_size, ratio, interpolation
):
    image = noisy_image(size=size)
    one = dataclasses.replace(
        IMAGENET, input_size=input_size, crop_ratio=ratio, interpolation=interpolation
    )
    found = one.pixels(encoded(image, "PNG"))
    np.testing.assert_array_equal(found, pillow_steps(image, one))


@pytest.mark.parametrize("size", [(37, 91), (91, 37), (64, 64), (20, 200)])
def test_equals_torchvision(size):
    pytest.importorskip("torch")
    transforms = import_torchvision().transforms
    image = noisy_image(size=size)
    for one in (IMAGENET, CSP, dataclasses.replace(IMAGENET, input_size=31, crop_ratio=0.9)):
        steps = transforms.Compose(
            [
                transforms.Resize(int(one.size[0] / one.crop_ratio)),
                transforms.CenterCrop(one.size),
                transforms.ToTensor(),
                transforms.Normalize(one.mean, one.std),
            ]
        )
        pixels = one.pixels(encoded(image, "PNG"))
        np.testing.assert_allclose(one.normalize(pixels[None])[0], steps(image), atol=1e-5)


def test_exact_resizes_both_sides():
    one = Preprocessing((0.5,) * 3, (0.25,) * 3, input_size=(10, 30), resize="exact")
    image = noisy_image(size=(40, 20))
    expected = np.asarray(image.resize((30, 10), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(one.pixels(encoded(image, "PNG")), expected)


def test_source_size_gives_the_pixels_of_resized_arrays():
    one = Preprocessing((0.5,), (0.25,), input_size=32, resize="exact", source_size=(8, 8))
    small = np.asarray(noisy_image(size=(8, 8)).convert("L"))
    expected = resize(small[None, ..., None], (32, 32))[0]
    found = one.pixels(encoded(Image.fromarray(small), "PNG"))
    np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(
        found,
        dataclasses.replace(one, source_size=None).pixels(encoded(Image.fromarray(small), "PNG")),
    )


def test_invert_is_applied_to_the_pixels():
    negative = encoded(ImageOps.invert(gradient()), "PNG")
    found = dataclasses.replace(IMAGENET, invert=True).pixels(encoded(gradient(), "PNG"))
    np.testing.assert_array_equal(found, IMAGENET.pixels(negative))
    assert abs(255.0 - found - IMAGENET.pixels(encoded(gradient(), "PNG"))).max() <= 1


def test_paths_and_bytes_give_equal_pixels_and_errors_name_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noisy_image()))
    np.testing.assert_array_equal(GREY.pixels(path), GREY.pixels(path.read_bytes()))
    assert GREY.pixels(path).shape == (12, 20, 1)
    with pytest.raises(ValueError, match="the tenth is not a"):
        GREY.pixels(b"text", "the tenth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        GREY.pixels(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"channels \(=4\) must be 1 \(grayscale\) or 3 \(RGB\)"):
        GREY.for_channels(4).pixels(path)


def test_describe_names_what_is_done():
    assert GREY.describe() == (
        "shorter side to 13 (bilinear), center crop 12x20, grayscale, mean 0.5, std 0.25"
    )
    exact = dataclasses.replace(GREY, resize="exact", source_size=(8, 8), invert=True)
    assert exact.describe().startswith("resized to 8x8, then 12x20 (bilinear), grayscale, inverted")


def test_image_files_need_neither_opencv_nor_mxnet(tmp_path):
    """Servers may lack OpenCV; every user of the preprocessing shares this code."""
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['cv2'] = None\n"
        "from gluondense.data.preprocessing import IMAGENET\n"
        "assert 'numpy' not in sys.modules and 'PIL' not in sys.modules\n"
        "print(IMAGENET.normalize(IMAGENET.pixels(sys.argv[1])[None]).shape)\n"
        "assert 'mxnet' not in sys.modules\n"
    )
    path = tmp_path / "a.png"
    gradient().save(path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("(1, 3, 224, 224)", "")
