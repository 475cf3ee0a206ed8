"""Training of detectors: the loop with boxes, from a data set to a report."""

from __future__ import annotations

import json

import mxnet as mx
import numpy as np
import pytest
from support.detection_data import CLASSES, make_voc
from support.detection_tiny import DETECTOR, TINY_DETECTION
from support.detectors import BACKBONE, SMALL
from support.float16_on_cpu import allow_float16
from support.training_tiny import TINY

from gluondense.training import TrainConfig, checkpoint, fit
from gluondense.training import run as run_module
from gluondense.training.configuration.sections import TaskConfig
from gluondense.training.distributed.workers import Workers
from gluondense.training.fine_tuning.pretrained import adopt_model
from gluondense.training.run import Run
from gluondense.training.run_folder import RunFolder
from gluondense.training.tasks.detection import Detection

GRAY = (0.1, 0.1, 0.1)
COLUMNS = [
    *("epoch", "step", "lr", "train_loss", "train_box", "train_objectness", "train_class"),
    *("test_map", "images_per_s", "epoch_s", "wall_s", "cpu_s", "test_map75"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight training images, four to evaluate."""
    return make_voc(tmp_path_factory.mktemp("voc") / "boxes", count=12, validation=4)


@pytest.fixture(scope="module")
def config(data):
    return TINY_DETECTION.with_fields(data_dir=str(data))


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "straight"
    changes = {"ema": 0.9, "multi_scale": (32, 64), "mix_off_epochs": 1}
    config = config.with_fields(**changes)
    fit(config, folder, progress=False)
    return config, folder


def arrays(folder, name="model.params"):
    found = mx.nd.load(str(folder / "checkpoints" / "last" / name))
    return {name: array.asnumpy() for name, array in found.items()}


def assert_equal_runs(one, other, name="model.params"):
    mine, theirs = arrays(one, name), arrays(other, name)
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


def two_devices(monkeypatch):
    monkeypatch.setattr(run_module, "find_devices", lambda gpus: [mx.cpu(0), mx.cpu(1)])


def test_a_run_has_every_part(straight):
    config, folder = straight
    rows = RunFolder(folder).rows()
    assert list(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == [2, 4]
    parts = ("train_box", "train_objectness", "train_class")
    for row in rows:
        assert sum(row[part] for part in parts) == pytest.approx(row["train_loss"], rel=1e-5)
    saved = checkpoint.load(folder)
    assert (saved.task, saved.class_names) == ("detection", CLASSES)
    assert saved.preprocessing.resize == "exact"
    assert saved.input_shape == (1, 3, 64, 64)
    assert len(saved.spec["anchors"]) == 9
    net = saved.network()
    assert tuple(net.classes) == CLASSES
    assert net(mx.nd.zeros((1, 3, 64, 64)))[2].shape == (1, 100, 4)
    assert RunFolder(folder).config() == config == TrainConfig.from_dict(config.to_dict())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "best val mAP@0.5" in page
    assert "The 4 val images after epoch" in page
    assert "anchors" in page
    assert "the parts of the training loss" in page
    assert str(folder.parent) not in page


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_resumes_within_an_epoch_bit_for_bit(straight, tmp_path, steps):
    config, folder = straight
    fit(config.with_fields(max_steps=steps), tmp_path, progress=False)
    fit(config, tmp_path, resume=True, progress=False)
    assert_equal_runs(folder, tmp_path)
    assert_equal_runs(folder, tmp_path, "average.params")


def test_two_devices_train_like_one(config, tmp_path, monkeypatch):
    """With frozen batch normalization, whose statistics are otherwise those of a device."""
    config = config.with_fields(freeze=("backbone", "neck"), epochs=1, augment=("mosaic",))
    fit(config, tmp_path / "one", progress=False)
    two_devices(monkeypatch)
    fit(config, tmp_path / "two", progress=False)
    one, two = arrays(tmp_path / "one"), arrays(tmp_path / "two")
    start = {name: p.list_data()[0].asnumpy() for name, p in new_parameters(config).items()}
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
        trained = name.startswith("yolo_outputs.") and ".prediction." in name
        assert (value != start[name]).any() == trained, name


def new_parameters(config):
    return Run(config, Workers()).net._collect_params_with_prefix()


def test_two_devices_resume(config, tmp_path, monkeypatch):
    two_devices(monkeypatch)
    config = config.with_fields(augment=("flip",))
    fit(config, tmp_path / "straight", progress=False)
    fit(config.with_fields(max_steps=2), tmp_path / "resumed", progress=False)
    fit(config, tmp_path / "resumed", resume=True, progress=False)
    # The running statistics of both are saved as their mean.
    one, two = arrays(tmp_path / "straight"), arrays(tmp_path / "resumed")
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "float16"},
        {"dtype": "bfloat16", "memory_efficient": True},
        {"accumulate": 2, "memory_efficient": "most", "native": False},
    ],
    ids=str,
)
def test_other_precisions_and_less_memory(config, tmp_path, monkeypatch, fields):
    allow_float16(monkeypatch)
    result = fit(config.with_fields(epochs=1, **fields), tmp_path, progress=False)
    assert 0 < result.last["train_loss"] < 1000
    assert 0 <= result.last["test_map"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("box_loss", ["l1", "giou", "ciou"])
def test_a_detector_overfits_a_few_images(data, tmp_path, box_loss):
    """Evaluated on its own training images, it finds all boxes and no others."""
    config = TINY_DETECTION.with_fields(
        data_dir=str(data),
        train_split="val",
        val_split="val",
        augment=(),
        optimizer="adamw",
        momentum=0.9,
        wd=0.0,
        lr=0.01,
        epochs=120,
        schedule="cosine",
        warmup_epochs=5,
        patience=0,
        box_loss=box_loss,
    )
    assert fit(config, tmp_path, progress=False).best["test_map"] == pytest.approx(1.0)


def test_freezing_and_head_epochs(config):
    run = Run(config.with_fields(freeze=("backbone.features.stem",), head_epochs=1), Workers())
    assert run.freezer.start_epoch(0)
    assert {name.split(".")[0] for name in run.freezer.trained} == {"neck", "yolo_outputs"}
    assert run.freezer.start_epoch(1)
    trained = [name for name in run.freezer.trained if name.startswith("backbone.")]
    assert trained
    assert not any(name.startswith("backbone.features.stem.") for name in trained)


def test_rates_fall_along_the_backbone(config):
    run = Run(config.with_fields(layer_decay=0.5), Workers())
    rates = {name: p.lr_mult for name, p in run.net._collect_params_with_prefix().items()}
    assert {rate for name, rate in rates.items() if not name.startswith("backbone.")} == {1.0}
    stages = {name.split(".")[2]: rate for name, rate in rates.items() if "backbone" in name}
    assert sorted(rate for name, rate in stages.items() if name.startswith("stage")) == [
        *(0.0625, 0.125, 0.25, 0.5)
    ]
    assert stages["stem"] < stages["stage1"]


def test_labels_have_as_few_rows_as_the_boxes_need(config):
    task = Detection(config.task, None, [mx.cpu()])
    labels = np.full((2, 100, 6), -1, np.float32)
    assert task.targets(None, labels, None, 1)[1].shape == (2, 8, 6)
    labels[1, :9] = 0
    assert task.targets(None, labels, None, 1)[1].shape == (2, 16, 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "csp_peleenet", "model_args": {}}, "is no detector: give one such as yolo3_efm"),
        ({"resize": 72}, "resize .=72. must be a multiple of 32"),
        ({"mixup": 0.2}, "`mixup` .=0.2. is not for detection: add mixup to `augment`"),
        ({"teacher": "dpn92"}, "`teacher`"),
        ({"cache_features": True, "augment": ()}, "`cache_features` is for classification"),
        ({"augment": ("mosaik",)}, "mosaik.*did you mean 'mosaic'"),
        ({"batch_size": 9}, "`batch_size` .=9. is more than the 8 training images"),
        ({"train_split": "trian"}, "has no split 'trian'.*train"),
        ({"model_args": {**SMALL, "input_size": 64}}, "`input_size` of the model follows from"),
    ],
)
def test_wrong_configurations_are_refused(config, fields, message):
    with pytest.raises(ValueError, match=message):
        Run(config.with_fields(**fields), Workers())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"multi_scale": (64, 32)}, "multi_scale .*must be none, or the smallest and the largest"),
        ({"multi_scale": (30, 64)}, "multi_scale"),
        ({"anchors": "kmeans"}, "anchors"),
        ({"box_loss": "l2"}, "box_loss"),
        ({"ignore": 1.5}, "ignore"),
    ],
)
def test_wrong_values_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TINY_DETECTION.with_fields(**fields)


def test_anchors_are_chosen(config):
    found = Run(config, Workers()).net.spec.anchors
    assert found == Run(config, Workers()).net.spec.anchors  # a resumed run computes them again
    sizes = np.array(found)
    assert (np.diff(sizes.prod(axis=1)) >= 0).all()
    assert sizes.max() <= 64
    coco = Run(config.with_fields(anchors="coco"), Workers()).net.spec.anchors
    assert coco[0] == (10, 13)
    own = tuple((side, side) for side in range(4, 40, 4))
    args = {**SMALL, "anchors": own}
    assert Run(config.with_fields(model_args=args), Workers()).net.spec.anchors == own


def test_a_backbone_starts_from_a_classifiers_run(config, tmp_path, capsys):
    classifier = TINY.with_fields(
        model="csp_peleenet",
        model_args=BACKBONE,
        resize=32,
        epochs=1,
        mean=(0.1,) * 3,
        std=(1,) * 3,
    )
    fit(classifier, tmp_path / "classifier", progress=False)
    own = config.with_fields(
        pretrained=str(tmp_path / "classifier"), model_args={"width": 0.125}, epochs=1
    )
    own = adopt_model(own)
    assert own.model.name == DETECTOR
    assert own.model.args["backbone_args"] == BACKBONE
    capsys.readouterr()
    fit(own.with_fields(max_steps=1, lr=1e-9), tmp_path / "detector", progress=False)
    assert "a new output for 3 classes" in capsys.readouterr().out
    source, mine = arrays(tmp_path / "classifier"), arrays(tmp_path / "detector")
    shared = [name for name in source if not name.startswith("output.")]
    assert len(shared) > 20
    for name in shared:
        if name.endswith("weight"):
            value = mine[f"backbone.{name}"]
            np.testing.assert_allclose(value, source[name], atol=1e-6, err_msg=name)
    assert checkpoint.load(tmp_path / "detector").preprocessing.mean == GRAY


def test_a_detector_starts_from_a_detectors_run(straight, config, tmp_path):
    _, folder = straight
    own = adopt_model(config.with_fields(pretrained=str(folder)))
    assert own.model.args["anchors"] == checkpoint.load(folder).spec["anchors"]
    run = Run(own, Workers())
    run.load_initial_weights()
    average = mx.nd.load(str(folder / "checkpoints/best/average.params"))
    for name, parameter in run.net._collect_params_with_prefix().items():
        value = parameter.list_data()[0].asnumpy()
        np.testing.assert_array_equal(value, average[name].asnumpy(), err_msg=name)
    assert run.pretrained["output"] == "loaded"


def test_fields_of_other_tasks_are_refused_by_the_task():
    with pytest.raises(ValueError, match=r"`cutmix` .=1\.0. is not for detection"):
        Detection(TaskConfig(name="detection", cutmix=1.0), None, [mx.cpu()])


def test_the_configuration_survives_json(config):
    config = config.with_fields(multi_scale=(32, 96), train_split="a+b", letterbox=True)
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
