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
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_MARK: Final = re.compile(r"%(?:s|\((\w+)\)s|%)")
_PREPARED_MAX: Final = 200
_TOGETHER_MAX: Final = 500


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
    aborted: int
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
        int(status.PIPELINE_ABORTED),
        int(status.PIPELINE_SYNC),
        int(pq.ConnStatus.OK),
    )


class _Prepared:
    """What one connection has prepared."""

    __slots__ = ("met", "names")

    def __init__(self) -> None:
        self.names: dict[tuple[bytes, Any], bytes] = {}
        self.met: set[tuple[bytes, Any]] = set()


_of_connections: WeakKeyDictionary[Any, _Prepared] = WeakKeyDictionary()


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
    with connection.lock:
        wire.enter_pipeline_mode()
        preparing: dict[int, tuple[tuple[bytes, Any], bytes]] = {}
        expected = 0
        for statement in statements:
            expected += _put(connection, statement, expected, preparing)
        wire.pipeline_sync()
        results = connection.wait(_gather(wire, driver, expected))
        wire.exit_pipeline_mode()
    prepared = _of_connections.get(connection)
    found, failed = [], None
    for number, result in enumerate(results):
        state = int(result.status)
        if state == driver.fatal and failed is None:
            failed = result
        elif number not in preparing:
            found.append(Answered(connection, result))
        elif state != driver.aborted and prepared is not None:
            key, name = preparing[number]
            prepared.names[key] = name
    if failed is not None:
        _of_connections.pop(connection, None)  # where the server has forgotten them, names must not stay
        if wire.status != driver.is_well:
            raise driver.OperationalError("the connection is lost")
        raise driver.error_from_result(failed)
    return found


def _put(
    connection: Any, statement: Statement, position: int, preparing: dict[int, tuple[tuple[bytes, Any], bytes]]
) -> int:
    """Put a statement into what is to be sent; return how many answers will come of it."""
    wire = connection.pgconn
    text, names = _on_the_wire(statement.text)
    bound = statement.bound
    if not bound:
        wire.send_query_params(text, None)
        return 1
    values = bound if names is None else [bound[name] for name in names]
    driver = _driver()
    dumper = driver.Transformer(connection)
    dumped = dumper.dump_sequence(values, [driver.automatic] * len(values))
    types, formats = dumper.types, dumper.formats
    if connection.prepare_threshold is None:
        wire.send_query_params(text, dumped, param_types=types, param_formats=formats)
        return 1
    prepared = _of_connections.get(connection)
    if prepared is None:
        prepared = _of_connections[connection] = _Prepared()
    key = (text, types)
    name, sent = prepared.names.get(key), 1
    if name is None:
        if (
            key not in prepared.met
            or len(prepared.names) >= _PREPARED_MAX
            or any(key == k for k, _ in preparing.values())
        ):
            if len(prepared.met) < 10 * _PREPARED_MAX:
                prepared.met.add(key)
            wire.send_query_params(text, dumped, param_types=types, param_formats=formats)
            return 1
        name = b"uow_%d" % (len(prepared.names) + len(preparing))
        wire.send_prepare(name, text, param_types=types)
        preparing[position] = (key, name)
        sent = 2
    wire.send_query_prepared(name, dumped, param_formats=formats)
    return sent


def _gather(wire: Any, driver: _Driver, expected: int) -> Generator[Any, Any, list[Any]]:
    """Send what was put together and collect so many answers; yields what to wait for, as psycopg's `wait` wants."""
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
