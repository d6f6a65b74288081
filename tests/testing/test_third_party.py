"""A store of another package: registered by its entry point, found again by whoever has only the ledger."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger, StoreUnavailable, UsageError
from memoryos_uow.abc import Capability
from memoryos_uow.stores import DocumentStore
from memoryos_uow.stores._kinds import ENTRY_POINTS
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.leftovers import EFFECTS, at_effect
from tests.testing import jsonl
from tests.testing.faulty import ClaimsTooMuch
from tests.testing.jsonl import JsonLines, newest
from tests.units import SPACE, environment, rows, run

if TYPE_CHECKING:
    from memoryos_uow.abc import Store

IMPORTABLE = environment()["PYTHONPATH"]
LOOK = """
    import sys
    from memoryos_uow import Ledger
    with Ledger.open(sys.argv[1], stores="recorded") as ledger:
        ledger.recover()
        print(type(ledger["feed"]._store).__module__, ledger["feed"].get("k", space_id=sys.argv[2]))
"""


def installed(directory: Path, *, module: str | None = None, entry_point: str = "recorded") -> Path:
    """Install the package with the store into `directory`, as pip would; return where."""
    site = directory / "site"
    (site / "jsonl_store").mkdir(parents=True)
    source = Path(jsonl.__file__).read_text(encoding="utf-8") if module is None else module
    (site / "jsonl_store" / "__init__.py").write_text(source, encoding="utf-8")
    info = site / "jsonl_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jsonl-store\nVersion: 1.0\n", encoding="utf-8")
    announced = f"[{ENTRY_POINTS}]\njson lines = jsonl_store:{entry_point}\n"
    (info / "entry_points.txt").write_text(announced, encoding="utf-8")
    return site


def written(directory: Path) -> Path:
    """A ledger with one unit in documents and in the lines; return its path."""
    stores: list[Store] = [DocumentStore("notes"), JsonLines("feed", "feed.jsonl")]
    ledger = Ledger.open(directory / "memory.db", stores=stores)
    with ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("k", 1)
        uow["feed"].create("k", "milk is out")
    return directory / "memory.db"


def test_a_recorded_store_is_made_by_its_package(tmp_path: Path) -> None:
    """Another process that has the package and the ledger, and nothing else, reads and recovers."""
    path, site = written(tmp_path), installed(tmp_path)
    said = run(LOOK, path, SPACE, PYTHONPATH=os.pathsep.join([str(site), IMPORTABLE]))
    assert said == "jsonl_store milk is out\n"


def test_another_process_publishes_for_it(tmp_path: Path) -> None:
    """What a process decided before it was killed is published by one that knows the store from the ledger only."""
    path, site = written(tmp_path), installed(tmp_path)

    def die() -> None:
        with Ledger.open(path, stores=[JsonLines("feed", "feed.jsonl")]) as ledger:
            at_effect(ledger, EFFECTS.index("PUBLISH") - 2, kill_own_process, after=False)  # nothing to prepare
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["feed"].update("k", "milk is in")

    assert fork(die).wait() == (signal.SIGKILL, "")
    assert newest(tmp_path / "feed.jsonl", SPACE, "k") == b"milk is out"
    run(LOOK, path, SPACE, PYTHONPATH=os.pathsep.join([str(site), IMPORTABLE]))
    assert newest(tmp_path / "feed.jsonl", SPACE, "k") == b"milk is in"
    assert len((tmp_path / "feed.jsonl").read_text().splitlines()) == 2
    assert rows(path, "SELECT count(*) FROM uow_coordination") == [(0,)]


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    """The store is left out; everything else can be read and written."""
    with Ledger.open(written(tmp_path), stores="recorded") as ledger:
        assert ledger["notes"].get("k", space_id=SPACE) == 1
        with pytest.raises(UsageError, match="no store called 'feed'"):
            ledger["feed"].get("k", space_id=SPACE)


@pytest.mark.parametrize(
    ("module", "entry_point"),
    [
        ("raise ImportError('it needs another package')", "recorded"),
        ("", "recorded"),
        ("recorded = None", "recorded"),
        ("def recorded(name, config): return config['no such thing']", "recorded"),
        (
            "from memoryos_uow.stores import DocumentStore\nrecorded = lambda name, config: DocumentStore('x')",
            "recorded",
        ),
    ],
    ids=["import fails", "no such name", "not callable", "raises", "another store"],
)
def test_a_package_that_is_broken(
    tmp_path: Path, module: str, entry_point: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps nobody from opening the ledger: its store is left out, and the log says so."""
    path = written(tmp_path)
    monkeypatch.syspath_prepend(str(installed(tmp_path, module=module, entry_point=entry_point)))
    monkeypatch.delitem(__import__("sys").modules, "jsonl_store", raising=False)
    with Ledger.open(path, stores="recorded") as ledger:
        assert ledger["notes"].get("k", space_id=SPACE) == 1
    assert "store_left_out" in caplog.text
    assert "feed" in caplog.text


def test_a_store_that_lies_about_its_capability(tmp_path: Path) -> None:
    """It is refused when the ledger is opened, with what it lacks, and no file is made."""
    with pytest.raises(UsageError, match="claims to be redo, but lacks Publisher"):
        Ledger.open(tmp_path / "memory.db", stores=[ClaimsTooMuch()])

    class Boasts(DocumentStore):
        capability = "everything"  # type: ignore[assignment]

    with pytest.raises(UsageError, match="a known capability"):
        Ledger.open(tmp_path / "memory.db", stores=[Boasts("x")])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("capability", [Capability.CONTENT_ADDRESSED, Capability.STAGED])
def test_a_store_that_claims_to_prepare(tmp_path: Path, capability: Capability) -> None:
    """Without the methods for it, it is refused as well."""

    class Boasts(DocumentStore):
        pass

    Boasts.capability = capability
    with pytest.raises(UsageError, match="lacks OutsideStore"):
        Ledger.open(tmp_path / "memory.db", stores=[Boasts("x")])


def test_a_store_whose_publishing_fails_for_ever(tmp_path: Path) -> None:
    """Every unit is committed and seen, listed in doubt, and nothing else waits for it."""
    (tmp_path / "feed.jsonl").mkdir()  # a directory is never a file to append to
    with Ledger.open(
        tmp_path / "memory.db", stores=[DocumentStore("notes"), JsonLines("feed", "feed.jsonl")]
    ) as ledger:
        ids = []
        for number in range(3):
            with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].upsert("k", number)
                uow["feed"].upsert("k", str(number))
            ids.append(uow.uow_id)
            assert (uow.status, uow.in_doubt) == ("committed", ("feed",))
            assert ledger["feed"].get("k", space_id=SPACE) == str(number)
        assert ledger.recover().in_doubt == tuple(ids)
        record = ledger.get(ids[0])
        assert (record.status, record.failed_store, record.error_type) == (
            "committed",
            "feed",
            StoreUnavailable.__name__,
        )
        shutil.rmtree(tmp_path / "feed.jsonl")
        assert ledger.recover().rolled_forward == tuple(ids)
    assert [line.count('"value"') for line in (tmp_path / "feed.jsonl").read_text().splitlines()] == [1, 1, 1]
