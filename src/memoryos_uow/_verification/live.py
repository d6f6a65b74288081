"""Step 9, live content: whether each store holds what the newest receipt of each record says.

A receipt says of each record what its content was after the unit, or that it was deleted. The newest receipt of a
record is therefore a claim about now. Each store is asked for everything it holds (`memoryos_uow.abc.Auditable`), reads
it where it lies, and both lists are laid side by side:

- ``missing``: a receipt says it is there, the store has not got it;
- ``changed``: the store holds another content than the receipt says;
- ``back``: a receipt says it was deleted or erased, the store has it;
- ``unclaimed``: the store has it, no receipt speaks of it: it was written around the library;
- ``damaged``: the store itself says that something about the record is out of order.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from memoryos_uow import _erasures
from memoryos_uow._names import OUTBOX_STORE, SQL_STORE, Band
from memoryos_uow._verification.scratch import Claim, Holding
from memoryos_uow.abc import Auditable, Capability
from memoryos_uow.errors import StoreError, UnitOfWorkError, UsageError
from memoryos_uow.verification import StoreCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._verification.findings import Findings
    from memoryos_uow._verification.rows import LoggedRow, WriteRow
    from memoryos_uow._verification.scratch import Scratch
    from memoryos_uow.abc import Reader, Store

_PLAIN: Final = "sha256:"
_BAD: Final = "bad"
_NOT_RECORDS: Final = {
    SQL_STORE: "What a statement of SQL left behind cannot be told from it.",
    OUTBOX_STORE: "Messages leave the outbox when they are delivered.",
}
_HELD_BACK_MAX: Final = 10_000
_SHARED: Final = b""
"""Stands for the space where all spaces share a store's keys; no space is called that."""


class Claims:
    """Collects, along the walk over the log, what receipts say of each record."""

    def __init__(
        self, scratch: Scratch, *, only: frozenset[str] | None = None, content_key: ContentKey | None = None
    ) -> None:
        self._scratch = scratch
        self._only = only
        self._content_key = content_key
        self._veils: dict[tuple[str, bytes], tuple[int, int]] = {}
        self.stores: set[str] = set()
        """The stores of which receipts speak."""

    def note(self, row: LoggedRow, write: WriteRow) -> None:
        """Take in one write of a committed unit."""
        store, key = write.store_name, write.record_id
        if not isinstance(store, str) or (self._only is not None and store not in self._only):
            return
        space, told = as_bytes(row.space_id), True
        if row.band != Band.GREEN:
            told = self._is_told(row, write)
            unnamed = 0 if told else write.id
            self._veil(store, space, unnamed, 0 if write.operation_type == "create" else unnamed)
        if len(self.stores) < _HELD_BACK_MAX:
            self.stores.add(store)
        if key is None or not told:
            return
        self._scratch.claim(
            Claim(
                store=store,
                space=space,
                key=as_bytes(key),
                place=write.id,
                uow_id=as_bytes(row.uow_id),
                gone=write.operation_type == "delete",
                checksum=write.checksum if isinstance(write.checksum, str) else None,
                size=write.bytes_written if isinstance(write.bytes_written, int) else None,
                band=row.band if isinstance(row.band, str) else None,
            )
        )

    def _is_told(self, row: LoggedRow, write: WriteRow) -> bool:
        """Say whether it can be told here which record was written: not if only the content key's holder can."""
        if write.sealed is not None or str(write.checksum).startswith(_erasures.SEALED):
            return True  # nothing is left of that record that could be compared
        return write.record_id is not None and (row.band != Band.BLACK or self._content_key is not None)

    def _veil(self, store: str, space: bytes, unnamed: int, replaced: int) -> None:
        """Note that keys here may not be shown, or not even told."""
        if len(self._veils) >= _HELD_BACK_MAX:
            self.flush()
        before = self._veils.get((store, space), (0, 0))
        self._veils[store, space] = max(unnamed, before[0]), max(replaced, before[1])

    def flush(self) -> None:
        """Write out what is held back for writing many at a time."""
        veils, self._veils = self._veils, {}
        self._scratch.veil((*record, *newest) for record, newest in veils.items())
        self._scratch.flush()


