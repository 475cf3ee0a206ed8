from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from scipy.io import savemat
from support.images import encoded, gradient, make_folders, noisy_image

from gluondense.commands.make_recordio import DEFAULT_QUALITY
from gluondense.data.files import record_maker
from gluondense.data.files.encode import ENCODINGS, RecordOptions
from gluondense.data.files.image_list import list_folders, read_list_file
from gluondense.data.files.record_maker import make_recordio
from gluondense.data.files.recordio import RecordFile


class Killed(Exception):
    """Ends a conversion."""


def killed(*args):
    raise Killed


@pytest.fixture
def main(root):
    module = importlib.import_module("gluondense.commands.make_recordio")
    return module.main


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path / "train")


def files(prefix):
    return [prefix.with_suffix(suffix).read_bytes() for suffix in (".rec", ".idx", ".lst")]


def test_image_record_iter_reads_the_file(main, folders, tmp_path, capsys):
    assert main([str(tmp_path / "rec/train"), str(folders), "--no-progress", "-j2"]) == 0
    assert "24 images of 4 classes" in capsys.readouterr().out
    path = tmp_path / "rec/train.rec"
    batches = mx.io.ImageRecordIter(
        path_imgrec=str(path),
        path_imgidx=str(path.with_suffix(".idx")),
        data_shape=(3, 32, 32),
        batch_size=24,
        resize=32,
    )
    batch = batches.next()
    labels = batch.label[0].asnumpy()
    assert sorted(labels.tolist()) == sorted([0, 1, 2, 3] * 6)
    means = batch.data[0].asnumpy().mean(axis=(2, 3))
    red, green = means[labels == 0], means[labels == 1]
    assert (red[:, 0] > 180).all()
    assert (green[:, 1] > 160).all()
    assert path.with_suffix(".classes.txt").read_text().split() == [f"class{i}" for i in range(4)]


def test_list_files_have_the_same_meaning_as_in_im2rec(main, folders, tmp_path):
    list_file = tmp_path / "own.lst"
    list_file.write_text("11\t3.000000\tclass1/2.jpg\n4\t0.000000\tclass0/0.jpg\n")
    args = [str(tmp_path / "own"), str(folders), "--list", str(list_file), "--no-progress", "-j1"]
    assert main([*args, "--pass-through"]) == 0
    records = RecordFile(tmp_path / "own.rec")
    assert records.keys.tolist() == [11, 4]
    first = records.read(0)
    assert (first.label, first.data) == (3.0, (folders / "class1/2.jpg").read_bytes())
    assert [row[0] for row in read_list_file(tmp_path / "own.lst")] == [11, 4]


def test_resize_quality_and_crop(main, folders, tmp_path):
    sizes = {}
    for name, args in {
        "plain": [],
        "small": ["--resize=24"],
        "square": ["--resize=24", "--center-crop"],
        "poor": ["--quality=20"],
        "png": ["--encoding=.png", "--resize=24"],
    }.items():
        out = [str(tmp_path / name), str(folders), "--no-progress", "--no-shuffle", "-j1"]
        assert main([*out, *args]) == 0
        records = RecordFile(tmp_path / f"{name}.rec")
        data = records.read(0).data
        sizes[name] = mx.image.imdecode(data).shape[:2], len(data), data[:4]
    assert sizes["plain"][0] == (48, 64)
    assert sizes["small"][0] == (24, 32)
    assert sizes["square"][0] == (24, 24)
    assert sizes["poor"][1] < sizes["plain"][1] / 2
    assert sizes["png"][2] == b"\x89PNG"


def test_bytes_do_not_depend_on_the_number_of_processes(folders, tmp_path):
    images = list_folders(folders)
    for workers in (1, 3):
        make_recordio(tmp_path / f"w{workers}", images, workers=workers)
    assert files(tmp_path / "w1") == files(tmp_path / "w3")


