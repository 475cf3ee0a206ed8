from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from support.images import encoded, make_folders, noisy_image

from gluondense.data.files.image_list import list_folders
from gluondense.data.files.sources import FolderSource, RelabeledSource
from gluondense.data.loaders.stream import StreamLoader
from gluondense.data.preprocessing import Preprocessing
from gluondense.data.transforms.augmented import to_input
from gluondense.data.transforms.image import EvalTransform, TrainTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALL = ("random_resized_crop", "flip", "rand_augment", "color_jitter", "lighting", "erase")
TRAIN = TrainTransform((16, 20), ALL)
PREPROCESSING = Preprocessing(MEAN, STD, input_size=16)
EVAL = EvalTransform(PREPROCESSING)


@pytest.fixture
def source(tmp_path):
    return FolderSource(list_folders(make_folders(tmp_path / "train")))


@pytest.fixture
def make(source):
    loaders = []

    def make(batch_size, transform=TRAIN, source=source, **options):
        loaders.append(StreamLoader(source, transform, batch_size, **options))
        return loaders[-1]

    yield make
    for loader in loaders:
        loader.close()


def batches_of(loader, epoch, start=0):
    """Return the network's input and the labels of each batch."""
    return [(to_input(data, MEAN, STD), labels) for data, labels in loader.batches(epoch, start)]


