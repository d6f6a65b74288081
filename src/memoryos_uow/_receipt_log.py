"""The receipt log: an RFC 9162 tree over the committed units, kept in the rows of ``uow_ledger``.

Promise: leaf *i* is the receipt of the unit with commit_seq ``first + i``, where ``first`` is the smallest one; under
the write lock there are no gaps. Each row keeps the hash of its leaf and of every complete subtree that ends with it:
the root of any earlier size, and every proof, take a few dozen look-ups by primary key, however long the log is.

Writing: `ReceiptLog.append` once per unit and `ReceiptLog.seal` once per transaction, inside it; `ReceiptLog.release`
after its commit. Nothing is remembered of a transaction that was rolled back: the end of the log is compared with what
the process remembers before every leaf, and read again where they differ, because others write as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _merkle, _notes, _proofs
from memoryos_uow.errors import (
    LedgerCorrupt,
    LedgerError,
    LedgerRollback,
    UnitOfWorkError,
    UsageError,
    VerificationError,
)
from memoryos_uow.receipts import make_provable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from memoryos_uow._released_head import ReleasedHead
    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.signing import Signer

    Read = Callable[[], AbstractContextManager[Reader]]


# Reading: everything that a proof is made of


# Two questions: asked for both in one, SQLite would read every row.
BOUNDS: Final = "SELECT (SELECT min(commit_seq) FROM uow_ledger), (SELECT max(commit_seq) FROM uow_ledger)"


class _Rows:
    """Looks up subtrees of the log in the rows of one reader."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._first, last = reader.rows(BOUNDS)[0]
        self.size: int = 0 if last is None else last - self._first + 1

    def nodes(self, index: int) -> bytes:
        """Return what row `index` keeps: its leaf's hash and those of all complete subtrees that end with it."""
        found = self._reader.rows("SELECT nodes FROM uow_ledger WHERE commit_seq = ?", (self._first + index,))
        wanted = _merkle.HASH_BYTES * _levels(index)
        if not found or not isinstance(found[0][0], bytes) or len(found[0][0]) != wanted:
            raise LedgerCorrupt(
                f"The receipt log is damaged at leaf {index}: its row is missing or has not {wanted} bytes of hashes.",
                hint="Nothing was changed. `memoryos-uow verify` names every row that is wrong.",
            )
        nodes: bytes = found[0][0]
        return nodes

    def subtree(self, first: int, count: int) -> bytes:
        """Return the hash of the complete subtree of `count` leaves from leaf `first` on."""
        start = _merkle.HASH_BYTES * (count.bit_length() - 1)
        return self.nodes(first + count - 1)[start : start + _merkle.HASH_BYTES]

    def check_size(self, size: int) -> int:
        """Return `size` if the log has that many leaves."""
        if not 0 <= size <= self.size:
            raise UsageError(f"This log has {self.size} leaves, so there is no tree of {size}.")
        return size


def _levels(index: int) -> int:
    """Return how many hashes row `index` keeps: one for each complete subtree that ends with the leaf."""
    return ((index + 1) & -(index + 1)).bit_length()


def size(reader: Reader) -> int:
    """Return how many leaves the log has."""
    return _Rows(reader).size


def root(reader: Reader, size: int | None = None) -> bytes:
    """Return the tree hash over the first `size` leaves, by default over all of them."""
    rows = _Rows(reader)
    return _merkle.subtree_root(0, rows.size if size is None else rows.check_size(size), rows.subtree)


def leaf(reader: Reader, index: int) -> bytes:
    """Return the hash of leaf `index`, as its row keeps it."""
    return _Rows(reader).nodes(index)[: _merkle.HASH_BYTES]


def inclusion(reader: Reader, index: int, size: int) -> list[bytes]:
    """Return the proof that leaf `index` stands in the tree of the first `size` leaves."""
    rows = _Rows(reader)
    if not 0 <= index < rows.check_size(size):
        raise UsageError(f"A tree of {size} leaves has no leaf {index}.")
    return _merkle.inclusion_path(index, size, rows.subtree)


def consistency(reader: Reader, old: int, new: int) -> list[bytes]:
    """Return the proof that the tree of the first `new` leaves extends that of the first `old`."""
    rows = _Rows(reader)
    if not 0 <= old <= rows.check_size(new):
        raise UsageError(f"A tree of {new} leaves does not extend one of {old}.")
    return _merkle.consistency_path(old, new, rows.subtree)


def index_of(reader: Reader, commit_seq: int) -> int:
    """Return the leaf index of the unit with this commit_seq."""
    first: int = reader.rows("SELECT min(commit_seq) FROM uow_ledger")[0][0]
    return commit_seq - first


