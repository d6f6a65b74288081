"""FileStore: named files that are whole at every moment, decided with everything else of a unit."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import ConflictError, Ledger, RecordExists, RecordMissing, StoreError, UsageError
from memoryos_uow._limits import Limits
from memoryos_uow.abc import Capability, OutsideStore, Publisher
from memoryos_uow.stores import DocumentStore, FileStore
from tests.processes import let_everybody_reach, without_rights
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow import UnitOfWork

pytestmark = pytest.mark.skipif(os.name != "posix", reason="file stores need the file locks of POSIX systems")
HOUSEHOLD = "shared%3Ahousehold"


def open_ledger(directory: Path, **options: Any) -> Ledger:
    """A ledger with documents and files."""
    return Ledger.open(directory / "memory.db", stores=[DocumentStore("notes"), FileStore("files", "files")], **options)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with documents and ``files``."""
    with open_ledger(tmp_path) as opened:
        yield opened


def unit(ledger: Ledger, space: str = SPACE) -> UnitOfWork:
    """A unit in a space."""
    return ledger.unit(space_id=space, band="GREEN")


def put(ledger: Ledger, key: str, value: object, space: str = SPACE) -> UnitOfWork:
    """Upsert one file in a unit of its own."""
    with unit(ledger, space) as uow:
        uow["files"].upsert(key, value)
    return uow


def shown(directory: Path, space: str = HOUSEHOLD) -> dict[str, bytes]:
    """Every file of a space as any program finds it."""
    root = directory / "files" / space
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def staged(directory: Path) -> list[str]:
    """What lies in the stage."""
    return sorted(str(path) for path in (directory / "files" / ".uow" / "stage").glob("*/*"))


def test_it_says_what_it_is() -> None:
    """It makes bytes before the decision and publishes after it."""
    store = FileStore("files", "a/files/")
    assert isinstance(store, OutsideStore)
    assert isinstance(store, Publisher)
    assert (store.name, store.kind, store.capability) == ("files", "files", Capability.STAGED)
    assert repr(store) == "FileStore('files', 'a/files')"


@pytest.mark.parametrize("directory", ["", "a\0b", 5, None, b"files"])
def test_what_is_no_directory_is_refused(directory: Any) -> None:
    """Only a path will do."""
    with pytest.raises(UsageError, match="must be a path"):
        FileStore("files", directory)


# Writing and reading


def test_the_verbs(ledger: Ledger, tmp_path: Path) -> None:
    """Create, update, upsert and delete make, replace and remove files under their own names."""
    with unit(ledger) as uow:
        uow["files"].create_many({"a.txt": b"1", "2026/b.txt": bytearray(b"2"), "2026/deep/er/c": memoryview(b"3")})
    assert shown(tmp_path) == {"a.txt": b"1", "2026/b.txt": b"2", "2026/deep/er/c": b"3"}
    with unit(ledger) as uow:
        uow["files"].update("a.txt", b"longer than before")
        uow["files"].upsert("d", b"")
        uow["files"].delete("2026/deep/er/c")
    assert shown(tmp_path) == {"a.txt": b"longer than before", "2026/b.txt": b"2", "d": b""}
    assert list(ledger["files"].keys(space_id=SPACE)) == ["2026/b.txt", "a.txt", "d"]
    assert [ledger["files"].get(key, space_id=SPACE) for key in ("d", "2026/b.txt", "gone")] == [b"", b"2", None]
    with pytest.raises(RecordExists), unit(ledger) as uow:
        uow["files"].create("d", b"x")
    for verb, value in (("update", [b""]), ("delete", [])):
        with pytest.raises(RecordMissing), unit(ledger) as uow:
            getattr(uow["files"], verb)("gone", *value)
    ledger.recover()
    assert staged(tmp_path) == []
    assert shown(tmp_path)["d"] == b""


def test_empty_directories_go_with_their_last_file(ledger: Ledger, tmp_path: Path) -> None:
    """A directory that a key made goes when its last file does, and only then; the space's own stays."""
    with unit(ledger) as uow:
        uow["files"].create_many({"a/b/c": b"1", "a/d": b"2"})
    with unit(ledger) as uow:
        uow["files"].delete("a/b/c")
    assert [path.name for path in (tmp_path / "files" / HOUSEHOLD).rglob("*")] == ["a", "d"]
    with unit(ledger) as uow:
        uow["files"].delete("a/d")
    assert list((tmp_path / "files" / HOUSEHOLD).iterdir()) == []