def images_of(loader, epoch, start=0):
    batches = batches_of(loader, epoch, start)
    return np.concatenate([data for data, _ in batches]), np.concatenate(
        [part for _, part in batches]
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_images_depend_neither_on_processes_nor_on_batches(make, workers):
    expected, labels = images_of(make(5, shuffle=True, seed=3), epoch=2)
    found, others = images_of(make(4, shuffle=True, seed=3, workers=workers), epoch=2)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(others, labels)
    assert expected.shape == (24, 3, 16, 20)
    assert sorted(labels.tolist()) == sorted([0, 1, 2, 3] * 6)


def test_epoch_resumed_in_the_middle_has_the_same_batches(make):
    loader = make(5, shuffle=True, workers=2)
    whole, labels = images_of(loader, epoch=1)
    rest, last = images_of(loader, epoch=1, start=3)
    np.testing.assert_array_equal(rest, whole[15:])
    np.testing.assert_array_equal(last, labels[15:])
    assert len(list(loader.batches(1, start=5))) == 0


def test_epochs_seeds_and_images_differ(make):
    loader = make(24, shuffle=False, workers=2)
    first, _ = images_of(loader, 0)
    second, _ = images_of(loader, 1)
    other, _ = images_of(make(24, shuffle=False, seed=1), 0)
    assert not (first == second).all(axis=(1, 2, 3)).any()
    assert not (first == other).all(axis=(1, 2, 3)).any()
    orders = [images_of(make(24, shuffle=True), epoch)[1].tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_processes_do_not_share_random_streams(tmp_path, make):
    (tmp_path / "same/a").mkdir(parents=True)
    for number in range(8):
        (tmp_path / f"same/a/{number}.jpg").write_bytes(encoded(noisy_image()))
    source = FolderSource(list_folders(tmp_path / "same"))
    data, _ = images_of(make(8, source=source, workers=4), 0)
    assert len({part.tobytes() for part in data}) == 8


def test_an_epoch_left_early_does_not_change_the_next(make):
    loader = make(3, shuffle=True, workers=2)
    expected, _ = images_of(loader, 1)
    for batches in (1, 2, 3):
        going = loader.batches(0)
        for _ in range(batches):
            next(going)
        going.close()
        np.testing.assert_array_equal(images_of(loader, 1)[0], expected)


def test_last_batch(make):
    assert [len(labels) for _, labels in make(7).batches(0)] == [7, 7, 7, 3]
    assert [len(labels) for _, labels in make(7, last="discard").batches(0)] == [7, 7, 7]


def test_parts_of_batches_and_blocks_of_the_source_make_up_the_whole(make):
    whole = batches_of(make(7, shuffle=True), 1)
    options = [{"part": (number, 3), "workers": number} for number in range(3)]
    parts = [batches_of(make(7, shuffle=True, **each), 1) for each in options]
    for (data, labels), *three in zip(whole, *parts):
        np.testing.assert_array_equal(np.concatenate([part for part, _ in three]), data)
        np.testing.assert_array_equal(np.concatenate([part for _, part in three]), labels)
    assert [make(7).count(index) for index in range(4)] == [7, 7, 7, 3]
    blocks = [images_of(make(5, EVAL, block=block), 0)[0] for block in ((0, 11), (11, 24))]
    np.testing.assert_array_equal(np.concatenate(blocks), images_of(make(5, EVAL), 0)[0])


def test_ten_crops(make):
    loader = make(4, EvalTransform(PREPROCESSING, crops=10), workers=2)
    data, _ = next(iter(loader))
    assert data.shape == (4, 10, 16, 16, 3)
    np.testing.assert_array_equal(data[:, 5:], data[:, :5, :, ::-1])
    np.testing.assert_array_equal(data[:, 4], next(iter(make(4, EVAL)))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images(tmp_path, make, source, capfd, workers):
    broken = tmp_path / "train/class1/3.jpg"
    broken.write_bytes(b"")
    loader = make(24, EVAL, workers=workers)
    data, labels = next(iter(loader))
    assert labels.tolist().index(-1) == 9
    assert not data[9].any()
    list(loader)
    warnings = capfd.readouterr().err.splitlines()
    assert warnings == [f"warning: skipped {broken}: {broken} is empty; get it again"]
    assert list(loader.bad) == [str(broken)]
    _, labels = images_of(make(24, shuffle=True, workers=workers), 0)
    assert (
        sorted(labels.tolist()) == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
    )  # the next image replaces it
    with pytest.raises(ValueError, match=r"3\.jpg is empty.*`bad` skip"):
        list(make(5, EVAL, workers=workers, bad="error"))
    for path in tmp_path.glob("train/*/*.jpg"):
        path.unlink()
    with pytest.raises(ValueError, match="16 consecutive images are unreadable"):
        list(make(5, shuffle=True, workers=workers).batches(0))


def test_labels_beyond_the_classes_are_never_skipped(make):
    with pytest.raises(ValueError, match=r"has the label 3, not one of the 3 classes"):
        list(make(5, EVAL, workers=1, classes=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size \(=0\) must be a positive integer"),
        (
            {"batch_size": 25, "last": "discard"},
            r"batch_size \(=25\) leaves no complete batch of 24",
        ),
        ({"batch_size": 2, "last": "wrap"}, r"last \(='wrap'\)"),
        ({"batch_size": 2, "bad": "ignore"}, r"bad \(='ignore'\)"),
        ({"batch_size": 2, "workers": -1}, r"workers \(=-1\)"),
    ],
)
def test_invalid_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_processes_end_with_the_loader(source):
    before = children()
    loader = StreamLoader(source, TRAIN, 4, workers=2)
    list(loader.batches(0))
    assert len(children() - before) == 2
    del loader
    gc.collect()
    assert children() == before


def test_a_killed_process_raises(make):
    before = children()
    loader = make(4, shuffle=True, workers=2)
    for process in children() - before:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match=r"died \(SIGKILL\).*fewer workers"):
        list(loader.batches(0))


LOADER = """
import sys
import weakref
weakref.finalize(sys, int)  # as TemporaryDirectory does, perhaps before multiprocessing is imported
from gluondense.data.files.image_list import list_folders
from gluondense.data.preprocessing import Preprocessing
from gluondense.data.transforms.image import EvalTransform
from gluondense.data.files.sources import FolderSource, RelabeledSource
from gluondense.data.loaders.stream import StreamLoader
source = FolderSource(list_folders(sys.argv[1]))
transform = EvalTransform(Preprocessing((0,) * 3, (1,) * 3, input_size=8))
loader = StreamLoader(source, transform, 4, workers=3)
next(iter(loader))
"""
KILLED = (
    LOADER
    + """
print("ready", flush=True)
sys.stdin.read()
"""
)


def test_processes_do_not_delay_the_end_of_the_program(root, source):
    command = [sys.executable, "-c", LOADER, str(source.images.root)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(command, env=environment, check=True, timeout=60)


def test_processes_end_when_the_training_is_killed(root, source):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source.images.root)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"ready\n"
        workers = children(process.pid)
        assert len(workers) == 3
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def children(pid=None) -> set[int]:
    with open(f"/proc/{pid or os.getpid()}/task/{pid or os.getpid()}/children") as file:
        return set(map(int, file.read().split()))


def alive(pid) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def labelled(source):
    """The same images with three labels each, some of them unknown."""
    rows = np.random.default_rng(0).choice([0, 1, np.nan], (24, 3)).astype(np.float32)
    return FolderSource(replace(source.images, labels=rows))


@pytest.mark.parametrize("workers", [0, 2])
def test_several_labels_an_image_are_rows_with_nan_for_unknown(make, source, labelled, workers):
    assert (source.label_shape, labelled.label_shape) == ((), (3,))
    options = {"shuffle": True, "seed": 1, "classes": 3, "workers": workers}
    images, rows = images_of(make(5, source=labelled, **options), epoch=1)
    assert (rows.shape, rows.dtype) == ((24, 3), np.float32)
    same, classes = images_of(make(5, shuffle=True, seed=1), epoch=1)
    np.testing.assert_array_equal(images, same)
    chosen = np.random.Generator(np.random.Philox(key=[1, (1 << 40) + 24])).permutation(24)
    np.testing.assert_array_equal(rows, labelled.images.labels[chosen])
    np.testing.assert_array_equal(classes, source.images.labels[chosen])
    (source.images.path(2)).write_bytes(b"")
    _, rows = images_of(make(5, EVAL, labelled), epoch=0)
    assert np.isnan(rows[2]).all()
    np.testing.assert_array_equal(rows[3:], labelled.images.labels[3:])


def test_another_number_of_labels_is_never_skipped(make, labelled):
    with pytest.raises(ValueError, match="has 3 labels, not 4"):
        next(make(5, source=labelled, classes=4).batches(0))


def test_several_labels_are_relabelled_and_merged(labelled):
    rows = np.array([[1, 0, np.nan], [np.nan, 0, 1], [np.nan, np.nan, 0]], np.float32)
    source = FolderSource(replace(labelled.images, labels=np.repeat(rows, 8, axis=0)))
    moved = RelabeledSource(source, np.array([2, 0, 1]))
    assert moved.label_shape == (3,)
    np.testing.assert_array_equal(moved.read(0).label, [0, np.nan, 1])
    merged = RelabeledSource(source, np.array([0, 1, 0]))
    assert merged.label_shape == (2,)
    found = [merged.read(index).label.tolist() for index in (0, 8, 16)]
    np.testing.assert_array_equal(found, [[1, 0], [1, 0], [0, np.nan]])


def test_an_image_is_repeated_in_its_batch_with_other_augmentations(make, source):
    plain = make(6, EVAL, shuffle=True, seed=3, repeats=3)
    augmented = make(6, shuffle=True, seed=3, repeats=3, last="discard")
    images, labels = images_of(plain, epoch=1)
    assert len(images) == len(source) == 24
    order = [key.tobytes() for key in images]
    for start in range(0, 24, 6):
        first, second, third = (order[start + 2 * copy : start + 2 * copy + 2] for copy in range(3))
        assert first == second == third  # two images, three times in succession
        assert len(set(first)) == 2
        assert len({*labels[start : start + 6 : 2]}) == 1
    assert len(set(order)) == 8  # a third of the images
    found, same = images_of(augmented, epoch=1)
    np.testing.assert_array_equal(same, labels)
    assert len({image.tobytes() for image in found}) == 24
    # The first copy is augmented like an image that is not repeated.
    once, _ = images_of(make(4, shuffle=True, seed=3), epoch=1)
    assert {image.tobytes() for image in found[:2]} <= {image.tobytes() for image in once}
    assert not {image.tobytes() for image in found[2:6]} & {image.tobytes() for image in once}


def test_repeated_images_are_others_in_another_epoch(make, source):
    loader = make(6, EVAL, shuffle=True, seed=3, repeats=3)
    seen = [{image.tobytes() for image in images_of(loader, epoch)[0]} for epoch in range(8)]
    assert len(set().union(*seen)) > 20  # 8 of 24 images an epoch


@pytest.mark.parametrize("workers", [1, 3])
def test_repeated_images_depend_neither_on_processes_nor_on_parts(make, workers):
    options = {"shuffle": True, "seed": 3, "repeats": 2}
    whole = make(4, **options)
    expected = batches_of(whole, 2)
    found = batches_of(make(4, workers=workers, **options), 2, start=3)
    assert len(found) == len(expected) - 3
    for (data, labels), (other, others) in zip(found, expected[3:]):
        np.testing.assert_array_equal(data, other)
        np.testing.assert_array_equal(labels, others)
    parts = [make(4, part=(number, 2), **options) for number in range(2)]
    for (data, _), halves in zip(expected, zip(*(batches_of(part, 2) for part in parts))):
        np.testing.assert_array_equal(data, np.concatenate([half for half, _ in halves]))
        # Each worker has its own copy of both images.
        np.testing.assert_array_equal(*(labels for _, labels in halves))


def test_an_incomplete_last_batch_has_repeated_images_too(make):
    (_, labels), *_, (data, last) = (
        (data.copy(), labels)
        for data, labels in make(10, shuffle=True, seed=3, repeats=2).batches(epoch=0)
    )
    assert (len(labels), len(data), len(last)) == (10, 4, 4)


@pytest.mark.parametrize("options", [{"repeats": 0}, {"repeats": 1.5}, {"repeats": 3}], ids=str)
def test_invalid_repeats(make, options):
    with pytest.raises(ValueError, match="repeats"):
        make(4, **options)
