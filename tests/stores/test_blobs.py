"""BlobStore: large blobs are durable files before the decision, keys are names only, and spaces share nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Operation
from memoryos_uow._records import Content
from memoryos_uow.abc import MISSING, Capability, Home, Store
from memoryos_uow.errors import RecordExists, RecordMissing, StoreError, StoreUnavailable, UsageError
from memoryos_uow.stores import BlobStore
from tests.both import both, sqlite_only
from tests.stores.driver import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stores.driver import Driver, On

pytestmark = both

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="links, modes and limits of POSIX systems")
SMALL = b"small"
LARGE = b"large!" * 20_000


def sha256(content: bytes) -> str:
    """The digest by which files are named."""
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def photos(driver: Driver) -> On:
    """A blob store in the directory ``photos`` beside the ledger."""
    return driver.attached(BlobStore("photos", "photos"))


def root_of(on: On) -> Path:
    """The directory of the store under test."""
    return on.driver.directory / "photos"


def path_of(on: On, content: bytes) -> Path:
    """Where the layout puts the file for `content` of the space."""
    digest = sha256(content)
    return root_of(on) / sha256(on.space.encode())[:16] / digest[:2] / digest


def files_below(root: Path) -> set[str]:
    """Every file below `root`."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# Values


def test_it_is_a_store() -> None:
    """The class keeps the whole contract of a store and says what it is."""
    store: Store = BlobStore("photos", "photos/")
    assert isinstance(store, Store)
    assert (store.name, store.kind, store.capability) == ("photos", "blobs", Capability.CONTENT_ADDRESSED)
    assert repr(store) == "BlobStore('photos', 'photos', inline_below=65536)"


@pytest.mark.parametrize("content", [b"", SMALL, b"x" * 65_535, b"x" * 65_536, LARGE])
def test_a_blob_comes_back(photos: On, content: bytes) -> None:
    """Blobs of every size are read as they were written; only those from 64 KiB on are files."""
    write = photos.create("a/b.jpg", content)
    assert photos.get("a/b.jpg") == content
    assert write.content == Content(len(content), sha256(content))
    inline = len(content) < 65_536
    file = str(path_of(photos, content).relative_to(root_of(photos)))
    assert files_below(root_of(photos)) == (set() if inline else {file})
    rows = photos.driver.rows("SELECT digest, size, data FROM uow_blobs")
    assert rows == [(sha256(content), len(content), content if inline else None)]


@given(content=st.binary(max_size=300), inline_below=st.integers(0, 300))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_survive(driver: Driver, content: bytes, inline_below: int) -> None:
    """Wherever the limit between row and file lies, the bytes come back; it may change at any time."""
    on = driver.attached(BlobStore("photos", "photos", inline_below=inline_below))
    on.upsert("k", content)
    assert on.get("k") == content
    assert driver.attached(BlobStore("photos", "photos")).get("k") == content


