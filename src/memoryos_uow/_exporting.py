"""A space's history as lines of JSON that a stranger can check, and the check.

Each unit is one line: ``{"record": ..., "receipt": ..., "proof": ...}``, oldest first. The record is the unit's row
with its writes, the receipt its canonical text, the proof a C2SP tlog-proof that the receipt stands in the ledger's
log; both are null for units that have none: those that failed or were rolled back, and those whose ids were erased.

The steps of the check, for each line:

1.  The line is a JSON object with these three keys, none of them twice.
2.  The receipt is in its canonical bytes, and the record's ``receipt_hash`` is their SHA-256.
3.  What the record says of the unit is what the receipt says.
4.  The writes that the record shows have the receipt's ``writes_root``. Only GREEN records show all that goes into it;
    of an erased write nothing is left to check.
5.  The receipt follows the one before it: same ledger, same space, next number, and ``prev`` is that one's hash. Of a
    committed unit between them whose id was erased only the hash is left, and of RED and BLACK ones not even that.
6.  The proof holds, and its checkpoint is signed by a key that is trusted, if any were given.

What the check cannot see: units after the last line. Compare the last hash with one that you know.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _ed25519, _proofs, _proving
from memoryos_uow._canonical import sha256_hex
from memoryos_uow._describe import rebuilt_receipt
from memoryos_uow._names import Band, Dialect
from memoryos_uow.errors import UnitOfWorkError, VerificationError
from memoryos_uow.receipts import ReceiptWrite, writes_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memoryos_uow._notes import VerifierKey
    from memoryos_uow._records import UnitRecord
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.abc import Reader

PROBLEMS_MAX: Final = 100
"""After so many the check ends: the rest would say the same."""

# On PostgreSQL ids rise with the clocks of many machines. A unit that is not in the log stands behind the one with the
# id before, and one that has no number yet at the end.
_IN_ORDER: Final = {
    Dialect.SQLITE: "SELECT uow_id FROM unit_of_work WHERE space_id = ? ORDER BY rowid",
    Dialect.POSTGRESQL: (
        "SELECT u.uow_id FROM unit_of_work AS u LEFT JOIN uow_ledger AS l ON l.unit = u.uow_id"
        " LEFT JOIN uow_pending AS p ON p.uow_id = u.uow_id WHERE u.space_id = ? ORDER BY p.stamp NULLS FIRST,"
        " coalesce(l.commit_seq, max(l.commit_seq) OVER (ORDER BY u.uow_id), 0), l.commit_seq IS NULL, u.uow_id"
    ),
}
_KEYS: Final = {"record", "receipt", "proof"}
_IN_BOTH: Final = (
    "uow_id",
    "band",
    "space_id",
    "created_ts",
    "committed_ts",
    "contract_version",
    "store_count",
    "total_bytes_written",
)


class ExportedUnit(NamedTuple):
    """One unit of a space's history."""

    record: UnitRecord
    receipt: str | None
    proof: str | None


def history(reader: Reader, rows: LedgerRows, space_id: str) -> Iterator[ExportedUnit]:
    """Yield every unit of a space, oldest first, all as they were at one moment.

    Raises:
        LedgerCorrupt: a unit's rows are not what its receipt was made from.
    """
    # As long as the first query is not read to its end, the others see what it sees.
    for (uow_id,) in reader.stream(_IN_ORDER[reader.dialect], (space_id,)):
        record = rows.unit(reader, uow_id)
        assert record is not None  # noqa: S101 - it was there a moment ago, and that moment lasts
        parts = rows.receipt_parts(reader, uow_id)
        if parts is None or record.receipt_hash is None:
            yield ExportedUnit(record, None, None)
            continue
        proven = _proving.prove_unit(reader, record, rebuilt_receipt(record, parts, None).canonical())
        yield ExportedUnit(record, proven.entry.decode(), proven.proof)


@dataclass(slots=True)
class Checked:
    """What the check of an export has found."""

    units: int = 0
    receipts: int = 0
    without_receipt: int = 0
    """Committed units of which only the place is left, because their ids were erased."""
    writes_recomputed: int = 0
    """Units whose writes were compared with their receipt."""
    signed: int = 0
    """Receipts under a checkpoint that a trusted key has signed."""
    origin: str | None = None
    space_id: str | None = None
    last_hash: str | None = None
    problems: list[str] = field(default_factory=list)
    """One sentence each, with the number of the line; ids and digests only."""


def check(lines: Iterable[str], keys: Iterable[VerifierKey] = ()) -> Checked:
    """Check an export; whatever its lines hold, the answer is a `Checked`. `keys` are those that are trusted."""
    checking = _Checking(list(keys))
    for number, line in enumerate(lines, 1):
        try:
            checking.line(line)
        except UnitOfWorkError as problem:
            checking.found.problems.append(f"Line {number}: {problem.message}")
        if len(checking.found.problems) >= PROBLEMS_MAX:
            break
    return checking.found


