from __future__ import annotations

import threading

import numpy as np
import pytest

from gluondense.data.loaders import array as loader_module
from gluondense.data.loaders.array import ArrayLoader
from gluondense.data.transforms.batch import normalize

IMAGES = np.random.RandomState(0).randint(0, 256, (37, 12, 10, 3)).astype(np.uint8)
LABELS = np.arange(37)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def make_loader(batch_size: int = 8, **options) -> ArrayLoader:
    return ArrayLoader(IMAGES, LABELS, batch_size, mean=MEAN, std=STD, **options)


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "gluondense-loader" in thread.name]


def assert_equal_batches(actual, expected):
    actual, expected = list(actual), list(expected)
    assert len(actual) == len(expected)
    for (data, labels), (other_data, other_labels) in zip(actual, expected):
        np.testing.assert_array_equal(data, other_data)
        np.testing.assert_array_equal(labels, other_labels)


def test_plain_loader_keeps_the_order():
    data, labels = (np.concatenate(parts) for parts in zip(*make_loader()))
    assert data.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(data, normalize(IMAGES, MEAN, STD))


@pytest.mark.parametrize(("last", "sizes"), [("keep", [8, 8, 8, 8, 5]), ("discard", [8, 8, 8, 8])])
def test_last_batch(last, sizes):
    loader = make_loader(last=last)
    assert len(loader) == len(sizes)
    assert [len(labels) for _, labels in loader] == sizes


def test_every_sample_appears_once_an_epoch_with_its_image():
    loader = make_loader(shuffle=True)
    expected = normalize(IMAGES, MEAN, STD)
    for epoch in range(3):
        data, labels = (np.concatenate(parts) for parts in zip(*loader.batches(epoch)))
        assert sorted(labels) == LABELS.tolist()
        assert labels.tolist() != LABELS.tolist()
        np.testing.assert_array_equal(data, expected[labels])


def test_an_epoch_is_a_function_of_seed_and_epoch():
    options = {"shuffle": True, "augment": ("flip", "crop", "erase"), "seed": 3}
    loader = make_loader(**options)
    first = list(loader.batches(1))
    assert_equal_batches(make_loader(**options).batches(1), first)
    assert_equal_batches(loader.batches(1), first)
    for other in (loader.batches(2), make_loader(**{**options, "seed": 4}).batches(1)):
        assert (
            np.concatenate([labels for _, labels in other]).tolist()
            != np.concatenate([labels for _, labels in first]).tolist()
        )


def test_batches_and_epochs_have_their_own_augmentation():
    same = np.tile(IMAGES[:1], (16, 1, 1, 1))
    loader = ArrayLoader(same, LABELS[:16], 8, augment=("erase",), mean=MEAN, std=STD)
    (first, _), (second, _) = loader.batches(0)
    (other_epoch, _), _ = loader.batches(1)
    assert (first != second).any()
    assert (first != other_epoch).any()


@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_start_skips_exactly(start):
    loader = make_loader(shuffle=True, augment=("flip", "crop"))
    assert_equal_batches(loader.batches(7, start), list(loader.batches(7))[start:])


@pytest.mark.parametrize("last", ["keep", "discard"])
def test_parts_together_are_the_whole(last):
    options = {"shuffle": True, "augment": ("flip", "crop"), "last": last}
    whole = make_loader(**options)
    parts = [make_loader(part=(number, 3), **options) for number in range(3)]
    assert {len(part) for part in parts} == {len(whole)}
    for index, (batch, *others) in enumerate(zip(*(x.batches(1) for x in (whole, *parts)))):
        sizes = [len(labels) for _, labels in others]
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == whole.count(index) == parts[0].count(index) == len(batch[1])
        for both, pieces in zip(batch, zip(*others)):
            np.testing.assert_array_equal(both, np.concatenate(pieces))


def test_resize_takes_a_side_or_a_pair():
    assert next(iter(make_loader(resize=16)))[0].shape == (8, 3, 16, 16)
    assert next(iter(make_loader(resize=(14, 20))))[0].shape == (8, 3, 14, 20)


