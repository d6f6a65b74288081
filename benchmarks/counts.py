"""What a unit of work does, counted: noise cannot touch these numbers, so tests hold them down (ceilings.toml).

`python -m benchmarks.counts` prints every count beside its ceiling, and which tables and indexes the pages of a commit
belong to; `--lower` writes the counts that have fallen into ceilings.toml; `--json` prints what needs no other program,
for the tests, which count in a process of its own because whatever else runs in one would be counted too.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
import tracemalloc
from collections import Counter
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import memoryos_uow
from benchmarks._command import section
from benchmarks._four import SIZES, FourByLibrary
from benchmarks._ratios import table
from benchmarks._work import CONTEXT, ByLibrary, documents
from benchmarks.bench_three import ThreeByLibrary
from memoryos_uow.engines.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Counts = dict[str, dict[str, float]]

CEILINGS: Final = Path(__file__).with_name("ceilings.toml")
DOCUMENTS: Final = "unit_of_three_documents"
SMALL: Final = "unit_over_four_stores_small_blob"
LARGE: Final = "unit_over_four_stores_large_blob"
THREE: Final = "unit_over_three_places"
TOLD: Final = "unit_of_three_documents_told"
MEMORY: Final = "memory"
KINDS: Final = (DOCUMENTS, SMALL, LARGE, THREE)

_WARMUP: Final = 20
_UNITS: Final = 100  # with the warm-up too few for a checkpoint, which would begin the log anew
_WAL_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_ROOT: Final = Path(__file__).parents[1]
_WRITES_WAITING: Final = 2000
_DEAR: Final = frozenset(
    ("asyncio", "concurrent", "ctypes", "email", "http", "multiprocessing", "pickle", "ssl", "subprocess", "tempfile")
)
"""Modules of Python's own that take long to load and that a library for a file has no need of."""


def work(kind: str, path: Path, durability: Any) -> ByLibrary | FourByLibrary | ThreeByLibrary:
    """Return what does one unit of this kind each time it is called."""
    if kind == DOCUMENTS:
        return ByLibrary(path, durability)
    if kind == THREE:
        return ThreeByLibrary(path, durability)
    size = SIZES["blob of 4 KiB" if kind == SMALL else "blob of 256 KiB"]
    return FourByLibrary(path, durability, size)


# Statements


@contextmanager
def statements_heard() -> Iterator[list[str]]:
    """Collect every SQL statement that ledgers opened in this block run, for as long as they are open."""
    heard: list[str] = []
    connect = SQLiteEngine.connect

    def connect_and_listen(engine: SQLiteEngine, **options: Any) -> sqlite3.Connection:
        connection = connect(engine, **options)
        connection.set_trace_callback(heard.append)
        return connection

    with patch.object(SQLiteEngine, "connect", connect_and_listen):
        yield heard


