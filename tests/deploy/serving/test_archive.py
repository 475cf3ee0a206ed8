"""Archives: their contents, the service without gluondense, and rejected archives."""

from __future__ import annotations

import ast
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.exported_networks import TINY, VARIANTS, build
from support.paths import ROOT

import gluondense
from gluondense.deploy import Calibration, ExportedFiles, archive, predict, unpack
from gluondense.deploy.artifact import open_export
from gluondense.deploy.serving.archive import SERVED
from gluondense.deploy.serving.unpack import MANIFEST

MEAN, STD, SHAPE = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), (1, 3, 32, 32)
NAMES = ("ape", "bear", "cat", "dog", "émeu\n(bird)")


def export(path, variant="densenet", target="portable", **options):
    net = build(*VARIANTS[variant])
    options = {"class_names": NAMES, "mean": MEAN, "std": STD, **options}
    return gluondense.export(net, path, SHAPE, target, **options)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(tmp_path_factory.mktemp("export") / "net")


@pytest.fixture
def mar(exported, tmp_path):
    return archive(exported.prefix, tmp_path / "model.mar")


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as packed:
        return {row.filename: packed.read(row) for row in packed.infolist()}


def rewritten(path, goal, change):
    """Write the archive with changed members and the old manifest."""
    content = members(path)
    change(content)
    with zipfile.ZipFile(goal, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return goal


def image_bytes(seed: int = 0, size=(40, 50), kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def test_archive_follows_the_conventions_of_multi_model_server(exported, mar):
    content = members(mar)
    manifest = json.loads(content[MANIFEST])
    assert manifest["runtime"] == "python"
    assert manifest["model"] == {"modelName": "model", "handler": "mms_service.py:handle"}
    assert content["model-symbol.json"] == exported.symbol.read_bytes()
    assert content["model-0000.params"] == exported.params.read_bytes()
    assert content["synset.txt"].decode().splitlines() == [*NAMES[:4], "émeu (bird)"]
    signature = json.loads(content["signature.json"])
    assert signature["inputs"] == [{"data_name": "data", "data_shape": [0, 3, 32, 32]}]
    assert signature["outputs"] == [
        {"data_name": "densenet121_output_fwd_output", "data_shape": [0, 5]}
    ]


def test_signature_of_pixels_and_indices_of_unnamed_classes(tmp_path):
    files = export(tmp_path / "net", preprocess=True, class_names=None)
    content = members(archive(files.prefix, tmp_path / "net.zip"))
    signature = json.loads(content["signature.json"])
    assert signature["inputs"][0]["data_shape"] == [0, 32, 32, 3]
    assert content["synset.txt"].split() == [b"0", b"1", b"2", b"3", b"4"]


def test_sagemakers_archive_loads_as_its_default_handler_does(exported, tmp_path):
    path = archive(exported.prefix, tmp_path / "any.tar.gz")
    with tarfile.open(path) as packed:
        names = packed.getnames()
        for name in ("model-symbol.json", "model-0000.params", "model-shapes.json"):
            (tmp_path / name).write_bytes(packed.extractfile(name).read())
    assert names == sorted([*names])
    shapes = json.loads((tmp_path / "model-shapes.json").read_text())
    symbol, arg, aux = mx.model.load_checkpoint(str(tmp_path / "model"), 0)
    names = [row["name"] for row in shapes]
    module = mx.mod.Module(symbol, data_names=names, label_names=None)
    module.bind([(row["name"], row["shape"]) for row in shapes], for_training=False)
    module.set_params(arg, aux, allow_missing=True)
    x = mx.nd.random.normal(shape=SHAPE)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    expected = build()(x).asnumpy()
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), expected, rtol=1e-4, atol=1e-5)


# A process that has the archive's files, MXNet, and what stands for the containers' package.
CONTAINER = """
import json, pathlib, sys, types
import gluondense_served.environment
gluondense_served.environment.prepare()  # its MXNet needs no preparation in the containers
import inference
import numpy as np

class BaseInferenceToolkitError(Exception):
    def __init__(self, status, message, phrase):
        super().__init__(f"{status} {phrase}: {message}")

decoder = types.SimpleNamespace(decode=lambda data, kind: np.array(json.loads(data)))
encoder = types.SimpleNamespace(encode=lambda array, accept: (accept, array.tolist()))
errors = types.SimpleNamespace(BaseInferenceToolkitError=BaseInferenceToolkitError)
package = types.SimpleNamespace(decoder=decoder, encoder=encoder, errors=errors)
sys.modules.update({"sagemaker_inference": package, "sagemaker_inference.errors": errors})

def answer(data, kind):
    return inference.transform_fn(model, data, kind, "application/json")

model = inference.model_fn("..")
data = pathlib.Path(sys.argv[1]).read_bytes()
print(json.dumps([answer(data, kind) for kind in ("image/png", None, "application/x-image")]))
print(json.dumps(answer(json.dumps(np.zeros((2, 3, 32, 32)).tolist()), "application/json")))
try:
    answer(data[:500], "image/png")
except BaseInferenceToolkitError as error:
    print(error)
"""