def as_bytes(value: object) -> bytes:
    """Return what stands for a key or id in comparisons, whatever a damaged row holds in its place."""
    if isinstance(value, bytes):
        return b"\xff" + value  # no text begins like that
    return str(value).encode("utf-8", "surrogateescape")


class LiveCheck:
    """The comparison, store by store."""

    def __init__(
        self,
        scratch: Scratch,
        findings: Findings,
        *,
        space_id: str | None = None,
        is_newer: Callable[[str, str], bool],
        progress: Callable[[str], None],
        content_key: ContentKey | None = None,
    ) -> None:
        self._scratch = scratch
        self._findings = findings
        self._space = None if space_id is None else as_bytes(space_id)
        self._is_newer = is_newer
        self._content_key = content_key
        self._progress = progress

    def run(
        self,
        stores: Mapping[str, Store],
        reader: Reader,
        *,
        claimed: Collection[str],
        unreachable: Mapping[str, UnitOfWorkError],
    ) -> Iterator[StoreCheck]:
        """Check every store that is registered, or that receipts speak of."""
        for name in sorted({*stores, *claimed, *unreachable}):
            store = stores.get(name)
            if name in _NOT_RECORDS:
                if name in claimed:
                    yield StoreCheck(name, getattr(store, "kind", None), skipped=_NOT_RECORDS[name])
            elif name in unreachable:
                yield self._unreachable(name, unreachable[name])
            elif store is None:
                yield self._unreachable(name, StoreError("It is not registered, or its kind is not installed."))
            elif not isinstance(store, Auditable):
                yield StoreCheck(name, store.kind, skipped="Its kind cannot say what it holds.")
            else:
                yield self._check(store, reader)

    def _unreachable(self, name: str, error: UnitOfWorkError) -> StoreCheck:
        self._findings.refuse_undecodable(error)
        self._findings.add("unreachable", error.message, store=name)
        return StoreCheck(name, None, skipped=error.message)

    def _check(self, store: Auditable, reader: Reader) -> StoreCheck:
        self._progress(f"reading {store.name}")
        try:
            self._scratch.hold(self._holdings(store, reader))
        except UnitOfWorkError as error:
            return self._unreachable(store.name, error)
        except Exception as error:  # noqa: BLE001 - a store of another package may raise anything
            return self._unreachable(store.name, StoreError(f"The store failed with {type(error).__name__}."))
        if self._content_key is not None and self._scratch.pseudonyms(store.name):
            self._open_pseudonyms(store.name, self._content_key)
        counts: Counter[str] = Counter()
        for *claimed, unnamed, key, space, size, digest, problem in self._scratch.compare(
            store.name, shared=store.shares_keys
        ):
            claim = Claim._make(claimed)
            holding = None if key is None else Holding(key, space, size, digest, problem)
            counts[self._judge(store, claim, holding, unnamed or 0)] += 1
        for *held, is_old, veil in self._scratch.unclaimed(store.name, shared=store.shares_keys):
            counts[self._judge_unclaimed(store, Holding._make(held), veil, is_old=bool(is_old))] += 1
        for _, key, uow_id, band in self._scratch.not_gone():
            self._add("back", "It was to be gone, and this store holds it.", store.name, key, uow_id, band)
        return StoreCheck(
            store.name,
            store.kind,
            records=self._scratch.counted(),
            matched=counts["matched"],
            gone=counts["gone"],
            uncheckable=counts["uncheckable"],
            unclaimed=counts["unclaimed"],
        )

    def _holdings(self, store: Auditable, reader: Reader) -> Iterator[Holding]:
        for held in store.contents(reader):
            if held.key is None:
                if self._space is not None:
                    continue  # it belongs to no space
                self._findings.add("damaged", f"The store has {held.problem}.", store=store.name)
                continue
            space = _SHARED if held.space_id is None else as_bytes(held.space_id)
            if self._space is None or space in (self._space, _SHARED):
                size, digest = held.content or (None, None)
                yield Holding(as_bytes(held.key), space, size, digest, held.problem)

    def _open_pseudonyms(self, store: str, content_key: ContentKey) -> None:
        """Let claims under a pseudonym stand under the record's key, wherever that is known from elsewhere."""
        for space, key in self._scratch.known_keys(store):
            try:
                pseudonym = content_key.pseudonym(space.decode(), store, key.decode())
            except (UnicodeDecodeError, UsageError):
                continue  # no key that was ever written
            self._scratch.merge_claims(store, space, key, pseudonym.encode())

    def _judge(self, store: Auditable, claim: Claim, holding: Holding | None, unnamed: int) -> str:
        """Compare a claim with what is there; return what to count it as."""
        if claim.gone and holding is None:
            return "gone"
        checksum = self._opened(claim, holding)
        rule, detail = _difference(claim, holding, checksum)
        if rule is None:
            return "matched" if checksum is not None else "uncheckable"
        if claim.place < unnamed:
            return "uncheckable"  # a later write, of which only the content key tells the record, may be this one's
        if self._is_newer_now(store, claim.key):
            return _BAD
        self._add(rule, detail, store.name, claim.key, claim.uow_id, claim.band)
        return _BAD

    def _opened(self, claim: Claim, holding: Holding | None) -> str | None:
        """Return a claim's checksum as a plain digest; None where nobody here can compare it."""
        checksum = claim.checksum
        if checksum is None or checksum.startswith(_PLAIN):
            return checksum
        if self._content_key is None or holding is None or holding.digest is None:
            return None
        same = checksum == self._content_key.checksum(claim.space.decode("utf-8", "replace"), holding.digest)
        return f"{_PLAIN}{holding.digest if same else None}"

    def _judge_unclaimed(self, store: Auditable, holding: Holding, veil: int | None, *, is_old: bool) -> str:
        """Say what a record is of which no receipt speaks."""
        if is_old or veil:
            return "uncheckable"
        if store.shares_records:
            return "unclaimed"
        if not self._is_newer_now(store, holding.key):
            detail = "The store holds a record of which no receipt speaks: it was written around the library."
            self._add("unclaimed", detail, store.name, holding.key, None, Band.GREEN if veil is None else Band.AMBER)
        return _BAD

    def _is_newer_now(self, store: Auditable, key: bytes) -> bool:
        """Say whether another unit wrote a record outside the ledger while it was being looked at."""
        if store.capability is Capability.SAME_TRANSACTION:
            return False  # read in the same snapshot as the receipts
        return self._is_newer(store.name, key.decode("utf-8", "replace"))

    def _add(  # noqa: PLR0917
        self, rule: str, detail: str, store: str, key: bytes, uow_id: bytes | None, band: object
    ) -> None:
        self._findings.add(
            rule,
            detail,
            uow_id=None if uow_id is None else uow_id.decode("utf-8", "replace"),
            store=store,
            record=key.decode("utf-8", "replace"),
            band=band,
        )


def _difference(claim: Claim, holding: Holding | None, checksum: str | None) -> tuple[str | None, str]:
    """Return rule and sentence for what does not fit, or None."""
    if holding is None or (holding.digest is None and holding.problem is None and not claim.gone):
        return "missing", "The receipt says that the record is there, and the store has not got it."
    if claim.gone:
        return "back", "The receipt says that the record was deleted, and the store has it."
    same = claim.size == holding.size and (checksum is None or checksum == f"{_PLAIN}{holding.digest}")
    if holding.digest is not None and not same:
        return "changed", "The store holds another content than the receipt says."
    if holding.problem is not None:
        return "damaged", f"Of this record, {holding.problem}."
    return None, ""
