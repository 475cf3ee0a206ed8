from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from support.command_line import SMALL, load_script
from support.images import encoded, gradient, make_folders
from support.training_tiny import TINY

import gluondense
from gluondense.data import load_dataset
from gluondense.data.files.image_list import list_folders
from gluondense.data.files.record_maker import make_recordio
from gluondense.data.preprocessing import Preprocessing
from gluondense.environment.process import import_gluoncv
from gluondense.evaluation.evaluate import evaluate_model, open_test_data
from gluondense.evaluation.model import EvaluatedModel, open_model
from gluondense.training import checkpoint, fit
from gluondense.training.run_folder import RunFolder
from gluondense.weights import WEIGHTS, save_weights
from gluondense.weights.published import published_errors

TINY_IMAGES = Preprocessing((0.0,) * 3, (1.0,) * 3, input_size=8)


@pytest.fixture
def script(root):
    return load_script(root, "evaluate")


@pytest.fixture(scope="module")
def run(tmp_path_factory, root):
    """A run on images of four colours, and their RecordIO file."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_recordio(folder / "a", list_folders(make_folders(folder / "train")))
    rec = str(folder / "a.rec")
    args = ["--rec-train", rec, "--rec-val", rec, *SMALL, "--epochs=3", "--set=dropout=0"]
    train = load_script(root, "train.imagenet")
    assert (
        train.main([*args, "--lr-mode=cosine", "--augment=flip", "--out", str(folder / "run")]) == 0
    )
    return folder / "run", rec


def figures(script, tmp_path, *args):
    assert script.main([*map(str, args), "--json", str(tmp_path / "out.json"), "-j0"]) == 0
    return json.loads((tmp_path / "out.json").read_text())


def test_a_run_has_the_accuracy_of_its_log(script, run, tmp_path, capsys):
    found = figures(script, tmp_path, run[0], "--report", tmp_path / "page.html")
    best = max(RunFolder(run[0]).rows(), key=lambda row: row["test_acc"])
    assert found["top1"] == pytest.approx(best["test_acc"])
    assert found["top5"] == 1
    assert found["loss"] == pytest.approx(best["test_loss"], rel=1e-4)
    assert list(found["classes"]) == [f"class{number}" for number in range(4)]
    assert np.mean(list(found["classes"].values())) == pytest.approx(found["top1"])
    output = capsys.readouterr().out
    assert output.startswith("24 images of imagenet, 1 crop: top-1 ")
    assert "published" not in output  # the fields of its network are changed
    page = (tmp_path / "page.html").read_text()
    assert "evaluation of 24 images" in page


PIXELS, PROBABILITIES = {"preprocess": True}, {"output": "probabilities"}


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("portable", {}),
        ("portable", PIXELS),
        ("portable", PROBABILITIES),
        ("onnx", {}),
        ("onnx", {**PIXELS, **PROBABILITIES}),
    ],
)
def test_an_export_equals_its_run(script, run, tmp_path, target, options):
    if target == "onnx":
        pytest.importorskip("onnxruntime")
    net = checkpoint.load(run[0]).network()
    saved = checkpoint.load(run[0])
    gluondense.export(
        net,
        tmp_path / "net",
        input_shape=saved.input_shape,
        target=target,
        class_names=saved.class_names,
        **options,
    )
    mine = figures(script, tmp_path, run[0])
    export = figures(script, tmp_path, tmp_path / "net", "--rec-val", run[1])
    assert export["top1"] == mine["top1"]
    assert export["loss"] == pytest.approx(mine["loss"], rel=1e-4)


def test_ten_crops_of_an_export_that_takes_pixels(script, run, tmp_path):
    saved = checkpoint.load(run[0])
    names = saved.class_names
    gluondense.export(
        saved.network(), tmp_path / "net", saved.input_shape, class_names=names, preprocess=True
    )
    mine = figures(script, tmp_path, run[0], "--crops=10")
    export = figures(script, tmp_path, tmp_path / "net", "--rec-val", run[1], "--crops=10")
    assert export["loss"] == pytest.approx(mine["loss"], rel=1e-4)


def test_arrays_of_an_export_that_takes_pixels(script, tmp_path):
    fit(TINY.with_fields(epochs=1), tmp_path / "run", progress=False)
    saved = checkpoint.load(tmp_path / "run")
    gluondense.export(
        saved.network(),
        tmp_path / "net",
        saved.input_shape,
        class_names=saved.class_names,
        **PIXELS,
        **PROBABILITIES,
    )
    mine = figures(script, tmp_path, tmp_path / "run")
    export = figures(script, tmp_path, tmp_path / "net", "--dataset=synthetic")
    assert export["top1"] == mine["top1"]
    assert export["loss"] == pytest.approx(mine["loss"], rel=1e-4)


@pytest.mark.parametrize("flag", ["--json", "--report"])
def test_a_file_that_cannot_be_written_is_refused_before_the_evaluation(
    script, tmp_path, capsys, flag
):
    path = tmp_path / "nowhere" / "file"
    assert script.main([str(tmp_path / "no-model"), flag, str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: can't write {path}: name a file in a folder")


def test_an_unknown_preprocessing_is_asked_for(script, run, tmp_path, capsys):
    saved = checkpoint.load(run[0])
    net = saved.network()
    net.preprocessing = None
    gluondense.export(net, tmp_path / "net", saved.input_shape, class_names=saved.class_names)
    data = [str(tmp_path / "net"), "--rec-val", run[1], "-j0"]
    assert script.main(data) == 2
    assert "is unknown: give at least --mean and --std" in capsys.readouterr().err
    numbers = [f"--{name}={','.join(map(str, getattr(saved, name)))}" for name in ("mean", "std")]
    found = figures(script, tmp_path, *data, *numbers, "--crop-ratio=0.875")
    assert found["top1"] == figures(script, tmp_path, run[0])["top1"]
    assert (found["resize"], found["input_size"]) == ("shorter", [16, 16])
    assert figures(script, tmp_path, *data, *numbers)["resize"] == "exact"


def test_features_are_refused(script, run, tmp_path, capsys):
    saved = checkpoint.load(run[0])
    gluondense.export(saved.network(), tmp_path / "net", saved.input_shape, output="features")
    assert script.main([str(tmp_path / "net"), "--rec-val", run[1]]) == 2
    assert "returns features" in capsys.readouterr().err


def test_ten_crops_and_other_sizes(script, run, tmp_path):
    found = figures(script, tmp_path, run[0], "--crops=10", "--input-size=24", "--crop-ratio=0.7")
    assert (found["crops"], found["input_size"], found["crop_ratio"]) == (10, [24, 24], 0.7)
    assert found["loss"] != figures(script, tmp_path, run[0], "--input-size=24")["loss"]


def test_unreadable_images_are_not_counted(script, run, tmp_path, capsys):
    make_folders(tmp_path / "val")
    (tmp_path / "val/class2/0.jpg").write_bytes(encoded_half())
    found = figures(script, tmp_path, run[0], "--data-dir", tmp_path)
    assert (found["images"], found["skipped"]) == (23, 1)
    assert "could not be read" in capsys.readouterr().out


def test_images_that_are_all_unreadable_are_an_error(script, run, tmp_path, capsys):
    make_folders(tmp_path / "val")
    files = [path for path in (tmp_path / "val").rglob("*") if path.is_file()]
    for file in files:
        file.write_bytes(encoded_half())
    args = [str(run[0]), "--data-dir", str(tmp_path), "--json", str(tmp_path / "out.json"), "-j0"]
    assert script.main(args) == 2
    message = f"none of the {len(files)} images of imagenet can be read"
    assert message in capsys.readouterr().err


def encoded_half():
    data = encoded(gradient())
    return data[: len(data) // 2]


def test_published_weights(script, run, tmp_path, monkeypatch):
    """A file of random values stands for the published weights."""
    net = gluondense.get_model("densenet121")
    net.initialize()
    save_weights(net, tmp_path / "w.safetensors")
    monkeypatch.setattr("gluondense.zoo.fetch_weights", lambda *args: tmp_path / "w.safetensors")
    model = open_model("densenet121.tv_in1k", [mx.cpu()])
    assert model.weights == "densenet121.tv_in1k"
    assert model.preprocessing == WEIGHTS["densenet121.tv_in1k"].preprocessing
    assert model.class_names[:2] == ("tench", "goldfish")
    errors = published_errors("densenet121", "imagenet", weights=model.weights)
    assert [error.top1 for error in errors] == [25.566, 25.02]
    assert model.spec == gluondense.get_spec("densenet121")


def test_arrays_in_memory(script, tmp_path):
    config = TINY.with_fields(epochs=1)
    result = fit(config, tmp_path / "run", progress=False)
    assert figures(script, tmp_path, tmp_path / "run")["top1"] == result.test_accuracy
    assert script.main([str(tmp_path / "run"), "--crops=10"]) == 2


@pytest.mark.parametrize(
    ("model", "dataset", "augmented", "error"),
    [
        ("densenet100_k12_bc_cifar10", "cifar10", True, 4.51),
        ("densenet100_k12_bc_cifar10", "cifar10", False, 5.92),
        ("densenet190_k40_bc_cifar100", "cifar100", True, 17.18),
        ("densenet190_k40_bc_cifar100", "cifar100", False, None),
        ("densenet40_k12_svhn", "svhn", False, 1.79),
        ("csp_densenet121", "imagenet", False, None),
    ],
)
def test_published_figures(model, dataset, augmented, error):
    found = published_errors(model, dataset, augmented=augmented)
    assert [row.top1 for row in found] == ([] if error is None else [error])


def test_published_weights_of_other_classes_have_no_figures():
    ours = {"model": "dpn68", "dataset": "imagenet", "weights": "dpn68.mx_in1k"}
    assert published_errors(**ours)
    assert not published_errors(**ours, spec=gluondense.get_spec("dpn68", classes=10))


def test_published_figures_are_of_the_same_network():
    def top1(name, **fields):
        spec = gluondense.get_spec(name, **fields)
        return [row.top1 for row in published_errors(name, "cifar10", augmented=True, spec=spec)]

    assert top1("densenet100_k12_cifar10") == [4.10]
    assert top1("densenet100_k12_cifar10", dropout=0.2) == [4.10]  # none in inference
    assert top1("densenet100_k12_cifar10", block_config=(12, 12, 12)) == [5.24]  # of 40 layers
    assert top1("densenet100_k12_cifar10", growth_rate=13) == []
    assert top1("densenet100_k12_cifar10", classes=7) == []


@pytest.fixture
def weights_file(tmp_path):
    """A file of random weights that says nothing about its network."""
    net = gluondense.get_model("densenet40_k12_bc_cifar10", **TINY_CIFAR)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    return net, tmp_path / "net.params"


TINY_CIFAR = {"block_config": (1, 1, 1), "classes": 5}


def test_a_weights_file(script, weights_file, tmp_path, capsys):
    """Its network, fields and normalization are given; safetensors of save_weights have them."""
    net, path = weights_file
    args = ["--model=densenet40_k12_bc_cifar10", "--set=block_config=[1,1,1]", "--set=classes=5"]
    data = ["--dataset=synthetic", "--mean=0.5,0.4,0.3", "--std=0.2,0.2,0.2"]
    found = figures(script, tmp_path, path, *args, *data)
    assert found["input_size"] == [32, 32]  # that of the data
    assert found["published"] == []
    assert "matched by position" in capsys.readouterr().err
    net.preprocessing = Preprocessing((0.5, 0.4, 0.3), (0.2,) * 3, input_size=32, resize="exact")
    net.classes = gluondense.data.DATASETS["synthetic"].class_names
    save_weights(net, tmp_path / "net.safetensors")
    stored = figures(script, tmp_path, tmp_path / "net.safetensors", "--dataset=synthetic")
    assert {**stored, "model": ""} == {**found, "model": ""}
    assert "position" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{file}"], "name its network with --model"),
        (["{file}", "--model=densenet40_k12_bc_cifar10"], "match no naming scheme of densenet40"),
        (["{file}", *["--model=densenet40_k12_bc_cifar10", "--set=block_config=[1,1,1]"]],
         "give them with --set"),
        (["{file}.gone"], "there is no run, checkpoint, export or weights file at"),
        (["densenet121.tv_in1k", "--set=classes=3"], "has 1000 classes, not 3"),
    ],
)  # fmt: skip
def test_errors_of_weights_are_one_line(script, weights_file, capsys, args, message):
    assert script.main([arg.format(file=weights_file[1]) for arg in args]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.startswith("error: ")
    assert line.count("\n") == 1


def test_the_normalization_of_a_weights_file_must_be_known(script, weights_file, capsys):
    args = ["--model=densenet40_k12_bc_cifar10", "--set=block_config=[1,1,1]", "--set=classes=5"]
    assert script.main([str(weights_file[1]), *args, "--dataset=synthetic"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "is unknown: give at least --mean, --std and --input-size" in line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nothing"], "nothing"),
        (["{run}", "--data-dir=/nowhere"], "no folder /nowhere"),
        (["{run}", "--dataset=synthetic"], "knows 4 classes, the data has 5"),
        (["{run}", "--input-size=0"], "--input-size 0"),
    ],
)
def test_errors_are_one_line(script, run, capsys, args, message):
    assert script.main([arg.format(run=run[0]) for arg in args]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert message in line


@pytest.fixture
def images(run, tmp_path):
    """The run's images as class folders."""
    make_folders(tmp_path / "images/val")
    return tmp_path / "images"


