"""``sqlite-utils uow``: the library's command line behind a command of sqlite-utils."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from memoryos_uow import Ledger
from memoryos_uow.plugins import sqlite_utils_command
from memoryos_uow.stores import DocumentStore
from tests.units import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli() -> click.Group:
    """A group with the command in it, as sqlite-utils makes it."""
    group = click.Group("sqlite-utils")
    sqlite_utils_command.register_commands(group)
    return group


def test_commands_and_their_options_are_passed_on(cli: click.Group, tmp_path: Path) -> None:
    """Options and exit codes are those of memoryos-uow."""
    path = tmp_path / "memory.db"
    with (
        Ledger.open(path, stores=[DocumentStore("notes")]) as ledger,
        ledger.unit(space_id="s", band="GREEN") as uow,
    ):
        uow["notes"].create("k", 1)
    listed = CliRunner().invoke(cli, ["uow", "list", str(path), "--json"])
    assert (listed.exit_code, uow.uow_id in listed.output) == (0, True)
    assert CliRunner().invoke(cli, ["uow", "list", str(tmp_path / "none.db")]).exit_code == 2
    assert CliRunner().invoke(cli, ["uow", "no-such-command"]).exit_code == 2


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_is_the_programs(cli: click.Group, arguments: list[str]) -> None:
    """Without a command, and when asked, it shows all commands."""
    shown = CliRunner().invoke(cli, ["uow", *arguments])
    assert shown.exit_code == 0
    assert "memoryos-uow list memory.db --failed" in shown.output


def test_the_plugin_loads_little() -> None:
    """sqlite-utils loads plugins at every start: that loads the package, and nothing of the library."""
    code = (
        "import sys, memoryos_uow.plugins.sqlite_utils_command\n"
        "print(sorted(name for name in sys.modules if name.startswith('memoryos_uow.') and 'plugins' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "['memoryos_uow._version']\n"
