"""``memoryos-uow watch``: what it sees of a ledger that is being written, and how it ends."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _ambient
from memoryos_uow._statistics import counted
from memoryos_uow.cli import _newcomers, _watch
from memoryos_uow.cli._arguments import LedgerPlace
from memoryos_uow.cli._reading import reading
from memoryos_uow.errors import LedgerBusy
from tests.cli.tools import COMMAND, environment, invoke
from tests.schema_files import make_1_0_0
from tests.statistics.rows import Unit, make, put

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAILED = Unit(status="failed", error="ValueError\x1b[2J", failed_store="notes", us=None)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger of one unit."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit()])
    return path


def watched(
    monkeypatch: pytest.MonkeyPatch, ledger: Path, *between: Callable[[], object], options: tuple[str, ...] = ()
) -> Any:
    """What watching prints when these things happen before each of its looks."""
    happenings = iter(between)
    monkeypatch.setattr(_ambient, "sleep", lambda _seconds: next(happenings, lambda: None)())
    return invoke("watch", ledger, "--count", str(len(between)), *options)


def test_each_look_tells_what_is_new(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line has the units since the last one, those that failed, and percentiles of the last minute."""
    result = watched(
        monkeypatch,
        ledger,
        lambda: put(ledger, [Unit(us=100), Unit(us=300), FAILED]),
        lambda: None,
        options=("--nl",),
    )
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["units"], first["failed"], first["p50_us"], first["p99_us"]) == (3, 1, 100, 300)
    assert (second["units"], second["failed"], second["p99_us"]) == (0, 0, 300)
    assert first["failures"][0]["failed_store"] == "notes"