def test_sagemakers_inference_code_answers_images_and_arrays(exported, tmp_path):
    with tarfile.open(archive(exported.prefix, tmp_path / "any.tar.gz")) as packed:
        packed.extractall(tmp_path / "model")
    (tmp_path / "image.png").write_bytes(image_bytes())
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER, tmp_path / "image.png"],
        cwd=tmp_path / "model" / "code",
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    images, arrays, error = done.stdout.splitlines()
    block = gluondense.load_exported(exported.prefix)
    (wanted,) = predict(block, [tmp_path / "image.png"])
    for text, kind in json.loads(images):
        assert kind == "application/json"
        found = json.loads(text)
        assert [row["class"] for row in found] == list(wanted.labels)
        probabilities = [row["probability"] for row in found]
        np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-5)
    kind, outputs = json.loads(arrays)
    assert kind == "application/json"
    expected = block(mx.nd.zeros((2, 3, 32, 32))).asnumpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert error.startswith("400 BadRequestException: ")
    assert "truncated" in error


# A process that has an archive's files, and no MXNet.
WITHOUT_MXNET = """
import json, sys
sys.modules["mxnet"] = None
import gluondense_served
from gluondense_served.deploy.serving.service import Service
service = Service(".", None, 2)
requests = [{"body": open(name, "rb").read()} for name in sys.argv[1:]]
print(json.dumps(service.answer(requests)))
"""


@pytest.mark.usefixtures("native_operator")
@pytest.mark.parametrize("options", [{}, {"preprocess": True, "output": "probabilities"}])
def test_a_native_export_is_served_without_mxnet(tmp_path, options):
    files = export(tmp_path / "net", target="native", **options)
    with zipfile.ZipFile(archive(files.prefix, tmp_path / "net.mar")) as packed:
        packed.extractall(tmp_path / "served")
    images = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(images):
        path.write_bytes(image_bytes(seed))
    command = [sys.executable, "-c", WITHOUT_MXNET, *images]
    env = {**os.environ, "PYTHONPATH": ""}
    folder = tmp_path / "served"
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    block = gluondense.load_exported(files.prefix)
    for found, wanted in zip(json.loads(done.stdout), predict(block, images)):
        assert [row["class"] for row in found] == list(wanted.labels)
        probabilities = [row["probability"] for row in found]
        np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-6)


@pytest.mark.parametrize("module", [*SERVED, "deploy/serving/sagemaker.py"])
def test_modules_of_the_service_run_on_python_3_8_as_sagemakers_containers(module):
    text = (ROOT / "gluondense" / module).read_text(encoding="utf-8")
    tree = ast.parse(text, feature_version=(3, 8))
    annotated = any(isinstance(node, (ast.FunctionDef, ast.AnnAssign)) for node in ast.walk(tree))
    assert "from __future__ import annotations" in text or not annotated
    newer = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("removesuffix", "removeprefix")
    ]
    assert not newer
    names = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [
        node for node in names if node.module == "functools" and node.names[0].name == "cache"
    ]


