# SPDX-License-Identifier: Apache-2.0
"""Update the tables of docs/benchmarks.md from the results in docs/results/benchmarks."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from gluondense.commands.parser import Parser

sys.path.insert(0, str(Path(__file__).parents[1]))
from dev import results

# The text between such comments and the next one is computed.
COMPUTED = re.compile(r"(<!-- computed: (\w+) -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
SIZE = 224
BATCHES = (1, 8, 32)
# Backends whose name is not their title.
TITLES = {
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "onnxruntime-int8": "ONNX Runtime",
    "onnx": "ONNX Runtime",
    "torch": "PyTorch",
    "mxnet-zoo": "MXNet's zoo",
}
TRAINING = {
    "plain": "MXNet's operators",
    "balanced": "memory-efficient (`True`)",
    "most": 'memory-efficient (`"most"`)',
    "native": "**native**",
    "native-balanced": "**native, memory-efficient** (`True`)",
    "native-bf16": "**native, bfloat16**",
    "native-bf16-balanced": "**native, bfloat16, memory-efficient** (`True`)",
    "torch": "PyTorch",
    "torch.compile": "torch.compile",
    "torch-checkpoint": "torchvision, memory-efficient",
    "torch-bf16": "PyTorch, bfloat16",
    "torch.compile-bf16": "torch.compile, bfloat16",
}


def benchmarks_page(page: str) -> str:
    """Return the page with all tables brought up to date."""
    rows = results.inference()
    texts = {
        "fp32": _ratios(rows, "native", ["runtime", "onnxruntime", "torch", "torch.compile"]),
        "bf16": _ratios(rows, "native_bf16", []),
        "int8": _ratios(rows, "native_int8", ["onnxruntime-int8", "int8"]),
        "targets": _targets(rows),
        "start": _start(rows),
        "sizes": _sizes(),
        "workers": _workers(),
        "amx": _amx(),
        "amx_training": _training_networks(results.AMX),
        "csp": _csp(),
        "training": _training(),
        "training_networks": _training_networks(),
        "serving": _serving(),
        "machines": _machines(),
        "runs": _runs(),
    }
    return COMPUTED.sub(lambda found: found[1] + texts[found[2]], page)


def _ratios(rows: dict[results.Case, results.Row], own: str, names: list[str]) -> str:
    """Return a table of times in ms per image and of ratios to OpenVINO's time."""
    head = ["network", "batch", f"{own}, ms", "OpenVINO, ms"]
    lines = []
    for network in results.networks(rows):
        for batch in BATCHES:
            row = rows.get((network, SIZE, batch, own))
            if row:
                times = [
                    f"{ms:.1f}" if ms else "–" for ms in (row["median_ms"], row["openvino_ms"])
                ]
                ratios = _to_openvino(rows, network, batch, [own, *names])
                lines.append([network, batch, *times, f"**{ratios[0]}**", *ratios[1:]])
    ratios = [f"**{own}**", *(TITLES.get(name, name) for name in names)]
    return _table([*head, *ratios], lines, left=1)


def _targets(rows: dict[results.Case, results.Row]) -> str:
    """Return a table of the ratios to OpenVINO's time with MXNet's operators."""
    names = ["onednn", "portable", "mxnet-zoo"]
    lines = [
        [network, batch, *_to_openvino(rows, network, batch, names)]
        for network in results.networks(rows)
        for batch in BATCHES
        if (network, SIZE, batch, "onednn") in rows
    ]
    return _table(["network", "batch", *(TITLES.get(name, name) for name in names)], lines, left=1)


def _to_openvino(
    rows: dict[results.Case, results.Row], network: str, batch: int, names: list[str]
) -> list[str]:
    found = [rows.get((network, SIZE, batch, name)) for name in names]
    return [f"{row['to_openvino']:.2f}" if row else "–" for row in found]


def _start(rows: dict[results.Case, results.Row]) -> str:
    """Return a table of the time from process start to the first answer, and of the memory."""
    names = ["runtime", "native", "onnxruntime", "openvino", "torch"]
    lines = []
    for network in results.networks(rows):
        found = [rows.get((network, SIZE, 1, name)) for name in names]
        if found[0]:
            lines.append(
                [network, *(f"{r['first_s']:.1f} / {r['rss_mb']:.0f}" if r else "–" for r in found)]
            )
    return _table(["s / MB", *(TITLES.get(name, name) for name in names)], lines, left=1)


def _sizes() -> str:
    names = ["native", "openvino", "onnxruntime"]
    rows = {
        (row["size"], row["batch"], row["name"]): row
        for row in results.content("densenet121-scaling")["rows"]
    }
    lines = []
    for size, batch in sorted({key[:2] for key in rows}):
        found = [rows[size, batch, name] for name in names]
        times = [f"{row['median_ms']:.1f}" for row in found]
        ratios = [f"{row['to_reference']['ratio']:.2f}" for row in found]
        memory = [f"{row['rss_mb']:.0f}" for row in found]
        lines.append(
            [f"{size}x{size}", batch, *times, f"**{ratios[0]}**", ratios[2], ", ".join(memory)]
        )
    head = ["image", "batch", "**native**, ms", "OpenVINO, ms", "ONNX Runtime, ms"]
    ratios = ["**native** to OpenVINO", "ONNX Runtime to OpenVINO"]
    return _table([*head, *ratios, "MB: native, OpenVINO, ONNX Runtime"], lines, left=1)


