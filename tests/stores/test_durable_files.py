"""Files that are durable before they are referred to: each step in its order, nothing torn, nothing outside."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoryos_uow import _ambient
from memoryos_uow.stores import _directory
from memoryos_uow.stores._directory import Directory
from memoryos_uow.stores._durable_files import NewFile, make_root, read_file, root_problem, write_files

if TYPE_CHECKING:
    from collections.abc import Callable

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="links, modes and pipes of POSIX systems")
REFUSED = r"Errno"  # whichever the operating system prefers: a link, no directory, no such file
CONTENT = b"x" * 3_000_000


@pytest.fixture(params=["held open", "by path"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root, once with directories held open and once as where the operating system cannot do that."""
    if request.param == "by path":
        monkeypatch.setattr(_directory, "_CAN_HOLD", False)
    made = tmp_path / "root"
    make_root(made)
    return made


def files_below(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Writing and reading


def test_files_are_written_and_read(root: Path) -> None:
    """Each file has its content below its directories, and nothing else is left."""
    write_files(root, [NewFile(("a", "b"), "one", CONTENT), NewFile(("a",), "two", b""), NewFile((), "three", b"3")])
    assert files_below(root) == {"a/b/one": CONTENT, "a/two": b"", "three": b"3"}
    assert read_file(root, ("a", "b"), "one", len(CONTENT)) == CONTENT
    assert read_file(root, (), "three", 1) == b"3"
    assert read_file(root, (), "three", 2) == b""


@given(content=st.binary(max_size=64), other=st.binary(max_size=64))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_last_content_stands(root: Path, content: bytes, other: bytes) -> None:
    """Writing again, the same or another content, leaves exactly that content."""
    for one in (content, other, other):
        write_files(root, [NewFile(("d",), "f", one)])
        assert files_below(root) == {"d/f": one}


@POSIX_ONLY
def test_nobody_else_may_read(root: Path) -> None:
    """Directories are for their owner only, and so are files, whatever the process's mask allows."""
    before = os.umask(0)
    try:
        write_files(root, [NewFile(("a",), "f", b"1")])
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "a" / "f").stat().st_mode) == 0o600
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in ("a", "tmp", ".")} == {0o700}


def test_a_sound_file_is_kept_and_touched(root: Path) -> None:
    """A file that is there with its content is not written again, but counts as new for a sweep by age."""
    file = NewFile(("a",), "f", CONTENT)
    write_files(root, [file])
    path = root / "a" / "f"
    inode = path.stat().st_ino
    os.utime(path, (1, 1))
    write_files(root, [file])
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1


@pytest.mark.parametrize("damage", [b"", b"y" * len(CONTENT), CONTENT[:-1] + b"y", CONTENT + b"x", CONTENT[:-1]])
def test_a_damaged_file_is_replaced(root: Path, damage: bytes) -> None:
    """Length alone does not convince: a file of another content is written anew."""
    write_files(root, [NewFile((), "f", CONTENT)])
    (root / "f").write_bytes(damage)
    write_files(root, [NewFile((), "f", CONTENT)])
    assert files_below(root) == {"f": CONTENT}


def test_short_writes_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operating system that takes only part of what it is given still gets everything."""
    write: Callable[[int, Any], int] = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: max(1, len(data) // 3)]))
    write_files(root, [NewFile((), "f", CONTENT)])
    assert files_below(root) == {"f": CONTENT}


# The order of things


class Journal:
    """What was asked of the operating system, in order, with names instead of descriptors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self._names: dict[int, str] = {}
        for function in ("open", "mkdir", "write", "fsync", "replace", "unlink", "utime"):
            monkeypatch.setattr(os, function, self._wrap(function, getattr(os, function)))

    def _wrap(self, function: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **options: Any) -> Any:
            result = original(target, *args, **options)
            name = self._names.get(target, "?") if isinstance(target, int) else Path(target).name
            if len(name) == 32:
                name = "temporary"
            if function == "open":
                self._names[result] = name
            else:
                self.calls.append((function, name))
            return result

        return call


@POSIX_ONLY
def test_every_step_comes_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is synced before the name exists, and every directory on the way after it: the module's steps 1 to 5."""
    write_files(tmp_path, [])
    journal = Journal(monkeypatch)
    file = NewFile(("a", "b"), "f", b"1")
    write_files(tmp_path, [file])
    made = [call for call in journal.calls if call[0] == "mkdir"]
    assert made == [("mkdir", "a"), ("mkdir", "b")]
    steps = [call for call in journal.calls if call[0] != "mkdir"]
    assert steps[:3] == [("write", "temporary"), ("fsync", "temporary"), ("replace", "temporary")]
    assert steps[3:] == [("fsync", "b"), ("fsync", "a"), ("fsync", tmp_path.name)]
    journal.calls.clear()
    write_files(tmp_path, [file])
    again = [("utime", "f"), ("fsync", "b"), ("fsync", "a"), ("fsync", tmp_path.name)]
    assert journal.calls == again


