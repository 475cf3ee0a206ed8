"""Readers of a run's files, and of the JSON and text files that commands take."""

from __future__ import annotations

import json
import socket
import zipfile
from argparse import Namespace
from pathlib import Path

import mxnet as mx
from fuzz.mutation import Files
from fuzz.reader import Reader
from support.paths import ROOT
from support.training_tiny import TINY

from gluondense.commands.evaluate import _read_class_map
from gluondense.training import checkpoint
from gluondense.training.config import TrainConfig
from gluondense.training.distributed.launcher.hosts import read_hosts
from gluondense.training.loop import fit
from gluondense.training.observers.files import _changes, _check_model, _check_progress
from gluondense.training.run_data import _read_splits
from gluondense.training.run_folder import RunFolder
from gluondense.training.state import Meter, TrainState

CHECKPOINT = ("model.json", "model.params", "trainer.states")


def runs(folder: Path) -> list[Files]:
    """Return the files of a run of this version and of an earlier one."""
    config = TINY.with_fields(epochs=1, native=False)
    fit(config, folder / "run")
    mx.nd.waitall()
    new = {
        name: (folder / "run" / place / name).read_bytes()
        for place, names in (
            ("checkpoints/last", CHECKPOINT),
            (".", ("config.json", "log.csv", "answers.npz")),
        )
        for name in names
    }
    with zipfile.ZipFile(ROOT / "tests" / "files" / "run-0.1.0.zip") as earlier:
        names = [name for name in earlier.namelist() if not name.endswith("average.params")]
        old = {Path(name).name: earlier.read(name) for name in names}
    # The earlier one has a moving average of the weights.
    facts = json.loads(old["model.json"])
    facts["sha256"].pop("average.params")
    old["model.json"] = json.dumps(facts).encode()
    return [new, {"answers.npz": new["answers.npz"], **old}]


def read_config(folder: Path) -> None:
    config = RunFolder(folder).config()
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def read_log(folder: Path) -> None:
    """Read the log as a run does that continues."""
    RunFolder(folder).keep_rows(1, ("epoch", "step"))


def read_predictions(folder: Path) -> None:
    RunFolder(folder).predictions()


def read_checkpoint(folder: Path) -> None:
    """Read what a run needs of a checkpoint to continue."""
    found = checkpoint.load(folder)
    network = found.network()
    _check_model(found, network)
    found.load_parameters(network)
    state = TrainState(1, Meter(("loss_sum", "hits")))
    _check_progress(found, state.progress())
    state.restore(found.epoch, found.progress)
    _changes(found, Namespace(config=TrainConfig.from_dict(found.config)))


def read_splits(folder: Path) -> None:
    _read_splits(folder / "split.csv")


def splits(folder: Path) -> list[Files]:
    text = "path,label,split,group\na/1.jpg,cat,train,x\na/2.jpg,dog,val,y\n"
    return [{"split.csv": text.encode()}]


def class_maps(folder: Path) -> list[Files]:
    return [{"map.json": json.dumps({"kitten": "cat", "hound": "dog"}).encode()}]


def read_class_map(folder: Path) -> None:
    found = _read_class_map(str(folder / "map.json"))
    assert all(isinstance(name, str) for name in (*found, *found.values()))


def hosts(folder: Path) -> list[Files]:
    return [{"hosts": b"# of the lab\nworker-1 10.0.0.1\nme@worker-2 10.0.0.2\nlocalhost\n"}]


def resolve(address: str) -> str:
    """Stand for the name server."""
    if address == "localhost" or address.replace(".", "").isdigit():
        return address
    address.encode("idna")
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def read_host_names(folder: Path) -> None:
    real, socket.gethostbyname = socket.gethostbyname, resolve
    try:
        read_hosts(folder / "hosts")
    finally:
        socket.gethostbyname = real


READERS = (
    Reader("run, its configuration", runs, read_config, "config.json"),
    Reader("run, its log", runs, read_log, "log.csv"),
    Reader("run, its predictions", runs, read_predictions, "answers.npz"),
    Reader("run, its splits", splits, read_splits),
    Reader("checkpoint", runs, read_checkpoint, "model.json", memory=1024),
    Reader("checkpoint, all files", runs, read_checkpoint, "*[!v]", memory=1024),
    Reader("class map (json)", class_maps, read_class_map),
    Reader("hosts", hosts, read_host_names),
)
