"""What the tests of units share: a stranger's look at the file, a held lock, a second process."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import memoryos_uow
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore, VectorStore
from tests import both

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow import Ledger
    from memoryos_uow.abc import Store

SPACE: Final = "shared:household"
rows = both.rows
MARKER: Final = "pAYl0ad"
"""Stands in every payload that must not show up anywhere."""

_IMPORTABLE: Final = os.pathsep.join(map(str, (Path(memoryos_uow.__file__).parents[1], Path(__file__).parents[1])))


class OwnError(Exception):
    """The caller's own exception."""


def throw(error: BaseException) -> None:
    """Raise, from a frame that can be recognised."""
    raise error


def four_stores(directory: Path | None = None) -> list[Store]:
    """One store of each kind; blobs of 16 bytes and more become files, beside the ledger or in `directory`."""
    return [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT", "n": "INTEGER", "what": "TEXT"}),
        VectorStore("embeddings", dimensions=2),
        BlobStore("photos", "photos" if directory is None else directory / "photos", inline_below=16),
    ]


def everything(path: Path | str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the file, or of the database, and the schema."""
    if isinstance(path, str):
        names = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"
        return {name: sorted(rows(path, f'SELECT * FROM "{name}"'), key=repr) for (name,) in rows(path, names)}
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    found = {name: rows(path, f'SELECT * FROM "{name}"') for name in tables}
    found["(schema)"] = rows(path, "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name")
    return found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock on a connection that is not the library's."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def statuses(ledger: Ledger) -> list[str]:
    """The status of every recorded unit, oldest first."""
    return [record.status for record in reversed(ledger.units(limit=10_000))]


def python(code: str, *arguments: object) -> list[str]:
    """The command of a second process of this interpreter that runs `code`."""
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """The environment of a second process: it finds the library and the tests, and measures nothing."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_", "PYTHON"))}
    return {**kept, "PYTHONPATH": _IMPORTABLE, **more}


def start(code: str, *arguments: object, **more: str) -> subprocess.Popen[str]:
    """A second process with pipes in all directions."""
    pipe = subprocess.PIPE
    command = python(code, *arguments)
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment(**more))


def run(code: str, *arguments: object, cwd: Path | None = None, **more: str) -> str:
    """The standard output of a second process; a failure shows what it said."""
    done = subprocess.run(
        python(code, *arguments), capture_output=True, text=True, env=environment(**more), cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