def count_statements(kind: str, folder: Path) -> dict[str, float]:
    """Count the SQL statements that one unit runs; each row of an ``executemany`` is one."""
    with statements_heard() as heard, work(kind, folder / "statements.db", "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        heard.clear()
        for _ in range(_UNITS):
            unit()
        of_units = tuple(heard)
    own = [sql for sql in of_units if not sql.startswith("--")]  # comments are what SQLite's FTS5 runs inside
    return {"sql_statements": len(own) / _UNITS, "commits": own.count("COMMIT") / _UNITS}


# Calls


def count_calls(kind: str, folder: Path) -> dict[str, float]:
    """Count the Python functions that one unit enters, generators resumed included, and the built-in ones it calls."""
    seen: Counter[str] = Counter()

    def note(_frame: object, event: str, _argument: object) -> None:
        seen[event] += 1

    with work(kind, folder / "calls.db", "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        sys.setprofile(note)
        try:
            for _ in range(_UNITS):
                unit()
        finally:
            sys.setprofile(None)
    return {"function_calls": seen["call"] / _UNITS, "built_in_calls": seen["c_call"] / _UNITS}


# Pages of the write-ahead log


def log_pages(kind: str, folder: Path) -> Counter[str]:
    """Return how many pages one unit writes to the log, by table or index; under "" where `dbstat` is missing."""
    path = folder / "pages.db"
    log = path.with_name("pages.db-wal")
    with work(kind, path, "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        begin = log.stat().st_size
        for _ in range(_UNITS):
            unit()
        content = log.read_bytes()
        with closing(sqlite3.connect(path)) as connection:
            names = _pages_by_name(connection)
    size = int.from_bytes(content[8:12])
    frames = range(max(begin, _WAL_HEADER_BYTES), len(content), _FRAME_HEADER_BYTES + size)
    pages: Counter[str] = Counter(names.get(int.from_bytes(content[at : at + 4]), "") for at in frames)
    return pages


def count_pages(kind: str, folder: Path) -> dict[str, float]:
    """Count the pages that one unit writes to the log."""
    return {"log_pages": log_pages(kind, folder).total() / _UNITS}


def _pages_by_name(connection: sqlite3.Connection) -> dict[int, str]:
    try:
        return dict(connection.execute("SELECT pageno, name FROM dbstat").fetchall())
    except sqlite3.OperationalError:
        return {}


# Syncs


def why_no_strace() -> str | None:
    """Say why system calls cannot be counted here, or return None."""
    if shutil.which("strace") is None:
        return "the program strace is not installed"
    done = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "strace may not trace processes here"


def count_syncs(kind: str, durability: str, folder: Path) -> float:
    """Count how often one unit waits for the disk, in a child process under strace."""
    report, begin, end = folder / "calls.txt", folder / "begin", folder / "end"
    script = (
        "import os, sys; from pathlib import Path; from benchmarks.counts import work\n"
        "kind, durability, folder, begin, end = sys.argv[1:]\n"
        "with work(kind, Path(folder) / 'syncs.db', durability) as unit:\n"
        f"    for _ in range({_WARMUP}): unit()\n"
        "    os.mkdir(begin)\n"
        f"    for _ in range({_UNITS}): unit()\n"
        "    os.mkdir(end)\n"
    )
    traced = "trace=/^(fsync|fdatasync|sync|syncfs|sync_file_range|msync|mkdir|mkdirat)$"
    strace = ("strace", "-f", "-qq", "-e", traced, "-o", str(report))
    child = (sys.executable, "-c", script, kind, durability, *map(str, (folder, begin, end)))
    subprocess.run([*strace, *child], **_child_surroundings(), check=True)
    text = report.read_text(encoding="utf-8")
    between = text[text.index(f'"{begin}"') : text.index(f'"{end}"')]
    return len(re.findall(r"^\d+ +(?:\w*sync\w*)\(", between, re.MULTILINE)) / _UNITS


def _child_surroundings() -> dict[str, Any]:
    """Return where a child process runs, how it finds this folder and the library, and a fixed order of its sets."""
    paths = (str(Path(memoryos_uow.__file__).parents[1]), str(_ROOT))
    return {"cwd": _ROOT, "env": {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}}


# Memory


def count_memory(folder: Path) -> dict[str, float]:
    """Measure what a waiting write holds, what a unit needs at its peak for each write, and what it leaves behind."""
    with ByLibrary(folder / "memory.db", "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        tracemalloc.start()
        try:
            before = _held()
            with unit.ledger.unit(**CONTEXT) as uow:
                notes = uow["notes"]
                for number in range(_WRITES_WAITING):
                    key, value = next(documents(10_000_000 + number))
                    notes.create(key, value)
                waiting = _held() - before
                tracemalloc.reset_peak()
            peak = tracemalloc.get_traced_memory()[1] - before
            del uow, notes
            for _ in range(_WARMUP):
                unit()
            before = _held()
            for _ in range(5 * _UNITS):
                unit()
            left = _held() - before
        finally:
            tracemalloc.stop()
    return {
        "bytes_per_waiting_write": waiting / _WRITES_WAITING,
        "peak_bytes_per_write": peak / _WRITES_WAITING,
        "bytes_left_by_a_unit": max(left, 0) / (5 * _UNITS),
    }


def count_rings(folder: Path) -> dict[str, float]:
    """Count the objects that a unit leaves in rings of references: they stay until Python looks for such."""
    with ByLibrary(folder / "rings.db", "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        gc.collect()
        gc.disable()
        try:
            for _ in range(_UNITS):
                unit()
            return {"objects_in_rings": gc.collect() / _UNITS}
        finally:
            gc.enable()


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


# The file, and the import


def count_bytes(folder: Path) -> dict[str, float]:
    """Measure how much a unit of three documents adds to the ledger's file, the documents included."""
    with ByLibrary(folder / "bytes.db", "normal") as unit:
        for _ in range(_WARMUP):
            unit()
        with closing(sqlite3.connect(unit.path)) as connection:
            before = _file_bytes(connection)
            for _ in range(10 * _UNITS):
                unit()
            return {"bytes_in_file": (_file_bytes(connection) - before) / (10 * _UNITS)}


def _file_bytes(connection: sqlite3.Connection) -> int:
    pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    total: int = pages * size
    return total


def count_modules() -> dict[str, float]:
    """Count what the import of `Ledger` loads beside the library: modules of others, and dear ones of Python's."""
    imports = "from memoryos_uow import Ledger, UnitOfWork"
    script = f"import sys; before = set(sys.modules); {imports}; print(*(sys.modules.keys() - before))"
    command = [sys.executable, "-S", "-c", script]
    done = subprocess.run(command, **_child_surroundings(), stdout=subprocess.PIPE, check=True, text=True)
    loaded = done.stdout.split()
    roots = Counter(name.split(".")[0] for name in loaded)
    del roots["memoryos_uow"]
    return {
        "modules_of_ours": sum(name.split(".")[0] == "memoryos_uow" for name in loaded),
        "modules_of_others": sum(count for root, count in roots.items() if root not in sys.stdlib_module_names),
        "dear_modules": len(_DEAR & roots.keys()),
    }


# All of them


def counted_alone() -> Counts:
    """Return every count that needs no other program, taken in this process."""
    counts: Counts = {}
    for kind in KINDS:
        counts[kind] = {}
        for count in (count_statements, count_calls, count_pages):
            counts[kind].update(_in_a_folder(partial(count, kind)))
    counts[DOCUMENTS].update(_in_a_folder(count_bytes))
    counts[MEMORY] = {**_in_a_folder(count_memory), **_in_a_folder(count_rings)}
    counts["import"] = count_modules()
    from benchmarks.bench_telemetry import count_telling  # what it imports would change the counts above

    counts[TOLD] = _in_a_folder(count_telling)
    return counts


def _in_a_folder(count: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="uow-counts-") as folder:
        return count(Path(folder))


def counted_in_child() -> Counts:
    """Return `counted_alone` of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.counts", "--json"]
    done = subprocess.run(command, **_child_surroundings(), stdout=subprocess.PIPE, check=True)
    counts: Counts = json.loads(done.stdout)
    return counts


def counted_syncs() -> Counts:
    """Return how often units wait for the disk."""
    return {
        kind: {
            f"syncs_{durability}": _in_a_folder(partial(count_syncs, kind, durability))
            for durability in ("full", "normal")
        }
        for kind in KINDS
    }


# The ceilings


def ceilings() -> Counts:
    """Return the ceilings, section by section."""
    return tomllib.loads(CEILINGS.read_text(encoding="utf-8"))


def rounded(count: float, section: str = "") -> float:
    """Return a count as ceilings are written: upwards, to one decimal below 100 and to whole numbers above.

    Memory differs by some bytes from run to run, so it is written in hundreds with a fiftieth to spare.
    """
    if section == MEMORY:
        return math.ceil(count * 1.02 / 100) * 100
    tenths = math.ceil(round(count * 10, 6)) / 10
    return math.ceil(round(count, 6)) if count >= 100 or tenths == int(tenths) else tenths


def lowered(text: str, counts: Counts) -> str:
    """Return the text of the ceilings with each number that `counts` is below replaced; never one that it is above."""
    section = ""
    lines = []
    for line in text.splitlines(keepends=True):
        if heading := re.match(r"\[(\w+)\]", line):
            section = heading[1]
        setting = re.match(r"(\w+)( *= *)([\d.]+)", line)
        count = counts.get(section, {}).get(setting[1]) if setting else None
        if setting and count is not None and rounded(count, section) < float(setting[3]):
            number = f"{setting[1]}{setting[2]}{rounded(count, section)}"
            lines.append(number.ljust(setting.end()) + line[setting.end() :] if "#" in line else f"{number}\n")
        else:
            lines.append(line)
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the counts, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the counts of this process alone")
    parser.add_argument("--pages", choices=KINDS, default=DOCUMENTS, help="whose pages of the log to list")
    parser.add_argument("--lower", action="store_true", help="lower the ceilings to the counts")
    given = parser.parse_args(arguments)
    if given.json:
        print(json.dumps(counted_alone()))
        return
    counts = counted_in_child()
    why_not = why_no_strace()
    for kind, syncs in ({} if why_not else counted_syncs()).items():
        counts[kind].update(syncs)
    known = ceilings()
    rows = [
        (f"{part}.{name}", f"{count:,.2f}".removesuffix(".00"), known.get(part, {}).get(name, "none"))
        for part, found in counts.items()
        for name, count in found.items()
    ]
    print(f"## Counts\n\nPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}\n")
    section("Beside their ceilings", table(("count", "now", "ceiling"), rows))
    if why_not:
        print(f"Syncs were not counted: {why_not}.\n")
    pages = _in_a_folder(partial(log_pages, given.pages))
    trees = [(name or "unknown", f"{number / _UNITS:.2f}") for name, number in pages.most_common()]
    section(
        f"Pages of the log, {given.pages}",
        table(("table or index", "per unit"), [*trees, ("all", f"{pages.total() / _UNITS:.2f}")]),
    )
    if given.lower:
        CEILINGS.write_text(lowered(CEILINGS.read_text(encoding="utf-8"), counts), encoding="utf-8")


if __name__ == "__main__":
    main()