def _workers() -> str:
    found = results.content("densenet121-scaling")["throughput"]
    rates = {(row["workers"], row["name"]): row["images_per_s"] for row in found}
    names = list(dict.fromkeys(row["name"] for row in found))
    lines = [
        [count, *(f"{rates[count, name]:.1f}" for name in names)]
        for count in sorted({workers for workers, _ in rates})
    ]
    return _table(["processes", *(f"{TITLES.get(name, name)}, images/s" for name in names)], lines)


def _csp() -> str:
    lines = [
        [row["batch"], f"**{row['ratio']:.2f}**", "{:.2f} – {:.2f}".format(*row["quartiles"])]
        for row in results.content("csp-together")["between"]
    ]
    return _table(["batch", "csp_densenet121 to densenet121", "quartiles"], lines)


def _amx() -> str:
    """Return a table of times with AMX; ratios are to OpenVINO's time in the same precision."""
    rows = results.inference(results.AMX)
    names = ["native", "native_bf16", "native_int8"]
    lines = []
    for network in results.networks(rows):
        for batch in BATCHES:
            found = [rows.get((network, SIZE, batch, name)) for name in names]
            if not any(found):
                continue
            line = [network, batch]
            for row in found:
                texts = ["–", "–"]
                if row:
                    texts = [f"{row['median_ms']:.1f}", f"**{row['to_openvino']:.2f}**"]
                line += texts
            lines.append(line)
    head = [text for name in names for text in (f"{name}, ms", "to OpenVINO")]
    return _table(["network", "batch", *head], lines, left=1)


def _training() -> str:
    """Return a table of time and memory of a training step of DenseNet-121."""
    rows = results.training()
    lines = []
    for name, title in TRAINING.items():
        row = rows.get(("densenet121", SIZE, 16, name))
        if row is None:
            continue
        share = [f"{row['ratio']:.2f}", f"{row['share']:.2f}"]
        lines.append([title, f"{row['ms']:.1f}", f"{row['maps']:.0f}", *share])
    head = [
        "setting",
        "ms per image",
        "activations, MB",
        "time to MXNet's",
        "activations to MXNet's",
    ]
    return _table(head, lines, left=1)


def _training_networks(folder: str = "") -> str:
    names = ["plain", "native", "torch", "native-bf16", "torch-bf16"]
    rows = results.training(folder)
    lines = []
    for network, size, batch, name in sorted(rows):
        # The other images are those of CIFAR.
        if name == "native" and (size, batch) in ((SIZE, 16), (32, 64)):
            found = [rows.get((network, size, batch, name)) for name in names]
            cells = [f"{row['ms']:.1f} / {row['maps']:.0f}" if row else "–" for row in found]
            _, native, torch, native_bf16, torch_bf16 = found
            pairs = (native, torch), (native_bf16, torch_bf16)
            ratios = [
                f"{own['ms'] / peer['ms']:.2f}" if own and peer else "–" for own, peer in pairs
            ]
            lines.append([network, *cells, f"**{' / '.join(ratios)}**" if torch else "–"])
    titles = [TRAINING[name].partition(" (")[0] for name in names]
    head = ["ms per image / MB", *titles, "to PyTorch, float32 / bfloat16"]
    return _table(head, lines, left=1)


def _serving() -> str:
    lines = []
    for row in results.content("serving")["rows"]:
        times = [f"{row[key]:.0f}" for key in ("p50", "p90", "p99")]
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else "1.00"
        server = TITLES.get(row["server"], row["server"])
        failed = f"{row['failures']} of {row['requests']:,}"
        lines.append([server, row["target"], f"{row['rate']:.1f}", ratio, *times, failed])
    head = ["server", "target", "requests/s", "to ONNX Runtime", "50 %, ms", "90 %, ms", "99 %, ms"]
    return _table([*head, "failed"], lines, left=2)


def _all_files() -> list[tuple[str, dict[str, Any]]]:
    return [*results.files(), *results.files(results.AMX)]


def _runs() -> str:
    """Return a table of the files with their commands, without what only names files."""
    lines = []
    for name, content in _all_files():
        if "command" in content:
            command = re.sub(r" --(json|html|markdown|cache|images) \S+", "", content["command"])
            command = command.replace("python scripts/benchmark.py ", "")
            lines.append([content["date"], f"`{name}.json`", f"`{command}`"])
    return _table(["date", "file", "arguments of scripts/benchmark.py"], lines, left=3)


def _machines() -> str:
    """Return a list of the machines that were used, each with its versions of the packages."""
    found: dict[str, dict[str, list[str]]] = {}
    for _, content in _all_files():
        if "machine" in content:
            cpu = content["machine"]
            flags = ", ".join(flag for flag in cpu["flags"] if flag.startswith(("avx512", "amx")))
            name = f"{cpu['cores']} cores of an {cpu['cpu']}, family {cpu['family']} ({flags})"
            versions = found.setdefault(name, {})
            for key, value in content["versions"].items():
                if value not in versions.setdefault(key, []) and key != "gluondense":
                    versions[key].append(value)
    return "\n".join(
        f"- {name}: " + ", ".join(f"{key} {' and '.join(v)}" for key, v in versions.items() if v)
        for name, versions in found.items()
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[object]], left: int = 0) -> str:
    align = ["left"] * left + ["right"] * (len(head) - left)
    return tabulate(lines, head, tablefmt="pipe", colalign=align, disable_numparse=True)


def main(argv: list[str] | None = None) -> int:
    """Update the page in place."""
    parser = Parser(description=__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args(argv).file
    file.write_text(benchmarks_page(file.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
