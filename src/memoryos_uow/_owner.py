"""Which process owns a unit, and whether it is surely gone.

Promise: a process is called gone only where that can be known: it ran on this machine, since this boot, among the
processes that we can see, and its number is free or was given to a later process. Everything else is left to the lease.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from memoryos_uow import _ambient

_PROC: Final = Path("/proc")
_STATE, _THREADS, _STARTED = 0, 17, 19
"""Fields of ``/proc/<pid>/stat`` behind the program's name (man 5 proc)."""
_DEAD: Final = frozenset("ZX")


@lru_cache(maxsize=4)
def _own_name(pid: int) -> str:
    return json.dumps([_host(), _visible_processes(), pid, _start_of(pid)], separators=(",", ":"))


def own_name() -> str:
    """Return this process's name as an owner."""
    return _own_name(_ambient.process_id())


def is_gone(name: str) -> bool:
    """Say whether the process called `name` surely runs no more."""
    try:
        host, visible, pid, start = json.loads(name)
    except (ValueError, TypeError):
        return False
    if host != _host() or visible != _visible_processes() or not isinstance(pid, int):
        return False
    if start is None:
        return False
    return bool(_start_of(pid) != start)


def is_there(name: str) -> bool:
    """Say whether the process called `name` surely runs still."""
    try:
        host, visible, pid, start = json.loads(name)
    except (ValueError, TypeError):
        return False
    if host != _host() or visible != _visible_processes() or not isinstance(pid, int) or start is None:
        return False
    return bool(_start_of(pid) == start)


@lru_cache(maxsize=1)
def _host() -> str:
    """Return what tells this boot of this machine from all others."""
    return _text(_PROC / "sys/kernel/random/boot_id") or os.uname().nodename if hasattr(os, "uname") else ""


def _visible_processes() -> str:
    """Return which processes can be seen from here: containers share a boot but number their processes apart."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _start_of(pid: int) -> Any:
    """Return when the process began, in clock ticks since boot; None where that cannot be told."""
    stat = _text(_PROC / str(pid) / "stat")
    # The second field is the program's name in parentheses and may hold anything, so count from the last parenthesis.
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= _STARTED:
        return None
    if fields[_STATE] in _DEAD and fields[_THREADS] in ("0", "1"):
        return None  # dead, only its parent has not taken notice yet
    return int(fields[_STARTED])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