@POSIX_ONLY
def test_directories_are_synced_once_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files in one directory cost one sync each and one for the directory."""
    journal = Journal(monkeypatch)
    write_files(tmp_path, [NewFile(("a",), f"f{number}", b"1") for number in range(5)])
    synced = [name for function, name in journal.calls if function == "fsync"]
    assert sorted(synced) == sorted([*["temporary"] * 5, "a", tmp_path.name])


@POSIX_ONLY
def test_making_a_root_syncs_every_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new directory, and a root that is there already, is synced in the one above it."""
    journal = Journal(monkeypatch)
    make_root(tmp_path / "a" / "b")
    assert sorted(name for function, name in journal.calls if function == "fsync") == sorted([tmp_path.name, "a"])
    journal.calls.clear()
    make_root(tmp_path / "a" / "b")
    assert journal.calls == [("fsync", "a")]
    assert (tmp_path / "a" / "b").is_dir()


def test_a_root_made_by_two_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that makes the same directory in between is no error."""
    monkeypatch.setattr(os.path, "lexists", lambda path: path == tmp_path)
    (tmp_path / "a").mkdir()
    make_root(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


CRASH = """
import os, sys
from pathlib import Path
from memoryos_uow.stores._durable_files import NewFile, make_root, write_files

def crash_at(number):
    left = [number]
    def wrap(original):
        def call(*args, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            if original is write:
                args = (args[0], args[1][: len(args[1]) // 2 or 1])
            return original(*args, **options)
        return call
    write = os.write
    for name in ("open", "mkdir", "write", "fsync", "close", "replace", "utime"):
        setattr(os, name, wrap(getattr(os, name)))

content = b"new" * 1000
base = Path(sys.argv[1])
finished = number = 0
while not finished:
    root = base / str(number)
    if not (pid := os.fork()):
        crash_at(number)
        make_root(root)
        write_files(root, [NewFile(("a", "b"), "f", content), NewFile(("a", "c"), "g", content)])
        os._exit(0)
    finished = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    number += 1
print(number)
"""


@POSIX_ONLY
def test_a_process_killed_at_any_call_leaves_nothing_torn(tmp_path: Path) -> None:
    """Killed before any of its calls, a name has its whole content or is missing, and the same can be done again."""
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], capture_output=True, text=True, check=True)
    content = b"new" * 1000
    points = int(done.stdout)
    assert points > 40
    torn = 0
    for number in range(points - 1):
        root = tmp_path / str(number)
        make_root(root)
        found = files_below(root)
        torn += any(name.startswith("tmp/") and text != content for name, text in found.items())
        assert {text for name, text in found.items() if not name.startswith("tmp/")} <= {content}
        write_files(root, [NewFile(("a", "b"), "f", content), NewFile(("a", "c"), "g", content)])
        after = {name: text for name, text in files_below(root).items() if not name.startswith("tmp/")}
        assert after == {"a/b/f": content, "a/c/g": content}
    assert torn  # the killing did hit half-written files


# Failures


@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_no_temporary_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, function: str, kind: BaseException
) -> None:
    """Whatever stops the writing, a full disk or the user, the half-written file is gone and the error arrives."""

    def fail(*args: object, **options: object) -> None:
        raise kind

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(kind)):
        write_files(root, [NewFile(("a",), "f", CONTENT)])
    monkeypatch.undo()
    assert files_below(root) == {}


def test_what_cannot_be_removed_does_not_hide_the_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error is the one that arrives, also if the temporary file cannot be removed."""

    def fail(*args: object, **options: object) -> None:
        raise OSError(errno.EIO, "first")

    def fail_too(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "second")

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "unlink", fail_too)
    with pytest.raises(OSError, match="first"):
        write_files(root, [NewFile((), "f", b"1")])


def test_no_descriptor_is_left_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither success nor any failure leaks a file descriptor."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list descriptors")
    before = count()
    write_files(root, [NewFile(("a", "b"), "f", b"1")])
    read_file(root, ("a", "b"), "f", 1)
    (root / "blocked").write_bytes(b"")
    for folders in (("blocked",), ("a", "blocked", "x")):
        (root / "a" / "blocked").touch()
        with pytest.raises(OSError, match=REFUSED):
            write_files(root, [NewFile(folders, "f", b"1")])
    with pytest.raises(OSError, match=REFUSED):
        read_file(root, ("a", "b"), "nosuch", 1)
    (root / "directory").mkdir()
    assert read_file(root, (), "directory", 1) == b""
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "no")))
    with pytest.raises(OSError, match=REFUSED):
        write_files(root, [NewFile(("c",), "f", b"1")])
    assert count() == before


