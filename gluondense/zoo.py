# SPDX-License-Identifier: Apache-2.0
"""Build networks by name, optionally with pretrained weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from .blocks.norm import NormKwargs, NormLayer
from .data.datasets.registry import DATASETS
from .detection.registry import YOLO, build_detector, detector_names, is_detector
from .environment.process import import_gluoncv
from .errors import check, closest, in_one_line
from .models.feature_maps import OutIndices
from .models.network import Network
from .models.registry import SPECS, build_model
from .weights.catalog import WEIGHTS, fetch_weights, find_weights
from .weights.load import load_weights
from .weights.save import describe_file


def get_model(
    name: str,
    *,
    pretrained: bool | str | os.PathLike[str] = False,
    root: str | os.PathLike[str] | None = None,
    ctx: Any = None,
    features_only: bool = False,
    prefix: str | None = None,
    memory_efficient: bool | str = False,
    out_indices: OutIndices = None,
    norm_layer: NormLayer | None = None,
    norm_kwargs: NormKwargs = None,
    **fields: Any,
) -> Any:
    """Build a network or a detector by name, hybridized into a static graph.

    Parameters
    ----------
    name
        One of :func:`list_models`, or of :func:`gluondense.detection.list_detectors`, such as
        ``"yolo3_efm_csp_peleenet_custom"``; case-insensitive.
    pretrained
        ``True`` loads the network's published weights, of the package or downloaded once; a string
        selects others by tag (``"ra_in1k"``); a path loads a file in any naming scheme that
        :func:`gluondense.load_weights` knows.
    root
        Folder of downloaded weights; default: ``$MXNET_HOME/models``, or ``~/.mxnet/models``.
    ctx
        Device or devices of pretrained weights; default: MXNet's current context.
    features_only
        True returns feature maps instead of logits; ``net.feature_info`` describes them.
    out_indices
        Feature maps to return, as in timm: 0 is the stem's, before its pooling (stride 2 in the
        ImageNet networks), i that of stage i, the last one after the final BN-ReLU. Negative
        indices count from the end; an integer n selects the last n. By default all stages. What
        follows the last selected map is not built.
    prefix
        The prefix of parameter names in exported symbols; default: the model's name.
    memory_efficient
        True trains in less than a third of the memory with :class:`gluondense.training.TrainStep`,
        which recomputes concatenations, normalizations and bottlenecks in the backward pass
        instead of storing them; ``"light"`` stores more, ``"most"`` less. Results are the same.
    norm_layer, norm_kwargs
        As in GluonCV: the layer instead of ``nn.BatchNorm``, such as
        ``gluon.contrib.nn.SyncBatchNorm``, and its arguments, such as ``{"num_devices": 4}`` or
        ``{"use_global_stats": True}``, which freezes the statistics. Names of parameters are those
        of ``BatchNorm``: saved files fit networks with either.
    **fields
        Overrides of the spec's fields: ``classes``, ``in_channels``, ``dropout``, ``growth_rate`` …
        A detector also takes ``pretrained_base``, like ``pretrained`` for its backbone; no weights
        of detectors are published, so its ``pretrained`` is a path.

    Returns
    -------
    Network or YOLOv3
        A network accepts ``(N, in_channels, H, W)`` with H and W of at least ``net.min_size``; it
        is not initialized unless ``pretrained``; ``net.initialize()`` initializes as the authors'
        code.

    Raises
    ------
    ValueError
        If the network or a field is unknown, a value is invalid, or the file is of another network.
    FileNotFoundError
        If ``pretrained`` is the path of a missing file.

    Examples
    --------
    >>> import mxnet as mx
    >>> net = get_model("densenet40_k12_cifar10", in_channels=1)
    >>> net.initialize()
    >>> net(mx.nd.zeros((2, 1, 28, 28))).shape
    (2, 10)
    >>> get_model("dpn92", features_only=True).feature_info[1]
    FeatureInfo(name='stage2', channels=704, stride=8)
    >>> net = get_model("densenet121", features_only=True, out_indices=(0, 3))
    >>> [(info.name, info.channels, info.stride) for info in net.feature_info]
    [('stem', 64, 2), ('stage3', 1024, 16)]
    """
    fields.update(prefix=prefix, memory_efficient=memory_efficient)
    fields.update(norm_layer=norm_layer, norm_kwargs=norm_kwargs)
    if is_detector(name):
        holds = not features_only and out_indices is None
        check("features_only", features_only, "False for a detector, without out_indices", holds)
        return _get_detector(name, pretrained, root, ctx, **fields)
    net = build_model(name, features_only=features_only, out_indices=out_indices, **fields)
    _load(net, pretrained, root, ctx)
    return net


def _get_detector(
    name: str, pretrained: Any, root: Any, ctx: Any, pretrained_base: Any = False, **fields: Any
) -> Any:
    published = pretrained is True or _is_tag(pretrained)
    rule = "False or a file, because no weights of detectors are published"
    check("pretrained", pretrained, rule, not published)
    if not name.lower().startswith(YOLO):  # GluonCV names and hybridizes SSD and CenterNet
        fields = {key: value for key, value in fields.items() if value not in (None, False)}
    net = build_detector(name, **fields)
    if pretrained:
        _load_detector(net, Path(pretrained), ctx)
    elif pretrained_base:
        _load(net.backbone, pretrained_base, root, ctx)
        net.preprocessing = net.backbone.preprocessing
    return net


def _load_detector(net: Any, path: Path, ctx: Any) -> None:
    """Load a file of ``save_parameters`` into a detector."""
    if not path.is_file():
        raise FileNotFoundError(f"`pretrained`: there is no file {path}.")
    try:
        net.load_parameters(str(path), ctx=ctx)
    except (AssertionError, ValueError, RuntimeError) as error:  # MXNetError is a RuntimeError
        raise ValueError(
            f"{path} has no weights of this {net.model_name}: {in_one_line(error)}"
        ) from None


def _load(net: Network, pretrained: Any, root: Any, ctx: Any) -> None:
    """Load what ``pretrained`` stands for into a network."""
    if pretrained is True or _is_tag(pretrained):
        tag = pretrained if isinstance(pretrained, str) else None
        weights = find_weights(net.model_name, tag)
        load_weights(net, fetch_weights(weights, root), ctx=ctx)
        net.preprocessing = weights.preprocessing.for_channels(net.spec.in_channels)
        if net.spec.classes == weights.classes and not net.features_only:
            _name_classes(net, weights.dataset)
    elif pretrained:
        load_weights(net, pretrained, ctx=ctx)


def open_network(
    name: str | os.PathLike[str],
    network: str | None = None,
    fields: Mapping[str, Any] | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    ctx: Any = None,
    allow_nan: bool = False,
) -> Network:
    """Return a network with published weights, or with those of a file.

    Parameters
    ----------
    name
        A key of ``gluondense.weights.WEIGHTS``, the name of a network, which selects its first
        weights, or the path of a weights file.
    network, fields
        For a file: the network's name, and fields of its spec that differ. A safetensors file of
        :func:`gluondense.weights.save_weights` has them.
    root, ctx, allow_nan
        As in :func:`get_model` and :func:`gluondense.load_weights`.

    Raises
    ------
    ValueError
        If the name is unknown, or the file's network is, or it has other classes or channels.
    OSError
        If a file cannot be read or downloaded.
    """
    fields, text = dict(fields or {}), os.fspath(name)
    if network is None and not Path(name).is_file():
        model, _, tag = text.partition(".")
        if os.sep in text:
            raise FileNotFoundError(
                f"there is no run, checkpoint, export or weights file at {name}."
            )
        if model.lower() not in SPECS:
            raise ValueError(
                f"{text!r} is no run folder, export, weights file or published "
                f"weights{closest(text, [*SPECS, *WEIGHTS])}."
            )
        row = find_weights(model.lower(), tag or None)
        if fields.get("classes", row.classes) != row.classes:
            raise ValueError(f"{row.name} has {row.classes} classes, not {fields['classes']}.")
        return get_model(row.model, pretrained=row.tag, root=root, ctx=ctx, **fields)
    described = describe_file(name) if network is None else None
    if described is not None:
        network, fields = described.model, {**described.fields, **fields}
    elif network is None:
        raise ValueError(f"{name} is a weights file: name its network with `network`.")
    net = build_model(network, **fields)
    report = load_weights(net, name, ctx=ctx, allow_nan=allow_nan)
    if report.fresh or report.adapted:
        raise ValueError(
            f"{name} is for {network} with other classes or in_channels: give them with `fields`."
        )
    if described is not None and not net.features_only:
        net.classes = described.class_names
    return net


def _name_classes(net: Network, dataset: str) -> None:
    """Set the attributes that GluonCV sets."""
    if dataset != "imagenet":
        net.classes = DATASETS[dataset].class_names
        return
    names = import_gluoncv().data.ImageNet1kAttr()
    net.synset, net.classes, net.classes_long = names.synset, names.classes, names.classes_long


def _is_tag(pretrained: Any) -> bool:
    """Return whether this is a tag such as ``ra_in1k``, not a path."""
    if not isinstance(pretrained, str):
        return False
    path = Path(pretrained)
    return path.name == pretrained and not path.suffix and not path.exists()


def model_functions() -> dict[str, Callable[..., Network]]:
    """Return a function for each network, such as ``densenet121(**fields)``."""

    def function(name: str) -> Callable[..., Network]:
        def build(**kwargs: Any) -> Network:
            return get_model(name, **kwargs)

        build.__name__ = build.__qualname__ = name
        build.__doc__ = f"``get_model({name!r}, **kwargs)``; its row is\n\n    {SPECS[name]}"
        return build

    return {name: function(name) for name in SPECS}


def _detector_functions() -> dict[str, Callable[..., Any]]:
    """Return a function for each detector, with GluonCV's arguments and defaults."""
    published = {row.model for row in WEIGHTS.values()}

    def function(name: str, backbone: str) -> Callable[..., Any]:
        def build(
            pretrained_base: Any = True, pretrained: Any = False, root: Any = None, **kwargs: Any
        ) -> Any:
            if pretrained_base is True and not pretrained and backbone not in published:
                warnings.warn(
                    f"{backbone} has no published weights: the backbone of {name} is initialized "
                    "at random (pretrained_base=FILE loads a file).",
                    stacklevel=3,
                )
                pretrained_base = False
            options = {"pretrained_base": pretrained_base, "pretrained": pretrained, **kwargs}
            return get_model(name, root=root, **options)

        return build

    return {name: function(name, parts.backbone) for name, parts in detector_names().items()}


def register_with_gluoncv(override: bool = False) -> list[str]:
    """Add the networks and the detectors to ``gluoncv.model_zoo.get_model``.

    As in GluonCV, ``pretrained_base`` of a detector is True by default; a backbone without
    published weights is then initialized at random, with a warning.

    Parameters
    ----------
    override
        True also replaces GluonCV's own networks of the same name (``densenet121`` …).

    Returns
    -------
    list of str
        The added names.
    """
    zoo = import_gluoncv().model_zoo.model_zoo._models
    functions = {**model_functions(), **_detector_functions()}
    added = sorted(name for name in functions if override or name not in zoo)
    zoo.update({name: functions[name] for name in added})
    return added
