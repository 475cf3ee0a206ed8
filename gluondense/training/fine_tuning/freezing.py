# SPDX-License-Identifier: Apache-2.0
"""Layers that are not trained, or slower than others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Callable, Optional

from mxnet import gluon
from mxnet.gluon import nn

from ...errors import closest

HEAD = "output"


def is_classifier(parameter: str) -> bool:
    """Return whether a parameter is one of the classifier, by its name."""
    return parameter.startswith(f"{HEAD}.")


class Freezer:
    """Selects the parameters that a run trains, by epoch.

    The others get no gradient. A batch normalization whose gamma and beta are both frozen
    normalizes by its running statistics and leaves them as they are, so a frozen layer computes the
    same in training as in evaluation. Where only one of them or a neighbouring convolution is
    frozen, batch statistics are used and the running ones are updated. Dropout is not affected.

    Parameters
    ----------
    net
        The network, initialized or not.
    patterns
        Glob patterns of parameter names, such as ``features.stage1.*.conv*.weight``, or of blocks
        with all of their parameters: ``features.stem``, ``features.stage[12]``.
    head_epochs
        Number of epochs at the start that train the output only.
    grad_req
        How trained parameters get gradients: ``"write"`` or ``"add"``.
    trained_block
        The block whose static graph is trained; default: the network.
    is_output
        Whether a parameter is part of the output, by its name.

    Raises
    ------
    ValueError
        If a pattern matches no parameter, or no parameter is left.

    Examples
    --------
    >>> import gluondense
    >>> net = gluondense.get_model("densenet_tutorial")
    >>> freezer = Freezer(net, ("features",), head_epochs=0)
    >>> freezer.start_epoch(0), freezer.trained
    (True, ['output.weight', 'output.bias'])
    """

    def __init__(
        self,
        net: gluon.HybridBlock,
        patterns: Sequence[str],
        head_epochs: int,
        grad_req: str = "write",
        trained_block: Optional[gluon.HybridBlock] = None,
        is_output: Callable[[str], bool] = is_classifier,
    ) -> None:
        self._net, self._head_epochs, self._grad_req = net, head_epochs, grad_req
        self._blocks = (net,) if trained_block is None else (net, trained_block)
        self._is_output = is_output
        parameters = net._collect_params_with_prefix()
        self._parameters = {n: p for n, p in parameters.items() if p.grad_req != "null"}
        self._always = find_parameters(list(self._parameters), patterns)
        self._frozen: set[str] = set()
        if len(self._always) == len(self._parameters):
            raise ValueError(f"`freeze` (={','.join(patterns)}) leaves no parameter to train.")
        left = [name for name in self._parameters if name not in self._always]
        if head_epochs and not any(map(is_output, left)):
            raise ValueError("`head_epochs` trains the output, which `freeze` leaves as it is.")

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that the present epoch trains."""
        return [name for name in self._parameters if name not in self._frozen]

    def start_epoch(self, epoch: int) -> bool:
        """Set up an epoch, counted from 0; return whether it trains other parameters than before.

        Static graphs of the network are made anew if so.
        """
        frozen = set(self._always)
        if epoch < self._head_epochs:
            frozen |= {name for name in self._parameters if not self._is_output(name)}
        if frozen == self._frozen:
            return False
        self._frozen = frozen
        for name, parameter in self._parameters.items():
            parameter.grad_req = "null" if name in frozen else self._grad_req
        for norm in _batch_norms(self._net):
            is_frozen = norm.gamma.grad_req == norm.beta.grad_req == "null"
            norm._kwargs["use_global_stats"] = is_frozen
        for block in self._blocks:
            block._clear_cached_op()
        return True

    def describe(self) -> str:
        """Return the trained part in words."""
        trained = self.trained
        if len(trained) == len(self._parameters):
            return "all layers"
        if all(map(self._is_output, trained)):
            return "the output only"
        return f"{len(trained)} of {len(self._parameters)} parameters, {trained[0]} the first"


def find_parameters(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    """Return the names that match a pattern, or are in a block that does.

    Examples
    --------
    >>> sorted(find_parameters(["stem.conv.weight", "output.bias"], ["stem", "out*.b*"]))
    ['output.bias', 'stem.conv.weight']
    """
    found: set[str] = set()
    for pattern in patterns:
        hits = {n for n in names if fnmatchcase(n, pattern) or fnmatchcase(n, f"{pattern}.*")}
        if not hits:
            blocks = sorted({n.rsplit(".", depth)[0] for n in names for depth in (0, 1, 2)})
            raise ValueError(
                f"`freeze`: {pattern!r} matches none of the {len(names)} parameters, such as "
                f"{names[0]}{closest(pattern, blocks)}"
            )
        found |= hits
    return found


def scale_rates(net: gluon.HybridBlock, decay: float) -> dict[str, float]:
    """Multiply learning rates by ``decay`` for each stage that is between a parameter and the end.

    The output has 1, the last stage and the final normalization ``decay``, the stage before
    ``decay**2``, and so on to the stem. A transition belongs to the stage before it. This is timm's
    ``layer_decay`` with stages as layers. A detector's neck and predictions have 1.

    Returns
    -------
    dict
        The factor of each parameter, by name; also set as its ``lr_mult``.

    Examples
    --------
    >>> import gluondense
    >>> factors = scale_rates(gluondense.get_model("densenet_tutorial"), 0.5)
    >>> factors["output.bias"], factors["features.stage4.layer1.conv1.weight"]
    (1.0, 0.5)
    >>> factors["features.stem.conv.weight"]
    0.03125
    """
    levels, level = {}, 0
    for name in getattr(net, "backbone", net).features._children:
        level += name.startswith("stage")
        levels[name] = level
    factors = {}
    for name, parameter in net._collect_params_with_prefix().items():
        block = name.partition("features.")[2].partition(".")[0]
        distance = level + 1 - levels[block] if block else 0
        factors[name] = parameter.lr_mult = decay**distance
    return factors


def _batch_norms(block: gluon.Block) -> Iterator[nn.BatchNorm]:
    if isinstance(block, nn.BatchNorm):
        yield block
    for child in block._children.values():
        yield from _batch_norms(child)
