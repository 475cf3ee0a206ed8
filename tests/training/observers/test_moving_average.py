from __future__ import annotations

import numpy as np
from mxnet import nd

from gluondense.models import build_model
from gluondense.training.observers.moving_average import MovingAverage


def test_average_follows_its_formula_and_lends_itself(tmp_path):
    net = build_model(
        "densenet121", classes=3, stem="cifar", block_config=(1, 1), num_init_features=16
    )
    net.initialize()
    net(nd.ones((1, 3, 8, 8)))
    rng = np.random.default_rng(0)
    parameters = net._collect_params_with_prefix()
    average = MovingAverage(net, 0.9)
    expected = {name: p.data().asnumpy() for name, p in parameters.items()}
    for _ in range(3):
        for name, parameter in parameters.items():
            parameter.set_data(nd.array(rng.normal(size=parameter.shape)))
            expected[name] = 0.9 * expected[name] + 0.1 * parameter.data().asnumpy()
        average.on_step(None)
    before = {name: p.data().asnumpy() for name, p in parameters.items()}
    with average.evaluating(None):
        for name, parameter in parameters.items():
            np.testing.assert_allclose(parameter.data().asnumpy(), expected[name], atol=1e-5)
    for name, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), before[name])
    average.save(tmp_path / "a.params")
    again = MovingAverage(net, 0.9)
    again.load(tmp_path / "a.params")
    for name, array in average.arrays.items():
        np.testing.assert_array_equal(array.asnumpy(), again.arrays[name].asnumpy())
