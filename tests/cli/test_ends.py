"""How the command line ends: exit codes, sentences instead of tracebacks, closed pipes, odd terminals."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click
import pytest

from memoryos_uow import Ledger
from memoryos_uow.cli._commands import COMMANDS
from memoryos_uow.cli._program import program
from tests.cli.tools import COMMAND, SPACE, all_commands, environment, files_of, invoke, make_ledger, run
from tests.schema_files import make_1_0_0

if TYPE_CHECKING:
    from pathlib import Path

READING = ("list", "show", "validate")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One ledger for tests that only look."""
    return make_ledger(tmp_path_factory.mktemp("ends") / "memory.db")


def arguments(command: str, path: Path | str) -> list[str]:
    """A call of `command` on a ledger."""
    return [command, str(path), *(["0000"] if command == "show" else [])]


@pytest.mark.parametrize("command", [*READING, "migrate"])
def test_a_missing_file_is_an_error_and_stays_missing(tmp_path: Path, command: str) -> None:
    """No command on a ledger makes a file that is not there."""
    result = invoke(*arguments(command, tmp_path / "missing.db"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: There is no file ")
    assert "\nHint: " in result.stderr
    assert files_of(tmp_path) == {}


@pytest.mark.parametrize("command", [*READING, "migrate"])
@pytest.mark.parametrize(
    ("path", "words"),
    [(".", "is a directory"), ("mysql://host/db", "neither the path"), (":memory:", "in memory")],
)
def test_what_cannot_be_a_ledger_is_wrong_usage(command: str, path: str, words: str) -> None:
    """Directories, addresses and memory are refused with exit code 2 and the reason."""
    result = invoke(*arguments(command, path))
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("command", READING)
def test_a_file_without_a_ledger_is_left_alone(tmp_path: Path, command: str) -> None:
    """An empty file, another program's database and a text are refused with exit code 1, unchanged."""
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("no database at all\n" * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE orders (id)")
    before = files_of(tmp_path)
    for name in before:
        result = invoke(*arguments(command, tmp_path / name))
        assert (result.exit_code, result.stdout) == (1, "")
        assert "holds no ledger" in result.stderr or "is not a SQLite database" in result.stderr
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("command", [*READING, "migrate"])
def test_busy_is_exit_code_3(tmp_path: Path, command: str) -> None:
    """A ledger that others keep locked for longer than --busy-timeout ends with exit code 3 and says what helps."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        result = invoke(*arguments(command, path), "--busy-timeout", "0")
    assert result.exit_code == 3
    assert "locked" in result.stderr
    assert "--busy-timeout" in result.stderr


@pytest.mark.parametrize("command", [*READING, "migrate"])
def test_newer_schema_is_exit_code_4(tmp_path: Path, command: str) -> None:
    """A ledger that a later version wrote ends with exit code 4, and stays as it is."""
    path = make_ledger(tmp_path / "memory.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO uow_schema VALUES ('9.0.0', '', '')")
    before = files_of(tmp_path)
    result = invoke(*arguments(command, path))
    assert result.exit_code == 4
    assert "9.0.0" in result.stderr
    assert files_of(tmp_path) == before


def test_the_environment_names_the_ledger(ledger: Path) -> None:
    """Where no LEDGER is given, $MEMORYOS_UOW_LEDGER counts; an empty one is none."""
    assert invoke("validate", env={"MEMORYOS_UOW_LEDGER": str(ledger)}).exit_code == 0
    result = invoke("validate", env={"MEMORYOS_UOW_LEDGER": ""})
    assert result.exit_code == 2
    assert "MEMORYOS_UOW_LEDGER" in result.stderr


def test_an_error_that_nobody_foresaw_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    """A bug ends with exit code 1 and the name of its type, without its text, which may hold what must not leave."""

    def broken(**_: object) -> None:
        raise ZeroDivisionError("the secret words")

    monkeypatch.setattr(program.load()["validate"], "callback", broken)
    result = invoke("validate", ledger, env={"MEMORYOS_UOW_TRACEBACK": None})
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_the_system_is_a_sentence(monkeypatch: pytest.MonkeyPatch, ledger: Path) -> None:
    """A failed system call is told by its own words and the file it was about."""

    def broken(**_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr(program.load()["validate"], "callback", broken)
    result = invoke("validate", ledger)
    assert (result.exit_code, result.stderr) == (1, "Error: Permission denied: some/file.\n")


def test_a_closed_pipe_ends_quietly(ledger: Path) -> None:
    """When nobody reads stdout any more the program says nothing and ends as if by SIGPIPE."""
    for options in (["list", str(ledger)], ["list", str(ledger), "--nl"], ["validate", str(ledger)]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*COMMAND, *options], stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")


def test_head_gets_its_line(ledger: Path) -> None:
    """``| head -1`` prints one line and nobody complains."""
    command = f'"$0" -P -m memoryos_uow list "{ledger}" --nl | head -n 1'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], env=environment(), capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_interrupted_is_exit_code_130(tmp_path: Path) -> None:
    """Ctrl-C while a migration waits for the lock ends with exit code 130 and one word, and changes nothing."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    before = files_of(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        child = subprocess.Popen(
            [*COMMAND, "migrate", str(path)], stderr=subprocess.PIPE, encoding="utf-8", env=environment()
        )
        with child:
            assert child.stderr is not None
            first = child.stderr.readline()  # said once it has waited for a while
            child.send_signal(signal.SIGINT)
            rest = child.stderr.read()
        other.execute("ROLLBACK")
    assert first == "Migrating: waiting for the write lock\n"
    assert (child.returncode, rest) == (130, "Interrupted.\n")
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "settings", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "PYTHONUTF8": "0"}, {"LC_ALL": "POSIX"}]
)
@pytest.mark.parametrize("command", ["list", "show"])
def test_terminals_that_know_no_unicode(ledger: Path, settings: dict[str, str], command: str) -> None:
    """Where a character cannot be encoded its escape is printed; nothing fails, and the table stays a table."""
    more = [] if command == "list" else [ids_in(ledger)[0]]
    result = run(command, ledger, *more, env=settings)
    assert (result.returncode, result.stderr) == (0, "")
    escaped = SPACE.encode("ascii", "backslashreplace").decode()
    assert escaped in result.stdout or SPACE in result.stdout
    if settings.get("PYTHONIOENCODING"):
        assert result.stdout.isascii()


