"""Ledgers to damage: made once, copied for each test, and verified as the command line does it, never opened."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger
from memoryos_uow._verification import Verifier
from memoryos_uow.cli._verify import _connected
from memoryos_uow.signing import KeyFileSigner, write_new_key
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from tests.units import OwnError, throw

if TYPE_CHECKING:
    from memoryos_uow.abc import Store
    from memoryos_uow.verification import Verification

ORIGIN: Final = "example.com/home"
ALICE: Final = "alice"
BOB: Final = "bob"
KEY: Final = b"k" * 32
FILE: Final = "memory.db"


def stores() -> list[Store]:
    """One store of each kind; blobs of 16 bytes and more become files."""
    return [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT", "n": "INTEGER"}),
        VectorStore("embeddings", dimensions=2),
        BlobStore("photos", "photos", inline_below=16),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("files", "files"),
    ]


def opened(directory: Path, **options: Any) -> Ledger:
    """The ledger in `directory`, made if need be, unsigned unless asked."""
    return Ledger.open(directory / FILE, **{"stores": stores(), "durability": "normal", "origin": ORIGIN, **options})


def write_everything(ledger: Ledger) -> None:
    """Nine units: Alice's first is commit 1 with ids 1 to 6, her last deletes; Bob's are AMBER and have nonces."""
    with ledger.unit(space_id=ALICE, band="GREEN", actor_id="phone", correlation_id="req-1", device_id="d") as uow:
        uow["notes"].create("n1", {"text": "milk is out"})
        uow["orders"].create("o1", {"n": 1})
        uow["embeddings"].create("e1", [0.5, 0.5])
        uow["photos"].create("small", b"tiny")
        uow["archive"].create("a1", {"old": True})
        uow["files"].create("2026/f1.txt", b"a file")
    for number in (2, 3):
        with ledger.unit(space_id=ALICE, band="GREEN") as uow:
            uow["notes"].create(f"n{number}", {"text": f"note {number}"})
            uow["photos"].create(f"large{number}", bytes([number]) * 40)
    with ledger.unit(space_id=BOB, band="AMBER", actor_id="bob") as uow:
        uow["notes"].create("b1", {"text": "bob has a note"})
        uow["notes"].create("b2", {"text": "and another"})
    with ledger.unit(space_id=BOB, band="RED") as uow:
        uow["notes"].create("r1", {"text": "red"})
    with ledger.unit(space_id=BOB, band="BLACK") as uow:
        uow["notes"].create("k1", {"text": "black"})
    with ledger.unit(space_id=ALICE, band="GREEN") as uow:
        uow["notes"].update("n2", {"text": "note 2, changed"})
        uow["archive"].update("a1", {"old": False})
    with suppress(OwnError), ledger.unit(space_id=ALICE, band="GREEN") as uow:
        uow["notes"].create("n9", {})
        throw(OwnError("on purpose"))
    with ledger.unit(space_id=ALICE, band="GREEN") as uow:
        uow["notes"].delete("n3")
        uow["photos"].delete("large3")
        uow["files"].create("gone.txt", b"x")
    with ledger.unit(space_id=ALICE, band="GREEN") as uow:
        uow["files"].delete("gone.txt")
        uow["archive"].create("a2", {})
    with ledger.unit(space_id=ALICE, band="GREEN") as uow:
        uow["archive"].delete("a2")


def make_signed(directory: Path) -> None:
    """A signed ledger with everything in it, its key beside it."""
    write_new_key(directory / "key.pem")
    with opened(directory, signer=directory / "key.pem", content_key=KEY) as ledger:
        write_everything(ledger)
        (directory / "checkpoint").write_text(ledger.checkpoint(), encoding="utf-8")
        ledger.recover()  # sweeps the bytes of blobs that were deleted


def vkey_of(directory: Path) -> str:
    """The public key of the ledger in `directory`."""
    return KeyFileSigner(directory / "key.pem", name=ORIGIN).vkey


def copied(template: Path, tmp_path: Path) -> Path:
    """A copy of a ledger's directory, to be damaged."""
    return Path(shutil.copytree(template, tmp_path / "ledger"))


def verified(directory: Path, **options: Any) -> Verification:
    """What verification says of the ledger in `directory`, without opening it for writing."""
    path = directory / FILE
    return Verifier(lambda: _connected(path, 5), path, **{"stores": {}, "live": False, **options}).run()


def execute(directory: Path, *statements: str, file: str = FILE) -> None:
    """Do to the file what somebody with SQL can do to it; nothing refuses."""
    with closing(sqlite3.connect(directory / file, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("BEGIN")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, f"changed nothing: {statement}"
        connection.execute("COMMIT")
