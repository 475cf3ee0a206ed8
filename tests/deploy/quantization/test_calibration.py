from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import gluondense
from gluondense.data.files.image_set import evenly_spaced, read_images
from gluondense.data.preprocessing import Preprocessing
from gluondense.deploy import Calibration
from gluondense.graph.ranges import BINS, CLIP_STEP, collect_ranges, divergences
from gluondense.graph.trace import trace

SHAPE = (1, 3, 8, 10)
PREPROCESSING = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), input_size=(8, 10))


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def graph():
    """A small network's graph and arrays."""
    mx.random.seed(0)
    net = gluondense.get_model("densenet_tutorial", block_config=(1, 2))
    net.initialize()
    net(mx.nd.zeros((1, 1, 32, 32))).wait_to_read()
    return trace(net), {name: p.data().asnumpy() for name, p in net.collect_params().items()}


def ranges_of(values, method, percentile=99.99):
    """Ranges of arrays that are the input of a graph."""
    symbol = mx.sym.identity(mx.sym.var("data"), name="same")
    return collect_ranges(symbol, {}, ["data"], values, method, percentile)["data"]


def outputs_of(symbol, params, names, x):
    """Values of the tensors, each computed by a separate graph."""
    arrays = {"data": mx.nd.array(x), **{name: mx.nd.array(a) for name, a in params.items()}}
    found = []
    for name in names:
        part = symbol.get_internals()[name]
        states = {state: arrays[state] for state in part.list_auxiliary_states()}
        inputs = {argument: arrays[argument] for argument in part.list_arguments()}
        if name == "data":
            found.append(x)
            continue
        executor = part.bind(mx.cpu(), inputs, aux_states=states, grad_req="null")
        found.append(executor.forward(is_train=False)[0].asnumpy())
    return found


def divergence_by_definition(counts, levels, end):
    """The divergence as the paper defines it, bin by bin."""
    reference = counts[:end].astype(float)
    reference[-1] += counts[end:].sum()
    quantized = np.zeros(end)
    for level in range(levels):
        bins = range(level * end // levels, (level + 1) * end // levels)
        filled = [b for b in bins if reference[b] > 0]
        for b in filled:
            quantized[b] = counts[list(bins)].sum() / len(filled)
    if quantized.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), quantized / quantized.sum()
    total = 0.0
    for b in range(end):
        if p[b] > 0:
            total = np.inf if q[b] == 0 else total + p[b] * np.log(p[b] / q[b])
    return total


def test_minmax_ranges_of_a_network(graph, random):
    symbol, params = graph
    names = [n for n in symbol.get_internals().list_outputs() if n not in params]
    batches = [random.standard_normal((size, 1, 32, 32)).astype("float32") for size in (3, 1, 4)]
    found = collect_ranges(symbol, params, names, batches, "minmax")
    assert list(found) == names
    for name, values in zip(names, outputs_of(symbol, params, names, np.concatenate(batches))):
        channels = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        np.testing.assert_allclose(found[name].channel_low, channels.min(axis=1), 1e-4, 1e-6)
        np.testing.assert_allclose(found[name].channel_high, channels.max(axis=1), 1e-4, 1e-6)
        assert found[name].low == pytest.approx(min(0, values.min()), rel=1e-5)
        assert found[name].high == pytest.approx(max(0, values.max()), rel=1e-5)


@pytest.mark.parametrize("percentile", [99.0, 99.9])
def test_percentiles_clip_the_same_share_on_each_side(random, percentile):
    values = random.gamma(2, size=(8, 5, 20, 20)).astype("float32") - 1
    found = ranges_of(list(values[:, None]), "percentile", percentile)
    inside = int(np.ceil(percentile / 100 * values.size))
    ordered = np.sort(values.ravel())
    low, high = ordered[-inside], ordered[inside - 1]
    width = float(np.abs(values).max()) / BINS
    assert found.low == pytest.approx(low, abs=2 * width)
    assert found.high == pytest.approx(high, abs=2 * width)
    assert found.channel_high.max() == values.max()


