# SPDX-License-Identifier: Apache-2.0
"""Publish a finished run: its weights in the package, their row in the catalog, and a model card.

python scripts/dev/publish_run.py runs/fast densenet40_k12_bc_cifar10.gd_c10
    --threads 1 --page docs/results/cifar10.md -- cifar --recipe fast --model densenet40_k12_bc

The weights are those after the last epoch, the moving average if the run kept one. The words after
-- are those of the run after `gluondense train`, without its folders; they are compared with its
configuration. Run this on the machine that trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Optional

sys.path.insert(0, str(Path(__file__).parents[1]))

from dev import result_pages
from dev.cards import blocks
from dev.cards.facts import run_facts

from gluondense.commands.output import call
from gluondense.commands.parser import Parser
from gluondense.data.datasets.registry import DATASETS
from gluondense.errors import check_known
from gluondense.files import sha256
from gluondense.training import checkpoint
from gluondense.training.checkpoint import Checkpoint
from gluondense.weights.published import same_network
from gluondense.weights.row import Weights
from gluondense.weights.save import save_weights
from gluondense.weights.shipped import rows

LARGEST = 2_000_000  # bytes of a file in the package


def main(argv: Optional[list[str]] = None) -> int:
    """Write the files; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    cut = words.index("--") if "--" in words else len(words)
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, help="folder of a finished run")
    add("name", help="name of the weights, MODEL.TAG")
    add("--threads", type=int, required=True, help="OMP_NUM_THREADS of the training")
    add("--page", type=Path, help="page of docs/results to which a new card is added")
    text = "folders of runs that differ in the seed only"
    add("--seeds", type=Path, nargs="+", default=[], metavar="RUN", help=text)
    data: dict[str, Any] = {"choices": blocks.DATA, "metavar": "NAME"}
    add("--data", **data, help=f"{', '.join(blocks.DATA)}; default: the run's data set")
    add("--card-only", action="store_true", help="write a card, and no weights into the package")
    args = parser.parse_args(words[:cut])
    args.words = words[cut + 1 :]
    return call(publish, args)


def publish(args: argparse.Namespace) -> None:
    """Write the weights with their row, the facts of the card, and the pages."""
    last = args.run / "checkpoints" / "last"
    saved, path = checkpoint.load(last), None
    data = args.data or saved.config["data"]["dataset"]
    check_known("data", data, blocks.DATA)
    if not args.card_only:
        path = _write_weights(saved, args.name)
    try:
        facts = run_facts(args.run, args.words, args.threads, args.seeds, path)
    except Exception:
        if path is not None:
            path.unlink()
        raise
    if path is not None:
        _add_row(saved, args.name, path, facts)
    file = path or min(last.glob("*.params"))  # average.params, if there is one
    facts["data"] = data
    facts["file"] = {
        "name": file.name,
        "bytes": file.stat().st_size,
        "sha256": sha256(file),
        "shipped": path is not None,
    }
    blocks.FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (blocks.FOLDER / f"{args.name}.json").write_text(text, encoding="utf-8")
    _add_block(args.page, f"<!-- card: {args.name} -->", f"## {args.name}")
    result_pages.update()
    print(f"{args.name}: {facts['top1']:.2%} of {facts['images']:,} test images, {file}")


def _write_weights(saved: Checkpoint, name: str) -> Path:
    """Write the weights into the package; refuse a file that does not belong there."""
    model = name.partition(".")[0]
    network = saved.network()
    known = DATASETS[saved.config["data"]["dataset"]].class_names  # () of image files
    if same_network(saved.model_name, network.spec) != model or saved.class_names != known:
        raise ValueError(
            f"{saved.folder} holds no {model} with its default fields for a row of DATASETS: "
            f"get_model({model!r}) would not load it. Add a row to its family's SPECS, or give "
            "--card-only."
        )
    network.classes = saved.class_names
    path = rows.FOLDER / f"{name}.safetensors"
    save_weights(network, path, "gluondense")
    size = path.stat().st_size
    if size > LARGEST:
        path.unlink()
        raise ValueError(
            f"{name} has {size:,} bytes, files in the package have at most {LARGEST:,}: "
            "give --card-only."
        )
    return path


def _add_row(saved: Checkpoint, name: str, path: Path, facts: dict[str, Any]) -> None:
    model, _, tag = name.partition(".")
    row = Weights(
        model,
        tag,
        (),
        sha256(path),
        round(100 * facts["top1"], 3),
        None,
        saved.preprocessing,
        eps=saved.spec["eps"],
        classes=saved.spec["classes"],
        dataset=facts["dataset"],
    )
    others = [other for other in rows.read_rows() if other.name != name]
    rows.write_rows([*others, row])


def _add_block(page: Optional[Path], mark: str, title: str) -> None:
    """Append an empty block to a page that does not have it."""
    if page is not None:
        text = page.read_text(encoding="utf-8")
        if mark not in text:
            page.write_text(f"{text}\n{title}\n\n{mark}\n\n<!-- end -->\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
