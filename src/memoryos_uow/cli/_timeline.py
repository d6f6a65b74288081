"""The timeline of a unit in plain text: its block, the writes to each store, and its commit.

Drawn from what the ledger knows: when the unit began, when each write was made (the wall clock), and how long execution
and commit took (the monotonic clock). Where the two clocks disagree, a write is drawn at the nearest end.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from memoryos_uow._terminal import cut, printable, width
from memoryos_uow.cli._stats import duration

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord

_BAR_LEAST: Final = 20
_BAR_MOST: Final = 60
_NAME_MOST: Final = 24
_BEHIND: Final = 22
"""Columns kept for the words behind each bar."""


def timeline(record: UnitRecord, room: int | None) -> list[str]:
    """Return the lines of a unit's timeline; none if the ledger does not know how long it took."""
    begun = _moment(record.created_ts)
    took, commit = record.execution_us, record.commit_us
    if begun is None or took is None or commit is None:
        return []
    stores: dict[str, list[int]] = {}
    for write in record.writes:
        at = _moment(write.ts)
        if at is not None:
            stores.setdefault(write.store_name, []).append(min(max(_microseconds(begun, at), 0), took))
    names = {name: cut(printable(name), _NAME_MOST) for name in stores}
    left = max(map(width, ("block", "commit", *names.values())))
    bar = _BAR_MOST if room is None else min(max(room - left - _BEHIND - 4, _BAR_LEAST), _BAR_MOST)
    committing = took - min(commit, took)
    lines = [_line("block", _stretch(0, committing, took, bar), duration(committing), left)]
    for name, times in stores.items():
        words = f"{len(times):,} written" if len(times) > 1 else f"at {duration(times[0])}"
        lines.append(_line(names[name], _points(times, took, bar), words, left))
    lines.append(_line("commit", _stretch(committing, took, took, bar), duration(took - committing), left))
    return lines if room is None else [cut(line, room) for line in lines]


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None


def _microseconds(begin: datetime, end: datetime) -> int:
    if (begin.tzinfo is None) != (end.tzinfo is None):
        return 0
    return round((end - begin).total_seconds() * 1_000_000)


def _place(at: int, took: int, bar: int) -> int:
    return min(at * bar // max(took, 1), bar - 1)


def _stretch(begin: int, end: int, took: int, bar: int) -> str:
    first, last = _place(begin, took, bar), _place(max(end - 1, begin), took, bar)
    return " " * first + "=" * (last - first + 1) + " " * (bar - last - 1)


def _points(times: list[int], took: int, bar: int) -> str:
    places = {_place(at, took, bar) for at in times}
    return "".join("*" if place in places else " " for place in range(bar))


def _line(name: str, drawn: str, words: str, left: int) -> str:
    return f"{name}{' ' * (left - width(name))} |{drawn}| {words}"
