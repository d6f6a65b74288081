"""``memoryos-uow watch``: what it sees of a ledger that is being written, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _ambient
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
