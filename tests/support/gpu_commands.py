"""The commands that take GPUs; the flag is the last but one word."""

from __future__ import annotations

GPU_COMMANDS = tuple(
    tuple(line.split())
    for line in (
        "train fashion-mnist --recipe demo --out run --gpus 0",
        "train cifar --out run --gpus 0",
        "train imagenet --data-dir data --model densenet121 --out run --gpus 0",
        "train folder data --model densenet121 --out run --gpus 0",
        "train folder data --model densenet121 --out run --num-gpus 1",
        "evaluate densenet121.tv_in1k --num-gpus 1",
    )
)
