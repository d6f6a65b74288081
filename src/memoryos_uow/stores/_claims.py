"""Whose directory it is: two ledgers, or two stores, that swept one directory would remove each other's bytes.

How: the root holds a directory ``.uow-home`` with exactly one entry, an empty directory named by the claim. It is put
there by one rename, which fails if another one is there already, so of two that claim at once one wins.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _catalog
from memoryos_uow._canonical import sha256_hex
from memoryos_uow.stores._directory import sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow.abc import Reader

HOME: Final = ".uow-home"
NO_ID: Final = "1.0.0"
"""What a ledger in basic mode has for an id: the same as all others."""


def ledger_id(reader: Reader) -> str:
    """Return what tells this ledger from others; in basic mode there is nothing that does."""
    if _catalog.has_table(reader, "uow_identity"):
        identity: str = reader.rows("SELECT ledger_id FROM uow_identity")[0][0]
        return identity
    return NO_ID


def claim_of(ledger: str, store: str) -> str:
    """Return the claim of a ledger's store, fit to be a directory's name."""
    return sha256_hex(f"{ledger} {store}".encode())


def is_others(root: Path, claim: str) -> bool:
    """Say whether somebody else has claimed `root`; an unclaimed one is nobody's.

    Raises:
        OSError: it cannot be looked at.
    """
    with suppress(FileNotFoundError):
        return any(name != claim for name in os.listdir(root / HOME))  # noqa: PTH208 - names are wanted, not paths
    return False


def stake(root: Path, claim: str) -> bool:
    """Claim `root`; return whether it is ours now.

    Raises:
        OSError: it cannot be written.
    """
    if not (root / HOME).exists():
        made = root / f"{HOME}.{_ambient.random_hex()}"
        (made / claim).mkdir(0o700, parents=True)
        try:
            made.rename(root / HOME)
        except OSError:  # somebody was faster
            (made / claim).rmdir()
            made.rmdir()
        sync_directory(root)
    return not is_others(root, claim)
