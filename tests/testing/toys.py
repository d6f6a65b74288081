"""Small programs with one defect each, and a correct one: what the crash explorer must find, and must not.

The program stores a content as a file and then refers to it in ``index``; what is acknowledged is in the index, and
what is in the index has its file, whole. The bank books an amount with a journal that is redone after a crash.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from memoryos_uow.testing import acknowledge

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT = b"milk is out " * 100
OUTSIDE = "MEMORYOS_UOW_TOY_OUTSIDE"


# Files


def write_file(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Write a new file; on return its content is durable, unless `sync` is off."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def store(world: Path, *, sync: bool = True) -> None:
    """Store the content as a file."""
    write_file(world / "new", CONTENT, sync=sync)
    (world / "new").rename(world / "content")
    sync_directory(world)


def refer(world: Path, *, sync: bool = True) -> None:
    """Refer to the content in the index."""
    write_file(world / "index.new", b"content")
    (world / "index.new").rename(world / "index")
    if sync:
        sync_directory(world)


# Programs


def correct(world: Path) -> None:
    """Content, then reference, then acknowledgement, each durable before the next."""
    store(world)
    refer(world)
    acknowledge("content")


def early_acknowledgement(world: Path) -> None:
    """Acknowledges before the reference is there."""
    store(world)
    acknowledge("content")
    refer(world)


def no_file_sync(world: Path) -> None:
    """Renames a content that was never synced."""
    store(world, sync=False)
    refer(world)
    acknowledge("content")


def no_directory_sync(world: Path) -> None:
    """Never syncs the directory after the reference has got its name."""
    store(world)
    refer(world, sync=False)
    acknowledge("content")


def swapped(world: Path) -> None:
    """Refers to the content before it is there."""
    refer(world)
    store(world)
    acknowledge("content")


def unlooped_write(world: Path) -> None:
    """Takes it for granted that a write takes everything."""
    fd = os.open(world / "content", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, CONTENT)
    os.fsync(fd)
    os.close(fd)
    sync_directory(world)
    refer(world)
    acknowledge("content")


def whole(world: Path, acknowledged: Sequence[str]) -> None:
    """What is acknowledged is in the index; what is in the index is whole."""
    index = world / "index"
    there = index.exists()
    assert there or not acknowledged, "acknowledged and lost"
    if there:
        assert index.read_bytes() == b"content", "half an index"
        content = world / "content"
        assert content.exists(), "a reference to nothing"
        assert content.read_bytes() == CONTENT, "half a content"


# The bank: a journal, redone after a crash


def open_account(world: Path) -> None:
    """An account that holds nothing."""
    write_file(world / "balance", b"0")


def _book(world: Path, journal: str) -> None:
    write_file(world / "journal.new", journal.encode())
    (world / "journal.new").rename(world / "journal")
    sync_directory(world)
    acknowledge("10")


def book_sum(world: Path) -> None:
    """Journals what the balance is to be; may be redone as often as wanted."""
    _book(world, "=10")
    redo(world)


def book_difference(world: Path) -> None:
    """Journals what is to be added: redone once too often, it is added twice."""
    _book(world, "+10")
    redo(world)


def redo(world: Path) -> None:
    """Do what the journal says, then forget it."""
    journal = world / "journal"
    if journal.exists():
        text = journal.read_text()
        before = int((world / "balance").read_text()) if text[0] == "+" else 0
        _set_balance(world, before + int(text[1:]))
        journal.unlink()
        sync_directory(world)


def redo_carelessly(world: Path) -> None:
    """Forget the journal before doing what it says: wrong only if the recovery itself is cut short."""
    journal = world / "journal"
    if journal.exists():
        amount = int(journal.read_text()[1:])
        journal.unlink()
        _set_balance(world, amount)


def _set_balance(world: Path, amount: int) -> None:
    write_file(world / "balance.new", str(amount).encode())
    (world / "balance.new").rename(world / "balance")
    sync_directory(world)


def booked(world: Path, acknowledged: Sequence[str]) -> list[str]:
    """After recovery the balance is what was acknowledged."""
    redo(world)
    balance = int((world / "balance").read_text())
    return [] if balance in ({10} if acknowledged else {0, 10}) else [f"the balance is {balance}"]


# The order: noted first, then carried out; after a crash whoever comes next carries it out


def order(world: Path) -> None:
    """Note the order durably, then carry it out."""
    write_file(world / "order", CONTENT)
    sync_directory(world)
    carry_out(world)


def carry_out(world: Path) -> None:
    """Carry out the order if it can be read, trusting that whoever wrote it has synced it."""
    path = world / "order"
    if path.exists() and path.read_bytes() == CONTENT:
        write_file(world / "done", b"done")
        sync_directory(world)


def carry_out_carefully(world: Path) -> None:
    """The same, but the order is synced before anything is built upon it."""
    if (world / "order").exists():
        fd = os.open(world / "order", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        sync_directory(world)
    carry_out(world)


def ordered(world: Path, _acknowledged: Sequence[str]) -> None:
    """Nothing is done without an order."""
    if (world / "done").exists():
        assert (world / "order").read_bytes() == CONTENT, "done without an order"


# Programs that the explorer must take well


def bug_on_error(world: Path) -> None:
    """Turns an error of the disk into one that tells nobody anything."""
    try:
        correct(world)
    except OSError:
        raise KeyError("oops") from None


def hangs_on_error(world: Path) -> None:
    """Waits for ever for a full disk to become less full."""
    try:
        correct(world)
    except OSError:
        threading.Event().wait()


def dies_on_error(world: Path) -> None:
    """Crashes hard where it should report."""
    try:
        correct(world)
    except OSError:
        os.kill(os.getpid(), signal.SIGSEGV)


def fails(_world: Path) -> None:
    """Fails without any help."""
    raise ValueError("fails by itself")


def differs(world: Path) -> None:
    """Makes other calls each time."""
    for number in range(random.SystemRandom().randrange(1, 1000)):
        (world / str(number)).touch()


def with_threads(world: Path) -> None:
    """Two threads, one after the other, each of which makes the same calls."""
    for name in ("a", "b"):
        thread = threading.Thread(target=write_file, args=(world / name, CONTENT))
        thread.start()
        thread.join()
    correct(world)


def with_outside(world: Path) -> None:
    """Writes outside of the world too, which no failing disk of the world's may hinder."""
    write_file(Path(os.environ[OUTSIDE]), b"before")
    try:
        correct(world)
    finally:
        write_file(Path(os.environ[OUTSIDE]), b"after")


