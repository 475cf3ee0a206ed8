"""The tensors of a state dict, each recognized in a pickle as a whole.

``torch.save`` writes all but the first of a type in the same thirty opcodes. To interpret these one
by one takes three times as long, and comes to the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Optional

from .torch_globals import ORDERED_DICT, TENSOR, Element, Tensor, whole_storage

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


def take_tensor(
    code: Any, at: int, name: str, memo: dict[Any, Any]
) -> Optional[tuple[Tensor, int]]:
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
        By bytes; gets what those opcodes put there.

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
        name_put, function, word, kind, size, text, key_put, device, count, view, storage_put,
        first, shape, shape_put, strides, strides_put, flag, hooks, hooks_put, arguments_put, put,
    ) = match.groups()  # fmt: skip
    element = memo.get(kind)
    if (
        memo.get(function) is not TENSOR
        or memo.get(word) != "storage"
        or type(element) is not Element
        or device not in memo
        or not (hooks is None or memo.get(hooks) is ORDERED_DICT)
        or size[0] != len(text)
    ):
        return None
    key, shape, strides = text.decode(), _numbers(shape), _numbers(strides)
    (count,), (first,) = _numbers(count), _numbers(first)
    description = ("storage", element, key, memo[device], count, *([None] if view else ()))
    tensor = Tensor(whole_storage(element, key, count), first, shape, strides)
    no_hooks: dict[Any, Any] = {}
    arguments = (*tensor, flag == b"\x88", no_hooks) if flag else tuple(tensor)
    memo.update(
        {
            name_put: name, key_put: key, storage_put: description, shape_put: shape,
            strides_put: strides, hooks_put: no_hooks, arguments_put: arguments, put: tensor,
        }
    )  # fmt: skip
    memo.pop(None, None)  # what was not there
    return tensor, match.end()


@lru_cache(maxsize=4096)
def _numbers(code: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(number[1:], "little") for number in _find_numbers(code))
