"""The part of pickle that PyTorch's files need, interpreted without importing or calling anything.

Python's own unpickler is no base for that, whatever its ``find_class`` refuses: a few bytes make it
reserve gigabytes (a memo of 2^31 places), overflow the C stack (the hash of a tuple in a tuple in a
tuple ...), or change the very objects that ``find_class`` returned (``BUILD``).
"""

from __future__ import annotations

import pickletools
import struct
from typing import Any, Callable, NamedTuple

from ..tensor_index import BadFile
from .fast_path import Memo, take_tensor
from .globals import SAVE_AGAIN, Function, Storage, check_keys, find_global, find_storage

_U1, _U4 = struct.Struct("<B"), struct.Struct("<I")


class Loaded(NamedTuple):
    """What a pickle says: an object, by key the storages that it mentions, and where it ends."""

    value: Any
    storages: dict[str, Storage]
    end: int


def load(code: bytes, start: int = 0) -> Loaded:
    """Interpret one pickle.

    Parameters
    ----------
    code
        Its bytes, and maybe others.
    start
        Where in them the pickle begins.

    Returns
    -------
    Loaded
        With the object, made of dict, list, tuple, str, numbers and ``Tensor``; integers of more
        than 8 bytes stay bytes.

    Raises
    ------
    BadFile
        If it is truncated or damaged, or asks for a class or function that no state dict needs.
    """
    try:
        return _Machine(code).run(start)
    except BadFile:
        raise
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error):
        raise BadFile("is truncated or damaged: its pickle makes no sense; get it again") from None


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo = Memo()
        self.storages: dict[str, Storage] = {}

    def run(self, at: int) -> Loaded:
        code, stack, marks, memo = self.code, self.stack, self.marks, self.memo
        push, operations, pop_mark = stack.append, _OPERATIONS, self.pop_mark
        while True:
            opcode = code[at]
            at += 1
            # Three quarters of a state dict are these five: a call for each would double the time.
            if opcode == _LONG_BINPUT:
                memo[_place(code[at : at + 4])] = stack[-1]
                at += 4
            elif opcode == _BINGET:
                push(memo[code[at : at + 1]])
                at += 1
            elif opcode == _BININT1:
                push(code[at])
                at += 1
            elif opcode == _MARK:
                marks.append(len(stack))
            elif opcode == _TUPLE:
                push(tuple(pop_mark()))
            elif opcode != _STOP:
                at = operations[opcode](self, at)
            else:
                return Loaded(stack.pop(), self.storages, at)

    def pop_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError
        return self.stack[-1]


def _place(number: bytes) -> bytes:
    """The key of one in the memo: a byte, or four where these are needed."""
    return number[:1] if number[1:] == b"\0\0\0" else number


_LONG_BINPUT, _BINGET, _BININT1, _MARK, _TUPLE, _STOP = b"rhK(t."

# Interprets the opcode before a place, and returns the place of the next one.
Operation = Callable[[_Machine, int], int]


def _refuse(machine: _Machine, at: int) -> int:
    opcode = machine.code[at - 1]
    name = next((row.name for row in pickletools.opcodes if ord(row.code) == opcode), hex(opcode))
    raise BadFile(
        f"has a pickle with the opcode {name}, which no state dict needs; get it again, or if you"
        f" trust it, load it with torch and {SAVE_AGAIN}"
    )


def _constant(make: Callable[[], Any]) -> Operation:
    def operation(machine: _Machine, at: int) -> int:
        machine.stack.append(make())
        return at

    return operation


def _number(code: str) -> Operation:
    layout = struct.Struct(code)

    def operation(machine: _Machine, at: int) -> int:
        machine.stack.append(layout.unpack_from(machine.code, at)[0])
        return at + layout.size

    return operation


def _counted(count: struct.Struct, decode: Callable[[bytes], Any]) -> Operation:
    def operation(machine: _Machine, at: int) -> int:
        (size,) = count.unpack_from(machine.code, at)
        at += count.size
        content = machine.code[at : at + size]
        if len(content) < size:
            raise IndexError
        machine.stack.append(decode(content))
        return at + size

    return operation


_TEXT = _counted(_U4, bytes.decode)


def _tuple_1(machine: _Machine, at: int) -> int:
    machine.stack[-1] = (machine.stack[-1],)
    return at


