"""`check_store`: the executable definition of a store."""

from __future__ import annotations

import tempfile
from contextlib import closing
from inspect import isgeneratorfunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.errors import UsageError
from memoryos_uow.testing import _contents_checks as contents
from memoryos_uow.testing import _erasing_checks as erasures
from memoryos_uow.testing import _inside_checks as inside
from memoryos_uow.testing import _outside_checks as outside
from memoryos_uow.testing import _unit_checks as units
from memoryos_uow.testing._bench import Subject
from memoryos_uow.testing._obligations import CAPABILITY, BrokenError, StoreCheckError, StoreFault, StoreReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow.abc import Store

_CHECKS: Final[tuple[Callable[..., Any], ...]] = (
    inside.claims,
    inside.attaching,
    inside.encoding,
    inside.measuring,
    inside.applying,
    inside.reading,
    inside.saving,
    inside.closing,
    outside.preparing,
    outside.publishing,
    outside.publishing_elsewhere,
    outside.holding,
    outside.abandoning,
    outside.sweeping,
    contents.contents,
    erasures.erasing,
    units.savepoints,
    units.refused,
    units.killed,
    units.late,
)
VALUES_MIN: Final = 3


def check_store(
    factory: Callable[[], Store],
    *,
    values: Sequence[Any],
    refused: Sequence[Any] = (),
    as_read: Callable[[str, str, Any], Any] | None = None,
    stored: Callable[[Path, str, str], bytes | None] | None = None,
    copied: Callable[[Path, Path], None] | None = None,
    first_only: bool = False,
) -> StoreReport:
    """Try everything on a store that its contract (`memoryos_uow.abc`) promises, killing processes on the way.

    The store is driven call by call, each call doubled, late and in every order the contract allows, by several
    processes at once; and in real units on a real ledger, which are killed before and after each call, refused after
    each call, and taken over while their owner is stopped. Needs `os.fork`; call it with no ledger open.

    Args:
        factory: returns a new instance each time, of one name. Relative paths should start at the ledger's directory.
        values: at least three different values that the store takes; large and small ones where that matters to it.
        refused: values that it cannot take.
        as_read: what `read` returns for a space, a key and a value written; default: the value itself.
        stored: returns the exact bytes that the store keeps, by the ledger's directory, space and key, found in another
            way than through the store; None if there is nothing. With it, lengths and checksums are compared with the
            truth, and so is what was published; without, lengths and checksums of values that are bytes.
        copied: for a store that keeps something in neither the ledger nor its directory: is called with the directory
            of a ledger and that of a copy of it, and has to copy the store's part, too. In the copy no unit is open.
        first_only: stop at the first obligation that does not hold.

    Raises:
        StoreCheckError: an obligation does not hold; the message names each by its number in `memoryos_uow.abc`.
        UsageError: too few values.
    """
    if len(values) < VALUES_MIN:
        raise UsageError(f"check_store needs {VALUES_MIN} different values.", hint="Pass values=[...].")
    subject = Subject(factory, values, refused, stored=stored, copied=copied)
    if as_read is not None:
        subject.as_read = as_read
    report = StoreReport(repr(factory()))
    with tempfile.TemporaryDirectory(prefix="memoryos-uow-store-") as home:
        for check in _CHECKS:
            directory = Path(home).resolve() / check.__name__
            directory.mkdir()
            _run(check, subject, directory, report)
            if report.faults and (first_only or report.faults[0].obligation == CAPABILITY):
                break  # without its methods nothing else makes sense
    if report.faults:
        raise StoreCheckError(report)
    return report


def _run(check: Callable[..., Any], subject: Subject, directory: Path, report: StoreReport) -> None:
    name = check.__name__.replace("_", " ")
    report.checks.append(name)
    try:
        if isgeneratorfunction(check):
            with closing(check(subject, directory)) as steps:
                report.kills += sum(steps)
        else:
            check(subject, directory)
    except BrokenError as broken:
        report.faults.append(StoreFault(broken.obligation, name, str(broken)))
