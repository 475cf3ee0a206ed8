"""What must work with each pair of Python and NumPy, run by `test_pythons.py`.

A script of its own, so that those environments need no pytest. Prints one JSON line.
"""

from __future__ import annotations

import json
import platform
import tempfile
import warnings
from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("error")
    import gluondense

    gluondense.list_models()  # imports MXNet

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon


def operators() -> None:
    x = mx.nd.arange(6).reshape((2, 3))
    assert mx.nd.dot(x, x.T).asnumpy().tolist() == [[5, 14], [14, 50]]
    assert mx.nd.moveaxis(mx.nd.zeros((2, 3, 4)), 0, 2).shape == (3, 4, 2)
    assert mx.nd.zeros((2,), dtype="bool").dtype == np.bool_


def train_step(net: gluon.Block, x: mx.nd.NDArray) -> None:
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9})
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    losses = []
    for _ in range(3):
        with autograd.record():
            loss = loss_of(net(x), mx.nd.array([0, 1]))
        loss.backward()
        trainer.step(2)
        losses.append(float(loss.mean().asscalar()))
    assert all(np.isfinite(losses)), losses


def saved_and_exported(
    again: gluon.Block, net: gluon.Block, x: mx.nd.NDArray, folder: Path
) -> None:
    expected = net(x).asnumpy()

    net.save_parameters(str(folder / "net.params"))
    again.load_parameters(str(folder / "net.params"))
    np.testing.assert_array_equal(again(x).asnumpy(), expected)

    net.export(str(folder / "net"))
    files = (str(folder / "net-symbol.json"), ["data"], str(folder / "net-0000.params"))
    np.testing.assert_allclose(gluon.SymbolBlock.imports(*files)(x).asnumpy(), expected, atol=1e-5)

    module = mx.mod.Module.load(str(folder / "net"), 0, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    output = module.predict(mx.io.NDArrayIter(x.asnumpy(), batch_size=x.shape[0]))
    np.testing.assert_allclose(output.asnumpy(), expected, atol=1e-5)


def records(folder: Path) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    path = str(folder / "images.rec")
    writer = mx.recordio.MXRecordIO(path, "w")
    for label in (1.0, [1.0, 2.0]):
        header = mx.recordio.IRHeader(0, label, 5, 0)
        writer.write(mx.recordio.pack_img(header, image, 3, ".png"))
    writer.close()
    reader = mx.recordio.MXRecordIO(path, "r")
    for label in (1.0, [1.0, 2.0]):
        header, read = mx.recordio.unpack_img(reader.read())
        np.testing.assert_array_equal(header.label, label)
        np.testing.assert_array_equal(read, image)


def loaders() -> None:
    data = gluon.data.ArrayDataset(np.zeros((8, 3), np.float32), np.arange(8))
    for workers in (0, 2):
        loader = gluon.data.DataLoader(data, batch_size=4, num_workers=workers)
        assert sum(labels.shape[0] for _, labels in loader) == 8


def gluoncv_network() -> None:
    gluoncv = gluondense.environment.import_gluoncv()
    net = gluoncv.model_zoo.get_model("cifar_resnet20_v1", classes=3)
    net.initialize()
    assert net(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 3)


def main() -> None:
    name, fields = "densenet40_k12_cifar10", {"in_channels": 1}
    net = gluondense.get_model(name, **fields)
    net.initialize()
    x = mx.nd.random.uniform(shape=(2, 1, 16, 16))
    operators()
    train_step(net, x)
    with tempfile.TemporaryDirectory() as folder:
        saved_and_exported(gluondense.get_model(name, **fields), net, x, Path(folder))
        records(Path(folder))
    loaders()
    gluoncv_network()
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    print(json.dumps({**versions, "patches": gluondense.environment.patches()}))


if __name__ == "__main__":
    main()
