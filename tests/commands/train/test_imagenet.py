from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from support.command_line import SMALL, load_script
from support.images import encoded, make_folders, noisy_image
from support.training_tiny import TINY

from gluondense.data.files.image_list import list_folders
from gluondense.data.files.record_maker import make_recordio
from gluondense.training import checkpoint
from gluondense.training.recipes.imagenet import IMAGENET_RECIPES
from gluondense.training.run_folder import RunFolder
from gluondense.training.tasks.distillation import load_teacher


@pytest.fixture
def script(root):
    return load_script(root, "train.imagenet")


def fields_of(script, *args):
    """The fields of the configuration by their unique names."""
    config, _ = script.make_config(script.make_parser().parse_args(list(args)))
    return SimpleNamespace(**config.flat())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """ILSVRC's layout: training images in folders of wnids, a flat validation folder, answers."""
    root = tmp_path_factory.mktemp("ilsvrc")
    make_folders(root / "train", each=10)
    wnids = ("n01440764", "n01443537", "n01484850", "n02012849")
    for label, wnid in enumerate(wnids):
        (root / f"train/class{label}").rename(root / "train" / wnid)
    (root / "val").mkdir()
    answers = []
    for number in range(1, 13):
        label = number % 4
        file = root / f"val/ILSVRC2012_val_{number:08d}.JPEG"
        file.write_bytes(encoded(noisy_image(label, seed=100 + number)))
        answers.append(f"{wnids[label]}\n")
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(answers))
    (root / "rec").mkdir()
    make_recordio(root / "rec/train", list_folders(root / "train"))
    return root


def test_trains_on_folders_with_everything_on_and_resumes(script, data, tmp_path, capsys):
    out = str(tmp_path / "run")
    args = ["--recipe=modern", "--epochs=2", "--warmup-epochs=1", "--cutmix=1", "--ema=0.5", *SMALL]
    args += ["--augment=random_resized_crop,flip,rand_augment,color_jitter,lighting,erase"]
    args += ["--repeats=2", "--set=drop_path=0.2", "--train-sizes=24,16", "--min-area=0.3"]
    args += ["--mixup-off-epoch=1", "--log-interval=2", "--save-steps=2", "--keep=2"]
    assert script.main([*args, "--data-dir", str(data), "--out", out]) == 0
    output = capsys.readouterr().out
    assert "Epoch[0] Batch [4]\tSpeed: " in output
    assert "validation accuracy" in output
    folder = RunFolder(out)
    assert folder.report.stat().st_size > 1e6
    saved = checkpoint.load(out)
    assert saved.class_names == ("tench", "goldfish", "great white shark", "crane n02012849")
    assert saved.input_shape == (1, 3, 16, 16)
    kept = sorted(path.name for path in (folder.path / "checkpoints").iterdir())
    assert [name for name in kept if name.startswith("step")] == ["step-00000010"]
    assert script.main(["--resume", out, "--epochs=3", "--no-progress"]) == 0
    assert [row["epoch"] for row in folder.rows()] == [1, 2, 3]
    assert all(0 <= row["test_acc"] <= row["test_top5"] <= 1 for row in folder.rows())


def test_learns_from_record_files(script, data, tmp_path):
    rec = str(data / "rec/train.rec")
    args = ["--rec-train", rec, "--rec-val", rec, "--epochs=4", "--lr-mode=cosine", "--augment="]
    assert script.main([*args, *SMALL, "--set=dropout=0", "--out", str(tmp_path)]) == 0
    assert RunFolder(tmp_path).rows()[-1]["test_acc"] > 0.9


def test_learns_from_a_teacher(script, data, tmp_path):
    rec = ["--rec-train", str(data / "rec/train.rec"), "--rec-val", str(data / "rec/train.rec")]
    teacher = str(tmp_path / "teacher")
    fields = ["--augment=", "--lr-mode=constant", "--set=dropout=0", *rec]
    assert script.main([*SMALL, *fields, "--epochs=4", "--out", teacher]) == 0
    args = [*SMALL, *fields, f"--teacher={teacher}", "--hard-weight=0", "--temperature=4"]
    assert script.main([*args, "--epochs=5", "--out", str(tmp_path / "pupil")]) == 0
    assert RunFolder(tmp_path / "pupil").rows()[-1]["test_acc"] > 0.7  # from the teacher alone
    with pytest.raises(ValueError, match="has 4 classes, the data set has 7"):
        load_teacher(teacher, [mx.cpu()], 7)


