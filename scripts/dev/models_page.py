"""Write the documentation's page of all networks: ``scripts/dev/models_page.py FILE``.

The counts are computed. The results of papers and repositories are quoted as published.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

import gluondense
from gluondense.analysis.comparison import table
from gluondense.analysis.costs import Summary
from gluondense.commands.arguments import Parser
from gluondense.models import SPECS, NetworkSpec, csp_densenet, csp_resnet, densenet, dpn

PAGE = """\
# Networks and their costs

<!-- `python scripts/dev/models_page.py docs/models.md` writes this page. -->

Pass a name to `gluondense.get_model(name, **fields)`; `gluondense.get_spec(name)` returns the
fields. The counts are those of `gluondense.summary(name)` for one image. It also counts each layer,
and any other input shape and fields:

- **parameters**: trained parameters, without the moving averages of batch normalization.
- **MACs**: multiply-adds of convolutions and fully-connected layers.
- **activations**: elements of the outputs of the same layers.
- **memory**: outputs of all operators in float32, without memory sharing.
- **CIO**: elements of input and output of each convolution, summed over the convolutions
  (HarDNet's definition).
- **CIO by formula**: c m + (m² + m) d / 2 for each dense block of m layers with growth rate d
  after c channels (CSPNet, section 3.1): channels, regardless of feature map size and bottleneck.
  For a partial block, c is the part that enters it.

The results under "Published" are quoted from their sources. They are those of networks that others
trained, not results of gluondense.

## DenseNet

{densenet}

{densenet_deviations}

Published, ImageNet validation, error in % (top-1 / top-5):

| network     | paper, Table 3, 1 crop | paper, 10 crops | authors' repository, 1 crop, top-1 |
|:------------|-----------------------:|----------------:|-----------------------------------:|
| densenet121 |           25.02 / 7.71 |    23.61 / 6.66 |                               25.0 |
| densenet169 |           23.80 / 6.85 |    22.08 / 5.92 |                               23.6 |
| densenet201 |           22.58 / 6.34 |    21.46 / 5.54 |                               22.5 |
| densenet264 |           22.15 / 6.12 |    20.80 / 5.29 |                                  – |
| densenet161 |                      – |               – |                               22.2 |

Sources: Huang et al., "Densely Connected Convolutional Networks"; liuzhuang13/DenseNet, README.

### For CIFAR and SVHN

{cifar}

The stem has 16 channels, or 2k in a BC network. Networks without BC have neither a bottleneck nor
compression, as in the paper. (The authors' later code has 2k everywhere.)

Published error in %; `+` means with augmentation (source: Table 2 of the paper and
liuzhuang13/DenseNet, README):

| network              | parameters |  C10 | C10+ |  C100 | C100+ | SVHN |
|:---------------------|-----------:|-----:|-----:|------:|------:|-----:|
| densenet40_k12_…     |       1.0M | 7.00 | 5.24 | 27.55 | 24.42 | 1.79 |
| densenet100_k12_…    |       7.0M | 5.77 | 4.10 | 23.79 | 20.20 | 1.67 |
| densenet100_k24_…    |      27.2M | 5.83 | 3.74 | 23.42 | 19.25 | 1.59 |
| densenet100_k12_bc_… |       0.8M | 5.92 | 4.51 | 24.15 | 22.27 | 1.76 |
| densenet250_k24_bc_… |      15.3M | 5.19 | 3.62 | 19.64 | 17.60 | 1.74 |
| densenet190_k40_bc_… |      25.6M |    – | 3.46 |     – | 17.18 |    – |

### Tutorial network

{tutorial}

The network of the MXNet tutorials on DenseNet: no bottleneck, biased convolutions, and a 7x7 stem
with padding 1 where the papers have 3.

## CSP-DenseNet

{csp}

{csp_definition}

Savings by `fusion` and the split: parameters / MACs in millions, and the change of the MACs:

{fusions}

Published (Wang et al., "CSPNet", for networks whose widths are not published):

- fusion first lowers top-1 by 1.5 points, fusion last by 0.1 points with 21 % less computation;
- CSPPeleeNet with both transitions gains 0.2 points with 13 % less computation, and with γ = 0.25
  0.8 points with 3 % less;
- CSPDenseNet-201 with Elastic: 20.17M parameters, 7.13 BFLOPs (two a multiply-add), top-1 77.9 %,
  top-5 94.0 %, against 19.48M, 8.77, 77.9 % and 94.0 % of DenseNet-201 with Elastic
  (WongKinYiu/CrossStagePartialNetworks, README).

### The listing

{csp_listing}

These reproduce a listing in circulation (from Knight825/models-pytorch) weight for weight. It
deviates from the paper: x0'' is not an input of T, each transition halves the width of its input,
and with `fusion="last"` there is no pooling between the stages. All stages then run at a quarter of
the image size, which explains their costs.

## CSPResNet and CSPResNeXt

{csp_resnet}

{csp_resnet_deviations}

Published, ImageNet validation, accuracy in % (top-1 / top-5) at 256:

| network       | parameters | BFLOPs |     authors |            timm |
|:--------------|-----------:|-------:|------------:|----------------:|
| csp_resnet50  |     21.57M |   8.97 | 76.6 / 93.3 | 79.578 / 94.698 |
| csp_resnext50 |     20.50M |   7.93 | 77.9 / 94.0 | 80.548 / 95.330 |

Sources: WongKinYiu/CrossStagePartialNetworks, README (parameters, BFLOPs, two a multiply-add, and
accuracy of the authors' networks); timm, `results/results-imagenet.csv`.

## DPN

{dpn}

{dpn_deviations}

The `_listing` rows reproduce a PyTorch listing (oyam/pytorch-DPNs) that has no BN-ReLU after the
last stage and an eps of 1e-5 instead of 1e-3.

Published, ImageNet validation, error in % (top-1 / top-5); `*` means pretrained on ImageNet-5k:

| network | GFLOPs |     MB |          224 |          320 | 320, mean-max |
|:--------|-------:|-------:|-------------:|-------------:|--------------:|
| dpn68   |    2.5 |     49 | 23.57 / 6.93 | 22.15 / 5.90 |  21.51 / 5.52 |
| dpn68b* |    2.5 |     49 | 22.45 / 6.09 | 20.92 / 5.26 |  20.62 / 5.07 |
| dpn92   |    6.5 |    145 | 20.73 / 5.37 | 19.34 / 4.66 |  19.04 / 4.53 |
| dpn92*  |    6.5 |    145 | 19.98 / 5.06 | 19.00 / 4.37 |  18.79 / 4.19 |
| dpn98   |   11.7 |    236 | 20.15 / 5.15 | 18.94 / 4.44 |  18.72 / 4.40 |
| dpn131  |   16.0 |    304 | 19.93 / 5.12 | 18.62 / 4.23 |  18.55 / 4.16 |
| dpn107* |   18.3 |    333 | 19.75 / 4.94 | 18.34 / 4.19 |  18.15 / 4.03 |

Source: cypw/DPNs, README (one FLOP is a multiply-add there). `pool="mean_max"` builds the head of
the last column.
"""


def models_page() -> str:
    """Return the Markdown of the page."""
    costs: dict[NetworkSpec, Summary] = {}  # equal rows are counted once
    for name, spec in SPECS.items():
        if spec not in costs:
            costs[spec] = gluondense.summary(name)
    cifar = [name for name, spec in densenet.SPECS.items() if spec.stem == "cifar"]
    listing = [name for name in csp_densenet.SPECS if name.endswith("_listing")]
    plain = [name for name in densenet.SPECS if name not in (*cifar, "densenet_tutorial")]
    csp = [name for name in csp_densenet.SPECS if name not in listing]
    return PAGE.format(
        densenet=_table(costs, plain),
        cifar=_table(costs, cifar),
        tutorial=_table(costs, ["densenet_tutorial"]),
        csp=_table(costs, csp),
        csp_listing=_table(costs, listing),
        csp_resnet=_table(costs, csp_resnet.SPECS),
        dpn=_table(costs, dpn.SPECS),
        fusions=_fusions(costs, csp),
        densenet_deviations=_deviations(densenet.DenseNet),
        csp_resnet_deviations=_deviations(csp_resnet.CSPResNet),
        dpn_deviations=_deviations(dpn.DPN),
        csp_definition="```text\n" + inspect.getdoc(csp_densenet) + "\n```",
    )


def _table(costs: dict[NetworkSpec, Summary], names: Iterable[str]) -> str:
    return table([dataclasses.replace(costs[SPECS[name]], model=name) for name in names], "pipe")


def _fusions(costs: dict[NetworkSpec, Summary], names: Iterable[str]) -> str:
    rows = []
    for name in names:
        whole = costs[SPECS[name.replace("csp_", "")]]
        row = {"network": name, "without CSP": _cell(whole)}
        for fusion in csp_densenet.FUSIONS:
            spec = gluondense.get_spec(name, fusion=fusion)
            cost = costs.get(spec) or gluondense.summary(name, fusion=fusion)
            row[fusion] = f"{_cell(cost)} ({cost.macs / whole.macs - 1:+.1%})"
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="pipe", disable_numparse=True)


def _cell(cost: Summary) -> str:
    return f"{cost.params / 1e6:.2f} / {cost.macs / 1e6:,.1f}"


def _deviations(network: Any) -> str:
    """Return the paragraph on deviations of the network's docstring."""
    paragraphs = inspect.getdoc(network).split("\n\n")
    (found,) = [text for text in paragraphs if text.startswith("Deviations")]
    return found.replace("``", "`")


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.parse_args(argv).file.write_text(models_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
