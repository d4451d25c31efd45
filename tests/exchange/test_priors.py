from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curri
from curri.errors import InvalidData, InvalidInput, InvalidParameter, StoreError, UnknownName
from curri.exchange import import_priors
from curri.store import NewPrompt, open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from curri.store import PromptStore


def rates(store: PromptStore) -> list[float | None]:
    found = store.pool().prior_rate
    return (
        [None] * len(store.pool()) if found is None else [None if np.isnan(rate) else rate for rate in found.tolist()]
    )


def kept(store: PromptStore) -> list[tuple[Any, ...]]:
    return store.connection.rows("select prompt_id, model, rate, n from priors order by prompt_id, model")


def test_k_of_n_and_rates_reach_the_pool(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"prompt_id": 1, "k": 2, "n": 8}, {"id": "q1", "rate": 0.5, "n": 4}, {"prompt": "2 + 2", "rate": 1},
                 {"id": "q3", "k": 3, "n": 4, "rate": 0.75})  # fmt: skip
    report = import_priors(sums, path, model="big", n=16)
    assert (report.rows, report.added, report.changed, report.repeated, report.rejected) == (4, 4, 0, 0, 0)
    assert report.in_use == "big"
    assert rates(sums) == [0.25, 0.5, 1.0, 0.75, None, None]
    assert kept(sums) == [(1, "big", 0.25, 8), (2, "big", 0.5, 4), (3, "big", 1.0, 16), (4, "big", 0.75, 4)]
    assert len(sums.rollouts) == 0


BAD: list[tuple[Any, str]] = [
    ({"prompt_id": 1}, 'a row needs "k" right answers of "n", or a "rate" and "n"'),
    ({"prompt_id": 1, "k": 3}, '"n" is missing'),
    ({"prompt_id": 1, "rate": 0.5}, '"n" is missing'),
    ({"prompt_id": 1, "k": 9, "n": 8}, '"k" must be a number in [0, 8]; got 9'),
    ({"prompt_id": 1, "k": -1, "n": 8}, "[0, 8]; got -1"),
    ({"prompt_id": 1, "k": 1, "n": 0}, '"n" must be an integer in [1,'),
    ({"prompt_id": 1, "k": 1, "n": 2.5}, "got 2.5"),
    ({"prompt_id": 1, "rate": 1.5, "n": 2}, "[0, 1]; got 1.5"),
    ({"prompt_id": 1, "rate": "high", "n": 2}, 'got "high"'),
    ({"prompt_id": 1, "rate": 0.5, "k": 2, "n": 8}, '"rate" 0.5 is not "k" / "n", 2 / 8'),
    ({"prompt_id": 77, "rate": 0.5, "n": 8}, "prompt_id 77 is not in the store"),
    ({"id": "who", "rate": 0.5, "n": 8}, 'id "who" is not in the store'),
    ({"rate": 0.5, "n": 8}, "no column names the prompt"),
    ({"prompt_id": 2, "rate": 0.25, "n": 8}, "prompt 2 has another rate in row 1: 0.5 of 8"),
    ({"prompt_id": 2, "rate": 0.5, "n": 4}, "prompt 2 has another rate in row 1"),
    ("[]", "must be a JSON object"),
]


def test_rows_that_cannot_be_used_are_put_aside(
    sums: PromptStore, write: Callable[..., Path], rejected: Callable[[Path], list[dict[str, Any]]]
) -> None:
    good = {"prompt_id": 2, "rate": 0.5, "n": 8}
    path = write(good, *(row for row, _ in BAD), good)
    report = import_priors(sums, path, model="big")
    assert (report.rows, report.added, report.repeated, report.rejected) == (len(BAD) + 2, 1, 1, len(BAD))
    for (row, reason), refused in zip(BAD, rejected(path), strict=True):
        assert reason in refused["reason"], row


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"uid": 1, "rate": 1, "n": 2}, "no column that names the prompt.*\n.*--column prompt_id=NAME"),
        ({"id": "q1", "pass": 1, "n": 2}, "no column that holds the pass rate"),
        ({"id": "q1", "rate": 1}, "no column that says how many responses.*\n.*--n 8"),
    ],
)
def test_a_file_that_lacks_a_column_altogether_is_refused(
    sums: PromptStore, write: Callable[..., Path], row: Any, said: str
) -> None:
    path = write(row, row)
    with pytest.raises(InvalidInput, match=said):
        import_priors(sums, path, model="big")
    assert not path.with_name(path.name + ".rejected.jsonl").exists()