@pytest.mark.parametrize("flush", [False, True], ids=["waiting", "applied"])
def test_a_unit_sees_its_own_writes_and_nobody_else_does(ledger: Ledger, tmp_path: Path, flush: bool) -> None:
    """Before the decision no name shows anything of the unit, whether its writes wait or were applied."""
    put(ledger, "a", b"1")
    with unit(ledger) as uow:
        uow["files"].update("a", b"2")
        uow["files"].create("b", b"3")
        if flush:
            uow.sql("SELECT 1")
        assert uow["files"].get_many(["a", "b"]) == {"a": b"2", "b": b"3"}
        uow["files"].delete("b")
        assert uow["files"].get("b") is None
        assert shown(tmp_path) == {"a": b"1"}
        assert ledger["files"].get("a", space_id=SPACE) == b"1"
    assert shown(tmp_path) == {"a": b"2"}


def test_a_failed_unit_leaves_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """Neither a name nor anything in the stage, whether the block raised or another store refused at commit."""
    put(ledger, "a", b"1")
    for flush in (False, True):
        with pytest.raises(RecordMissing), unit(ledger) as uow:
            uow["files"].update("a", b"2")
            uow["files"].create("new/er", b"3")
            if flush:
                uow.sql("SELECT 1")
            uow["notes"].delete("nowhere")
    assert shown(tmp_path) == {"a": b"1"}
    assert staged(tmp_path) == []
    assert ledger.units(limit=1)[0].failed_store == "notes"


def test_a_file_that_changed_meanwhile(ledger: Ledger) -> None:
    """A unit that read a file and replaces it conflicts with one that replaced it in between."""
    put(ledger, "a", b"1")
    with pytest.raises(ConflictError), unit(ledger) as uow:
        uow["files"].get("a")
        with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
            other["files"].update("a", b"5")
        uow["files"].update("a", b"2")
    assert ledger["files"].get("a", space_id=SPACE) == b"5"


def test_one_content_under_several_names(ledger: Ledger, tmp_path: Path) -> None:
    """Each name is a file of its own: changing one leaves the others."""
    with unit(ledger) as uow:
        for key in ("a", "b", "c/d"):
            uow["files"].create(key, b"same")
    put(ledger, "b", b"other")
    assert shown(tmp_path) == {"a": b"same", "b": b"other", "c/d": b"same"}
    with unit(ledger) as uow:
        uow["files"].delete("a")
        uow["files"].upsert("b", b"same")
    assert shown(tmp_path) == {"b": b"same", "c/d": b"same"}


def test_a_name_deleted_and_made_again(ledger: Ledger, tmp_path: Path) -> None:
    """Within one unit the last write counts, several times over."""
    put(ledger, "a", b"1")
    with unit(ledger) as uow:
        for round_ in range(3):
            uow["files"].delete("a")
            uow["files"].create("a", b"%d" % round_)
        uow["files"].create("b", b"never")
        uow["files"].delete("b")
    assert shown(tmp_path) == {"a": b"2"}
    assert ledger["files"].get("a", space_id=SPACE) == b"2"


def test_names_that_differ_in_case(ledger: Ledger, tmp_path: Path) -> None:
    """Where the file system tells them apart they are two files, elsewhere the second is refused."""
    put(ledger, "Report.txt", b"upper")
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        with pytest.raises(StoreError, match="has that name"):
            put(ledger, "report.txt", b"lower")
    else:
        put(ledger, "report.txt", b"lower")
        assert shown(tmp_path)["report.txt"] == b"lower"
    assert ledger["files"].get("Report.txt", space_id=SPACE) == b"upper"


def test_size_is_limited(tmp_path: Path) -> None:
    """What is too long, or no bytes, is refused when the write is called."""
    with open_ledger(tmp_path, limits=Limits(blob_bytes=4)) as ledger, unit(ledger) as uow:
        uow["files"].create("a", b"1234")
        for value in (b"12345", "text", None, 5, Path("a")):
            with pytest.raises(UsageError, match=r"the limit is 4|must be bytes"):
                uow["files"].create("b", value)


# Files and directories of one name


def test_a_name_is_a_file_or_a_directory(ledger: Ledger, tmp_path: Path) -> None:
    """A key below another key, or above one, is refused; nothing of the unit remains."""
    put(ledger, "a/b", b"1")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(StoreError, match="file and a directory at once"):
            put(ledger, key, b"2")
    with pytest.raises(StoreError, match="at once"), unit(ledger) as uow:
        uow["files"].create_many({"x": b"", "x/y": b""})
    put(ledger, "a0", b"3")  # "0" sorts right behind the slash
    put(ledger, "a.txt", b"4")
    assert shown(tmp_path) == {"a/b": b"1", "a0": b"3", "a.txt": b"4"}


