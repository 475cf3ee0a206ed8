"""The tensors of a state dict, each recognized in a pickle as a whole.

``torch.save`` writes all but the first of a type in the same thirty opcodes. To interpret these one
by one takes three times as long, and comes to the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Optional

from ..tensor_index import BadFile
from .globals import ORDERED_DICT, TENSOR, Element, Tensor, whole_storage

# Each piece begins with its opcode and has one length, so no pickle matches in two ways.
_PIECES = {
    b"number": rb"(?:K.|M..|J...[\0-\x7f])",
    # From the first 256 places of the memo, and to others: what an entry puts, it does not get.
    b"get": rb"h(.)",
    b"put": rb"r(?!.\0\0\0)(....)",
}
_PIECES[b"numbers"] = (
    # None, which are not put anywhere, one, two, three, or more.
    rb"(\)|%(number)b\x85|%(number)b{2}\x86|%(number)b{3}\x87|\(%(number)b{4,32}t)"
    rb"(?:(?<=\))|%(put)b)"
) % _PIECES
_match = re.compile(
    rb"%(put)b"  # of the name
    rb"%(get)b"  # _rebuild_tensor_v2, or without the number
    rb"\("
    rb"\(%(get)b%(get)b"  # "storage", the type of its numbers,
    rb"X(.)\0\0\0(\d+)%(put)b"  # its key,
    rb"%(get)b"  # its device,
    rb"(%(number)b)(N?)t%(put)bQ"  # and how many there are
    rb"(%(number)b)"  # the offset in it
    rb"%(numbers)b%(numbers)b"  # the shape, the strides
    rb"(?:([\x88\x89])%(get)b\)R%(put)b)?"  # since 0.4 whether it has a gradient, and its hooks
    rb"t%(put)bR%(put)b" % _PIECES,
    re.DOTALL,
).match
_find_numbers = re.compile(_PIECES[b"number"], re.DOTALL).findall
# Those of the pattern's groups that the tensor itself is made of.
_OF_TENSOR = 2, 3, 4, 5, 6, 8, 9, 12, 13, 15, 18
_NOTHING = object()


class Memo(dict[bytes, Any]):
    """What a pickle has put aside to get it again, by the bytes of its places.

    Nearly nothing of a tensor's entry is ever got again, so that is only noted in ``entries``, and
    put here when something is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[str, Tensor, str, re.Match]] = []

    def __missing__(self, place: bytes) -> Any:
        self.complete()
        if place not in self:
            raise KeyError(place)
        return self[place]

    def complete(self) -> None:
        """Put here what was only noted.

        Raises
        ------
        BadFile
            If two things are put at one place, which no pickler does: their order is not noted.
        """
        entries, self.entries = self.entries, []
        for entry in entries:
            values = _put_aside(*entry)
            if not self.keys().isdisjoint(values):
                raise BadFile("is damaged: its pickle uses a place of its memo twice; get it again")
            self.update(values)


def take_tensor(code: bytes, at: int, name: str, memo: Memo) -> Optional[tuple[Tensor, int]]:
    """Do at once what the opcodes of a tensor do.

    Parameters
    ----------
    code
        The pickle.
    at
        Where in it the opcode behind the tensor's name is.
    name
        This name, from the top of the stack.
    memo
        Notes what those opcodes put there.

    Returns
    -------
    tuple
        The tensor, for the top of the stack, and where the next opcode is; None, and nothing was
        done, if a tensor as usual does not follow.
    """
    match = _match(code, at)
    if match is None:
        return None
    (
        function, word, kind, size, text, device, count, first, shape, strides, hooks,
    ) = match.group(*_OF_TENSOR)  # fmt: skip
    get = memo.get
    element, place = get(kind), get(device, _NOTHING)
    if (
        get(function) is not TENSOR
        or get(word) != "storage"
        or type(element) is not Element
        or place is _NOTHING
        or not (hooks is None or get(hooks) is ORDERED_DICT)
        or size[0] != len(text)
    ):
        return None
    storage = whole_storage(element, text.decode(), _numbers(count)[0])
    tensor = Tensor(storage, _numbers(first)[0], _numbers(shape), _numbers(strides))
    memo.entries.append((name, tensor, place, match))
    return tensor, match.end()


@lru_cache(maxsize=4096)
def _numbers(code: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(number[1:], "little") for number in _find_numbers(code))


def _put_aside(name: str, tensor: Tensor, device: Any, match: re.Match) -> dict[bytes, Any]:
    """All that the opcodes of a tensor's entry put into the memo."""
    (
        name_put, _, _, _, _, _, key_put, _, count, view, storage_put,
        _, _, shape_put, _, strides_put, flag, _, hooks_put, arguments_put, put,
    ) = match.groups()  # fmt: skip
    element, key = tensor.storage[:2]
    whole = ("storage", element, key, device, *_numbers(count), *([None] if view else ()))
    no_hooks: dict[Any, Any] = {}
    arguments = (*tensor, flag == b"\x88", no_hooks) if flag else tuple(tensor)
    values = {
        name_put: name, key_put: key, storage_put: whole, shape_put: tensor.shape,
        strides_put: tensor.strides, hooks_put: no_hooks, arguments_put: arguments, put: tensor,
    }  # fmt: skip
    values.pop(None, None)  # what was not there
    return values
