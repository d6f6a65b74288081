"""Steps 6 and 7: the tree over all receipts, its signatures, and a checkpoint that was kept elsewhere.

The tree is grown leaf by leaf along the walk. What a row keeps of it must be exactly what the leaves before give; the
signed checkpoint of a unit must name the root at its own size; a checkpoint from elsewhere must name the root that the
tree had at that size. Where a leaf is not what the rows give, the tree goes on with the leaf that the log keeps: so the
changed row is named, and not every row after it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _merkle, _notes
from memoryos_uow._receipt_tree import epoch_origin
from memoryos_uow.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow._notes import Head, Note, VerifierKey
    from memoryos_uow._verification.findings import Findings
    from memoryos_uow._verification.rows import LoggedRow
    from memoryos_uow._verification.units import Entry

    Verify = Callable[[bytes, bytes, bytes], bool]

_HASH: Final = _merkle.HASH_BYTES


class LedgerKey(NamedTuple):
    """A key that signs this ledger, or did, and for which units."""

    key: VerifierKey
    since_seq: int
    until_seq: int | None
    handover: str | None
    revoked: bool

    def covers(self, commit_seq: int) -> bool:
        """Say whether the unit with this number is one that it signs."""
        return self.since_seq <= commit_seq and (self.until_seq is None or commit_seq <= self.until_seq)


class Kept(NamedTuple):
    """A checkpoint that was kept elsewhere."""

    note: Note
    head: Head


class LogCheck:
    """The tree as it grows, and what is compared with it."""

    def __init__(
        self,
        findings: Findings,
        *,
        origin: str,
        keys: Sequence[LedgerKey] = (),
        epochs: Sequence[tuple[int, int]] = (),
        kept: Kept | None = None,
        trusted: VerifierKey | None = None,
        verify: Verify,
    ) -> None:
        self.tree = _merkle.Frontier()
        self.signed_units = 0
        """How many units, from the first on, a signature that holds covers."""
        self.anchored = False
        self._findings = findings
        self.origin = origin
        self._keys = keys
        self._epochs = epochs
        self._kept = kept
        self._trusted = trusted
        self._verify = verify
        self._handovers = [k for k in keys if k.handover is not None]
        # Whose signatures count: those of every key, or of the one that the caller vouches for and its successors.
        self._vouched = {trusted} if trusted is not None else {k.key for k in keys}
        self._last_signed_by: VerifierKey | None = None
        self._note: str | None = None  # the last one looked at: units of one transaction share it
        self._head: Head | None = None
        self._waiting: LoggedRow | None = None  # a unit whose note speaks of a tree that is yet to grow

    def take(self, entry: Entry) -> None:
        """Grow the tree by one unit and check what its row keeps of the log."""
        row, leaf = entry
        kept = row.nodes if row.nodes.__class__ is bytes and len(row.nodes) >= _HASH else None
        while self._handovers and self._handovers[0].since_seq <= row.commit_seq:
            self._check_handover(self._handovers.pop(0))
        if leaf is None or (kept is not None and kept[:_HASH] != leaf):
            self._add(row, "log", "The log holds another receipt of this unit than its rows give.")
            leaf = kept[:_HASH] if kept is not None else bytes(_HASH)
        nodes = self.tree.append(leaf)
        if kept is None or kept != b"".join(nodes):
            self._add(row, "log", "What the log keeps of its tree with this unit is not what the units before it give.")
        self._check_signature(row)
        if self._kept is not None and self._kept.head.size == self.tree.size:
            self._compare_kept(self._kept, self.tree.root())

    # Signatures

    def _check_signature(self, row: LoggedRow) -> None:
        key = next((k for k in self._keys if k.covers(row.commit_seq)), None)
        note = row.receipt_signature
        if note is None:
            if key is not None:
                self._add(row, "unsigned", "The unit has no signature, at a time when the ledger was signed.")
            self._stop_waiting()
            return
        if note != self._note:
            self._stop_waiting()
            self._note, self._head = note, self._signed_head(row, note, key)
        if self._head is None:
            return
        if self._head.size < self.tree.size:
            self._add(row, "signature", "The signed checkpoint is one of an earlier unit.")
        elif self._head.size > self.tree.size:
            self._waiting = row  # the whole transaction was signed at once, at its end
        elif self._head.root != self.tree.root():
            self._add(row, "signature", "The signed checkpoint has another root than the tree.")
        else:
            assert key is not None  # noqa: S101 - without a key there is no signed head
            self._waiting = None
            self._last_signed_by = key.key
            if not key.revoked and key.key in self._vouched:
                self.signed_units = self.tree.size

    def _signed_head(self, row: LoggedRow, text: object, key: LedgerKey | None) -> Head | None:
        """Return the head that a note speaks of, if `key` has signed it."""
        try:
            if text.__class__ is not str:
                raise VerificationError("A signature is no text.")  # noqa: TRY301 - told below like all others
            note = _notes.parse(str(text))
            head = _notes.parse_head(note.text)
            if key is None:
                raise VerificationError("The unit is signed, and the ledger names no key for it.")  # noqa: TRY301
            if note.text != head.text() or head.origin != self._origin_at(head.size):
                raise VerificationError("The signed checkpoint is of another log.")  # noqa: TRY301
            if len(note.signatures) != 1 or _notes.trusted_by(note, [key.key], self._verify) != [key.key]:
                raise VerificationError("The checkpoint is not signed by the ledger's key.")  # noqa: TRY301
        except VerificationError as error:
            self._add(row, "signature", error.message)
            return None
        return head

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._add(self._waiting, "signature", "The signed checkpoint speaks of units that were not signed with it.")
            self._waiting = None

    def _origin_at(self, size: int) -> str:
        """Return the origin line of the checkpoint of this size: a later epoch has one of its own."""
        epoch = max((number for number, since in self._epochs if since < size), default=1)
        return epoch_origin(self.origin, epoch)

    def _check_handover(self, key: LedgerKey) -> None:
        """Check the checkpoint at which a key took over; if the one before has signed it too, it vouches for this one.

        A key whose predecessor was lost, or that began after nobody had signed for a while, has nobody to vouch for it.
        """
        before = [k.key for k in self._keys if k.until_seq == key.since_seq - 1 and k is not key]
        try:
            note = _notes.parse(key.handover or "")
            head = _notes.parse_head(note.text)
            signed = _notes.trusted_by(note, [*before, key.key], self._verify)
            holds = key.key in signed and (head.size, head.root) == (self.tree.size, self.tree.root())
        except VerificationError:
            holds, signed = False, []
        if not holds:
            name = _notes.shown_key(key.key.text())
            self._findings.add("key", f"The checkpoint at which the key {name} took over does not hold.")
        elif self._vouched.intersection(signed):
            self._vouched.add(key.key)

    # From elsewhere, and the end

    def _compare_kept(self, kept: Kept, root: bytes) -> None:
        self.anchored = kept.head.root == root and kept.head.size > 0
        if kept.head.root != root:
            self._findings.add(
                "checkpoint", f"The log's first {kept.head.size:,} units are not those that the checkpoint speaks of."
            )

    def finish(self) -> None:
        """Check what can only be said at the end of the log."""
        self._stop_waiting()
        for key in self._handovers:  # put into place, and no unit since
            self._check_handover(key)
        if self._kept is not None:
            if self._kept.head.size == 0:
                self._compare_kept(self._kept, _merkle.EMPTY_ROOT)
            if self._kept.head.size > self.tree.size:
                self._findings.add(
                    "checkpoint",
                    f"The checkpoint speaks of {self._kept.head.size:,} units, and the log has {self.tree.size:,}:"
                    " units were removed from its end, or an older file was put back.",
                )
            self._check_kept_signatures(self._kept)
        self._check_trusted()

    def _check_kept_signatures(self, kept: Kept) -> None:
        origins = {self.origin, *(epoch_origin(self.origin, epoch) for epoch, _ in self._epochs)}
        if kept.head.origin not in origins:
            self._findings.add(
                "checkpoint", "The checkpoint is of another log: its first line is not the ledger's origin."
            )
        keys = {k.key for k in self._keys} | ({self._trusted} if self._trusted is not None else set())
        try:
            signed = _notes.trusted_by(kept.note, keys, self._verify)
        except VerificationError as error:
            self._findings.add("checkpoint", f"Of the checkpoint: {error.message}")
            return
        if not signed and (kept.note.signatures or self._trusted is not None):
            self._findings.add("checkpoint", "The checkpoint is not signed by a key that is known here.")

    def _check_trusted(self) -> None:
        """Check that the key which the caller vouches for has signed this ledger."""
        if self._trusted is None:
            return
        ours = next((k for k in self._keys if k.key == self._trusted), None)
        if ours is None:
            self._findings.add("key", "The key that was given has never signed this ledger.")
        elif ours.revoked:
            self._findings.add("key", "The key that was given was revoked.")
        elif self._last_signed_by is not None and self._last_signed_by not in self._vouched:
            name = _notes.shown_key(self._last_signed_by.text())
            self._findings.add(
                "key", f"The ledger is signed by {name} now, which the key that was given did not accept."
            )

    def _add(self, row: LoggedRow, rule: str, detail: str) -> None:
        self._findings.add(rule, detail, uow_id=row.uow_id, band=row.band)


def ledger_keys(rows: Sequence[tuple[Any, ...]], findings: Findings) -> list[LedgerKey]:
    """Return the ledger's keys; one that is none is a finding."""
    found = []
    for vkey, since_seq, until_seq, handover, revoked_ts in rows:
        try:
            key = _notes.parse_vkey(vkey if isinstance(vkey, str) else "")
        except VerificationError as error:
            findings.add("key", f"The ledger names a key that is none. {error.message}")
            continue
        if not isinstance(since_seq, int) or not isinstance(until_seq, int | None):
            findings.add("key", f"The ledger does not say for which units the key {_notes.shown_key(vkey)} is.")
            continue
        found.append(
            LedgerKey(
                key, since_seq, until_seq, handover if isinstance(handover, str) else None, revoked_ts is not None
            )
        )
    for before, after in pairwise(found):
        if before.until_seq is None or before.until_seq >= after.since_seq:
            findings.add("key", f"The key {_notes.shown_key(after.key.text())} is for units that another one signs.")
    return found


def parse_kept(text: str) -> Kept:
    """Return the checkpoint in `text`.

    Raises:
        VerificationError: it is none.
    """
    note = _notes.parse(text)
    return Kept(note, _notes.parse_head(note.text))
