"""Text for terminals: nothing steers them, nothing is wider than it may be, nothing is lost."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from memoryos_uow import _terminal
from memoryos_uow._terminal import Column, cut, pairs, printable, size, table, width, wrap
from memoryos_uow.cli._steps import Steps


class Stream(io.TextIOWrapper):
    """A text stream that says when something was written and may claim to be a terminal."""

    def __init__(self, *, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.terminal = terminal
        self.written: list[str] = []
        self.spoke = threading.Event()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        self.written.append(text)
        self.spoke.set()
        return len(text)


def test_printable_escapes_what_steers() -> None:
    """Control characters, direction marks, lone surrogates and line ends are shown by their escapes, all else as is."""
    stream = Stream()
    assert printable("plain 家族 é", stream) == "plain 家族 é"
    assert printable("\x1b[2J\r\n\t\x9b\u202e\u200b\ud800", stream) == r"\x1b[2J\r\n\t\x9b\u202e\u200b\ud800"


def test_printable_fits_the_encoding() -> None:
    """What the stream cannot encode is escaped before anything is laid out."""
    assert printable("né 家", Stream(encoding="ascii")) == r"n\xe9 \u5bb6"
    assert printable("né 家", Stream(encoding="latin-1")) == r"né \u5bb6"


def test_width_counts_columns() -> None:
    """Wide characters take two columns, combining marks none."""
    assert [width(text) for text in ("", "abc", "家族", "e\u0301", "\uff71", "\uff21")] == [0, 3, 4, 1, 1, 2]


@pytest.mark.parametrize("columns", range(2, 12))
def test_cut_and_wrap_keep_to_the_width(columns: int) -> None:
    """Nothing is wider than asked, and wrapping loses no character."""
    text = "家族 abc 家族家族家族 defghijklmn"
    assert width(cut(text, columns)) <= columns
    lines = wrap(text.split(), columns)
    assert all(width(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("room", [None, 60, 30, 20])
def test_tables_are_never_too_wide(room: int | None) -> None:
    """A table fits the room it is given, as a table or as paragraphs, and shows every cell that may not be cut."""
    columns = [Column("KEY"), Column("NAME", least=5), Column("N", right=True)]
    rows = [["k" * 12, "name " * 4, "1,234"], ["short", "家族" * 5, "5"]]
    lines = table(columns, rows, room)
    assert all(room is None or width(line) <= room for line in lines)
    assert {"k" * 12, "short", "1,234", "5"} <= set(" ".join(lines).split())


def test_tables_line_up() -> None:
    """Text begins and numbers end in the same column in every line."""
    columns = [Column("KEY"), Column("N", right=True), Column("LAST")]
    lines = table(columns, [["家", "1", "x"], ["abc", "1,000", "y"]], None)
    assert [width(line[: line.index(last)]) for line, last in zip(lines, ("LAST", "x", "y"), strict=True)] == [12] * 3
    assert lines[1].startswith("家       1  x")


def test_pairs_put_long_values_below_their_names() -> None:
    """A value that has room stands beside its name, one that has none below it, and nothing is lost."""
    assert pairs([("a", "1"), ("long", "")], None) == ["a     1", "long  -"]
    lines = pairs([("name", "0123456789" * 3)], 20)
    assert lines == ["name", "  012345678901234567", "  890123456789"]


def test_sizes_are_for_people() -> None:
    """Sizes have at most one decimal, and never a thousand of a unit."""
    expected = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 8_300_000: "8.3 MB"}
    assert {number: size(number) for number in expected} == expected
    assert size(5_000 * 10**12) == "5000.0 TB"


def test_a_pipe_has_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """$COLUMNS decides where it is a number; without it only a terminal has a width."""
    monkeypatch.setenv("COLUMNS", "33")
    assert _terminal.screen_width(Stream()) == 33
    monkeypatch.setenv("COLUMNS", "wide")
    assert _terminal.screen_width(Stream()) is None
    monkeypatch.delenv("COLUMNS")
    assert _terminal.screen_width(Stream()) is None


@pytest.mark.parametrize("terminal", [True, False])
def test_long_work_is_told(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    """A step that lasts is named on stderr: repainted on a terminal and wiped at the end, elsewhere said once."""
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    with Steps("Migrating", quiet_s=0) as steps:
        steps("adding columns")
        stream.spoke.wait()
    told = "".join(stream.written)
    assert "Migrating: " in told
    assert told.endswith("\r\x1b[K") if terminal else "\x1b" not in told


def test_short_work_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over soon leaves no trace on stderr."""
    stream = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    with Steps("Migrating", quiet_s=3600) as steps:
        steps("adding columns")
    assert stream.written == []