@pytest.mark.parametrize("levels", [128, 256])
def test_divergences_are_those_of_the_paper(random, levels):
    values = np.abs(random.standard_normal(4000) * random.standard_normal(4000))
    counts = np.histogram(values, 1024)[0]
    counts[5:9] = 0
    ends = np.arange(levels, 1025, 32)
    expected = [divergence_by_definition(counts, levels, end) for end in ends]
    np.testing.assert_allclose(divergences(counts, levels, ends), expected, atol=1e-12)
    assert np.isinf(expected).any()


@pytest.mark.parametrize("signed", [True, False])
def test_entropy_selects_the_threshold_of_least_divergence(random, signed):
    values = random.standard_normal((6, 4, 30, 30)).astype("float32")
    values = values if signed else np.abs(values)
    values[0, 0, 0, 0] = 9  # far from all others
    values[1:] *= values[1:] > -0.5  # many zeros
    found = ranges_of(list(values[:, None]), "entropy")
    counts = np.histogram(np.abs(values[values != 0]), BINS, (0, 9))[0]
    levels = 128 if signed else 256
    ends = range(levels, BINS + 1, CLIP_STEP)
    best = min(ends, key=lambda end: divergence_by_definition(counts, levels, end))
    assert found.high == pytest.approx(9 * best / BINS, rel=1e-6)
    assert found.high < 8
    assert found.low == (max(values.min(), -found.high) if signed else 0)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_constant_tensors_and_repeated_runs(method):
    zeros = ranges_of([np.zeros((2, 3, 4, 4), "float32")], method)
    assert (zeros.low, zeros.high) == (0, 0)
    batches = [np.full((1, 2, 3, 3), value, "float32") for value in (2, -1)]
    first, second = ranges_of(batches, method), ranges_of(batches, method)
    assert (first.low, first.high) == (second.low, second.high)
    assert -1.01 <= first.low < 0 < first.high <= 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensors": ["relu0_output"]}, "no tensor 'relu0_output'"),
        ({"method": "kl"}, r"method \(='kl'\) must be one of 'entropy', 'percentile', 'minmax'"),
        ({"percentile": 5}, r"percentile \(=5\) must be in \(50, 100\]"),
        ({"batches": []}, "no images"),
        ({"batches": [np.full((1, 1, 2, 2), np.nan, "float32")]}, "data is not finite"),
    ],
)
def test_invalid_arguments_of_collect_ranges(changes, words):
    arguments = {"tensors": ["data"], "batches": [np.zeros((1, 1, 2, 2), "float32")], **changes}
    symbol = mx.sym.identity(mx.sym.var("data"), name="same")
    with pytest.raises(ValueError, match=words):
        collect_ranges(symbol, {}, **arguments)


@pytest.fixture
def folder(tmp_path, random):
    """Seven images in two folders, and a text file."""
    for number in range(7):
        path = tmp_path / "images" / ("a" if number < 3 else "b")
        path.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20, 16, 3)).astype("uint8")
        Image.fromarray(pixels).save(path / f"{number}.png")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def write_records(folder, path, indexed=True):
    """Write a RecordIO file of the folder's images, as im2rec does."""
    index = str(path.with_suffix(".idx"))
    writer = (
        mx.recordio.MXIndexedRecordIO(index, str(path), "w")
        if indexed
        else mx.recordio.MXRecordIO(str(path), "w")
    )
    for number, file in enumerate(sorted(folder.rglob("*.png"))):
        header = mx.recordio.IRHeader(0, float(number), number, 0)
        record = mx.recordio.pack(header, file.read_bytes())
        writer.write_idx(number, record) if indexed else writer.write(record)
    writer.close()
    return path


def test_images_are_evenly_spaced_in_a_folder_and_its_records(folder, tmp_path):
    everything = read_images(folder, PREPROCESSING, 100)
    assert everything.shape == (7, 8, 10, 3)
    some = read_images(folder, PREPROCESSING, 3)
    np.testing.assert_array_equal(some, everything[[0, 2, 4]])
    with_index = write_records(folder, tmp_path / "indexed.rec")
    np.testing.assert_array_equal(read_images(with_index, PREPROCESSING, 3), some)
    without = write_records(folder, tmp_path / "plain.rec", indexed=False)
    np.testing.assert_array_equal(read_images(without, PREPROCESSING, 3), everything[:3])
    assert read_images(without, PREPROCESSING.for_channels(1), 100).shape == (7, 8, 10, 1)