def test_unreadable_images_are_skipped_or_raise(main, folders, tmp_path, capsys):
    (folders / "class0/6.jpg").write_bytes(b"")
    (folders / "class2/6.jpg").write_bytes(encoded(noisy_image(2))[:300])
    (folders / "class3/6.png").write_bytes(encoded(gradient("RGBA"), "PNG"))
    args = [str(tmp_path / "a"), str(folders), "--no-progress", "-j2"]
    assert main([*args, "--bad=error"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for path in tmp_path.glob("a.*"):
        path.unlink()
    assert main(args) == 0
    output = capsys.readouterr()
    assert "25 images" in output.out
    assert "skipped class0/6.jpg" in output.err
    assert "is empty" in output.err
    text = (tmp_path / "a.skipped.txt").read_text()
    assert "class2/6.jpg\t" in text
    assert text.count("\n") == 2


@pytest.mark.parametrize("kept", ["whole", "half a record", "half a line", "index ahead"])
def test_interrupted_conversion_is_resumed(folders, tmp_path, kept):
    (folders / "class1/0.jpg").write_bytes(b"broken")
    images = list_folders(folders)
    make_recordio(tmp_path / "straight", images)

    def stop_after(count, module):
        original, done = module.write_record, []

        def write(file, record):
            if len(done) == count:
                raise Killed
            done.append(record)
            original(file, record)

        return write

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_maker, "write_record", stop_after(9, record_maker))
        with pytest.raises(Killed):
            make_recordio(tmp_path / "again", images)
    rec, idx = tmp_path / "again.rec.part", tmp_path / "again.idx.part"
    if kept == "half a record":
        rec.write_bytes(rec.read_bytes() + b"\x0a\x23\xd7\xce\0")
    elif kept == "half a line":
        idx.write_bytes(idx.read_bytes() + b"9\t12")
    elif kept == "index ahead":
        rec.write_bytes(rec.read_bytes()[:-100])
    done = make_recordio(tmp_path / "again", images)
    assert done.resumed_at > 5
    assert files(tmp_path / "again") == files(tmp_path / "straight")
    assert [name for name, _ in done.skipped] == ["class1/0.jpg"]
    assert not list(tmp_path.glob("again*.part"))


@pytest.mark.parametrize("moment", ["no list", "half a skipped line", "one rename"])
def test_conversion_killed_at_the_end_or_while_it_notes_is_resumed(folders, tmp_path, moment):
    (folders / "class1/0.jpg").write_bytes(b"broken")
    images = list_folders(folders)
    make_recordio(tmp_path / "straight", images)

    with pytest.MonkeyPatch.context() as patch:
        if moment == "no list":
            patch.setattr(record_maker.json, "dumps", killed)
        elif moment == "half a skipped line":
            patch.setattr(record_maker._Conversion, "finish", killed)
        else:
            replace = os.replace
            patch.setattr(
                os, "replace", lambda a, b: killed() if str(b).endswith(".rec") else replace(a, b)
            )
        with pytest.raises(Killed):
            make_recordio(tmp_path / "again", images)
    if moment == "half a skipped line":
        with open(tmp_path / "again.skipped.part", "ab") as file:
            file.write("23\tclass3/5.jpg\tgr\u00fcn".encode()[:-2])
    done = make_recordio(tmp_path / "again", images)
    assert [name for name, _ in done.skipped] == ["class1/0.jpg"]
    assert files(tmp_path / "again") == files(tmp_path / "straight")
    assert not list(tmp_path.glob("again*.part"))


def test_conversion_killed_after_its_last_rename_is_complete(folders, tmp_path):
    images = list_folders(folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        make_recordio(tmp_path / "a", images)
    before = files(tmp_path / "a")
    assert list(tmp_path.glob("a*.part"))
    with pytest.raises(FileExistsError, match="exists already"):
        make_recordio(tmp_path / "a", images)
    assert files(tmp_path / "a") == before
    assert not list(tmp_path.glob("a*.part"))


def test_a_finished_file_that_was_removed_is_made_again(folders, tmp_path):
    images = list_folders(folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        make_recordio(tmp_path / "a", images)
    before = files(tmp_path / "a")
    (tmp_path / "a.rec").unlink()
    assert make_recordio(tmp_path / "a", images).resumed_at == 0
    assert files(tmp_path / "a") == before


def test_resume_with_other_options_raises(folders, tmp_path):
    images = list_folders(folders)
    (tmp_path / "a.rec.part").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gluondense.data.files.record_maker.encode_all", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_recordio(tmp_path / "a", images)
    with pytest.raises(ValueError, match="unfinished a of other images or options"):
        make_recordio(tmp_path / "a", images, RecordOptions(resize=7))


@pytest.mark.slow
def test_killed_conversion_is_resumed(root, tmp_path):
    make_folders(tmp_path / "train", each=150, size=(200, 300))
    command = [sys.executable, str(root / "scripts/make_recordio.py")]
    command += [str(tmp_path / "a"), str(tmp_path / "train"), "-j2", "--no-progress"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, env=env)
    while not (tmp_path / "a.rec.part").exists() or (tmp_path / "a.rec.part").stat().st_size < 1e5:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "a.rec").exists()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "600 images" in done.stdout
    assert "resumed at" in done.stdout
    assert len(RecordFile(tmp_path / "a.rec")) == 600


def test_flat_validation_folder(main, tmp_path):
    make_folders(tmp_path / "train", classes=2)
    flat = tmp_path / "val"
    flat.mkdir()
    for number, label in enumerate((1, 0, 1), 1):
        data = encoded(noisy_image(label))
        (flat / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(data)
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("900\n17\n900\n")
    synsets = np.array(
        [(17, "class0"), (900, "class1")], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")]
    )
    savemat(tmp_path / "meta.mat", {"synsets": synsets})
    args = [str(tmp_path / "val_rec"), str(flat), "--no-shuffle", "--no-progress", "-j1"]
    args += ["--ground-truth", str(truth), "--classes-of", str(tmp_path / "train")]
    assert main(args) == 0
    records = RecordFile(tmp_path / "val_rec.rec")
    assert [records.read(index).label for index in range(3)] == [1, 0, 1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{}/nowhere"], "no folder"),
        (["{}/train/class0"], "has no class folders"),
        (["{}/train", "--quality=101"], "quality \\(=101\\) must be in \\[0, 100\\]"),
        (["{}/train", "--train-ratio=0"], "--train-ratio 0.0 must be"),
        (["{}/train", "--list={}/no.lst"], "No such file"),
    ],
)
def test_errors_are_one_line(main, tmp_path, capsys, args, message):
    make_folders(tmp_path / "train", classes=1, each=1)
    assert main([str(tmp_path / "a"), *(arg.format(tmp_path) for arg in args)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert re.match(f"error: .*({message})", line)


def test_each_encoding_has_a_default_quality():
    assert tuple(DEFAULT_QUALITY) == ENCODINGS
    for encoding, quality in DEFAULT_QUALITY.items():
        RecordOptions(encoding=encoding, quality=quality)


def test_the_splits_of_a_csv_file_become_records(main, folders, tmp_path, capsys):
    rows = [
        f"class{label}/{number}.jpg,class{label},{'train' if number < 4 else 'valid'}"
        for label in range(4)
        for number in range(6)
    ]
    path = tmp_path / "split.csv"
    path.write_text("\n".join(["path,label,split", *rows]))
    args = [str(folders), "--csv", str(path), "--no-progress", "--pass-through", "-j1"]
    for split, count in (("train", 16), ("val", 8)):
        assert main([str(tmp_path / split), *args, "--split", split]) == 0
        records = RecordFile(tmp_path / f"{split}.rec")
        assert len(records) == count
        assert (tmp_path / f"{split}.classes.txt").read_text().split() == [
            f"class{label}" for label in range(4)
        ]
        found = sorted((int(records.read(i).label), records.read(i).data) for i in range(count))
        numbers = range(4) if split == "train" else range(4, 6)
        assert found == sorted(
            (label, (folders / f"class{label}/{number}.jpg").read_bytes())
            for label in range(4)
            for number in numbers
        )
    capsys.readouterr()
    assert main([str(tmp_path / "test"), *args, "--split=test"]) == 2
    assert capsys.readouterr().err == f"error: {path} has no images of split test\n"
    assert main([str(tmp_path / "test"), str(folders), "--split=test"]) == 2
    assert "--split test chooses images of --csv, which is not given" in capsys.readouterr().err
    assert main([str(tmp_path / "test"), *args, "--ground-truth=labels.txt"]) == 2
    assert "--ground-truth is not for --csv, which has the labels" in capsys.readouterr().err
    twice = [f"--list={tmp_path}/a.lst", "--ground-truth=labels.txt"]
    assert main([str(tmp_path / "test"), str(folders), *twice]) == 2
    assert "--ground-truth is not for --list, which has the labels" in capsys.readouterr().err
