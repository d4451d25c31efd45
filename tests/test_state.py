"""State in bytes: everything comes back as it was, and damage is said to be damage."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from curri.errors import StateMismatch
from curri.state import (
    StateChange,
    apply_change,
    pack,
    pack_change,
    same_state,
    same_value,
    unpack,
    unpack_change,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
kinds = st.one_of(
    npst.integer_dtypes(endianness="="),
    npst.unsigned_integer_dtypes(endianness="="),
    npst.floating_dtypes(endianness="="),
    npst.boolean_dtypes(),
    npst.unicode_string_dtypes(endianness="=", max_len=5),
)
arrays = npst.arrays(kinds, npst.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4))
states = st.dictionaries(st.text(max_size=8), arrays | json_values, max_size=5)


@given(states)
def test_what_is_packed_comes_back(state: dict[str, Any]) -> None:
    assert same_state(unpack(pack(state)), state)


@pytest.mark.parametrize(
    "name", ["", "file", "args", "allow_pickle", "arr_0", "a/b", "x.npy", "nul\0byte", "../up", "é", "\ud800"]
)
def test_any_name_will_do(name: str) -> None:
    state = {name: np.arange(3), name + "!": {"a": [1, None, "x"]}}
    assert same_state(unpack(pack(state)), state)


def test_packing_is_the_same_every_time() -> None:
    state = {"b": np.arange(3), "a": {"z": 1, "y": 2}}
    assert pack(state) == pack({"b": np.arange(3), "a": {"y": 2, "z": 1}})


@pytest.mark.parametrize(
    "value",
    [np.array([{}]), np.array([None, 1]), {1, 2}, object(), np.int64(3), b"bytes", 1j],
    ids=["dicts", "objects", "set", "object", "numpy", "bytes", "complex"],
)
def test_what_is_neither_array_nor_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        pack({"x": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_finite_numbers_only(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"x": value})


GOOD = pack({"a": np.arange(20), "b": [1, 2], "c": np.array(["x", "yy"])})


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StateMismatch, match="cannot be read"):
        unpack(data)


@given(st.integers(0, len(GOOD) - 1))
def test_cut_off_bytes_are_refused(length: int) -> None:
    with pytest.raises(StateMismatch, match="cannot be read"):
        unpack(GOOD[:length])


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_does_no_harm(place: int, change: int) -> None:
    damaged = bytearray(GOOD)
    damaged[place] ^= change
    try:
        found = unpack(bytes(damaged))
    except StateMismatch:
        return
    assert same_state(found, unpack(GOOD))


def test_other_archives_are_refused() -> None:
    plain = io.BytesIO()
    np.save(plain, np.arange(3))
    other = io.BytesIO()
    np.savez(other, weights=np.arange(3))
    objects = io.BytesIO()
    np.savez(objects, np.array([{}], dtype=object))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    for buffer in (plain, other, objects, empty):
        with pytest.raises(StateMismatch, match="cannot be read") as caught:
            unpack(buffer.getvalue())
        assert "backup" in str(caught.value.hint)


def test_same_value_is_bit_for_bit() -> None:
    assert same_value(np.array([np.nan]), np.array([np.nan]))
    assert not same_value(np.array([0.0]), np.array([-0.0]))
    assert not same_value(np.array([1], dtype=np.int32), np.array([1], dtype=np.int64))
    assert not same_value(np.zeros(2), np.zeros((2, 1)))
    assert not same_value(np.zeros(2), [0.0, 0.0])
    assert not same_value([0.0, 0.0], np.zeros(2))
    assert not same_value(1, 1.0)
    assert not same_value(True, 1)
    assert not same_state({"a": 1}, {"a": 1, "b": 1})
    assert same_state({"a": 1, "b": np.ones(2)}, {"b": np.ones(2), "a": 1})


def changed() -> StateChange:
    return StateChange(
        values={"step": 4, "own/x": np.arange(2), "new": [1]},
        removed=("gone", "buffer/000000/rewards"),
        prompt_ids=np.array([5, 9]),
        columns={"prompt/visits": np.array([7, 8], dtype=np.int32)},
    )


def test_changes_come_back() -> None:
    change, again = changed(), unpack_change(pack_change(changed()))
    assert again.removed == change.removed
    assert again.prompt_ids.tolist() == [5, 9]
    assert same_state(again.values, change.values)
    assert same_state(dict(again.columns), dict(change.columns))


def test_a_change_is_applied() -> None:
    state = {
        "step": 3,
        "gone": 1,
        "prompt_ids": np.array([2, 5, 7, 9]),
        "prompt/visits": np.zeros(4, dtype=np.int32),
    }
    assert same_state(
        apply_change(unpack(pack(state)), changed()),
        {
            "step": 4,
            "own/x": np.arange(2),
            "new": [1],
            "prompt_ids": np.array([2, 5, 7, 9]),
            "prompt/visits": np.array([0, 7, 0, 8], dtype=np.int32),
        },
    )