def test_images_in_every_supported_form(folder, tmp_path, random):
    array = random.standard_normal((5, 3, 8, 10)).astype("float32")
    forms = {
        "array": array,
        "NDArray": mx.nd.array(array),
        "double": array.astype("float64"),
        "batches": [array[:2], array[2:]],
        "pairs": ((part, np.zeros(len(part))) for part in (array[:4], array[4:])),
        "iterator": mx.io.NDArrayIter(array, np.zeros(5), batch_size=2),
        "loader": mx.gluon.data.DataLoader(mx.gluon.data.ArrayDataset(array, np.zeros(5)), 2),
    }
    for name, form in forms.items():
        read = Calibration.of(form).read(SHAPE, None)
        np.testing.assert_array_equal(read.images, array, err_msg=name)
        assert read.images.dtype == np.float32
    for path in (folder, write_records(folder, tmp_path / "all.rec")):
        read = Calibration(path, count=4).read(SHAPE, PREPROCESSING)
        pixels = read_images(folder, PREPROCESSING, 4)
        assert read.images.shape == (4, 3, 8, 10)
        if path == folder:
            np.testing.assert_array_equal(read.images, PREPROCESSING.normalize(pixels))


def test_at_most_count_images_are_taken(random):
    array = random.standard_normal((10, 3, 8, 10)).astype("float32")
    evenly = Calibration(array, count=4).read(SHAPE, None)
    np.testing.assert_array_equal(evenly.images, array[[0, 2, 5, 7]])
    first = Calibration([array[:3], array[3:6], array[6:]], count=4).read(SHAPE, None)
    np.testing.assert_array_equal(first.images, array[:4])
    assert evenly_spaced(3, 9) == [0, 1, 2]
    sizes = [len(batch) for batch in Calibration(np.zeros((5, 3, 250, 200))).batches()]
    assert sizes == [2, 2, 1]


def test_keep_is_a_deprecated_alias_of_exclude():
    calibration = Calibration(np.zeros(SHAPE, "float32"), keep=("*stem*",))
    assert calibration.exclude == ("*stem*",)
    assert calibration.read(SHAPE, None).exclude == ("*stem*",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "max"}, "method"),
        ({"percentile": 0}, "percentile"),
        ({"count": 0}, r"count \(=0\) must be a positive integer"),
        ({"count": True}, "count"),
        ({"keep": "*stem*"}, "must be a tuple of patterns"),
        ({"max_changed": 2}, "max_changed"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        Calibration(np.zeros(SHAPE, "float32"), **options)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((4, 1, 8, 10), "float32"), r"shape \(4, 1, 8, 10\), but must be"),
        (np.zeros((3, 8, 10), "float32"), "must be some of"),
        (np.zeros((0, 3, 8, 10), "float32"), "must be some of"),
        (np.zeros((4, 3, 8, 10), "uint8"), "are uint8, but must be normalized floats"),
        (np.full((4, 3, 8, 10), np.inf, "float32"), "not finite"),
        ([], "has no images"),
        ([np.zeros((1, 3, 8, 10)), np.zeros((1, 3, 9, 10))], "must all have one shape"),
        (5, "are int, but must be an array"),
    ],
)
def test_invalid_images_are_refused(images, words):
    with pytest.raises(ValueError, match=words):
        Calibration(images).read(SHAPE, None)


def test_paths_without_valid_images_are_refused(folder, tmp_path):
    def refused(path, error=ValueError, preprocessing=PREPROCESSING):
        with pytest.raises(error) as caught:
            Calibration(path).read(SHAPE, preprocessing)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "mean and std" in refused(folder, preprocessing=None)
    assert "name a folder" in refused(tmp_path / "nowhere", FileNotFoundError)
    assert "neither a folder" in refused(folder / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert "no images in" in refused(tmp_path / "empty")
    (tmp_path / "torn.rec").write_bytes(b"something else than records, and long enough")
    assert "torn.rec is damaged at byte 0" in refused(tmp_path / "torn.rec")
    (folder / "b" / "5.png").write_bytes(b"torn")
    assert "5.png" in refused(folder)
    bad = write_records(folder, tmp_path / "bad.rec")
    assert "bad.rec (record 5)" in refused(bad)
