# SPDX-License-Identifier: Apache-2.0
"""What a check is, and the table of all checks."""

from __future__ import annotations

from typing import Callable, NamedTuple

from .facts import Facts

OK, NOTE, WRONG = "ok", "note", "wrong"


class Result(NamedTuple):
    """What a check found.

    ``status`` is `OK`; `WRONG` if something that the installed MXNet needs is missing; `NOTE` if
    something optional is missing or could be better. ``advice`` says what to do.
    """

    status: str
    value: str
    advice: str = ""


class Check(NamedTuple):
    """A row of a table of checks."""

    name: str
    run: Callable[[Facts], Result]


class Line(NamedTuple):
    """A line of the doctor's table: the name of a check and its result."""

    name: str
    status: str
    value: str
    advice: str


def run_checks(facts: Facts) -> list[Line]:
    """Run all checks in the order of the table."""
    from .gpu_checks import GPU_CHECKS
    from .mxnet_checks import MXNET_CHECKS
    from .package_checks import PACKAGE_CHECKS
    from .processor_checks import PROCESSOR_CHECKS

    checks = (*MXNET_CHECKS, *PROCESSOR_CHECKS, *GPU_CHECKS, *PACKAGE_CHECKS)
    return [Line(check.name, *check.run(facts)) for check in checks]
