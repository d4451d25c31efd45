"""The error tree: every error tells what helps, and survives a worker process."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  errors cross process borders this way
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri import errors
from curri.errors import CurriError, StoreLocked, UnknownName, did_you_mean, unknown_name


def tree(root: type[CurriError] = CurriError) -> list[type[CurriError]]:
    return [
        root,
        *(found for child in root.__subclasses__() for found in tree(child) if child.__module__ == "curri.errors"),
    ]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("hint", [None, "do this"])
def test_errors_survive_pickling_and_copying(kind: type[CurriError], hint: str | None) -> None:
    error = kind("what is wrong", hint)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  written here
        assert type(again) is kind
        assert (again.message, again.hint) == ("what is wrong", hint)
        assert str(again) == str(error)


def test_a_locked_store_keeps_the_holder() -> None:
    again: Any = pickle.loads(pickle.dumps(StoreLocked("held", "wait", pid=17)))  # noqa: S301  written here
    assert (again.pid, again.exit_code, again.code) == (17, 3, "store_locked")


def test_the_hint_is_shown() -> None:
    assert str(CurriError("bad")) == "bad"
    assert str(CurriError("bad", "do this")) == "bad\n  hint: do this"


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in tree()]
    assert len(set(codes)) == len(codes)
    assert all(kind.exit_code in {1, 3} for kind in tree())


def test_the_tree_in_the_docstring_is_complete() -> None:
    assert all(kind.__name__ in str(errors.__doc__) for kind in tree())


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InvalidParameter, ValueError),
        (errors.UnknownPrompt, ValueError),
        (errors.PoolExhausted, RuntimeError),
        (errors.StateMismatch, ValueError),
        (errors.StoreLocked, RuntimeError),
        (errors.MissingExtra, ImportError),
    ],
)
def test_errors_are_what_python_would_raise(kind: type[CurriError], builtin: type[Exception]) -> None:
    assert issubclass(kind, builtin)


def test_did_you_mean() -> None:
    known = ["ucb", "uniform", "modomodo", "Reinforce-Ada"]
    assert did_you_mean("ubc", known) == 'did you mean "ucb"?'
    assert did_you_mean("MODOMODO", known) == 'did you mean "modomodo"?'
    assert did_you_mean("reinforce_ada", known) == 'did you mean "Reinforce-Ada"?'
    assert did_you_mean("zzz", known) is None
    assert did_you_mean("x", []) is None


@given(
    st.sampled_from(["ucb", "uniform", "window"]), st.sets(st.sampled_from(["ucb", "uniform", "window"]), min_size=1)
)
def test_an_exact_name_suggests_itself(name: str, known: set[str]) -> None:
    if name in known:
        assert did_you_mean(name, known) == f'did you mean "{name}"?'


def test_unknown_names() -> None:
    error = unknown_name("arm", "mth", ["math", "code"], listing="curri arms")
    assert isinstance(error, UnknownName)
    assert error.message == 'there is no arm "mth"; known: code, math'
    assert error.hint == 'did you mean "math"? `curri arms` lists them'
    assert unknown_name("arm", "x", []).message == 'there is no arm "x"; known: none'
    assert unknown_name("arm", "x", []).hint is None
    many = unknown_name("arm", "?", [f"arm {i:02d}" for i in range(30)])
    assert many.message.endswith("arm 19 … (30 in all)")
