"""Several statements to a PostgreSQL server and their answers back: one round trip, and little work on the way.

psycopg's own pipeline sends, waits and reads for each statement by itself, and makes a cursor of each: for a unit of
work that is more time than the server needs. Here libpq's pipeline mode is used directly, through psycopg's wrapper of
it (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html): everything is put together, sent at once, and
read when it is there. Values are converted by psycopg's adapters.

Promises

- Statements are carried out in their order; behind the first that fails none is. Its error is raised, as psycopg would.
- On return, and after an error that the server reported, the connection is as usable as before.
- A statement is prepared the second time a connection meets it, unless `prepare_threshold` forbids preparing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_MARK: Final = re.compile(r"%(?:s|\((\w+)\)s|%)")
_PREPARED_MAX: Final = 200
_MET_MAX: Final = 2000
_FORGOTTEN: Final = ("26000", "0A000")
"""The server does not know a prepared statement any more, or a table has changed since."""
_TOGETHER_MAX: Final = 500
_ARRAYS: Final[dict[type, int]] = {int: 1016, str: 1009, bytes: 1001}
"""The types ``int8[]``, ``text[]`` and ``bytea[]`` (pg_type.dat): fixed for ever."""


_Key: TypeAlias = "tuple[bytes, tuple[int, ...]]"


class Statement(NamedTuple):
    """One statement with psycopg's marks, and what is bound to them."""

    text: str
    bound: Any = None


class Answered:
    """What the server answered to one statement; what of it is asked for is converted then."""

    __slots__ = ("_connection", "_result")

    def __init__(self, connection: Any, result: Any) -> None:
        self._connection = connection
        self._result = result

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        if not self._result.nfields or not self._result.ntuples:
            return []
        loader = _driver().Transformer(self._connection)
        loader.set_pgresult(self._result)
        rows: list[tuple[Any, ...]] = loader.load_rows(0, self._result.ntuples, tuple)
        return rows

    @property
    def rowcount(self) -> int:
        """How many rows it changed, or has; -1 where that means nothing."""
        if self._result.nfields:
            return int(self._result.ntuples)
        counted = self._result.command_tuples
        return -1 if counted is None else int(counted)

    @property
    def status(self) -> str:
        """The command that was carried out: ``COMMIT``, ``ROLLBACK``, ..."""
        return (self._result.command_status or b"").decode()

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """Name and type of each column, as PEP 249 has it; None of a statement without rows."""
        if not self._result.nfields:
            return None
        return [
            ((self._result.fname(n) or b"").decode(), self._result.ftype(n), None, None, None, None, None)
            for n in range(self._result.nfields)
        ]


class _Driver(NamedTuple):
    Transformer: Any
    automatic: Any
    error_from_result: Any
    OperationalError: Any
    ready_for: Any
    fatal: int
    synced: int
    is_well: int


@lru_cache(maxsize=1)
def _driver() -> _Driver:
    from psycopg import OperationalError, errors, pq, waiting  # noqa: PLC0415 - only ledgers on PostgreSQL need it
    from psycopg.adapt import PyFormat, Transformer  # noqa: PLC0415

    status = pq.ExecStatus
    return _Driver(
        Transformer,
        PyFormat.AUTO,
        errors.error_from_result,
        OperationalError,
        waiting.Wait,
        int(status.FATAL_ERROR),
        int(status.PIPELINE_SYNC),
        int(pq.ConnStatus.OK),
    )


class _Prepared:
    """What one connection has prepared, and met once."""

    __slots__ = ("met", "names")

    def __init__(self) -> None:
        self.names: dict[_Key, bytes] = {}
        self.met: set[_Key] = set()


class _Put(NamedTuple):
    """A statement as it is sent."""

    text: bytes
    values: Sequence[Any] | None
    types: tuple[int, ...]
    formats: Sequence[Any]


_of_connections: WeakKeyDictionary[Any, _Prepared] = WeakKeyDictionary()
_names = count()  # of prepared statements: none is given twice, whatever the server has forgotten


def exchange(connection: Any, statements: Sequence[Statement]) -> list[Answered]:
    """Have `statements` carried out on a psycopg connection, in one round trip; return their answers.

    Very many are sent in several parts.

    Raises:
        psycopg.Error: as `connection.execute` would, for the first statement that failed.
    """
    if len(statements) <= _TOGETHER_MAX:
        return _exchange(connection, statements)
    answers: list[Answered] = []
    for begin in range(0, len(statements), _TOGETHER_MAX):
        answers += _exchange(connection, statements[begin : begin + _TOGETHER_MAX])
    return answers