@pytest.mark.parametrize("ending", [".mar", ".zip", ".tar.gz"])
def test_equal_exports_give_equal_bytes_and_load_back(exported, tmp_path, ending):
    first, second = (archive(exported.prefix, tmp_path / n / f"net{ending}") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    block, x = gluondense.load_exported(first), mx.nd.ones((2, 3, 32, 32))
    assert block.metadata.class_names == NAMES
    np.testing.assert_allclose(block(x).asnumpy(), build()(x).asnumpy(), rtol=1e-4, atol=1e-5)


# A process that has the archive's files, and MXNet.
SERVER = """
import json, pathlib, sys
import mms_service

class Context:
    system_properties = {"model_dir": ".", "gpu_id": -1, "batch_size": 2}
    def get_all_request_header(self, index): return {"Content-Type": "image/png"}
    def set_response_status(self, code, phrase, index): print(index, code, phrase)

Context = Context()
assert mms_service.handle(None, Context) == []
paths = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]
for answer in mms_service.handle([{"body": bytearray(data)} for data in paths], Context):
    print(answer)
assert Context.get_response_content_type(0) == "application/json"
assert "gluondense" not in sys.modules
"""


@pytest.mark.parametrize(
    ("variant", "target", "options"),
    [
        ("densenet", "portable", {}),
        ("csp-last", "onednn", {"preprocess": True, "output": "probabilities"}),
        ("dpn", "native", {"preprocess": True}),
        ("residual", "portable", {"params_dtype": "float16"}),
        ("densenet", "int8", {"output": "probabilities"}),
        ("densenet", "native_int8", {}),
    ],
)
def test_service_without_gluondense_answers_as_predict(variant, target, options, tmp_path, request):
    if target.startswith("native"):
        request.getfixturevalue("native_operator")
    if target.endswith("int8"):
        images = np.random.default_rng(0).standard_normal((8, *SHAPE[1:])).astype("float32")
        options = {**options, "calibration": Calibration(images, max_changed=1.0)}
    files = export(tmp_path / "net", variant, target, **options)
    folder = tmp_path / "served"
    with zipfile.ZipFile(archive(files.prefix, tmp_path / "model.mar")) as packed:
        packed.extractall(folder)
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(image_bytes(number))
    (tmp_path / "broken.png").write_bytes(image_bytes()[:500])
    command = [sys.executable, "-c", SERVER, *paths[:2], tmp_path / "broken.png", paths[2]]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    status, *answers = done.stdout.splitlines()
    assert status == "2 400 BadRequestException"
    # As multi-model-server needs it: service.py says why.
    phrases = ["", "", "BadRequestException", ""]
    assert {(len(a) + len(phrase)) % 16 for a, phrase in zip(answers, phrases)} == {4}
    refused = json.loads(answers.pop(2))
    assert refused["code"] == 400
    assert "truncated" in refused["message"]
    block = gluondense.load_exported(files.prefix)
    expected = predict(block, paths, SHAPE, MEAN, STD, NAMES)
    for text, wanted in zip(answers, expected):
        found = json.loads(text)
        assert [row["class"] for row in found] == list(wanted.labels)
        probabilities = [row["probability"] for row in found]
        np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.rar", r"must end with one of \.mar, \.tar\.gz, \.zip, /; did you mean '\.mar'"),
        (".mar", r"names the model ''"),
        ("-x.mar", r"names the model '-x'"),
        ("a b.mar", r"names the model 'a b'"),
    ],
)
def test_refuses_invalid_names(exported, tmp_path, name, words):
    with pytest.raises(ValueError, match=words):
        archive(exported.prefix, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_refuses_exports_that_the_server_cannot_take(tmp_path, native_operator):
    files = export(tmp_path / "native", target="native")
    for ending in (".zip", ".tar.gz"):
        with pytest.raises(ValueError, match=r"target='native' needs mx\.library\.load"):
            archive(files.prefix, tmp_path / f"model{ending}")
    bare = export(tmp_path / "bare", mean=None, std=None)
    with pytest.raises(ValueError, match="preprocessing of the export is unknown"):
        archive(bare.prefix, tmp_path / "model.mar")
    maps = build("densenet121", {**TINY, "features_only": True})
    maps = gluondense.export(maps, tmp_path / "maps", SHAPE, mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"answers with classes, features or boxes, but"):
        archive(maps.prefix, tmp_path / "model.mar")
    assert not list(tmp_path.glob("model*"))


def test_refuses_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    files = export(tmp_path / "net", target="onnx")
    with pytest.raises(ValueError, match=r"target='onnx' is no MXNet graph"):
        archive(files.prefix, tmp_path / "model.mar")


def test_a_native_export_is_verified_with_its_library(tmp_path, native_operator):
    files = export(tmp_path / "native", target="native")
    files.library.write_bytes(files.library.read_bytes() + b"?")
    with pytest.raises(ValueError, match=r"native-native\.so is damaged"):
        archive(files.prefix, tmp_path / "model.mar")
    gluondense.load_exported(files.prefix)  # which never loads that file
    files.library.unlink()
    with pytest.raises(FileNotFoundError, match=r"native-native\.so"):
        open_export(files.prefix, library=True)


def test_error_names_the_folder_that_cannot_be_written(exported, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*: name another path"):
        archive(exported.prefix, tmp_path / "file" / "model.mar")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil", "C:/evil", "a\\..\\..\\evil"],
)
@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_refuses_members_outside_the_folder(exported, tmp_path, name, ending):
    path = archive(exported.prefix, tmp_path / f"model{ending}")
    if ending == ".zip":
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr(name, b"evil")
    else:
        with tarfile.open(path, "w:gz") as packed:
            about = tarfile.TarInfo(name)
            packed.addfile(about, io.BytesIO())
    (tmp_path / "to").mkdir()
    with pytest.raises(ValueError, match="would be outside of the folder"):
        unpack(path, tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())
    assert not list(tmp_path.rglob("*evil*"))


def test_refuses_links(exported, tmp_path):
    path = archive(exported.prefix, tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as packed:
        about = zipfile.ZipInfo("link")
        about.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(about, "/etc/passwd")
    with pytest.raises(ValueError, match="'link' is a link or a device"):
        gluondense.load_exported(path)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        path = tmp_path / "model.tar.gz"
        with tarfile.open(path, "w:gz") as packed:
            about = tarfile.TarInfo("model-symbol.json")
            about.type, about.linkname = kind, "/etc/passwd"
            packed.addfile(about)
        with pytest.raises(ValueError, match=r"'model-symbol\.json' is a link or a device"):
            gluondense.load_exported(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update({"synset.txt": b"other"}), r"synset\.txt is damaged"),
        (lambda m: m.update({"model-0000.params": b""}), r"model-0000\.params is damaged"),
        (lambda m: m.update({"extra.py": b"evil()"}), r"differ in extra\.py"),
        (lambda m: m.pop("model.json"), r"differ in model\.json"),
        (lambda m: m.update({MANIFEST: b"{}"}), "has no checksums"),
        (lambda m: m.pop(MANIFEST), r"it has no MAR-INF/MANIFEST\.json"),
        (lambda m: m.update({MANIFEST: b"[[["}), "is refused"),
        (lambda m: m.update({MANIFEST: b"\xff"}), "is refused"),
    ],
)
def test_refuses_members_that_differ_from_the_manifest(mar, tmp_path, change, words):
    other = rewritten(mar, tmp_path / "other.mar", change)
    with pytest.raises(ValueError, match=words) as caught:
        gluondense.load_exported(other)
    assert str(other) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refuses_archives_without_an_export(tmp_path):
    path = tmp_path / "model.zip"
    for names, words in (
        (["a.txt"], "graph of one export, not of 0"),
        (["a-symbol.json", "b-symbol.json"], "graph of one export, not of 2"),
        (["sub/a-symbol.json"], "graph of one export"),
        (["a-symbol.json", "a.json"], r"has no member a-0000\.params"),
    ):
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                packed.writestr(name, b"{}")
        with pytest.raises(ValueError, match=words):
            gluondense.load_exported(path)
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a-symbol.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("a-symbol.json", b"{}")
    with pytest.raises(ValueError, match="two members"):
        gluondense.load_exported(path)


