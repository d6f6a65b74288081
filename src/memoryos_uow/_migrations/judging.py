"""How far a ledger's schema has come, judged by what is there; the same for every kind of database.

Promise: pure, but for the questions it is given to ask. What ``uow_schema`` records alone makes no schema current.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _schema
from memoryos_uow._names import CONTRACT_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    Pair = tuple[str, str]  # (table, column) or (type of object, name)


class Kind(StrEnum):
    """How far a ledger has come."""

    NEW = "new"
    """No ledger yet: an empty database, or one of the application's own."""
    BASIC = "1.0.0"
    """The tables of 1.0.0 and nothing of 1.1.0; ``uow_writes`` may be missing."""
    PARTIAL = "partial"
    """Something of 1.1.0 is there and something is missing: begun by hand, or changed by hand since."""
    SOFT = "soft-downgraded"
    """The columns of 1.1.0 are there and given up (specification, backward migration)."""
    CURRENT = "current"
    """All of 1.1.0, as this library makes it."""
    TOO_NEW = "too-new"
    """Written by a later version of this library."""
    FOREIGN = "foreign"
    """Something of the application's own bears the name of one of our tables."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What `inspect` found."""

    kind: Kind
    version: str | None
    """The contract that the ledger keeps, ``1.0.0`` or ``1.1.0``; the unknown version of one that is too new."""
    missing: tuple[str, ...] = ()
    """What a current ledger has and this one lacks: ``unit_of_work.band``, ``index idx_uow_band``, ...; where something
    is foreign, what it would need to be a ledger's."""
    has_base_tables: bool = False
    """Both tables have the columns of 1.0.0: basic mode (the specification's fallback) can work with them."""


class Wanted(NamedTuple):
    """What a current ledger of one kind of database has."""

    added: frozenset[Pair]
    """What 1.1.0 and the library's own layout add to 1.0.0."""
    base_columns: Mapping[str, Sequence[str]]
    """The columns of 1.0.0 by table."""
    files: _schema.Files


_OBJECTS: Final = ("index", "table", "view")
_BASE_TABLES: Final = frozenset(("table", name) for name in _schema.CONTRACT_TABLES)
_RECORD: Final = frozenset({("uow_schema", "version"), ("uow_schema", "checksum")})


def wanted(files: _schema.Files, base_columns: Callable[[str], Sequence[str]]) -> Wanted:
    """Return what `files` make; `base_columns` tells which columns of a table 1.0.0 had."""
    columns = {(added.table, added.column) for added in _schema.added_columns(files.up)}
    added = frozenset(columns.union(_schema.created(files.up), _schema.created(files.ledger)))
    return Wanted(added, {table: base_columns(table) for table in _schema.CONTRACT_TABLES}, files)


def judge(
    found: AbstractSet[Pair],
    wanted: Wanted,
    read_record: Callable[[], Iterable[tuple[object, object]]],
    has_problems: Callable[[], object],
) -> SchemaState:
    """Say what a schema is in which `found` is there.

    `read_record` reads version and checksum from ``uow_schema``, which is asked only where there is such a table;
    `has_problems` compares the whole shape, which is done only where the checksums are not ours.
    """
    recorded: dict[str, object] = {}
    if ("table", "uow_schema") in found:
        if not found >= _RECORD:
            return SchemaState(Kind.FOREIGN, None, _described(_RECORD - found))
        recorded = {str(version): checksum for version, checksum in read_record()}
    newer = [version for version in recorded if _schema.is_newer(version)]
    if newer:
        return SchemaState(Kind.TOO_NEW, newer[0])
    missing = (wanted.added | _BASE_TABLES) - found
    if not missing and _is_ours(recorded, wanted, has_problems):
        return SchemaState(Kind.CURRENT, CONTRACT_VERSION, has_base_tables=True)
    return _judge_old(found, missing, recorded, wanted)


def _is_ours(recorded: Mapping[str, object], wanted: Wanted, has_problems: Callable[[], object]) -> bool:
    checksums = {version: _schema.checksum(name) for version, name in wanted.files.layers.items()}
    if checksums.items() <= recorded.items():
        return True
    # Other checksums: another build of this version made the ledger. What counts is what is there.
    return checksums.keys() <= recorded.keys() and not has_problems()


def _judge_old(
    found: AbstractSet[Pair], missing: AbstractSet[Pair], recorded: Mapping[str, object], wanted: Wanted
) -> SchemaState:
    tables = [table for table in _schema.CONTRACT_TABLES if {("table", table), ("view", table)} & found]
    if not tables:
        return SchemaState(Kind.NEW, None, _described(missing))
    lacking = {(table, column) for table in tables for column in wanted.base_columns[table]} - found
    lacking |= {("table", table) for table in tables} - found
    if lacking:
        return SchemaState(Kind.FOREIGN, None, _described(lacking))
    if missing >= wanted.added and not recorded:
        kind = Kind.BASIC
    elif _was_given_up(missing, recorded, wanted):
        kind = Kind.SOFT
    else:
        kind = Kind.PARTIAL
    return SchemaState(kind, "1.0.0", _described(missing), has_base_tables=found >= _BASE_TABLES)


def _was_given_up(missing: AbstractSet[Pair], recorded: Mapping[str, object], wanted: Wanted) -> bool:
    """Say whether just that is missing which the soft way down takes: indexes, a line in ``uow_schema``."""
    taken = frozenset(_schema.created(wanted.files.up))
    return missing == taken and recorded.keys() == wanted.files.layers.keys() - {CONTRACT_VERSION}


def _described(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(sorted(f"{of} {name}" if of in _OBJECTS else f"{of}.{name}" for of, name in pairs))
