# SPDX-License-Identifier: Apache-2.0
"""Run the marked examples of the docs.

A fenced block of sh or Python after a line <!-- docs-check: run --> is run. The blocks of a page
share a temporary folder, which has a link to scripts/. tests/test_docs.py checks all other blocks
without running them: commands and names must exist, and commands must accept their arguments.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

from gluondense.__main__ import main as gluondense_command
from gluondense.commands.parser import Parser

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))  # the scripts whose arguments are checked
MARK = "<!-- docs-check: run -->"
FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# Other programs, whose arguments are not checked.
TOOLS = {
    *("apt-get", "bentoml", "cd", "cp", "curl", "export", "git", "kill", "ls", "mkdir", "mkdocs"),
    *("model-archiver", "multi-model-server", "ruff", "source", "ssh", "sudo", "tar", "taskset"),
    *("unzip", "xdg-open"),
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``text`` is without indent, ``runs`` if it is marked."""

    page: Path
    line: int
    language: str
    text: str
    runs: bool

    @property
    def place(self) -> str:
        """Page and line, in the format of compilers."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def main(argv: Optional[list[str]] = None) -> int:
    """Run the pages' blocks; return 1 if one fails."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path, help="default: all")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for a block")
    args = parser.parse_args(argv)
    failed = 0
    for page in [path.resolve() for path in args.pages] or pages():
        marked = [block for block in blocks(page) if block.runs]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "scripts").symlink_to(ROOT / "scripts")
            for block in marked:
                begin = time.monotonic()
                error = run(block, Path(folder), args.timeout)
                took = f"{time.monotonic() - begin:.0f} s"
                print(f"{block.place}: {'FAILED, ' if error else ''}{took}", flush=True)
                if error:
                    print(error, file=sys.stderr)
                    failed += 1
                    break  # the following blocks depend on it
    return 1 if failed else 0


def pages() -> list[Path]:
    """Return all pages with examples."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page that name a language."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        before = text[: fence.start()]
        body = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        runs = before.rstrip().endswith(MARK)
        found.append(Block(page, before.count("\n") + 1, fence[2], body, runs))
    return found


def run(block: Block, folder: Path, timeout: float) -> str:
    """Run a block; return its output if it failed, else an empty string."""
    shell = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
    }
    try:
        done = subprocess.run(
            [*shell[block.language], block.text], cwd=folder, env=environment, timeout=timeout,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not finished after {timeout:g} s"
    return f"{done.stdout}\nexit code {done.returncode}" if done.returncode else ""


def complaints(block: Block) -> list[str]:
    """Return the errors of a block of sh or Python that are found without running it."""
    if block.language == "python" and ">>>" not in block.text:  # doctest checks the others
        try:
            return list(_missing_names(ast.parse(block.text)))
        except SyntaxError as error:
            return [f"line {error.lineno} is no Python: {error.msg}"]
    if block.language == "sh":
        found = (complaint(words) for words in commands(block.text))
        return [message for message in found if message]
    return []


def _missing_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "gluondense":
            if not hasattr(importlib.import_module("gluondense"), node.attr):
                yield f"gluondense has no {node.attr}"
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "gluondense":
            module = importlib.import_module(str(node.module))
            yield from (
                f"{node.module} has no {alias.name}"
                for alias in node.names
                if not hasattr(module, alias.name)
            )


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without assignments, comments and redirections."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        skip = False  # whether this word is the file of a redirection
        for word in [*words, ";"]:
            if set(word) <= set("();&|"):
                while command and re.fullmatch(r"\w+=.*", command[0]):
                    command.pop(0)
                if command:
                    yield command
                command = []
            elif set(word) <= set("<>"):
                skip = True
            elif skip:
                skip = False
            else:
                command.append(word)


def complaint(words: list[str]) -> str:
    """Return why a command cannot be run, or an empty string.

    Examples
    --------
    >>> complaint(["make", "tests"])
    'make has no target tests'
    """
    name, *arguments = words
    check = _CHECKS.get(Path(name).name)
    if check:
        return check(arguments)
    return (
        ""
        if Path(name).name in TOOLS
        else f"unknown command {name}: if it is right, add it to TOOLS"
    )


def _gluondense(arguments: list[str]) -> str:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    rest = arguments[at + 1 :] if arguments[:1] == ["launch"] else []
    launched = complaint(rest) if rest else ""
    return _refused("gluondense", gluondense_command, arguments) or launched


def _python(arguments: list[str]) -> str:
    first, *rest = arguments or [""]
    if first == "-m":
        module = rest[0]
        if module in {"pip", "venv", "http.server"} or importlib.util.find_spec(module):
            return _pip(rest[1:]) if module == "pip" else ""
        return f"there is no module {module}"
    if not (ROOT / first).is_file():
        return f"there is no script {first}"
    module = importlib.import_module(".".join(Path(first).with_suffix("").parts[1:]))
    return _refused(first, module.main, rest)


class _Parsed(Exception):  # not an error
    """The arguments were accepted."""


def _refused(name: str, main: Callable[[list[str]], int], arguments: list[str]) -> str:
    """Let a command parse its arguments and stop it there; return its message if it refuses."""
    parse = argparse.ArgumentParser.parse_args

    def only_parse(parser: Any, *args: Any, **kwargs: Any) -> None:
        parse(parser, *args, **kwargs)
        raise _Parsed

    said = io.StringIO()
    argparse.ArgumentParser.parse_args = only_parse  # type: ignore[assignment,method-assign]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = main(arguments)
    except _Parsed:
        return ""
    except SystemExit as stop:
        code = stop.code
    finally:
        argparse.ArgumentParser.parse_args = parse  # type: ignore[method-assign]
    return f"{name} {shlex.join(arguments)}: {said.getvalue().strip()}" if code else ""


def _make(arguments: list[str]) -> str:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in arguments:
        variable, equals, _ = word.partition("=")
        if equals and not re.search(rf"\b{variable}\b", text):
            return f"the Makefile has no {variable}"
        if not equals and not re.search(rf"^{re.escape(word)}:", text, re.MULTILINE):
            return f"make has no target {word}"
    return ""


def _pip(arguments: list[str]) -> str:
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = metadata.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    known = re.findall(r"^([\w-]+) = \[", extras, re.MULTILINE)
    for word in arguments:
        for extra in (re.findall(r"^(?:\.|gluondense)\[(.+)\]$", word) or [""])[0].split(","):
            if extra and extra not in known:
                return f"pyproject.toml has no extra {extra}"
    return ""


_CHECKS = {"gluondense": _gluondense, "python": _python, "make": _make, "pip": _pip}

if __name__ == "__main__":
    sys.exit(main())
