"""Keys for tests that sign, and a unit to be signed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from memoryos_uow.signing import KeyFileSigner, write_new_key

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import Ledger
    from memoryos_uow.receipts import Receipt

ORIGIN: Final = "example.com/tests"


def key_file(folder: Path, name: str = "key.pem") -> Path:
    """Make a key file in `folder`, if it is not there."""
    path = folder / name
    if not path.exists():
        write_new_key(path)
    return path


def signer(folder: Path, name: str = "key.pem", origin: str = ORIGIN) -> KeyFileSigner:
    """Return the signer with the key file called `name`."""
    return KeyFileSigner(key_file(folder, name), name=origin)


def put(ledger: Ledger, key: str, *, space_id: str = "s") -> Receipt:
    """Commit a unit of one document; return its receipt."""
    with ledger.unit(space_id=space_id, band="GREEN") as uow:
        uow["notes"].upsert(key, {"text": key})
    assert uow.receipt is not None
    return uow.receipt


def tamper(path: Path, sql: str, *parameters: object) -> None:
    """Change the file behind the library's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, parameters)