def test_batch_and_learning_rate_follow_each_other(script):
    assert fields_of(script).lr == 0.1
    assert fields_of(script).batch_size == 256
    config = fields_of(script, "--batch-size=64", "--num-gpus=8")
    assert (config.batch_size, config.lr, config.gpus) == (512, 0.2, tuple(range(8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DMLC_NUM_WORKER", "2")
        assert fields_of(script, "--batch-size=64", "--num-gpus=4").batch_size == 512
    assert fields_of(script, "--batch-size=64", "--lr=0.4").lr == pytest.approx(0.1)
    assert fields_of(script, "--batch-size=64", "--lr=0.4", "--no-lr-scaling").lr == 0.4


def test_learning_rate_of_a_foreign_recipe_is_not_scaled(script, tmp_path):
    RunFolder(tmp_path).start(TINY)
    resume = ["--resume", str(tmp_path), "--lr=0.4"]
    with pytest.raises(ValueError, match=r"unknown ImageNet recipe 'default' .*--no-lr-scaling"):
        fields_of(script, *resume)
    assert fields_of(script, *resume, "--no-lr-scaling").lr == 0.4


def test_flags_of_gluoncv(script):
    config = fields_of(
        script,
        *("--model=dpn92", "--mode=hybrid", "--dtype=float32", "--use-rec", "--data-dir=/d"),
        *("--num-epochs=120", "--lr-decay-epoch=40,60", "--lr-decay=0.2", "--no-wd", "--wd=0.0002"),
        *("--warmup-epochs=5", "--label-smoothing", "--mixup", "--mixup-off-epoch=10", "-j=9"),
    )
    assert (config.model, config.epochs, config.lr_decay) == ("dpn92", 120, 0.2)
    assert config.lr_steps == (40 / 120, 60 / 120)
    assert (config.rec_train, config.rec_val) == ("/d/rec/train.rec", "/d/rec/val.rec")
    assert (config.no_decay_bn, config.wd) == (True, 0.0002)
    assert (config.label_smoothing, config.mixup, config.mix_off_epochs) == (0.1, 0.2, 10)
    assert (config.warmup_epochs, config.warmup_lr, config.data_workers) == (5, 0, 9)
    assert fields_of(script, "--lr-decay-period=30").lr_steps == (30 / 90, 60 / 90)
    assert fields_of(script, "--mixup-alpha=0.4").mixup == 0.4
    assert fields_of(script, "--augment=none").augment == ()
    assert fields_of(script, "--data-dir=a").data_dir == os.path.abspath("a")


def test_the_papers_recipes():
    paper = SimpleNamespace(**IMAGENET_RECIPES["densenet"].flat())
    assert (paper.epochs, paper.batch_size, paper.lr, paper.wd) == (90, 256, 0.1, 1e-4)
    assert [round(step * paper.epochs) for step in paper.lr_steps] == [30, 60]
    for name, recipe in IMAGENET_RECIPES.items():
        assert recipe.recipe == name
        assert recipe.data.dataset == "imagenet"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "name a data_dir with train and val"),
        (["--data-dir=/nowhere"], "no folder /nowhere"),
        (["--rec-val=a.rec"], "rec_train is missing"),
        (["--rec-train=/no/a.rec", "--rec-val=/no/b.rec"], "no RecordIO file /no/a.rec"),
        (["--use-rec"], "--use-rec reads DATA_DIR"),
        (["--model=densnet121"], "did you mean 'densenet121'"),
        (["--augment=blur", "--data-dir={data}"], "unknown augmentation 'blur'"),
        (["--num-gpus=-1"], "--num-gpus -1"),
        (["--epochs=0", "--lr-decay-epoch=30"], "epochs (=0) must be"),
        (["--gpus=99", "--data-dir={data}"], "GPU 99 can't be used"),
        (["--resume={tmp}/none"], "holds no run"),
        (["--resume"], "--resume needs the run's folder"),
        (
            ["--batch-size=41", "--data-dir={data}"],
            "(=41) is more than the 40 training images: pass 40 or less",
        ),
        (["--teacher=nobody", "--data-dir={data}", "--batch-size=8"], "nobody"),
        (["--input-size=16", "--data-dir={data}", "--batch-size=8"], "too small"),
    ],
)
def test_mistakes_are_one_line(script, data, tmp_path, capsys, args, message):
    args = [arg.format(data=data, tmp=tmp_path) for arg in args]
    if "--resume" not in args:
        args += ["--out", str(tmp_path / "run")]
    assert script.main([*args, "--no-progress"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert message in line
    assert not (tmp_path / "run").exists()


def command(root, *args):
    return [sys.executable, str(root / "scripts/train_imagenet.py"), *args]


def environment(root):
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def parameters(folder):
    names = ("model.params", "average.params", "trainer.states")
    found = {}
    for name in names:
        arrays = mx.nd.load(str(Path(folder) / "checkpoints/last" / name))
        found.update({f"{name}:{key}": value.asnumpy() for key, value in arrays.items()})
    return found


@pytest.mark.slow
def test_killed_at_five_random_steps_it_ends_with_the_same_parameters(root, data, tmp_path):
    """SIGKILL, in the middle of steps and of checkpoints; dropout, mixup, averages, warm-up."""
    args = ["--recipe=modern", "--epochs=4", "--warmup-epochs=1", "--cutmix=1", "--ema=0.9", *SMALL]
    args += ["--augment=random_resized_crop,flip,rand_augment,color_jitter,lighting,erase"]
    args += ["--repeats=2", "--set=drop_path=0.2"]
    args += ["--log-interval=1", "--save-steps=1", "--mixup-off-epoch=1", "-j2"]
    args += ["--data-dir", str(data)]
    subprocess.run(
        command(root, *args, "--out", str(tmp_path / "straight")),
        env=environment(root),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    out = str(tmp_path / "killed")
    rng = random.Random(0)
    kills = sorted(rng.sample(range(2, 19), 5))
    for number, kill in enumerate(kills):
        go_on = ["--resume", out, "--no-progress"] if number else [*args, "--out", out]
        process = subprocess.Popen(
            command(root, *go_on), env=environment(root), stdout=subprocess.PIPE
        )
        steps, began = set(), time.monotonic()
        with process.stdout as lines:
            for line in lines:
                if line.startswith(b"Epoch["):
                    epoch, batch = (int(part.split(b"]")[0]) for part in line.split(b"[")[1:3])
                    steps.add(5 * epoch + batch)
                if steps and max(steps) >= kill:
                    time.sleep(rng.random() * 0.05)
                    process.send_signal(signal.SIGKILL)
                    break
            assert time.monotonic() - began < 100
        assert process.wait() == -signal.SIGKILL
        assert not number or min(steps) > kills[number - 1] - 2  # hardly any step was done again
    subprocess.run(
        command(root, "--resume", out, "--no-progress"),
        env=environment(root),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    mine, theirs = parameters(out), parameters(tmp_path / "straight")
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)
    rows = [RunFolder(folder).rows() for folder in (out, tmp_path / "straight")]
    for name in ("step", "lr", "train_loss", "train_acc", "test_acc", "test_loss"):
        assert [row[name] for row in rows[0]] == [row[name] for row in rows[1]], name


@pytest.mark.slow
def test_an_imagenet_recipe_runs_for_hundreds_of_steps(script, tmp_path):
    make_folders(tmp_path / "train", each=150, size=(80, 100))
    make_folders(tmp_path / "val", each=10, size=(80, 100))
    args = ["--data-dir", str(tmp_path), "--epochs=4", *SMALL, "--batch-size=8", "--input-size=32"]
    assert script.main([*args, "--out", str(tmp_path / "run")]) == 0
    rows = RunFolder(tmp_path / "run").rows()
    assert rows[-1]["step"] == 300
    assert rows[-1]["test_acc"] > 0.9


def test_damaged_checkpoint_falls_back_to_the_one_before(script, data, tmp_path, capsys):
    rec = str(data / "rec/train.rec")
    out = tmp_path / "run"
    args = ["--rec-train", rec, "--rec-val", rec, *SMALL, "--keep=3", "--save-steps=2"]
    assert script.main([*args, "--epochs=2", "--out", str(out)]) == 0
    last = out / "checkpoints/last/model.params"
    last.write_bytes(last.read_bytes()[:-1])
    capsys.readouterr()
    assert script.main(["--resume", str(out), "--epochs=3", "--no-progress"]) == 0
    error = capsys.readouterr().err
    assert "is damaged" in error
    assert "continuing from" in error
    assert [row["epoch"] for row in RunFolder(out).rows()] == [1, 2, 3]
    for path in (out / "checkpoints").rglob("model.params"):
        path.write_bytes(b"")
    assert script.main(["--resume", str(out), "--epochs=4", "--no-progress"]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_full_disk_costs_nothing(root, data, tmp_path):
    """A limit on the size of files stands for the disk's end."""
    rec = str(data / "rec/train.rec")
    out = tmp_path / "run"
    args = ["--rec-train", rec, "--rec-val", rec, *SMALL, "--out", str(out)]
    done = subprocess.run(command(root, *args, "--epochs=1"), env=environment(root), check=True)
    before = (out / "checkpoints/last/model.params").read_bytes()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) - 100},) * 2);"
        "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = command(root, "--resume", str(out), "--epochs=2", "--no-progress")[1:]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(root),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Can't write a checkpoint" in done.stderr
    assert (out / "checkpoints/last/model.params").read_bytes() == before
    assert checkpoint.load(out / "checkpoints/last").epoch == 1


def test_event_files(script, data, tmp_path):
    pytest.importorskip("tensorboardX")
    rec = str(data / "rec/train.rec")
    args = ["--rec-train", rec, "--rec-val", rec, *SMALL, "--epochs=1", "--tensorboard"]
    assert script.main([*args, "--log-interval=1", "--out", str(tmp_path)]) == 0
    (file,) = (tmp_path / "events").iterdir()
    assert b"epoch/test_acc" in file.read_bytes()
    assert json.loads((tmp_path / "config.json").read_text())["runtime"]["tensorboard"]
    shutil.rmtree(tmp_path / "events")
