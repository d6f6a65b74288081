"""The explorer's parts: reading what strace writes, the disk after a power cut, fault points, the choice of points."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import memoryos_uow
from memoryos_uow.testing import fault_points
from memoryos_uow.testing._calls import applies
from memoryos_uow.testing._disk import Disk
from memoryos_uow.testing._points import spaced
from memoryos_uow.testing._trace import parse

if TYPE_CHECKING:
    from memoryos_uow.testing._trace import Call

WORLD = "/w"


def hexed(text: str) -> str:
    """A text as strace writes it with -xx."""
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(text))


def read(*lines: str) -> list[Call]:
    """The calls in lines in which `<text>` and `"text"` stand for hexadecimal ones."""
    return parse(lines, WORLD)


# Reading what strace writes


def test_call_knows_its_paths_data_and_number() -> None:
    """Paths relative to a directory are resolved, data is what was written, calls are numbered by thread and name."""
    opened, written, again = read(
        f'7 openat(3<{hexed("/w/sub")}>, "{hexed("../a b")}", O_WRONLY|O_CREAT, 0600) = 5<{hexed("/w/a b")}>\n',
        f'7 write(5<{hexed("/w/a b")}>, "{hexed("one, two")}", 8) = 8\n',
        f'8 write(5<{hexed("/w/a b")}>, ""..., 8) = -1 EIO (Input/output error) (INJECTED)\n',
    )
    assert opened.paths == ("/w/a b",)
    assert opened.changes
    assert (opened.result, opened.descriptor(0)) == (5, 3)
    assert (written.data(1), written.paths, written.number) == (b"one, two", ("/w/a b",), 1)
    assert (again.thread, again.number, again.ok, again.injected) == (1, 1, False, True)


def test_interrupted_call_is_put_together() -> None:
    """A call that another thread's lines cut in two is one call, numbered where it began."""
    first, second = read(
        f"7 fsync(3<{hexed('/w/a')}> <unfinished ...>\n",
        f"8 fsync(4<{hexed('/w/b')}>) = 0\n",
        "7 <... fsync resumed>) = 0\n",
    )
    assert [(call.paths, call.result) for call in (first, second)] == [(("/w/b",), 0), (("/w/a",), 0)]


def test_call_that_never_returned_is_last() -> None:
    """The call at which a process was killed is in the log with or without a question mark."""
    for line in (f'7 unlink("{hexed("/w/a")}") = ?\n', f'7 unlink("{hexed("/w/a")}" <unfinished ...>\n'):
        (call,) = read(line)
        assert (call.name, call.result, call.ok) == ("unlink", None, False)


def test_vectors_deleted_files_and_other_lines() -> None:
    """The parts of a vector are joined, a deleted file keeps its path, lines that are no calls are passed over."""
    (call,) = read(
        f'7 writev(5<{hexed("/w/a")}>(deleted), [{{iov_base="{hexed("ab")}", iov_len=2}},'
        f' {{iov_base="{hexed("c")}", iov_len=1}}], 2) = 3\n',
        "7 +++ exited with 0 +++\n",
        "nonsense\n",
    )
    assert (call.data(1), call.paths) == (b"abc", ("/w/a",))
    (old,) = read(f"7 fsync(5<{hexed('/w/a (deleted)')}>) = 0\n")
    assert old.paths == ("/w/a",)


def test_only_what_is_below_the_world_is_within() -> None:
    """A path that merely begins like the world is outside; `sync` concerns every disk."""
    inside, outside, everywhere, plain = read(
        f'7 mkdir("{hexed("sub")}", 0700) = 0\n',
        f'7 mkdir("{hexed("/ww")}", 0700) = 0\n',
        "7 sync() = 0\n",
        f'7 openat(AT_FDCWD<{hexed("/w")}>, "{hexed("a")}", O_RDONLY) = 3\n',
    )
    assert inside.within(WORLD)
    assert not outside.within(WORLD)
    assert everywhere.within(WORLD)
    assert plain.within(WORLD)
    assert not plain.changes


# The disk after a power cut


def states(disk: Disk, certain_only: bool = False) -> dict[str, bytes | None]:
    """What is there when everything, or only what is certain, has reached the disk."""
    kept = [n for n, change in enumerate(disk.changes) if change.certain_from is not None or not certain_only]
    return {path: disk.content(node, kept) if node in disk.contents else None for path, node in disk.tree(kept)}


def new_disk(tmp_path: Path, ordered: bool = False) -> Disk:
    """A disk with one file."""
    (tmp_path / "old").write_bytes(b"old")
    return Disk.of(tmp_path, ordered=ordered)


