"""The same unit of three documents on PostgreSQL: through the library, by hand, and through others on the same server.

By hand is what somebody who needs no ledger writes with psycopg: one transaction, three `INSERT ... ON CONFLICT` into
a table of the same layout. Each contender has a database of its own on one server with durable settings.
"""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

from benchmarks._work import CONTEXT, SPACE, documents
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.postgres_server import Databases, start_server, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.postgres_server import Server

_SETTINGS: Final[dict[str, object]] = {
    "autovacuum": "on",
    "max_connections": 200,
    "max_wal_size": "4GB",
    "shared_buffers": "512MB",
    "synchronous_commit": "on",
}
TABLE: Final = """
CREATE TABLE documents (store TEXT COLLATE "C" NOT NULL, space_id TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C"
  NOT NULL, version BIGINT NOT NULL, value TEXT COLLATE "C" NOT NULL, data JSONB GENERATED ALWAYS AS (value::jsonb)
  STORED, PRIMARY KEY (store, space_id, key))
"""
UPSERT: Final = (
    "INSERT INTO documents (store, space_id, key, version, value) VALUES ('notes', %s, %s, %s, %s)"
    " ON CONFLICT (store, space_id, key) DO UPDATE SET version = excluded.version, value = excluded.value"
)


@contextmanager
def durable_server(*, sync_us: int = 0) -> Iterator[Server]:
    """Lend a server that syncs each commit, as it is by default; `sync_us` makes each sync take longer by so much.

    That is `commit_delay` (https://www.postgresql.org/docs/current/runtime-config-wal.html): whoever is to flush the
    log sleeps before, and takes with it whatever others have written meanwhile, as a slower disk would.
    """
    slow = {"commit_delay": sync_us, "commit_siblings": 0} if sync_us else {}
    server = start_server(durable=True, **_SETTINGS, **slow)
    try:
        yield server
    finally:
        server.stop()


def reason_without() -> str | None:
    """Return why no server can be started here, None if one can."""
    return why_not()