def test_plain_lines_are_safe(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --nl there is a heading once, and what a failure says cannot steer the terminal."""
    result = watched(monkeypatch, ledger, lambda: put(ledger, [FAILED]), lambda: None)
    assert result.stdout.count("UNITS/S") == 1
    assert "failed: ValueError\\x1b[2J in notes unit-2" in result.stdout
    assert "\x1b" not in result.stdout


def test_bands_are_kept(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a RED failure type and id are shown, not the store; a BLACK unit has no duration."""
    units = [
        Unit(status="failed", band="RED", error="KeyError", failed_store="notes", us=None),
        Unit(band="BLACK", us=7),
    ]
    result = watched(monkeypatch, ledger, lambda: put(ledger, units), options=("--nl",))
    look = json.loads(result.stdout)
    assert (look["failures"][0]["error_type"], look["failures"][0]["failed_store"]) == ("KeyError", None)
    assert look["p99_us"] is None


def test_durations_that_come_later_are_seen(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit whose durations are written with a later one is taken into account then."""

    def fill_in() -> None:
        with sqlite3.connect(ledger) as connection:
            connection.execute("UPDATE uow_ledger SET execution_us = 40 WHERE execution_us IS NULL")
        connection.close()

    result = watched(monkeypatch, ledger, lambda: put(ledger, [Unit(us=None)]), fill_in, options=("--nl",))
    assert [json.loads(line)["p50_us"] for line in result.stdout.splitlines()] == [None, 40]


def test_a_replaced_ledger_ends_it(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another file takes the ledger's place, watching ends with a sentence."""

    def replace() -> None:
        shutil.copy(ledger, ledger.with_name("new.db"))
        ledger.with_name("new.db").replace(ledger)

    result = watched(monkeypatch, ledger, replace)
    assert (result.exit_code, "was removed or replaced" in result.stderr) == (1, True)


def test_a_ledger_of_1_0_0_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of contract 1.0.0 units are counted."""
    make_1_0_0(tmp_path / "old.db")
    result = watched(monkeypatch, tmp_path / "old.db", lambda: None, options=("--nl",))
    assert (result.exit_code, json.loads(result.stdout)["units"]) == (0, 0)
    assert "contract 1.0.0" in result.stderr


@pytest.mark.parametrize("end", ["Ctrl-C", "pipe closed"])
def test_ends_cleanly(ledger: Path, end: str) -> None:
    """Ctrl-C ends it with exit code 0, a reader that goes away with that of SIGPIPE; neither with a traceback."""
    with subprocess.Popen(
        [*COMMAND, "watch", str(ledger), "--interval", "0.1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "UNITS/S" in process.stdout.readline()
        if end == "Ctrl-C":
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        else:
            process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == (0 if end == "Ctrl-C" else 141)


def test_picture_on_a_terminal(ledger: Path) -> None:
    """On a terminal, with rich, the picture is drawn in place; NO_COLOR and a narrow screen do not break it."""
    pytest.importorskip("rich")
    master, slave = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "watch", str(ledger), "--interval", "0.1", "--count", "2"],
        env=environment(NO_COLOR="1", COLUMNS="30", TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(slave)
    drawn = os.read(master, 1 << 16).decode()
    os.close(master)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "units per second" in drawn
    assert "\x1b[31m" not in drawn


def test_a_picture_has_numbers_and_failures(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn is what a line would say, with the newest failures below; they cannot steer the terminal."""
    pytest.importorskip("rich")
    monkeypatch.setattr(_watch, "_screen", _watch._Screen)
    result = watched(monkeypatch, ledger, lambda: put(ledger, [Unit(us=100), FAILED]), lambda: None)
    assert result.exit_code == 0
    for words in ("units per second", "0, 0", "100 us", "(Ctrl-C ends)", "failed: ValueError\\x1b[2J in notes unit-3"):
        assert words in result.stdout
    assert "\x1b[2J" not in result.stdout


def test_a_picture_needs_a_terminal_and_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of them there are lines."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert _watch._screen("x") is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "rich.console", None)
        assert _watch._screen("x") is None
    pytest.importorskip("rich")
    screen = _watch._screen("x")
    assert screen is not None
    screen.stop()


def test_a_picture_on_a_terminal_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking it away fails silently: nobody sees it."""
    pytest.importorskip("rich")
    gone = io.StringIO()
    monkeypatch.setattr(sys, "stdout", gone)
    screen = _watch._Screen("x")
    gone.close()
    screen.stop()


def test_a_ledger_that_is_removed_ends_it(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is at the path any more."""
    result = watched(monkeypatch, ledger, ledger.unlink)
    assert (result.exit_code, "was removed or replaced" in result.stderr) == (1, True)


def test_a_database_is_not_replaced() -> None:
    """Of a ledger at an address there is no file to look at."""
    assert _watch._identity(LedgerPlace("postgresql://host/db")) is None


def test_a_locked_ledger_is_looked_at_again(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that finds it locked against reading is said on stderr, and counts for none."""
    look = _watch.Watching.look
    answers = iter([LedgerBusy("locked"), None])

    def busy_once(watching: _watch.Watching) -> _watch.Look:
        error = next(answers)
        if error is not None:
            raise error
        return look(watching)

    monkeypatch.setattr(_watch.Watching, "look", busy_once)
    result = watched(monkeypatch, ledger, lambda: None, options=("--nl",))
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert "looking again" in result.stderr


def test_an_earlier_state_is_watched_on(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that was put back in place, with fewer units, has none that are new until there are."""

    def put_back() -> None:
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("DELETE FROM unit_of_work WHERE rowid > 1")
            connection.execute("DELETE FROM uow_ledger WHERE unit > 1")

    put(ledger, [Unit(), Unit()])
    result = watched(monkeypatch, ledger, put_back, lambda: put(ledger, [Unit()]), options=("--nl",))
    assert [json.loads(line)["units"] for line in result.stdout.splitlines()] == [0, 1]


def test_very_many_at_once_are_counted(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than one look reads, the newest are read and all are counted."""
    monkeypatch.setattr(_newcomers, "AT_ONCE_MAX", 2)
    result = watched(
        monkeypatch, ledger, lambda: put(ledger, [Unit(us=us) for us in (10, 20, 30, 40)]), options=("--nl",)
    )
    look = json.loads(result.stdout)
    assert (look["units"], look["p50_us"], look["p99_us"]) == (4, 30, 40)


def test_narrow_lines(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heading, numbers and failures end at the screen's edge."""
    monkeypatch.setattr(_watch, "screen_width", lambda: 20)
    result = watched(monkeypatch, ledger, lambda: put(ledger, [FAILED]))
    assert len(result.stdout.splitlines()) == 3
    assert all(len(line) <= 20 for line in result.stdout.splitlines())


def test_an_interrupt_ends_it(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is how it is meant to end."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    assert watched(monkeypatch, ledger, interrupt).exit_code == 0


def test_a_failure_that_has_gone_meanwhile(ledger: Path) -> None:
    """Rows may be removed between two queries; what is not known of a failure is a dash."""
    assert _watch._failure({"uow_id": None, "error_type": None, "failed_store": None}) == "  failed: - -"
    with reading(LedgerPlace(ledger), busy_timeout_s=1) as opened:
        watching = _watch.Watching(opened, 1.0)
        (one,) = counted(opened.reader, basic=False, after=0, until=1)
        assert watching._failure(one._replace(row=99, band="BLACK", created="2026-11-22T19:20:31.110000Z")) == {
            "uow_id": None,
            "created_ts": "2026-11-22T19:20:00Z",
            "error_type": None,
            "failed_store": None,
        }
