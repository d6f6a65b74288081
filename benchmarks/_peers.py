"""The same three rows through other libraries: object mappers, helpers, caches and queues on SQLite.

None of them keeps a ledger, an index of units or a receipt, so each does less than a unit of work. They write into a
table of the floor's layout, or into their own where they have one, in a file with a write-ahead log and the same
`synchronous`. They belong to the dependency group `bench`; one that is not installed is left out.
"""

from __future__ import annotations

import json
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from benchmarks._work import SPACE, ByHand, Work, connect, documents

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks._work import Durability

COLUMNS: Final = ("store", "space_id", "key", "version", "value")
TABLE: Final = "uow_documents"


def _records(number: int) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, ("notes", *row), strict=True)) for row in ByHand.rows(number)]


class Peer(Work):
    """Another library's way to write the rows of one unit in one transaction."""

    needs: tuple[str, ...] = ()
    """The modules without which it is left out."""
    apart: bool = False
    """It has threads of its own that never rest, so it is compared where it disturbs nobody else."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path)
        self.durability = durability
        with ByHand(path, durability):
            pass  # makes the table, and the file one with a write-ahead log

    def __call__(self) -> None:
        self.number += 1
        self.write(self.number)

    def write(self, number: int) -> None:
        """Write the rows of unit `number`."""
        raise NotImplementedError

    def rows(self) -> int:
        """Return how many records there are now."""
        with closing(connect(self.path, self.durability)) as connection:
            found: int = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0]
            return found


class SqlAlchemyCore(Peer):
    """An `insert` of three rows inside `engine.begin`."""

    needs: tuple[str, ...] = ("sqlalchemy",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        self.library: Any = import_module("sqlalchemy")
        self.engine: Any = self.library.create_engine(f"sqlite:///{path}")
        self.library.event.listen(
            self.engine, "connect", lambda made, _: made.execute(f"PRAGMA synchronous = {durability}")
        )
        column, text, integer = self.library.Column, self.library.Text, self.library.Integer
        self.table: Any = self.library.Table(
            TABLE,
            self.library.MetaData(),
            column("id", integer, primary_key=True),
            *(column(name, integer if name == "version" else text) for name in COLUMNS),
        )

    def write(self, number: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.library.insert(self.table), _records(number))

    def close(self) -> None:
        self.engine.dispose()


class SqlAlchemyOrm(SqlAlchemyCore):
    """Three objects added to a session."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        orm: Any = import_module("sqlalchemy.orm")
        self.session: Any = orm.Session
        self.mapped: Any = type("Document", (), {})
        orm.registry().map_imperatively(self.mapped, self.table)

    def objects(self, number: int) -> list[Any]:
        """Return the rows as objects."""
        made = [self.mapped() for _ in range(3)]
        for one, record in zip(made, _records(number), strict=True):
            for name, value in record.items():
                setattr(one, name, value)
        return made

    def write(self, number: int) -> None:
        with self.session(self.engine) as session, session.begin():
            session.add_all(self.objects(number))


class ZopeTransaction(SqlAlchemyOrm):
    """The same, committed by zope's transaction manager."""

    needs: tuple[str, ...] = ("sqlalchemy", "transaction", "zope.sqlalchemy")

    def write(self, number: int) -> None:
        session = self.session(self.engine)
        import_module("zope.sqlalchemy").register(session)
        with import_module("transaction").manager:
            session.add_all(self.objects(number))