@pytest.mark.parametrize(
    "value",
    [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a_b_c")[::2], memoryview(b"abc").cast("b")],
    ids=["bytearray", "memoryview", "strided", "cast"],
)
def test_bytes_like_values_are_copied(photos: On, value: Any) -> None:
    """What the caller does to the buffer afterwards does not count; `get` returns bytes."""
    value = bytearray(value) if isinstance(value, bytearray) else value  # it runs twice
    write = photos.write("create", "k", value)
    if isinstance(value, bytearray):
        value[:] = b"xyz"
    photos.commit(write)
    assert photos.get("k") == b"abc"
    assert photos.store.overlay(write) == b"abc"
    assert photos.store.overlay(photos.write("delete", "k")) is MISSING


@pytest.mark.parametrize("value", ["text", None, 5, [1, 2], Path("file"), iter([b"a"])])
def test_what_is_no_bytes_is_refused(photos: On, value: object) -> None:
    """Text, paths and files are refused with the way to bytes."""
    with pytest.raises(UsageError, match=r"must be bytes.*\.read_bytes\(\)"):
        photos.write("create", "k", value)


def test_size_is_limited(photos: On) -> None:
    """At the limit a blob passes, one byte more is refused, counting bytes and not elements."""
    limits = Limits(blob_bytes=8)
    photos.store.encode(Operation.CREATE, "k", b"x" * 8, limits)
    for value in (b"x" * 9, memoryview(b"x" * 16).cast("L")):
        with pytest.raises(UsageError, match="the limit is 8"):
            photos.store.encode(Operation.CREATE, "k", value, limits)


def test_the_verbs(photos: On) -> None:
    """Create, update, upsert and delete do what their names say; files of overwritten blobs stay for the sweep."""
    photos.create("a", LARGE)
    photos.update("a", LARGE + b"2")
    photos.upsert("a", SMALL)
    photos.upsert("b", LARGE)
    assert (photos.get("a"), photos.version("a"), photos.keys()) == (SMALL, 3, ["a", "b"])
    with pytest.raises(RecordExists):
        photos.create("a", SMALL)
    photos.delete("a")
    for operation in ("update", "delete"):
        with pytest.raises(RecordMissing):
            photos.commit(photos.write(operation, "a", SMALL))
    assert len(files_below(root_of(photos))) == 2
    assert photos.get("b") == LARGE


def test_blobs_cannot_be_searched(photos: On) -> None:
    """A search is refused with a hint."""
    with pytest.raises(UsageError, match="cannot be searched"):
        photos.search("x")


# Files


def test_files_are_there_before_the_decision(photos: On) -> None:
    """`prepare` writes every large blob, once each, and no row; repeated it changes nothing; apply writes no file."""
    writes = [
        photos.write("create", "a", LARGE),
        photos.write("create", "b", LARGE),
        photos.write("create", "c", SMALL),
        photos.write("create", "d", LARGE + b"2"),
        photos.write("delete", "e"),
    ]
    facts: Any = type("Facts", (), {"space_id": SPACE})
    photos.store.prepare(facts, writes)
    assert len(files_below(root_of(photos))) == 2
    inode = path_of(photos, LARGE).stat().st_ino
    photos.store.prepare(facts, writes)
    assert path_of(photos, LARGE).stat().st_ino == inode
    assert photos.driver.rows("SELECT count(*) FROM uow_blobs") == [(0,)]
    photos.commit(*writes[:4])
    assert len(files_below(root_of(photos))) == 2


def test_small_blobs_touch_no_directory(photos: On) -> None:
    """A unit of small blobs works even while the directory is out of reach."""
    shutil.rmtree(root_of(photos))
    photos.create("a", SMALL)
    assert photos.get("a") == SMALL


def test_spaces_share_no_file(photos: On) -> None:
    """The same bytes in two spaces are two files, so the presence of one tells nothing about the other."""
    photos.create("k", LARGE)
    other = photos.within("other")
    other.create("k", LARGE)
    assert len(files_below(root_of(photos))) == 2
    path_of(photos, LARGE).unlink()
    assert other.get("k") == LARGE
    with pytest.raises(StoreError):
        photos.get("k")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(LARGE[:-1]),
        lambda path: path.write_bytes(LARGE + b"!"),
        lambda path: path.write_bytes(LARGE[:-1] + b"?"),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.parent.rmdir()),
    ],
)
def test_a_damaged_file_is_noticed(photos: On, damage: Callable[[Path], object]) -> None:
    """A blob is returned whole or not at all; written anew, it is there again."""
    photos.create("k", LARGE)
    damage(path_of(photos, LARGE))
    with pytest.raises(StoreError, match="was changed or is missing") as caught:
        photos.get("k")
    assert sha256(LARGE) not in str(caught.value)
    if not path_of(photos, LARGE).is_dir():
        photos.update("k", LARGE)
        assert photos.get("k") == LARGE


