"""PostgresStore keeps every obligation of a store, whether it decides or prepares: `check_store` on a real server."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import pytest

from memoryos_uow.abc import Capability
from memoryos_uow.stores import PostgresStore
from memoryos_uow.stores._pg_address import read_address
from memoryos_uow.stores._second_database import SecondDatabase
from memoryos_uow.testing import check_store
from tests.postgres.second import EVERY_STEP
from tests.testing.faulty import DOCUMENTS, NO_DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow.abc import Home, Reader
    from tests.postgres_server import Server


EVERY = pytest.mark.skipif(
    not os.environ.get(EVERY_STEP), reason=f"a store without a server is checked in its place; set {EVERY_STEP} to try"
)


class PerDirectory(PostgresStore):
    """Has a database for each directory with a ledger, so that ledgers can be copied."""

    server: ClassVar[Server]
    decides: ClassVar[bool]

    def __init__(self) -> None:
        super().__init__("subject", self.server.url("nowhere"), two_phase=not self.decides, timeout=1.0)

    @property
    def prepares(self) -> bool:
        return not self.decides

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        name = database_of(Path(home.absolute(".")))
        with self.server.connect() as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if recorded is None and there is None:
            make(self.server, name, "template0")
        address = read_address(self.server.url(name), self.name)
        if address != self._address:
            self._address = address
            self._database.close()
            self._database = SecondDatabase(address, self.name, 1.0)
        return super().attach(home, reader, recorded)


def database_of(directory: Path) -> str:
    """The name of the database that belongs to a directory."""
    return f"check_{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"


def make(server: Server, name: str, template: str) -> None:
    """Make a database anew, in place of one that nobody needs any more."""
    with server.connect() as connection:
        left = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]).fetchall()
        if left:
            with server.connect(name) as inside:
                for (gid,) in left:
                    inside.execute(f"ROLLBACK PREPARED '{gid}'".encode())
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())


@pytest.mark.parametrize("decides", [False, pytest.param(True, marks=EVERY)], ids=["two phase", "last resource"])
def test_every_obligation_is_kept(pg_server: Server, *, decides: bool) -> None:
    """Killed, refused, doubled and taken over at each call, it keeps every obligation of its capability."""
    PerDirectory.server, PerDirectory.decides = pg_server, decides

    def copied(directory: Path, copy: Path) -> None:
        make(pg_server, database_of(copy), database_of(directory))

    def stored(directory: Path, space: str, key: str) -> bytes | None:
        with psycopg.connect(pg_server.url(database_of(directory))) as connection:
            query = "SELECT value FROM uow_records WHERE space_id = %s AND key = %s"
            found = connection.execute(query, [space, key]).fetchone()
        return None if found is None else str(found[0]).encode()

    assert PerDirectory().capability is (Capability.LAST_RESOURCE if decides else Capability.TWO_PHASE)
    report = check_store(PerDirectory, values=DOCUMENTS, refused=NO_DOCUMENTS, stored=stored, copied=copied)
    assert report.kills >= 20