class Peewee(Peer):
    """`Model.create` three times inside `atomic`."""

    needs: tuple[str, ...] = ("peewee",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        peewee: Any = import_module("peewee")
        self.database: Any = peewee.SqliteDatabase(str(path), pragmas={"synchronous": durability})
        meta = type("Meta", (), {"database": self.database, "table_name": TABLE})
        fields = {name: peewee.IntegerField() if name == "version" else peewee.TextField() for name in COLUMNS}
        self.model: Any = type("Document", (peewee.Model,), {**fields, "Meta": meta})
        self.database.connect()

    def write(self, number: int) -> None:
        with self.database.atomic():
            for record in _records(number):
                self.model.create(**record)

    def close(self) -> None:
        self.database.close()


class PeeweeMany(Peewee):
    """`insert_many`, peewee's quicker way."""

    def write(self, number: int) -> None:
        with self.database.atomic():
            self.model.insert_many(_records(number)).execute()


class Django(Peer):
    """`bulk_create` inside `transaction.atomic`; one database at a time in a process."""

    needs: tuple[str, ...] = ("django",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        django_db: Any = import_module("django.db")
        settings: Any = import_module("django.conf").settings
        if not settings.configured:
            sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
            settings.configure(DATABASES={"default": sqlite}, INSTALLED_APPS=[], USE_TZ=True)
            import_module("django").setup()
        self.connection: Any = django_db.connections["default"]
        self.connection.close()
        self.connection.settings_dict["NAME"] = str(path)
        with self.connection.cursor() as cursor:
            cursor.execute(f"PRAGMA synchronous = {durability}")
        self.atomic: Any = django_db.transaction.atomic
        self.model = _django_model(django_db.models)

    def write(self, number: int) -> None:
        with self.atomic():
            self.model.objects.bulk_create([self.model(**record) for record in _records(number)])

    def close(self) -> None:
        self.connection.close()


_django: dict[str, Any] = {}  # a model can be made once in a process


def _django_model(models: Any) -> Any:
    if not _django:
        meta = type("Meta", (), {"app_label": "benchmarks", "db_table": TABLE, "managed": False})
        fields = {name: models.IntegerField() if name == "version" else models.TextField() for name in COLUMNS}
        _django["Document"] = type(
            "Document",
            (models.Model,),
            {**fields, "id": models.BigAutoField(primary_key=True), "Meta": meta, "__module__": __name__},
        )
    return _django["Document"]


class SqliteUtils(Peer):
    """`insert_all` of three rows."""

    needs: tuple[str, ...] = ("sqlite_utils",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        self.database: Any = import_module("sqlite_utils").Database(str(path))
        self.database.execute(f"PRAGMA synchronous = {durability}")

    def write(self, number: int) -> None:
        self.database[TABLE].insert_all(_records(number))

    def close(self) -> None:
        self.database.close()


class DiskCache(Peer):
    """Three keys set inside `transact`, in a cache that never evicts."""

    needs: tuple[str, ...] = ("diskcache",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        synchronous = {"normal": 1, "full": 2}[durability]
        folder = str(path.with_suffix(".cache"))
        self.cache: Any = import_module("diskcache").Cache(
            folder, sqlite_synchronous=synchronous, eviction_policy="none"
        )

    def write(self, number: int) -> None:
        with self.cache.transact():
            for key, value in documents(number):
                self.cache[f"{SPACE}/{key}"] = json.dumps(value)

    def rows(self) -> int:
        return len(self.cache)

    def close(self) -> None:
        self.cache.close()


class PersistQueue(Peer):
    """Three `put` into an acknowledged queue: three commits, because it has no transaction."""

    needs: tuple[str, ...] = ("persistqueue",)

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        self.queue: Any = import_module("persistqueue").SQLiteAckQueue(str(path.with_suffix(".queue")))

    def write(self, number: int) -> None:
        for key, value in documents(number):
            self.queue.put((key, json.dumps(value)))

    def rows(self) -> int:
        return int(self.queue.size)

    def close(self) -> None:
        self.queue.close()


class Dbos(Peer):
    """A workflow of one transaction: the rows in the application's file, the workflow's states in DBOS's own."""

    needs: tuple[str, ...] = ("dbos", "sqlalchemy")
    apart: bool = True

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        alchemy, dbos = import_module("sqlalchemy"), import_module("dbos")
        states = path.with_suffix(".dbos")
        connect(states, durability).close()  # it would keep a rollback journal there, which is slower
        engines = [alchemy.create_engine(f"sqlite:///{file}") for file in (path, states)]
        for engine in engines:
            alchemy.event.listen(engine, "connect", lambda made, _: made.execute(f"PRAGMA synchronous = {durability}"))
        self.dbos: Any = dbos.DBOS
        self.dbos(
            config={
                "name": "benchmark",
                "system_database_url": f"sqlite:///{states}",
                "system_database_engine": engines[1],
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        source = dbos.SQLAlchemyDatasource.create(f"sqlite:///{path}", engine=engines[0])
        marks = ", ".join(f":{name}" for name in COLUMNS)
        insert = alchemy.text(f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES ({marks})")

        @source.transaction()  # type: ignore[untyped-decorator]
        def three_rows(number: int) -> None:
            source.sql_session().execute(insert, _records(number))

        @self.dbos.workflow()  # type: ignore[untyped-decorator]
        def unit(number: int) -> None:
            three_rows(number)

        self.unit: Any = unit
        self.dbos.launch()

    def write(self, number: int) -> None:
        self.unit(number)

    def close(self) -> None:
        self.dbos.destroy(destroy_registry=True)


PEERS: Final[dict[str, type[Peer]]] = {
    "SQLAlchemy Core": SqlAlchemyCore,
    "SQLAlchemy ORM": SqlAlchemyOrm,
    "zope transaction and SQLAlchemy ORM": ZopeTransaction,
    "Django, bulk_create": Django,
    "peewee, create": Peewee,
    "peewee, insert_many": PeeweeMany,
    "sqlite-utils, insert_all": SqliteUtils,
    "diskcache, transact": DiskCache,
    "persist-queue, three commits": PersistQueue,
    "DBOS, workflow of one transaction": Dbos,
}


def is_installed(peer: type[Peer]) -> bool:
    """Say whether everything that `peer` needs is here."""
    try:
        return all(find_spec(name) is not None for name in peer.needs)
    except ModuleNotFoundError:  # the package around a module
        return False
