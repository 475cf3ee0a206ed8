"""Messages speak the language of the reader: flags in commands, arguments in Python."""

from __future__ import annotations

import ast
import importlib
import re

import pytest
from support.paths import ROOT

from gluondense.__main__ import COMMANDS, main
from gluondense.commands.parser import Parser

PACKAGE = ROOT / "gluondense"
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
# A command line that a message quotes, perhaps with a path; `train …` is any training command.
QUOTED = re.compile(
    r"gluondense ([a-z][a-z-]*(?: [a-z][a-z-]*)?)( …)?(?: {})?((?: --[a-z][\w-]+)+)"
)
# Flags of other programs: pip, the C++ compiler, nvidia-smi.
FOREIGN = {"--no-deps", "--std", "--query-gpu", "--format"}


@pytest.fixture(scope="module")
def parsers():
    """The parser of each command."""
    found: dict[str, Parser] = {}

    class Done(Exception):
        pass

    def stop(self, args=None, namespace=None):
        found["last"] = self
        raise Done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", stop)
        for name, row in COMMANDS.items():
            with pytest.raises(Done):
                importlib.import_module(f"gluondense.commands.{row.module}").main([])
            found[name] = found.pop("last")
    return found


def texts(path):
    """The string literals of a module that are no docstrings, with f-strings put together."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(node.value)  # a docstring
        if isinstance(node, ast.JoinedStr):
            inner.update(node.values)
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.value


def flags_of(parser):
    return {flag for action in parser._actions for flag in action.option_strings}


def command_names(module):
    """The commands that a module of ``commands`` belongs to."""
    own = [name for name, row in COMMANDS.items() if row.module.split(".")[-1] == module]
    return own or list(COMMANDS)  # a part that several share


def complaints(path, parsers):
    """The flags that a module's messages name and that no reader of them can pass."""
    in_commands = "commands" in path.relative_to(PACKAGE).parts
    wrong = []
    for text in texts(path):
        for command, others, flags in QUOTED.findall(text):
            known = [name for name in COMMANDS if name == command or (others and command in name)]
            assert known, f"{path}: there is no command {command!r}"
            for flag in flags.split():
                if not any(flag in flags_of(parsers[name]) for name in known):
                    wrong.append(f"{path.name}: `gluondense {command}` has no {flag}")
        rest = QUOTED.sub("", text)
        if rest.startswith("-") and FLAG.fullmatch(rest) and not in_commands:
            continue  # the declaration of a flag
        if "{ --" in rest or "var(--" in rest:
            continue  # a style sheet
        for flag in set(FLAG.findall(rest)) - FOREIGN:
            if path.name == "__main__.py" and flag in ("--help", "--version"):
                continue
            names = command_names(path.stem) if in_commands else []
            if not any(flag in flags_of(parsers[name]) for name in names):
                wrong.append(f"{path.relative_to(PACKAGE)}: {flag} in {text!r}")
    return wrong


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_name_only_flags_that_their_command_has(path, parsers):
    assert complaints(path, parsers) == []


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("training/run.py", '"pass --resize 29"'),
        ("commands/evaluate.py", '"pass --bed 29"'),
        ("commands/evaluate.py", 'f"pass --bed {29}"'),
        ("training/run.py", '"see `gluondense make-recordio --bed`"'),
    ],
)
def test_the_check_can_fail(module, message, parsers, tmp_path, monkeypatch):
    path = tmp_path / module
    path.parent.mkdir()
    path.write_text(f"raise ValueError({message})\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    assert len(complaints(path, parsers)) == 1


# Arguments of functions that no command has.
PYTHON_ONLY = {"features", "img_fmt", "naming", "ctx"}
NAME = re.compile(r"`(\w+)`")


def test_names_in_messages_are_arguments(parsers):
    """A command replaces them by its flags, so a misspelt one would stay."""
    known = PYTHON_ONLY.union(*(parser.flags for parser in parsers.values()))
    found = {
        name
        for path in MODULES
        if "commands" not in path.relative_to(PACKAGE).parts
        for text in texts(path)
        for name in NAME.findall(text)
    }
    assert len(found) > 10
    assert found <= known


def one_line(capsys, *words):
    assert main(list(map(str, words))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_training_speaks_of_its_flags(capsys, tmp_path):
    train = ["train", "fashion-mnist", "--dataset", "synthetic", "--no-progress", "--out"]
    small = ["--model", "densenet121", "--input-size", "1"]
    assert one_line(capsys, *train, tmp_path / "a", *small).endswith(
        "needs 4x4: set --input-size to 4 or more.\n"
    )
    error = one_line(capsys, *train, tmp_path / "b", "--batch-size", "3000")
    assert error.startswith("error: --batch-size (=3000) leaves no complete batch of 200 images")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "log.csv").touch()
    error = one_line(capsys, *train, tmp_path / "c")
    assert error.endswith("with --resume, replace it with --overwrite, or give another --out.\n")


def test_a_path_is_not_taken_for_the_name_of_weights(capsys, tmp_path):
    path = tmp_path / "export" / "densenet121"  # an interrupted export leaves nothing there
    expected = f"error: there is no run, checkpoint, export or weights file at {path}.\n"
    assert one_line(capsys, "evaluate", path) == expected
    assert "published weights" in one_line(capsys, "evaluate", "densenet7")
