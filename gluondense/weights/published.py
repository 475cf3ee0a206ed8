# SPDX-License-Identifier: Apache-2.0
"""Published error rates, for comparison with those of an evaluation.

They are of networks that the papers' authors and other publishers trained; docs/models.md cites
the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..models.registry import SPECS
from ..models.spec import NetworkSpec
from .catalog import WEIGHTS, Weights


@dataclass(frozen=True)
class PublishedError:
    """Error rates in % on a data set's test images; None if the source has none."""

    source: str
    top1: float
    top5: Optional[float] = None


DENSENET = "Huang et al., Table 3"
DPN = "cypw/DPNs, README"
RDNET = "naver-ai/rdnet, README"
_CIFAR = "Huang et al., Table 2"

# (network, crops) -> the published errors on ImageNet at 224.
IMAGENET: dict[tuple[str, int], PublishedError] = {
    ("densenet121", 1): PublishedError(DENSENET, 25.02, 7.71),
    ("densenet121", 10): PublishedError(DENSENET, 23.61, 6.66),
    ("densenet169", 1): PublishedError(DENSENET, 23.80, 6.85),
    ("densenet169", 10): PublishedError(DENSENET, 22.08, 5.92),
    ("densenet201", 1): PublishedError(DENSENET, 22.58, 6.34),
    ("densenet201", 10): PublishedError(DENSENET, 21.46, 5.54),
    ("densenet264", 1): PublishedError(DENSENET, 22.15, 6.12),
    ("densenet264", 10): PublishedError(DENSENET, 20.80, 5.29),
    ("densenet161", 1): PublishedError("liuzhuang13/DenseNet, README", 22.2),
    ("dpn68", 1): PublishedError(DPN, 23.57, 6.93),
    ("dpn68b", 1): PublishedError(DPN, 22.45, 6.09),
    ("dpn92", 1): PublishedError(DPN, 20.73, 5.37),
    ("dpn98", 1): PublishedError(DPN, 20.15, 5.15),
    ("dpn131", 1): PublishedError(DPN, 19.93, 5.12),
    ("rdnet_tiny", 1): PublishedError(RDNET, 17.2),
    ("rdnet_small", 1): PublishedError(RDNET, 16.3),
    ("rdnet_base", 1): PublishedError(RDNET, 15.6),
    ("rdnet_large", 1): PublishedError(RDNET, 15.2),
}
# CIFAR network -> top-1 errors on C10, C10+, C100, C100+, SVHN; + is with augmentation.
CIFAR: dict[str, tuple[Optional[float], ...]] = {
    "densenet40_k12": (7.00, 5.24, 27.55, 24.42, 1.79),
    "densenet100_k12": (5.77, 4.10, 23.79, 20.20, 1.67),
    "densenet100_k24": (5.83, 3.74, 23.42, 19.25, 1.59),
    "densenet100_k12_bc": (5.92, 4.51, 24.15, 22.27, 1.76),
    "densenet250_k24_bc": (5.19, 3.62, 19.64, 17.60, 1.74),
    "densenet190_k40_bc": (None, 3.46, None, 17.18, None),
}
_COLUMNS = (
    ("cifar10", False), ("cifar10", True), ("cifar100", False), ("cifar100", True), ("svhn", False),
)  # fmt: skip


def published_errors(
    model: str,
    dataset: str,
    crops: int = 1,
    augmented: bool = False,
    weights: str = "",
    spec: Optional[NetworkSpec] = None,
) -> list[PublishedError]:
    """Return the published errors of a network on a data set.

    Parameters
    ----------
    model, dataset
        Names of the network and the data set.
    crops
        1 or 10.
    augmented
        Whether CIFAR's training images were mirrored and shifted.
    weights
        A key of ``WEIGHTS``, whose published accuracies are with one crop.
    spec
        The network's spec; by default the model's. If another network has this spec, its errors are
        returned; if none has it, there are no published errors.

    Examples
    --------
    >>> published_errors("densenet121", "imagenet", crops=10)
    [PublishedError(source='Huang et al., Table 3', top1=23.61, top5=6.66)]
    >>> published_errors("densenet40_k12_svhn", "svhn")[0].top1
    1.79
    """
    model = same_network(model, spec)
    if not model:
        return []
    found, row = [], WEIGHTS.get(weights)
    if row is not None and row.dataset == dataset and crops == 1:
        found.append(_of_weights(row))
    if dataset == "imagenet":
        return [*found, IMAGENET[model, crops]] if (model, crops) in IMAGENET else found
    column = dataset, augmented and dataset != "svhn"
    row_of_model = CIFAR.get(model.removesuffix(f"_{dataset}"))
    if row_of_model is None or column not in _COLUMNS or crops != 1:
        return found
    value = row_of_model[_COLUMNS.index(column)]
    return found if value is None else [*found, PublishedError(_CIFAR, value)]


def same_network(model: str, spec: Optional[NetworkSpec]) -> str:
    """Return the name of the network with a spec, the model's first; "" if there is none."""
    if spec is None or _computes_same(SPECS.get(model), spec):
        return model
    return next((name for name, row in SPECS.items() if _computes_same(row, spec)), "")


def _computes_same(row: Optional[NetworkSpec], spec: NetworkSpec) -> bool:
    """Whether two networks compute the same in inference, where nothing is dropped."""
    if type(row) is not type(spec):
        return False
    left, right = row.function_fields(), spec.function_fields()
    return all(left[name] == right[name] for name in left if not name.startswith("drop"))


def _of_weights(row: Weights) -> PublishedError:
    top5 = None if row.top5 is None else round(100 - row.top5, 3)
    return PublishedError(f"the publisher of {row.name}", round(100 - row.top1, 3), top5)
