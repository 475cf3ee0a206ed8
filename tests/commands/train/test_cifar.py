from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from scipy.io import savemat
from support.command_line import load_script
from support.training_tiny import TINY

from gluondense.data import load_dataset
from gluondense.models import get_spec
from gluondense.training.recipes.cifar import CIFAR_RECIPES
from gluondense.training.run_folder import RunFolder

SMALL = [
    *(f"--set={name}={json.dumps(value)}" for name, value in TINY.model.args.items()),
    *("--set=dropout=0", "--model=densenet121", "--batch-size=16", "--no-progress", "--lr=0.05"),
]


def images(labels, seed):
    """(N, 3, 32, 32): a bright stripe tells the class."""
    pixels = np.random.default_rng(seed).integers(0, 120, (len(labels), 3, 32, 32)).astype("u1")
    for image, label in zip(pixels, labels):
        image[label % 3, 3 * (label % 10) : 3 * (label % 10) + 3] += 130
    return pixels


def cifar10(folder, each=64):
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for seed, name in enumerate(names):
        labels = np.random.default_rng(seed).integers(0, 10, each).astype("u1")
        rows = np.column_stack([labels, images(labels, seed).reshape(each, -1)])
        (folder / name).write_bytes(rows.tobytes())
    return folder


def cifar100(folder, each=40):
    folder.mkdir(parents=True)
    for seed, name in enumerate(("train.bin", "test.bin")):
        fine = np.random.default_rng(seed).integers(0, 100, each).astype("u1")
        rows = np.column_stack([fine // 5, fine, images(fine, seed).reshape(each, -1)])
        (folder / name).write_bytes(rows.tobytes())
    return folder


def svhn(folder, each=40, extra=True):
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "test") + ("extra",) * extra):
        labels = np.random.default_rng(seed).integers(1, 11, each)
        content = {"X": images(labels, seed).transpose(2, 3, 1, 0), "y": labels[:, None]}
        savemat(folder / f"{part}_32x32.mat", content)
    return folder


@pytest.fixture
def script(root):
    return load_script(root, "train.cifar")


def test_cifar10_from_files_a_folder_and_the_archive(tmp_path):
    folder = cifar10(tmp_path / "cifar-10-batches-bin")
    data = load_dataset("cifar10", folder)
    assert data.train_images.shape == (320, 32, 32, 3)
    raw = np.frombuffer((folder / "data_batch_2.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    assert data.train_labels[64] == raw[0, 0]
    np.testing.assert_array_equal(data.train_images[64, :, :, 1].ravel(), raw[0, 1025:2049])
    inside = load_dataset("cifar10", tmp_path)
    np.testing.assert_array_equal(inside.test_images, data.test_images)
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed/cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    packed = load_dataset("cifar10", tmp_path / "packed")
    np.testing.assert_array_equal(packed.train_images, data.train_images)


def test_cifar100_has_the_fine_labels(tmp_path):
    data = load_dataset("cifar100", cifar100(tmp_path / "cifar-100-binary"))
    assert data.train_labels.max() > 20
    assert len(data.info.class_names) == len(set(data.info.class_names)) == 100
    assert data.info.class_names == tuple(sorted(data.info.class_names))


def test_svhn_with_and_without_the_additional_images(tmp_path):
    both, plain = svhn(tmp_path / "both"), svhn(tmp_path / "plain", extra=False)
    assert len(load_dataset("svhn", both).train_labels) == 80
    data = load_dataset("svhn", plain)
    assert len(data.train_labels) == 40
    assert (data.train_labels.min(), data.train_labels.max()) == (0, 9)


@pytest.mark.parametrize(
    ("dataset", "make", "damage", "message"),
    [
        ("cifar10", cifar10, lambda f: (f / "test_batch.bin").unlink(), "lacks test_batch.bin"),
        ("cifar10", cifar10, lambda f: (f / "test_batch.bin").write_bytes(b"12"), "is truncated"),
        ("cifar10", cifar10, lambda f: cut(f / "data_batch_3.bin", 255), "has the label 255"),
        ("cifar100", cifar100, lambda f: (f / "train.bin").unlink(), "lacks train.bin"),
        ("svhn", svhn, lambda f: (f / "test_32x32.mat").unlink(), "no .*test_32x32.mat"),
        (
            "svhn",
            svhn,
            lambda f: (f / "train_32x32.mat").write_bytes(b"MATLAB"),
            "not a valid .mat file",
        ),
        (
            "svhn",
            svhn,
            lambda f: savemat(f / "train_32x32.mat", {"X": 1, "y": 2}),
            "cropped digits",
        ),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, dataset, make, damage, message):
    folder = make(tmp_path / "data")
    damage(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_dataset(dataset, folder)


def cut(path, first):
    content = bytearray(path.read_bytes())
    content[0] = first
    path.write_bytes(bytes(content))


def test_damaged_archive(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(cifar10(tmp_path / "a"), "cifar-10-batches-bin")
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue()[:5000])
    with pytest.raises(ValueError, match="is damaged"):
        load_dataset("cifar10", tmp_path)


@pytest.mark.parametrize("recipe", [name for name in CIFAR_RECIPES if name != "fast"])
def test_recipes_are_the_papers(recipe):
    config = CIFAR_RECIPES[recipe]
    assert config.recipe == recipe
    optimizer, schedule = config.optimizer, config.schedule
    assert (config.data.batch_size, optimizer.lr) == (64, 0.1)
    assert (optimizer.wd, optimizer.momentum) == (1e-4, 0.9)
    assert schedule.lr_steps == (0.5, 0.75)
    assert schedule.epochs == (40 if recipe == "svhn" else 300)
    assert bool(config.data.augment) == recipe.endswith("+")
    assert config.model.args.get("dropout", 0) == (0 if recipe.endswith("+") else 0.2)
    assert get_spec(config.model.name).classes == (100 if "100" in recipe else 10)


def test_short_names_of_networks(script):
    args = script.make_parser().parse_args(["--recipe=c100", "--model=densenet100_k12_bc"])
    config, out = script.make_config(args)
    assert config.model.name == "densenet100_k12_bc_cifar100"
    assert config.model.args == {"dropout": 0.2}
    assert out == "runs/densenet100_k12_bc-c100"


def test_trains_and_resumes(script, tmp_path, capsys):
    data = svhn(tmp_path / "data")
    args = ["--recipe=svhn", *SMALL, "--epochs=1", "--data-dir", str(data), "--out"]
    assert script.main([*args, str(tmp_path / "run")]) == 0
    assert script.main(["--resume", str(tmp_path / "run"), "--epochs=2", "--no-progress"]) == 0
    assert [row["epoch"] for row in RunFolder(tmp_path / "run").rows()] == [1, 2]
    assert script.main(["--recipe=c10", "--data-dir=/nowhere", "--out", str(tmp_path / "no")]) == 2
    assert "lacks data_batch_1.bin" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cifar_recipe_runs_for_hundreds_of_steps(script, tmp_path):
    data = cifar10(tmp_path / "cifar-10-batches-bin", each=256)
    args = ["--recipe=c10+", "--data-dir", str(data), "--epochs=3", *SMALL]
    assert script.main([*args, "--out", str(tmp_path / "run")]) == 0
    rows = RunFolder(tmp_path / "run").rows()
    assert rows[-1]["step"] == 240
    assert rows[-1]["train_acc"] > rows[0]["train_acc"] > 0.2
