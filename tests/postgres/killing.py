"""Runs the program of `worlds` again and again, and each time something else dies at another message.

A message is what the client sends to the server; one round trip has about ten. `Point` says at which, and what happens:

- ``kill-before``, ``kill-after``: the client's process gets SIGKILL before or after that message has been forwarded.
- ``interrupt``: the client gets SIGINT and goes on with its next unit.
- ``cut-before``, ``cut-after``: the connection is reset.
- ``answer-lost``: the server carries out the whole round trip, and its answer never arrives.
- ``server-killed``: every process of the server gets SIGKILL, and it is started again.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
import warnings
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from memoryos_uow.errors import UnitOfWorkError
from tests.memory_dir import memory_dir
from tests.postgres.worlds import Told, judge, open_world, run
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow import Ledger
    from tests.postgres_proxy import Link, Message
    from tests.postgres_server import Server

KINDS: Final = ("kill-before", "kill-after", "interrupt", "cut-before", "cut-after", "answer-lost", "server-killed")

_OPENINGS: Final = 1000
_REST_S: Final = 0.01


@dataclass(frozen=True)
class Point:
    """What happens, and at which message."""

    kind: str
    number: int


class World:
    """A server, and a database with a ledger that was never worked on, of which each run gets a copy."""

    def __init__(self, server: Server, work: Path) -> None:
        self._server = server
        self._work = work
        self._number = 0
        self._place = work / "place"
        self._place.mkdir()
        server.rows("CREATE DATABASE pristine")
        with open_world(server.url("pristine"), self._place):
            pass
        self._place.rename(work / "pristine")

    @contextmanager
    def copy(self, *, drop: bool = True) -> Iterator[tuple[str, Path]]:
        """Lend the address of a copy of the database, and a directory for the stores outside it."""
        self._number += 1
        name = f"world{self._number}"
        self._server.rows(f"CREATE DATABASE {name} TEMPLATE pristine STRATEGY wal_log")
        shutil.rmtree(self._place, ignore_errors=True)
        shutil.copytree(self._work / "pristine", self._place)
        yield self._server.url(name), self._place
        if drop:
            self._server.rows(f"DROP DATABASE {name} WITH (FORCE)")

    def messages(self) -> int:
        """How many messages the program sends when nothing happens."""
        with self.copy() as (url, place), closing(Proxy(self._server.port)) as proxy:
            told = Told()
            _work(proxy.url(url), place, told)
            judge(url, place, told)
            return proxy.messages

    def explore(self, point: Point) -> bool:
        """Run the program and let it happen; judge what is left. Return whether the point was reached."""
        with self.copy() as (url, place), closing(Proxy(self._server.port)) as proxy:
            act = _Act(point, proxy, self._server)
            try:
                told = act.run(proxy.url(url), place)
                act.wait()
                judge(url, place, told)
            except BaseException as error:
                error.add_note(f"at {point}")
                raise
            return act.happened.is_set()

    def fail_over(self, number: int) -> None:
        """Run the program, and at a message kill the server and promote its synchronous replica; judge what that has.

        This world is at its end then.
        """
        replica = self._server.replica(synchronous=True)
        with self.copy(drop=False) as (url, place), closing(Proxy(self._server.port)) as proxy:
            act = _Act(Point("primary-killed", number), proxy, self._server, replica)
            told = act.run(proxy.url(url), place)
            act.wait()
            assert act.happened.is_set()
            judge(replica.url(urlsplit(url).path[1:]), place, told)
        replica.stop()


class _Act:
    """One run of the program."""

    def __init__(self, point: Point, proxy: Proxy, server: Server, replica: Server | None = None) -> None:
        self._point = point
        self._proxy = proxy
        self._server = server
        self._replica = replica
        self.happened = threading.Event()
        self._over = threading.Event()
        self._child = 0
        kind, _, when = point.kind.partition("-")
        self._do: Callable[[Message], None] = {
            "kill": self._kill,
            "interrupt": self._interrupt,
            "cut": self._cut,
            "answer": self._deafen,
            "server": self._kill_server,
            "primary": self._fail_over,
        }[kind]
        setattr(proxy, "after" if when == "after" else "before", self._at)

    def _at(self, message: Message) -> None:
        if message.number >= self._point.number and not self.happened.is_set():
            self.happened.set()
            try:
                self._do(message)
            finally:
                self._over.set()

    def wait(self) -> None:
        """Wait until it has happened, if it was to."""
        if self.happened.is_set():
            self._over.wait()

    # What happens

    def _kill(self, message: Message) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitid(os.P_PID, self._child, os.WEXITED | os.WNOWAIT)
        if self._point.kind == "kill-before":
            message.forward = False
            message.link.cut()  # what it had sent behind this message is lost with it

    def _interrupt(self, _: Message) -> None:
        os.kill(self._child, signal.SIGINT)

    def _cut(self, message: Message) -> None:
        message.forward = False
        message.link.cut()

    def _deafen(self, message: Message) -> None:
        message.link.deaf = True

        def hears(link: Link, kind: bytes, _: bytes) -> None:
            if link is message.link and kind == b"Z":
                link.cut()

        self._proxy.hears = hears

    def _kill_server(self, message: Message) -> None:
        message.forward = False
        self._server.kill9()
        self._proxy.cut_all()
        self._server.restart()

    def _fail_over(self, message: Message) -> None:
        assert self._replica is not None
        message.forward = False
        self._server.kill9()
        self._replica.promote()
        self._proxy.server = self._replica.port
        self._proxy.cut_all()

    # How the program runs

    def run(self, url: str, place: Path) -> Told:
        """Return what the program was told."""
        told = Told()
        if self._do not in (self._kill, self._interrupt):
            _work(url, place, told)
            return told
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            ready, go = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(ready, 1)
                with suppress(BaseException):
                    _work(url, place, _Telling(writing))
                os._exit(0)
        self._child = pid
        for end in (writing, ready):
            os.close(end)
        os.write(go, b"!")
        os.close(go)
        with os.fdopen(reading) as lines:
            for line in lines:
                if line.endswith("\n"):
                    what, number = line.split()
                    getattr(told, what).add(int(number))
        os.waitpid(pid, 0)
        return told


class _Telling:
    """Sends what a program is told to another process, at once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


def _work(url: str, place: Path, told: Told | _Telling) -> None:
    def tell(what: str, number: int) -> None:
        if isinstance(told, _Telling):
            os.write(told.descriptor, f"{what} {number}\n".encode())
        else:
            getattr(told, what).add(number)

    ledger = _open_at_last(url, place)
    try:
        run(ledger, tell)
    finally:
        ledger.close()


def _open_at_last(url: str, place: Path) -> Ledger:
    """Open the ledger, again if opening is what was cut."""
    for _ in range(_OPENINGS):
        try:
            return open_world(url, place)
        except UnitOfWorkError as error:
            if not error.retryable:
                raise
        time.sleep(_REST_S)
    return open_world(url, place)


def spaced(count: int, limit: int | None) -> list[int]:
    """Return `limit` numbers from 1 to `count`, evenly spaced; all of them for None."""
    if limit is None or limit >= count:
        return list(range(1, count + 1))
    return [1 + round(number * (count - 1) / max(1, limit - 1)) for number in range(limit)]


@contextmanager
def a_world(server: Server) -> Iterator[World]:
    """Lend a world on a server."""
    with tempfile.TemporaryDirectory() as directory, memory_dir(Path(directory)) as work:
        yield World(server, work)
