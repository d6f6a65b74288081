"""The file beside the ledger: cheap, harmless when it is lost or torn, never ahead of what is durable."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, _notes, _released_head
from memoryos_uow._migrations import migrate_down
from memoryos_uow._released_head import ReleasedHead
from memoryos_uow.errors import LedgerError
from tests.signers import key_file, put
from tests.units import throw

if TYPE_CHECKING:
    from pathlib import Path


def head(size: int, origin: str = "o") -> str:
    """An unsigned head of `size` leaves."""
    return _notes.unsigned(_notes.Head(origin, size, bytes(32)).text())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A file that stands for a ledger."""
    path = tmp_path / "memory.db"
    path.touch(0o640)
    return path


def size_kept(place: Path) -> int | None:
    """The size of the head that is read back."""
    found = _released_head.read(place)
    return None if found is None else found.head.size


def test_every_commit_is_in_the_file(ledger: Ledger) -> None:
    """After each unit the file holds the ledger's newest head, as private as the ledger."""
    for number in range(3):
        put(ledger, str(number))
        found = _released_head.read(ledger.path)
        assert found is not None
        assert found.text == ledger.checkpoint()
    beside = _released_head.path_beside(ledger.path)
    assert beside.stat().st_mode == ledger.path.stat().st_mode
    assert beside.stat().st_size == 1024


def test_with_normal_durability_only_what_is_durable(tmp_path: Path) -> None:
    """A power cut may take units back that had returned: so the file is written when the ledger is closed, synced."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, durability="normal") as ledger:
        put(ledger, "a")
        assert size_kept(path) is None
    assert size_kept(path) == 1


def test_what_cannot_be_synced_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fails at the end, an older head stays, or none."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, durability="normal") as ledger:
        put(ledger, "a")
        monkeypatch.setattr(ledger._opened.engine, "sync_log", lambda: throw(LedgerError("no")))
    assert size_kept(path) is None


def test_a_later_head_is_never_replaced_by_an_earlier_one(place: Path) -> None:
    """Threads may come in any order; a new epoch may go back."""
    kept = ReleasedHead(place, at_once=True)
    for size, expected in ((2, 2), (1, 2), (3, 3)):
        kept.write(size, partial(str, head(size)))
        assert size_kept(place) == expected
    kept.start_again(head(1, "o/2"))
    assert size_kept(place) == 1
    kept.close()
    kept.close()
    kept.write(9, partial(str, head(9)))
    assert size_kept(place) == 1


def test_long_names_fit(place: Path) -> None:
    """A name of 255 wide characters takes more room, and a shorter head after it is read all the same."""
    kept = ReleasedHead(place, at_once=True)
    kept.write(1, partial(str, head(1, "\N{GRINNING FACE}" * 255)))
    assert _released_head.path_beside(place).stat().st_size == 8192
    assert size_kept(place) == 1
    kept.write(2, partial(str, head(2)))
    assert size_kept(place) == 2
    kept.close()


@pytest.mark.parametrize("cut", [0, 1, 40, 90, 120])
def test_a_torn_file_says_nothing(place: Path, cut: int) -> None:
    """Half a write, at whichever byte it ended, is noticed by its own checksum."""
    kept = ReleasedHead(place, at_once=True)
    kept.write(1, partial(str, head(1, "old")))
    kept.write(2, partial(str, head(2, "new")))
    kept.close()
    beside = _released_head.path_beside(place)
    whole = beside.read_bytes()
    beside.write_bytes(whole[:cut] + bytes(len(whole) - cut))
    assert _released_head.read(place) is None


@pytest.mark.parametrize("content", [b"", b"text", b"\xff" * 2000])
def test_a_strange_file_says_nothing(place: Path, content: bytes) -> None:
    """Whatever lies there is not taken for a head; nor is what has the right form around the wrong text."""
    beside = _released_head.path_beside(place)
    beside.write_bytes(content)
    assert _released_head.read(place) is None
    for body in (b"no head\n", b"\xff"):
        beside.write_bytes(_framed(body))
        assert _released_head.read(place) is None


def _framed(body: bytes) -> bytes:
    from memoryos_uow._canonical import sha256_hex

    return b"memoryos-uow/head/1 %d %s\n%s" % (len(body), sha256_hex(body).encode(), body)


def test_a_place_that_cannot_be_written_harms_nobody(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A directory where the file would be: it is said once, and units go on. A link is not followed."""
    beside = _released_head.path_beside(place)
    beside.mkdir()
    with Ledger.open(place) as ledger:
        put(ledger, "a")
        put(ledger, "b")
    beside.rmdir()
    target = place.with_name("target")
    target.write_text("precious")
    beside.symlink_to(target)
    with Ledger.open(place) as ledger:
        put(ledger, "c")
    assert target.read_text() == "precious"
    assert [record.message for record in caplog.records].count("uow.head_not_kept") <= 2


def test_a_read_only_ledger_writes_nothing(tmp_path: Path) -> None:
    """Whoever may only read does not touch the file."""
    path = tmp_path / "memory.db"
    with Ledger.open(path) as ledger:
        put(ledger, "a")
    before = _released_head.path_beside(path).stat()
    path.chmod(0o400)
    with Ledger.open(path) as ledger:
        ledger.checkpoint()
    after = _released_head.path_beside(path).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_a_way_down_in_full_takes_the_head_along(tmp_path: Path) -> None:
    """What the head speaks of is in the backup from then on, and a new log may begin in the old place."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, origin="example.com/tests") as ledger:
        put(ledger, "a")
        ledger.change_signer(key_file(tmp_path))
        put(ledger, "b")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        backup = migrate_down(connection, path)
    assert backup is not None
    assert (size_kept(path), size_kept(backup)) == (None, 2)
    with Ledger.open(path) as ledger:
        put(ledger, "c")
    assert size_kept(path) == 1


def test_a_head_that_was_changed_says_nothing(place: Path) -> None:
    """A text that is whole but not what was written does not pass its checksum, nor does one of another length."""
    kept = ReleasedHead(place, at_once=True)
    kept.write(2, partial(str, head(2)))
    kept.close()
    beside = _released_head.path_beside(place)
    whole = beside.read_bytes()
    beside.write_bytes(whole.replace(b"\n2\n", b"\n3\n"))
    assert _released_head.read(place) is None
    beside.write_bytes(whole.rstrip(b"\n"))
    assert _released_head.read(place) is None


def test_a_flush_with_nothing_to_write_makes_no_file(place: Path) -> None:
    """What was never released is not written."""
    ReleasedHead(place, at_once=False).flush()
    assert not _released_head.path_beside(place).exists()