def test_classes_are_matched_by_name(script, run, images, tmp_path, capsys):
    expected = figures(script, tmp_path, run[0], "--data-dir", images)
    (images / "val/class0").rename(images / "val/zebra")  # all other classes get other labels
    assert script.main([str(run[0]), "--data-dir", str(images)]) == 2
    line = capsys.readouterr().err
    assert "the data lacks 'class0'; the model lacks 'zebra'" in line
    assert "--class-map" in line
    assert line.count("\n") == 1
    (tmp_path / "map.json").write_text('{"zebra": "class0"}')
    found = figures(
        script, tmp_path, run[0], "--data-dir", images, "--class-map", tmp_path / "map.json"
    )
    assert found["classes"] == expected["classes"]
    assert found["loss"] == pytest.approx(expected["loss"])


def test_a_missing_or_extra_class_is_refused(script, run, images, capsys):
    shutil.copytree(images / "val/class1", images / "val/class4")
    assert script.main([str(run[0]), "--data-dir", str(images)]) == 2
    assert "the model lacks 'class4'" in capsys.readouterr().err
    shutil.rmtree(images / "val/class4")
    shutil.rmtree(images / "val/class1")
    assert script.main([str(run[0]), "--data-dir", str(images)]) == 2
    assert "knows 4 classes, the data has 3: the data lacks 'class1'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "is not JSON"),
        ('["class0"]', "must be a JSON object of names"),
        ('{"cat": "class0"}', "renames 'cat', which the data does not have"),
        ('{"class1": "cat"}', "the model lacks 'cat'"),
    ],
)
def test_class_map_that_does_not_fit(script, run, images, tmp_path, capsys, text, message):
    (tmp_path / "map.json").write_text(text)
    args = [str(run[0]), "--data-dir", str(images), "--class-map", str(tmp_path / "map.json")]
    assert script.main(args) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