@pytest.mark.parametrize(("before", "after"), [("a/b/c", "a"), ("a", "a/b/c"), ("a/b", "a/b/c"), ("a/b/c", "a/b")])
def test_a_directory_becomes_a_file_and_back_in_one_unit(
    ledger: Ledger, tmp_path: Path, before: str, after: str
) -> None:
    """Deleting what stands in the way makes room in the very same unit, in both directions."""
    put(ledger, before, b"1")
    with unit(ledger) as uow:
        uow["files"].delete(before)
        uow["files"].create(after, b"2")
    assert shown(tmp_path) == {after: b"2"}
    assert ledger["files"].get(after, space_id=SPACE) == b"2"


def test_a_directory_becomes_a_file_while_nothing_can_be_published(ledger: Ledger, tmp_path: Path) -> None:
    """Units that are decided one after the other and published all at once, later, end as the last one says."""
    with silent(ledger, tmp_path):
        put(ledger, "a/b", b"1")
        for gone, new in (("a/b", "a"), ("a", "a/b/c"), ("a/b/c", "a/b")):
            with unit(ledger) as uow:
                uow["files"].delete(gone)
                uow["files"].create(new, b"2")
            assert uow.in_doubt == ("files",)
            assert list(ledger["files"].keys(space_id=SPACE)) == [new]
            assert ledger["files"].get(new, space_id=SPACE) == b"2"
        assert shown(tmp_path) == {}
    assert len(ledger.recover().rolled_forward) == 4
    assert shown(tmp_path) == {"a/b": b"2"}
    assert staged(tmp_path) == []


@contextmanager
def silent(ledger: Ledger, directory: Path) -> Iterator[None]:
    """Let another program hold the store's lock, and nobody wait for it."""
    (directory / "files" / ".uow" / "lock").touch()
    with (directory / "files" / ".uow" / "lock").open("r+") as lock, pytest.MonkeyPatch.context() as patched:
        patched.setattr("memoryos_uow.stores._stage.LOCK_WAIT_S", 0.0)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def test_a_lock_that_is_held_by_a_stopped_process(ledger: Ledger, tmp_path: Path) -> None:
    """It holds up nobody for ever: the unit is committed and seen, and published when the lock is free."""
    with silent(ledger, tmp_path):
        uow = put(ledger, "a", b"1")
        assert (uow.status, uow.in_doubt) == ("committed", ("files",))
        assert ledger.get(uow.uow_id).error_type == "StoreUnavailable"
        assert ledger["files"].get("a", space_id=SPACE) == b"1"
        assert ledger.recover().in_doubt == (uow.uow_id,)
    assert ledger.recover().rolled_forward == (uow.uow_id,)
    assert shown(tmp_path) == {"a": b"1"}


# What others put there


def a_file(path: Path) -> None:
    """A file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")


def a_full_directory(path: Path) -> None:
    """A directory with a file in it."""
    path.mkdir(parents=True)
    (path / "mine").write_bytes(b"mine")


def a_link(path: Path) -> None:
    """A link to a file elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.parents[3] / "outside")


def a_dangling_link(path: Path) -> None:
    """A link to nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")


def a_file_above(path: Path) -> None:
    """A file where a directory is needed."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_bytes(b"mine")


