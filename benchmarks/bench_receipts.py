"""What receipts and signatures add to one unit of three documents, and how large the receipt log is.

`python -m benchmarks receipts` prints both; `python -m benchmarks.bench_receipts --slow 1000` the first for a disk that
takes a millisecond longer to sync. The floor is the same library with everything left out that receipts need:
no digest over the writes and the context, no row in the log, no head of a space. Its rows of the contract's two tables
are the same.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Final, get_args
from unittest.mock import patch

import pytest

from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._work import ByLibrary, Durability, race_on_files
from memoryos_uow import Ledger, _deciding, _describe, _proofs, _proving
from memoryos_uow._rows import Position
from memoryos_uow.receipts import Described
from memoryos_uow.signing import KeyFileSigner, write_new_key
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks._ratios import Result
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Transaction


class WithoutReceipts(ByLibrary):
    """The same unit, described by constants."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        with self.ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("first", 1)
        assert uow.receipt is not None
        self._receipt: Final = uow.receipt
        rows = self.ledger._opened.rows
        rows.next_position = self._position  # type: ignore[method-assign]
        rows._insert_entry = lambda *_: None  # type: ignore[method-assign]
        self.ledger._opened.coordinator._group._deciding._log = None

    def _position(self, tx: Transaction, space_id: str) -> Position:
        return Position(self.number, None, None)

    def _describe(self, unit: UnitState, origin: str | None) -> Described:
        receipt = replace(self._receipt)
        object.__setattr__(receipt, "_bytes", b"")
        return Described(receipt, _describe.receipt_writes(unit), "")

    def __call__(self) -> None:
        with patch.object(_deciding, "describe", self._describe):
            super().__call__()


class Signed(ByLibrary):
    """The same unit on a ledger that is signed with a key file."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path, durability)
        self.ledger.close()
        key = path.with_suffix(".pem")
        write_new_key(key)
        signer = KeyFileSigner(key, name=self.ledger.origin or "")
        self.ledger = Ledger.open(path, stores=[DocumentStore("notes")], durability=durability, signer=signer)


CONTENDERS: Final[dict[str, type[ByLibrary]]] = {
    "without receipts": WithoutReceipts,
    "with receipts": ByLibrary,
    "with receipts, signed": Signed,
}


def compare(folder: Path, durability: Durability, *, rounds: int, warmup: int, seed: int) -> list[Result]:
    """Race the contenders, each on a file of its own in `folder`."""
    kinds = {name: partial(kind, durability=durability) for name, kind in CONTENDERS.items()}
    return race_on_files(kinds, folder, name=durability, rounds=rounds, warmup=warmup, seed=seed)


def added_table(results: Sequence[Result]) -> str:
    """Return what each contender added to the floor: the median over the rounds of the difference in the same round."""
    floor = results[0].times_us
    return table(
        ("", "median us", "added us", "x without"),
        (
            (
                result.name,
                f"{result.median_us:,.0f}",
                f"{median(a - b for a, b in zip(result.times_us, floor, strict=True)):+,.0f}",
                f"{result.ratio:.2f}",
            )
            for result in results
        ),
    )


def log_bytes(path: Path, units: int, *, signed: bool) -> float:
    """Return how many bytes of the file at `path` the log takes for each of its `units`, signatures included."""
    with closing(sqlite3.connect(path)) as connection:
        pages = connection.execute(
            "SELECT sum(pgsize) FROM dbstat WHERE name IN"
            " (SELECT name FROM sqlite_schema WHERE tbl_name = 'uow_ledger')"
        ).fetchone()[0]
        signatures = connection.execute("SELECT coalesce(sum(length(receipt_signature)), 0) FROM unit_of_work")
        return float((pages + (signatures.fetchone()[0] if signed else 0)) / units)


def storage(folder: Path, units: int) -> str:
    """Return the size of the log with and without signatures."""
    rows: list[tuple[str, str]] = []
    for name in ("with receipts", "with receipts, signed"):
        path = folder / f"size-{len(rows)}.db"
        with CONTENDERS[name](path, "normal") as work:
            for _ in range(units):
                work()
        rows.append((name, f"{log_bytes(path, units, signed=True):,.0f}"))
    return table(("", "bytes per unit"), rows)


@pytest.mark.parametrize("name", CONTENDERS)
def test_the_comparison_runs(tmp_path: Path, name: str) -> None:
    """Every contender commits its units."""
    with CONTENDERS[name](tmp_path / "work.db", "normal") as work:
        for _ in range(3):
            work()
        units = work.ledger.units(limit=10)
    assert len(units) - (name == "without receipts") == 3


def test_the_log_stays_small(tmp_path: Path) -> None:
    """The signed log of a ledger with a name of the library's making takes at most 450 bytes a unit, index included."""
    with Signed(tmp_path / "work.db", "normal") as work:
        for _ in range(1500):
            work()
    assert log_bytes(tmp_path / "work.db", 1500, signed=True) <= 450


def test_many_writes_have_a_short_receipt_and_short_proofs(tmp_path: Path) -> None:
    """10,000 writes: a receipt under 1 KiB, and any one write proved by it without the others."""
    with Ledger.open(tmp_path / "work.db", stores=[DocumentStore("notes")], durability="normal") as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            for number in range(10_000):
                uow["notes"].create(f"note-{number}", number)
        receipt = ledger.receipt(uow.uow_id)
        assert receipt.write_count == 10_000
        assert len(receipt.canonical()) < 1024
        fields = _proofs.parse_receipt(receipt.canonical())
        with ledger._opened.engine.reader() as reader:
            for seq in (0, 7_777, 9_999):
                write, proof = _proving.prove_write(reader, ledger.get(uow.uow_id), seq)
                assert len(proof) < 1024
                _proofs.check_write_proof(_proofs.parse_proof(proof), write, fields)
                assert f'"record_id":"note-{seq}"'.encode() in write


def _run_slowly(delay_us: int, rounds: int, warmup: int) -> None:
    """Run the comparison at full durability in a child process whose syncs return `delay_us` later."""
    injected = f"inject=fsync,fdatasync:delay_exit={delay_us}"
    strace = ("strace", "--seccomp-bpf", "-f", "-qq", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", injected)
    command = (sys.executable, "-m", "benchmarks.bench_receipts", "--normal", "0", "--units", "0")
    sizes = ("--rounds", str(rounds), "--warmup", str(warmup))
    sys.stdout.flush()
    done = subprocess.run([*strace, *command, *sizes], stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    given = options(__doc__, arguments, rounds=3000, warmup=4000, seed=1, units=5000, slow=0, normal=1)
    if given.slow:
        _run_slowly(given.slow, given.rounds, given.warmup)
        return
    with workplace("Receipts and signatures") as folder:
        for durability in get_args(Durability) if given.normal else ("full",):
            results = compare(folder, durability, rounds=given.rounds, warmup=given.warmup, seed=given.seed)
            section(f'durability="{durability}"', added_table(results))
        if given.units:
            section("the log in the file", storage(folder, given.units))


if __name__ == "__main__":
    main()
