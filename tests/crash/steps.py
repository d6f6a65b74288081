"""What the explored programs do, as data: steps, each of them one unit, and what must be there after them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from memoryos_uow.abc import Store

SPACE: Final = "shared:household"
LARGE_FROM_BYTES: Final = 1_000
INSIDE: Final = ("notes", "orders", "embeddings", "photos")
OUTSIDE: Final = ("archive", "files")


def four_stores() -> list[Store]:
    """One store of each kind whose decision is the ledger's commit; large blobs are files beside it."""
    return [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT", "n": "INTEGER"}),
        VectorStore("embeddings", dimensions=4),
        BlobStore("photos", "photos", inline_below=LARGE_FROM_BYTES),
    ]


def six_stores() -> list[Store]:
    """The same with the two that follow the decision: a second SQLite file and named files."""
    return [*four_stores(), SQLiteFileStore("archive", "archive.db"), FileStore("files", "files")]


def value(store: str, key: str, version: int) -> Any:
    """Return what `store` holds under `key` at `version`; odd versions have a large blob."""
    blob = f"{key} {version} ".encode() * (400 if version % 2 else 4)
    return {
        "notes": {"text": f"common word{version}"},
        "orders": {"n": version},
        "embeddings": [float(version), 1.0, 0.0, 0.0],
        "photos": blob,
        "archive": {"n": version},
        "files": blob,
    }[store]


def vector_bytes(version: int) -> bytes:
    """Return the embedding at `version` as the ledger stores it."""
    return struct.pack("<4f", version, 1, 0, 0)


@dataclass(frozen=True)
class Step:
    """One unit: the version each key gets, None for a delete; and how it is meant to end."""

    changes: Mapping[str, int | None]
    end: str = "commit"


START: Final = Step({"n0": 0, "deep/d0": 0, "deep/d1": 1})
STEPS: Final[Mapping[str, tuple[Step, ...]]] = {
    "create": (Step({"n1": 1}), Step({"n2": 2})),
    "update": (Step({"n0": 1}), Step({"n0": 2})),
    "delete": (Step({"deep/d0": None}), Step({"deep/d1": None})),
    "mixed": (Step({"n1": 1, "n0": 1, "deep/d1": None}), Step({"n1": 2, "deep/d1": 1, "n0": None})),
    "rollback": (Step({"n1": 1}), Step({"n2": 1, "n0": 3}, end="rollback"), Step({"n0": 2})),
    "failing": (
        Step({"n1": 1}),
        Step({"n2": 1, "n0": 3}, end="refuse"),
        Step({"n3": 1, "n0": 5}, end="raise"),
        Step({"n0": 2}),
    ),
    "reopen": (Step({"n1": 1, "deep/d1": 2}), Step({"n1": 2, "n0": 1})),
    "first_open": (Step({"n1": 1}),),
}
WITHOUT_START: Final = frozenset({"first_open"})


def expected(name: str, committed: Collection[int]) -> dict[str, int]:
    """Return the version of each key after the units `committed` of a program; unit 0 is the start."""
    state: dict[str, int] = {}
    for number, step in enumerate((START, *STEPS[name])):
        if number in committed:
            for key, version in step.changes.items():
                if version is None:
                    del state[key]
                else:
                    state[key] = version
    return state
