"""Readers of weights files: every format, and what a network takes from them."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from pathlib import Path

import mxnet as mx
from fuzz.mutation import Files
from fuzz.reader import Reader
from safetensors.numpy import save_file
from support.torch_files import legacy_file, state_dict, zip_entries, zip_file, zip_of
from support.weights_files import NET, SCALARS

import gluondense  # before mxnet
from gluondense.commands.convert_weights import source_naming
from gluondense.data.preprocessing import IMAGENET
from gluondense.weights.formats.open import open_weights
from gluondense.weights.load import load_weights
from gluondense.weights.naming.custom import as_naming_scheme
from gluondense.weights.save import describe_file, save_weights

TINY = {"block_config": (1, 1), "num_init_features": 4, "growth_rate": 4, "classes": 3}
NAME = "net.weights"


def read_arrays(folder: Path) -> None:
    with open_weights(folder / NAME) as file:
        for name, array in file.items():
            assert array.shape == file.shapes[name]
            assert array.dtype == file.dtypes[name]


def params(folder: Path) -> list[Files]:
    """Return files of each version of the format."""
    named = {name: mx.nd.array(array, dtype=array.dtype) for name, array in NET.items()}
    mx.nd.save(str(folder / "new"), named)
    mx.nd.save(str(folder / "module"), {f"arg:{name}": array for name, array in named.items()})
    with mx.util.np_shape(True):
        mx.nd.save(str(folder / "scalar"), {"none": mx.nd.zeros((0, 3)), "one": mx.nd.ones(())})
    new = (folder / "new").read_bytes()
    # Version 1 has no type of storage.
    first = new.replace(b"\xc9\xfa\x93\xf9\0\0\0\0", b"\xc8\xfa\x93\xf9")
    assert len(first) == len(new) - 4 * len(NET)
    contents = [new, first, *((folder / name).read_bytes() for name in ("module", "scalar"))]
    return [{NAME: content} for content in contents]


def safetensors(folder: Path) -> list[Files]:
    save_file({**NET, **SCALARS}, folder / NAME, metadata={"format": "np"})
    network = tiny_network()
    save_weights(network, folder / "net.safetensors")
    return [{NAME: (folder / name).read_bytes()} for name in (NAME, "net.safetensors")]


def torch_zip(folder: Path) -> list[Files]:
    return [{NAME: zip_file({"state_dict": state_dict()}, protocol)} for protocol in (2, 4)]


def torch_legacy(folder: Path) -> list[Files]:
    return [{NAME: legacy_file({"model": state_dict()}, protocol)} for protocol in (2, 4)]


def torch_entries(folder: Path) -> list[Files]:
    return [zip_entries({"state_dict": state_dict()}, protocol) for protocol in (2, 4)]


def pack_entries(entries: Files) -> Files:
    return {NAME: zip_of(entries)}


def tiny_network():
    network = gluondense.get_model("densenet121", **TINY)
    network.initialize()
    network.preprocessing = IMAGENET
    network.classes = ("a", "b", "c")
    return network


def network_files(folder: Path) -> list[Files]:
    network = tiny_network()
    save_weights(network, folder / "a.safetensors")
    save_weights(network, folder / "a.params")
    names = {"features.stage{i}": "block{i}", "output": ["a", "b"]}
    rest = {"names.json": json.dumps(names).encode()}
    return [{NAME: (folder / f"a.{end}").read_bytes(), **rest} for end in ("safetensors", "params")]


NETWORK = []  # built once in a process


def load_network(folder: Path) -> None:
    if not NETWORK:
        NETWORK.append(tiny_network())
    describe_file(folder / NAME)
    load_weights(NETWORK[0], folder / NAME)


def read_naming(folder: Path) -> None:
    try:
        naming = source_naming(str(folder / "names.json"))
        as_naming_scheme(naming, ["a.gamma"]).names(["features.stage1.layer1.a.gamma", "output.b"])
    except ArgumentTypeError as error:  # argparse prints it
        raise ValueError(str(error)) from None
    except ValueError as error:
        if "`naming`" not in str(error):
            raise
        raise ValueError(f"names.json: {error}") from None  # the command names its flag


READERS = (
    Reader("MXNet .params", params, read_arrays),
    Reader("safetensors", safetensors, read_arrays),
    Reader("PyTorch zip", torch_zip, read_arrays),
    Reader("PyTorch zip, its index", torch_entries, read_arrays, "*data.pkl", pack_entries),
    Reader("PyTorch before 1.6", torch_legacy, read_arrays),
    Reader("weights into a network", network_files, load_network, NAME),
    Reader("names of parameters (json)", network_files, read_naming, "names.json"),
)
