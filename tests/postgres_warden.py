"""Watches over the PostgreSQL servers of a test process: once it is gone, ends them and removes their folder.

Run as a program with the folder as its argument. Standard input is a pipe from the test process; nothing is ever
written to it, and it ends with the last process that holds it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

_EACH_S = 5
_PROC = Path("/proc")


def _watch(folder: Path) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for how in (signal.SIGQUIT, signal.SIGKILL):
        running = _running(folder)
        for pid in running:
            os.kill(pid, how)
        end = time.monotonic() + _EACH_S
        while time.monotonic() < end and (running := _running(folder)):
            time.sleep(0.01)
    shutil.rmtree(folder, ignore_errors=True)


def _running(folder: Path) -> list[int]:
    return [
        pid for note in folder.glob("*/data/postmaster.pid") if (pid := _pid(note)) and _is_server(pid, note.parent)
    ]


def _pid(note: Path) -> int | None:
    try:
        return int(note.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _is_server(pid: int, data: Path) -> bool:
    """Whether the process is that server still, and not another one that was given its number."""
    try:
        os.kill(pid, 0)
        return not (_PROC / "self").exists() or os.fsencode(data) in (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return False


if __name__ == "__main__":
    _watch(Path(sys.argv[1]))
