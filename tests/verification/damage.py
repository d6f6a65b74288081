"""Randomly damaged database files: verification must name what changed, and never crash, hang or raise a stranger.

`python -m tests.verification.damage --cases 10000` damages a ledger that often, in child processes with a time limit,
and prints what came of it. A case is its number: the same number gives the same damage.

What counts as changed is told by plain sqlite3: a row of a committed unit, in the columns that receipts speak of, that
reads otherwise than before, cannot be read, or is not found by its id.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger
from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.stores import DocumentStore
from tests.units import environment
from tests.verification.kit import FILE, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH: Final = 250
BATCH_TIMEOUT_S: Final = 300
_SECTOR: Final = 512
_UNBOUND: Final = frozenset(
    {
        "envelope_id",
        "total_execution_time_ms",
        "commit_time_ms",
        "retry_count",
        "error_type",
        "error_message",
        "failed_store",
        "error_ts",
        "recovery_attempted",
        "execution_us",
        "commit_us",
    }
)
"""Columns that no receipt speaks of."""

TABLES: Final = {
    "unit_of_work": "status = 'committed'",
    "uow_writes": "1",
    "uow_ledger": "1",
    "uow_nonces": "1",
    "uow_spaces": "1",
    "uow_identity": "1",
}


def make(directory: Path) -> bytes:
    """A ledger of sixty units in one file, with spaces of GREEN and of AMBER."""
    with Ledger.open(directory / FILE, stores=[DocumentStore("notes")], durability="normal", origin="o") as ledger:
        for number in range(60):
            band = "AMBER" if number % 3 == 0 else "GREEN"
            with ledger.unit(space_id=f"space {number % 4}", band=band, actor_id="alice") as uow:
                for part in range(3):
                    uow["notes"].create(f"n{number}-{part}", {"text": f"milk is out {number} {part}"})
    (directory / f"{FILE}-head").unlink()  # only the file itself is to tell
    return (directory / FILE).read_bytes()


# Damage


def flip_bit(content: bytearray, chance: random.Random) -> None:
    """One bit is another."""
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def flip_bytes(content: bytearray, chance: random.Random) -> None:
    """Up to sixteen bytes are others."""
    for _ in range(chance.randint(1, 16)):
        content[chance.randrange(len(content))] = chance.randrange(256)


def zero_sector(content: bytearray, chance: random.Random) -> None:
    """A sector of 512 bytes reads as zeros."""
    start = chance.randrange(len(content) // _SECTOR) * _SECTOR
    content[start : start + _SECTOR] = bytes(_SECTOR)


def scramble_sector(content: bytearray, chance: random.Random) -> None:
    """A sector of 512 bytes holds something else."""
    start = chance.randrange(len(content) // _SECTOR) * _SECTOR
    content[start : start + _SECTOR] = chance.randbytes(_SECTOR)


def swap_pages(content: bytearray, chance: random.Random) -> None:
    """Two pages change places."""
    page = _page_size(content)
    first, second = (chance.randrange(len(content) // page) * page for _ in range(2))
    one, other = content[first : first + page], content[second : second + page]
    content[first : first + page], content[second : second + page] = other, one


def copy_page(content: bytearray, chance: random.Random) -> None:
    """One page is there twice, another not at all."""
    page = _page_size(content)
    first, second = (chance.randrange(len(content) // page) * page for _ in range(2))
    content[first : first + page] = content[second : second + page]


def truncate(content: bytearray, chance: random.Random) -> None:
    """The file ends early."""
    del content[chance.randrange(len(content)) :]


def _page_size(content: bytearray) -> int:
    return int.from_bytes(content[16:18], "big")


DAMAGES: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    flip_bit,
    flip_bit,
    flip_bytes,
    zero_sector,
    scramble_sector,
    swap_pages,
    copy_page,
    truncate,
)


def damaged(sound: bytes, case: int) -> tuple[str, bytes]:
    """What case number `case` makes of a sound file, and how it is called."""
    chance = random.Random(case)
    damage = chance.choice(DAMAGES)
    content = bytearray(sound)
    damage(content, chance)
    return damage.__name__, bytes(content)


# What plain sqlite3 reads


def committed(path: Path) -> dict[str, Any] | None:
    """Everything that receipts speak of, as plain sqlite3 reads it; None if it cannot."""
    found: dict[str, Any] = {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.text_factory = bytes
            for table, condition in TABLES.items():
                rows = connection.execute(f"SELECT * FROM {table} WHERE {condition}")
                names = [column[0] for column in rows.description]
                kept = [at for at, name in enumerate(names) if name not in _UNBOUND]
                found[table] = sorted(repr([row[at] for at in kept]) for row in rows)
            ids = connection.execute("SELECT DISTINCT uow_id FROM uow_writes").fetchall()
            lookup = "SELECT rowid, receipt_hash FROM unit_of_work WHERE uow_id = CAST(? AS TEXT)"
            found["lookup"] = sorted(repr(connection.execute(lookup, one).fetchall()) for one in ids)
            link = "SELECT commit_seq FROM uow_ledger WHERE unit = ?"
            found["links"] = [connection.execute(link, (unit,)).fetchall() for unit in range(1, 61)]
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError):
        return None
    return found


def quick_check(path: Path) -> bool:
    """Whether SQLite's quick check finds something."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]
    except (sqlite3.Error, UnicodeError):
        return True