def test_doing_it_twice_changes_nothing_and_a_new_file_replaces(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write({"id": "q0", "k": 1, "n": 4}, {"id": "q1", "k": 2, "n": 4})
    import_priors(sums, path, model="big")
    before = kept(sums)
    report = import_priors(sums, path, model="big")
    assert (report.added, report.changed, report.repeated, kept(sums)) == (0, 0, 2, before)
    newer = write({"id": "q1", "k": 4, "n": 4}, {"id": "q2", "k": 0, "n": 4}, name="newer.jsonl")
    report = import_priors(sums, newer, model="big")
    assert (report.added, report.changed, report.repeated) == (1, 1, 0)
    assert rates(sums) == [0.25, 1.0, 0.0, None, None, None]
    (source,) = sums.priors.sources()
    assert (source.prompts, source.responses, source.sources) == (3, 12, (str(newer), str(path)))


def test_one_model_is_in_use_and_the_others_are_kept(sums: PromptStore, write: Callable[..., Path]) -> None:
    sums.prompts.add([NewPrompt("own", False, None, "a", "own", prior_rate=0.9)])
    import_priors(sums, write({"id": "q0", "k": 1, "n": 2}, {"id": "q1", "k": 1, "n": 2}), model="first")
    report = import_priors(sums, write({"id": "q1", "k": 0, "n": 2}), model="second")
    assert report.in_use == "first"
    assert rates(sums) == [0.5, 0.5, None, None, None, None, 0.9]
    assert sums.priors.use("second") == 1
    assert rates(sums) == [None, 0.0, None, None, None, None, 0.9]
    assert [(entry.model, entry.in_use) for entry in sums.priors.sources()] == [("first", False), ("second", True)]
    assert import_priors(sums, write({"id": "q2", "k": 2, "n": 2}), model="first", use=True).in_use == "first"
    assert rates(sums) == [0.5, 0.5, 1.0, None, None, None, 0.9]
    with pytest.raises(UnknownName, match='did you mean "first"'):
        sums.priors.use("frist")


def test_nothing_usable_puts_nothing_in_use(sums: PromptStore, write: Callable[..., Path]) -> None:
    report = import_priors(sums, write({"id": "who", "k": 1, "n": 2}), model="big", use=True)
    assert (report.rejected, report.in_use, sums.priors.sources()) == (1, None, [])
    assert import_priors(sums, write(), model="big").rows == 0


@pytest.mark.parametrize("options", [{"model": " "}, {"model": "m", "n": 0}, {"model": "m", "n": 2**31}])
def test_parameters_are_checked(sums: PromptStore, write: Callable[..., Path], options: Any) -> None:
    with pytest.raises(InvalidParameter):
        import_priors(sums, write({"id": "q0", "rate": 1}), **options)


def test_from_any_format_with_columns_named(sums: PromptStore, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("problem,pass@1,samples\n0 + 0,0.50,8\n1 + 1,1,8\n2 + 2,,8\n")
    columns = {"prompt": "problem", "rate": "pass@1", "n": "samples"}
    report = import_priors(sums, tmp_path / "a.csv", model="big", columns=columns)
    assert (report.added, report.rejected) == (2, 1)
    pq.write_table(pa.table({"problem": ["2 + 2"], "pass@1": [0.25], "samples": [8]}), tmp_path / "a.parquet")
    assert import_priors(sums, tmp_path / "a.parquet", model="big", columns=columns).added == 1
    (tmp_path / "a.json").write_text(json.dumps({"results": [{"id": "q3", "k": 1, "n": 8}]}))
    assert import_priors(sums, tmp_path / "a.json", model="big").added == 1
    assert rates(sums) == [0.5, 1.0, 0.25, 0.125, None, None]
    with pytest.raises(InvalidInput, match='"reward" is no column that can be named'):
        import_priors(sums, tmp_path / "a.json", model="big", columns={"reward": "k"})
    with pytest.raises(InvalidData, match="there is no file"):
        import_priors(sums, tmp_path / "b.json", model="big")


def test_an_interrupted_import_goes_on(sums: PromptStore, write: Callable[..., Path]) -> None:
    path = write(*({"prompt_id": i, "k": 1, "n": 2} for i in range(1, 7)))

    def stop(at: Any) -> None:
        if at.rows >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_priors(sums, path, model="big", progress=stop, chunk=2)
    report = import_priors(sums, path, model="big", chunk=2)
    assert (report.added, report.repeated) == (2, 4)
    assert rates(sums) == [0.5] * 6


def test_a_store_made_before_there_were_priors(tmp_path: Path, write: Callable[..., Path]) -> None:
    with open_store(tmp_path / "old.duckdb", create=True) as store:
        store.prompts.add([NewPrompt("q", False, None, "a")])
        store.connection.execute("drop table priors")
    with open_store(tmp_path / "old.duckdb", read_only=True) as store:
        assert (store.priors.sources(), store.priors.in_use) == ([], None)
    with open_store(tmp_path / "old.duckdb") as store:
        assert import_priors(store, write({"prompt_id": 1, "k": 1, "n": 2}), model="big").added == 1
    with open_store(tmp_path / "old.duckdb", read_only=True) as store:
        assert rates(store) == [0.5]
        with pytest.raises(StoreError):
            store.priors.use("big")


def test_strategies_start_from_them(sums: PromptStore, write: Callable[..., Path]) -> None:
    import_priors(sums, write(*({"prompt_id": i, "k": i, "n": 8} for i in range(1, 7))), model="big")
    scheduler = curri.Scheduler(sums, "mopps", run="r", seed=0)
    assert scheduler.curriculum.pool.prior_rate is not None
    np.testing.assert_allclose(scheduler.curriculum.pool.prior_rate, np.arange(1, 7) / 8)


KNOWN = st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=10)
@given(st.dictionaries(st.integers(1, 6), KNOWN, min_size=1))
def test_what_is_imported_is_kept_exactly(tmp_path_factory: pytest.TempPathFactory, known: dict[int, Any]) -> None:
    folder = tmp_path_factory.mktemp("priors")
    rows = [{"prompt_id": prompt, "k": k, "n": n} for prompt, (k, n) in known.items()]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open_store(folder / "s.duckdb", create=True) as store:
        store.prompts.add([NewPrompt(str(i), False, None, "a") for i in range(6)])
        import_priors(store, folder / "a.jsonl", model="m")
        assert rates(store) == [known[i][0] / known[i][1] if i in known else None for i in range(1, 7)]