def a_link_above(path: Path) -> None:
    """A link to a directory elsewhere, where a directory is needed."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.symlink_to(path.parents[3] / "elsewhere")


@pytest.mark.parametrize("verb", ["create", "upsert"])
@pytest.mark.parametrize("plant", [a_file, a_full_directory, a_link, a_dangling_link, a_file_above, a_link_above])
def test_what_others_put_in_the_way(ledger: Ledger, tmp_path: Path, plant: Callable[[Path], None], verb: str) -> None:
    """It is refused before the decision, left as it is, and nothing is written through a link."""
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "files" / HOUSEHOLD / "d" / "a"
    plant(path)
    before = {str(one): one.read_bytes() for one in tmp_path.rglob("*") if one.is_file() and "memory" not in one.name}
    with pytest.raises(StoreError, match="did not write"), unit(ledger) as uow:
        uow["notes"].create("n", 1)
        getattr(uow["files"], verb)("d/a", b"ours")
    after = {str(one): one.read_bytes() for one in tmp_path.rglob("*") if one.is_file() and "memory" not in one.name}
    assert after == before
    assert ledger["notes"].get("n", space_id=SPACE) is None
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_link_planted_after_the_decision(ledger: Ledger, tmp_path: Path) -> None:
    """Nothing is written through it, and the unit waits in doubt until it is gone."""
    (tmp_path / "elsewhere").mkdir()
    with silent(ledger, tmp_path):
        uow = put(ledger, "d/a", b"1")
    (tmp_path / "files" / HOUSEHOLD).mkdir()
    (tmp_path / "files" / HOUSEHOLD / "d").symlink_to(tmp_path / "elsewhere")
    assert ledger.recover().in_doubt == (uow.uow_id,)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert ledger["files"].get("d/a", space_id=SPACE) == b"1"
    (tmp_path / "files" / HOUSEHOLD / "d").unlink()
    assert ledger.recover().rolled_forward == (uow.uow_id,)
    assert shown(tmp_path) == {"d/a": b"1"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"1234x"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.with_name("moved")), path.symlink_to("moved")),
        lambda path: [path.unlink(), os.mkfifo(path)],  # type: ignore[func-returns-value]
    ],
    ids=["other content", "emptied", "removed", "a directory", "a link", "a pipe"],
)
def test_tampering_is_noticed(ledger: Ledger, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A file that was changed behind the store's back is not passed off as what was written."""
    put(ledger, "a", b"12345")
    damage(tmp_path / "files" / HOUSEHOLD / "a")
    with pytest.raises(StoreError):
        ledger["files"].get("a", space_id=SPACE)
    with unit(ledger) as uow:
        uow["notes"].upsert("others", "go on")


HOSTILE = [
    *("../a", "a/../../b", "/etc/passwd", "a//b", "a/./b", "..", ".", "a/..", "c:x", "a\\b", "a\nb", "\x7f"),
    *("\N{FULLWIDTH FULL STOP}\N{FULLWIDTH FULL STOP}/a", ". /a", "... ", "x" * 256, "a/" + "x" * 256, "a/"),
]


@pytest.mark.parametrize("key", HOSTILE)
def test_keys_that_lead_out_are_refused(ledger: Ledger, tmp_path: Path, key: str) -> None:
    """When the write is called, before anything is made."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"name of a file|key"), unit(ledger) as uow:
        uow["files"].create(key, b"x")
    assert sorted(path for path in tmp_path.rglob("*") if "memory" not in path.name) == [
        path for path in before if "memory" not in path.name
    ]


# Spaces

SPACES = ["a", "A:b", ".", "..", "...", " ", ".uow", ".uow-home", "a/b", "a%2Fb", "ä", "x" * 255, "ä" * 100, "a\n"]


def test_every_space_has_a_directory_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    """Whatever a space is called, its files are apart from all others and below the root."""
    for space in SPACES:
        put(ledger, "k", space.encode(), space=space)
    for space in SPACES:
        assert ledger["files"].get("k", space_id=space) == space.encode()
    roots = {path.name for path in (tmp_path / "files").iterdir()}
    assert len(roots) == len(SPACES) + 2  # .uow and .uow-home
    assert {"a", "A%3Ab", "a%2Fb", "a%252Fb"} <= roots
    # A space cannot take the name that stands for another one whose own name does not fit.
    stand_ins = [name for name in roots if name.startswith("%-")]
    assert len(stand_ins) == 6  # for the three of dots and blanks, two of ours, and one too long
    for name in stand_ins:
        put(ledger, "twin", b"x", space=name)
    for name in stand_ins:
        assert [path.name for path in (tmp_path / "files" / name).iterdir()] == ["k"]


# Where the directory is


def test_a_relative_directory_starts_at_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the working directory, which may be another one next time."""
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with open_ledger(tmp_path / "data") as ledger:
        put(ledger, "a", b"1")
    assert shown(tmp_path / "data") == {"a": b"1"}
    assert list((tmp_path / "work").iterdir()) == []


def test_the_directory_stays(tmp_path: Path) -> None:
    """A ledger that keeps a store in one directory is not opened with another one for it."""
    open_ledger(tmp_path).close()
    with pytest.raises(UsageError, match="lie in 'files', not in 'other'"):
        Ledger.open(tmp_path / "memory.db", stores=[FileStore("files", "other")])
    Ledger.open(tmp_path / "memory.db", stores=[FileStore("files", tmp_path / "files")]).close()


