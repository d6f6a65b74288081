"""Where a ledger file may live, asked before SQLite is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memoryos_uow.engines._place import is_settled, is_writable, refuse_bad_place
from memoryos_uow.errors import LedgerError
from tests.processes import without_rights


def refusal(path: Path) -> str:
    """The sentence with which a place is refused."""
    with pytest.raises(LedgerError) as refused:
        refuse_bad_place(path)
    assert refused.value.hint
    return refused.value.message


def test_a_new_and_an_existing_file_are_fine(tmp_path: Path) -> None:
    """A file that is there and one that can be made are accepted, and none is made."""
    (tmp_path / "there.db").write_bytes(b"")
    refuse_bad_place(tmp_path / "there.db")
    refuse_bad_place(tmp_path / "new.db")
    assert [each.name for each in tmp_path.iterdir()] == ["there.db"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A directory, a pipe, a device and a place below a file are refused, each with its own reason."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    assert refusal(tmp_path) == f"{tmp_path} is a directory."
    assert refusal(tmp_path / "pipe") == f"{tmp_path}/pipe is not a regular file."
    assert refusal(Path(os.devnull)) == f"{os.devnull} is not a regular file."
    assert refusal(tmp_path / "file/memory.db") == f"The directory {tmp_path}/file does not exist."
    assert refusal(tmp_path / "missing/memory.db") == f"The directory {tmp_path}/missing does not exist."


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    """A name too long for the file system is refused with the system's reason."""
    assert "cannot be looked at: File name too long" in refusal(tmp_path / ("x" * 300))


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    """A link that leads to itself is refused, one to a file that can be made is not."""
    (tmp_path / "circle.db").symlink_to("circle.db")
    (tmp_path / "link.db").symlink_to("new.db")
    assert "Too many levels of symbolic links" in refusal(tmp_path / "circle.db")
    refuse_bad_place(tmp_path / "link.db")


def test_missing_rights_are_named(open_directory: Path) -> None:
    """A directory that cannot be written or searched, and a file that cannot be read, are refused with that reason."""
    (open_directory / "locked").mkdir(mode=0o700)
    (open_directory / "locked").chmod(0o000)
    (open_directory / "secret.db").write_bytes(b"")
    (open_directory / "secret.db").chmod(0o200)
    open_directory.chmod(0o555)

    def refusals() -> list[str]:
        return [refusal(open_directory / name) for name in ("new.db", "secret.db", "locked/memory.db")]

    assert without_rights(refusals) == [
        f"No file can be created in {open_directory}.",
        f"{open_directory}/secret.db may not be read.",
        f"{open_directory}/locked/memory.db cannot be looked at: Permission denied.",
    ]


def test_what_the_system_says_of_rights_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a file can be made or read is what the operating system answers, for whoever asks."""
    (tmp_path / "there.db").write_bytes(b"")
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    assert refusal(tmp_path / "new.db") == f"No file can be created in {tmp_path}."
    assert refusal(tmp_path / "there.db") == f"{tmp_path}/there.db may not be read."


@pytest.mark.parametrize(
    ("file", "directory", "writable"), [(0o666, 0o777, True), (0o444, 0o777, False), (0o666, 0o555, False)]
)
def test_writable_means_file_and_directory(file: int, directory: int, writable: bool, open_directory: Path) -> None:
    """A ledger can be written where its file and the directory, which takes the log beside it, can."""
    path = open_directory / "memory.db"
    path.write_bytes(b"")
    path.chmod(file)
    open_directory.chmod(directory)
    assert without_rights(lambda: is_writable(path)) is writable


@pytest.mark.parametrize(
    ("beside", "settled"),
    [
        ({}, True),
        ({"-wal": b"", "-shm": b"index"}, True),
        ({"-journal": b""}, True),
        ({"-wal": b"frames"}, False),
        ({"-journal": b"pages"}, False),
    ],
)
def test_settled_means_nothing_is_kept_beside(beside: dict[str, bytes], settled: bool, tmp_path: Path) -> None:
    """A file holds everything by itself unless a log or a journal with content lies beside it."""
    for ending, content in beside.items():
        (tmp_path / f"memory.db{ending}").write_bytes(content)
    assert is_settled(tmp_path / "memory.db") is settled
