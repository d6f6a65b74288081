"""Proofs that stand alone: that an entry is in a log (C2SP tlog-proof), and that a write is in a receipt.

Format: https://c2sp.org/tlog-proof. Both kinds are the same file: index, hashes, and a checkpoint. For a log the
checkpoint is the log's, as it was signed; for a write it is the tree of one unit's writes, whose root stands in the
receipt, and is not signed: the receipt is what vouches for it.

Promise: pure; whatever a file holds, checking it raises nothing but VerificationError.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _merkle, _notes
from memoryos_uow._canonical import canonical
from memoryos_uow.errors import UsageError, VerificationError
from memoryos_uow.receipts import RECEIPT_TYPE, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from memoryos_uow._notes import Head, Note, VerifierKey

FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
HASHES_MAX: Final = 63
"""As many as a tree of 2**63 leaves asks for."""

_KEYS: Final = {field.name for field in dataclass_fields(Receipt)} - {"signature"}

WRITES_ORIGIN: Final = "memoryos-uow/writes/1/"
"""The origin line of a tree of writes is this and the unit's id."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof as a file holds it; nothing is known yet of whether it holds."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str


def proof_text(index: int, hashes: Iterable[bytes], checkpoint: str) -> str:
    """Return the proof that leaf `index` is in the tree of `checkpoint`, a note."""
    lines = [FIRST_LINE, f"index {index}", *(base64.b64encode(value).decode() for value in hashes), "", checkpoint]
    return "\n".join(lines)


def write_proof_text(uow_id: str, leaves: Sequence[bytes], seq: int) -> str:
    """Return the proof that write `seq` is where it is in the tree of `leaves`, which are those of all the unit's.

    Raises:
        UsageError: there is no such write.
    """
    if not 0 <= seq < len(leaves):
        raise UsageError(f"The unit has {len(leaves)} writes, numbered from 0, so none is number {seq}.")

    def subtree(first: int, count: int) -> bytes:
        return _merkle.tree_root(leaves[first : first + count])

    path = _merkle.inclusion_path(seq, len(leaves), subtree)
    head = _notes.Head(WRITES_ORIGIN + uow_id, len(leaves), _merkle.tree_root(leaves))
    return proof_text(seq, path, _notes.unsigned(head.text()))


def parse_proof(text: str) -> Proof:
    """Return the proof that `text` holds; extra data is left aside, as nothing vouches for it.

    Raises:
        VerificationError: it is not in the form of a tlog-proof.
    """
    head, blank, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != FIRST_LINE:
        raise VerificationError("This is not a tlog-proof file.", hint=f"Its first line would be {FIRST_LINE}.")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    if not lines or not lines[0].startswith("index "):
        raise VerificationError("The proof does not say at which index its entry stands.")
    if len(lines) > HASHES_MAX + 1:
        raise VerificationError("The proof has more hashes than any tree asks for.")
    index = _notes.decode_number(lines[0].removeprefix("index "))
    return Proof(index, tuple(map(_notes.decode_hash, lines[1:])), checkpoint)


def parse_receipt(entry: bytes) -> dict[str, object]:
    """Return the fields of a receipt, given as its canonical bytes.

    Raises:
        VerificationError: these are not the canonical bytes of a receipt: other spaces, another order, a key twice.
    """
    fields: object = None
    try:
        fields = json.loads(entry)
        sound = canonical(fields) == entry
    except (ValueError, RecursionError, UsageError):
        sound = False
    if not sound or not isinstance(fields, dict) or fields.keys() != _KEYS or fields["type"] != RECEIPT_TYPE:
        raise VerificationError(
            "The entry is not a receipt in its canonical bytes.",
            hint="A final line feed may follow them; anything else makes it another receipt.",
        )
    return dict(fields)


class Proved(NamedTuple):
    """What a proof has shown."""

    head: Head
    keys: tuple[VerifierKey, ...]
    """Those asked for that have signed the head; none where nobody signed."""


def check_log_proof(
    proof: Proof, entry: bytes, keys: Iterable[VerifierKey], verify: Callable[[bytes, bytes, bytes], bool]
) -> Proved:
    """Check that `entry` is in the log whose head the proof holds, and which of `keys` have signed that head.

    Raises:
        VerificationError: the proof does not hold, or its checkpoint was signed by none of `keys` (if any are given).
    """
    wanted = list(keys)
    note, head = _check_tree(proof, entry)
    signers = _notes.trusted_by(note, wanted, verify)
    if wanted and not signers:
        raise VerificationError(
            "The proof's checkpoint was not signed by a key that you trust.",
            hint="Its entry may be in some log, but not in one that this key vouches for.",
        )
    if signers and not any(is_origin_of(head.origin, key.name) for key in signers):
        raise VerificationError("The proof's checkpoint is that of another log than its key's.")
    return Proved(head, tuple(signers))


def is_origin_of(origin: str, name: str) -> bool:
    """Say whether a checkpoint with this origin is of the ledger called `name`, in whichever of its epochs."""
    epoch = origin.removeprefix(f"{name}/")
    return origin == name or (origin != epoch and epoch.isascii() and epoch.isdigit())


def check_write_proof(proof: Proof, write: bytes, receipt: dict[str, object]) -> None:
    """Check that `write` is one of those that `receipt` commits to.

    Raises:
        VerificationError: it is not, or the proof is of another unit.
    """
    note, head = _check_tree(proof, write)
    claims = (WRITES_ORIGIN + str(receipt["uow_id"]), receipt["write_count"], receipt["writes_root"])
    if note.signatures or (head.origin, head.size, head.root.hex()) != claims:
        raise VerificationError("The write belongs to another unit than this receipt's, or was not among its writes.")


def _check_tree(proof: Proof, entry: bytes) -> tuple[Note, Head]:
    note = _notes.parse(proof.checkpoint)
    head = _notes.parse_head(note.text)
    if not _merkle.check_inclusion(proof.index, head.size, _merkle.leaf_hash(entry), proof.hashes, head.root):
        raise VerificationError("The proof does not hold: the entry is not what stands at its place in the tree.")
    return note, head
