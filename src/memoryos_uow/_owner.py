"""Which process owns a unit, and whether it is surely gone.

Promise: a process is called gone only where that can be known: it ran on this machine, since this boot, among the
processes that we can see, and its number is free or was given to a later process. Everything else is left to the lease.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from memoryos_uow import _ambient

_PROC = Path("/proc")


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
    started_field = 19
    return int(fields[started_field]) if len(fields) > started_field else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
