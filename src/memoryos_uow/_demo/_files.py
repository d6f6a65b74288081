"""Which files the demo writes: the modules of the Python standard library, or the text files of any folder.

Promise: the same folder gives the same files in the same order; only regular files are read, links are not followed.
"""

from __future__ import annotations

import os
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._names import MAX_KEY_BYTES, Band, check_identifier
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._blob_keys import key_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS: Final = 300
"""How many files at most, unless the caller says otherwise."""

FILE_BYTES_MAX: Final = 8_000_000
"""Larger files are passed over: a demo should not take a minute for one of them."""

# fmt: off
TEXT_ENDINGS: Final = frozenset(
    {
        ".adoc", ".c", ".cc", ".cfg", ".conf", ".cpp", ".cs", ".css", ".csv", ".go", ".h", ".hpp", ".html",
        ".ini", ".java", ".js", ".json", ".jsonl", ".kt", ".log", ".lua", ".markdown", ".md", ".org", ".php",
        ".pl", ".properties", ".py", ".pyi", ".r", ".rb", ".rs", ".rst", ".scala", ".sh", ".sql", ".srt",
        ".svg", ".swift", ".tex", ".toml", ".ts", ".tsv", ".tsx", ".txt", ".vtt", ".xml", ".yaml", ".yml",
    }
)
# fmt: on

_LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
# Tests, tables of characters and two applications: true modules, but nothing to search in.
_LEFT_OUT_OF_STDLIB: Final = frozenset(
    {"encodings", "idle_test", "idlelib", "lib-dynload", "lib2to3", "pydoc_data", "test", "tests", "turtledemo"}
)


class TextFile(NamedTuple):
    """One file, and what the unit that writes it is told."""

    path: str
    key: str
    """Its path below the folder, with slashes: the record's key in all four stores."""
    space_id: str
    band: str


@dataclass(frozen=True)
class Collection:
    """The files of one run."""

    title: str
    files: tuple[TextFile, ...]
    found: int
    """How many there were to choose from."""


def standard_library(limit: int) -> Collection:
    """Return at most `limit` modules of the running Python's standard library, spread evenly over all of it."""
    root = Path(sysconfig.get_path("stdlib"))
    title = f"the standard library of Python {sys.version_info.major}.{sys.version_info.minor}"
    found = [each for each in _walk(root, _LEFT_OUT | _LEFT_OUT_OF_STDLIB, "stdlib") if each.key.endswith(".py")]
    if not found:  # a Python whose library lies in a zip file
        raise UsageError(
            "This Python has no modules as files.", hint="Name a folder of text files with --source DIRECTORY."
        )
    return Collection(title, _spread(found, limit), len(found))


def folder(directory: Path, limit: int) -> Collection:
    """Return at most `limit` text files below `directory`, spread evenly over all of them.

    Raises:
        UsageError: it is no directory that can be read, or holds no text file.
    """
    if not directory.is_dir():
        what = "is not a directory" if directory.exists() else "does not exist"
        raise UsageError(f"{directory} {what}.", hint="Name a folder that has text files in it.")
    found = list(_walk(directory, _LEFT_OUT, "files"))
    if not found:
        raise UsageError(
            f"There are no text files below {directory}.",
            hint="Text files are those whose names end in .py, .md, .txt, .rst and the like; hidden ones do not count.",
        )
    return Collection(str(directory), _spread(found, limit), len(found))


def _spread(found: list[TextFile], limit: int) -> tuple[TextFile, ...]:
    if len(found) <= limit:
        return tuple(found)
    return tuple(found[number * len(found) // limit] for number in range(limit))


def _walk(root: Path, left_out: frozenset[str], prefix: str) -> Iterator[TextFile]:
    for here, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith((".", "config-")))
        for name in sorted(names):
            path = os.path.join(here, name)  # noqa: PTH118 - thousands of them
            if os.path.splitext(name)[1].lower() in TEXT_ENDINGS and not name.startswith("."):  # noqa: PTH122
                found = _text_file(path, Path(path).relative_to(root).as_posix(), prefix)
                if found is not None:
                    yield found


def _text_file(path: str, key: str, prefix: str) -> TextFile | None:
    """Return the file, or None if it is too large, not to be read, or has a name that no record can have."""
    try:
        facts = os.lstat(path)
        check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        space_id = check_identifier(f"{prefix}:{key.partition('/')[0]}" if "/" in key else prefix, "space_id")
    except (OSError, UsageError):
        return None
    if not stat.S_ISREG(facts.st_mode) or facts.st_size > FILE_BYTES_MAX or not os.access(path, os.R_OK):
        return None
    if key_problem(key):
        return None
    name = key.rpartition("/")[2]
    private = name.startswith("_") and not name.startswith("__")
    return TextFile(path, key, space_id, Band.AMBER if private else Band.GREEN)
