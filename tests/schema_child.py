"""A second process that migrates a file: ``schema_child.py SOURCE FILE up|down|wait-up [STATEMENTS]``.

``wait-up`` waits for a line before it migrates, so that several start together. With STATEMENTS it kills itself when
that many SQL statements have begun.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from memoryos_uow import _migrations


def _die_after(conn: sqlite3.Connection, statements: int) -> None:
    begun = 0

    def count(_: str) -> None:
        nonlocal begun
        begun += 1
        if begun >= statements:
            os.kill(os.getpid(), signal.SIGKILL)

    conn.set_trace_callback(count)


def _main() -> None:
    path, way = Path(sys.argv[2]), sys.argv[3]
    conn = sqlite3.connect(path, isolation_level=None, timeout=0)
    if way == "wait-up":
        print("ready", flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.readline()
    if len(sys.argv) > 4:
        _die_after(conn, int(sys.argv[4]))
    done: object = (
        _migrations.migrate_down(conn, path, busy_timeout_s=30)
        if way == "down"
        else _migrations.migrate_up(conn, busy_timeout_s=30)
    )
    print(done)  # noqa: T201


if __name__ == "__main__":
    _main()
