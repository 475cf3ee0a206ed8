"""Two workers train a detector as one process does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from support.detection_data import make_voc
from support.detection_tiny import TINY_DETECTION

from gluondense.training import fit
from gluondense.training.run_folder import RunFolder

CODE = """
import json, sys
from gluondense.training import TrainConfig, fit
config = TrainConfig.from_dict(json.loads(sys.argv[2]))
fit(config.with_fields(kvstore="dist_sync"), sys.argv[1], progress=False)
"""


@pytest.mark.slow
def test_two_workers_train_like_one_process(root, tmp_path):
    """With frozen batch normalization, whose statistics are otherwise those of a worker."""

    data = make_voc(tmp_path / "boxes", count=12, validation=4)
    config = TINY_DETECTION.with_fields(
        data_dir=str(data), freeze=("backbone", "neck"), augment=("mosaic", "mixup", "flip")
    )
    fit(config, tmp_path / "one", progress=False)
    command = [sys.executable, "-c", CODE, str(tmp_path / "two"), json.dumps(config.to_dict())]
    launch = [sys.executable, str(root / "scripts/launch.py"), "-n", "2", "--", *command]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run(launch, env=environment, check=True, timeout=300)
    one, two = (
        mx.nd.load(str(tmp_path / name / "checkpoints/last/model.params"))
        for name in ("one", "two")
    )
    for name, value in one.items():
        other = two[name].asnumpy()
        np.testing.assert_allclose(other, value.asnumpy(), rtol=1e-3, atol=1e-5, err_msg=name)
    mine, theirs = (RunFolder(tmp_path / name).rows() for name in ("one", "two"))
    assert [row["train_loss"] for row in theirs] == pytest.approx(
        [row["train_loss"] for row in mine], rel=1e-4
    )
    # Each worker evaluated half of the images.
    assert len(RunFolder(tmp_path / "two").predictions()["truth"]) == 4
