"""What the ledger says about units and writes, and what stores answer: frozen records, no behaviour."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from memoryos_uow.receipts import Receipt


class Hit(NamedTuple):
    """One answer of a search, best first."""

    key: str
    score: float
    """Greater is better: cosine similarity in [-1, 1], minus the L2 distance, or minus SQLite's bm25()."""


class Content(NamedTuple):
    """The exact bytes a store keeps for one write, as a length and a digest."""

    bytes_written: int
    sha256: str
    """64 lower-case hex digits."""


class Held(NamedTuple):
    """A record as a store holds it, for the comparison with receipts."""

    space_id: str | None
    """None where all spaces share the store's records."""
    key: str | None
    """None for something out of order that belongs to no record."""
    content: Content | None
    """Of what lies there now; None where the record is known and its bytes are missing."""
    problem: str | None = None
    """What else is out of order, as a clause such as ``its full-text entry is missing``: never any content."""


class Found(NamedTuple):
    """A record as a store holds it."""

    value: Any
    version: object
    """Changes with every change of the record; compared for equality only (lost-update protection)."""


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """One row of ``uow_writes``: the specification's columns by name."""

    id: int
    uow_id: str
    store_name: str
    record_id: str | None
    ts: str
    operation_type: str | None = None
    bytes_written: int | None = None
    checksum: str | None = None


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """One row of ``unit_of_work``: the specification's columns by name, then what this library keeps beside them.

    Times are RFC 3339 UTC text; ``*_ms`` are whole milliseconds rounded half up, ``*_us`` microseconds. A 1.0.0 row,
    and a timing that was not filled in because the process died right after its commit, holds None there.
    """

    uow_id: str
    envelope_id: str | None
    status: str
    created_ts: str
    committed_ts: str | None
    total_execution_time_ms: int | None = None
    commit_time_ms: int | None = None
    store_count: int | None = None
    total_bytes_written: int | None = None
    retry_count: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    failed_store: str | None = None
    error_ts: str | None = None
    recovery_attempted: int | None = None
    receipt_hash: str | None = None
    receipt_signature: str | None = None
    space_id: str | None = None
    actor_id: str | None = None
    device_id: str | None = None
    correlation_id: str | None = None
    band: str | None = None
    contract_version: str | None = None
    writes: tuple[WriteRecord, ...] = ()
    commit_seq: int | None = field(default=None, kw_only=True)
    execution_us: int | None = field(default=None, kw_only=True)
    commit_us: int | None = field(default=None, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the specification's columns and ``writes`` as plain JSON values.

        The result validates against ``schema/unit_of_work_enhanced.schema.json``.
        """
        record = asdict(self)
        for ours in ("commit_seq", "execution_us", "commit_us"):
            del record[ours]
        record["writes"] = list(record["writes"])
        return record


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks one of the specification's five contract validations."""

    rule: str
    """``metrics``, ``error``, ``receipt``, ``band`` or ``version``."""
    uow_id: str | None
    detail: str
    """One sentence with the column and its value."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery did, as ids of units."""

    rolled_forward: tuple[str, ...] = ()
    """Decided by a process that did not come to publish them everywhere: now every store holds them."""
    rolled_back: tuple[str, ...] = ()
    """Left without a decision by a process that died: recorded as failed, and nothing of them is left."""
    in_doubt: tuple[str, ...] = ()
    """A store did not answer, or is not registered, or an erasure left traces: kept, and tried again by the next."""

    def __add__(self, other: RecoveryReport) -> RecoveryReport:
        return RecoveryReport(
            self.rolled_forward + other.rolled_forward,
            self.rolled_back + other.rolled_back,
            self.in_doubt + other.in_doubt,
        )


@dataclass(frozen=True, slots=True)
class Erasure:
    """What `Ledger.erase` did. It is decided in any case; `complete` says whether nothing is left anywhere."""

    uow_id: str
    """The tombstone: the unit that erased the record."""
    receipt: Receipt
    """The tombstone's receipt, which says what was sealed and not which record it was."""
    sealed: int
    """How many earlier writes of the record were sealed."""
    forgotten: int = 0
    """How many units lost their id, because they had written nothing but erased records."""
    kept: int = 0
    """How many units kept theirs, although ids were to be forgotten: receipts of other records need it."""
    messages: int = 0
    """How many messages of units that wrote the record are not delivered yet: they may tell of it, and were left."""
    remaining: tuple[str, ...] = ()
    """Where traces may still be: a store that did not answer, or the ledger's file while others read or write it."""

    @property
    def complete(self) -> bool:
        """Whether nothing is left of the record. If not, opening the ledger and `Ledger.recover` go on with it."""
        return not self.remaining
