"""Vectors: embeddings by key, with exact nearest-neighbour search.

Promises

- Stored are the numbers as little-endian float32, 4 bytes each; the content of which a receipt speaks is these bytes.
- The search is exact: every vector of the space is compared, chunk by chunk, so memory stays flat however many there
are.
- Scores and their order do not depend on whether numpy is installed (`_nearest`).
"""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._records import Content
from memoryos_uow.stores._nearest import METRICS, nearest
from memoryos_uow.stores._record_table import RecordStore, check_k, refuse_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Home, Reader, Transaction, Write
    from memoryos_uow.errors import UsageError

DIMENSIONS_MAX: Final = 1 << 20
"""Most dimensions a store may be made for; how many a ledger takes is for its limits to say, usually far less."""

_PLAIN: Final = frozenset({float, int})


class VectorStore(RecordStore):
    """Vectors of `dimensions` real numbers each, by key.

    A value may be a list, tuple or other sequence, an ``array.array`` or a one-dimensional numpy array, of integers
    or floats; `get` returns a list of floats, each rounded to float32 once, when it was written. `metric` is how near
    two vectors are: ``cosine`` (direction only, so no vector may be zero) or ``l2`` (Euclidean distance). Both are
    recorded in the ledger and stay for ever.

    Raises:
        UsageError: a bad store name, number of dimensions or metric.
    """

    kind: ClassVar[str] = "vectors"
    _table = "uow_vectors"
    _columns = ("value",)

    def __init__(self, name: str, *, dimensions: int, metric: Literal["cosine", "l2"] = "cosine") -> None:
        super().__init__(name)
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= DIMENSIONS_MAX:
            raise self._refusal(
                f"The dimensions of a vector store must be a whole number from 1 to {DIMENSIONS_MAX:,}.",
                "Correct the call.",
            )
        if not isinstance(metric, str) or metric not in METRICS:
            raise self._refusal("The metric of a vector store is 'cosine' or 'l2'.", "Correct the call.")
        self.dimensions: Final = dimensions
        self.metric: Final = metric
        self._format = struct.Struct(f"<{dimensions}f")

    def __repr__(self) -> str:
        return f"VectorStore({self._name!r}, dimensions={self.dimensions}, metric={self.metric!r})"

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Compare dimensions and metric with what is recorded; return whether they are still to be recorded.

        Raises:
            UsageError: they differ.
        """
        self._compare(recorded)
        return recorded is None

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Return ``{"dimensions": ..., "metric": ...}``.

        Raises:
            UsageError: another process recorded something else in the meantime.
        """
        self._compare(recorded)
        return {"dimensions": self.dimensions, "metric": self.metric}

    def _compare(self, recorded: Mapping[str, Any] | None) -> None:
        if recorded is None:
            return
        dimensions, metric = recorded["dimensions"], recorded["metric"]
        if (dimensions, metric) != (self.dimensions, self.metric):
            raise self._refusal(
                f"The store {self._name!r} of this ledger holds vectors of {dimensions} dimensions with the metric"
                f" {metric!r}, not {self.dimensions} with {self.metric!r}.",
                "Open it as it is, or use another name for the new vectors.",
            )

    # Values

    def _encode(self, value: object, limits: Limits) -> tuple[bytes, Content]:
        if self.dimensions > limits.vector_dimensions:
            raise self._refusal(
                f"Vectors of {self.dimensions:,} dimensions are longer than the limit of {limits.vector_dimensions:,}.",
                "Open the ledger with other limits, or use shorter vectors.",
            )
        packed = self._pack(value, "vector")
        return packed, Content(len(packed), sha256_hex(packed))

    def _columns_of(self, payload: bytes) -> tuple[bytes]:
        return (payload,)

    def _value(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> list[float]:
        return list(self._unpack(columns[0]))

    def save(self, write: Write) -> bytes:
        """Return the vector as it is stored."""
        packed: bytes = write.payload
        return packed

    def load(self, saved: bytes) -> bytes:
        """Return the vector as it is stored."""
        return saved

    def _overlay(self, payload: bytes) -> list[float]:
        return list(self._unpack(payload))

    def _unpack(self, stored: Any) -> tuple[float, ...]:
        if not isinstance(stored, bytes) or len(stored) != self._format.size:
            raise self._damaged()
        return self._format.unpack(stored)

    def _pack(self, value: object, what: str) -> bytes:
        """Return `value` as float32 bytes, or raise UsageError; `what` names it there."""
        numbers = self._numbers(value, what)
        if len(numbers) != self.dimensions:
            raise self._refusal(
                f"The {what} is {len(numbers):,} long; the store {self._name!r} holds vectors of {self.dimensions:,}.",
                "Use the embedding model for which the store was made.",
            )
        try:
            finite = all(map(math.isfinite, numbers))
            packed = self._format.pack(*numbers)
        except OverflowError:
            raise self._too_large(what) from None
        if not finite:
            raise self._refusal(f"The {what} has NaN or an infinity in it.", "Find out where the embedding went wrong.")
        if self.metric == "cosine" and not any(self._format.unpack(packed)):
            raise self._refusal(
                f"The {what} is zero as float32, and zero has no direction.",
                "Leave the record out, or use metric='l2'.",
            )
        return packed

    def _numbers(self, value: object, what: str) -> list[Any]:
        """Return the numbers of `value` as a list of int and float, however it holds them."""
        ndarray = getattr(sys.modules.get("numpy"), "ndarray", ())  # an array can only come from an imported numpy
        if isinstance(value, ndarray):
            if value.ndim != 1 or value.dtype.kind not in "fiu":
                raise self._refusal(
                    f"The {what} is a numpy array of {value.ndim} dimensions and dtype {value.dtype}.",
                    "Pass one dimension of real numbers.",
                )
            numbers: list[Any] = value.tolist()
        elif isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, (Sequence, array)):
            raise self._refusal(
                f"The {what} must be a list, tuple, array or one-dimensional numpy array, not {type(value).__name__}.",
                "Where the object has it, pass .tolist().",
            )
        else:
            numbers = list(value)
        if not _PLAIN.issuperset(map(type, numbers)):
            numbers = [self._real(number, position, what) for position, number in enumerate(numbers)]
        return numbers

    def _real(self, number: object, position: int, what: str) -> float:
        # A boolean counts as a number in Python; in a vector it is more likely a mistake.
        if isinstance(number, Real) and not isinstance(number, bool):
            try:
                return float(number)
            except OverflowError:
                raise self._too_large(what) from None
        raise self._refusal(
            f"The {what} has a {type(number).__name__} at position {position}, not a real number.",
            "Pass integers and floats only.",
        )

    def _too_large(self, what: str) -> UsageError:
        return self._refusal(f"The {what} has a number beyond the range of float32, about 3.4e38.", "Scale the vector.")

    # Searching

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Return the `k` vectors of the space nearest to the vector `query`; equal scores in the order of keys.

        The score is the cosine similarity, from -1 to 1, or minus the Euclidean distance; greater is nearer. There
        are no options.

        Raises:
            UsageError: `query` is no vector for this store, `k` is not a positive whole number, or an option was given.
            StoreError: a stored vector was changed from outside.
        """
        k = check_k(k, self._name)
        refuse_options(options, (), self._name)
        wanted = self._format.unpack(self._pack(query, "query"))
        try:
            return nearest(self.metric, wanted, reader.stream(self._sql.scan, (self._name, space_id)), k)
        except ValueError:
            pass  # the text of a damaged number is of no use to anybody
        raise self._damaged()
