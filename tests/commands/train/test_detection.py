"""The command that trains detectors: flags, GluonCV's names of them, and messages."""

from __future__ import annotations

import json
import shutil

import pytest
from support.command_line import load_script
from support.detection_data import make_voc
from support.detection_tiny import DETECTOR
from support.detectors import SMALL

from gluondense.training import checkpoint
from gluondense.training.recipes.detection import DETECTION_RECIPES
from gluondense.training.run_folder import RunFolder

FLAGS = [
    *(f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()),
    *("--recipe=demo", "--input-size=64", "--batch-size=4", "-j0", "--no-progress", "--epochs=1"),
    "--warmup-epochs=0",
]


@pytest.fixture(scope="module")
def script(root):
    return load_script(root, "train.detection")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_voc(tmp_path_factory.mktemp("voc") / "boxes", count=12, validation=4)


def config_of(script, *flags):
    return script.make_config(script.make_parser().parse_args([*flags]))


def test_a_run_trains_reports_and_resumes(script, data, tmp_path, capsys):
    out = tmp_path / "run"
    assert script.main([str(data), *FLAGS, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{DETECTOR} (width=" in printed
    assert "on boxes, recipe demo, 1 epochs, batch 4" in printed
    assert "8 train, 4 val images with" in printed
    assert "validation mAP@0.5" in printed
    assert script.main(["--resume", str(out), "--epochs=2", "--no-progress"]) == 0
    assert "resuming at step 2" in capsys.readouterr().out
    assert [row["epoch"] for row in RunFolder(out).rows()] == [1, 2]
    assert checkpoint.load(out).task == "detection"


def test_bad_boxes_are_named_or_an_error(script, data, tmp_path, capsys):
    copy = shutil.copytree(data, tmp_path / "boxes")
    path = copy / "Annotations/0.xml"
    path.write_text(path.read_text().replace("<xmin>", "<xmin>999", 1))
    flags = [*FLAGS, "--max-steps=1", "--out", str(tmp_path / "run")]
    assert script.main([str(copy), *flags]) == 0
    assert f"warning: {path} object 1 (" in capsys.readouterr().err
    assert script.main([str(copy), *flags, "--bad=error", "--overwrite"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} object 1 (")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--network=csp_densenet121"], {"model": "yolo3_efm_csp_densenet121_custom"}),
        (["--data-shape=416"], {"resize": 416}),
        (["--num-workers=7"], {"data_workers": 7}),
        (["--multi-scale=320,608"], {"multi_scale": (320, 608)}),
        (["--multi-scale=320,608", "--no-random-shape"], {"multi_scale": ()}),
        (["--syncbn", "--no-wd"], {"sync_bn": True, "no_decay_bn": True}),
        (["--label-smooth"], {"label_smoothing": 0.025}),
        (["--amp"], {"dtype": "float16"}),
        (["--augment=flip", "--mixup"], {"augment": ("flip", "mixup"), "mixup": 0.0}),
        (["--no-mixup-epochs=3"], {"mix_off_epochs": 3}),
        (["--box-loss=ciou", "--ignore=0.5"], {"box_loss": "ciou", "ignore": 0.5}),
        (["--anchors=coco", "--letterbox"], {"anchors": "coco", "letterbox": True}),
        (["--train-split=trainval"], {"train_split": "trainval"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_set_fields(script, tmp_path, flags, expected):
    config, out = config_of(script, str(tmp_path), *flags)
    values = config.flat()
    assert {name: values[name] for name in expected} == expected
    assert values["data_dir"] == str(tmp_path)
    assert out == f"runs/{config.model.name}-scratch"


def test_another_network_keeps_the_fields_of_the_neck(script, tmp_path):
    model = "yolo3_gfm_csp_peleenet_custom"
    same, _ = config_of(script, str(tmp_path), "--recipe=demo", f"--model={model}")
    assert same.model.args == DETECTION_RECIPES["demo"].model.args
    other, _ = config_of(script, str(tmp_path), "--recipe=demo", "--network=csp_densenet121")
    width = DETECTION_RECIPES["demo"].model.args["width"]
    assert other.model.args == {"width": width}


@pytest.mark.parametrize("recipe", DETECTION_RECIPES)
def test_recipes_are_of_detectors(recipe):
    config = DETECTION_RECIPES[recipe]
    assert (config.task.name, config.data.dataset, config.recipe) == ("detection",) * 2 + (recipe,)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name your images: gluondense train detection DATA"),
        (["{data}", "--network=a", "--model=b"], "--network and --model both name the network"),
        (["{data}", "--model=densenet121"], "densenet121 is a classifier: give --network densenet"),
        (
            ["{data}", "--model=yolo3_efm_pelenet_custom"],
            "did you mean 'yolo3_efm_peleenet_custom'",
        ),
        (["{data}", "--input-size=100"], "--input-size (=100) must be a multiple of 32"),
        (["{data}", "--multi-scale=100,200"], "--multi-scale (=(100, 200)) must be none, or"),
        (["{data}", "--batch-size=9"], "--batch-size (=9) is more than the 8 training images"),
        (["{data}", "--train-split=tran"], "has no split 'tran'"),
        (["nothing"], "nothing"),
    ],
)
def test_errors_are_one_line_that_names_flags(script, data, tmp_path, flags, message, capsys):
    flags = [flag.format(data=data) for flag in flags]
    assert script.main([*flags, *FLAGS[-6:], "--out", str(tmp_path / "run"), *flags[1:]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
