"""From a folder of images to a report, an evaluation, an export and predictions."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from support.command_line import SMALL, load_script
from support.folders import make_csv
from support.images import make_folders

from gluondense.training import checkpoint
from gluondense.training.run_folder import RunFolder

FLAGS = [flag for flag in SMALL if flag != "--no-lr-scaling"]


@pytest.fixture(scope="module")
def script(root):
    return load_script(root, "train.folder")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_folders(tmp_path_factory.mktemp("folder") / "images", each=10)


@pytest.fixture(scope="module")
def run(script, images):
    out = images.parent / "run"
    args = [*FLAGS, "--epochs=2", "--augment=flip", "--recipe=scratch", "--set=dropout=0"]
    assert script.main([str(images), *args, "--out", str(out)]) == 0
    return out


def split_of(run):
    with open(run / "split.csv", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def figures(tmp_path, root, *args):
    evaluate = load_script(root, "evaluate")
    assert evaluate.main([*map(str, args), "--json", str(tmp_path / "out.json"), "-j0"]) == 0
    return json.loads((tmp_path / "out.json").read_text())


def test_a_run_remembers_its_split(run):
    found = split_of(run)
    assert len(found) == 40
    for label in range(4):
        mine = [split for path, split in found.items() if path.startswith(f"class{label}/")]
        assert (mine.count("train"), mine.count("val")) == (8, 2)
    saved = checkpoint.load(run)
    assert saved.class_names == ("class0", "class1", "class2", "class3")
    page = RunFolder(run).report.read_text()
    assert "split_seed" in page
    assert "densenet121 on images" in page
    assert str(run.parent) not in page


def test_evaluate_takes_the_runs_own_validation_images(run, root, tmp_path, images):
    best = max(RunFolder(run).rows(), key=lambda row: row["test_acc"])
    for place in (run, run / "checkpoints/best"):
        found = figures(tmp_path, root, place)
        assert (found["images"], found["dataset"]) == (8, "folder")
        assert found["top1"] == pytest.approx(best["test_acc"])
    assert figures(tmp_path, root, run, "--split=train")["images"] == 32


def test_evaluate_warns_of_training_images_and_follows_moved_ones(
    run, root, tmp_path, images, capsys
):
    assert figures(tmp_path, root, run, "--data-dir", images)["images"] == 40
    assert capsys.readouterr().err == (
        f"warning: 32 of 40 images have the paths of training images of {run}; the result is too "
        "good\n"
    )
    images.rename(images.parent / "moved")
    try:
        assert load_script(root, "evaluate").main([str(run)]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"error: {run}/split.csv row ")
        assert line.endswith(
            "not exist; if the images were moved, name their folder: --image-dir\n"
        )
        found = figures(tmp_path, root, run, "--image-dir", images.parent / "moved")
        assert (found["images"], capsys.readouterr().err) == (8, "")
    finally:
        (images.parent / "moved").rename(images)


def test_a_run_that_was_resumed_with_moved_images_remembers_where_they_are(
    script, run, root, tmp_path, images
):
    """Its best checkpoint, which evaluate and export open, is of before."""
    resumed, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(run, resumed)
    own = figures(tmp_path, root, resumed)
    shutil.copytree(images, moved)
    epochs = len(RunFolder(run).rows())  # none is left: only the configuration changes
    assert script.main([str(moved), "--resume", str(resumed), f"--epochs={epochs}"]) == 0
    shutil.rmtree(resumed / "checkpoints/last")
    hidden = images.rename(images.parent / "hidden")
    try:
        assert figures(tmp_path, root, resumed) == own
        best = figures(tmp_path, root, resumed / "checkpoints/best")
        assert best == {**own, "model": str(resumed / "checkpoints/best")}
    finally:
        hidden.rename(images)


def test_export_names_calibrate_if_the_images_are_gone(run, root, tmp_path, images, capsys):
    hidden = images.rename(images.parent / "hidden")
    try:
        arguments = [str(run), "--target", "int8", "--out", str(tmp_path / "net")]
        assert load_script(root, "export").main(arguments) == 2
    finally:
        hidden.rename(images)
    error = capsys.readouterr().err
    assert "name their folder: --calibrate): name a folder of images with --calibrate." in error


def test_evaluate_on_data_without_the_runs_columns(run, root, tmp_path, images, capsys):
    evaluate = load_script(root, "evaluate")
    table = tmp_path / "other.csv"
    table.write_text("image,label\n0.png,class0\n")
    assert evaluate.main([str(run), "--data-dir", str(table)]) == 2
    assert capsys.readouterr().err.endswith(
        "rename one, or name it with --path-column of gluondense train folder\n"
    )


def test_an_export_without_data_asks_for_them(run, root, tmp_path, capsys):
    assert load_script(root, "export").main([str(run), "--out", str(tmp_path / "net")]) == 0
    capsys.readouterr()
    assert load_script(root, "evaluate").main([str(tmp_path / "net")]) == 2
    assert capsys.readouterr().err == (
        "error: name the images: --data-of RUN_FOLDER, --data-dir FOLDER or --rec-val FILE.rec.\n"
    )


def test_evaluate_refuses_splits_that_are_not_there(run, root, tmp_path, capsys):
    evaluate = load_script(root, "evaluate")
    assert evaluate.main([str(run), "--split=test"]) == 2
    assert capsys.readouterr().err == (
        "error: the data set has no split 'test'; it has train, val.\n"
    )
    shutil.copytree(run, tmp_path / "moved")
    (tmp_path / "moved/split.csv").unlink()
    assert evaluate.main([str(tmp_path / "moved")]) == 2
    assert "moved has no split.csv, which says what images the run was" in capsys.readouterr().err


def test_an_export_is_evaluated_on_the_images_of_its_run(run, root, tmp_path, images, capsys):
    export = load_script(root, "export")
    assert export.main([str(run), "--out", str(tmp_path / "net")]) == 0
    prefix = tmp_path / "net"
    own = figures(tmp_path, root, run)
    assert figures(tmp_path, root, prefix, "--data-of", run)["top1"] == own["top1"]
    everything = figures(tmp_path, root, prefix, "--dataset=folder", "--data-dir", images)
    assert everything["images"] == 40
    capsys.readouterr()
    file = next(images.glob("class1/*.jpg"))
    predict = load_script(root, "predict")
    assert predict.main([str(prefix), str(file), "--json"]) == 0
    (from_export,) = json.loads(capsys.readouterr().out)
    assert predict.main([str(run), str(file), "--json"]) == 0
    (from_run,) = json.loads(capsys.readouterr().out)
    assert from_export["labels"] == from_run["labels"]
    assert set(from_run["labels"]) == {f"class{number}" for number in range(4)}


def test_resume_keeps_the_split_when_images_are_added(script, run, images, tmp_path, capsys):
    shutil.copytree(images, tmp_path / "images")
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["data"]["data_dir"] = str(tmp_path / "images")
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    before = split_of(run)
    for label in range(4):
        folder = tmp_path / f"images/class{label}"
        shutil.copy(folder / "0.jpg", folder / "new.jpg")
    assert script.main(["--resume", str(tmp_path / "run"), "--epochs=3", "--no-progress"]) == 0
    assert split_of(tmp_path / "run") == before
    assert len(RunFolder(tmp_path / "run").rows()) == 3
    assert "resuming at step 8" in capsys.readouterr().out
    (tmp_path / "run/split.csv").rename(tmp_path / "split.csv")
    assert script.main(["--resume", str(tmp_path / "run"), "--epochs=4"]) == 2
    assert "run has no split.csv, which says what images the run was" in capsys.readouterr().err
    assert script.main(["--resume", str(tmp_path / "run"), "--group=p"]) == 2
    assert capsys.readouterr().err == (
        "error: --group can't change on --resume: the run keeps the splits that it has.\n"
    )


def test_resume_refuses_data_without_the_runs_images(script, run, images, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    resume = ["--resume", str(tmp_path / "run"), "--epochs=2", "--no-progress"]
    # As soon as the run has an --image-dir, that is where images are read from.
    assert script.main([*resume, "--image-dir", str(images)]) == 0
    config = (tmp_path / "run/config.json").read_text()
    assert str(images) == json.loads(config)["data"]["image_dir"]
    capsys.readouterr()
    rows = "".join(f"{path},a\n" for path in split_of(run) if not path.startswith("class3/"))
    others = {
        make_folders(tmp_path / "others", classes=3, each=10): 10,
        make_csv(tmp_path, rows, "path,label"): 10,
        make_csv(tmp_path / "more", "x.png,a\ny.png,b", "path,label"): 40,
    }
    for other, count in others.items():
        assert script.main([str(other), *resume]) == 2
        error = capsys.readouterr().err
        assert error.startswith(
            f"error: {other} lacks {count} of the 40 images of the run {tmp_path}/run, such as "
        )
        assert error.count("\n") == 1
        assert (tmp_path / "run/config.json").read_text() == config
    moved = make_csv(tmp_path / "same", rows + "".join(f"class3/{i}.jpg,b\n" for i in range(10)))
    assert script.main([str(moved), *resume]) == 0


@pytest.mark.parametrize("bad", ["skip", "error"])
def test_a_corrupt_image_is_named_with_its_row(script, root, tmp_path, bad, capsys):
    rows = "\n".join(f"{i}.png,{'ab'[i % 2]}" for i in range(20))
    path = make_csv(tmp_path, rows, "image,kind")
    (tmp_path / "7.png").write_bytes(b"no image")
    args = [*FLAGS, "--epochs=1", "--batch-size=4", "--recipe=scratch", f"--bad={bad}"]
    args += ["--path-column=image", "--label-column=kind", "--out", str(tmp_path / "run")]
    code = script.main([str(path), *args])
    line = (
        f"{tmp_path}/7.png ({path} row 9) is not an image in a format that Pillow knows; save it "
        "as PNG"
    )
    error = capsys.readouterr().err
    if bad == "skip":
        assert code == 0
        assert f"warning: skipped {tmp_path}/7.png ({path} row 9): {line}\n" in error
        other = make_csv(tmp_path / "other", "1.png,a\n2.png,b\n3.png,b", "image,kind")
        found = figures(tmp_path, root, tmp_path / "run", "--data-dir", other)
        assert found["images"] == 3  # in the columns of the run
    else:
        assert code == 2
        assert error == f"error: {line}; or leave such images out: --bad skip\n"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ([], "name your images: gluondense train folder DATA (see --help)."),
        (["nowhere"], "no folder {cwd}/nowhere; name a folder of class folders or a .csv file"),
        (
            ["{images}", "--batch-size=33"],
            "--batch-size (=33) is more than the 32 training images: pass 32 or less.",
        ),
        (["{images}", "--val-share=1"], "--val-share (=1.0) must be in (0, 1)."),
    ],
)
def test_mistakes_are_one_line(script, images, tmp_path, monkeypatch, args, line, capsys):
    monkeypatch.chdir(tmp_path)
    args = [arg.format(images=images) for arg in args]
    size = [] if any(arg.startswith("--batch") for arg in args) else ["--batch-size=8"]
    assert script.main([*args, *FLAGS[:2], *FLAGS[3:], *size, "--out", str(tmp_path / "r")]) == 2
    assert capsys.readouterr().err == f"error: {line.format(cwd=tmp_path)}\n"


def test_flags_become_fields(script):
    args = ["l.csv", "--image-dir=i", "--path-column=image", "--label-column=findings"]
    args += ["--group=patient", "--split-column=none", "--multi-label", "--empty-label=No Finding"]
    config, _ = script.make_config(script.make_parser().parse_args([*args, "--split-seed=3"]))
    values = config.flat()
    assert values["data_dir"].endswith("/l.csv")
    assert values["image_dir"].endswith("/i")
    assert values["label_columns"] == ("findings",)
    assert (values["task"], values["multi_label"]) == ("multi_label", True)
    assert (values["group_column"], values["split_seed"]) == ("patient", 3)
    assert (values["empty_label"], values["split_column"]) == ("No Finding", "none")


TUNING = ["--batch-size=8", "-j0", "--no-progress", "--epochs=3"]


def test_pretrained_takes_a_runs_network_classes_and_preprocessing(script, run, tmp_path, capsys):
    other = make_folders(tmp_path / "others", classes=3, each=6)
    for label, name in enumerate(("ant", "bee", "cow")):
        (other / f"class{label}").rename(other / name)
    args = [str(other), "--pretrained", str(run), *TUNING, "--head-epochs=1"]
    assert script.main([*args, "--out", str(tmp_path / "tuned")]) == 0
    said = capsys.readouterr().out
    assert f"parameters of run {run.name}, epoch" in said
    assert "a new output for 3 classes" in said
    assert "epoch 1: training the output only" in said
    assert "epoch 2: training all layers" in said
    first, tuned = (checkpoint.load(path) for path in (run, tmp_path / "tuned"))
    assert tuned.config["recipe"] == "finetune"
    assert (tuned.model_name, tuned.preprocessing) == (first.model_name, first.preprocessing)
    assert {**tuned.spec, "classes": 4} == first.spec
    assert tuned.class_names == ("ant", "bee", "cow")
    assert tuned.pretrained["output"] == "new"
    assert script.main(["--resume", str(tmp_path / "tuned"), "--epochs=4", "--patience=0"]) == 0
    assert "parameters of" not in capsys.readouterr().out


def test_linear_probe_trains_the_output_on_features_computed_once(
    script, run, tmp_path, images, capsys
):
    args = [str(images), "--recipe=linear-probe", "--pretrained", str(run), *TUNING]
    assert script.main([*args, "--out", str(tmp_path)]) == 0
    assert "features of 40 images computed" in capsys.readouterr().out
    first, probed = (checkpoint.load(path).network() for path in (run, tmp_path))
    for name, parameter in probed._collect_params_with_prefix().items():
        before = first._collect_params_with_prefix()[name].data().asnumpy()
        kept = (parameter.data().asnumpy() == before).all()
        assert kept == name.startswith("features."), name


def test_missing_weights_get_one_line(script, images, tmp_path, capsys):
    assert script.main([str(images), "--pretrained", "no/run", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        f"error: --pretrained: there is no file or run {tmp_path.cwd() / 'no/run'}.\n"
    )
    assert not (tmp_path / "x").exists()
