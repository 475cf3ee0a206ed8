"""Readers of images and of data sets."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from fuzz.mutation import Files
from fuzz.reader import Reader
from PIL import Image
from support.images import encoded, gradient

from gluondense.data.datasets import cifar
from gluondense.data.datasets.folder.csv_file import Columns, read_csv
from gluondense.data.datasets.folder.split_file import read_split
from gluondense.data.datasets.ground_truth import read_ground_truth
from gluondense.data.datasets.imagenet import list_validation
from gluondense.data.files import decode as decoding
from gluondense.data.files.decode import decode
from gluondense.data.files.idx import parse_idx, unpack
from gluondense.data.files.image_list import ImageList, list_from_file
from gluondense.data.files.image_set import read_images
from gluondense.data.files.record_maker import RecordOptions, _Conversion
from gluondense.data.files.recordio import MAGIC, Record, write_record
from gluondense.data.files.sources import RecordSource, record_class_names
from gluondense.data.preprocessing import Preprocessing

SMALL = Preprocessing((0.5,) * 3, (0.25,) * 3, input_size=16)
STEMS = ("ILSVRC2012_val_00000001", "ILSVRC2012_val_00000002")
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def limit_pixels() -> None:
    """Lower the limits of image sizes, so that a test does not need their gigabytes."""
    Image.MAX_IMAGE_PIXELS = 1 << 19  # Pillow refuses twice as many
    decoding.MAX_PIXELS = 1 << 20


def pictures(folder: Path) -> list[Files]:
    image = gradient("RGB", (24, 32))
    files = [encoded(image, "JPEG"), encoded(image, "JPEG", progressive=True, exif=EXIF)]
    files += [encoded(image.convert("CMYK"), "JPEG"), encoded(image.convert("L"), "JPEG")]
    files += [encoded(image.convert(mode), "PNG") for mode in ("L", "RGB", "RGBA", "P", "1")]
    files.append(encoded(Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32)), "PNG"))
    files.append(encoded(image, "PNG", exif=EXIF, transparency=(1, 2, 3)))
    files += [encoded(image, kind) for kind in ("BMP", "GIF", "WEBP", "TIFF", "PPM")]
    files += [encoded(image, "TIFF", compression=kind) for kind in ("tiff_lzw", "jpeg")]
    return [{"image.jpg": content} for content in files]


def decode_all(folder: Path) -> None:
    limit_pixels()
    data = (folder / "image.jpg").read_bytes()
    for at_least in (0, 10):
        image = decode(data, "image.jpg", at_least)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


def read_pixels(folder: Path) -> None:
    limit_pixels()
    assert SMALL.pixels(folder / "image.jpg").shape == (16, 16, 3)


def records(folder: Path) -> list[Files]:
    return packed_records(encoded(gradient("RGB", (8, 8)), "PNG"), b"1234" + MAGIC + b"5678", b"x")


def image_records(folder: Path) -> list[Files]:
    return packed_records(*[encoded(gradient("RGB", (8, 8)), "PNG")] * 2)


def packed_records(*images: bytes) -> list[Files]:
    packed = io.BytesIO()
    rows, index = "", ""
    for key, data in enumerate(images):
        index += f"{key}\t{packed.tell()}\n"
        write_record(packed, Record(key, key % 2, data))
        rows += f"{key}\t{key % 2:.6f}\ta/{key}.png\n"
    files = {"a.rec": packed.getvalue(), "a.idx": index.encode(), "a.lst": rows.encode()}
    return [{**files, "a.classes.txt": b"cat\ndog\n"}, files]


def read_records(folder: Path) -> None:
    names = record_class_names(folder / "a.rec")
    assert names is None or all(isinstance(name, str) for name in names)
    source = RecordSource(folder / "a.rec")
    for index in range(min(len(source), 50)):
        image = source.read(index)
        assert isinstance(image.label, int)


def read_calibration(folder: Path) -> None:
    """Read records without an index."""
    limit_pixels()
    (folder / "a.idx").unlink(missing_ok=True)
    read_images(folder / "a.rec", SMALL, 2)


def read_list(folder: Path) -> None:
    found = list_from_file(folder, folder / "a.lst")
    assert len(found.class_names) > found.labels.max()


def unfinished(folder: Path) -> list[Files]:
    """Return the files of an interrupted `make-recordio`."""
    maker = record_maker(folder)
    maker.begin()
    maker.skip(0, "unreadable")
    (files, *_) = records(folder)
    found = {path.name: path.read_bytes() for path in folder.glob("b.*")}
    return [{**found, "b.rec.part": files["a.rec"], "b.idx.part": files["a.idx"]}]


def record_maker(folder: Path) -> _Conversion:
    names = np.array([b"0.png", b"1.png", b"2.png"])
    images = ImageList(folder, names, np.array([0, 1, 0]), ("cat", "dog"))
    return _Conversion(folder / "b", images, RecordOptions(), np.arange(3))


def resume_records(folder: Path) -> None:
    maker = record_maker(folder)
    maker.finish(maker.begin())


def tables(folder: Path) -> list[Files]:
    one = "path,label,split,group\na/1.jpg,cat,train,x\na/2.jpg,dog,val,y\nb.png,cat,test,z\n"
    many = 'path,label\na.jpg,cat|dog\n"b, 2.jpg",none\n'
    wide = "path,cat,dog\na.jpg,1,0\nb.jpg,,1\n"
    return [{"a.csv": text.encode()} for text in (one, many, wide)]


def read_tables(folder: Path) -> None:
    """Read a CSV file in one of the three ways, as its header says."""
    path = folder / "a.csv"
    header = path.read_bytes()[:30]
    if header.startswith(b"path,cat"):
        read_csv(path, folder, Columns(labels=("cat", "dog"), several_labels=True))
    elif b"split" in header:
        read_split(path, folder, several_labels=False)
        read_csv(path, folder, Columns(group="group"))
    else:
        read_csv(path, folder, Columns(several_labels=True, empty_label="none"))


def truths(folder: Path) -> list[Files]:
    kaggle = "ImageId,PredictionString\n{},n01 1 2 3 4\n{},n02 1 2 3 4\n".format(*STEMS)
    caffe = "{}.JPEG 0\n{}.JPEG 1\n".format(*STEMS)
    from scipy.io import savemat

    synsets = np.array([(1, "n02"), (2, "n01")], [("ILSVRC2012_ID", "i4"), ("WNID", "O")])
    savemat(folder / "meta.mat", {"synsets": synsets})
    meta = (folder / "meta.mat").read_bytes()
    texts = ("1\n2\n", kaggle, caffe, "n01\nn02\n")
    return [{"truth.txt": text.encode(), "meta.mat": meta} for text in texts]


def class_numbers(folder: Path) -> list[Files]:
    return truths(folder)[:1]


def names_and_labels(folder: Path) -> list[Files]:
    return truths(folder)[1:]


def read_truth(folder: Path) -> None:
    """Read the ground truth of a folder with two images."""
    images = folder / "images"
    images.mkdir()
    for stem in STEMS:
        (images / f"{stem}.JPEG").touch()
    found = read_ground_truth(folder / "truth.txt")
    assert all(isinstance(value, (int, str)) for value in found.values())
    list_validation(images, None, folder / "truth.txt")


def idx_files(folder: Path) -> list[Files]:
    images = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, *range(8)])
    floats = bytes([0, 0, 13, 1, 0, 0, 0, 2]) + struct.pack(">2f", 1, 2)
    contents = [images, floats, gzip.compress(images, mtime=0), gzip.compress(floats, mtime=0)]
    return [{"images-idx3-ubyte": content} for content in contents]


def read_idx(folder: Path) -> None:
    content = (folder / "images-idx3-ubyte").read_bytes()
    parse_idx(unpack(content, "images-idx3-ubyte"), "images-idx3-ubyte")


def cifar_files(folder: Path) -> list[Files]:
    row = bytes([3]) + bytes(range(256)) * 12
    names = [*cifar.CIFAR10.train, cifar.CIFAR10.test]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as opened:
        for name in names:
            info = tarfile.TarInfo(f"{cifar.CIFAR10.folder}/{name}")
            info.size = len(row)
            opened.addfile(info, io.BytesIO(row))
    archive = {cifar.CIFAR10.archive: gzip.compress(packed.getvalue(), 1, mtime=0)}
    return [archive, {**dict.fromkeys(names, row * 2), **archive}]


def read_cifar(folder: Path) -> None:
    cifar.load(cifar.CIFAR10, folder)


# SVHN is not here: SciPy crashes on some of its damaged files, see docs/reliability.md.
READERS = (
    Reader("image, for training", pictures, decode_all),
    Reader("image, for inference", pictures, read_pixels),
    Reader("RecordIO .rec", records, read_records, "a.rec"),
    Reader("RecordIO .idx, .lst, .classes.txt", records, read_records, "a.[!r]*"),
    Reader("RecordIO .rec without index", image_records, read_calibration, "a.rec"),
    Reader("RecordIO .lst", records, read_list, "a.lst"),
    Reader("RecordIO, interrupted", unfinished, resume_records, "b.*.part"),
    Reader("csv", tables, read_tables),
    Reader("ground truth (txt, csv)", names_and_labels, read_truth, "truth.txt"),
    Reader("ground truth, its meta.mat", class_numbers, read_truth, "meta.mat"),
    Reader("idx (Fashion-MNIST)", idx_files, read_idx),
    Reader("CIFAR (bin, tar.gz)", cifar_files, read_cifar),
)
