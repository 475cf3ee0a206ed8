from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from support.images import encoded, noisy_image

from gluondense.data.loaders.to_input import DeviceCopy, ToInput, input_on_device
from gluondense.data.preprocessing import IMAGENET
from gluondense.data.transforms.augmented import to_input
from gluondense.data.transforms.batch import normalize
from gluondense.data.transforms.image import TrainTransform

MEAN, STD = IMAGENET.mean, IMAGENET.std


class CountedCopy(DeviceCopy):
    """Records dtype, shape and device of each copy."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __call__(self, array, device):
        self.seen.append((str(array.dtype), array.shape, device))
        return super().__call__(array, device)


def records_of(augment, count=12):
    transform = TrainTransform((24, 20), augment)
    records = np.zeros((count,), transform.dtype)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        transform(encoded(noisy_image(seed, size=(40, 50))), "a", rng, records[seed, ...])
    return records


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalized_alike_on_host_and_device_bit_for_bit(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, channels), dtype=np.uint8)
    mean, std = MEAN[:channels], STD[:channels]
    copy = CountedCopy()
    found = input_on_device(pixels, mean, std, mx.cpu(1), copy)
    assert found.context == mx.cpu(1)
    np.testing.assert_array_equal(found.asnumpy(), normalize(pixels, mean, std))
    np.testing.assert_array_equal(ToInput(mean, std)(pixels, mx.cpu()).asnumpy(), found.asnumpy())
    assert copy.seen == [("uint8", pixels.shape, mx.cpu(1))]  # a quarter of float32


@pytest.mark.parametrize(
    ("augment", "copies"),
    [
        (("random_resized_crop", "flip"), ["uint8"]),
        (("color_jitter", "lighting"), ["uint8", "float32"]),
        (("flip", "erase"), ["uint8", "int32", "float32"]),
        (("color_jitter", "rand_augment", "erase"), ["uint8", "float32", "int32", "float32"]),
    ],
)
def test_records_give_the_same_input_on_host_and_device(augment, copies):
    records, copy = records_of(augment), CountedCopy()
    expected = to_input(records, MEAN, STD)
    found = input_on_device(records, MEAN, STD, mx.cpu(), copy).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert [dtype for dtype, *_ in copy.seen] == copies
    assert sum(np.prod(shape) for dtype, shape, _ in copy.seen if dtype == "uint8") == found.size
    if "erase" in augment:
        erased = records["box"].any(axis=1)
        assert 0 < erased.sum() < len(records)
        top, left, height, width = records["box"][erased][0]
        box = found[erased][0][:, top : top + height, left : left + width]
        noise = records["noise"][erased][0][: box.size]
        np.testing.assert_array_equal(box.ravel(), noise)
        assert copy.seen[-1][1] == ((3 * records["box"][:, 2] * records["box"][:, 3]).sum(),)


def test_a_batch_without_an_erased_image_has_nothing_to_erase():
    records, copy = records_of(("erase",)), CountedCopy()
    kept = records[~records["box"].any(axis=1)]
    found = input_on_device(kept, MEAN, STD, mx.cpu(), copy)
    np.testing.assert_array_equal(found.asnumpy(), normalize(kept["pixels"], MEAN, STD))
    assert len(copy.seen) == 1


def test_inputs_and_pixels_for_an_export_are_only_copied():
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(ToInput(MEAN, STD)(features, mx.cpu()).asnumpy(), features)
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 4, 2, 3)
    found = ToInput()(pixels, mx.cpu())
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found.asnumpy(), pixels)


def test_staging_reuses_two_pinned_buffers_for_each_device_and_kind(monkeypatch):
    allocated = []
    empty = mx.nd.empty

    def counted(shape, *args):
        allocated.append(shape)
        return empty(shape, *args)

    monkeypatch.setattr(mx.nd, "empty", counted)
    copy, rng = DeviceCopy(), np.random.default_rng(0)
    previous = None
    for rows in (5, 5, 3, 5, 2):
        array = rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8)
        staged = copy.stage(array, mx.gpu(0))
        assert staged.context.device_type == "cpu_pinned"
        assert staged.dtype == np.uint8
        np.testing.assert_array_equal(staged.asnumpy(), array)
        if previous is not None:  # the copy from the other buffer may still be under way
            np.testing.assert_array_equal(previous[0].asnumpy(), previous[1])
        previous = staged, array
    assert allocated == [(5, 4, 4, 3)] * 2
    copy.stage(array, mx.gpu(1))
    copy.stage(array.astype(np.float32), mx.gpu(0))
    assert len(allocated) == 4
    copy.stage(np.zeros((6, 4, 4, 3), np.uint8), mx.gpu(0))
    assert allocated[-1] == (6, 4, 4, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", [("flip",), ("color_jitter", "lighting", "erase")])
def test_batches_on_a_gpu_are_those_of_the_host(augment, gpu):
    """More batches than pinned buffers are under way at once."""
    to_device, batches = ToInput(MEAN, STD), [records_of(augment, count) for count in (9, 9, 4, 9)]
    found = [to_device(records, gpu) for records in batches]
    for x, records in zip(found, batches):
        assert x.context == gpu
        expected = to_input(records, MEAN, STD)
        np.testing.assert_allclose(x.asnumpy(), expected, rtol=0, atol=2e-6)