class PostgresWork:
    """Something done to a database of its own as often as it is called; keys of each `writer` are its own."""

    needs: tuple[str, ...] = ()

    def __init__(self, url: str, writer: str = "") -> None:
        self.url = url
        self.writer = writer
        self._numbers = itertools.count(1)

    def __call__(self) -> None:
        self.write(next(self._numbers))

    def write(self, number: int) -> None:
        """Write the three documents of unit `number`."""
        raise NotImplementedError

    def rows(self, number: int) -> Sequence[tuple[Any, ...]]:
        """Return the rows of unit `number`: space, key, version, value."""
        return [
            (SPACE, self.writer + key, number, json.dumps(value, ensure_ascii=False, separators=(",", ":")))
            for key, value in documents(number)
        ]

    def close(self) -> None:
        """Let go of the database."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ByHandPostgres(PostgresWork):
    """The floor: psycopg, one transaction, three statements."""

    def __init__(self, url: str, writer: str = "") -> None:
        super().__init__(url, writer)
        import psycopg

        self.connection = psycopg.connect(url, autocommit=True)
        make_table(self.connection)

    def write(self, number: int) -> None:
        execute = self.connection.execute
        with self.connection.transaction():
            for row in self.rows(number):
                execute(UPSERT, row)

    def close(self) -> None:
        self.connection.close()


class ByLibraryPostgres(PostgresWork):
    """A unit of work with every context column filled in; `ledger` where several threads share one."""

    def __init__(self, url: str, writer: str = "", *, ledger: Ledger | None = None) -> None:
        super().__init__(url, writer)
        self._shared = ledger is not None
        self.ledger = ledger or Ledger.open(url, stores=[DocumentStore("notes")])

    def write(self, number: int) -> None:
        with self.ledger.unit(**CONTEXT, correlation_id=f"req-{number:08d}") as uow:
            notes = uow["notes"]
            for key, value in documents(number):
                notes.upsert(self.writer + key, value)

    def close(self) -> None:
        if not self._shared:
            self.ledger.close()


class SqlAlchemyCorePostgres(PostgresWork):
    """An `insert` of three rows, with ON CONFLICT, inside `engine.begin`."""

    needs = ("sqlalchemy", "psycopg")

    def __init__(self, url: str, writer: str = "") -> None:
        super().__init__(url, writer)
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            make_table(connection)
        self.library: Any = import_module("sqlalchemy")
        self.engine: Any = self.library.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        column, text, integer = self.library.Column, self.library.Text, self.library.BigInteger
        columns = [column(name, text, primary_key=True) for name in ("store", "space_id", "key")]
        self.table: Any = self.library.Table(
            "documents", self.library.MetaData(), *columns, column("version", integer), column("value", text)
        )
        insert: Any = import_module("sqlalchemy.dialects.postgresql").insert(self.table)
        self.upsert: Any = insert.on_conflict_do_update(
            index_elements=["store", "space_id", "key"],
            set_={"version": insert.excluded.version, "value": insert.excluded.value},
        )

    def records(self, number: int) -> list[dict[str, Any]]:
        """Return the rows as dicts."""
        names = ("store", "space_id", "key", "version", "value")
        return [dict(zip(names, ("notes", *row), strict=True)) for row in self.rows(number)]

    def write(self, number: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.upsert, self.records(number))

    def close(self) -> None:
        self.engine.dispose()


class SqlAlchemyOrmPostgres(SqlAlchemyCorePostgres):
    """Three objects merged into a session: its way to write what may be there already."""

    def __init__(self, url: str, writer: str = "") -> None:
        super().__init__(url, writer)
        orm: Any = import_module("sqlalchemy.orm")
        self.session: Any = orm.Session
        self.mapped: Any = type("Document", (), {})
        orm.registry().map_imperatively(self.mapped, self.table)

    def write(self, number: int) -> None:
        with self.session(self.engine) as session, session.begin():
            for record in self.records(number):
                one = self.mapped()
                for name, value in record.items():
                    setattr(one, name, value)
                session.merge(one)


class DbosPostgres(PostgresWork):
    """A DBOS workflow of one step that writes the three rows; DBOS records workflow and step beside them."""

    needs = ("dbos", "sqlalchemy", "psycopg")

    def __init__(self, url: str, writer: str = "") -> None:
        super().__init__(url, writer)
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            make_table(connection)
        dbos: Any = import_module("dbos")
        address = url.replace("postgresql://", "postgresql+psycopg://", 1)
        config = {"name": "benchmark", "system_database_url": address, "log_level": "ERROR"}
        self.library: Any = dbos.DBOS
        self.library(config=config)
        source: Any = dbos.SQLAlchemyDatasource
        self.data: Any = source.create(address)
        text: Any = import_module("sqlalchemy").text
        statement = text(
            "INSERT INTO documents (store, space_id, key, version, value) VALUES ('notes', :s, :k, :n, :v)"
            " ON CONFLICT (store, space_id, key) DO UPDATE SET version = excluded.version, value = excluded.value"
        )

        @self.data.transaction()  # type: ignore[untyped-decorator]
        def store(number: int) -> None:
            for space, key, version, value in self.rows(number):
                self.data.sql_session().execute(statement, {"s": space, "k": key, "n": version, "v": value})

        @self.library.workflow()  # type: ignore[untyped-decorator]
        def unit(number: int) -> None:
            store(number)

        self.unit: Any = unit
        self.library.launch()

    def write(self, number: int) -> None:
        self.unit(number)

    def close(self) -> None:
        self.library.destroy()


CONTENDERS: Final[dict[str, type[PostgresWork]]] = {
    "by hand, psycopg": ByHandPostgres,
    "unit of work": ByLibraryPostgres,
    "SQLAlchemy Core": SqlAlchemyCorePostgres,
    "SQLAlchemy ORM": SqlAlchemyOrmPostgres,
    "DBOS, a workflow of one transaction": DbosPostgres,
}


def installed() -> dict[str, type[PostgresWork]]:
    """Return the contenders that can run here."""
    return {name: kind for name, kind in CONTENDERS.items() if all(find_spec(need) is not None for need in kind.needs)}


def make_table(connection: Any) -> None:
    """Make the table of the floor."""
    connection.execute(TABLE.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))


@contextmanager
def databases(server: Server) -> Iterator[Databases]:
    """Lend what makes databases on `server`, and drops them at the end."""
    made = Databases(server.url())
    try:
        yield made
    finally:
        made.drop_all()
