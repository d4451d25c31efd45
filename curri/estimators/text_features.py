"""Numbers that describe a prompt, from its text alone: hashed n-grams, and counts that difficulty tends to follow.

Everything is computed for a whole batch at once over the bytes of its texts, so the cost is that of a few passes over
them. The same text gives the same features in every process.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from curri.errors import InvalidParameter
from curri.estimators.value_model import prompt_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from curri.types import Bools, Floats, Ints, Prompt

__all__ = ["NUMBER_NAMES", "TextFeatures", "text_features"]

LONGEST = 8192
"""Characters of a prompt that are read: of a longer one the first and the last half of that many."""
CHUNK = 1 << 20
"""Bytes of text that are worked on at once, to bound memory."""

_SIGNS = "+-*/^=<>()[]{},;:.?!'\"|&%$#~\\\n"
_SIGN_NAMES = tuple("newline" if sign == "\n" else sign for sign in _SIGNS)
_COUNTS = ("bytes", "tokens", "words", "longest word", "mean word", "distinct tokens", "capitals", "capital runs")
_NUMBERS = (
    "numbers",
    "digits",
    "longest number",
    "mean digits",
    "largest number",
    "mean magnitude",
    "spread of magnitudes",
    "summed magnitude",
    "decimals",
    "longest decimals",
)
_LAYOUT = ("depth of brackets", "turns", "media")
NUMBER_NAMES = (*_COUNTS, *_NUMBERS, *(f"count of {name}" for name in _SIGN_NAMES), *_LAYOUT)
"""Names of the columns of ``TextFeatures.numbers``."""

_EXACT_DIGITS = 15
_CHARACTERS = 3
_FAMILIES = 3


def _table(letters: bytes | range) -> Bools:
    table = np.zeros(256, dtype=np.bool_)
    table[list(letters)] = True
    return table


_DIGIT = _table(b"0123456789")
_CAPITAL = _table(range(ord("A"), ord("Z") + 1))
_SPACE = _table(b" \t\n\v\f\r")
_WORD = _DIGIT | _CAPITAL | _table(range(ord("a"), ord("z") + 1)) | _table(b"_") | _table(range(128, 256))
_MARK = ~_WORD & ~_SPACE
# Capitals as small letters, every digit as 0: "Buy 17" and "buy 23" are the same words; how long numbers are stays.
_SHAPE = np.arange(256, dtype=np.uint8)
_SHAPE[_CAPITAL] += 32
_SHAPE[_DIGIT] = ord("0")
_SIGN_CODE = np.full(256, len(_SIGNS))
_SIGN_CODE[list(_SIGNS.encode())] = np.arange(len(_SIGNS))
_BRACKET = _table(b"([{").astype(np.int64) - _table(b")]}").astype(np.int64)

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 2**64)


class TextFeatures(NamedTuple):
    """Features of prompts.

    Attributes:
        hashed: signed counts of hashed n-grams, sublinear and of about the same length for every prompt, in units of
            1/``HASHED_SCALE``, shape (_B, n_hashed), int8.
        numbers: log(1 + x) of the quantities in ``NUMBER_NAMES``, shape (_B, len(NUMBER_NAMES)), float32.
    """

    hashed: NDArray[np.int8]
    numbers: NDArray[np.float32]


HASHED_SCALE = float(127.0 / np.sqrt(_FAMILIES))
"""What ``TextFeatures.hashed`` is divided by to have rows of a length of about 1."""


def text_features(prompts: Sequence[Prompt], n_hashed: int) -> TextFeatures:
    """Describe prompts by what they say.

    Hashed are words, pairs of neighbouring words and runs of three characters, case and digits' values aside: each has
    a place and a sign by its hash, and a place holds sign · log(1 + abs(sum)). Rows of each of the three families are
    brought to length 1 and added up.

    Args:
        prompts: shape (_B,).
        n_hashed: places for n-grams, ≥ 1.

    Raises:
        InvalidParameter: ``n_hashed`` is below 1.

    >>> from curri import Prompt
    >>> features = text_features([Prompt(1, "What is 17 + 2305?", None, "sums", {})], 64)
    >>> features.hashed.shape
    (1, 64)
    >>> round(float(np.expm1(features.numbers[0, NUMBER_NAMES.index("longest number")])))
    4
    """
    if n_hashed < 1:
        raise InvalidParameter(f"`n_hashed` of `text_features` must be an int in [1, inf); got {n_hashed!r}")
    hashed = np.zeros((len(prompts), n_hashed), dtype=np.int8)
    numbers = np.zeros((len(prompts), len(NUMBER_NAMES)), dtype=np.float32)
    texts = [_shortened(prompt_text(prompt)).encode("utf-8", "surrogatepass") + b"\n" for prompt in prompts]
    for start, stop in _chunks([len(text) for text in texts]):
        batch = _Bytes(texts[start:stop])
        tokens = batch.tokens()
        hashed[start:stop] = _hashed(batch, tokens, n_hashed)
        columns = [*_counts(batch, tokens), *_number_columns(batch), *_sign_counts(batch), _depth(batch)]
        numbers[start:stop, : len(columns)] = np.log1p(np.stack(columns, axis=1))
    numbers[:, -2:] = np.log1p(np.array([_turns_and_media(prompt) for prompt in prompts]).reshape(-1, 2))
    return TextFeatures(hashed, numbers)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n{text[-LONGEST // 2 :]}"


def _chunks(sizes: list[int]) -> list[tuple[int, int]]:
    """Consecutive pieces of about ``CHUNK`` bytes as (start, stop)."""
    ends = np.cumsum(sizes)
    piece = ends // CHUNK
    edges = np.flatnonzero(np.diff(piece)) + 1
    bounds = [0, *edges.tolist(), len(sizes)] if sizes else []
    return list(itertools.pairwise(bounds))


def _turns_and_media(prompt: Prompt) -> tuple[int, int]:
    if isinstance(prompt.prompt, str):
        return 1, 0
    contents = [message.get("content") for message in prompt.prompt]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return len(contents), sum(1 for part in parts if not (isinstance(part, dict) and "text" in part))


class _Tokens(NamedTuple):
    """Words and single marks: where each stands, its row, its hash; all of shape (tokens,)."""

    row: Ints
    hash: NDArray[np.uint64]


class _Bytes:
    """The bytes of several texts, one after the other, each with a newline at its end."""

    def __init__(self, texts: list[bytes]) -> None:
        lengths = np.array([len(text) for text in texts])
        self.n_rows = len(texts)
        self.data = np.frombuffer(b"".join(texts), dtype=np.uint8)
        self.row = np.repeat(np.arange(self.n_rows), lengths)
        self.first = np.cumsum(lengths) - lengths
        powers = np.full(self.data.size, np.uint64(_BASE))
        powers[0] = np.uint64(1)
        letters = _SHAPE[self.data].astype(np.uint64) + np.uint64(1)
        sums = np.cumsum(letters * np.cumprod(powers))
        self._sums = np.concatenate([np.zeros(1, dtype=np.uint64), sums])
        powers[1:] = np.uint64(_INVERSE)
        self._inverse = np.cumprod(powers)

    def hash(self, start: Ints, stop: Ints) -> NDArray[np.uint64]:
        """A hash of what stands from ``start`` to ``stop``, wherever that is: a polynomial in the letters."""
        return _mixed((self._sums[stop] - self._sums[start]) * self._inverse[start])

    def runs(self, mask: Bools) -> tuple[Ints, Ints]:
        """Where runs of true values start and stop; none crosses from one text to the next, for want of newlines."""
        edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
        return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)

    def tokens(self) -> _Tokens:
        """Every word, and every mark that is neither word nor space as a token of its own."""
        word, mark = _WORD[self.data], _MARK[self.data]
        edges = np.diff(word.astype(np.int8), prepend=0, append=0)
        start = np.flatnonzero(mark | (edges[:-1] == 1))
        stop = np.flatnonzero(mark | (edges[1:] == -1)) + 1
        return _Tokens(self.row[start], self.hash(start, stop))

    def count(self, rows: Ints, weights: Floats | Ints | None = None) -> Floats:
        """How often each row comes, or the sum of the weights there, shape (rows,)."""
        return np.bincount(rows, weights, self.n_rows).astype(np.float64)

    def largest(self, rows: Ints, values: Floats | Ints) -> Floats:
        """The largest value of each row, 0 where there is none."""
        largest = np.zeros(self.n_rows)
        np.maximum.at(largest, rows, values)
        return largest


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def _hashed(batch: _Bytes, tokens: _Tokens, n_hashed: int) -> NDArray[np.int8]:
    neighbours = tokens.row[1:] == tokens.row[:-1]
    pairs = (tokens.hash[:-1] * np.uint64(3) + tokens.hash[1:])[neighbours]
    start = np.arange(max(batch.data.size - _CHARACTERS + 1, 0))
    start = start[batch.row[start] == batch.row[start + _CHARACTERS - 1]]
    families = (
        (tokens.row, tokens.hash),
        (tokens.row[1:][neighbours], pairs),
        (batch.row[start], batch.hash(start, start + _CHARACTERS)),
    )
    total = np.zeros((batch.n_rows, n_hashed))
    for number, (rows, hashes) in enumerate(families):
        total += _folded(rows, _mixed(hashes + np.uint64(number)), batch.n_rows, n_hashed)
    return np.asarray(np.rint(total * (HASHED_SCALE / np.sqrt(_FAMILIES))), dtype=np.int8)


def _folded(rows: Ints, hashes: NDArray[np.uint64], n_rows: int, n_hashed: int) -> Floats:
    place = (hashes % np.uint64(n_hashed)).astype(np.int64)
    sign = np.where(hashes >> np.uint64(63), 1.0, -1.0)
    sums = np.bincount(rows * n_hashed + place, sign, n_rows * n_hashed).reshape(n_rows, n_hashed)
    sublinear = np.sign(sums) * np.log1p(np.abs(sums))
    length = np.sqrt(np.square(sublinear).sum(axis=1, keepdims=True))
    return np.asarray(sublinear / np.where(length > 0.0, length, 1.0))


def _counts(batch: _Bytes, tokens: _Tokens) -> list[Floats]:
    start, stop = batch.runs(_WORD[batch.data])
    rows, length = batch.row[start], stop - start
    words = batch.count(rows)
    capital = _CAPITAL[batch.data]
    order = np.lexsort((tokens.hash, tokens.row))
    row, name = tokens.row[order], tokens.hash[order]
    new = np.ones(row.size, dtype=np.bool_)
    new[1:] = (row[1:] != row[:-1]) | (name[1:] != name[:-1])
    return [
        batch.count(batch.row),
        batch.count(tokens.row),
        words,
        batch.largest(rows, length),
        batch.count(rows, length) / np.maximum(words, 1.0),
        batch.count(row[new]),
        batch.count(batch.row[capital]),
        batch.count(batch.row[batch.runs(capital)[0]]),
    ]


def _number_columns(batch: _Bytes) -> list[Floats]:
    """The columns of ``_NUMBERS``. Digits behind "3." are decimals of that 3, not a number of their own."""
    start, stop = batch.runs(_DIGIT[batch.data])
    before = np.maximum(start - 1, 0)
    decimal = (batch.data[before] == ord(".")) & np.isin(before, stop)
    behind, places = batch.row[start[decimal]], (stop - start)[decimal]
    start, stop = start[~decimal], stop[~decimal]
    rows, digits = batch.row[start], stop - start
    magnitude = _magnitude(batch.data, start, stop)
    numbers, summed = batch.count(rows), batch.count(rows, magnitude)
    mean = summed / np.maximum(numbers, 1.0)
    variance = batch.count(rows, np.square(magnitude - mean[rows])) / np.maximum(numbers, 1.0)
    return [
        numbers,
        batch.count(rows, digits),
        batch.largest(rows, digits),
        batch.count(rows, digits) / np.maximum(numbers, 1.0),
        batch.largest(rows, magnitude),
        mean,
        np.sqrt(variance),
        summed,
        batch.count(behind),
        batch.largest(behind, places),
    ]


def _magnitude(data: NDArray[np.uint8], start: Ints, stop: Ints) -> Floats:
    """log10(1 + value) of runs of digits; beyond 15 digits each counts as a factor of ten."""
    value = np.zeros(start.size)
    for place in range(_EXACT_DIGITS):
        here = start + place
        digit = data[np.minimum(here, data.size - 1)].astype(np.float64) - ord("0")
        value = np.where(here < stop, 10.0 * value + digit, value)
    return np.asarray(np.log10(1.0 + value) + np.maximum(stop - start - _EXACT_DIGITS, 0))


def _sign_counts(batch: _Bytes) -> list[Floats]:
    width = len(_SIGNS) + 1
    counts = np.bincount(batch.row * width + _SIGN_CODE[batch.data], minlength=batch.n_rows * width)
    return list(counts.reshape(batch.n_rows, width)[:, :-1].T.astype(np.float64))


def _depth(batch: _Bytes) -> Floats:
    """How deep brackets stand in one another."""
    depth = np.cumsum(_BRACKET[batch.data])
    before = depth[batch.first] - _BRACKET[batch.data[batch.first]]
    return np.asarray(np.maximum(np.maximum.reduceat(depth, batch.first) - before, 0.0))