@pytest.mark.parametrize(
    "change",
    [
        "data = x'00'",
        "data = NULL",
        "data = 'small'",
        "size = 4",
        "size = 'five'",
        "digest = '../../../memory.db', data = NULL",
        "digest = '..', data = NULL",
        "digest = x'00'",
        "digest = upper(digest)",
    ],
)
@sqlite_only("PostgreSQL keeps no value of another type in a column")
def test_a_tampered_row_is_noticed(photos: On, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Whatever a hostile ledger says of a blob, nothing outside the directory is opened and no bytes come back."""
    photos.create("large", LARGE)
    photos.create("k", SMALL)
    photos.driver.sql(f"UPDATE uow_blobs SET {change} WHERE key = 'k'")
    opened: list[str] = []
    original = os.open

    def watched(path: Any, *args: Any, **options: Any) -> int:
        opened.append(os.fspath(path))
        return original(path, *args, **options)

    monkeypatch.setattr(os, "open", watched)
    with pytest.raises(StoreError, match="was changed or is missing"):
        photos.get("k")
    assert not any(".." in path for path in opened)


@POSIX_ONLY
def test_a_link_in_place_of_a_blob_is_not_followed(photos: On, tmp_path: Path) -> None:
    """Even a link to the very same bytes is refused."""
    photos.create("k", LARGE)
    path = path_of(photos, LARGE)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="could not read below its directory"):
        photos.get("k")


# Failures of the file system


def test_a_file_where_a_directory_is_needed(photos: On) -> None:
    """What stands in the way ends the unit with an error that names store and cause but no file."""
    blocked = root_of(photos) / sha256(SPACE.encode())[:16]
    blocked.write_bytes(b"")
    with pytest.raises(StoreError, match=os.strerror(errno.ENOTDIR)) as caught:
        photos.create("k", LARGE)
    assert not caught.value.retryable
    assert caught.value.store == "photos"
    assert blocked.name not in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert (cause.filename, cause.filename2) == (None, None)
    assert blocked.name not in str(cause)
    assert photos.keys() == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
        (errno.EIO, StoreError),
        (errno.EROFS, StoreError),
        (errno.EACCES, StoreError),
    ],
)
def test_passing_troubles_may_be_retried(
    photos: On, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[StoreError]
) -> None:
    """A full disk may have room later; a failed sync may not be tried again as if nothing had happened."""

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=os.strerror(number)) as caught:
        photos.create("k", LARGE)
    assert type(caught.value) is kind
    assert files_below(root_of(photos)) == set()


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.stores.driver import Driver
from memoryos_uow.errors import StoreError
from memoryos_uow.stores import BlobStore
driver = Driver(Path(sys.argv[1]))
on = driver.attached(BlobStore("photos", "photos"))
on.create("before", b"x" * 100_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    on.create("k", b"y" * 200_000)
except StoreError as error:
    print(error)
print(on.keys())
"""


@POSIX_ONLY
def test_a_file_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    """Where only a part of a file can be written, for root as well, the unit fails and the part is removed."""
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, cwd=here
    )
    message, keys = done.stdout.splitlines()
    assert os.strerror(errno.EFBIG) in message
    assert "Nothing of the unit was written" in message
    assert keys == "['before']"
    assert len(files_below(tmp_path / "photos")) == 1


# The directory


@pytest.mark.parametrize("directory", ["", "a\0b", "\ud800", b"photos", 5, [], ("a",)])
def test_bad_directories_are_refused(directory: Any) -> None:
    """A directory is a path that can be written down."""
    with pytest.raises(UsageError):
        BlobStore("photos", directory)


@pytest.mark.parametrize("inline_below", [-1, 1.5, True, "64", None])
def test_bad_limits_are_refused(inline_below: Any) -> None:
    """The limit between row and file is a whole number of bytes."""
    with pytest.raises(UsageError):
        BlobStore("photos", "photos", inline_below=inline_below)


