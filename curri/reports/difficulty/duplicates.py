"""Prompts that are there more than once: the same text but for case, spaces and punctuation, or nearly the same words.

Nearly the same means: the same numbers, and of the pairs of neighbouring words at least 80 % in common (Jaccard). They
are found by MinHash (Broder 1997) with bands (locality-sensitive hashing): the cost grows with the words, not with the
pairs of prompts. What the hashes propose is compared exactly. Prompts with fewer than six pairs of words are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from curri.reports.difficulty.evidence import Pool
    from curri.store import PromptStore
    from curri.types import Bools, Ints

    Hashes = NDArray[np.uint64]

__all__ = ["duplicates_of"]

SIMILAR = 0.8
SHOWN = 12
LISTED = 900
"""Ids of one command: a filter has at most 1,000 values and 10,000 characters."""

_LEAST_PAIRS = 6
_BANDS, _ROWS = 12, 3
_PROPOSED = 0.6
_CHUNK = 20_000
_COMPARED = 20_000
_SEED = 20_000_101

_TEXTS = r"""
    with normalised as (
        select prompt_id, arm_id, coalesce(answer, '') as answer, trim(regexp_replace(nfc_normalize(lower(prompt)),
            '(?:\.(?:\s|$)|[\s"''`“”\x{2018}\x{2019}«»„…!?;:,_])+', ' ', 'g')) as text
        from prompts join asked on prompt_id = wanted_id)
    select min(prompt_id) as first, list(prompt_id) as ids, min(answer) != max(answer) as differ,
        min(arm_id) != max(arm_id) as in_arms,
        list_transform(string_split(text, ' '), lambda word: hash(word)) as words,
        hash(array_to_string(list_sort(regexp_extract_all(text, '[0-9]+')), ' ')) as numbers
    from normalised group by text order by first"""


def duplicates_of(store: PromptStore, pool: Pool) -> dict[str, Any]:
    """Groups of prompts that are probably the same, among those that may be picked; the largest ones by their ids."""
    wanted = pool.ids[pool.active]
    with store.connection.all_cores():
        texts = store.connection.arrow(_TEXTS, asked=pa.table({"wanted_id": wanted}))
    same, near = _same(texts), _near(texts)
    spare = [prompt for group in same if not group["differ"] for prompt in group["ids"][1:]]
    return {
        "prompts": int(wanted.size),
        "same": {
            "groups": len(same),
            "surplus": sum(group["prompts"] - 1 for group in same),
            "contradicting": sum(group["differ"] for group in same),
            "shown": [{**group, "ids": group["ids"][:SHOWN]} for group in same[:SHOWN]],
        },
        "near": {
            "similar": SIMILAR,
            "groups": len(near),
            "surplus": sum(group.size - 1 for group in near),
            "shown": [
                {"first": int(group[0]), "prompts": int(group.size), "ids": group[:SHOWN].tolist()}
                for group in near[:SHOWN]
            ],
        },
        "spare": len(spare),
        "spare_ids": sorted(spare)[:LISTED],
    }


def _same(texts: pa.Table) -> list[dict[str, Any]]:
    """Groups with one text, the largest first."""
    ids = texts.column("ids").combine_chunks()
    repeated = np.flatnonzero(np.diff(ids.offsets.to_numpy()) > 1) if len(ids) else np.empty(0, dtype=np.int64)
    rows = texts.select(["first", "ids", "differ", "in_arms"]).take(pa.array(repeated)).to_pylist()
    groups = [{**row, "ids": sorted(row["ids"]), "prompts": len(row["ids"])} for row in rows]
    return sorted(groups, key=lambda group: (-group["prompts"], group["first"]))


def _near(texts: pa.Table) -> list[Ints]:
    """Groups of ids that are nearly the same, the largest first; ids ascending in each."""
    ids: Ints = texts.column("first").to_numpy()
    if not ids.size:
        return []
    words = texts.column("words").combine_chunks()
    starts, pairs = _pairs(words.offsets.to_numpy(), words.values.to_numpy())
    enough = np.flatnonzero(np.diff(starts) >= _LEAST_PAIRS)
    if enough.size < 2:
        return []
    numbers: Hashes = texts.column("numbers").to_numpy()[enough]
    left, right = _proposed(_signatures(starts, pairs, enough), numbers)
    keep = _similar(starts, pairs, enough[left], enough[right])
    return _joined(ids[enough], left[keep], right[keep])


def _pairs(offsets: Ints, words: Hashes) -> tuple[Ints, Hashes]:
    """Hashes of the pairs of neighbouring words of each prompt, behind each other, and where each prompt begins."""
    begins = offsets - offsets[0]
    words = words[offsets[0] : offsets[-1]]
    pairs = words[:-1] * np.uint64(0x9E3779B97F4A7C15) + words[1:]
    inside = np.ones(pairs.size, dtype=np.bool_)
    inside[begins[1:-1] - 1] = False  # from the last word of a prompt to the first one of the next
    lengths = np.maximum(np.diff(begins) - 1, 0)
    return np.concatenate([[0], np.cumsum(lengths)]), pairs[inside]


def _held(starts: Ints, pairs: Hashes, prompts: Ints) -> tuple[Hashes, Ints, Ints]:
    """The pairs of some prompts behind each other, where each begins, and how many it has."""
    lengths = starts[prompts + 1] - starts[prompts]
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return pairs[np.arange(lengths.sum()) + np.repeat(starts[prompts] - begins, lengths)], begins, lengths


def _signatures(starts: Ints, pairs: Hashes, wanted: Ints) -> NDArray[np.uint32]:
    """The smallest of each of 36 hashes over the pairs of each wanted prompt, shape (wanted, 36)."""
    rng = np.random.default_rng(_SEED)
    size = _BANDS * _ROWS
    factors = rng.integers(0, 2**63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    terms = rng.integers(0, 2**63, size, dtype=np.uint64)
    found = np.empty((wanted.size, size), dtype=np.uint32)
    for first in range(0, wanted.size, _CHUNK):
        mine, begins, _ = _held(starts, pairs, wanted[first : first + _CHUNK])
        for column in range(size):
            hashed = (mine * factors[column] + terms[column]) >> np.uint64(32)
            found[first : first + _CHUNK, column] = np.minimum.reduceat(hashed, begins)
    return found


def _proposed(signatures: NDArray[np.uint32], numbers: Hashes) -> tuple[Ints, Ints]:
    """Pairs of prompts, the first of a bucket with each other one of it, whose signatures agree in most places."""
    n = len(signatures)
    codes = []
    for band in range(_BANDS):
        key = numbers.copy()
        for column in range(band * _ROWS, (band + 1) * _ROWS):
            key = (key ^ signatures[:, column]) * np.uint64(0xBF58476D1CE4E5B9)
            key ^= key >> np.uint64(29)
        _, leader, bucket = np.unique(key, return_index=True, return_inverse=True)
        first = leader[bucket]
        member = np.flatnonzero(first != np.arange(n))
        codes.append(first[member] * n + member)
    code = np.unique(np.concatenate(codes))
    left, right = code // n, code % n
    agree = np.concatenate(
        [
            (signatures[left[at : at + _CHUNK]] == signatures[right[at : at + _CHUNK]]).mean(axis=1)
            for at in range(0, left.size, _CHUNK)
        ]
        or [np.empty(0)]
    )
    keep = (agree >= _PROPOSED) & (numbers[left] == numbers[right])
    return left[keep], right[keep]


def _similar(starts: Ints, pairs: Hashes, left: Ints, right: Ints) -> Bools:
    """Which have at least so much in common, exactly."""
    found = np.zeros(left.size, dtype=np.bool_)
    for at in range(0, left.size, _COMPARED):
        a, b = left[at : at + _COMPARED], right[at : at + _COMPARED]
        values, _, lengths = _held(starts, pairs, np.concatenate([a, b]))
        owner = np.repeat(np.tile(np.arange(a.size), 2), lengths)
        side = np.repeat(np.repeat([0, 1], a.size), lengths)
        order = np.lexsort((side, values, owner))
        owner, values, side = owner[order], values[order], side[order]
        same = (owner[1:] == owner[:-1]) & (values[1:] == values[:-1])
        shared = np.bincount(owner[1:][same & (side[1:] != side[:-1])], minlength=a.size)
        distinct = np.bincount(owner[1:][~(same & (side[1:] == side[:-1]))], minlength=a.size)
        distinct[owner[0]] += 1
        found[at : at + _COMPARED] = shared >= SIMILAR * (distinct - shared)
    return found


def _joined(ids: Ints, left: Ints, right: Ints) -> list[Ints]:
    """Prompts that hang together."""
    label = np.arange(ids.size)
    while True:
        low = np.minimum(label[left], label[right])
        before = label.copy()
        np.minimum.at(label, left, low)
        np.minimum.at(label, right, low)
        label = label[label]
        if np.array_equal(before, label):
            break
    members = np.unique(np.concatenate([left, right]))
    order = members[np.argsort(label[members], kind="stable")]
    bounds = np.flatnonzero(np.diff(label[order])) + 1
    groups = [ids[group] for group in np.split(order, bounds)] if order.size else []
    return sorted(groups, key=lambda group: (-group.size, int(group[0])))
