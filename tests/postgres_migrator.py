"""Other processes that migrate a database: ``postgres_migrator.py race|kill SOURCE``, with requests on standard input.

One line, a JSON list, is one request, and one line the answer.

``race``  [url, processes]: that many processes begin at the same moment; the answer is what `migrate_up` of each
          returned.
``kill``  [url, way, statements]: a process that goes ``up``, ``soft`` or ``down`` and kills itself when that many
          statements are through; the answer is how many were, and whether it was killed.

Each process is forked off this one, which has imported everything but opened nothing: so a test can afford many.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

sys.path.insert(0, sys.argv[2])

import psycopg

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._migrations_postgres import shape
from memoryos_uow._names import Dialect

FILES = _schema.FILES[Dialect.POSTGRESQL]
SCRIPTS = {_schema.text(name): _schema.statements(name) for name in FILES}
shape.expected()  # once for all processes


class Mortal:
    """A connection on which each statement of a script runs by itself, and the process may die between two."""

    def __init__(self, url: str, statements: int) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._left = statements
        self.through = 0

    def execute(self, query: str, params: Any = None, /) -> Any:
        """Run a statement, or each of a script."""
        cursor = None
        for statement in SCRIPTS.get(query, (query,)):
            cursor = self._connection.execute(statement.encode(), params)
            self.through += 1
            if self.through >= self._left:
                os.kill(os.getpid(), signal.SIGKILL)
        return cursor


def _migrate(connection: Any, way: str) -> object:
    if way == "up":
        return _migrations_postgres.migrate_up(connection, place="the ledger")
    return _migrations_postgres.migrate_down(connection, place="the ledger", soft=way == "soft")


def _in_a_fork(work: Any) -> tuple[int, int]:
    """Start `work` in a process of its own, which writes what it returns to the pipe; return its id and the pipe."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        os.write(write, json.dumps(work()).encode())
    finally:
        os._exit(0)


def _end(child: int, pipe: int) -> tuple[Any, bool]:
    """Return what a process wrote, and whether it was killed."""
    with os.fdopen(pipe, "rb") as answers:
        answer = answers.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(answer) if answer else None, os.WIFSIGNALED(status)


def _race(url: str, processes: int) -> list[Any]:
    gate, opener = os.pipe()

    def run() -> object:
        os.close(opener)
        with psycopg.connect(url, autocommit=True) as connection:
            os.read(gate, 1)  # until it is closed
            return _migrate(connection, "up")

    children = [_in_a_fork(run) for _ in range(processes)]
    os.close(gate)
    os.close(opener)
    return [_end(*child)[0] for child in children]


def _kill(url: str, way: str, statements: int) -> tuple[Any, bool]:
    def run() -> object:
        connection = Mortal(url, statements)
        _migrate(connection, way)
        return connection.through

    return _end(*_in_a_fork(run))


def _main() -> None:
    answer: Any = {"race": _race, "kill": _kill}[sys.argv[1]]
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    _main()
