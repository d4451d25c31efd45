"""How far apart the responses to one prompt are: self-BLEU, distinct n-grams, edit distance."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from curri.errors import InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from numpy.typing import NDArray

    from curri.types import Floats, Ints

__all__ = ["Tokens", "distinct_n", "mean_edit_distance", "self_bleu"]

Tokens: TypeAlias = "str | Sequence[Hashable] | NDArray[np.integer]"
"""One response: token ids, any hashable tokens, or a text, which is split into words at white space."""

_UNSEEN = 0.1


def self_bleu(
    sequences: Sequence[Tokens],
    max_order: int = 3,
    *,
    weights: Sequence[float] | None = None,
    pad: Hashable | None = None,
) -> float:
    """Mean BLEU of each sequence against all others: 1 where all are alike. It is a similarity, not a diversity.

    BLEU (Papineni et al., ACL 2002) with k-grams up to ``max_order``. The precision of order k is the number of
    k-grams, each counted at most as often as in the other sequence that has it most, over the number of k-grams (1 at
    least). Without a common 1-gram the score is 0; another numerator that is 0 counts as 0.1 (method 1 of Chen &
    Cherry, WMT 2014). The brevity penalty goes by the other length that is closest, the shorter one of two. Self-BLEU:
    Zhu et al., arXiv 1802.01886.

    Texts in a language that does not put spaces between words should be given as token ids. Padding makes short
    responses look alike; hand in unpadded responses, or name the pad token.

    Args:
        sequences: the responses to one prompt.
        max_order: the longest k-grams, at least 1.
        weights: weight of each order's log precision, ``max_order`` of them; 1/max_order each if None.
        pad: a token that is removed from both ends of every sequence.

    Returns:
        In [0, 1]; 0.0 for fewer than two sequences.

    Raises:
        InvalidParameter: an argument is out of range, or a token is not hashable.

    Example:
        >>> self_bleu(["so x is 4", "so x is 4", "so x is 4"])
        1.0
        >>> self_bleu([[1, 2], [3, 4]]), round(self_bleu([[1, 2, 0, 0, 0, 0], [3, 4, 0, 0, 0, 0]]), 2)
        (0.0, 0.58)
        >>> self_bleu([[1, 2, 0, 0, 0, 0], [3, 4, 0, 0, 0, 0]], pad=0)
        0.0

    """
    orders = _checked_order("max_order", "self_bleu", max_order)
    shares = [1.0 / orders] * orders if weights is None else list(weights)
    if len(shares) != orders or not all(math.isfinite(share) and share >= 0.0 for share in shares):
        raise InvalidParameter(f"`weights` of `self_bleu` must be {orders} floats >= 0; got {weights!r}")
    tokens = _encoded("self_bleu", sequences, pad)
    n = len(tokens)
    if n < 2:
        return 0.0
    log_score = np.zeros(n)
    found = np.ones(n, dtype=np.bool_)
    for order, (gram, owner) in enumerate(_grams(tokens, orders), start=1):
        matches = _matched(gram, owner, n)
        if order == 1:
            found = matches > 0
        precision = np.where(matches > 0, matches, _UNSEEN) / np.maximum(tokens.lengths - order + 1, 1)
        log_score += shares[order - 1] * np.log(precision)
    return float(np.mean(np.where(found, np.exp(log_score + _log_brevity(tokens.lengths)), 0.0)))


def distinct_n(sequences: Sequence[Tokens], n: int = 3, *, pad: Hashable | None = None) -> float:
    """Distinct n-grams over all n-grams, pooled over the sequences (distinct-n, Li et al., NAACL 2016).

    Args:
        sequences: the responses to one prompt; a text is split into words at white space.
        n: length of the n-grams, at least 1.
        pad: a token that is removed from both ends of every sequence.

    Returns:
        In [0, 1], higher for more diverse ones; 0.0 where there is no n-gram.

    Raises:
        InvalidParameter: ``n`` is out of range, or a token is not hashable.

    Example:
        >>> distinct_n([[1, 2, 3, 4], [1, 2, 3, 5]])
        0.75

    """
    order = _checked_order("n", "distinct_n", n)
    tokens = _encoded("distinct_n", sequences, pad)
    *_, (gram, _) = _grams(tokens, order)
    return np.unique(gram).size / gram.size if gram.size else 0.0


def mean_edit_distance(
    sequences: Sequence[Tokens], *, normalize: bool = False, squared: bool = False, pad: Hashable | None = None
) -> float:
    """Mean Levenshtein distance over all pairs of sequences, in tokens.

    A pair costs about the length of the shorter sequence in steps on bit vectors as long as the other one (Myers, J.
    ACM 46, 1999, in the form of Hyyrö, 2003); equal sequences and common beginnings and ends cost nothing.

    Args:
        sequences: the responses to one prompt; a text is split into words at white space.
        normalize: divide each distance by the longer length, which gives values in [0, 1].
        squared: the mean of the squares instead.
        pad: a token that is removed from both ends of every sequence.

    Returns:
        At least 0; 0.0 for fewer than two sequences.

    Raises:
        InvalidParameter: a token is not hashable.

    Example:
        >>> mean_edit_distance([[1, 2, 3], [1, 3], [1, 2, 3]])
        0.6666666666666666
        >>> mean_edit_distance(["a b c d", "a b x d"], normalize=True)
        0.25

    """
    tokens = _encoded("mean_edit_distance", sequences, pad)
    n = len(tokens)
    if n < 2:
        return 0.0
    times = Counter(tuple(part.tolist()) for part in tokens.parts())
    total = 0.0
    for (left, left_times), (right, right_times) in combinations(times.items(), 2):
        distance: float = _levenshtein(left, right)
        if normalize:
            distance /= max(len(left), len(right))
        total += left_times * right_times * (distance * distance if squared else distance)
    return total / (n * (n - 1) // 2)


# ---- tokens ------------------------------------------------------------------------------------------------------


class _Encoded(NamedTuple):
    """Sequences laid end to end, with each token as a number from 0.

    Attributes:
        codes: all tokens, shape (tokens,).
        bounds: where each sequence starts, and the end, shape (sequences + 1,).
    """

    codes: Ints
    bounds: Ints

    def __len__(self) -> int:
        return self.bounds.size - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.bounds)

    def parts(self) -> list[Ints]:
        return np.split(self.codes, self.bounds[1:-1]) if len(self) else []


def _encoded(function: str, sequences: Sequence[Tokens], pad: Hashable | None) -> _Encoded:
    split = [sequence.split() if isinstance(sequence, str) else sequence for sequence in sequences]
    numbers = [_as_integers(sequence) for sequence in split]
    parts: list[Ints] = [part for part in numbers if part is not None]
    pad_code = pad if isinstance(pad, int) else None
    if len(parts) < len(split):
        names: dict[Hashable, int] = {}
        try:
            parts = [np.array([names.setdefault(t, len(names)) for t in part], dtype=np.int64) for part in split]
        except TypeError:
            rule = "must be texts, or sequences of hashable tokens such as ids"
            raise InvalidParameter(f"`sequences` of `{function}` {rule}") from None
        pad_code = names.get(pad) if pad is not None else None
    if pad_code is not None:
        parts = [_stripped(part, pad_code) for part in parts]
    bounds = np.cumsum([0, *(part.size for part in parts)])
    _, codes = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *parts]), return_inverse=True)
    return _Encoded(codes.astype(np.int64), bounds)


def _as_integers(sequence: Sequence[Hashable] | NDArray[np.integer]) -> Ints | None:
    """Token ids as an array; None for other tokens."""
    try:
        if len(sequence) and not isinstance(sequence[0], int | np.integer):
            return None
        array = np.asarray(sequence)
    except (TypeError, ValueError, OverflowError, KeyError):  # no sequence, or one of several kinds of things
        return None
    if not array.size:
        return np.empty(0, dtype=np.int64)
    return array.astype(np.int64) if array.ndim == 1 and array.dtype.kind in "iu" else None


def _stripped(part: Ints, pad: int) -> Ints:
    kept = np.flatnonzero(part != pad)
    return part[kept[0] : kept[-1] + 1] if kept.size else part[:0]


def _checked_order(name: str, function: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidParameter(f"`{name}` of `{function}` must be an int in [1, inf); got {value!r}")
    return int(value)


# ---- n-grams -----------------------------------------------------------------------------------------------------


def _grams(tokens: _Encoded, orders: int) -> Iterator[tuple[Ints, NDArray[np.intp]]]:
    """For each order from 1 the n-grams as numbers from 0, and the sequence each is from."""
    owner = np.repeat(np.arange(len(tokens)), tokens.lengths)
    ends = tokens.bounds[1:][owner]
    place = np.arange(tokens.codes.size)
    gram = tokens.codes
    many = int(gram.max(initial=0)) + 1
    for order in range(1, orders + 1):
        yield gram, owner[place]
        inside = place + order < ends[place]
        place = place[inside]
        longer = gram[inside] * many + tokens.codes[place + order]
        gram = np.unique(longer, return_inverse=True)[1].astype(np.int64)


def _matched(gram: Ints, owner: NDArray[np.intp], n: int) -> Floats:
    """For each sequence the sum over its n-grams of min(count, largest count in another sequence), shape (n,).

    A sequence loses only where it has more of an n-gram than every other one: what it has above the second most.
    """
    keys, counts = np.unique(gram * n + owner, return_counts=True)
    order = np.lexsort((counts, keys // n))
    kind, holder, count = keys[order] // n, keys[order] % n, counts[order]
    most = np.flatnonzero(np.append(kind[1:] != kind[:-1], True)) if kind.size else np.empty(0, dtype=np.intp)
    second = np.where((most > 0) & (kind[most - 1] == kind[most]), count[most - 1], 0)
    above = np.bincount(holder[most], count[most] - second, n)
    return np.asarray(np.bincount(owner, minlength=n) - above)


def _log_brevity(lengths: Ints) -> Floats:
    """Logarithm of BLEU's brevity penalty of each length against the closest one of the others (ties: the shorter)."""
    order = np.argsort(lengths, kind="stable")
    sorted_ = lengths[order].astype(np.float64)
    before = np.concatenate([[-np.inf], sorted_[:-1]])
    after = np.concatenate([sorted_[1:], [np.inf]])
    closest = np.empty(lengths.size)
    closest[order] = np.where(sorted_ - before <= after - sorted_, before, after)
    return np.where(lengths > closest, 0.0, 1.0 - closest / np.maximum(lengths, 1))


