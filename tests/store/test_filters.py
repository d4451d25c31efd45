from __future__ import annotations

import json
import operator
import pickle  # noqa: TID251  errors must survive worker processes
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curri.errors import FilterError, InvalidInput, InvalidParameter, UnknownName, UnknownPrompt
from curri.store import NewPrompt, PromptStore, Source, open_store
from curri.store.filters import (
    ALIASES,
    COLUMNS,
    DEEPEST,
    LONGEST,
    MOST_CONDITIONS,
    MOST_VALUES,
    AllOf,
    AnyOf,
    Between,
    Column,
    Compare,
    Contains,
    Filter,
    Known,
    Not,
    OneOf,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Row = dict[str, Any]

TEXTS = [
    "",
    "math",
    "code",
    "prove it",
    "it's",
    'say "x"',
    "a\\b",
    "line\nbreak",
    "π ≤ 漢字",
    "%_*?",
    "'; drop table prompts; --",
]
METADATA: list[dict[str, Any]] = [
    {},
    {"level": "hard", "n": 3, "tags": ["x", "it's"], "odd key/~": True},
    {"level": "easy", "n": 0.5, "deep": {"n": -1, "level": ""}},
    {"level": 3, "n": "3", "tags": [], "odd key/~": False, "deep": None},
    {"level": None, "n": 12345678901, "tags": "x", "deep": {"n": 1e-3}},
    {"level": True, "n": -7, "tags": None},
]  # fmt: skip
PATHS = [("level",), ("n",), ("tags",), ("odd key/~",), ("deep", "n"), ("deep", "level"), ("deep",), ("level", "none")]
KEYS = [Column("metadata", path) for path in PATHS]


def made_row(i: int, rewards: list[float]) -> Row:
    """A prompt as Python sees it, unknown values as None."""
    known = rewards if (i + 1) % 6 else []
    return {
        "prompt_id": i + 1,
        "id": None if i % 3 == 0 else f"p{i % 7}",
        "arm": ["math", "code", "it's", "漢字"][i % 4],
        "split": ["train", "train", "eval"][i % 3],
        "prompt": f"{i}: {TEXTS[i % len(TEXTS)]}",
        "answer": [None, "", "7"][i % 3],
        "generation": i % 3,
        "parent_id": None if i % 3 == 0 else i // 2 + 1,
        "retired": i % 5 == 0,
        "prior_rate": [None, 0.0, 0.25, 1.0][i % 4],
        "expected_tokens": [None, 100.0, 512.5][i % 3],
        "metadata": METADATA[i % len(METADATA)],
        "of": (rewards, known),
        "responses": len(rewards),
        "mean_reward": sum(rewards) / len(rewards) if rewards else None,
        "pass_rate": sum(known) / len(known) if known else None,
        "tokens": 100.0 * (i + 1) if rewards else None,
        "truncated": float((i + 1) % 2) if rewards else None,
    }


RNG = np.random.default_rng(5)
ROWS = [made_row(i, RNG.choice([0.0, 1.0], size=i % 4).tolist()) for i in range(48)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PromptStore]:
    with open_store(tmp_path_factory.mktemp("filters") / "prompts.duckdb", create=True) as store:
        for row in ROWS:  # one at a time: a parent must be there before its child
            store.prompts.add(
                [
                    NewPrompt(
                        row["prompt"],
                        is_chat=False,
                        answer=row["answer"],
                        arm=row["arm"],
                        external_id=row["id"],
                        metadata=json.dumps(row["metadata"], ensure_ascii=False) if row["metadata"] else "",
                        split=row["split"] if row["split"] != "train" else [None, "train"][row["prompt_id"] % 2],
                        prior_rate=row["prior_rate"],
                        expected_tokens=row["expected_tokens"],
                        parent_id=row["parent_id"],
                        generation=row["generation"],
                    )
                ]
            )
        store.prompts.retire(np.array([row["prompt_id"] for row in ROWS if row["retired"]]))
        long = [(row, i, reward) for row in ROWS for i, reward in enumerate(row["of"][0])]
        columns = {
            "prompt_id": [row["prompt_id"] for row, _, _ in long],
            "sample": pa.array([i for _, i, _ in long], pa.int32()),
            "reward": [reward for _, _, reward in long],
            "solved": pa.array([reward if row["of"][1] else None for row, _, reward in long], pa.float64()),
            "tokens": pa.array([100 * row["prompt_id"] for row, _, _ in long], pa.int32()),
            "truncated": pa.array([True if row["prompt_id"] % 2 else None for row, _, _ in long], pa.bool_()),
        }
        store.rollouts.add(Source("m"), pa.table(columns))
        store.rollouts.add(Source("other", run_id=3), pa.table({"prompt_id": [1], "sample": [0], "reward": [9.0]}))
        yield store


# ---- what a filter means, in Python ---------------------------------------------------------------------------------


def value_of(row: Row, column: Column) -> Any:
    if not column.path:
        return row[column.name]
    value: Any = row["metadata"]
    for key in column.path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def kind_of(value: Any) -> type | None:
    if isinstance(value, (bool, str)):
        return type(value)
    return float if isinstance(value, (int, float)) else None


def compared(value: Any, sign: str, wanted: Any) -> bool:
    """False where the two are not of one kind; what is unknown is of none."""
    return kind_of(value) == kind_of(wanted) and bool(COMPARE[sign](value, wanted))


COMPARE = {"==": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

MEANING: dict[type, Callable[[Any, Any], bool]] = {
    Compare: lambda leaf, value: (
        not compared(value, "==", leaf.value) if leaf.operator == "!=" else compared(value, leaf.operator, leaf.value)
    ),
    Between: lambda leaf, value: compared(value, ">=", leaf.low) and compared(value, "<=", leaf.high),
    OneOf: lambda leaf, value: any(compared(value, "==", wanted) for wanted in leaf.values),
    Contains: lambda leaf, value: isinstance(value, (str, list)) and leaf.text in value,
    Known: lambda leaf, value: value is not None,
}


def is_true(node: Any, row: Row) -> bool:
    if isinstance(node, Not):
        return not is_true(node.part, row)
    if isinstance(node, (AllOf, AnyOf)):
        join = all if isinstance(node, AllOf) else any
        return join(is_true(part, row) for part in node.parts)
    return MEANING[type(node)](node, value_of(row, node.column))


def written(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


WRITTEN: dict[type, Callable[[Any], str]] = {
    Compare: lambda leaf: f"{leaf.operator} {written(leaf.value)}",
    Between: lambda leaf: f"in {written(leaf.low)}..{written(leaf.high)}",
    OneOf: lambda leaf: f"in [{', '.join(map(written, leaf.values))}]",
    Contains: lambda leaf: f"contains {written(leaf.text)}",
    Known: lambda leaf: "is known",
}


def text_of(node: Any) -> str:
    """A filter as it is written, with parentheses everywhere."""
    if isinstance(node, Not):
        return f"not ({text_of(node.part)})"
    if isinstance(node, (AllOf, AnyOf)):
        join = " and " if isinstance(node, AllOf) else " or "
        return join.join(f"({text_of(part)})" for part in node.parts)
    path = "".join(f"[{written(key)}]" for key in node.column.path)
    return f"{node.column.name}{path} {WRITTEN[type(node)](node)}"


numbers = st.one_of(
    st.sampled_from([0, 1, 3, -1, 0.25, 0.5, 512.5, 100, 12345678901]),
    st.integers(-5, 50),
    st.floats(-10, 10, allow_subnormal=False),
)
texts = st.one_of(
    st.sampled_from([*TEXTS, "train", "eval", "p1", "hard", "x", "7", "it's", "漢字"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)


def leaves() -> st.SearchStrategy[Any]:
    def columns(*kinds: str) -> st.SearchStrategy[Column]:
        return st.sampled_from([Column(name) for name, info in COLUMNS.items() if info.kind in kinds] + KEYS)

    def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.lists(values, min_size=1, max_size=3).map(tuple)

    number, text, equality = columns("number"), columns("text"), st.sampled_from(["==", "!="])
    return st.one_of(
        st.builds(Compare, number, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers),
        st.builds(Compare, text, equality, texts),
        st.builds(Compare, columns("flag"), equality, st.booleans()),
        st.tuples(number, numbers, numbers).map(lambda t: Between(t[0], min(t[1:]), max(t[1:]))),
        st.builds(OneOf, number, some(numbers)),
        st.builds(OneOf, text, some(texts)),
        st.builds(OneOf, st.sampled_from(KEYS), some(numbers | texts | st.booleans())),
        st.builds(Contains, text, texts),
        st.builds(Known, columns("number", "text", "flag")),
    )


def branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(AllOf, several), st.builds(AnyOf, several))


@given(tree=st.recursive(leaves(), branches, max_leaves=6))
def test_a_filter_means_in_sql_what_it_means_in_python(filled: PromptStore, tree: Any) -> None:
    wanted = [row["prompt_id"] for row in ROWS if is_true(tree, row)]
    assert filled.prompts.where(text_of(tree)).tolist() == wanted
    assert Filter.parse(text_of(tree)).root == tree


OTHER_WORDS = 'and or not in is contains known unknown == < .. [ ] ( ) , . 1 0.5 metadata true \' "x"'
WORDS = [*COLUMNS, *OTHER_WORDS.split(" ")]


@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
def test_anything_else_is_refused_with_its_place(words: list[str]) -> None:
    text = " ".join(words)
    error = refusal(text)
    if error is None:
        clause, values = Filter.parse(text).sql()
        assert clause.count("?") == len(values)
        return
    shown, caret = error.pointed
    if len(text) <= 60:
        assert (shown, caret) == (text, " " * error.position + "^")
    assert shown[len(caret) - 1 :].startswith(text[error.position : error.position + 20])
    assert 0 <= error.position <= len(text)
    assert f"character {error.position + 1}:" in error.message


def refusal(text: str) -> FilterError | None:
    try:
        Filter.parse(text)
    except FilterError as error:
        return error
    return None


# ---- examples -------------------------------------------------------------------------------------------------------


def ids(store: PromptStore, text: str) -> list[int]:
    found: list[int] = store.prompts.where(text).tolist()
    return found


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("not retired and generation > 0", "(not retired) and (generation > 0)"),
        ("retired or retired and generation > 0", "retired or (retired and generation > 0)"),
        ("arm not in ['math']", "not arm in ['math']"),
        ("prompt not contains 'x'", "not (prompt contains 'x')"),
        ("prior_rate is unknown", "not prior_rate is known"),
        ("prior_rate is not unknown", "prior_rate is known"),
        ("arm != 'math'", "not arm == 'math'"),
        ("rollouts > 1 and reward_mean < 1", "responses > 1 and mean_reward < 1"),
        ("metadata.deep.n < 0", 'metadata["deep"]["n"] < 0'),
        ('metadata["odd key/~"]', 'metadata["odd key/~"] == true'),
        ("generation in 0 .. 1", "generation>=0 and generation<=1"),
        ("\n retired\t", "retired"),
    ],
)
def test_two_ways_to_say_the_same(filled: PromptStore, text: str, same: str) -> None:
    assert ids(filled, text) == ids(filled, same) != []


@pytest.mark.parametrize(
    ("text", "position", "message", "hint"),
    [
        ("", 0, "is empty", "such as"),
        ('arm = "math"', 4, "`=` means nothing here", "equality is `==`"),
        ('arm <> "math"', 4, "`<>` means nothing", "inequality is `!=`"),
        ("arm == math", 7, "a value is expected", 'texts are quoted: "math"'),
        ("domain == 'x'", 0, 'no column "domain"', "columns: prompt_id"),
        ("retired and pas_rate > 1", 12, 'no column "pas_rate"', 'did you mean "pass_rate"?'),
        ("arm contain 'x'", 4, "no operator for `arm`", 'did you mean "contains"?'),
        ("arm like 'x'", 4, "no operator", "write `contains"),
        ("generation between 1 and 2", 11, "no operator", "in low..high"),
        ("retired && retired", 8, "`&&`", "write `and`"),
        ("retired AND retired", 8, "`and` or `or` is expected", 'did you mean "and"?'),
        ("answer is null", 10, "goes with `known`", "is unknown"),
        ("pass_rate == null", 13, "a value is expected", "is unknown"),
        ("pass_rate > '1'", 12, "compared with a number", None),
        ("arm > 'x'", 6, "`>` is for numbers", None),
        ("retired == 1", 11, "true or false", None),
        ("pass_rate", 0, "say what `pass_rate` must be", "one of"),
        ("0.2 < pass_rate", 0, "starts with a column", None),
        ("generation > 0 > 1", 15, "one comparison at a time", "low..high"),
        ("pass_rate in 0.8..0.2", 13, "range is empty", None),
        ("pass_rate in 'a'..'b'", 13, "ends of a range are numbers", None),
        ("pass_rate in 0.8", 16, "range or a list", "0.2..0.8"),
        ("arm in []", 8, "a value is expected", None),
        ("arm in ['a' 'b']", 12, "`,` or `]`", None),
        ("arm in ['a', 1]", 13, "a text, in quotes", None),
        ("arm contains 1", 13, "goes with a text", None),
        ("generation contains '1'", 20, "a number", None),
        ("arm not 'x'", 8, "`in` or `contains`", None),
        ("(retired", 0, "never closed", None),
        ("retired)", 7, "never opened", None),
        ("not", 3, "a condition is expected", None),
        ('arm == "math', 7, "no closing", None),
        (r"arm == '\x'", 8, "means nothing", "backslash"),
        ("metadata == 1", 9, "which key", "metadata.level"),
        ("metadata. == 1", 10, "a key is expected", "odd key"),
        ("metadata['a' == 1", 13, "`]` is expected", None),
        ("generation > 5x", 13, "neither a number nor a column", None),
        ("generation > 1e999", 13, "too large", None),
        ("arm == 'a' ; drop", 11, "`;`", "no statements"),
        ("arm == 'a' -- x", 11, "`--`", "no comments"),
        ("arm == '\ud800'", 8, "no Unicode", None),
        ("漢字 == 'x' and", 0, "no column", None),
        ("not " * 50 + "retired", 4 * DEEPEST, "nested deeper", None),
        ("(" * 50 + "retired", DEEPEST, "nested deeper", None),
    ],
)  # fmt: skip
def test_errors_say_what_is_meant_and_where(text: str, position: int, message: str, hint: str | None) -> None:
    with pytest.raises(FilterError) as caught:
        Filter.parse(text)
    error = caught.value
    assert (error.position, message in error.message) == (position, True), error
    assert hint is None or hint in str(error.hint)
    assert "\n" not in error.message
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert (str(again), again.position) == (str(error), error.position)


def test_the_caret_stands_under_the_place_whatever_stands_before_it() -> None:
    with pytest.raises(FilterError) as wide:
        Filter.parse('arm == "漢字é" and x')
    assert wide.value.pointed == ('arm == "漢字é" and x', " " * 19 + "^")
    with pytest.raises(FilterError) as long:
        Filter.parse(" and ".join(["retired"] * 30) + "\n!" + " or retired" * 30)
    shown, caret = long.value.pointed
    assert len(shown) <= 122
    assert shown[len(caret) - 1] == "!"
    assert shown.isprintable()


def test_there_are_limits() -> None:
    Filter.parse(" or ".join(["retired"] * MOST_CONDITIONS))
    with pytest.raises(FilterError, match="conditions"):
        Filter.parse(" or ".join(["retired"] * (MOST_CONDITIONS + 1)))
    Filter.parse(f"prompt_id in [{', '.join(['1'] * MOST_VALUES)}]")
    with pytest.raises(FilterError, match="at most 1000 values"):
        Filter.parse(f"prompt_id in [{', '.join(['1'] * (MOST_VALUES + 1))}]")
    with pytest.raises(FilterError, match="characters"):
        Filter.parse("retired" + " " * LONGEST)


def test_the_largest_filter_runs(filled: PromptStore) -> None:
    assert ids(filled, " or ".join(f"metadata.n == {i}" for i in range(MOST_CONDITIONS))) != []
    assert ids(filled, f"prompt_id in [{', '.join(map(str, range(MOST_VALUES)))}]") == [
        row["prompt_id"] for row in ROWS
    ]
    assert ids(filled, "not (" * 19 + "retired" + ")" * 19) == ids(filled, "not retired")


def test_values_never_stand_in_the_sql() -> None:
    evil = "'; drop table prompts; --"
    read = Filter.parse(f'arm == "{evil}" or metadata["{evil}"] contains "{evil}" or id in ["{evil}"]')
    clause, values = read.sql()
    assert "drop" not in clause
    assert sum(evil in str(value) for value in values) == len(values)


def test_aliases_stand_for_columns() -> None:
    assert set(ALIASES.values()) <= set(COLUMNS)
    assert not set(ALIASES) & set(COLUMNS)


def test_a_model_is_asked_for_only_where_it_matters(filled: PromptStore) -> None:
    assert ids(filled, "responses == 0") == [row["prompt_id"] for row in ROWS if not row["responses"]]
    assert filled.prompts.where("mean_reward == 9", model="other").tolist() == [1]
    with pytest.raises(UnknownName):
        filled.prompts.where("retired", model="nobody")


def test_several_models(store: PromptStore) -> None:
    for model in ("m", "n"):
        store.rollouts.add(Source(model), pa.table({"prompt_id": [1], "sample": [0], "reward": [1.0]}))
    assert ids(store, 'arm == "arm0"')
    with pytest.raises(InvalidInput, match="2 models"):
        ids(store, "responses > 0")


def test_probes_do_not_count(store: PromptStore) -> None:
    table = pa.table({"prompt_id": [1, 2], "sample": [0, 0], "reward": [1.0, 1.0], "probe": [True, False]})
    store.rollouts.add(Source("m"), table)
    assert ids(store, "responses > 0") == [2]
    assert ids(store, "pass_rate is known") == []  # no row says `solved`


def test_a_key_that_no_prompt_has_is_refused(filled: PromptStore) -> None:
    with pytest.raises(UnknownName, match=r'no key of the metadata "levl"') as caught:
        filled.prompts.where('metadata.levl != "hard"')
    assert 'did you mean "level"?' in str(caught.value.hint)


def test_in_an_empty_store_nothing_matches(tmp_path: Any) -> None:
    with open_store(tmp_path / "e.duckdb", create=True) as store:
        assert ids(store, 'metadata.x == 1 or arm == "a" or responses == 0') == []


# ---- retire, restore, split -----------------------------------------------------------------------------------------


def test_retire_and_restore(store: PromptStore) -> None:
    version = store.prompts.version
    assert store.prompts.retire(np.array([3, 1, 3])) == 2
    assert ids(store, "retired") == [1, 3]
    assert store.pool().n_active == 28
    assert store.prompts.version == version + 1
    assert store.prompts.retire(np.array([1])) == 0
    assert store.prompts.version == version + 1
    assert store.prompts.restore(np.array([1, 2])) == 1
    assert ids(store, "retired") == [3]
    with pytest.raises(UnknownPrompt):
        store.prompts.retire(np.array([5, 31]))
    assert ids(store, "retired") == [3]


def test_many_are_changed_in_several_steps(store: PromptStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curri.store.prompts._CHANGED_AT_ONCE", 7)
    assert store.prompts.retire(np.arange(1, 31)) == 30
    assert store.prompts.restore(np.arange(2, 31)) == 29
    assert ids(store, "retired") == [1]


def test_split(store: PromptStore) -> None:
    assert store.prompts.set_split(np.array([1, 2]), "eval") == 2
    assert store.prompts.set_split(np.array([1, 2, 3]), "eval") == 1
    assert ids(store, 'split == "eval"') == [1, 2, 3]
    assert len(store.pool()) == 27
    assert store.prompts.set_split(np.array([1, 4]), "train") == 1
    assert ids(store, 'split != "train"') == [2, 3]
    for name in ("", " eval", "a\nb"):
        with pytest.raises(InvalidParameter, match="needs a name"):
            store.prompts.set_split(np.array([1]), name)
