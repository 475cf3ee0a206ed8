"""An image becomes the same input, bit for bit, wherever gluondense reads it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.images import encoded, gradient, noisy_image
from support.training_tiny import TINY

import gluondense
from gluondense.data.datasets.imagenet import decode_images
from gluondense.data.preprocessing import Preprocessing
from gluondense.deploy import Calibration, archive, predict
from gluondense.deploy.metadata import read_metadata
from gluondense.evaluation.evaluate import evaluate_model, open_test_data
from gluondense.evaluation.model import open_model
from gluondense.training import checkpoint, fit
from gluondense.training.config import TrainConfig
from gluondense.training.data import make_test_loader, open_data
from gluondense.training.distributed.workers import Workers

CLASSES = 2


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def image_files() -> dict[str, bytes]:
    """Encoded images of every kind that a preprocessing may treat in a special way."""
    grey16 = Image.fromarray(np.arange(33 * 41, dtype=np.uint16).reshape(33, 41) * 48)
    clear = noisy_image(size=(35, 29))
    clear.putalpha(gradient("L", (35, 29)))
    return {
        "odd.jpg": encoded(noisy_image(size=(37, 53))),
        "landscape.jpg": encoded(noisy_image(1, size=(31, 97))),
        "portrait.png": encoded(noisy_image(2, size=(101, 30)), "PNG"),
        "tiny.png": encoded(noisy_image(size=(3, 5)), "PNG"),
        "exact.png": encoded(noisy_image(size=(24, 24)), "PNG"),
        "grey.jpg": encoded(gradient("L", (45, 61))),
        "grey16.png": encoded(grey16, "PNG"),
        "cmyk.jpg": encoded(gradient("CMYK", (52, 39))),
        "exif6.jpg": encoded(gradient(size=(40, 75)), exif=exif(6)),
        "exif8.png": encoded(gradient(size=(40, 75)), "PNG", exif=exif(8)),
        "alpha.png": encoded(clear, "PNG"),
        "palette.gif": encoded(noisy_image(size=(27, 43)).convert("P"), "GIF"),
        "progressive.jpg": encoded(noisy_image(3, size=(66, 44)), progressive=True, quality=60),
    }


FIELDS = {
    "defaults": {},
    "bicubic": {"interpolation": "bicubic", "crop_ratio": 0.95},
    "inverted": {"invert": True, "crop_ratio": 1.0, "mean": (0.1, 0.2, 0.3), "std": (0.9, 0.8, 1)},
}


@dataclasses.dataclass
class Trained:
    """A run of one epoch, its images, and exports of its network."""

    root: str
    run: str
    files: list[str]

    @property
    def preprocessing(self) -> Preprocessing:
        return checkpoint.load(self.run).preprocessing

    def export(self, name: str, **options) -> str:
        saved = checkpoint.load(self.run)
        prefix = f"{self.root}/{name}"
        gluondense.export(saved.network(), prefix, saved.input_shape, **options)
        return prefix


@pytest.fixture(scope="module", params=FIELDS, ids=str)
def trained(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("pixels")
    files = []
    for number, (name, data) in enumerate(sorted(image_files().items())):
        for split in ("train", "val"):
            path = root / "data" / split / f"class{number * CLASSES // len(image_files())}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        files.append(str(path))
    config = TINY.with_fields(
        dataset="imagenet",
        data_dir=str(root / "data"),
        resize=24,
        augment=("flip",),
        epochs=1,
        batch_size=4,
        data_workers=1,
        model_args={**TINY.model.args, "dropout": 0},
        **FIELDS[request.param],
    )
    fit(config, root / "run", progress=False)
    return Trained(str(root), str(root / "run"), files)


@pytest.fixture(scope="module")
def expected(trained):
    """The input of each image, from the validation loader of the run."""
    config = TrainConfig.from_dict(checkpoint.load(trained.run).config).data
    data = open_data(config)
    loader = make_test_loader(config, data, trained.preprocessing, Workers())
    inputs = np.concatenate([trained.preprocessing.normalize(images) for images, _ in loader])
    loader.close()
    assert inputs.shape == (len(trained.files), 3, 24, 24)
    return inputs


class Recorder(mx.gluon.Block):
    """Stands for a network and keeps its inputs."""

    def __init__(self, metadata=None):
        super().__init__()
        self.metadata, self.seen = metadata, []

    def forward(self, x):
        self.seen.append(x.asnumpy())
        return mx.nd.zeros((len(x), CLASSES))

    def inputs(self, count: int) -> np.ndarray:
        return np.concatenate(self.seen)[:count]


def evaluated(trained, name) -> np.ndarray:
    model = open_model(name, [mx.cpu()])
    net = Recorder(getattr(model.net, "metadata", None))
    data = open_test_data("imagenet", f"{trained.root}/data")
    evaluate_model(dataclasses.replace(model, net=net), data, [mx.cpu()], batch_size=5)
    return net.inputs(len(trained.files))


def test_the_validation_loader_follows_the_preprocessing(trained, expected):
    one = trained.preprocessing
    for file, found in zip(trained.files, expected):
        np.testing.assert_array_equal(one.normalize(one.pixels(file)[None])[0], found)


def test_evaluate_of_a_run_and_of_an_export(trained, expected):
    np.testing.assert_array_equal(evaluated(trained, trained.run), expected)
    np.testing.assert_array_equal(evaluated(trained, trained.export("plain")), expected)


def test_an_export_that_normalizes_gets_the_cropped_pixels(trained, expected):
    prefix = trained.export("pixels", preprocess=True, output="probabilities")
    pixels = evaluated(trained, prefix).astype("uint8")
    assert pixels.shape == (len(trained.files), 24, 24, 3)
    np.testing.assert_array_equal(trained.preprocessing.normalize(pixels), expected)


def test_predict(trained, expected):
    for preprocess in (False, True):
        prefix = trained.export(f"predict-{preprocess}", preprocess=preprocess)
        net = Recorder(gluondense.load_exported(prefix).metadata)
        assert net.metadata.preprocessing == trained.preprocessing
        predict(net, trained.files)
        found = net.inputs(len(trained.files))
        if preprocess:
            assert found.dtype == np.uint8
            found = trained.preprocessing.normalize(found)
        np.testing.assert_array_equal(found, expected)


def test_calibration_and_report(trained, expected):
    folder = f"{trained.root}/data/val"
    one = trained.preprocessing
    calibration = Calibration(folder).read(one.input_shape, one)
    order = sorted(range(len(trained.files)), key=lambda index: trained.files[index])
    np.testing.assert_array_equal(calibration.images, expected[order])
    source = open_test_data("imagenet", f"{trained.root}/data").test
    pixels = decode_images(source, range(len(trained.files)), one)
    np.testing.assert_array_equal(one.normalize(pixels), expected)


# Records the input of the archive's service in a process without gluondense and OpenCV.
SERVER = """
import sys
sys.modules["cv2"] = None
import numpy as np
import gluondense_served
from gluondense_served.deploy.serving.service import RefusedError, Service

