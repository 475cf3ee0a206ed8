"""The table of published weights, and a file's way from a source into the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest

import gluondense
from gluondense.weights.catalog import (
    WEIGHTS,
    Weights,
    fetch_weights,
    find_published,
    find_weights,
)

rows = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
DOWNLOADED = {name: row for name, row in WEIGHTS.items() if row.urls}
IMAGENET = {name: row for name, row in DOWNLOADED.items() if row.dataset == "imagenet"}
HUB = {name: row for name, row in IMAGENET.items() if name.startswith("rdnet")}
hub_rows = pytest.mark.parametrize("weights", HUB.values(), ids=HUB)
NAMED = {name: row for name, row in IMAGENET.items() if name not in HUB}
named_rows = pytest.mark.parametrize("weights", NAMED.values(), ids=NAMED)
imagenet_rows = pytest.mark.parametrize("weights", IMAGENET.values(), ids=IMAGENET)
HAZY = WEIGHTS["densenet40_k12_bc_cifar10.hazy_cifar10"]


@rows
def test_the_model_exists(weights):
    spec = gluondense.get_spec(weights.model)
    assert spec.classes == weights.classes
    assert spec.eps == weights.eps
    assert spec.in_channels == len(weights.preprocessing.mean)


@named_rows
def test_the_file_name_has_the_checksum(weights):
    assert re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256)
    for url in weights.urls:
        assert re.fullmatch(r"https://[\w./-]+", url)
        name = url.rsplit("/", 1)[1]
        digits = re.fullmatch(r"\w+-([0-9a-f]{8,9})\.pth", name).group(1)
        assert name == weights.file_name
        assert weights.sha256.startswith(digits)


@hub_rows
def test_the_address_on_the_hub(weights):
    (url,) = weights.urls
    page = re.escape(f"https://huggingface.co/naver-ai/{weights.name}/resolve/")
    assert re.fullmatch(page + r"(main|[0-9a-f]{40})/pytorch_model\.bin", url)
    assert weights.file_name == f"{weights.name}.bin"


@imagenet_rows
def test_the_preprocessing_is_for_pixels_in_0_to_1(weights):
    images = weights.preprocessing
    assert len(images.mean) == len(images.std) == 3
    assert all(0.4 < mean < 0.5 for mean in images.mean)
    assert all(0.2 < std < 0.25 for std in images.std)
    assert images.interpolation in ("bilinear", "bicubic")
    assert 0.8 < images.crop_ratio <= 1
    assert images.input_size in (224, 256, 384)


@imagenet_rows
def test_the_accuracies_are_plausible(weights):
    assert 74 < weights.top1 < 86
    assert 91 < weights.top5 < 98
    assert (100 - weights.top5) / (100 - weights.top1) == pytest.approx(0.25, abs=0.09)


def test_files_and_names_are_unique():
    for field in ("name", "file_name"):
        assert len({getattr(weights, field) for weights in WEIGHTS.values()}) == len(WEIGHTS)
    assert len({weights.urls for weights in DOWNLOADED.values()}) == len(DOWNLOADED)
    known = [weights.sha256 for weights in WEIGHTS.values() if weights.sha256]
    assert len({*known}) == len(known) == len(WEIGHTS) - 4  # of RDNets on the Hub
    assert all(name == weights.name for name, weights in WEIGHTS.items())
    assert len(DOWNLOADED) == 23


def test_preprocessing_is_the_publishers():
    dpn_mean = (124 / 255, 117 / 255, 104 / 255)
    for name, weights in IMAGENET.items():
        images = weights.preprocessing
        assert (images.mean == dpn_mean) == name.endswith(".mx_in1k")
        assert (images.interpolation == "bilinear") == (
            name.endswith(".tv_in1k") or name.startswith("csp_")
        )
        assert (images.input_size == 256) == name.startswith(("csp_", "darknet"))
    assert find_weights("dpn68b.ra_in1k").preprocessing.crop_ratio == 0.95


def test_the_row_of_cifar_10():
    assert HAZY.dataset == "cifar10"
    assert HAZY.classes == len(gluondense.data.DATASETS["cifar10"].class_names)
    assert len(HAZY.sha256) == 64  # the file's name has no checksum
    assert [round(255 * value, 1) for value in HAZY.preprocessing.mean] == [125.3, 123.0, 113.9]
    assert [round(255 * value, 1) for value in HAZY.preprocessing.std] == [63.0, 62.1, 66.7]
    assert (HAZY.preprocessing.input_size, HAZY.preprocessing.crop_ratio) == (32, 1.0)


def test_dpn_preprocessing_is_the_authors():
    (scale, *_) = find_weights("dpn92").preprocessing.std
    assert 1 / (scale * 255) == pytest.approx(0.0167)


@pytest.mark.parametrize(
    ("model", "tag", "name"),
    [
        ("densenet121", None, "densenet121.tv_in1k"),
        ("densenet121", "ra_in1k", "densenet121.ra_in1k"),
        ("densenet121.ra_in1k", None, "densenet121.ra_in1k"),
        ("dpn68b", None, "dpn68b.mx_in1k"),
        ("csp_resnet50", None, "csp_resnet50.ra_in1k"),
    ],
)
def test_finds_the_row(model, tag, name):
    assert find_weights(model, tag) is WEIGHTS[name]


@pytest.mark.parametrize(
    ("model", "tag", "message"),
    [
        ("csp_densenet121", None, "'csp_densenet121' has no published weights.*these have: dens"),
        ("densnet121", None, "did you mean 'densenet121'"),
        ("densenet121.ra_in", None, r"did you mean 'densenet121\.ra_in1k'"),
        ("densenet121", "ra", r"no weights 'ra'.*\(there are: tv_in1k, ra_in1k\)"),
        ("dpn98_listing", "mx_in1k", "'dpn98_listing' has no published weights"),
    ],
)
def test_errors_list_the_alternatives(model, tag, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_weights(model, tag)
    assert "\n" not in str(caught.value)


CONTENT = b"weights" * 1000


@pytest.fixture
def weights(server) -> Weights:
    digest = hashlib.sha256(CONTENT).hexdigest()
    name = f"/models/densenet121-{digest[:8]}.pth"
    server.pages[name] = CONTENT
    row = WEIGHTS["densenet121.tv_in1k"]
    return dataclasses.replace(row, urls=(server.url + name,), sha256=digest[:8])


def test_weights_are_downloaded_once(server, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    path = fetch_weights(weights)
    assert path == tmp_path / "models" / weights.file_name
    assert path.read_bytes() == CONTENT
    assert fetch_weights(weights) == path
    assert len(server.requests) == 1
    assert fetch_weights(weights, tmp_path / "mine") == tmp_path / "mine" / weights.file_name


def test_damaged_weights_in_the_cache_are_downloaded_again(weights, tmp_path):
    path = fetch_weights(weights, tmp_path)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert fetch_weights(weights, tmp_path).read_bytes() == CONTENT


def test_the_offline_error_says_where_to_copy_the_file(server, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GLUONDENSE_OFFLINE", "1")
    with pytest.raises(ConnectionError) as caught:
        fetch_weights(weights, tmp_path)
    path = tmp_path / weights.file_name
    assert str(caught.value) == (
        f"can't download {weights.file_name} (GLUONDENSE_OFFLINE is set); "
        f"download {weights.urls[0]} on a machine with a network, and copy it to {path}"
    )
    path.write_bytes(CONTENT)
    assert fetch_weights(weights, tmp_path) == path
    assert not server.requests


# Weights on the Hub: the checksum is in the Git LFS pointer.

DIGEST = hashlib.sha256(CONTENT).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{DIGEST}\nsize {len(CONTENT)}\n"
RESOLVE, RAW = "/rdnet/resolve/main/pytorch_model.bin", "/rdnet/raw/main/pytorch_model.bin"


@pytest.fixture
def on_hub(server) -> Weights:
    server.pages.update({RESOLVE: CONTENT, RAW: POINTER.encode()})
    return dataclasses.replace(WEIGHTS["rdnet_tiny.nv_in1k"], urls=(server.url + RESOLVE,))


def test_weights_on_the_hub_have_the_checksum_of_their_pointer(
    server, on_hub, tmp_path, monkeypatch
):
    path = fetch_weights(on_hub, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.paths == [RAW, RESOLVE]
    monkeypatch.setitem(WEIGHTS, on_hub.name, on_hub)
    assert find_published(path) is on_hub
    path.write_bytes(CONTENT[:-1] + b"x")
    assert find_published(path) is None
    assert fetch_weights(on_hub, tmp_path).read_bytes() == CONTENT
    monkeypatch.setenv("GLUONDENSE_OFFLINE", "1")
    assert fetch_weights(on_hub, tmp_path) == path
    assert server.paths == [RAW, RESOLVE, RESOLVE]
    (tmp_path / f"{path.name}.lfs").unlink()
    assert find_published(path) is None
    with pytest.raises(ConnectionError, match=f"{RAW} on a machine .* to .*{path.name}.lfs"):
        fetch_weights(on_hub, tmp_path)


@pytest.mark.parametrize(
    ("page", "content"),
    [(RESOLVE, CONTENT[:-1] + b"x"), (RAW, b"<html>sign in"), (RAW, POINTER.encode() * 9)],
)
def test_what_does_not_match_the_pointer_is_refused(server, on_hub, tmp_path, page, content):
    server.pages[page] = content
    with pytest.raises(ConnectionError, match=f"{page}: wrong checksum of {len(content)} bytes"):
        fetch_weights(on_hub, tmp_path)
    assert not (tmp_path / on_hub.file_name).exists()
