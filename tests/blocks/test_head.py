from __future__ import annotations

import mxnet as mx
import pytest
from mxnet.gluon import nn
from support.reference import arrays, assert_close, avg_pool, images, randomize

from gluondense.blocks import mean_max_logits


class Head(nn.HybridBlock):
    def __init__(self) -> None:
        super().__init__()
        with self.name_scope():
            self.output = nn.Dense(4, in_units=6)

    def hybrid_forward(self, F, x):
        return mean_max_logits(F, x, self.output)


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("side", [(7, 7), (9, 8), (7, 12)])
def test_logits_are_the_mean_of_average_and_maximum_over_the_windows(side, hybridize):
    head = randomize(Head())
    head.hybridize(hybridize)
    windows = avg_pool(images(3, 6, *side), kernel=7, stride=1)
    parameters = arrays(head)
    scores = (
        parameters["output.bias"] + windows.transpose(0, 2, 3, 1) @ parameters["output.weight"].T
    )
    expected = (scores.mean((1, 2)) + scores.max((1, 2))) / 2
    assert_close(head(mx.nd.array(windows)), expected)