def test_a_ledger_that_moved_takes_its_files_along(tmp_path: Path) -> None:
    """Also when units are still to be published there."""
    (tmp_path / "old").mkdir()
    with open_ledger(tmp_path / "old") as ledger:
        put(ledger, "a", b"1")
        with silent(ledger, tmp_path / "old"):
            put(ledger, "a", b"2")
    (tmp_path / "old").rename(tmp_path / "new")
    with open_ledger(tmp_path / "new") as ledger:
        assert ledger["files"].get("a", space_id=SPACE) == b"2"
        assert ledger.recover().in_doubt == ()
    assert shown(tmp_path / "new") == {"a": b"2"}


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (shutil.rmtree, "is missing"),
        (lambda root: root.chmod(0o777), "written by everybody"),
        (lambda root: (root.rename(root.with_name("moved")), root.symlink_to("moved")), "symbolic link"),
        (lambda root: [shutil.rmtree(root), root.touch()], "not a directory"),  # type: ignore[func-returns-value]
    ],
    ids=["missing", "open to all", "a link", "a file"],
)
def test_a_directory_that_turned_bad(tmp_path: Path, spoil: Callable[[Path], object], match: str) -> None:
    """Opening says what is wrong with it and changes nothing; other stores can be opened without it."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", b"1")
    spoil(tmp_path / "files")
    with pytest.raises(StoreError, match=match):
        open_ledger(tmp_path)
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger, unit(ledger) as uow:
        uow["notes"].create("n", 1)


def test_a_directory_that_vanishes_while_it_is_open(ledger: Ledger, tmp_path: Path) -> None:
    """Units that need it fail with its name, the others go on, and so does recovery; once it is back all is well."""
    put(ledger, "a", b"1")
    (tmp_path / "files").rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            put(ledger, "a", b"2")
        assert caught.value.store == "files"
        with unit(ledger) as uow:
            uow["notes"].upsert("n", 1)
            uow.sql("CREATE TABLE IF NOT EXISTS mine (x)")
    assert ledger.recover().in_doubt == ()
    assert not (tmp_path / "files").exists()
    (tmp_path / "away").rename(tmp_path / "files")
    put(ledger, "a", b"3")
    assert shown(tmp_path) == {"a": b"3"}


def test_a_directory_that_may_not_be_written(tmp_path: Path) -> None:
    """A unit that needs it fails before the decision with a typed error; the rest of the ledger works."""
    place = tmp_path / "place"
    place.mkdir()
    let_everybody_reach(place)
    place.chmod(0o777)

    def use() -> tuple[str | None, str, list[str]]:
        os.umask(0o022)
        with open_ledger(place) as ledger:
            put(ledger, "a", b"1")
            (place / "files" / ".uow" / "tmp").chmod(0o555)
            with pytest.raises(StoreError) as caught:
                put(ledger, "b", b"2")
            with unit(ledger) as uow:
                uow["notes"].create("n", 1)
            (place / "files" / ".uow" / "tmp").chmod(0o755)
            return caught.value.store, uow.status.value, list(shown(place))

    # A place in which everybody may replace the directory would be refused.
    place.chmod(0o1777)
    assert without_rights(use) == ("files", "committed", ["a"])


def test_a_file_that_cannot_be_removed(tmp_path: Path) -> None:
    """Its delete is committed and waits in doubt, rather than pass for done while others still see the file."""
    place = tmp_path / "place"
    place.mkdir()
    let_everybody_reach(place)
    place.chmod(0o1777)

    def use() -> tuple[Any, ...]:
        os.umask(0o022)
        with open_ledger(place) as ledger:
            put(ledger, "d/a", b"1")
            (place / "files" / HOUSEHOLD / "d").chmod(0o555)
            with unit(ledger) as uow:
                uow["files"].delete("d/a")
            seen = uow.in_doubt, list(shown(place)), ledger["files"].get("d/a", space_id=SPACE)
            (place / "files" / HOUSEHOLD / "d").chmod(0o755)
            return (*seen, len(ledger.recover().rolled_forward), list(shown(place)))

    assert without_rights(use) == (("files",), ["d/a"], None, 1, [])


def test_two_ledgers_cannot_have_one_directory(tmp_path: Path) -> None:
    """The second is refused: its sweep would remove what the first one has staged."""
    with open_ledger(tmp_path) as ledger:
        put(ledger, "a", b"1")
        with pytest.raises(StoreError, match="another ledger or store"):
            Ledger.open(tmp_path / "second.db", stores=[FileStore("files", "files")])
        put(ledger, "b", b"2")
    assert shown(tmp_path) == {"a": b"1", "b": b"2"}
