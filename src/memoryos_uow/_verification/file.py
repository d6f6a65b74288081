"""Verification of a ledger in a file: its snapshot, its pages and indexes, and the head that lies beside it."""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._verification.rows import VerifierRows
from memoryos_uow._verification.run import Verifying
from memoryos_uow.engines._transaction import SQLiteReader
from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow._verification.findings import Findings

FILE_PROBLEMS_MAX: Final = 100
_CACHE_KIB: Final = 8_000  # several steps read the same neighbourhoods at once
_LENIENT: Final = partial(str, encoding="utf-8", errors="surrogateescape")


class Verifier(Verifying):
    """One verification of a ledger in a file."""

    checks_files = True

    def __init__(self, connect: Callable[[], sqlite3.Connection], path: Path, **asked: Any) -> None:
        """Verify the ledger at `path`, to which `connect` opens connections; what is `asked` as `Verifying` has it."""
        super().__init__(**asked)
        self._connect = connect
        self._path = path

    @contextmanager
    def _snapshot(self, *, lenient: bool) -> Iterator[VerifierRows]:
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if lenient:
                connection.text_factory = _LENIENT
            connection.execute("BEGIN")
            reader = SQLiteReader(connection, str(self._path))
            try:
                yield VerifierRows(reader)
            finally:
                reader.give_back()

    def _kept_beside(self) -> Path | None:
        return self._path

    def _directory(self) -> Path | None:
        return self._path.parent

    def _check_file(self, rows: VerifierRows, findings: Findings) -> None:
        self._tell("checking the file's pages and indexes")
        try:
            problems = rows.problems_of_file(FILE_PROBLEMS_MAX)
        except UnitOfWorkError as damage:
            findings.add_damage(damage, "The file")
            return
        for problem in problems:
            findings.add("file", f"SQLite reports: {problem}")
