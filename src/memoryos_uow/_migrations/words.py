"""Small words that the ways up and down share: for errors and for progress."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_LISTED_MAX: Final = 3


def file_of(conn: sqlite3.Connection) -> str:
    """Return the path of the connection's main file."""
    try:
        path: str = conn.execute("PRAGMA database_list").fetchone()[2]
    except sqlite3.Error:  # asked for an error's text: a second error would only hide the first
        path = ""
    return path or "the database"


def listed(phrases: Sequence[str]) -> str:
    """Return the first few of `phrases`, and how many more there are."""
    more = len(phrases) - _LISTED_MAX
    return ", ".join(phrases[:_LISTED_MAX]) + (f" and {more} more" if more > 0 else "")


def silent(_: str, /) -> None:
    """Tell nobody: the progress callback of whoever gave none."""