def test_published_weights_know_their_classes(tmp_path):
    """They and their exports have GluonCV's names of ImageNet's classes, two of them equal."""
    known = import_gluoncv().data.ImageNet1kAttr()
    for wnid in known.synset:
        (tmp_path / "val" / wnid).mkdir(parents=True)
        (tmp_path / "val" / wnid / "0.jpg").write_bytes(encoded(gradient()))
    net = mx.gluon.nn.Dense(1000)
    net.initialize()
    model = EvaluatedModel("weights", net, TINY_IMAGES, tuple(known.classes))

    def evaluate():
        return evaluate_model(model, open_test_data("imagenet", str(tmp_path)), [mx.cpu()])

    assert len(evaluate().to_dict()["classes"]) == 1000
    (tmp_path / "val" / known.synset[0]).rename(tmp_path / "val/zebrafish")
    with pytest.raises(ValueError, match="the data lacks 'tench'; the model lacks 'zebrafish'"):
        evaluate()


def test_an_export_without_class_names(script, run, images, tmp_path, capsys):
    saved = checkpoint.load(run[0])
    options = {"input_shape": saved.input_shape, "mean": saved.mean, "std": saved.std}
    gluondense.export(saved.network(), tmp_path / "net", **options)
    found = figures(script, tmp_path, tmp_path / "net", "--data-dir", images)
    assert found["top1"] == figures(script, tmp_path, run[0])["top1"]
    assert "matched by position" in capsys.readouterr().err
    shutil.copytree(images / "val/class1", images / "val/class4")
    assert script.main([str(tmp_path / "net"), "--data-dir", str(images)]) == 2
    assert "the class 4, but the network has only 4 outputs" in capsys.readouterr().err


