"""What every table has in common when it is printed from the command line."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import _machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def options(description: str | None, arguments: Sequence[str] | None, **defaults: int) -> Any:
    """Return the command line's whole numbers by name; each has a default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"default {default:,}")
    return parser.parse_args(arguments)


@contextmanager
def workplace(title: str) -> Iterator[Path]:
    """Print `title` and the machine, and lend a folder of the system's temporary directory ($TMPDIR) until the end."""
    with tempfile.TemporaryDirectory(prefix="uow-bench-") as folder:
        print(f"## {title}\n\n{_machine.describe(Path(folder))}\n")
        yield Path(folder)


def section(title: str, text: str) -> None:
    """Print one table under its title."""
    print(f"### {title}\n\n{text}\n", flush=True)