# What an attacker may plant


@POSIX_ONLY
@pytest.mark.parametrize("where", ["a", "a/b", "tmp"])
def test_links_to_directories_are_not_followed(root: Path, tmp_path: Path, where: str) -> None:
    """A link planted in place of a directory stops the writing and the reading; nothing outside is touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").mkdir()
    (outside / "f").write_bytes(b"secret")
    (outside / "b" / "f").write_bytes(b"secret")
    if where == "a/b":
        (root / "a").mkdir()
    (root / where).symlink_to(outside)
    before = files_below(outside)
    with pytest.raises(OSError, match=REFUSED):
        write_files(root, [NewFile(("a", "b"), "f", b"1")])
    if where != "tmp":
        with pytest.raises(OSError, match=REFUSED):
            read_file(root, ("a", "b"), "f", 6)
    assert files_below(outside) == before


@POSIX_ONLY
def test_links_to_files_are_not_followed(tmp_path: Path) -> None:
    """A link in place of a file is neither read nor written through; a write stops there."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    root = tmp_path / "root"
    make_root(root)
    (root / "f").symlink_to(secret)
    for attempt in (lambda: read_file(root, (), "f", 6), lambda: write_files(root, [NewFile((), "f", b"public")])):
        with pytest.raises(OSError, match=REFUSED):
            attempt()
    assert secret.read_bytes() == b"secret"


@POSIX_ONLY
def test_a_root_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    """The root itself may not be a link; links above it are the owner's business."""
    link = tmp_path / "link"
    link.symlink_to(root)
    with pytest.raises(OSError, match=REFUSED):
        write_files(link, [])
    (tmp_path / "above").symlink_to(tmp_path)
    write_files(tmp_path / "above" / "root", [NewFile((), "f", b"1")])
    assert files_below(root) == {"f": b"1"}


@POSIX_ONLY
def test_a_guessed_temporary_name_gives_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even who knows the random name in advance cannot have the content written through a link of his or hers."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"before")
    write_files(root, [])
    monkeypatch.setattr(_ambient, "random_hex", lambda: "guessed")
    planted = root / "tmp" / "guessed"
    for as_link in (True, False):
        if as_link:
            planted.symlink_to(outside)
        else:
            planted.touch()
        with pytest.raises(FileExistsError):
            write_files(root, [NewFile((), "f", b"1")])
        assert outside.read_bytes() == b"before"
        planted.unlink()


@POSIX_ONLY
def test_a_planted_pipe_does_not_hang(root: Path) -> None:
    """A pipe or directory in place of a file is no content, and opening it does not wait."""
    os.mkfifo(root / "f")
    (root / "g").mkdir()
    assert read_file(root, (), "f", 0) == b""
    with pytest.raises(IsADirectoryError):
        write_files(root, [NewFile((), "g", b"1")])
    write_files(root, [NewFile((), "f", b"1")])
    assert (root / "f").read_bytes() == b"1"


@POSIX_ONLY
@pytest.mark.parametrize(
    ("mode", "above", "problem"),
    [
        (0o700, 0o755, None),
        (0o770, 0o755, None),
        (0o700, 0o1777, None),
        (0o777, 0o755, "may be written by everybody"),
        (0o1777, 0o755, "may be written by everybody"),
        (0o700, 0o777, "lies in a directory in which everybody may replace it"),
    ],
)
def test_open_directories_are_no_roots(tmp_path: Path, mode: int, above: int, problem: str | None) -> None:
    """A root into which everybody may put files, or which everybody may swap, is none."""
    root = tmp_path / "above" / "root"
    make_root(root)
    root.chmod(mode)
    root.parent.chmod(above)
    assert root_problem(root) == problem


@POSIX_ONLY
def test_only_a_directory_is_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a link and nothing at all are no roots."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    assert root_problem(tmp_path / "file") == "is not a directory"
    assert root_problem(tmp_path / "link") == "is a symbolic link"
    with pytest.raises(FileNotFoundError):
        root_problem(tmp_path / "nothing")
    tmp_path.chmod(0o777)
    monkeypatch.setattr(os, "name", "nt")
    assert root_problem(tmp_path) is None  # modes say nothing there


def test_nothing_is_synced_where_nothing_is_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where directories cannot be opened they are not synced, and that is no error."""
    monkeypatch.setattr(_directory, "_CAN_HOLD", False)
    with Directory.root(tmp_path) as directory:
        directory.sync()
    _directory.sync_directory(tmp_path / "nosuch")
