"""Exact nearest-neighbour search over rows that stream by.

Promises

- Memory holds one chunk and the best `k`, however many rows there are.
- Scores and order are the same with and without numpy, to the last bit. numpy only leaves out rows that cannot be
  among the best, with a margin for its rounding; the score of every row left is computed here from exactly rounded
  sums (`math.fsum`; the product of two float32 is exact in a float64). So equal vectors have equal scores as well,
  which sums by a matrix library have not, and ties are decided by key alone.
"""

from __future__ import annotations

import heapq
import math
import struct
from itertools import chain, islice
from operator import mul, sub
from typing import TYPE_CHECKING, Any, Final, Protocol

from memoryos_uow._records import Hit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

_CHUNK_NUMBERS: Final = 1 << 18
"""Numbers per chunk: 1 MiB of float32, twice that as float64."""


class _Metric(Protocol):
    """How near a vector is to the query it was made for."""

    def __init__(self, query: tuple[float, ...]) -> None: ...

    def score(self, vector: tuple[float, ...]) -> float:
        """Return the exact score, greater is nearer; NaN or an infinity if there is none."""
        ...

    def approximate(self, numpy: Any, rows: Any) -> tuple[Any, Any]:
        """Return approximate scores of the `rows` of a float64 matrix, and how far each may be off at most."""
        ...


class _Cosine:
    def __init__(self, query: tuple[float, ...]) -> None:
        self._query = query
        self._square = math.fsum(map(mul, query, query))
        self._margin = _margin(len(query))

    def score(self, vector: tuple[float, ...]) -> float:
        square = math.fsum(map(mul, vector, vector))
        if not 0 < square < math.inf:
            return math.nan
        # One root of the product, not two roots: so a vector compared with itself scores exactly 1.
        score = math.fsum(map(mul, self._query, vector)) / math.sqrt(self._square * square)
        return max(-1.0, min(1.0, score))

    def approximate(self, numpy: Any, rows: Any) -> tuple[Any, Any]:
        squares = numpy.einsum("ij,ij->i", rows, rows)
        scores = rows @ numpy.array(self._query) / numpy.sqrt(self._square * squares)
        return scores, numpy.full_like(scores, self._margin)


class _L2:
    def __init__(self, query: tuple[float, ...]) -> None:
        self._query = query
        self._margin = _margin(len(query))

    def score(self, vector: tuple[float, ...]) -> float:
        differences = tuple(map(sub, self._query, vector))
        return -math.sqrt(math.fsum(map(mul, differences, differences)))

    def approximate(self, numpy: Any, rows: Any) -> tuple[Any, Any]:
        differences = rows - numpy.array(self._query)
        distances = numpy.sqrt(numpy.einsum("ij,ij->i", differences, differences))
        return -distances, distances * self._margin


METRICS: Final[dict[str, type[_Metric]]] = {"cosine": _Cosine, "l2": _L2}


def _margin(dimensions: int) -> float:
    # The error of a sum of n products in any order is at most n * 2**-53 of the sum of their sizes (Higham, Accuracy
    # and Stability of Numerical Algorithms, section 3.1), that is of the product of the lengths; a few roundings
    # follow. Four times that is on the safe side and still leaves next to nothing to compute again.
    return (dimensions + 16) * 2.0**-51


def nearest(metric: str, query: tuple[float, ...], rows: Iterable[tuple[str, bytes]], k: int) -> list[Hit]:
    """Return the best `k` of `rows` (key, little-endian float32), best first, equal scores in the order of keys.

    Raises:
        ValueError: a row is not a finite vector of the query's length, or for cosine is zero.
    """
    measure = METRICS[metric](query)
    unpack = struct.Struct(f"<{len(query)}f")
    numpy = _numpy()
    best: list[Hit] = []
    for chunk in _chunks(rows, max(1, _CHUNK_NUMBERS // len(query))):
        if any(not isinstance(stored, bytes) or len(stored) != unpack.size for _, stored in chunk):
            raise ValueError("a row of another length")
        if numpy is not None:
            chunk = _promising(numpy, measure, chunk, best, k)  # noqa: PLW2901 - the same rows, fewer of them
        hits = (Hit(key, _finite(measure.score(unpack.unpack(stored)))) for key, stored in chunk)
        best = heapq.nsmallest(k, chain(best, hits), key=_rank)
    return best


def _rank(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.key


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise ValueError("a row without a score")
    return score


def _chunks(rows: Iterable[tuple[str, bytes]], length: int) -> Iterator[list[tuple[str, bytes]]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, length)):
        yield chunk


def _numpy() -> ModuleType | None:
    """Return numpy where it is installed; imported at the first search, for it takes a tenth of a second."""
    try:
        import numpy as np  # noqa: PLC0415
    except ImportError:
        return None
    return np


def _promising(
    numpy: Any, measure: _Metric, chunk: list[tuple[str, bytes]], best: list[Hit], k: int
) -> list[tuple[str, bytes]]:
    """Return the rows of `chunk` that may be among the best `k`, of which `best` are those found before it."""
    packed = b"".join(stored for _, stored in chunk)
    rows = numpy.frombuffer(packed, dtype="<f4").reshape(len(chunk), -1).astype(numpy.float64)
    with numpy.errstate(all="ignore"):
        scores, margins = measure.approximate(numpy, rows)
    if not numpy.isfinite(scores).all():
        raise ValueError("a row without a score")
    # At least k rows score no less than the k-th greatest of the least possible scores.
    floor = best[-1].score if len(best) == k else -math.inf
    if k <= len(chunk):
        floor = max(floor, float(numpy.partition(scores - margins, -k)[-k]))
    return [chunk[number] for number in numpy.flatnonzero(scores + margins >= floor)]
