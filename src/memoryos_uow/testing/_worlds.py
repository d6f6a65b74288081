"""The directories of one exploration: where it starts, where it runs, what is kept to be looked at."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from memoryos_uow.testing._functions import ExplorerError

if TYPE_CHECKING:
    from pathlib import Path

KEPT_MAX: Final = 5


class Worlds:
    """Lays worlds out below the directory `home`, which must be empty or an earlier exploration's."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        self.world = self.home / "world"
        """Where every run takes place: always the same path, so that programs may remember it."""
        self.base = self.home / "base"
        self.log = self.home / "strace.log"
        self.output = self.home / "output.txt"
        self._found = self.home / "found"
        self._kept = 0
        mark = self.home / ".memoryos-uow-explorer"
        if any(self.home.iterdir()) and not mark.exists():
            raise ExplorerError(
                f"{self.home} is not empty.", hint="Pass an empty directory as work_dir: it is cleared again and again."
            )
        mark.touch()
        for place in (self.world, self.base, self._found, *self.home.glob("kept-*"), *self.home.glob("death-*")):
            shutil.rmtree(place, ignore_errors=True)
        self.world.mkdir()

    def save(self, name: str) -> Path:
        """Keep a copy of the world under `name`, for runs to start from; return where."""
        place = self.home / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.world, place, symlinks=True)
        return place

    def begin(self, start: Path) -> Path:
        """Make the world a copy of `start`; return it."""
        shutil.rmtree(self.world)
        shutil.copytree(start, self.world, symlinks=True)
        return self.world

    def find(self) -> None:
        """Remember the world as the oracle is about to find it."""
        if self._kept < KEPT_MAX:
            self.save(self._found.name)

    def keep(self) -> Path | None:
        """Keep what `find` remembered, unless enough is kept; return where."""
        if self._kept >= KEPT_MAX:
            return None
        self._kept += 1
        return self._found.rename(self.home / f"kept-{self._kept}")

    def clear(self) -> None:
        """Remove everything but what was kept."""
        for place in (self.world, self.base, self._found, *self.home.glob("death-*")):
            shutil.rmtree(place, ignore_errors=True)
        self.log.unlink(missing_ok=True)
        self.output.unlink(missing_ok=True)