def test_relative_directories_start_at_the_ledger(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's working directory does not matter; missing directories are made."""
    elsewhere = driver.directory / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert driver.attach(BlobStore("photos", "data/photos/"))
    assert (driver.directory / "data" / "photos").is_dir()
    assert (driver.recorded(BlobStore("photos", "x")) or {})["directory"] == "data/photos"


def test_the_directory_stays(driver: Driver) -> None:
    """The recorded directory, however it is spelled, is accepted; another one is refused."""
    driver.attach(BlobStore("photos", "photos"))
    for spelled in ("photos/", "./photos", "x/../photos", driver.directory / "photos", Path("photos")):
        assert not driver.attach(BlobStore("photos", spelled))
    other = BlobStore("photos", "other")
    with pytest.raises(UsageError, match="lie in 'photos', not in 'other'"):
        driver.attach(other)
    with driver.transaction() as tx, pytest.raises(UsageError):
        other.setup(tx, {"directory": "photos"})
    assert not (driver.directory / "other").exists()


def test_a_lost_directory_is_noticed(driver: Driver) -> None:
    """A directory that held blobs once and is missing is not silently made again."""
    driver.attach(BlobStore("photos", "photos"))
    shutil.rmtree(driver.directory / "photos")
    with pytest.raises(StoreError, match="is missing"):
        driver.attach(BlobStore("photos", "photos"))
    home = Home(driver.directory, read_only=True)
    with driver.reader() as reader:
        assert BlobStore("new", "new").attach(home, reader, None)
    assert not (driver.directory / "new").exists()


@POSIX_ONLY
def test_bad_places_are_refused(driver: Driver) -> None:
    """A file, a link, a directory open to everybody and a place where none can be made are refused, untouched."""
    places = {name: driver.directory / name for name in ("file", "link", "open", "real")}
    places["file"].touch()
    places["real"].mkdir()
    places["link"].symlink_to(places["real"])
    places["open"].mkdir()
    places["open"].chmod(0o777)
    for place in (places["file"], places["link"], places["open"], places["file"] / "below", Path("/proc/nosuch")):
        with pytest.raises(StoreError) as caught:
            driver.attach(BlobStore("photos", place))
        assert caught.value.hint
    assert driver.rows("SELECT count(*) FROM uow_stores") == [(0,)]


@POSIX_ONLY
def test_a_place_that_turns_bad_is_noticed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that another process makes too open between the two looks is refused at the second."""
    store = BlobStore("photos", "photos")
    with driver.reader() as reader:
        assert store.attach(driver.home, reader, None)
    (driver.directory / "photos").mkdir()
    (driver.directory / "photos").chmod(0o777)
    with driver.transaction() as tx, pytest.raises(StoreError, match="may be written by everybody"):
        store.setup(tx, None)


# Keys


HOSTILE = [
    *(
        "..",
        ".",
        "../x",
        "../../etc/passwd",
        "a/..",
        "a/../b",
        "a/./b",
        "./a",
        "a/.",
        "/",
        "/etc/passwd",
        "//a",
        "a//b",
    ),
    *("a/", "a/b/", "\\", "..\\x", "a\\b", "\\\\server\\share", "C:", "c:\\x", "C:/x", "C:x", "z:", "a\0b", "\0"),
    *("a\0/../b", "..%00/", "a/ /b", " ", "  ", ".. ", "../ ", " ..", "a/.. /b", "...", "a/.../b", ". .", "x/. ./y"),
    *(f"a{chr(code)}b" for code in range(32)),
    *(f"{chr(code)}" for code in range(0x7F, 0xA0)),
    # Full-width dots, slashes, backslash and letter, and dot leaders: the same once a program normalises them.
    *("\uff0e\uff0e", "\uff0e\uff0e/x", "..\uff0fx", "\uff0e\uff0e\uff0f\uff0e\uff0e\uff0fx", "a\uff0f.."),
    *("\uff3cx", "a\uff3cb", "\uff23\uff1ax", "\u2024\u2024/x", "\u2025/x", "\u2025", "a/\u2025/b", "\u2026/x"),
    *("a" * 256, "ä" * 128, "b/" + "a" * 256, "k" * 1025, "\ud800", "a/\udfff", ""),
]
HARMLESS = ["a", "a.b", ".hidden", "..a", "a..b", "a/b/c", "no:drive", "2026/photo.jpg", "ä/ö", "...a", "a b", "%2e%2e"]


def test_there_are_enough_hostile_keys() -> None:
    """The list is no token."""
    assert len(set(HOSTILE)) >= 100


def test_hostile_keys_are_refused(photos: On) -> None:
    """Names that lead out of a folder, in any spelling, are refused for every operation and never cleaned."""
    for key in HOSTILE:
        for operation in Operation:
            with pytest.raises(UsageError) as caught:
                photos.write(operation, key, SMALL)
            assert len(key) < 3 or key not in str(caught.value)
    assert files_below(photos.driver.directory) <= {"memory.db", "memory.db-wal", "memory.db-shm"}


@pytest.mark.parametrize("key", HARMLESS)
def test_harmless_keys_are_taken(photos: On, key: str) -> None:
    """Dots, colons and letters of every script inside a name are nothing to fear."""
    photos.create(key, LARGE)
    assert photos.get(key) == LARGE


@given(
    key=st.lists(st.sampled_from([*"./\\ a:~", "..", "C:", "\0", "\uff0e", "\uff0f"]), max_size=6).map("".join)
    | st.text()
)
@example(key="k")
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_key_ever_becomes_a_path(photos: On, key: str) -> None:
    """Whatever the key, refused or taken, the only file is the one named by the content, inside the directory."""
    inside = str(path_of(photos, LARGE).relative_to(photos.driver.directory))
    try:
        photos.upsert(key, LARGE)
    except UsageError:
        pass
    else:
        assert photos.get(key) == LARGE
    ours = {inside, "memory.db", "memory.db-wal", "memory.db-shm"}
    assert files_below(photos.driver.directory) <= ours


@pytest.mark.parametrize("band", [Band.RED, Band.BLACK])
def test_keys_stay_out_of_errors(photos: On, band: Band) -> None:
    """Above GREEN an error does not name the record."""
    photos.create("canary-5f1d", SMALL)
    unit = photos.banded(band)
    with pytest.raises(RecordExists) as caught:
        unit.create("canary-5f1d", SMALL)
    assert "canary" not in str(caught.value)