def test_an_export_for_cpus_is_evaluated_there(script, run, images, tmp_path):
    saved = checkpoint.load(run[0])
    options = {"input_shape": saved.input_shape, "preprocessing": saved.preprocessing}
    files = gluondense.export(saved.network(), tmp_path / "net", target="onednn", **options)
    model = open_model(files.prefix, [mx.gpu(0)])
    found = evaluate_model(model, open_test_data("imagenet", str(images)), [mx.gpu(0)])
    assert found.to_dict()["top1"] == figures(script, tmp_path, run[0])["top1"]


def test_digits_are_names(script, tmp_path, monkeypatch, capsys):
    """Names "0" to "9" of arrays do not match other names by position."""
    fit(TINY.with_fields(epochs=1, dataset="digits", augment=()), tmp_path / "run", progress=False)
    figures(script, tmp_path, tmp_path / "run")
    data = load_dataset("digits")
    other = replace(data, info=replace(data.info, class_names=tuple("abcdefghij")))
    monkeypatch.setattr("gluondense.evaluation.evaluate.load_dataset", lambda *args: other)
    assert script.main([str(tmp_path / "run"), "--dataset=fashion_mnist"]) == 2
    assert "the data lacks '0', '1', '2' and 7 more" in capsys.readouterr().err


def test_a_run_takes_the_class_names_of_its_training_records(root, script, run, tmp_path):
    for suffix in (".rec", ".idx"):  # without names
        shutil.copy(Path(run[1]).with_suffix(suffix), tmp_path / f"val{suffix}")
    args = ["--rec-train", run[1], "--rec-val", str(tmp_path / "val.rec"), *SMALL, "--epochs=1"]
    train = load_script(root, "train.imagenet")
    assert train.main([*args, "--out", str(tmp_path / "run")]) == 0
    assert len(figures(script, tmp_path, tmp_path / "run")["classes"]) == 4