def test_thread_ends_when_the_generator_is_closed_early_or_used_up():
    loader = make_loader(batch_size=2)
    batches = loader.batches(0)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()
    list(loader.batches(0))
    assert not loader_threads()


def test_exception_in_the_thread_reaches_the_caller(monkeypatch):
    def broken(batch, rng):
        raise RuntimeError("broken augmentation")

    monkeypatch.setitem(loader_module.AUGMENTATIONS, "broken", broken)
    with pytest.raises(RuntimeError, match="broken augmentation"):
        list(make_loader(augment=("broken",)))
    assert not loader_threads()


def test_batches_do_not_share_memory_with_the_arrays():
    images, labels = IMAGES.copy(), LABELS.astype(np.int32)
    for data, label in ArrayLoader(images, labels, 8, mean=MEAN, std=STD):
        data[:] = 0
        label[:] = 0
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size \(=0\) must be a positive integer"),
        ({"batch_size": 38, "last": "discard"}, r"batch_size \(=38\) leaves no complete batch"),
        ({"seed": -1}, r"seed \(=-1\) must be an integer >= 0"),
        ({"last": "rollover"}, r"last \(='rollover'\) must be one of 'keep', 'discard'"),
        (
            {"augment": ("flop",)},
            r"unknown augmentation 'flop'; did you mean 'flip'.*known: flip, crop, erase",
        ),
        ({"resize": 0}, r"resize \(=0\) must be at least 1"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_loader(**options)


@pytest.mark.parametrize(
    ("images", "labels", "mean", "std", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, MEAN, STD, r"images must be uint8 \(N, H, W, C\)"),
        (IMAGES[..., 0], LABELS, MEAN, STD, r"images must be uint8 \(N, H, W, C\)"),
        (IMAGES, LABELS[1:], MEAN, STD, r"images \(37\) and labels \(36\)"),
        (IMAGES[:0], LABELS[:0], MEAN, STD, r"images \(0\) and labels \(0\)"),
        (IMAGES, LABELS, (0.5,), STD, r"mean \(=\(0.5,\)\) must be one number for each of the 3"),
        (IMAGES, LABELS, MEAN, (0.1, 0.0, 0.1), "must be positive"),
    ],
)
def test_refuses_bad_arrays(images, labels, mean, std, message):
    with pytest.raises(ValueError, match=message):
        ArrayLoader(images, labels, 8, mean=mean, std=std)


def test_refuses_bad_epoch_and_start():
    with pytest.raises(ValueError, match=r"epoch \(=-1\)"):
        make_loader().batches(-1)
    with pytest.raises(ValueError, match=r"start \(=6\) must be in \[0, 5\]"):
        make_loader().batches(0, start=6)


@pytest.mark.parametrize("parts", [1, 2])
def test_repeated_images(parts):
    images = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 1)).astype(np.uint8)
    options = {"shuffle": True, "seed": 5, "mean": (0.0,), "std": (1.0,), "repeats": 2}

    def batches(start=0, **more):
        loaders = [
            ArrayLoader(images, np.arange(24), 8, part=(number, parts), **options, **more)
            for number in range(parts)
        ]
        return [
            tuple(map(np.concatenate, zip(*halves)))
            for halves in zip(*(loader.batches(3, start) for loader in loaders))
        ]

    plain, augmented = batches(), batches(augment=("erase", "crop"))
    assert len(plain) == 3
    for (data, labels), (other, others) in zip(plain, augmented):
        np.testing.assert_array_equal(labels[:4], labels[4:])
        np.testing.assert_array_equal(data[:4], data[4:])
        np.testing.assert_array_equal(labels, others)
        assert len(set(labels)) == 4
        assert not np.array_equal(other[:4], other[4:])
    assert len({*np.concatenate([labels for _, labels in plain])}) == 12
    for got, expected in zip(batches(start=1, augment=("erase", "crop")), augmented[1:]):
        np.testing.assert_array_equal(got[0], expected[0])