service = Service(".", None, 1)
seen = []
def record(x):
    seen.append(x)
    return [np.zeros((len(x), 2), np.float32)]
service.graph = record
for name in sys.argv[1:]:
    (answer,) = service.answer([{"body": open(name, "rb").read(), "content-type": None}])
    assert not isinstance(answer, RefusedError), answer
np.save("seen.npy", np.concatenate(seen))
assert "gluondense" not in sys.modules
"""


def test_the_service_of_an_archive(trained, expected, tmp_path):
    preprocess = trained.preprocessing.invert  # one of the three normalizes in its graph
    prefix = trained.export("served", preprocess=preprocess)
    with zipfile.ZipFile(archive(prefix, tmp_path / "model.mar")) as packed:
        packed.extractall(tmp_path / "served")
    command = [sys.executable, "-c", SERVER, *trained.files]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=tmp_path / "served", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "served" / "seen.npy")
    if preprocess:
        assert found.dtype == np.uint8
        found = trained.preprocessing.normalize(found)
    np.testing.assert_array_equal(found, expected)


# The same for the inference code of SageMaker's containers.
SAGEMAKER = """
import sys
sys.modules["cv2"] = None
import gluondense_served.environment
gluondense_served.environment.prepare()  # its MXNet needs no preparation in the containers
import inference
import numpy as np

service = inference.model_fn("..")
seen = []
def record(x):
    seen.append(x)
    return [np.zeros((len(x), 2), np.float32)]
service.graph = record
for name in sys.argv[1:]:
    data = bytearray(open(name, "rb").read())
    inference.transform_fn(service, data, "application/x-image", "application/json")
np.save("../seen.npy", np.concatenate(seen))
assert "gluondense" not in sys.modules
"""


def test_sagemaker(trained, expected, tmp_path):
    prefix = trained.export("sagemaker")
    with tarfile.open(archive(prefix, tmp_path / "model.tar.gz")) as packed:
        packed.extractall(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", SAGEMAKER, *trained.files],
        cwd=tmp_path / "model" / "code",
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "model" / "seen.npy"), expected)


def test_onnx_metadata(trained, expected):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    prefix = trained.export("onnx", target="onnx")
    model = onnx.load(f"{prefix}.onnx")
    properties = {row.key: json.loads(row.value) for row in model.metadata_props}
    one = Preprocessing.from_dict(properties["preprocessing"])
    found = np.stack([one.normalize(one.pixels(file)[None])[0] for file in trained.files])
    np.testing.assert_array_equal(found, expected)
    assert (properties["mean"], properties["std"]) == (list(one.mean), list(one.std))
    assert one.describe() in model.doc_string


def test_files_of_an_array_data_set(tmp_path):
    """The images of a data set in memory, saved as files, are the loader's inputs again."""
    fit(TINY.with_fields(epochs=1), tmp_path / "run", progress=False)
    saved = checkpoint.load(tmp_path / "run")
    config = TrainConfig.from_dict(saved.config).data
    data = open_data(config)
    one = saved.preprocessing
    assert (one.resize, one.source_size, one.size) == ("exact", (32, 32), (8, 8))
    (images, _), *_ = make_test_loader(config, data, one, Workers())
    files = [io.BytesIO() for _ in images]
    for file, pixels in zip(files, data.test_images):
        Image.fromarray(pixels).save(file, "PNG")
    found = np.stack([one.normalize(one.pixels(file.getvalue())[None])[0] for file in files])
    np.testing.assert_array_equal(found, one.normalize(images))
    prefix = str(tmp_path / "export")
    gluondense.export(saved.network(), prefix, saved.input_shape)
    assert read_metadata(tmp_path / "export.json").preprocessing == one


def test_an_old_checkpoint_gets_the_preprocessing_of_its_configuration(trained, expected):
    """A description of format 1 has mean, std and shape, and the configuration has the rest."""
    place = checkpoint.find(trained.run)
    content = (place / "model.json").read_text()
    facts = json.loads(content)
    wanted = trained.preprocessing
    del facts["preprocessing"], facts["content_sha256"]
    try:
        (place / "model.json").write_text(json.dumps({**facts, "format": 1}))
        assert checkpoint.load(trained.run).preprocessing == wanted
    finally:
        (place / "model.json").write_text(content)