def _tuple_2(machine: _Machine, at: int) -> int:
    machine.stack[-2:] = [tuple(machine.stack[-2:])]
    return at


def _tuple_3(machine: _Machine, at: int) -> int:
    machine.stack[-3:] = [tuple(machine.stack[-3:])]
    return at


def _skip(size: int) -> Operation:
    return lambda machine, at: at + size


def _integer(content: bytes) -> Any:
    return int.from_bytes(content, "little", signed=True) if len(content) <= 8 else content


def _name(machine: _Machine, at: int) -> int:
    end = _TEXT(machine, at)
    # Nothing is tried behind other names, of which a state dict has half as many.
    if machine.code[end + 5 : end + 6] != b"h":
        return end
    taken = take_tensor(machine.code, end, machine.stack[-1], machine.memo)
    if taken is None:
        return end
    tensor, end = taken
    machine.storages[tensor.storage.key] = tensor.storage
    machine.stack.append(tensor)
    return end


def _put(machine: _Machine, at: int) -> int:
    machine.memo[machine.code[at : at + 1]] = machine.stack[-1]
    return at + 1


def _memoize(machine: _Machine, at: int) -> int:
    machine.memo.complete()  # its length is to be right
    machine.memo[_place(_U4.pack(len(machine.memo)))] = machine.stack[-1]
    return at


def _get(machine: _Machine, at: int) -> int:
    machine.stack.append(machine.memo[_place(machine.code[at : at + 4])])
    return at + 4


def _append(machine: _Machine, at: int) -> int:
    item = machine.stack.pop()
    machine.top(list).append(item)
    return at


def _appends(machine: _Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.top(list).extend(items)
    return at


def _set_item(machine: _Machine, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    if type(key) is not str:
        check_keys((key,))
    machine.top(dict)[key] = value
    return at


def _set_items(machine: _Machine, at: int) -> int:
    items = machine.pop_mark()
    check_keys(items[::2])
    machine.top(dict).update(zip(items[::2], items[1::2]))
    return at


def _global(machine: _Machine, at: int) -> int:
    middle = machine.code.find(b"\n", at)
    end = machine.code.find(b"\n", middle + 1)
    if middle < 0 or end < 0:
        raise IndexError
    module, name = machine.code[at:middle], machine.code[middle + 1 : end]
    machine.stack.append(find_global(module.decode(), name.decode()))
    return end + 1


def _stack_global(machine: _Machine, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(find_global(module, name))
    return at


def _reduce(machine: _Machine, at: int) -> int:
    arguments = machine.stack.pop()
    function = machine.top(Function)
    machine.stack[-1] = function.make(*arguments)
    return at


def _persistent(machine: _Machine, at: int) -> int:
    storage = find_storage(machine.top(tuple))
    machine.storages[storage.key] = machine.stack[-1] = storage
    return at


def _build(machine: _Machine, at: int) -> int:
    # Of an OrderedDict: torch keeps its _metadata there, the versions of the modules.
    machine.stack.pop()
    machine.top(dict)
    return at


_OPERATIONS: list[Operation] = [_refuse] * 256
for _code, _operation in {
    b"\x80": _skip(1),  # PROTO
    b"\x95": _skip(8),  # FRAME
    b"N": _constant(lambda: None),
    b"\x88": _constant(lambda: True),
    b"\x89": _constant(lambda: False),
    b")": _constant(tuple),
    b"]": _constant(list),
    b"}": _constant(dict),
    b"J": _number("<i"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": _counted(_U1, _integer),
    b"X": _name,
    b"\x8c": _counted(_U1, bytes.decode),
    b"T": _TEXT,  # str of Python 2
    b"U": _counted(_U1, bytes.decode),
    b"B": _counted(_U4, bytes),
    b"C": _counted(_U1, bytes),
    b"\x85": _tuple_1,
    b"\x86": _tuple_2,
    b"\x87": _tuple_3,
    b"q": _put,
    b"\x94": _memoize,
    b"j": _get,
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_items,
    b"c": _global,
    b"\x93": _stack_global,
    b"R": _reduce,
    b"Q": _persistent,
    b"b": _build,
}.items():
    _OPERATIONS[ord(_code)] = _operation
