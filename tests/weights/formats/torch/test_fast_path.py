"""Tensors that are taken as a whole from a pickle: as by one opcode after the other."""

from __future__ import annotations

import re
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.torch_files import Named, Storage, Tensor, dumps, tensor
from support.weights_files import WEIGHT

from gluondense.weights.formats.tensor_index import BadFile
from gluondense.weights.formats.torch import pickle as torch_pickle
from gluondense.weights.formats.torch.fast_path import take_tensor

# What only taking as a whole finds wrong.
TWICE = "uses a place of its memo twice"
KINDS = {"FloatStorage": 4, "HalfStorage": 2, "LongStorage": 8}


def index_of(tensors, view=()) -> bytes:
    """A pickle whose memo has more than 256 places before these tensors."""
    known = [
        Tensor(Storage(b"", Named("torch", kind), 0), 0, (0,), (1,), rebuild)
        for kind in KINDS
        for rebuild in ("_rebuild_tensor_v2", "_rebuild_tensor")
    ]
    return dumps({"known": known, "names": list(map(str, range(256))), "net": tensors}, 2, view)[0]


def run(code: bytes):
    """What is on the stack, in the memo and among the storages afterwards, or what is wrong."""
    machine = torch_pickle._Machine(code)
    with mock.patch.object(torch_pickle, "_Machine", return_value=machine):
        try:
            loaded = torch_pickle.load(code)
            machine.memo.complete()
        except BadFile as error:
            return str(error)
    # As texts, in which True is no 1.
    return repr(loaded), repr(sorted(machine.memo.items())), repr(machine.storages)


def run_both(code: bytes, damaged: bool = False) -> int:
    """Do it in both ways, compare, and return how many tensors were taken as a whole."""
    with mock.patch.object(torch_pickle, "take_tensor", return_value=None):
        expected = run(code)
    taken = []
    with mock.patch.object(torch_pickle, "take_tensor") as take:
        take.side_effect = lambda *args: taken.append(take_tensor(*args)) or taken[-1]
        result = run(code)
    assert result == expected or (damaged and TWICE in result)
    return len(taken) - taken.count(None)


sizes = st.integers(0, 3) | st.sampled_from([255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, True])
shapes = st.lists(sizes, max_size=6).map(tuple)
storages = st.builds(
    Storage,
    st.just(b""),
    st.sampled_from([Named("torch", kind) for kind in [*KINDS, "IntStorage"]]),
    sizes,
    st.sampled_from(["", "", "94012384012", "a"]),
)
tensors = st.builds(
    Tensor,
    storages,
    sizes,
    shapes,
    shapes,
    st.sampled_from(["_rebuild_tensor_v2"] * 3 + ["_rebuild_tensor"]),
    st.sampled_from([(), (), (), (None,)]),
)
state_dicts = st.dictionaries(st.sampled_from(["a.weight", "ü", "q.r", "", "c"]), tensors)
views = st.sampled_from([(), (None,), (("view", 0, 1),)])


@settings(max_examples=100, deadline=None)
@given(state_dicts, views)
def test_any_tensor(named, view):
    run_both(index_of(named, view))


@pytest.mark.parametrize("rebuild", ["_rebuild_tensor_v2", "_rebuild_tensor"])
@pytest.mark.parametrize("view", [(), (None,)])
@pytest.mark.parametrize("shape", [(), (300,), (4, 3), (4, 3, 2), (4, 3, 2, 70000), (1,) * 9])
def test_usual_tensors_are_taken_as_a_whole(rebuild, view, shape):
    def make():
        storage = Storage(b"", Named("torch", "FloatStorage"), 9)
        # Shapes and strides are objects of their own.
        return Tensor(storage, 0, (0, *shape)[1:], (0, *shape)[1:], rebuild)

    assert run_both(index_of({"a": make(), "b": make()}, view)) == 2


BASE = index_of({name: tensor(WEIGHT) for name in "abc"} | {"n": tensor(np.array(3))})
START = BASE.index(b"net")


def test_what_is_damaged_was_taken_as_a_whole():
    assert run_both(BASE) == 4


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_damage(data):
    code = bytearray(BASE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(START, len(code) - 1))
        end = at + data.draw(st.integers(0, 3))
        start = data.draw(st.integers(0, len(BASE) - 1))
        code[at:end] = data.draw(
            st.binary(max_size=3)
            | st.sampled_from([b"h\0", b"q\3", b"r\3\0\0\0", b"\x94", b"0", b"N", b"\x88"])
            | st.just(BASE[start : start + data.draw(st.integers(1, 80))])
        )
    run_both(bytes(code), damaged=True)


def test_a_place_that_is_put_twice_can_not_be_asked_for():
    name_put, *_, last = re.findall(rb"r..\0\0", BASE[BASE.index(b"X\1\0\0\0b") :], re.S)
    again = b"K\7" + name_put
    assert torch_pickle.load(BASE[:-1] + again + b".").value == 7
    with pytest.raises(BadFile, match=TWICE):
        torch_pickle.load(BASE[:-1] + again + b"j" + last[1:] + b".")


def test_each_place_that_is_put_can_be_asked_for():
    """Nobody does, but for the name and the tensor."""
    places = sorted({match.group(1) for match in re.finditer(rb"r(..\0\0)", BASE[START:], re.S)})
    assert len(places) > 30
    for place in places:
        assert run_both(BASE[:-1] + b"j" + place + b".") == 4


def test_the_next_place_is_behind_those_that_are_only_noted():
    """MEMOIZE counts; both kinds of opcodes are in no file of torch's."""
    machine = torch_pickle._Machine(BASE)
    machine.run(0)
    machine.memo.complete()
    place = len(machine.memo).to_bytes(4, "little")
    assert torch_pickle.load(BASE[:-1] + b"X\1\0\0\0y\x94K\7j" + place + b".").value == "y"


@pytest.mark.parametrize("place", range(30))
@pytest.mark.parametrize("value", [b"N", b"X\1\0\0\0a", b"ctorch\nSize\n", b"ctorch\nuint8\n"])
def test_what_is_asked_for_can_be_anything(place, value):
    """Here each of the first places gets something else in front of the second tensor."""
    at = BASE.index(b"X\1\0\0\0b")
    run_both(BASE[:at] + b"X\1\0\0\0z" + value + b"q" + bytes([place]) + BASE[at:])