def head(reader: Reader, origin: str) -> str:
    """Return the newest head: the checkpoint that the last unit carries, or an unsigned one."""
    log_end = end(reader)
    found = reader.rows(
        "SELECT u.receipt_signature FROM uow_ledger l JOIN unit_of_work u ON u.rowid = l.unit WHERE l.commit_seq = ?",
        (log_end.commit_seq,),
    )
    if found and found[0][0] is not None:
        return str(found[0][0])
    rows = _Rows(reader)
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


# Writing


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
    " coalesce((SELECT max(epoch) FROM uow_epochs), 1), s.space_seq, s.head FROM (SELECT 1)"
    " LEFT JOIN (SELECT commit_seq, nodes FROM uow_ledger ORDER BY commit_seq DESC LIMIT 1) AS l"
    " LEFT JOIN uow_spaces AS s ON s.space_id = ?"
)


def end(reader: Reader) -> LogEnd:
    """Return where the log ends."""
    return ends(reader, None)[0]


def ends(reader: Reader, space_id: str | None) -> tuple[LogEnd, int, bytes | None]:
    """Return where the log ends, how many units the space has, and the hash of its last receipt, in one question."""
    *of_log, space_seq, head = reader.rows(_ENDS, (space_id,))[0]
    return LogEnd(*of_log), space_seq or 0, head


class _Tree:
    """The log as far as this process knows it: its frontier, and the row that it ends with."""

    __slots__ = ("first", "frontier", "last", "nodes")

    def __init__(self, first: int, last: int | None, nodes: bytes | None, frontier: _merkle.Frontier) -> None:
        self.first = first
        self.last = last
        self.nodes = nodes
        self.frontier = frontier

    def end(self) -> tuple[int, bytes]:
        """Return commit_seq and hashes of the last row, which there is."""
        assert self.last is not None  # noqa: S101 - asked only after something was appended
        assert self.nodes is not None  # noqa: S101
        return self.last, self.nodes


class Sealed(NamedTuple):
    """The head of the log at the end of a transaction: to be released once that is durable."""

    size: int
    text: str
    """A signed checkpoint; without a signer an unsigned head."""
    signature: str | None
    """What ``receipt_signature`` holds: `text` if it is signed."""
    last: int
    """commit_seq of the last unit."""
    nodes: bytes
    """What its row keeps."""