class _Checking:
    def __init__(self, keys: list[VerifierKey]) -> None:
        self.found = Checked()
        self._keys = keys
        self._seq = 0  # of the newest committed unit
        self._hash: str | None = None  # of its receipt
        self._hash_known = True

    def line(self, line: str) -> None:
        self.found.units += 1
        record, text, proof = _parsed(line)
        if text is None:
            if record.get("status") == "committed":
                self.found.without_receipt += 1
                digest = record.get("receipt_hash")
                self._go_on(self._seq + 1, digest if isinstance(digest, str) else None, known=digest is not None)
            return
        receipt = text.encode()
        fields = _proofs.parse_receipt(receipt)
        digest = sha256_hex(receipt)
        try:
            self._compare(record, fields, digest)
            self._follow(fields)
        finally:  # later lines are measured against this one, sound or not
            self.found.receipts += 1
            seq = fields["space_seq"]
            self._go_on(seq if isinstance(seq, int) else self._seq + 1, digest, known=True)
        if proof is None:
            raise VerificationError("The receipt has no proof.")
        proved = _proofs.check_log_proof(_proofs.parse_proof(proof), receipt, self._keys, _ed25519.verify)
        if not _proofs.is_origin_of(proved.head.origin, str(fields["origin"])):
            raise VerificationError("The proof is of another ledger than the receipt's.")
        self.found.signed += bool(proved.keys)

    def _go_on(self, seq: int, digest: str | None, *, known: bool) -> None:
        self._seq, self._hash, self._hash_known = seq, digest, known
        self.found.last_hash = digest

    def _compare(self, record: dict[str, Any], fields: dict[str, object], digest: str) -> None:
        if record.get("receipt_hash") not in (None, digest):
            raise VerificationError("The receipt is not the one whose hash the record has.")
        for name in _IN_BOTH:
            if record.get(name) not in (None, fields[name], _to_the_minute(name, fields)):
                raise VerificationError(f"Record and receipt differ in {name}.")
        if record.get("status") != "committed":
            raise VerificationError("A unit that was not committed has a receipt.")
        writes = _shown_writes(record) if fields["band"] == Band.GREEN else None
        if writes is None:
            return
        if len(writes) != fields["write_count"] or writes_root(writes) != fields["writes_root"]:
            raise VerificationError("The writes are not those that the receipt commits to.")
        self.found.writes_recomputed += 1

    def _follow(self, fields: dict[str, object]) -> None:
        whose = (str(fields["origin"]), str(fields["space_id"]))
        if self.found.receipts == 0:
            self.found.origin, self.found.space_id = whose
        elif whose != (self.found.origin, self.found.space_id):
            raise VerificationError("The receipt is of another ledger or space than the first one.")
        if fields["space_seq"] != self._seq + 1:
            raise VerificationError("The receipt is not the next one of its space.")
        if self._hash_known and fields["prev"] != self._hash:
            raise VerificationError("The receipt does not follow the one before it.")


def _parsed(line: str) -> tuple[dict[str, Any], str | None, str | None]:
    value: object = None
    with suppress(ValueError, RecursionError):  # said below, without the line
        value = json.loads(line, object_pairs_hook=_without_twins)
    if not isinstance(value, dict) or value.keys() != _KEYS or not isinstance(value["record"], dict):
        raise VerificationError("This is no unit of an export.")
    for name in ("receipt", "proof"):
        if not isinstance(value[name], str | None) or not _is_text(value[name] or ""):
            raise VerificationError(f"The {name} is no text.")
    return value["record"], value["receipt"], value["proof"]


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key twice")
    return value


def _shown_writes(record: dict[str, Any]) -> list[ReceiptWrite] | None:
    """Return a GREEN unit's writes as its receipt commits to them; None if one was erased."""
    listed = record.get("writes")
    if not isinstance(listed, list) or not all(isinstance(write, dict) for write in listed):
        raise VerificationError("The record has no list of writes.")
    names = ("store_name", "record_id", "operation_type", "bytes_written", "checksum", "ts")
    try:
        found = [ReceiptWrite(seq, *(write[name] for name in names)) for seq, write in enumerate(listed)]
        for write in found:
            write.canonical()
    except (KeyError, TypeError, ValueError, UnitOfWorkError):
        raise VerificationError("A write of the record lacks what its receipt commits to.") from None
    return None if any(write.operation_type is None for write in found) else found


def _to_the_minute(name: str, fields: dict[str, object]) -> object:
    """Return a receipt's value as a record shows it whose band keeps back how long anything took: without seconds."""
    value = fields[name]
    if fields["band"] in (Band.GREEN, Band.AMBER, Band.RED) or name not in ("created_ts", "committed_ts"):
        return value
    return f"{value[:16]}:00Z" if isinstance(value, str) else value
