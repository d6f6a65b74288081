"""A directory in memory, where syncing costs nothing: what the explorer looks at does not depend on the disk below."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a new directory of our own is made in it
_ROOM_BYTES: Final = 1 << 28


@contextmanager
def memory_dir(otherwise: Path) -> Iterator[Path]:
    """Lend a new directory in memory, or `otherwise` where there is none; worlds that an exploration kept stay."""
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        yield otherwise
        return
    place = Path(tempfile.mkdtemp(prefix="memoryos-uow-", dir=_MEMORY))
    try:
        yield place
    finally:
        if not list(place.rglob("kept-*")):
            shutil.rmtree(place, ignore_errors=True)