def leaves_a_process(world: Path) -> None:
    """Leaves a process behind that would hold the world for an hour."""
    if os.fork() == 0:
        time.sleep(3600)
        os._exit(0)
    correct(world)


def prints_and_exits(world: Path) -> None:
    """Ends with an exit handler's work, as programs do."""
    import atexit

    sys.stdout.write("some output\n")
    atexit.register(refer, world)
    store(world)


def mapped(world: Path) -> None:
    """Writes through shared memory, which no recording can follow."""
    import mmap

    write_file(world / "memory", b"\0" * 4096)
    with (world / "memory").open("r+b") as file, mmap.mmap(file.fileno(), 4096) as memory:
        memory[:5] = b"hello"
        memory.flush()


def many_kinds_of_calls(world: Path) -> None:
    """Appends, seeks, cuts, links, vectors, positions: what a recording has to follow."""
    os.mkdir("sub")  # noqa: PTH102 - relative to the working directory, which is the world
    with open("sub/log", "ab", buffering=0) as log:  # noqa: PTH123
        log.write(b"one")
        log.write(b"two")
        os.fsync(log.fileno())
    fd = os.open("data", os.O_RDWR | os.O_CREAT)
    os.writev(fd, [b"abc", b"def, ghi"])
    os.lseek(fd, 1, os.SEEK_SET)
    copy = os.dup(fd)
    os.write(copy, b"X")
    os.read(fd, 1)
    os.write(fd, b"Y")
    os.pwrite(fd, b"Z" * 700, 600)
    os.ftruncate(fd, 1200)
    os.fsync(fd)
    os.close(fd)
    os.close(copy)
    os.link("data", "sub/linked")
    os.symlink("data", "symbolic")  # noqa: PTH211
    os.rename("sub", "moved")  # noqa: PTH104
    os.sync()
    acknowledge("all")


def all_or_any(world: Path, acknowledged: Sequence[str]) -> None:
    """Once acknowledged, everything is as `many_kinds_of_calls` leaves it."""
    if acknowledged:
        assert (world / "moved/log").read_bytes() == b"onetwo"
        wanted = b"aXcYef, ghi" + bytes(589) + b"Z" * 600
        assert (world / "data").read_bytes() == wanted
        assert (world / "moved/linked").read_bytes() == wanted
        assert (world / "symbolic").readlink() == Path("data")
        assert not (world / "sub").exists()


def content(_world: Path, _acknowledged: Sequence[str]) -> None:
    """Nothing is demanded."""
