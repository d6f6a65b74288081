"""What is copied, in which order, and what becomes of each column on the way.

Promise: both databases give the rows of a part in the same order, that of its key, so that a copy can go on behind the
last row it has written, and the two can be compared row by row.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from memoryos_uow._rows import UNIT_COLUMNS, WRITE_COLUMNS

_RECORD: Final = ("store", "space_id", "key")


class Part(NamedTuple):
    """One table of the target, and where its rows come from."""

    table: str
    key: tuple[str, ...]
    """The columns by which its rows are ordered; each of them is among `columns`."""
    columns: tuple[str, ...]
    source: str
    """What stands behind FROM in the source."""
    given: tuple[tuple[str, str], ...] = ()
    """Column and expression in the source, where that is not the column itself."""
    where: str = "1 = 1"
    quote: bool = False
    """Names are the application's: they are quoted, and texts compared by their bytes."""

    @property
    def select(self) -> str:
        """The query for the source, without condition and order."""
        expressions = dict(self.given)
        listed = ", ".join(expressions.get(column, self.name(column)) for column in self.columns)
        return f"SELECT {listed} FROM {self.source} WHERE {self.where}"  # noqa: S608 - names of ours, or quoted

    def name(self, column: str) -> str:
        """Return the column as it stands in a statement."""
        return '"' + column.replace('"', '""') + '"' if self.quote else column

    def key_of(self, row: tuple[object, ...]) -> tuple[object, ...]:
        """Return the values of `row` that name it."""
        return tuple(row[self.columns.index(column)] for column in self.key)


def _part(table: str, key: tuple[str, ...], columns: tuple[str, ...], *, where: str = "1 = 1") -> Part:
    return Part(table, key, columns, table, where=where)


# A unit's row number in the source becomes its id, which is its row in the target. Units come before what refers to
# them. Of idempotency keys only answers are copied, and of messages what no relay has in its hands: both are of
# processes that have to open the target anew.
PARTS: Final = (
    _part("unit_of_work", ("uow_id",), UNIT_COLUMNS),
    _part("uow_writes", ("id",), WRITE_COLUMNS),
    _part("uow_nonces", ("write_id",), ("write_id", "nonce")),
    Part(
        "uow_ledger",
        ("commit_seq",),
        (
            *("commit_seq", "unit", "space_seq", "prev", "context", "context_nonce", "nonce", "writes_root"),
            *("write_count", "first_write", "execution_us", "commit_us", "nodes"),
        ),
        "uow_ledger AS l",
        (("unit", "(SELECT uow_id FROM unit_of_work AS u WHERE u.rowid = l.unit)"),),
    ),
    _part("uow_spaces", ("space_id",), ("space_id", "space_seq", "head")),
    _part("uow_keys", ("vkey",), ("vkey", "since_seq", "until_seq", "handover", "revoked_ts")),
    _part("uow_epochs", ("epoch",), ("epoch", "since_size", "abandoned", "started_ts")),
    _part("uow_sealed", ("write_id",), ("write_id", "leaf", "tombstone")),
    _part("uow_forgotten", ("commit_seq", "what"), ("commit_seq", "what", "leaf", "tombstone")),
    _part("uow_content_key", ("id",), ("id", "key_id", "since_ts")),
    _part(
        "uow_idempotency",
        ("space_id", "key"),
        ("space_id", "key", "arguments", "uow_id", "result", "created_ts", "expires_ms"),
        where="claim IS NULL",
    ),
    _part("uow_documents", _RECORD, (*_RECORD, "version", "value")),
    _part("uow_vectors", _RECORD, (*_RECORD, "version", "value")),
    _part("uow_blobs", _RECORD, (*_RECORD, "version", "digest", "size", "data")),
    _part("uow_heads", _RECORD, (*_RECORD, "version", "digest", "size")),
    Part(
        "uow_outbox",
        ("id",),
        (
            *("id", "stamp", "uow_id", "seq", "space_id", "band", "topic", "key", "payload", "created_ts", "state"),
            *("attempts", "due_ms", "epoch", "error_type", "error_message", "error_ts"),
        ),
        "uow_outbox AS m",
        # Rows are in the order of commits already; a message's place in it is below every stamp.
        (("stamp", "id"),),
    ),
    _part("uow_stores", ("name",), ("name", "kind", "config", "registered_ts")),
)

LEFT: Final = frozenset({"uow_schema", "uow_identity", "uow_coordination", "uow_redo", "uow_erasing"})
"""The library's own tables of the source that are not copied as rows: what they hold is settled, or made anew."""
