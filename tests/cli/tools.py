"""Ways to call the command line in tests, and ledgers to call it on."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.testing import CliRunner

import memoryos_uow
from memoryos_uow import Band, Ledger
from memoryos_uow.cli._program import Program, program
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from click.testing import Result

Place = TypeVar("Place", Path, str)

SOURCE: Final = Path(memoryos_uow.__file__).parents[1]
COMMAND: Final = [sys.executable, "-P", "-m", "memoryos_uow"]
SPACE: Final = "家族:共有"
HOSTILE_KEY: Final = "n1\x1b[2J\r\n\u202eevil"


def environment(**more: str) -> dict[str, str]:
    """The environment for a child: this library on the path, nothing of coverage, terminal or ledger inherited."""
    dropped = ("COV_", "COVERAGE_", "PYTHON", "MEMORYOS_UOW", "LC_", "LANG", "COLUMNS", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(SOURCE), "LANG": "C.UTF-8", **more}


def run(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What the command line does in a process of its own; its output is read as UTF-8."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(env or {})),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def invoke(*arguments: str | Path, env: dict[str, str | None] | None = None) -> Result:
    """What the command line does inside this process; exceptions that no user should see are raised."""
    settings: dict[str, str | None] = {"MEMORYOS_UOW_LEDGER": None, "COLUMNS": None, "MEMORYOS_UOW_TRACEBACK": "1"}
    return CliRunner().invoke(
        program, list(map(str, arguments)), env=settings | (env or {}), catch_exceptions=False, prog_name="memoryos-uow"
    )


def make_ledger(path: Place) -> Place:
    """A ledger, wherever, with a committed and a failed unit of each band, and one rolled back: nine units."""
    with Ledger.open(path, stores=[DocumentStore("notes")]) as ledger:
        for band in Band:
            write(ledger, band, HOSTILE_KEY if band is Band.GREEN else f"n-{band}")
        for band in Band:
            with suppress(ValueError):
                write(ledger, band, f"failed-{band}", error=ValueError("the secret \x1b[31m words"))
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("never", {})
            uow.rollback()
    return path


def write(ledger: Ledger, band: str, key: str, *, error: Exception | None = None) -> None:
    """Run one unit that creates a note, and raise `error` in it."""
    context: dict[str, Any] = {"actor_id": "alice", "device_id": "phone", "correlation_id": f"req-{band}"}
    with ledger.unit(space_id=SPACE, band=band, **context) as uow:
        uow["notes"].create(key, {"text": "milk is out"})
        if error is not None:
            raise error


def files_of(directory: Path) -> dict[str, bytes]:
    """The content of every file below a directory, by name."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def only_id(path: Path, filters: Sequence[str]) -> str:
    """The id of the one unit that matches."""
    with Ledger.open(path) as ledger:
        options = dict(pair.split("=") for pair in filters)
        (record,) = ledger.units(**options)  # type: ignore[arg-type]
        return record.uow_id


def all_commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below `group` with its words."""
    for name, command in (group.load() if isinstance(group, Program) else group.commands).items():
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*above, name))
