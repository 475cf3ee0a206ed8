# SPDX-License-Identifier: Apache-2.0
"""The catalog of published weights: URLs, checksums, preprocessing and accuracies.

The sources are those with a checksum in the file's name: torchvision's server, and the GitHub
releases that timm used before it moved to the Hugging Face Hub. RDNet's weights are on the Hub
only, where the checksum is in the file's Git LFS pointer. The bucket of MXNet and GluonCV is
reported to be offline; ``load_weights`` reads ``.params`` files that were downloaded from there.

Small files of networks that gluondense trained are in the package: see :mod:`.shipped`.

Accuracies are in % on the validation images of ImageNet with one crop, or the test images of
CIFAR-10, as published for the row's preprocessing: torchvision's documentation, timm's
``results-imagenet.csv``, and the figure in HazyResearch's checkpoint. The licenses are
the publishers'. ImageNet's own terms allow non-commercial research; whether they extend to trained
weights is unsettled.
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

from ..data.preprocessing import CIFAR, CSP, DPN, IMAGENET, RDNET, Preprocessing
from ..download.file import cache_folder, download_file, has_sha256
from ..download.lfs import cached_sha256, fetch_sha256
from ..errors import closest
from .row import BICUBIC, HUB_FILE, Weights
from .shipped.rows import read_rows, verified_path

BICUBIC_95 = dataclasses.replace(BICUBIC, crop_ratio=0.95)


def _torchvision(model: str, sha256: str, top1: float, top5: float) -> Weights:
    url = f"https://download.pytorch.org/models/{model}-{sha256[:8]}.pth"
    return Weights(model, "tv_in1k", (url,), sha256, top1, top5, IMAGENET, license="BSD-3-Clause")


def _timm(
    model: str,
    file: str,
    top1: float,
    top5: float,
    tag: str = "ra_in1k",
    release: str = "v0.1-weights",
    **fields: Any,
) -> Weights:
    """Describe weights that timm trained, by default with RandAugment."""
    urls = tuple(
        f"https://github.com/{owner}/pytorch-image-models/releases/download/{release}/{file}"
        for owner in ("huggingface", "rwightman")  # the current and the former owner
    )
    return Weights(model, tag, urls, _digits(file), top1, top5, **fields)


def _dpn(model: str, file: str, top1: float, top5: float) -> Weights:
    """Describe the DPN authors' weights, converted from MXNet by timm's author."""
    url = f"https://github.com/rwightman/pytorch-dpn-pretrained/releases/download/v0.1/{file}"
    return Weights(model, "mx_in1k", (url,), _digits(file), top1, top5, DPN, eps=1e-3)


def _rdnet(
    model: str,
    revision: str,
    top1: float,
    top5: float,
    tag: str = "nv_in1k",
    sha256: str = "",
    preprocessing: Preprocessing = RDNET,
) -> Weights:
    """Describe the RDNet authors' weights, of a commit of their repository on the Hub."""
    url = f"https://huggingface.co/naver-ai/{model}.{tag}/resolve/{revision}/{HUB_FILE}"
    row = Weights(model, tag, (url,), sha256, top1, top5, preprocessing, "BSD-3-Clause")
    return dataclasses.replace(row, eps=1e-6)


def _hazy_research() -> Weights:
    """Describe a DenseNet-BC that HazyResearch trained with andreasveit/densenet-pytorch."""
    commit = "3177dde898a65b1d7f385b78e4f134de3852bea5"
    return Weights(
        "densenet40_k12_bc_cifar10",
        "hazy_cifar10",
        (
            f"https://raw.githubusercontent.com/HazyResearch/ukb-cardiac-mri/{commit}"
            "/ukb/models/frame/pretrained_densenet_4012BC.pth.tar",
        ),
        "59022af12c32e581521a0970455bd663beffa3f2d32a7f1fe0ce865755321beb",
        93.16,
        None,
        CIFAR,
        classes=10,
        dataset="cifar10",
    )


def _digits(file: str) -> str:
    return file.rsplit("-", 1)[-1].split(".")[0]


