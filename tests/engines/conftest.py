"""An open engine on a file of its own for each test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from memoryos_uow import Durability
from memoryos_uow.engines.sqlite import SQLiteEngine
from tests.engines.looking import PATIENT_S

if TYPE_CHECKING:
    from collections.abc import Iterator


class Opener(Protocol):
    def __call__(self, path: Path, *, busy_timeout_s: float = ..., durability: Durability = ...) -> SQLiteEngine: ...


@pytest.fixture
def open_engine() -> Iterator[Opener]:
    """Opens engines, and closes them at the end."""
    opened: list[SQLiteEngine] = []

    def opener(
        path: Path, *, busy_timeout_s: float = PATIENT_S, durability: Durability = Durability.NORMAL
    ) -> SQLiteEngine:
        opened.append(SQLiteEngine.open(path, durability=durability, busy_timeout_s=busy_timeout_s))
        return opened[-1]

    yield opener
    for engine in opened:
        engine.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A new directory that every user of the machine can reach."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    for each in (directory, *directory.iterdir()):
        each.chmod(0o755)
    shutil.rmtree(directory)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the engine's file is."""
    return tmp_path / "memory.db"


@pytest.fixture
def engine(path: Path, open_engine: Opener) -> SQLiteEngine:
    """An engine on a new file with the table t(x)."""
    engine = open_engine(path)
    tx = engine.begin()
    tx.execute("CREATE TABLE t (x UNIQUE)")
    tx.commit()
    return engine
