"""What the commands print: JSON for programs on stdout, notes for people on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from memoryos_uow._terminal import printable


def print_json(values: Any, *, indent: int | None = 2) -> None:
    """Print `values` as JSON in pure ASCII: right in every encoding, and no character in it steers a terminal."""
    click.echo(json.dumps(values, indent=indent, default=_plain))


def _plain(value: object) -> str:
    """Return JSON for what only a hand put into a ledger's column: bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)


def note_basic() -> None:
    """Say why a ledger of contract 1.0.0 tells so little."""
    note(
        "This ledger keeps contract 1.0.0, so less is known of its units. `memoryos-uow migrate` brings it to 1.1.0 and"
        " keeps every row."
    )


def note(sentence: str) -> None:
    """Say something on stderr that is neither data nor an error."""
    click.echo(f"Note: {printable(sentence, sys.stderr)}", err=True)
