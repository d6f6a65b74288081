"""``memoryos-uow demo``: the library's main job on real text."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from memoryos_uow.cli._arguments import json_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json

_NAME: Final = "memoryos-uow"
_SEEDS: Final = 1_000_000


@click.command(
    cls=Command,
    short_help="Write real text, kill it in mid-work, prove that nothing is half.",
    examples=(
        "memoryos-uow demo",
        "memoryos-uow demo --source ~/notes --units 1000",
    ),
)
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    metavar="DIRECTORY",
    help="A folder of text files. Default: the modules of Python's standard library.",
)
@click.option(
    "--ledger",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where the new ledger goes. Default: memoryos-demo/run-N/ledger.db here.",
)
@click.option(
    "--units",
    type=click.IntRange(min=4, max=100_000),
    default=300,
    metavar="N",
    show_default=True,
    help="How many files at most.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Repeat a run's choice of kills.")
@json_option
def demo(*, source: Path | None, ledger: Path | None, units: int, seed: int | None, as_json: bool) -> None:
    """Write real text to four stores, one unit of work per file; kill it in mid-work; prove that nothing is half.

    The ledger stays, to look around in. Nothing that was there before is touched. The exit code is 1 if anything does
    not hold.
    """
    from memoryos_uow._demo import run  # noqa: PLC0415 - not for --help

    chosen = int.from_bytes(os.urandom(4)) % _SEEDS if seed is None else seed
    found = run(source=source, ledger=ledger, units=units, seed=chosen, program=program_name(), silent=as_json)
    if as_json:
        print_json(found)
    if not found["ok"]:
        click.get_current_context().exit(1)


def program_name() -> str:
    """Return what to type for this command line here."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"python -m {__name__.partition('.')[0]}"
    return _NAME if shutil.which(_NAME) or Path(called).name != _NAME else called