def test_labels_of_arrays_are_matched_by_name(script, tmp_path, monkeypatch):
    result = fit(TINY.with_fields(epochs=1), tmp_path / "run", progress=False)
    data = load_dataset("synthetic")
    names = data.info.class_names
    labels = (len(names) - 1 - data.test_labels).astype(np.int32)
    other = replace(data, info=replace(data.info, class_names=names[::-1]), test_labels=labels)
    monkeypatch.setattr("gluondense.training.data.load_dataset", lambda *args, **kwargs: other)
    found = figures(script, tmp_path, tmp_path / "run")
    assert found["top1"] == result.test_accuracy
    assert tuple(found["classes"]) == names


@pytest.mark.parametrize("options", [[], ["--preprocess"]])
def test_an_int8_export_is_calibrated_and_evaluated_on_the_runs_images(
    root, run, options, tmp_path, capsys
):
    folder, _ = run
    prefix = str(tmp_path / "net")
    assert load_script(root, "evaluate").main([str(folder)]) == 0
    accuracy = capsys.readouterr().out.split("top-1 ")[1].split("%")[0]
    words = f"images of imagenet: {float(accuracy):.2f}% in float32, "
    arguments = [str(folder), "--target", "int8", "--out", prefix, *options]
    assert load_script(root, "export").main(arguments) == 0
    assert words in capsys.readouterr().out
    assert gluondense.load_exported(prefix).metadata.quantization["images"] > 1


def test_an_int8_export_is_kept_if_the_test_data_has_other_classes(
    root, run, tmp_path, monkeypatch, capsys
):
    names = "gluondense.data.datasets.imagenet.record_class_names"
    monkeypatch.setattr(names, lambda path: ("a", "b", "c", "d"))
    arguments = [str(run[0]), "--target", "int8", "--out", str(tmp_path / "net")]
    assert load_script(root, "export").main(arguments) == 0
    assert "No accuracy, as the test set can't be used: " in capsys.readouterr().out
