# SPDX-License-Identifier: Apache-2.0
"""Give a table its splits, and check them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from .splitting import stratified_split
from .table import SPLITS, TRAIN, VAL, ImageTable


def split_table(table: ImageTable, share: float, seed: int) -> ImageTable:
    """Move a share of the training images to the validation, unless there are validation images.

    Images without splits are training images. A ValueError names a class of a single image or
    group, or the absence of training images.
    """
    splits = np.where(table.splits == "", TRAIN, table.splits).astype("U5")
    if (splits == VAL).any():
        return table.with_splits(splits)
    indices = np.flatnonzero(splits == TRAIN)
    if not len(indices):
        raise ValueError(f"{table.origin or table.images.root} has no training images")
    train = table.select(indices)
    if not table.has_several_labels:
        _check_can_be_split(train)
    chosen = stratified_split(train.labels, train.groups, share, seed)
    splits[indices[chosen]] = VAL
    return table.with_splits(splits)


def _check_can_be_split(train: ImageTable) -> None:
    for label, name in enumerate(train.class_names):
        members = train.having(label)
        if len(members) == 1:
            raise ValueError(
                f"class {name!r} has one image ({train.where(members[0])}); training and "
                "validation need one each: add images or remove the class"
            )
        if train.groups is not None and len(set(train.groups[members].tolist())) == 1:
            raise ValueError(
                f"class {name!r} is in one group only, {train.groups[members[0]]!r} "
                f"({train.where(members[0])}); training and validation need one each"
            )


def check_splits(table: ImageTable) -> None:
    """Check that training and validation have the same classes, and that no group is in two splits.

    Raises a ValueError that names the first image. Of several labels, one that is missing in a
    split is a warning.
    """
    place = table.origin or table.images.root
    for name in (TRAIN, VAL):
        if not (table.splits == name).any():
            raise ValueError(f"{place} has no images of split {name}")
    _check_groups(table)
    if len(table.class_names) == 1 and not table.has_several_labels:
        raise ValueError(
            f"{place} has the class {table.class_names[0]!r} only; training needs images of two or "
            "more"
        )
    has = {name: table.split(name).counts() > 0 for name in SPLITS}
    lonely = []
    for label, name in enumerate(table.class_names):
        found = [split for split in SPLITS if has[split][label]]
        if found and not {TRAIN, VAL} <= set(found):
            image = table.where(int(table.having(label)[0]))
            lonely.append((name, " and ".join(found), image))
    if not lonely:
        return
    name, found_in, image = lonely[0]
    if not table.has_several_labels:
        raise ValueError(
            f"class {name!r} has images in {found_in} only ({image}{_and_more(lonely)}); training "
            "and validation need the same classes"
        )
    print(
        f"warning: label {name!r} is 1 in {found_in} only ({image}{_and_more(lonely)}); it cannot "
        "be both learned and evaluated",
        file=sys.stderr,
    )


def _and_more(lonely: list[tuple[str, str, str]]) -> str:
    return f"; {len(lonely) - 1} more" if len(lonely) > 1 else ""


def _check_groups(table: ImageTable) -> None:
    first: dict[str, int] = {}
    groups: Iterable[str] = () if table.groups is None else table.groups.tolist()
    for index, group in enumerate(groups):
        other = first.setdefault(group, index)
        if table.splits[other] != table.splits[index]:
            raise ValueError(
                f"{table.where(index)} has the group {group!r} in {table.splits[index]}, but row "
                f"{table.rows[other] if table.rows is not None else other} has it in "
                f"{table.splits[other]}; correct them, or let `split_column` none split by group"
            )
