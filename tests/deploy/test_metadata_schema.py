"""Every field of an export's JSON is checked, and its content has a checksum."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.exported_networks import VARIANTS, build

import gluondense
from gluondense.data.preprocessing import Preprocessing
from gluondense.deploy.artifact import open_export
from gluondense.deploy.metadata import ExportMetadata, read_metadata
from gluondense.deploy.metadata_schema import SCHEMA
from gluondense.deploy.targets import TARGETS
from gluondense.files import json_sha256

SHAPE = (1, 3, 32, 32)
IMAGES = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bicubic", 0.9, SHAPE[2:])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("export") / "net"
    options = {"class_names": tuple("abcde"), "preprocessing": IMAGES}
    return gluondense.export(build(*VARIANTS["densenet"]), prefix, SHAPE, **options)


@pytest.fixture
def content(exported):
    return json.loads(exported.metadata.read_text())


def read(folder, content, signed=True):
    """Write the metadata, with the right checksum if ``signed``, and read it."""
    if signed and "content_sha256" in content:
        rest = {key: value for key, value in content.items() if key != "content_sha256"}
        content = {**rest, "content_sha256": json_sha256(rest)}
    path = folder / "net.json"
    path.write_text(json.dumps(content))
    return read_metadata(path)


def test_the_schema_has_all_fields(content):
    assert {field.name for field in dataclasses.fields(ExportMetadata)} == set(SCHEMA)
    assert set(content) == {*SCHEMA, "format", "content_sha256", "mean", "std"}
    assert content["format"] == 2
    assert (content["mean"], content["std"]) == (list(IMAGES.mean), list(IMAGES.std))


def test_what_was_written_is_read(tmp_path, content):
    assert read(tmp_path, content).preprocessing == IMAGES
    content["preprocessing"] = None  # unknown stays unknown
    found = read(tmp_path, {**content, "mean": None, "std": None})
    assert (found.preprocessing, found.mean, found.std) == (None, None, None)


@pytest.mark.parametrize("name", ["class_names", "preprocessing", "versions", "outputs", "mean"])
def test_any_change_of_the_content_is_found(exported, content, tmp_path, name):
    for file in exported:
        shutil.copy(file, tmp_path)
    changed = {**content, name: None}
    (tmp_path / "net.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"net\.json .*content_sha256: it is damaged"):
        open_export(tmp_path / "net")
    (tmp_path / "net.json").write_text(json.dumps(content, indent=7, sort_keys=True))
    assert open_export(tmp_path / "net")[1].preprocessing == IMAGES  # another layout is the same


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["a"]}, "class_names .* a name for each of the 5 outputs, not 1 names"),
        ({"class_names": [1, 2, 3, 4, 5]}, "class_names .* names or null"),
        ({"class_names": "abcde"}, "class_names .* names or null"),
        ({"input_shape": [1, 3, 0, 32]}, "input_shape .* positive integers"),
        ({"input_shape": [1, 3, 32, 40]}, r"input_shape .* \(N, 3, 32, 32\)"),
        ({"input_shape": [1, 1, 32, 32]}, r"input_shape .* \(N, 3, 32, 32\)"),
        ({"input_shape": None}, "input_shape"),
        ({"output_shapes": [[1, 5], [1, 5]]}, "output_shapes .* one for each of the 1 outputs"),
        ({"output_shapes": [[1, -5]]}, "output_shapes .* lists of positive integers"),
        ({"outputs": []}, r"outputs \(=\[\]\) must be names"),
        ({"target": ""}, "target .* a name"),
        ({"target": 7}, "target .* a name"),
        ({"output": "softmax"}, "output .* one of logits, probabilities, features"),
        ({"params_dtype": "float8"}, "params_dtype .* one of float32, float16"),
        ({"preprocess": 1}, "preprocess .* true or false"),
        ({"preprocess": True, "preprocessing": None}, "preprocessing .* known if the graph"),
        ({"sha256": {"symbol": "0" * 64}}, "sha256 .* a SHA-256 of each file"),
        ({"sha256": {"symbol": "0" * 64, "params": "../x"}}, "sha256 .* a SHA-256 of each file"),
        ({"versions": {"mxnet": 1}}, "versions .* names and versions"),
        ({"spec": []}, "spec .* an object or null"),
        ({"quantization": 3}, "quantization .* an object or null"),
        ({"preprocessing": {"mean": [0.5] * 3}}, "std .* must be in preprocessing"),
        ({"preprocessing": {**IMAGES.to_dict(), "std": [0, 1, 1]}}, "std .* must be positive"),
        ({"preprocessing": {**IMAGES.to_dict(), "mean": [0.5]}}, "std .* must be 1 numbers"),
        ({"preprocessing": {**IMAGES.to_dict(), "crop_ratio": 2}}, "crop_ratio .* in"),
        ({"preprocessing": [1]}, "preprocessing .* an object or null"),
        ({"colour": 1}, "unknown field 'colour'"),
    ],
)
def test_each_invalid_field_is_named_in_one_line(tmp_path, content, changes, words):
    with pytest.raises(ValueError, match=words) as caught:
        read(tmp_path, {**content, **changes})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'net.json'} does not describe an export")
    assert "\n" not in message


@pytest.mark.parametrize("name", [name for name, field in SCHEMA.items() if not field.optional])
def test_each_missing_field_is_named(tmp_path, content, name):
    del content[name]
    with pytest.raises(ValueError, match=f"it lacks the field '{name}'"):
        read(tmp_path, content)


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 100_000, '{"format": true}', "\udcff"])
def test_other_content_is_refused(tmp_path, text):
    path = tmp_path / "net.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"net\.json (does not describe|has format)"):
        read_metadata(path)


def test_a_newer_format_asks_for_an_update(tmp_path, content):
    with pytest.raises(ValueError, match=r"has format 3, this gluondense reads 1 to 2: update it"):
        read(tmp_path, {**content, "format": 3})


def format_1(content):
    new = ("preprocessing", "content_sha256")
    return {**{k: v for k, v in content.items() if k not in new}, "format": 1}


def test_format_1_resizes_both_sides_as_it_did(tmp_path, content):
    found = read(tmp_path, format_1(content)).preprocessing
    assert found == Preprocessing.stretched(IMAGES.mean, IMAGES.std, SHAPE[2:])
    unknown = {**format_1(content), "mean": None, "std": None}
    assert read(tmp_path, unknown).preprocessing is None
    with pytest.raises(ValueError, match=r"std .* must be positive"):
        read(tmp_path, {**format_1(content), "std": [0.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match=r"class_names .* each of the 5 outputs"):
        read(tmp_path, {**format_1(content), "class_names": ["a"]})


def test_targets_are_names():
    assert all(SCHEMA["target"].holds(name) for name in TARGETS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_of_any_field_is_read_or_refused_in_one_line(tmp_path, content, data):
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted({*SCHEMA, "format", "mean", "std"})))
        changed = {**content, name: data.draw(VALUES)}
    else:
        name = data.draw(st.sampled_from(sorted(IMAGES.to_dict())))
        images = {**IMAGES.to_dict(), name: data.draw(VALUES)}
        changed = {**content, "preprocessing": images}
    for variant in (changed, format_1(changed)):
        try:
            message = repr(read(tmp_path, variant).target)
        except ValueError as error:
            message = str(error)
        assert "\n" not in message
