"""The child process: writes files as the parent does, says where it is, and gets killed.

It reads its job from stdin as JSON and prints a line at each step: ``begin N``, ``commit N`` (the block is about to be
left, so the commit is next), ``done N`` (the commit has returned). N is the file's place in the job.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from memoryos_uow._demo._files import TextFile
from memoryos_uow._demo._ingest import ingest, is_there, open_ledger


def main() -> None:
    """Write every file of the job that is not in the ledger yet."""
    job = json.load(sys.stdin)
    files = [TextFile(*file) for file in job["files"]]
    with open_ledger(Path(job["ledger"])) as ledger:
        for number, file in enumerate(files):
            if not is_there(ledger, file):
                ingest(ledger, file, correlation_id=job["correlation_id"], at=partial(_say, number))
                _say(number, "done")


def _say(number: int, step: str) -> None:
    sys.stdout.write(f"{step} {number}\n")
    sys.stdout.flush()
