from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.export_config import CONFIG

import gluondense
from gluondense.data import load_dataset
from gluondense.data.files.image_list import ImageList
from gluondense.data.files.sources import FolderSource
from gluondense.data.preprocessing import Preprocessing
from gluondense.data.transforms.batch import normalize, resize
from gluondense.deploy.pre_post import OUTPUTS, PARAMS_DTYPES
from gluondense.deploy.quantization.calibration import Calibration
from gluondense.deploy.targets import TARGETS
from gluondense.graph.ranges import METHODS
from gluondense.training import fit, load
from gluondense.weights import WEIGHTS, save_weights


@pytest.fixture
def script():
    """Import a command by its name."""
    return lambda name: importlib.import_module(f"gluondense.commands.{name}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(CONFIG, folder, progress=False)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run folder that the test may modify."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="module")
def image_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image_files")
    images = load_dataset("synthetic").test_images[:2]
    for index, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{index}.png")
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype("uint8")
    Image.fromarray(photo).save(folder / "photo.jpg")
    return [str(folder / name) for name in ("0.png", "1.png", "photo.jpg")]


def refused(main, arguments, capsys):
    """Return the one line of the error that a command prints with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_export_writes_into_the_run_and_says_how_to_load(script, run, capsys, tmp_path):
    assert script("export").main([str(run)]) == 0
    out = capsys.readouterr().out
    prefix = run / "export" / "densenet121"
    block, checkpoint = gluondense.load_exported(prefix), load(run)
    for name in ("class_names", "mean", "std", "input_shape"):
        assert getattr(block.metadata, name) == getattr(checkpoint, name)
    for end in ("-symbol.json", "-0000.params", ".json"):
        assert f"{prefix}{end} (" in out
    x = mx.nd.random.normal(shape=checkpoint.input_shape)
    np.testing.assert_allclose(
        block(x).asnumpy(), checkpoint.network()(x).asnumpy(), rtol=1e-4, atol=1e-5
    )
    _, snippet = out.split("Load it in stock MXNet:")
    assert len(snippet.strip().splitlines()) == 3
    lines = "\n".join(line.strip() for line in snippet.splitlines())
    names: dict = {}
    with pytest.warns(UserWarning, match="Cannot decide type"):  # MXNet's own
        exec(lines, names)
    assert names["outputs"].shape == (1, 5)


def test_export_of_a_checkpoint_is_written_outside_it(script, run, capsys):
    assert script("export").main([str(run / "checkpoints" / "last")]) == 0
    assert (run / "export" / "densenet121.json").is_file()
    assert not (run / "checkpoints" / "last" / "export").exists()


def test_export_to_another_prefix_and_shape(script, run, tmp_path, capsys):
    options = ["--out", str(tmp_path / "there" / "net"), "--input-shape", "2,3,20,16"]
    assert script("export").main([str(run), *options]) == 0
    about = gluondense.load_exported(tmp_path / "there" / "net").metadata
    assert about.input_shape == (2, 3, 20, 16)
    assert not (run / "export").exists()


def test_int8_export_is_calibrated_with_the_runs_images_and_reports_the_accuracy(
    script, run, capsys
):
    assert script("export").main([str(run), "--target", "int8", "--calibration-images", "40"]) == 0
    out = capsys.readouterr().out
    about = gluondense.load_exported(run / "export" / "densenet121").metadata.quantization
    assert (about["images"], about["method"]) == (40, "minmax")
    assert "Calibrated with 40 images (minmax); " in out
    accuracy = load(run).metrics["test_acc"]
    assert f"Accuracy over all 50 test images of synthetic: {accuracy:.2%} in float32, " in out


def test_export_that_takes_pixels_and_gives_probabilities(script, run, capsys):
    options = ["--preprocess", "--output", "probabilities", "--target", "int8"]
    assert script("export").main([str(run), *options]) == 0
    out = capsys.readouterr().out
    assert "outputs = net(mx.nd.zeros((1, 12, 12, 3), dtype='uint8'))" in out
    accuracy = load(run).metrics["test_acc"]
    assert f"Accuracy over all 50 test images of synthetic: {accuracy:.2%} in float32, " in out
    after = float(out.split(" in float32, ")[1].split("%")[0]) / 100
    assert after == pytest.approx(accuracy, abs=0.1)
    about = gluondense.load_exported(run / "export" / "densenet121").metadata
    assert (about.preprocess, about.output) == (True, "probabilities")


def test_export_in_float16(script, run, capsys):
    assert script("export").main([str(run), "--params-dtype", "float16"]) == 0
    about = gluondense.load_exported(run / "export" / "densenet121").metadata
    assert about.params_dtype == "float16"


def test_int8_export_is_calibrated_with_image_files(script, run, image_files, tmp_path, capsys):
    folder = tmp_path / "image_files"
    folder.mkdir()
    for file in image_files:
        shutil.copy(file, folder)
    options = ["--calibrate", str(folder), "--calibration-method", "entropy"]
    assert script("export").main([str(run), "--target", "int8", *options]) == 0
    assert "Calibrated with 3 images (entropy); " in capsys.readouterr().out


def test_unreadable_training_images_are_left_out_of_the_calibration(tmp_path, capsys):
    from gluondense.commands.export import _readable_images

    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    names = np.array([b"a.png", b"b.png"])
    source = FolderSource(ImageList(tmp_path, names, np.zeros(2, np.int64), ("all",)))
    preprocessing = Preprocessing.stretched((0.5,) * 3, (0.5,) * 3, (4, 4))
    assert _readable_images(source, [0, 1], preprocessing).shape == (1, 4, 4, 3)
    error = "warning: 1 of 2 training images can't be read; the calibration leaves them out\n"
    assert capsys.readouterr().err == error
    with pytest.raises(ValueError, match="1 of 1 training images can't be read: name a folder"):
        _readable_images(source, [1], preprocessing)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}", "--target", "onedn"], "unknown target 'onedn'; did you mean 'onednn'"),
        (["{run}", "--calibrate", "x"], "--target portable is not calibrated"),
        (["{run}", "--target", "int8", "--calibrate", "nowhere"], "no images at nowhere"),
        (
            ["{run}", "--target", "int8", "--calibration-images", "0"],
            "--calibration-images (=0) must",
        ),
        (["{run}", "--input-shape", "1,1,12,12"], "takes images of shape"),
        (["{run}", "--out", "{run}/config.json/net"], "cannot write to"),
        (["{run}/nowhere"], "there is no run, checkpoint, export or weights file at"),
        (["{run}/checkpoints/best/model.params"], "is a weights file: name its network"),
    ],
)
def test_export_refuses_in_one_line(script, run, capsys, arguments, words):
    arguments = [argument.format(run=run) for argument in arguments]
    assert words in refused(script("export").main, arguments, capsys)
    assert not (run / "export").exists()


def test_export_refuses_a_damaged_checkpoint(script, run, capsys):
    path = run / "checkpoints" / "best" / "model.params"
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.params" in refused(script("export").main, [run], capsys)


def test_export_reports_outputs_that_differ(script, run, capsys, monkeypatch):
    def export(*args, **kwargs):
        raise RuntimeError("the loaded graph's outputs are off by 1.")

    monkeypatch.setattr("gluondense.deploy.exporter.export", export)
    assert script("export").main([str(run)]) == 1
    assert capsys.readouterr().err == "error: the loaded graph's outputs are off by 1.\n"


def test_defaults_in_the_help_are_those_of_calibration(script, capsys):
    with pytest.raises(SystemExit):
        script("export").main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert f"{Calibration.method} (default), " in text
    assert f"calibration images (default: {Calibration.count})" in text
    assert f"int8 may change (default: {Calibration.max_changed})" in text
    for name in (*METHODS, *OUTPUTS, *PARAMS_DTYPES, *TARGETS):
        assert name in text


def test_export_refuses_an_invalid_shape(script, run, capsys):
    with pytest.raises(SystemExit) as caught:
        script("export").main([str(run), "--input-shape", "1,x"])
    assert caught.value.code == 2
    assert "invalid shape value: '1,x'" in capsys.readouterr().err


def test_predict_from_a_run_equals_predict_from_its_export(script, run, image_files, capsys):
    assert script("export").main([str(run)]) == 0
    capsys.readouterr()
    predict = script("predict").main
    found = []
    for source in (run, run / "checkpoints" / "best", run / "export" / "densenet121"):
        assert predict([str(source), *image_files, "--json", "--top", "3"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [item["image"] for item in found[0]] == image_files
    for item, *others in zip(*found):
        assert len(item["labels"]) == len(item["probabilities"]) == 3
        assert all(other["labels"] == item["labels"] for other in others)
        for other in others:
            assert other["probabilities"] == pytest.approx(item["probabilities"], abs=1e-5)


def test_predict_equals_the_network_on_test_images(script, run, image_files, capsys):
    assert script("predict").main([str(run), *image_files[:2], "--json", "--top", "99"]) == 0
    found = json.loads(capsys.readouterr().out)
    checkpoint, data = load(run), load_dataset("synthetic")
    images = resize(data.test_images[:2], checkpoint.input_shape[2:])
    x = mx.nd.array(normalize(images, checkpoint.mean, checkpoint.std))
    expected = mx.nd.softmax(checkpoint.network()(x)).asnumpy()
    for item, row in zip(found, expected):
        assert len(item["labels"]) == 5
        assert sum(item["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert item["probabilities"] == sorted(item["probabilities"], reverse=True)
        by_label = dict(zip(item["labels"], item["probabilities"]))
        got = [by_label[name] for name in checkpoint.class_names]
        np.testing.assert_allclose(got, row, atol=1e-6)


def test_predict_prints_a_table(script, run, image_files, capsys):
    assert script("predict").main([str(run), *image_files, "--top", "2"]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    assert len(tables) == 3
    names = load(run).class_names
    for file, table in zip(image_files, tables):
        head, *rows = table.strip("\n").splitlines()
        assert head == file
        assert len(rows) == 2
        for row in rows:
            label, probability = row.strip().rsplit(maxsplit=1)
            assert label.strip() in names
            assert probability.endswith("%")
        assert len({len(row) for row in rows}) == 1


def test_predict_inverts(script, run, image_files, tmp_path, capsys):
    Image.fromarray(255 - np.asarray(Image.open(image_files[0]))).save(tmp_path / "negative.png")
    predict = script("predict").main
    assert predict([str(run), image_files[0], "--json"]) == 0
    (plain,) = json.loads(capsys.readouterr().out)
    assert predict([str(run), str(tmp_path / "negative.png"), "--json", "--invert"]) == 0
    (inverted,) = json.loads(capsys.readouterr().out)
    assert inverted["labels"] == plain["labels"]
    assert inverted["probabilities"] == plain["probabilities"]


def test_predict_refuses_in_one_line(script, run, image_files, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    predict = script("predict").main
    assert str(broken) in refused(predict, [run, image_files[0], broken], capsys)
    assert "nowhere.png" in refused(predict, [run, tmp_path / "nowhere.png"], capsys)
    assert "top (=0)" in refused(predict, [run, image_files[0], "--top", "0"], capsys)
    (tmp_path / "empty").mkdir()
    assert "holds no checkpoint" in refused(predict, [tmp_path / "empty", image_files[0]], capsys)
    assert "there is no run" in refused(predict, [tmp_path / "nothing", image_files[0]], capsys)


def test_predict_refuses_incomplete_exports(script, run, image_files, tmp_path, capsys):
    predict, net = script("predict").main, load(run).network()
    net.preprocessing = None
    bare = gluondense.export(net, tmp_path / "bare", (1, 3, 12, 12))
    message = refused(predict, [bare.prefix, image_files[0]], capsys)
    assert "give at least --mean and --std." in message
    flags = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    assert predict([bare.prefix, image_files[0], *flags]) == 0
    assert capsys.readouterr().out.startswith(image_files[0])
    message = refused(predict, [bare.prefix, image_files[0], *flags[:2]], capsys)
    assert "--std (=None) must be given too, as the preprocessing is unknown" in message
    bare.params.unlink()
    assert "bare-0000.params" in refused(predict, [bare.prefix, image_files[0]], capsys)

    fields = {**CONFIG.model.args, "classes": 5}
    maps = gluondense.get_model("densenet121", features_only=True, **fields)
    maps.initialize()
    numbers = {"mean": [0.5] * 3, "std": [0.5] * 3}
    files = gluondense.export(maps, tmp_path / "maps", (1, 3, 12, 12), **numbers)
    assert "gives features" in refused(predict, [files.prefix, image_files[0]], capsys)


def test_predict_without_labels_prints_indices(script, run, image_files, tmp_path, capsys):
    numbers = {"mean": [0.5] * 3, "std": [0.5] * 3}
    net = load(run).network()
    files = gluondense.export(net, tmp_path / "net", (1, 3, 12, 12), **numbers)
    assert script("predict").main([str(files.metadata), image_files[0], "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert set(item["labels"]) <= {str(number) for number in range(5)}


def test_scripts_run_as_processes_without_a_traceback(root, tmp_path):
    environment = {"PYTHONPATH": str(root), "PATH": ""}
    for name, arguments in (("export.py", []), ("predict.py", ["x.png"])):
        command = [sys.executable, root / "scripts" / name, tmp_path / "nowhere", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_onnx_models_are_exported_and_predict(script, run, image_files, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert script("export").main([str(run), "--target", "onnx"]) == 0
    assert "onnxruntime.InferenceSession('" in capsys.readouterr().out
    answers = []
    for model in (run, run / "export" / "densenet121.onnx"):
        assert script("predict").main([str(model), *image_files, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    for one, other in zip(*answers):
        assert one["labels"] == other["labels"]
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-5)


def test_archive_packs_a_runs_export(script, run, tmp_path, capsys):
    assert script("export").main([str(run)]) == 0
    prefix = run / "export" / "densenet121"
    capsys.readouterr()
    for ending in (".mar", ".tar.gz", ".zip"):
        path = tmp_path / f"model{ending}"
        assert script("archive").main([str(prefix), str(path)]) == 0
        assert capsys.readouterr().out == f"{path} ({path.stat().st_size:,} bytes)\n"
        assert gluondense.load_exported(path).metadata.class_names == load(run).class_names


def test_archive_refuses_in_one_line(script, run, tmp_path, capsys):
    main = script("archive").main
    assert "is not an export" in refused(main, [run / "nowhere", tmp_path / "a.mar"], capsys)
    line = f"it is a run, so export it first: gluondense export {run}"
    assert line in refused(main, [run, tmp_path / "a.mar"], capsys)
    weights = tmp_path / "net.params"
    weights.touch()
    line = f"export a weights file first: gluondense export {weights} --model NAME"
    assert line in refused(main, [weights, tmp_path / "a.mar"], capsys)
    assert script("export").main([str(run)]) == 0
    capsys.readouterr()
    assert "must end with" in refused(main, [run / "export" / "densenet121", "a.exe"], capsys)


def test_flags_change_the_preprocessing_that_an_export_keeps(
    script, run, image_files, tmp_path, capsys
):
    own = load(run).preprocessing
    flags = ["--invert", "--crop-ratio", "0.9", "--interpolation", "bicubic"]
    assert script("export").main([str(run), "--out", str(tmp_path / "net"), *flags]) == 0
    kept = gluondense.load_exported(tmp_path / "net").metadata.preprocessing
    changes = {"invert": True, "crop_ratio": 0.9, "interpolation": "bicubic"}
    assert kept == replace(own, resize="shorter", source_size=None, **changes)
    capsys.readouterr()
    predict = script("predict").main
    assert predict([str(tmp_path / "net"), *image_files, "--json"]) == 0
    found = capsys.readouterr().out
    assert predict([str(run), *image_files, "--json", *flags]) == 0
    for one, other in zip(json.loads(found), json.loads(capsys.readouterr().out)):
        assert one["labels"] == other["labels"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
    assert predict([str(tmp_path / "net"), *image_files, "--json", "--no-invert"]) == 0
    assert capsys.readouterr().out != found
    message = refused(predict, [run, *image_files, "--crop-ratio", "2"], capsys)
    assert "--crop-ratio (=2.0) must be in (0, 1]" in message


MODEL = "densenet40_k12_bc_cifar10"
FIELDS = {"block_config": (1, 1, 1), "classes": 5}
SET = [f"--model={MODEL}", "--set=block_config=[1,1,1]", "--set=classes=5"]


@pytest.fixture
def weights_file(tmp_path):
    """A file of random weights that says nothing about its network."""
    net = gluondense.get_model(MODEL, **FIELDS)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    return tmp_path / "net.params"


def test_export_of_a_weights_file(script, weights_file, image_files, tmp_path, capsys):
    prefix = tmp_path / "out/net"
    known = ["--mean=0.5,0.4,0.3", "--std=0.2,0.2,0.2"]
    args = [weights_file, *SET, *known, "--input-shape=1,3,32,32", "--out", prefix]
    assert script("export").main([str(arg) for arg in args]) == 0
    assert f"{MODEL} with the weights of {weights_file}, checked" in capsys.readouterr().out
    metadata = gluondense.load_exported(prefix).metadata
    assert metadata.mean == (0.5, 0.4, 0.3)
    assert metadata.spec["classes"] == 5
    answers = []
    for model in ([weights_file, *SET, *known, "--input-size=32"], [prefix]):
        arguments = [*model[:1], *image_files, *model[1:], "--json"]
        assert script("predict").main([str(arg) for arg in arguments]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    labels, probabilities = (
        [[image[name] for image in answer] for answer in answers]
        for name in ("labels", "probabilities")
    )
    assert labels[0] == labels[1]
    np.testing.assert_allclose(probabilities[0], probabilities[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "is unknown: give it with --mean, --std"),
        (["--mean=0,0,0", "--std=1,1,1"], "--input-shape"),
        (["--mean=0,0,0", "--std=1,1,1", "--input-shape=1,3,32,32"], "give --out PREFIX"),
    ],
)
def test_export_of_weights_asks_for_what_is_unknown(script, weights_file, capsys, arguments, words):
    assert words in refused(script("export").main, [weights_file, *SET, *arguments], capsys)


@pytest.mark.parametrize("target", TARGETS)
def test_export_refuses_weights_that_are_not_finite(script, run, target, capsys):
    """Of a run too, before anything else is done."""
    if target.startswith("onnx"):
        pytest.importorskip("onnx")
    saved = load(run)
    net = saved.network()
    net.output.bias.set_data(net.output.bias.data() * np.nan)
    shape, images = saved.input_shape, np.zeros((2, *saved.input_shape[1:]), np.float32)
    calibration = images if TARGETS[target].needs_calibration else None
    with pytest.raises(ValueError, match=r"the network has 5 values that are nan.*output_bias"):
        gluondense.export(net, run / "bad", shape, target, calibration=calibration)
    assert not list(run.glob("bad*"))


@pytest.mark.parametrize("target", ["portable", "native"])
def test_export_accepts_nan_on_request(weights_file, tmp_path, target, request, script, capsys):
    if target == "native":
        request.getfixturevalue("native_operator")
    net = gluondense.get_model(MODEL, pretrained=weights_file, **FIELDS)
    bias = net.output.bias.data().asnumpy()
    bias[1] = np.nan
    net.output.bias.set_data(mx.nd.array(bias))
    net.save_parameters(str(weights_file))
    args = [str(weights_file), *SET, "--mean=0,0,0", "--std=1,1,1", "--input-shape=1,3,32,32"]
    args += ["--out", str(tmp_path / "nan"), "--target", target]
    assert "--allow-nan" in refused(script("export").main, args, capsys)
    assert script("export").main([*args, "--allow-nan"]) == 0
    outputs = gluondense.load_exported(tmp_path / "nan")(mx.nd.ones((1, 3, 32, 32))).asnumpy()
    assert np.isnan(outputs).tolist() == [[False, True, False, False, False]]


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """Random weights of the row of CIFAR-10, served as published ones."""
    net = gluondense.get_model(MODEL)
    net.initialize()
    save_weights(net, tmp_path / "file.safetensors", "veit-densenet")
    content = (tmp_path / "file.safetensors").read_bytes()
    name = f"{MODEL}.hazy_cifar10"
    digest = hashlib.sha256(content).hexdigest()
    row = WEIGHTS[name]
    server.pages[f"/{row.file_name}"] = content
    row = dataclasses.replace(row, urls=(f"{server.url}/{row.file_name}",), sha256=digest)
    monkeypatch.setitem(WEIGHTS, name, row)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    return row


def test_export_and_archive_of_published_weights(script, published, tmp_path, capsys, image_files):
    """By name, with the preprocessing and the classes of the catalog."""
    prefix, mar = tmp_path / "out/net", tmp_path / "net.mar"
    assert script("export").main([published.name, "--out", str(prefix)]) == 0
    assert f"{published.name}, checked" in capsys.readouterr().out
    assert script("archive").main([MODEL, str(mar)]) == 0
    for path in (prefix, mar):
        metadata = gluondense.load_exported(path).metadata
        assert metadata.preprocessing.describe() == published.preprocessing.describe()
        assert metadata.class_names[:2] == ("airplane", "automobile")
        assert metadata.input_shape == (1, 3, 32, 32)
    assert script("predict").main([published.name, *image_files, "--top=1"]) == 0
    table = capsys.readouterr().out
    assert any(name in table for name in metadata.class_names)
    assert "is for published weights" in refused(
        script("archive").main, [prefix, mar, "--target=native"], capsys
    )
