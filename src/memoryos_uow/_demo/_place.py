"""Where the demo puts its ledger: somewhere new, that stays when the command is over.

Promise: nothing that was there before is changed or removed.
"""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import Final

from memoryos_uow._demo._ingest import blob_directory
from memoryos_uow.errors import UsageError

FOLDER: Final = "memoryos-demo"
LEDGER: Final = "ledger.db"


def choose_place(wanted: Path | None) -> Path:
    """Return the path of a ledger that does not exist yet: `wanted`, or one in a new folder of its own.

    That folder is ``memoryos-demo/run-N`` here, so that it is easily found and removed; where nothing can be written
    here, a temporary one.

    Raises:
        UsageError: there is something at `wanted` already, or its directory is missing.
    """
    if wanted is None:
        return _new_folder() / LEDGER
    if not wanted.absolute().parent.is_dir():
        raise UsageError(f"The directory {wanted.parent} does not exist.", hint="Create it, or name another place.")
    for taken in (wanted, blob_directory(wanted)):
        if taken.exists() or taken.is_symlink():
            raise UsageError(
                f"There is something at {taken} already.",
                hint="The demo only makes new ledgers: give a path where nothing is, or leave --ledger out.",
            )
    return wanted


def _new_folder() -> Path:
    folder = Path(FOLDER)
    try:
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # a demo does not belong into a repository
        for number in count(1):
            run = folder / f"run-{number}"
            try:
                run.mkdir()
            except FileExistsError:
                continue
            return run
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER}-"))
