# SPDX-License-Identifier: Apache-2.0
"""Interpret the part of pickle that PyTorch's files need, without importing or calling anything.

Python's own unpickler is not safe, whatever its ``find_class`` refuses: a few bytes make it
allocate gigabytes (a memo of 2^31 entries), overflow the C stack (the hash of deeply nested
tuples), or modify the objects that ``find_class`` returned (``BUILD``).
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from typing import Any, BinaryIO, Callable, NamedTuple

from ..tensor_index import BadFile
from .globals import SAVE_AGAIN, Storage, check_keys, find_global, find_storage


class Loaded(NamedTuple):
    """The object of a pickle, and the storages that the pickle names, by key."""

    value: Any
    storages: dict[str, Storage]


def load(file: BinaryIO) -> Loaded:
    """Interpret one pickle, and leave the file position after its end.

    The file must be in memory: ``read`` on a file on disk would allocate as many bytes as a hostile
    pickle announces. The result consists of dict, list, tuple, str, bytes, numbers, dtypes and
    ``Tensor``; integers of more than 8 bytes stay bytes.
    """
    try:
        return _Interpreter(file).run()
    except BadFile:
        raise
    except (EOFError, IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error):
        raise BadFile("is truncated or damaged: its pickle is invalid; get it again") from None


class _Interpreter:
    """The stack machine that a pickle is a program for."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.readline = file.readline
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Loaded:
        read, operations = self.read, _OPERATIONS
        while True:
            opcode = read(1)
            if opcode == pickle.STOP:
                return Loaded(self.stack.pop(), self.storages)
            operation = operations.get(opcode)
            if operation is None:
                raise _unknown(opcode)
            operation(self)

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.read(layout.size))[0]

    def content(self, length: struct.Struct) -> bytes:
        """Read bytes that their length precedes."""
        size = self.number(length)
        content = self.read(size)
        if len(content) < size:
            raise EOFError
        return content

    def line(self) -> str:
        line = self.readline()
        if line[-1:] != b"\n":
            raise EOFError
        return line[:-1].decode()

    def pop_mark(self) -> list[Any]:
        """Pop the items above the last mark."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type) -> Any:
        """Return the top of the stack, which must be of this very type."""
        if type(self.stack[-1]) is not kind:
            raise TypeError
        return self.stack[-1]


def _unknown(opcode: bytes) -> Exception:
    if not opcode:
        return EOFError()
    names = (row.name for row in pickletools.opcodes if row.code == opcode.decode("latin-1"))
    return BadFile(
        f"has a pickle with the opcode {next(names, opcode.hex())}, which no state dict needs; get"
        f" it again, or if you trust it, load it with torch and {SAVE_AGAIN}"
    )


_Operation = Callable[[_Interpreter], None]
_UINT8, _UINT16, _UINT32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_INT32, _FLOAT64 = struct.Struct("<i"), struct.Struct(">d")


def _skip(size: int) -> _Operation:
    def operation(machine: _Interpreter) -> None:
        machine.read(size)

    return operation


def _push(make: Callable[[_Interpreter], Any]) -> _Operation:
    return lambda machine: machine.stack.append(make(machine))


def _push_number(layout: struct.Struct) -> _Operation:
    unpack, size = layout.unpack, layout.size

    def operation(machine: _Interpreter) -> None:
        machine.stack.append(unpack(machine.read(size))[0])

    return operation


def _push_content(length: struct.Struct, decode: Callable[[bytes], Any]) -> _Operation:
    return _push(lambda machine: decode(machine.content(length)))


def _integer(content: bytes) -> Any:
    # The hash of longer integers can be chosen, so they must not become keys.
    return int.from_bytes(content, "little", signed=True) if len(content) <= 8 else content


def _mark(machine: _Interpreter) -> None:
    machine.marks.append(len(machine.stack))


def _tuple(size: int) -> _Operation:
    def operation(machine: _Interpreter) -> None:
        machine.stack[-size:] = [tuple(machine.stack[-size:])]

    return operation


def _put(layout: struct.Struct) -> _Operation:
    unpack, size = layout.unpack, layout.size

    def operation(machine: _Interpreter) -> None:
        machine.memo[unpack(machine.read(size))[0]] = machine.stack[-1]

    return operation


def _memoize(machine: _Interpreter) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _append(machine: _Interpreter) -> None:
    item = machine.stack.pop()
    machine.top(list).append(item)


def _appends(machine: _Interpreter) -> None:
    items = machine.pop_mark()
    machine.top(list).extend(items)


def _set_item(machine: _Interpreter) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    check_keys((key,))
    machine.top(dict)[key] = value


def _set_items(machine: _Interpreter) -> None:
    items = machine.pop_mark()
    check_keys(items[::2])
    machine.top(dict).update(zip(items[::2], items[1::2]))


def _stack_global(machine: _Interpreter) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(find_global(module, name))


def _reduce(machine: _Interpreter) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    # Only find_global puts callables on the stack; a dtype is not callable.
    machine.stack.append(function(*arguments))


def _persistent(machine: _Interpreter) -> None:
    storage = find_storage(machine.top(tuple))
    machine.storages[storage.key] = machine.stack[-1] = storage


def _build(machine: _Interpreter) -> None:
    # Drops the state of an OrderedDict: torch keeps the versions of the modules there.
    machine.stack.pop()
    machine.top(dict)


_OPERATIONS: dict[bytes, _Operation] = {
    pickle.PROTO: _skip(1),
    pickle.FRAME: _skip(8),
    pickle.NONE: _push(lambda machine: None),
    pickle.NEWTRUE: _push(lambda machine: True),
    pickle.NEWFALSE: _push(lambda machine: False),
    pickle.EMPTY_TUPLE: _push(lambda machine: ()),
    pickle.EMPTY_LIST: _push(lambda machine: []),
    pickle.EMPTY_DICT: _push(lambda machine: {}),
    pickle.BININT1: _push_number(_UINT8),
    pickle.BININT2: _push_number(_UINT16),
    pickle.BININT: _push_number(_INT32),
    pickle.BINFLOAT: _push_number(_FLOAT64),
    pickle.LONG1: _push_content(_UINT8, _integer),
    pickle.BINUNICODE: _push_content(_UINT32, bytes.decode),
    pickle.SHORT_BINUNICODE: _push_content(_UINT8, bytes.decode),
    pickle.BINSTRING: _push_content(_UINT32, bytes.decode),  # str of Python 2
    pickle.SHORT_BINSTRING: _push_content(_UINT8, bytes.decode),
    pickle.BINBYTES: _push_content(_UINT32, bytes),
    pickle.SHORT_BINBYTES: _push_content(_UINT8, bytes),
    pickle.MARK: _mark,
    pickle.TUPLE: _push(lambda machine: tuple(machine.pop_mark())),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.BINPUT: _put(_UINT8),
    pickle.LONG_BINPUT: _put(_UINT32),
    pickle.MEMOIZE: _memoize,
    pickle.BINGET: _push(lambda machine: machine.memo[machine.number(_UINT8)]),
    pickle.LONG_BINGET: _push(lambda machine: machine.memo[machine.number(_UINT32)]),
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _set_items,
    pickle.GLOBAL: _push(lambda machine: find_global(machine.line(), machine.line())),
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _reduce,
    pickle.BINPERSID: _persistent,
    pickle.BUILD: _build,
}
