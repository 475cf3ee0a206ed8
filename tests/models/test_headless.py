"""Networks without a classifier, and `summary`."""

from __future__ import annotations

import logging

import mxnet as mx
import numpy as np
import pytest
from PIL import Image
from support.reference import assert_close, images, randomize
from support.small_networks import FAMILIES

import gluondense
from gluondense import get_model, list_models
from gluondense.graph.trace import trace

families = pytest.mark.parametrize("name", FAMILIES)


def small(name: str, **fields):
    return get_model(name, **{"classes": 7, **FAMILIES[name], **fields})


def batch(*side: int) -> mx.nd.NDArray:
    return mx.nd.array(images(2, 3, *side))


@families
def test_a_network_of_0_classes_returns_the_pooled_features(name, tmp_path, caplog):
    whole = randomize(small(name))
    whole.save_parameters(str(tmp_path / "whole.params"))
    net = small(name, classes=0)
    with caplog.at_level(logging.WARNING):
        report = gluondense.load_weights(net, tmp_path / "whole.params")
    assert report.ignored == ("output.weight", "output.bias")
    assert not report.fresh
    assert not caplog.records
    x = batch(45, 64)
    features = net(x)
    assert features.shape == (2, net.out_channels)
    np.testing.assert_array_equal(features.asnumpy(), whole.features(x).asnumpy())
    assert not hasattr(net, "output")
    net.save_parameters(str(tmp_path / "headless.params"))
    back = small(name, classes=0, pretrained=tmp_path / "headless.params")
    np.testing.assert_array_equal(back(x).asnumpy(), features.asnumpy())


@families
def test_reset_output_adds_a_classifier(name, tmp_path):
    whole = randomize(small(name))
    net = randomize(small(name, classes=0))
    x = batch(32, 32)
    assert net(x).shape == (2, net.out_channels)  # with a static graph
    net.reset_output(7)
    assert (net.spec.classes, net.absent) == (7, ())
    net.output.weight.set_data(whole.output.weight.data())
    net.output.bias.set_data(whole.output.bias.data())
    assert_close(net(x), whole.output(net.features(x)).asnumpy())
    whole.save_parameters(str(tmp_path / "whole.params"))
    assert not gluondense.load_weights(net, tmp_path / "whole.params").ignored
    np.testing.assert_array_equal(net(x).asnumpy(), whole(x).asnumpy())


@pytest.mark.slow  # the message names the networks that the file fits
def test_a_file_without_an_output_does_not_fit_a_classifier(tmp_path):
    randomize(small("dpn92", classes=0)).save_parameters(str(tmp_path / "headless.params"))
    with pytest.raises(ValueError, match=r"2 missing: output\.weight, output\.bias"):
        small("dpn92", pretrained=tmp_path / "headless.params")


@families
@pytest.mark.parametrize("output", ["logits", "features"])
def test_exports_give_features(name, output, tmp_path):
    net = randomize(small(name, classes=0))
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), output=output)
    block = gluondense.load_exported(files.prefix)
    assert block.metadata.output == "features"
    assert block.metadata.class_names is None
    assert_close(block(batch(32, 40)), net(batch(32, 40)).asnumpy())
    whole = randomize(small(name))
    for key, parameter in net.collect_params().items():
        whole.collect_params()[key].set_data(parameter.data())
    same = gluondense.export(whole, tmp_path / "same", (1, 3, 32, 32), output="features")
    assert same.symbol.read_bytes() == files.symbol.read_bytes()


@pytest.mark.parametrize(
    "options", [{"output": "probabilities"}, {"class_names": [str(i) for i in range(18)]}], ids=str
)
def test_exports_have_no_probabilities_and_no_names(options, tmp_path):
    net = randomize(small("csp_resnext50", classes=0))
    with pytest.raises(ValueError, match=r"classes=0 .*reset_output"):
        gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), **options)


def test_predict_and_evaluate_refuse_in_one_line(tmp_path, root, capsys):
    from gluondense.commands.evaluate import main as evaluate
    from gluondense.commands.predict import main as predict
    from gluondense.deploy.prediction import predict as predict_images

    net = randomize(small("dpn92", classes=0))
    options = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    files = gluondense.export(net, tmp_path / "net", (1, 3, 32, 32), **options)
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(image)
    with pytest.raises(ValueError, match="gives features, not classes"):
        predict_images(net, [image], input_shape=(1, 3, 32, 32), **options)
    for command, arguments in ((predict, [files.prefix, image]), (evaluate, [files.prefix])):
        assert command([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert "features" in error
        assert len(error.splitlines()) == 1


def test_pooled_logits_need_a_classifier():
    with pytest.raises(ValueError, match="mean_max"):
        small("dpn92", classes=0, pool="mean_max")


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_can_be_headless(name):
    net = get_model(name, classes=0)
    (shape,) = trace(net).infer_shape(data=(2, net.spec.in_channels, 64, 64))[1]
    assert shape == (2, net.out_channels)


@families
@pytest.mark.parametrize("hybridize", [False, True])
def test_summary(name, hybridize, capsys):
    net = small(name)
    net.initialize()
    net.hybridize(hybridize)
    x = batch(32, 32)
    expected = net(x).asnumpy()
    graph = net._cached_op
    net.summary(x)
    text = capsys.readouterr().out
    count = sum(int(np.prod(p.shape)) for p in net.collect_params().values())
    assert f"Total params: {count}\n" in text
    assert "(2, 7)" in text
    assert "BatchNorm-2" in text or "ChannelNorm-2" in text
    assert net._active is hybridize
    assert net._cached_op is graph  # it is not built again
    np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_summary_of_a_fresh_network_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"dpn92 .*net.initialize\(\)"):
        small("dpn92").summary(batch(32, 32))


def test_summary_restores_after_an_error(capsys):
    net = small("dpn92")
    net.initialize()
    with pytest.raises(ValueError, match="takes images"):
        net.summary(mx.nd.zeros((1, 1, 32, 32)))
    assert net._active
