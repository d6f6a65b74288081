"""The steps of a copy."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._copying.report import CopyProgress, CopyReport
from memoryos_uow._copying.source import held
from memoryos_uow._copying.target import Target
from memoryos_uow._opening import check_timeout
from memoryos_uow._verification.database import DatabaseVerifier
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from memoryos_uow._copying.source import Source

CHUNK_ROWS: Final = 20_000
CHUNK_BYTES: Final = 8_000_000
_RECORDS: Final = ("uow_documents", "uow_vectors", "uow_blobs", "uow_heads")
_TOLD_EVERY: Final = 50_000


def copy_ledger(
    source: str | os.PathLike[str],
    target: str,
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[CopyProgress], None] | None = None,
) -> CopyReport:
    """Copy the ledger in the file `source` to the database at the address `target`; see `Ledger.copy`."""
    timeout_s = check_timeout(busy_timeout)
    tell = progress or (lambda _: None)
    tell(CopyProgress("connecting", 0, 0))
    there = Target.open(target, busy_timeout_s=timeout_s)
    try:
        tell(CopyProgress("finishing what is unfinished in the source", 0, 0))
        with held(source, busy_timeout_s=timeout_s) as here:
            return _copied(here, there, tell)
    finally:
        there.close()


def _copied(here: Source, there: Target, tell: Callable[[CopyProgress], None]) -> CopyReport:
    is_new = there.begin(here)
    if is_new:
        _write(here, there, tell)
        there.set_up_stores()
        _compare(here, there, tell)
        _prove(here, there, tell)
        there.finish()
    own = sum(here.counts[table.part().table] for table in here.own)
    return CopyReport(
        origin=here.identity.origin,
        root=here.root,
        units=here.counts["unit_of_work"],
        writes=here.counts["uow_writes"],
        records=own + sum(here.counts[name] for name in _RECORDS),
        tables={name.strip('"'): count for name, count in here.counts.items() if count},
        left_out=here.left_out,
        already=not is_new,
    )


# Writing


def _write(here: Source, there: Target, tell: Callable[[CopyProgress], None]) -> None:
    total, known = sum(here.counts.values()), there.progress()
    done = sum(rows for _, rows in known.values())
    for part in here.parts:
        after, begun = known[part.table]
        tell(CopyProgress(f"copying {part.table}", done, total))
        for chunk in _chunks(here.rows(part, after)):
            after = there.write(part, chunk, after=after, begun=begun)
            begun += len(chunk)
            done += len(chunk)
            tell(CopyProgress(f"copying {part.table}", done, total))


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows together, as many as fit into one transaction of some megabytes."""
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


# Comparing


def _compare(here: Source, there: Target, tell: Callable[[CopyProgress], None]) -> None:
    """Compare each row of the target with the source's.

    Raises:
        LedgerError: they differ; the next run begins anew.
    """
    done, total = 0, sum(here.counts.values())
    for part in here.parts:
        for number, (ours, theirs) in enumerate(zip_longest(here.rows(part, None), there.rows(part)), 1):
            if ours != theirs:
                there.forget_progress(here.identity)
                raise _differs(f"row {number:,} of {part.table}", there.place)
            done += 1
            if done % _TOLD_EVERY == 0:
                tell(CopyProgress(f"comparing {part.table}", done, total))


def _differs(where: str, place: str) -> LedgerError:
    return LedgerError(
        f"What {place} holds in {where} is not what the source holds.",
        hint="The source was changed between two runs, or somebody else wrote to the target. Run the copy again: it"
        " begins anew.",
    )


def _prove(here: Source, there: Target, tell: Callable[[CopyProgress], None]) -> None:
    """Recompute every receipt from the target's rows, and the root over them.

    Raises:
        LedgerError: something does not hold. Each row is the source's, so it does not hold there either.
    """
    total = sum(here.counts.values())
    found = DatabaseVerifier(
        there.engine, None, stores={}, live=False, progress=lambda step: tell(CopyProgress(step, total, total))
    ).run()
    if found.problems or found.root != here.root:
        what = found.problems[0].detail if found.problems else f"The root is {found.root}, not {here.root}."
        raise LedgerError(
            f"{max(found.problems_total, 1):,} things about receipts do not hold, in the copy as in the source: {what}",
            hint="The copy cannot be opened. `memoryos-uow verify` names all of them in the source.",
        )
