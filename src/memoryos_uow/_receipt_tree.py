"""The receipt log as the rows of ``uow_ledger`` hold it: where it ends, its roots, its leaves and its proofs.

Promise: reads only. Leaf *i* is the receipt of the unit with commit_seq ``first + i``, where ``first`` is the smallest
one. Each row keeps the hash of its leaf and of every complete subtree that ends with it: the root of any earlier size,
and every proof, take a few dozen look-ups by primary key, however long the log is. What looks damaged is an error that
names the leaf; only `_verification` recomputes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _merkle, _notes, _proofs
from memoryos_uow.errors import LedgerCorrupt, UsageError, VerificationError

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader

# Two questions: asked for both in one, SQLite would read every row.
BOUNDS: Final = "SELECT (SELECT min(commit_seq) FROM uow_ledger), (SELECT max(commit_seq) FROM uow_ledger)"


class LogRows:
    """Looks up subtrees of the log in the rows of one reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._first, last = reader.rows(BOUNDS)[0]
        self.size: int = 0 if last is None else last - self._first + 1

    def nodes(self, index: int) -> bytes:
        """Return what row `index` keeps: its leaf's hash and those of all complete subtrees that end with it."""
        found = self._reader.rows("SELECT nodes FROM uow_ledger WHERE commit_seq = ?", (self._first + index,))
        return _checked(index, found[0][0] if found else None)

    def peaks(self) -> list[bytes]:
        """Return the hashes of the complete subtrees that the log consists of, the largest first: in one question."""
        subtrees = _merkle.complete_subtrees(0, self.size)
        ends = [first + count - 1 for first, count in subtrees]
        marks = ", ".join("?" * len(ends))
        found = dict(
            self._reader.rows(
                f"SELECT commit_seq, nodes FROM uow_ledger WHERE commit_seq IN ({marks})",  # noqa: S608 - marks only
                [self._first + end for end in ends],
            )
        )
        return [_checked(end, found.get(self._first + end))[-_merkle.HASH_BYTES :] for end in ends]

    def subtree(self, first: int, count: int) -> bytes:
        """Return the hash of the complete subtree of `count` leaves from leaf `first` on."""
        start = _merkle.HASH_BYTES * (count.bit_length() - 1)
        return self.nodes(first + count - 1)[start : start + _merkle.HASH_BYTES]

    def check_size(self, size: int) -> int:
        """Return `size` if the log has that many leaves."""
        if not 0 <= size <= self.size:
            raise UsageError(f"This log has {self.size} leaves, so there is no tree of {size}.")
        return size


def _checked(index: int, nodes: object) -> bytes:
    """Return what row `index` keeps, if it has the form of that."""
    wanted = _merkle.HASH_BYTES * _levels(index)
    if not isinstance(nodes, bytes) or len(nodes) != wanted:
        raise LedgerCorrupt(
            f"The receipt log is damaged at leaf {index}: its row is missing or has not {wanted} bytes of hashes.",
            hint="Nothing was changed. `memoryos-uow verify` names every row that is wrong.",
        )
    return nodes


def _levels(index: int) -> int:
    """Return how many hashes row `index` keeps: one for each complete subtree that ends with the leaf."""
    return ((index + 1) & -(index + 1)).bit_length()


def size(reader: Reader) -> int:
    """Return how many leaves the log has."""
    return LogRows(reader).size


def root(reader: Reader, size: int | None = None) -> bytes:
    """Return the tree hash over the first `size` leaves, by default over all of them."""
    rows = LogRows(reader)
    return _merkle.subtree_root(0, rows.size if size is None else rows.check_size(size), rows.subtree)


def leaf(reader: Reader, index: int) -> bytes:
    """Return the hash of leaf `index`, as its row keeps it."""
    return LogRows(reader).nodes(index)[: _merkle.HASH_BYTES]


def inclusion(reader: Reader, index: int, size: int) -> list[bytes]:
    """Return the proof that leaf `index` stands in the tree of the first `size` leaves."""
    rows = LogRows(reader)
    if not 0 <= index < rows.check_size(size):
        raise UsageError(f"A tree of {size} leaves has no leaf {index}.")
    return _merkle.inclusion_path(index, size, rows.subtree)