def test_written_file_needs_both_syncs(tmp_path: Path) -> None:
    """Syncing a file saves its content and not its name; syncing the directory saves the name and not the content."""
    disk = new_disk(tmp_path)
    file = disk.new_file(0o600)
    disk.rename(0, (0, "new", file))
    disk.write(1, file, 0, b"new")
    assert states(disk) == {"new": b"new", "old": b"old"}
    assert states(disk, certain_only=True) == {"old": b"old"}
    disk.sync(2, 0)
    assert states(disk, certain_only=True) == {"new": b"", "old": b"old"}
    disk.sync(3, file)
    assert states(disk, certain_only=True) == {"new": b"new", "old": b"old"}


def test_ordered_disk_keeps_names_with_any_sync(tmp_path: Path) -> None:
    """On ext4 and its like, syncing any file saves every earlier name."""
    disk = new_disk(tmp_path, ordered=True)
    file = disk.new_file(0o600)
    disk.rename(0, (0, "new", file))
    old = disk.find("old")
    disk.sync(1, old)
    assert states(disk, certain_only=True) == {"new": b"", "old": b"old"}


def test_rename_is_one_change(tmp_path: Path) -> None:
    """No state has a renamed file under both names, or under none."""
    disk = new_disk(tmp_path)
    disk.rename(0, (0, "old", None), (0, "new", disk.find("old")))
    assert len(disk.changes) == 1
    assert states(disk) == {"new": b"old"}


def test_write_may_be_torn_at_a_sector(tmp_path: Path) -> None:
    """A write that spans sectors is two changes; where the first is lost there are zeros."""
    disk = new_disk(tmp_path)
    old = disk.find("old")
    assert old is not None
    disk.write(0, old, 0, b"x" * 1024)
    first, second = disk.changes
    assert (first.offset, len(first.data), second.offset, len(second.data)) == (0, 512, 512, 512)
    assert disk.content(old, [1]) == b"old" + bytes(509) + b"x" * 512
    disk.resize(1, old, 4)
    assert disk.content(old, [0, 1, 2]) == b"xxxx"


def test_shared_memory_of_sqlite_is_lost(tmp_path: Path) -> None:
    """A -shm file is in no state."""
    (tmp_path / "a.db-shm").write_bytes(b"index")
    assert list(states(new_disk(tmp_path))) == ["old"]


# Choice


@pytest.mark.parametrize(
    ("amount", "limit", "chosen"),
    [(5, None, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (9, 1, [0]), (9, 0, []), (0, 3, []), (3, 9, [0, 1, 2])],
)
def test_limit_takes_evenly_spaced_points(amount: int, limit: int | None, chosen: list[int]) -> None:
    """The first and the last are among them."""
    assert spaced(amount, limit) == chosen


def test_errors_happen_where_they_can() -> None:
    """A full disk hinders no removal and no open that only reads; too many open files hinder opening alone."""
    assert applies("ENOSPC", "write", changes=True)
    assert not applies("ENOSPC", "unlink", changes=True)
    assert not applies("ENOSPC", "openat", changes=False)
    assert applies("EMFILE", "openat", changes=False)
    assert not applies("EMFILE", "write", changes=True)
    assert applies("EROFS", "unlink", changes=True)


# Fault points


def test_fault_points_are_named_after_what_is_called(tmp_path: Path) -> None:
    """Statements, calls of the operating system and writes of files are points, also in threads; reading is none."""
    with fault_points() as points:
        with sqlite3.connect(tmp_path / "a.db") as connection:
            connection.execute("CREATE TABLE t (x)")
        connection.close()
        path = tmp_path / "file"
        thread = threading.Thread(target=path.write_bytes, args=(b"x",))
        thread.start()
        thread.join()
        path.read_bytes()
        os.replace(path, tmp_path / "other")  # noqa: PTH105
    assert points.names == [
        "sqlite3.Connection.execute",
        "sqlite3.Connection.__exit__",
        "sqlite3.Connection.close",
        "io.BufferedWriter.write",
        "io.BufferedWriter.__exit__",
        "os.replace",
    ]
    assert sys.getprofile() is None


def test_process_dies_before_the_point(tmp_path: Path) -> None:
    """At its n-th point the process is gone, as by SIGKILL: no handler runs, and that call has not been made."""
    code = """
        import os, sys
        from memoryos_uow.testing import fault_points
        try:
            with fault_points(die_at=3):
                for name in ("a", "b", "c"):
                    os.mkdir(os.path.join(sys.argv[1], name))
        finally:
            os.mkdir(os.path.join(sys.argv[1], "handler"))
    """
    source = str(Path(memoryos_uow.__file__).parents[1])
    command = [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines()), str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, check=False)
    assert done.returncode == -9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