# The first row of each model is its default: the authors' weights, torchvision's, or, if there are
# no others, the file in the package.
WEIGHTS = {
    row.name: row
    for row in (
        _torchvision(
            "densenet121",
            "a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395",
            74.434,
            91.972,
        ),
        _timm("densenet121", "densenet121_ra-50efcf5c.pth", 75.574, 92.648),
        _timm("densenetblur121d", "densenetblur121d_ra-100dcfbc.pth", 76.574, 93.188),
        _torchvision("densenet161", "8d451a50", 77.138, 93.560),
        _torchvision("densenet169", "b2777c0a", 75.600, 92.806),
        _torchvision("densenet201", "c1103571", 76.896, 93.370),
        _timm("csp_resnet50", "cspresnet50_ra-d3e8d487.pth", 79.578, 94.698, preprocessing=CSP),
        # Trained at 224 (its name) and published for 256, where the accuracy is higher.
        _timm(
            "csp_resnext50", "cspresnext50_ra_224-648b4713.pth", 80.548, 95.330, preprocessing=CSP
        ),
        _timm(
            "csp_darknet53", "cspdarknet53_ra_256-d05c7c21.pth", 80.078, 95.060, preprocessing=CSP
        ),
        _timm(
            "darknet53",
            "darknet53_256_c2ns-3aeff817.pth",
            80.008,
            95.046,
            tag="c2ns_in1k",
            release="v0.1-tpu-weights",
            preprocessing=dataclasses.replace(CSP, interpolation="bicubic"),
        ),
        _dpn("dpn68", "dpn68-66bebafa7.pth", 76.304, 92.994),
        # "extra": pretrained on ImageNet-5k.
        _dpn("dpn68b", "dpn68b_extra-84854c156.pth", 77.494, 93.834),
        _timm(
            "dpn68b", "dpn68b_ra-a31ca160.pth", 78.546, 93.982, preprocessing=BICUBIC_95, eps=1e-3
        ),
        _dpn("dpn92", "dpn92_extra-b040e4a9b.pth", 80.032, 94.876),
        _dpn("dpn98", "dpn98-5b90dec4d.pth", 79.664, 94.644),
        _dpn("dpn107", "dpn107_extra-1ac7121e2.pth", 80.166, 94.932),
        _dpn("dpn131", "dpn131-71dfe43e0.pth", 79.836, 94.708),
        _rdnet("rdnet_tiny", "main", 82.814, 96.284),
        _rdnet("rdnet_small", "821385d0bf98ff1f91494e89761cbb6568c5ae3c", 83.658, 96.704),
        _rdnet("rdnet_base", "fcff0b374af1bfdb0b2e58772df37108ea911649", 84.366, 96.878),
        _rdnet(
            "rdnet_large",
            "fa75faec185731e6cc044d68cf0464d6e1987b11",
            84.794,
            97.156,
            sha256="330ecc0aecc0d68667fdc43ed4b5e2d7e3e9c8332533ce7e361138f536ab393d",
        ),
        _rdnet(
            "rdnet_large",
            "763e1647162de40da29540f4130699feb15144b8",
            85.844,
            97.680,
            tag="nv_in1k_ft_in1k_384",
            preprocessing=dataclasses.replace(RDNET, input_size=384, crop_ratio=1.0),
        ),
        _hazy_research(),
        *read_rows(),
    )
}


def find_weights(model: str, tag: str | None = None) -> Weights:
    """Return the catalog row of a network.

    Parameters
    ----------
    model
        The network's name, or a key of ``WEIGHTS``.
    tag
        The tag of its weights; default: the first row's.

    Raises
    ------
    ValueError
        If the network has no published weights, or none with this tag.

    Examples
    --------
    >>> find_weights("densenet121").tag
    'tv_in1k'
    >>> find_weights("densenet121.ra_in1k").top1
    75.574
    """
    if tag is None and model in WEIGHTS:
        return WEIGHTS[model]
    tags = {row.tag: row for row in WEIGHTS.values() if row.model == model}
    if not tags:
        models = dict.fromkeys(row.model for row in WEIGHTS.values())
        raise ValueError(
            f"{model!r} has no published weights{closest(model, [*models, *WEIGHTS])} "
            f"(these have: {', '.join(models)})."
        )
    if tag is None:
        return next(iter(tags.values()))
    if tag not in tags:
        raise ValueError(
            f"{model!r} has no weights {tag!r}{closest(tag, tags)} (there are: {', '.join(tags)})."
        )
    return tags[tag]


def find_published(path: str | os.PathLike[str]) -> Weights | None:
    """Return the catalog row of a file with the name and the content that its publisher gave it."""
    name = os.path.basename(os.fspath(path))
    for row in WEIGHTS.values():
        if row.file_name == name:
            sha256 = row.sha256 or cached_sha256(Path(path))
            if sha256 and has_sha256(Path(path), sha256):
                return row
    return None


def fetch_weights(weights: Weights, root: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a weights file: in the package, or in the cache, downloaded if it is not.

    The checksum is verified at every call: this is fast compared with building the network, and
    detects damaged cache files. If the row has none, it is that of the file's Git LFS pointer; see
    ``gluondense.download.lfs``.

    Parameters
    ----------
    weights
        A row of ``WEIGHTS``.
    root
        Folder of downloaded weights; ``$MXNET_HOME/models`` by default, else ``~/.mxnet/models``.
        Files of the package are not copied there.

    Raises
    ------
    ConnectionError
        If no source has the file; see ``gluondense.download`` for mirrors and offline use.
    OSError
        If it cannot be written, or the package's file is missing or damaged.
    """
    if not weights.urls:
        return verified_path(weights)
    path = cache_folder("models", root) / weights.file_name
    sha256 = weights.sha256 or fetch_sha256(weights.urls[0], path)
    advice = f"download {weights.urls[0]} on a machine with a network, and copy it to {path}"
    download_file(weights.urls, path, partial(has_sha256, sha256=sha256), advice)
    return path