# ---- edit distance -----------------------------------------------------------------------------------------------


def _levenshtein(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Insertions, deletions and replacements between two sequences.

    Column by column of the usual table, a column being two bit vectors: where a cell is one more (``up``) or one less
    (``down``) than the cell above it. A Python int holds a whole column, so a step is a dozen operations on it.
    """
    short, long = (left, right) if len(left) <= len(right) else (right, left)
    start, stop = _differing(short, long)
    text, pattern = short[start : len(short) - stop], long[start : len(long) - stop]
    distance = len(pattern)
    if not text:
        return distance
    where: dict[int, int] = {}
    for place, token in enumerate(pattern):
        where[token] = where.get(token, 0) | (1 << place)
    every, last = (1 << len(pattern)) - 1, 1 << (len(pattern) - 1)
    up, down = every, 0
    for token in text:
        equal = where.get(token, 0)
        diagonal = equal | down
        across = (((equal & up) + up) ^ up) | equal
        right_up = down | (every & ~(across | up))
        right_down = up & across
        distance += bool(right_up & last) - bool(right_down & last)
        right_up = (right_up << 1) | 1
        up = every & ((right_down << 1) | ~(diagonal | right_up))
        down = every & right_up & diagonal
    return distance


def _differing(short: tuple[int, ...], long: tuple[int, ...]) -> tuple[int, int]:
    """How many tokens are common at the beginning and, without those, at the end."""
    size = len(short)
    start = next((i for i, pair in enumerate(zip(short, long, strict=False)) if pair[0] != pair[1]), size)
    pairs = zip(reversed(short[start:]), reversed(long[start:]), strict=False)
    return start, next((i for i, pair in enumerate(pairs) if pair[0] != pair[1]), size - start)