def test_odd_bytes_in_a_path_are_no_trouble(tmp_path: Path) -> None:
    """A file name that is no UTF-8, which no ledger can have, is refused with a sentence."""
    result = run("validate", os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.db"))
    assert (result.returncode, result.stderr.partition(" ")[0]) == (2, "Error:")
    assert "path" in result.stderr


def ids_in(ledger: Path) -> list[str]:
    """All ids, newest first."""
    with Ledger.open(ledger) as opened:
        return [unit.uow_id for unit in opened.units()]


def on_a_terminal(*arguments: str, **env: str) -> str:
    """What the command line writes to a real terminal of 100 columns."""
    import fcntl
    import struct
    import termios

    parent, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))
    done = subprocess.Popen([*COMMAND, *arguments], stdin=child, stdout=child, stderr=child, env=environment(**env))
    os.close(child)
    written = b""
    with open(parent, "rb", buffering=0) as terminal:  # noqa: PTH123 - a descriptor, not a path
        try:
            while piece := terminal.read(4096):
                written += piece
        except OSError:  # how Linux says that the other end is closed
            pass
    assert done.wait() == 0
    return written.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a matter of POSIX")
def test_colours_are_for_terminals_that_want_them(ledger: Path) -> None:
    """A terminal gets colours, unless NO_COLOR is set or it is a dumb one; the text is the same."""
    coloured = on_a_terminal("list", str(ledger), TERM="xterm")
    assert "\x1b[32m" in coloured or "\x1b[1m" in coloured
    plain = on_a_terminal("list", str(ledger), TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[\d*m", "", coloured) == plain
    assert "\x1b" not in on_a_terminal("list", str(ledger), TERM="dumb")
    assert all(len(line) <= 100 for line in plain.splitlines())


def test_help_names_every_command() -> None:
    """The help lists each command once, under a heading that says what it is for, and the exit codes."""
    text = invoke("--help").stdout
    for command in program.load():
        assert len(re.findall(rf"^  {command} ", text, re.MULTILINE)) == 1
    for heading in ("See it work:", "Look at a ledger:", "Change its schema or its place:", "Examples:", "Exit codes:"):
        assert f"\n{heading}\n" in text


@pytest.mark.parametrize("command", [[], *([*words] for words, _ in all_commands(program))])
def test_help_fits_narrow_terminals(command: list[str]) -> None:
    """At 40 columns no line of help is wider, except examples, which are for copying."""
    text = run(*command, "--help", env={"COLUMNS": "40"}).stdout
    examples = re.search(r"^Examples:\n(?:  .*\n?)+", text, re.MULTILINE)
    assert examples is not None
    for line in text.replace(examples[0], "").splitlines():
        assert len(line) <= 40, line


def test_every_command_and_option_is_explained() -> None:
    """Each command has a sentence, an example that begins with the program's name, and help for all its options."""
    for name, command in all_commands(program):
        assert command.short_help, name
        text = invoke(*name, "--help").stdout
        assert f"\n  memoryos-uow {' '.join(name)}" in text
        assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_list_of_commands_says_what_they_say_themselves() -> None:
    """What the help lists without loading a command is that command's own name and sentence."""
    for name, command in program.load().items():
        assert (command.name, command.short_help) == (name, COMMANDS[name].summary)


def test_version() -> None:
    """--version says which library, contract, Python and SQLite these are."""
    text = invoke("--version").stdout
    assert re.fullmatch(r"memoryos-uow \S+ \(storage contract 1\.1\.0, Python \S+, SQLite \S+\)\n", text)


def test_help_imports_nothing_heavy() -> None:
    """Help needs click and the standard library: neither other libraries nor any command are imported for it."""
    code = (
        "import sys\ntry:\n import memoryos_uow.cli as c; c.main(['--help'])\n"
        "except SystemExit: pass\nprint(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, encoding="utf-8", check=True
    )
    loaded = set(done.stderr.split())
    assert "click" in loaded
    heavy = {"numpy", "opentelemetry", "sqlite_utils", "structlog", "cryptography"}
    assert not loaded & heavy
    assert sum(name.startswith("memoryos_uow") for name in loaded) < 15