# Cases


def run(cases: Sequence[int], *, live: bool = True) -> Counter[str]:
    """Damage a ledger once for each of `cases`; count what came of it, and name cases that must not be."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home:
        directory = Path(home)
        sound = make(directory)
        before = committed(directory / FILE)
        assert before is not None
        for case in cases:
            shutil.rmtree(directory)
            directory.mkdir()
            name, content = damaged(sound, case)
            (directory / FILE).write_bytes(content)
            changed = committed(directory / FILE) != before
            quick = quick_check(directory / FILE)
            try:
                found = not verified(directory, live=live).ok
            except UnitOfWorkError:
                found = True
            except Exception as error:  # noqa: BLE001 - this is what is being looked for
                counts[f"FOREIGN {type(error).__name__} in case {case} ({name})"] += 1
                continue
            counts["cases"] += 1
            counts["changed"] += changed
            counts["changed and found"] += changed and found
            counts["changed and found by quick_check"] += changed and quick
            counts["unchanged and found"] += found and not changed
            if changed and not found:
                counts[f"MISSED case {case} ({name})"] += 1
    return counts


def run_in_child(first: int, last: int, timeout_s: float = BATCH_TIMEOUT_S) -> Counter[str]:
    """The same for cases `first` to `last` - 1 in a child process, which may crash or hang."""
    command = [sys.executable, "-m", "tests.verification.damage", "--child", str(first), str(last)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(), timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Counter({f"HUNG in cases {first} to {last}": 1})
    if done.returncode != 0:
        return Counter({f"CRASHED with {done.returncode} in cases {first} to {last}: {done.stderr[-300:]}": 1})
    return Counter(json.loads(done.stdout))


def wrong(counts: Counter[str]) -> list[str]:
    """What must not be."""
    return [name for name in counts if name.startswith(("FOREIGN", "MISSED", "HUNG", "CRASHED"))]


def main() -> None:
    """Run the cases asked for and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(run(range(*given.child))))  # noqa: T201
        return
    counts: Counter[str] = Counter()
    for first in range(given.first, given.first + given.cases, BATCH):
        counts.update(run_in_child(first, min(first + BATCH, given.first + given.cases)))
    for name, count in counts.items():
        print(f"{count:>8,}  {name}")  # noqa: T201
    sys.exit(1 if wrong(counts) else 0)


if __name__ == "__main__":
    main()