@pytest.mark.parametrize("ending", [".mar", ".zip", ".tar.gz"])
def test_names_the_damaged_archive(exported, tmp_path, ending):
    path = archive(exported.prefix, tmp_path / f"model{ending}")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (whole[: len(whole) // 2], b"", b"no archive", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"archive|damaged|refused") as caught:
            gluondense.load_exported(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no archive"):
        gluondense.load_exported(path)


def test_no_code_of_an_archive_is_executed(mar, tmp_path):
    """Neither the service nor a file with the name of the native library."""
    evil = f"open({str(tmp_path / 'executed')!r}, 'w')\n".encode()
    with zipfile.ZipFile(mar) as packed:
        about = json.loads(packed.read("model.json"))
    assert about["target"] == "portable"
    path = tmp_path / "model.zip"
    content = members(mar)
    content.pop(MANIFEST)  # an author of evil would write fitting checksums
    content["mms_service.py"] = content["gluondense_served/__init__.py"] = evil
    content["model-native.so"] = b"\x7fELF evil"
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    assert gluondense.load_exported(path).metadata.class_names == NAMES
    assert not (tmp_path / "executed").exists()
    (tmp_path / "to").mkdir()
    files = unpack(path, tmp_path / "to")
    assert sorted((tmp_path / "to").iterdir()) == sorted(ExportedFiles.of(files.prefix))


def test_limits_the_size_of_extracted_members(mar, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[unpack.__module__], "MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match=r"bytes, over 10,000"):
        gluondense.load_exported(mar)
