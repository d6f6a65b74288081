"""The receipt log: an RFC 9162 tree over the committed units; `_receipt_tree` says how its rows hold it.

Promise: under the write lock there are no gaps, and no unit is committed without its leaf.

`ReceiptLog.append` once per unit and `ReceiptLog.seal` once per transaction, inside it; `ReceiptLog.release`
after its commit. Nothing is remembered of a transaction that was rolled back: the end of the log is compared with what
the process remembers before every leaf, and read again where they differ, because others write as well.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _merkle, _notes, _receipt_tree
from memoryos_uow.errors import LedgerError, LedgerRollback, UnitOfWorkError
from memoryos_uow.receipts import make_provable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from memoryos_uow._receipt_tree import LogEnd
    from memoryos_uow._released_head import ReleasedHead
    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.signing import Signer

    Read = Callable[[], AbstractContextManager[Reader]]


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
    text: Callable[[], str]
    """Returns a signed checkpoint; without a signer an unsigned head, which is worked out only when it is wanted."""
    signature: str | None
    """What ``receipt_signature`` holds: that text if it is signed."""
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
        self.hindrance: UnitOfWorkError | None = None
        """Why the signer did not sign, where units are numbered after their commits; None once it has."""
        self.may_refuse = False
        """Whether there may be a reason to append nothing, so that it is worth a look before a block runs."""
        self._tree: _Tree | None = None
        self._released: tuple[int, bytes] | None = None
        self._releasing = threading.Lock()

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

    def get_ready(self, reader: Reader, log_end: LogEnd) -> None:
        """Be ready for `append_next`, which appends behind `log_end`; the errors are those of `append`."""
        self._refuse(reader, log_end)
        tree = self._tree
        if tree is None or tree.last != log_end.commit_seq or tree.nodes != log_end.nodes:
            self._tree = self._read(reader, log_end, 1)

    def append_next(self, commit_seq: int, receipt: bytes) -> bytes:
        """Do for one unit of many what `append` does, without looking at the rows again."""
        tree = self._tree
        assert tree is not None  # noqa: S101 - get_ready was called
        nodes = b"".join(tree.frontier.append(_merkle.leaf_hash(receipt)))
        tree.last, tree.nodes = commit_seq, nodes
        return nodes

    def _read(self, tx: Reader, log_end: LogEnd, commit_seq: int) -> _Tree:
        """Return the log as the rows have it."""
        self._tree = None
        if self._released is not None:
            self._refuse_shrunk(tx, *self._released)
        if log_end.commit_seq is None:
            return _Tree(commit_seq, None, None, _merkle.Frontier())
        rows = _receipt_tree.LogRows(tx)
        frontier = _merkle.Frontier(rows.size, rows.peaks())
        return _Tree(log_end.commit_seq - rows.size + 1, log_end.commit_seq, log_end.nodes, frontier)

    @staticmethod
    def _refuse_shrunk(tx: Reader, commit_seq: int, nodes: bytes) -> None:
        if tx.rows("SELECT nodes FROM uow_ledger WHERE commit_seq = ?", (commit_seq,)) != [(nodes,)]:
            raise LedgerRollback(
                "Units that this process has committed are no longer in the ledger: its file was put back or changed.",
                hint="Nothing was written. Close the ledger, and see what became of its file.",
            )

    def seal(self, tx: Transaction | None, log_end: LogEnd, units: Sequence[tuple[int, int]]) -> Sealed:
        """Sign the log as it is now, and write the signature into the rows of `units`.

        These are all that the transaction has appended behind `log_end`, in order: commit_seq and row number of each.
        Without `tx` nothing is written: whoever calls has just appended the last of them, and writes it.

        Raises:
            LedgerError: the signer could not sign; nothing may be committed then.
        """
        tree = self._tree
        if tx is not None and (tree is None or tree.last != units[-1][0]):
            # The last to be appended was undone, behind a savepoint.
            tree = self._tree = self._read(tx, _receipt_tree.end(tx), 0)
        assert tree is not None  # noqa: S101 - something was appended
        frontier, origin = tree.frontier, _receipt_tree.epoch_origin(self.origin, log_end.epoch)
        if self.signer is None:
            return Sealed(frontier.size, partial(_unsigned, origin, frontier.copy()), None, *tree.end())
        note = _signed(_notes.Head(origin, frontier.size, frontier.root()).text(), self.signer)
        if tx is None:
            return Sealed(frontier.size, partial(str, note), note, *tree.end())
        if log_end.vkey is None:
            tx.execute("INSERT INTO uow_keys (vkey, since_seq) VALUES (?, ?)", (self.signer.vkey, units[0][0]))
        tx.execute_many(
            "UPDATE unit_of_work SET receipt_signature = ? WHERE rowid = ?", [(note, row) for _, row in units]
        )
        return Sealed(frontier.size, partial(str, note), note, *tree.end())

    def refuse_put_back(self) -> None:
        """Raise LedgerRollback if the ledger was found put back when it was opened."""
        if self.refusal is not None:  # each unit its own: what is raised learns whose it is
            raise LedgerRollback(self.refusal.message, hint=self.refusal.hint)

    def refuse_at_once(self) -> None:
        """Refuse what `append` would refuse, before the block's work is done; asked only where `may_refuse` says so.

        Raises:
            LedgerError, LedgerRollback: as `append`, but for what only the write lock can show.
        """
        self.refuse_put_back()
        if self.hindrance is not None:
            raise LedgerError(self.hindrance.message, hint=self.hindrance.hint) from self.hindrance
        with self.read() as reader:  # another process may have put the key aside meanwhile
            log_end = _receipt_tree.end(reader)
            self.may_refuse = False
            self._refuse(reader, log_end)

    def _refuse(self, reader: Reader, log_end: LogEnd) -> None:
        self.refuse_put_back()
        ours = self.signer.vkey if self.signer is not None else None
        if log_end.vkey is not None and log_end.vkey != ours:
            self.may_refuse = True
            raise other_key(log_end.vkey, ours)
        if log_end.vkey is None and ours is not None and reader.rows("SELECT 1 FROM uow_keys WHERE vkey = ?", (ours,)):
            self.may_refuse = True
            raise LedgerError(
                f"The key {_notes.shown_key(ours)} was put aside: it signs this ledger no more.",
                hint="Nothing was written. Sign with another key; `memoryos-uow keys new` makes one.",
            )

    def provable(self, receipt: Receipt, commit_seq: int) -> Receipt:
        """Have `receipt`, which is that of the unit `commit_seq`, prove itself as long as the ledger is open."""
        return make_provable(receipt, partial(self._prove, commit_seq))

    def provable_later(self, receipt: Receipt) -> Receipt:
        """Have `receipt`, which is pending, prove itself once its unit has a number."""
        return make_provable(receipt, partial(self._prove_unit, receipt.uow_id))

    def _prove(self, commit_seq: int, signature: str | None) -> str:
        with self.read() as reader:
            return _receipt_tree.proof(reader, self.origin, commit_seq, signature)

    def _prove_unit(self, uow_id: str, signature: str | None) -> str:
        with self.read() as reader:
            commit_seq = _receipt_tree.commit_seq_of(reader, uow_id)
            return _receipt_tree.proof(reader, self.origin, commit_seq, signature)

    def release(self, sealed: Sealed) -> None:
        """Note that the transaction which ended with `sealed` is durable, and keep its head beside the ledger.

        Each leader calls it in its own thread, after its transaction: so calls may overlap, and come out of order.
        """
        # Not from the tree: another thread may be appending to it by now.
        with self._releasing:
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


def _unsigned(origin: str, frontier: _merkle.Frontier) -> str:
    """Return the head of a log that nobody signs."""
    return _notes.unsigned(_notes.Head(origin, frontier.size, frontier.root()).text())


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
