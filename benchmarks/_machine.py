"""Says on what kind of machine numbers were measured, without naming it."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path
from statistics import median
from time import perf_counter_ns

_SYNC = getattr(os, "fdatasync", os.fsync)


def describe(directory: Path) -> str:
    """Return one line: processors, system, versions, and how long the disk below `directory` takes to sync 4 KiB."""
    return (
        f"{os.cpu_count()} x {_processor()}, {platform.system()}, {platform.python_implementation()}"
        f" {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" 4 KiB written over and synced in {sync_us(directory):,.0f} us"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def sync_us(directory: Path, times: int = 200) -> float:
    """Return the median time in microseconds that the disk takes to make 4 KiB durable that were there before."""
    page = os.urandom(4096)
    file = directory / "sync-probe"
    taken = []
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(times):
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, page)
            begun = perf_counter_ns()
            _SYNC(descriptor)
            taken.append((perf_counter_ns() - begun) / 1000)
    finally:
        os.close(descriptor)
        file.unlink()
    return median(taken)