def _exchange(connection: Any, statements: Sequence[Statement]) -> list[Answered]:
    driver, wire = _driver(), connection.pgconn
    puts = [_put(connection, statement) for statement in statements]  # what cannot be sent raises before anything is
    prepared = None
    if connection.prepare_threshold is not None:
        prepared = _of_connections.get(connection)
        if prepared is None:
            prepared = _of_connections[connection] = _Prepared()
    preparing: dict[int, tuple[_Key, bytes]] = {}
    expected = 0
    with connection.lock:
        wire.enter_pipeline_mode()
        for put in puts:
            name = None if prepared is None or not put.values else _name_of(wire, put, prepared, preparing, expected)
            expected += 1 + (expected in preparing)
            if name is None:
                wire.send_query_params(put.text, put.values, param_types=put.types, param_formats=put.formats)
            else:
                wire.send_query_prepared(name, put.values, param_formats=put.formats)
        wire.pipeline_sync()
        results = connection.wait(_gather(wire, driver))
        wire.exit_pipeline_mode()
    return _sorted(connection, results, prepared, preparing)


def _sorted(
    connection: Any, results: list[Any], prepared: _Prepared | None, preparing: dict[int, tuple[_Key, bytes]]
) -> list[Answered]:
    """Return the answers to statements; note what is prepared now, and raise the error of the first that failed."""
    driver = _driver()
    answers: list[Answered] = []
    for number, result in enumerate(results):
        if int(result.status) == driver.fatal:
            error = driver.error_from_result(result)
            if prepared is not None and error.sqlstate in _FORGOTTEN:
                prepared.names.clear()
            raise error
        if number not in preparing:
            answers.append(Answered(connection, result))
        elif prepared is not None:
            key, name = preparing[number]
            prepared.names[key] = name
    return answers


def _name_of(
    wire: Any, put: _Put, prepared: _Prepared, preparing: dict[int, tuple[_Key, bytes]], position: int
) -> bytes | None:
    """Return under which name the statement is prepared, or is being prepared now; None if it is not."""
    key = (put.text, put.types)
    name = prepared.names.get(key)
    if name is not None:
        return name
    if key in prepared.met and len(prepared.names) < _PREPARED_MAX:
        if any(key == other for other, _ in preparing.values()):
            return None
        name = b"uow_%d" % next(_names)
        wire.send_prepare(name, put.text, param_types=put.types)
        preparing[position] = (key, name)
        return name
    if len(prepared.met) < _MET_MAX:
        prepared.met.add(key)
    return None


def _put(connection: Any, statement: Statement) -> _Put:
    text, names = _on_the_wire(statement.text)
    bound = statement.bound
    if not bound:
        return _Put(text, None, (), ())
    values = bound if names is None else [bound[name] for name in names]
    return _Put(text, *_dumped(connection, values))


def _dumped(connection: Any, values: Sequence[Any]) -> tuple[Sequence[Any], tuple[int, ...], Sequence[Any]]:
    """Return `values` as bytes, with their types and formats."""
    driver = _driver()
    arrays: dict[int, int] = {}
    given = list(values)
    for number, value in enumerate(given):
        if type(value) is list and (array := array_text(value)) is not None:
            given[number], arrays[number] = array
    dumper = driver.Transformer(connection)
    dumped = dumper.dump_sequence(given, [driver.automatic] * len(given))
    types = dumper.types
    if arrays:
        types = tuple(arrays.get(number, kind) for number, kind in enumerate(types))
    return dumped, types, dumper.formats


def array_text(values: list[Any]) -> tuple[str, int] | None:
    """Return an array of texts, whole numbers or bytes as PostgreSQL writes it, and its type; None of anything else.

    psycopg finds the type of each element by itself; here all have to be of one.
    """
    kinds = set(map(type, values)) - {type(None)}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is int:
        parts = ["NULL" if value is None else str(value) for value in values]
    elif kind is str:
        parts = ["NULL" if value is None else f'"{_escaped(value)}"' for value in values]
    elif kind is bytes:
        parts = ["NULL" if value is None else f'"\\\\x{value.hex()}"' for value in values]
    else:
        return None
    return f"{{{','.join(parts)}}}", _ARRAYS[kind]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"') if "\\" in text or '"' in text else text


def _gather(wire: Any, driver: _Driver) -> Generator[Any, Any, list[Any]]:
    """Send what was put together and collect the answers; yields what to wait for, as psycopg's `wait` wants."""
    while wire.flush():
        if (ready := (yield driver.ready_for.RW)) and ready & 1:
            wire.consume_input()
    results: list[Any] = []
    while True:
        while wire.is_busy():
            if (yield driver.ready_for.R):
                wire.consume_input()
        result = wire.get_result()
        if result is None:
            if wire.status != driver.is_well:
                raise driver.OperationalError("the connection is lost")
            continue
        if int(result.status) == driver.synced:
            return results
        results.append(result)
        if int(result.status) == driver.fatal and wire.status != driver.is_well:
            raise driver.OperationalError("the connection is lost")


@lru_cache(maxsize=2048)
def _on_the_wire(text: str) -> tuple[bytes, tuple[str, ...] | None]:
    """Return the statement with numbered marks, and the names of its values if it has names."""
    names: list[str] = []
    number = 0

    def numbered(mark: re.Match[str]) -> str:
        nonlocal number
        if mark[0] == "%%":
            return "%"
        if mark[1]:
            if mark[1] not in names:
                names.append(mark[1])
            return f"${names.index(mark[1]) + 1}"
        number += 1
        return f"${number}"

    wired = _MARK.sub(numbered, text).encode()
    return wired, tuple(names) if names else None
