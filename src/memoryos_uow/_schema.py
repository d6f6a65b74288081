"""The schema files: found, split into statements, fingerprinted and ordered by version.

Promise: the SQL and the JSON Schema live in ``schema/`` and nowhere else; whatever the code needs to know of a
table it reads from there. Every file is read once per process.
"""

from __future__ import annotations

import json
import re
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import CONTRACT_VERSION, Dialect
from memoryos_uow.errors import MigrationError

BASE: Final = "1.0.0.sql"
UP: Final = "1.1.0.up.sql"
DOWN: Final = "1.1.0.down.sql"
LEDGER: Final = "ledger.sql"
STORES: Final = "stores.sql"
SECOND_FILE: Final = "second_file.sql"
SECOND_DATABASE: Final = "postgres/second_store.sql"
SAVED: Final = "saved.sql"
VALIDATION: Final = "validation.sql"
UNIT_RECORD: Final = "unit_of_work_enhanced.schema.json"

CONTRACT_TABLES: Final = ("unit_of_work", "uow_writes")
"""The tables of the specification; every other table of this library is its own."""

LEDGER_LAYOUT: Final = f"{CONTRACT_VERSION}+ledger.1"
"""Version of the library's own tables: a later library that only adds some counts on behind ``+ledger.``."""


class Files(NamedTuple):
    """The schema files of one kind of ledger."""

    base: str
    up: str
    down: str
    ledger: str
    stores: str
    validation: str

    @property
    def layers(self) -> dict[str, str]:
        """The versions that ``uow_schema`` lists in a current ledger, and the file behind each."""
        return {CONTRACT_VERSION: self.up, LEDGER_LAYOUT: self.ledger}


_SQLITE: Final = Files(BASE, UP, DOWN, LEDGER, STORES, VALIDATION)
FILES: Final = {
    Dialect.SQLITE: _SQLITE,
    Dialect.POSTGRESQL: Files(*(f"postgres/{name}" for name in _SQLITE)),
}

LAYERS: Final = _SQLITE.layers
"""What ``uow_schema`` lists in a current SQLite ledger."""

# An installed wheel carries the folder inside the package; a checkout has it beside src/.
_PLACES: Final = (Path(__file__).with_name("schema"), Path(__file__).parents[2] / "schema")

_ADD_COLUMN: Final = re.compile(r"ALTER TABLE (\w+) ADD COLUMN (?:IF NOT EXISTS )?(\w+)")
_CREATE: Final = re.compile(r"^CREATE (?:OR REPLACE )?(TABLE|VIEW|INDEX) (?:IF NOT EXISTS )?(\w+)", re.MULTILINE)

# The pattern that semver.org gives for version 2.0.0.
_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_LAYOUT: Final = re.compile(r"ledger\.(0|[1-9]\d*)", re.ASCII)


class AddedColumn(NamedTuple):
    """One ``ALTER TABLE ... ADD COLUMN`` of a schema file."""

    table: str
    column: str
    statement: str


class Created(NamedTuple):
    """A table, view or index that a schema file creates where it is missing."""

    kind: str
    """``table``, ``view`` or ``index``, as in ``sqlite_schema.type``."""
    name: str


@cache
def text(name: str) -> str:
    """Return the text of the schema file `name`; its lines end with a line feed on every system.

    Raises:
        MigrationError: the installation lacks the file.
    """
    for place in _PLACES:
        try:
            return (place / name).read_text(encoding="utf-8")
        except OSError:
            continue
    raise MigrationError(
        f"This installation of memoryos-uow lacks its file schema/{name}.",
        hint="No ledger was changed. Install the library again.",
    )


@cache
def checksum(name: str) -> str:
    """Return the SHA-256 of the schema file `name` as 64 hex digits: what ``sha256sum`` prints for it."""
    return sha256_hex(text(name).encode())


@cache
def statements(name: str) -> tuple[str, ...]:
    """Return the SQL statements of the schema file `name`, in order, each with the comment above it."""
    return split(text(name))


def split(script: str) -> tuple[str, ...]:
    """Return the SQL statements of `script`; SQLite itself says where one ends (strings, comments, triggers).

    Raises:
        MigrationError: the script ends inside a statement, as a cut file does.
    """
    found = []
    begun = ""
    for piece in re.split(r"(?<=;)", script):
        begun += piece
        if sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    if begun.strip():
        raise MigrationError(
            "A schema file of this installation ends inside a statement.",
            hint="No ledger was changed. Install the library again.",
        )
    return tuple(found)


@cache
def added_columns(name: str = UP) -> tuple[AddedColumn, ...]:
    """Return every column that 1.1.0, the schema file `name`, adds to the specification's tables, in order."""
    return tuple(
        AddedColumn(match[1], match[2], statement)
        for statement in statements(name)
        if (match := _ADD_COLUMN.search(statement))
    )


@cache
def created(name: str) -> tuple[Created, ...]:
    """Return what the schema file `name` creates, in order."""
    return tuple(Created(match[1].lower(), match[2]) for match in _CREATE.finditer(text(name)))


def unit_record_schema() -> dict[str, Any]:
    """Return the JSON Schema (Draft 2020-12) of ``UnitRecord.as_dict()``, freshly parsed."""
    schema: dict[str, Any] = json.loads(text(UNIT_RECORD))
    return schema


def is_newer(version: str) -> bool:
    """Say whether a schema `version` found in a ledger is beyond what this library knows.

    Versions compare by the precedence of Semantic Versioning 2.0.0, section 11; the number behind ``+ledger.``
    decides between equals. What is not understood counts as newer: whoever wrote it knew more than we do.
    """
    found = _precedence(version)
    return found is None or found > _OURS


def _precedence(version: str) -> tuple[object, ...] | None:
    match = _SEMVER.fullmatch(version)
    layout = _LAYOUT.fullmatch(match[5]) if match and match[5] else None
    if match is None or (match[5] and layout is None):
        return None
    core = tuple(int(part) for part in match.groups()[:3])
    # A release comes after all of its pre-releases; numbers come before words.
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in match[4].split(".")] if match[4] else []
    return (*core, not parts, parts, int(layout[1]) if layout else 0)


_OURS: Final = _precedence(LEDGER_LAYOUT) or ()