class ReceiptLog:
    """Appends to the log of one ledger. Whoever calls holds the ledger's write lock."""

    def __init__(
        self, origin: str, read: Read, *, signer: Signer | None = None, head: ReleasedHead | None = None
    ) -> None:
        self.origin = origin
        self.read = read
        self.signer = signer
        self.head = head
        self.refusal: UnitOfWorkError | None = None
        """Why nothing may be appended, found at opening."""
        self._tree: _Tree | None = None
        self._released: tuple[int, bytes] | None = None

    def append(self, tx: Transaction, log_end: LogEnd, commit_seq: int, receipt: bytes) -> bytes:
        """Add the receipt of the unit `commit_seq`, which comes next after `log_end`; return what its row has to keep.

        Raises:
            LedgerError: it may not be appended: the ledger is signed and its signer is not here, or is another one.
            LedgerRollback: the ledger is not what it was when this process, or the file beside it, saw it last.
        """
        self._refuse(tx, log_end)
        tree = self._tree
        if tree is None or tree.last != log_end.commit_seq or tree.nodes != log_end.nodes:
            tree = self._read(tx, log_end, commit_seq)
        nodes = b"".join(tree.frontier.append(_merkle.leaf_hash(receipt)))
        tree.last, tree.nodes = commit_seq, nodes
        self._tree = tree
        return nodes

    def _read(self, tx: Transaction, log_end: LogEnd, commit_seq: int) -> _Tree:
        """Return the log as the rows have it."""
        self._tree = None
        if self._released is not None:
            self._refuse_shrunk(tx, *self._released)
        if log_end.commit_seq is None:
            return _Tree(commit_seq, None, None, _merkle.Frontier())
        rows = _Rows(tx)
        peaks = [rows.subtree(*subtree) for subtree in _merkle.complete_subtrees(0, rows.size)]
        frontier = _merkle.Frontier(rows.size, peaks)
        return _Tree(log_end.commit_seq - rows.size + 1, log_end.commit_seq, log_end.nodes, frontier)

    @staticmethod
    def _refuse_shrunk(tx: Transaction, commit_seq: int, nodes: bytes) -> None:
        if tx.rows("SELECT nodes FROM uow_ledger WHERE commit_seq = ?", (commit_seq,)) != [(nodes,)]:
            raise LedgerRollback(
                "Units that this process has committed are no longer in the ledger: its file was put back or changed.",
                hint="Nothing was written. Close the ledger, and see what became of its file.",
            )

    def seal(self, tx: Transaction, log_end: LogEnd, units: Sequence[tuple[int, int]]) -> Sealed:
        """Sign the log as it is now, and write the signature into the rows of `units`.

        These are all that the transaction has appended behind `log_end`, in order: commit_seq and row number of each.

        Raises:
            LedgerError: the signer could not sign; nothing may be committed then.
        """
        tree = self._tree
        if tree is None or tree.last != units[-1][0]:  # the last to be appended was undone, behind a savepoint
            tree = self._tree = self._read(tx, end(tx), 0)
        size = tree.frontier.size
        body = _notes.Head(epoch_origin(self.origin, log_end.epoch), size, tree.frontier.root()).text()
        if self.signer is None:
            return Sealed(size, _notes.unsigned(body), None, *tree.end())
        note = _signed(body, self.signer)
        if log_end.vkey is None:
            tx.execute("INSERT INTO uow_keys (vkey, since_seq) VALUES (?, ?)", (self.signer.vkey, units[0][0]))
        tx.execute_many(
            "UPDATE unit_of_work SET receipt_signature = ? WHERE rowid = ?", [(note, row) for _, row in units]
        )
        return Sealed(size, note, note, *tree.end())

    def refuse_put_back(self) -> None:
        """Raise LedgerRollback if the ledger was found put back when it was opened."""
        if self.refusal is not None:  # each unit its own: what is raised learns whose it is
            raise LedgerRollback(self.refusal.message, hint=self.refusal.hint)

    def _refuse(self, tx: Transaction, log_end: LogEnd) -> None:
        self.refuse_put_back()
        ours = self.signer.vkey if self.signer is not None else None
        if log_end.vkey is not None and log_end.vkey != ours:
            raise other_key(log_end.vkey, ours)
        if log_end.vkey is None and ours is not None and tx.rows("SELECT 1 FROM uow_keys WHERE vkey = ?", (ours,)):
            raise LedgerError(
                f"The key {_notes.shown_key(ours)} was put aside: it signs this ledger no more.",
                hint="Nothing was written. Sign with another key; `memoryos-uow keys new` makes one.",
            )

    def provable(self, receipt: Receipt, commit_seq: int) -> Receipt:
        """Have `receipt`, which is that of the unit `commit_seq`, prove itself as long as the ledger is open."""

        def prove() -> str:
            with self.read() as reader:
                return proof(reader, self.origin, commit_seq, receipt.signature)

        return make_provable(receipt, prove)

    def release(self, sealed: Sealed) -> None:
        """Note that the transaction which ended with `sealed` is durable, and keep its head beside the ledger."""
        # Not from the tree: another thread may be appending to it by now.
        if self._released is None or self._released[0] < sealed.last:
            self._released = (sealed.last, sealed.nodes)
        if self.head is not None:
            self.head.write(sealed.size, sealed.text)

    def settle(self, make_durable: Callable[[], object]) -> None:
        """Release what waits for its commit to be durable; if that is hindered, an older head stays: no harm."""
        if self.head is not None and self.head.waits:
            try:
                make_durable()
            except UnitOfWorkError:
                return
            self.head.flush()

    def close(self) -> None:
        """Let go of the file beside the ledger."""
        if self.head is not None:
            self.head.close()


def _signed(body: str, signer: Signer) -> str:
    """Return `body` as a note signed by `signer`, whoever wrote that.

    Raises:
        LedgerError: it did not sign.
    """
    try:
        note = _notes.sign(body, signer)
    except UnitOfWorkError:
        raise
    except Exception as error:
        raise LedgerError(
            f"The signer failed with {type(error).__name__}.",
            hint="Nothing was written, and nothing will be without its signature. The cause is chained to this error.",
        ) from error
    return note


def epoch_origin(origin: str, epoch: int) -> str:
    """Return the origin line of checkpoints: that of a later epoch is another log's to everybody outside."""
    return origin if epoch == 1 else f"{origin}/{epoch}"


def other_key(wanted: str, ours: str | None) -> LedgerError:
    """Return what is to be said where the key in use is `wanted` and the signer is `ours`, or there is none."""
    if ours is None:
        return LedgerError(
            f"This ledger is signed with the key {_notes.shown_key(wanted)}, and was opened without a signer.",
            hint="Nothing was written. Open it with signer=..., or retire the key with `memoryos-uow keys retire`.",
        )
    return LedgerError(
        f"This ledger is signed with the key {_notes.shown_key(wanted)}, not with {_notes.shown_key(ours)}.",
        hint="Nothing was written. Open it with its own signer; `memoryos-uow keys rotate` hands over to another.",
    )