def consistency(reader: Reader, old: int, new: int) -> list[bytes]:
    """Return the proof that the tree of the first `new` leaves extends that of the first `old`."""
    rows = LogRows(reader)
    if not 0 <= old <= rows.check_size(new):
        raise UsageError(f"A tree of {new} leaves does not extend one of {old}.")
    return _merkle.consistency_path(old, new, rows.subtree)


def index_of(reader: Reader, commit_seq: int) -> int:
    """Return the leaf index of the unit with this commit_seq."""
    first: int = reader.rows("SELECT min(commit_seq) FROM uow_ledger")[0][0]
    return commit_seq - first


def commit_seq_of(reader: Reader, uow_id: str) -> int:
    """Return the number that the log has given to a unit.

    Raises:
        LedgerCorrupt: it has none.
    """
    found = reader.rows(
        "SELECT l.commit_seq FROM unit_of_work AS u JOIN uow_ledger AS l ON l.unit = u.rowid WHERE u.uow_id = ?",
        (uow_id,),
    )
    if not found:
        raise LedgerCorrupt(
            f"The unit {uow_id} is in the receipt log no more.",
            hint="Nothing was changed. `memoryos-uow verify` names every row that is wrong.",
        )
    commit_seq: int = found[0][0]
    return commit_seq


class LogEnd(NamedTuple):
    """Where the log ends and who signs it: true as long as the write lock is held."""

    commit_seq: int | None
    """Of the last unit; None: the log is empty."""
    nodes: bytes
    """Of the last row."""
    vkey: str | None
    """The key in use; None: the log is not signed."""
    epoch: int


_ENDS = (
    "SELECT l.commit_seq, l.nodes, (SELECT vkey FROM uow_keys WHERE until_seq IS NULL),"
    " coalesce((SELECT max(epoch) FROM uow_epochs), 1), coalesce((SELECT max(id) FROM uow_writes), 0) + 1,"
    " s.space_seq, s.head FROM (SELECT 1) AS one"
    " LEFT JOIN (SELECT commit_seq, nodes FROM uow_ledger ORDER BY commit_seq DESC LIMIT 1) AS l ON 1 = 1"
    " LEFT JOIN uow_spaces AS s ON s.space_id = ?"
)


def end(reader: Reader) -> LogEnd:
    """Return where the log ends."""
    return ends(reader, None)[0]


def ends(reader: Reader, space_id: str | None) -> tuple[LogEnd, int, bytes | None, int]:
    """Return where the log ends, how many units the space has, the hash of its last receipt, and the next write's id.

    In one question: it is asked for each unit.
    """
    commit_seq, nodes, vkey, epoch, next_write, space_seq, head = reader.rows(_ENDS, (space_id,))[0]
    return LogEnd(commit_seq, nodes, vkey, epoch), space_seq or 0, head, next_write


def epoch_origin(origin: str, epoch: int) -> str:
    """Return the origin line of checkpoints: that of a later epoch is another log's to everybody outside."""
    return origin if epoch == 1 else f"{origin}/{epoch}"


def head(reader: Reader, origin: str) -> str:
    """Return the newest head: the checkpoint that the last unit carries, or an unsigned one."""
    log_end = end(reader)
    found = reader.rows(
        "SELECT u.receipt_signature FROM uow_ledger l JOIN unit_of_work u ON u.rowid = l.unit WHERE l.commit_seq = ?",
        (log_end.commit_seq,),
    )
    if found and found[0][0] is not None:
        return str(found[0][0])
    rows = LogRows(reader)
    root = _merkle.subtree_root(0, rows.size, rows.subtree)
    return _notes.unsigned(_notes.Head(epoch_origin(origin, log_end.epoch), rows.size, root).text())


def proof(reader: Reader, origin: str, commit_seq: int, signature: str | None) -> str:
    """Return the tlog-proof of the unit `commit_seq` for the checkpoint `signature`, by default for the newest head.

    Raises:
        LedgerCorrupt: the unit's signature is not a checkpoint that covers it.
    """
    note = head(reader, origin) if signature is None else signature
    index = index_of(reader, commit_seq)
    try:
        covered = _notes.parse_head(_notes.parse(note).text).size
        return _proofs.proof_text(index, inclusion(reader, index, covered), note)
    except (VerificationError, UsageError) as error:
        raise LedgerCorrupt(
            f"The checkpoint that leaf {index} of the receipt log carries does not cover it.",
            hint="Nothing was changed. `memoryos-uow verify` names every row that is wrong.",
        ) from error
