"""The demo: it runs, it leaves what was there alone, and its proof fails when something is missing."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow._demo import _kills, _tell, _tour, _worker
from memoryos_uow._demo._describe import DIMENSIONS, describe
from memoryos_uow._demo._files import folder, standard_library
from memoryos_uow._demo._kills import KILLS, Pace, kill_and_go_on
from memoryos_uow._demo._place import choose_place
from memoryos_uow._demo._proof import prove
from memoryos_uow._demo._screen import Screen, progress
from memoryos_uow._demo._summary import Spread, Summary, nearest_rank, spread
from memoryos_uow._names import Status
from memoryos_uow.cli._demo import program_name
from memoryos_uow.errors import LedgerError, UsageError
from tests.cli.tools import SOURCE, environment, files_of, invoke, run
from tests.test_terminal import Stream

if TYPE_CHECKING:
    from memoryos_uow._demo._proof import Proof

RUN = Path("memoryos-demo")
SOME_GREEN_RECORD = "SELECT record_id FROM uow_writes JOIN unit_of_work USING (uow_id) WHERE band = 'GREEN' LIMIT 1"
UNCOMMIT = """
UPDATE unit_of_work SET status = 'failed', committed_ts = NULL, error_type = 'x'
WHERE uow_id = (SELECT uow_id FROM uow_writes WHERE record_id = {key} LIMIT 1)
"""
STRAY = """
INSERT INTO uow_vectors (store, space_id, key, version, value)
SELECT store, space_id, 'stray', 1, value FROM uow_vectors WHERE key = {key}
"""


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a small demo has run, on a Python that has no numpy."""
    here = tmp_path_factory.mktemp("demo")
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "numpy.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(blocked), str(SOURCE)])
    done = run("demo", "--units", "12", "--seed", "7", cwd=here, env={"PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    (here / "said.txt").write_text(done.stdout, encoding="utf-8")
    return here


@pytest.fixture
def ledger(where: Path, tmp_path: Path) -> Path:
    """A copy of the ledger that the small demo left, to be damaged."""
    shutil.copytree(where / RUN / "run-1", tmp_path / "run")
    return tmp_path / "run" / "ledger.db"


def text_folder(path: Path) -> Path:
    """A folder of text files with everything that text files can be."""
    (path / "sub" / "日本").mkdir(parents=True)
    (path / ".hidden").mkdir()
    contents = {
        "plain.txt": b"Some words about milk.\n\nAnd more.\n",
        "latin.txt": b"caf\xe9 \x00 nul",
        "empty.md": b"",
        "sub/surrogate.py": b'"""\\ud800 in a docstring"""\n',
        "sub/broken.py": b"def (:\n",
        "sub/code.py": b'"""Count."""\nclass A:\n    async def f(self): ...\n',
        "sub/日本/note.md": b"# Note\n",
        "sub/large.log": b"a line of a log\n" * 5000,
        "sub/other.bin": b"not text",
        ".hidden/secret.txt": b"hidden",
        ".secret.txt": b"hidden",
        "_private.txt": b"for few eyes",
    }
    for name, content in contents.items():
        (path / name).write_bytes(content)
    os.symlink(path / "plain.txt", path / "link.txt")  # noqa: PTH211
    return path


def test_says_what_it_proved(where: Path) -> None:
    """The output shows the kills, the counts, two answers, the times, the failures and three commands."""
    said = (where / "said.txt").read_text(encoding="utf-8")
    assert "12 of 12 committed units are whole in all four stores, 0 are there in part" in said
    assert said.count(" commit of ") + said.count(" block of ") >= 1
    for words in (
        "--seed 7",
        "0 of them are lost",
        "ledger.validate(): 0 violations",
        "ledger.verify(): 12 receipts recomputed, 48 records as their receipts say, 0 problems",
        "likeness",
        "12 committed, 1 rolled back,",
        "RecordExists 1",
        "TimeoutError 1",
        "whole unit",
        "p50    p95    p99",
        "Every unit is there as a whole or not at all.",
    ):
        assert " ".join(words.split()) in " ".join(said.split())
    assert "WRONG" not in said
    commands = [line.split() for line in said.splitlines() if " memoryos-demo/run-1/ledger.db" in line][-3:]
    assert [words[3] for words in commands] == ["list", "show", "verify"]


def test_the_commands_it_names_work(where: Path) -> None:
    """Each of the three commands at the end runs as it is printed."""
    said = (where / "said.txt").read_text(encoding="utf-8")
    for line in said.splitlines()[-3:]:
        python, *arguments = line.split()
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *arguments], cwd=where, env=environment(), capture_output=True, check=False
        )
        assert done.returncode == 0
        assert done.stdout


def test_a_second_run_leaves_the_first_alone(where: Path) -> None:
    """A second run makes a ledger of its own and touches no file that was there; --json says the same in facts."""
    before = files_of(where)
    done = run("demo", "--units", "4", "--json", cwd=where)
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["ok"]
    assert (where / found["ledger"]).is_file()
    assert found["proof"]["units"] == found["proof"]["whole"] == found["files"] == 4
    assert found["summary"]["writes"] == 16
    after = files_of(where)
    assert {name: after[name] for name in before} == before


def test_the_folder_stays_out_of_repositories(where: Path) -> None:
    """The demo's folder tells git to ignore all of it."""
    assert (where / RUN / ".gitignore").read_text() == "*\n"


def test_any_folder_of_text_will_do(tmp_path: Path) -> None:
    """Every text file of a folder is written, whatever its bytes; hidden ones, links and other files are not."""
    source = text_folder(tmp_path / "texts")
    before = files_of(source)
    done = run("demo", "--source", source, "--ledger", tmp_path / "new.db", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["files"] == 9
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        keys = {key for (key,) in connection.execute("SELECT key FROM uow_documents")}
        files = connection.execute("SELECT count(*) FROM uow_blobs WHERE data IS NULL").fetchone()[0]
        bands = dict(connection.execute("SELECT record_id, band FROM uow_writes JOIN unit_of_work USING (uow_id)"))
    assert {"sub/日本/note.md", "empty.md", "latin.txt", "sub/surrogate.py", "sub/broken.py"} <= keys
    assert not [key for key in keys if "hidden" in key or "secret" in key or "link" in key or "bin" in key]
    assert files == 1
    assert (bands["_private.txt"], bands["plain.txt"]) == ("AMBER", "GREEN")
    assert files_of(source) == before


def test_refuses_what_it_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no text in it, and a place that is taken are wrong usage; nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    taken = tmp_path / "taken.db"
    taken.write_bytes(b"somebody's own")
    for options, words in (
        (("--source", tmp_path / "nowhere"), "does not exist"),
        (("--source", taken), "is not a directory"),
        (("--source", tmp_path / "empty"), "no text files"),
        (("--ledger", taken), "something at"),
        (("--ledger", tmp_path / "nowhere" / "x.db"), "does not exist"),
        (("--units", "1"), "Invalid value"),
    ):
        result = invoke("demo", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
    assert files_of(tmp_path) == {"taken.db": b"somebody's own"}


def test_the_proof_holds_for_what_the_demo_wrote(ledger: Path) -> None:
    """All 12 units have their four records, all of them searchable, in both kinds of blob."""
    proof = prove(ledger)
    assert proof.holds
    assert (proof.units, proof.whole, proof.searchable) == (12, 12, 12)
    assert set(proof.records.values()) == set(proof.matching.values()) == {12}


def sql(ledger: Path, statement: str) -> None:
    """Change the ledger's file behind the library's back."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        assert connection.execute(statement).rowcount == 1


def spoil_blob(ledger: Path) -> None:
    """Move a blob out into a file of other content."""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        key, space_id, digest = connection.execute("SELECT id, space_id, digest FROM uow_blobs LIMIT 1").fetchone()
        connection.execute("UPDATE uow_blobs SET data = NULL WHERE id = ?", (key,))
    path = ledger.with_name("ledger-sources") / hashlib.sha256(space_id.encode()).hexdigest()[:16] / digest[:2] / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"something else")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM uow_documents WHERE key = {key}", "its record {shown} in store pages is missing"),
        ("DELETE FROM uow_vectors WHERE key = {key}", "its record {shown} in store vectors is missing"),
        ("DELETE FROM uow_blobs WHERE key = {key}", "its record {shown} in store sources is missing"),
        ("DELETE FROM modules WHERE path = {key}", "its record {shown} in store modules is missing"),
        ("UPDATE uow_documents SET value = '{{}}' WHERE key = {key}", "in store pages is not what was written"),
        ("UPDATE uow_vectors SET value = x'00' WHERE key = {key}", "in store vectors is not what was written"),
        ("UPDATE modules SET lines = lines + 1 WHERE path = {key}", "in store modules is not what was written"),
        ("UPDATE uow_blobs SET data = NULL WHERE key = {key}", "in store sources has lost its file"),
        (
            "DELETE FROM uow_writes WHERE store_name = 'pages' AND record_id = {key}",
            "store pages: 1 record written by no committed unit",
        ),
        (UNCOMMIT, "but its outcome is failed"),
        (STRAY, "store vectors: 1 record written by no committed unit"),
    ],
)
def test_the_proof_fails_when_half_of_a_unit_is_gone(ledger: Path, damage: str, words: str) -> None:
    """Whatever is taken away from, changed in or added to one store by hand, the proof names it."""
    with closing(sqlite3.connect(ledger)) as connection:
        key = connection.execute(SOME_GREEN_RECORD).fetchone()[0]
    sql(ledger, damage.format(key=f"'{key}'"))
    proof = prove(ledger)
    assert not proof.holds
    assert any(words.format(shown=repr(key)) in problem for problem in proof.problems), proof.problems


def test_the_proof_notices_another_content_in_a_file(ledger: Path) -> None:
    """A large blob whose file holds other bytes is named."""
    spoil_blob(ledger)
    proof = prove(ledger)
    assert not proof.holds
    assert any("in store sources is not what was written" in problem for problem in proof.problems)


def test_the_proof_counts_files_that_nobody_refers_to(ledger: Path) -> None:
    """A file left by a killed unit is counted and no problem."""
    stray = ledger.with_name("ledger-sources") / ("0" * 16)
    stray.mkdir(parents=True, exist_ok=True)
    (stray / "left").write_bytes(b"half")
    proof = prove(ledger)
    assert (proof.holds, proof.leftovers) == (True, 1)


def test_the_proof_names_no_record_of_amber_units(tmp_path: Path) -> None:
    """What is wrong with an AMBER unit is said without its record's name."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "_private.txt").write_text("for few eyes")
    ledger = tmp_path / "new.db"
    assert run("demo", "--source", tmp_path / "texts", "--ledger", ledger).returncode == 0
    sql(ledger, "DELETE FROM uow_documents")
    (problem, _) = prove(ledger).problems
    assert "in store pages is missing" in problem
    assert "_private" not in problem


@pytest.mark.parametrize("seed", [1, 2])
def test_kills_leave_no_unit_in_part(tmp_path: Path, seed: int) -> None:
    """Children are killed as often as asked, no unit is there in part, nothing reported is lost, all files get in."""
    ledger = tmp_path / "new.db"
    told: list[_kills.Kill] = []
    files = standard_library(12).files
    kills = kill_and_go_on(ledger, files, pace=Pace(0.005, 0.003), seed=seed, told=told.append)
    assert kills.sound
    assert kills.killed == told
    assert 1 <= len(told) <= KILLS
    proof = prove(ledger)
    assert (proof.holds, proof.units) == (True, len(files))


def test_a_kill_that_leaves_a_part_is_not_sound() -> None:
    """Three of four writes, a loss after the report, and a trace from inside the block all count as wrong."""
    file = standard_library(4).files[0]
    sound = {
        ("block", 0): True,
        ("block", 4): False,
        ("commit", 0): True,
        ("commit", 3): False,
        ("commit", 4): True,
        ("after", 0): False,
        ("after", 4): True,
    }
    for (moment, writes), expected in sound.items():
        assert _kills.Kill(file, moment, 1, writes).sound is expected
    assert not _kills.Kills(0, lost=[file]).sound


def test_a_child_that_fails_by_itself_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends without having been killed is reported with its last words, not taken for a kill."""
    monkeypatch.setattr(_kills, "_CHILD", "raise SystemExit('no such thing')")
    with pytest.raises(LedgerError, match="no such thing"):
        kill_and_go_on(tmp_path / "x.db", standard_library(4).files, pace=Pace(0, 0), seed=1, told=lambda _: None)


def test_the_same_files_every_time(tmp_path: Path) -> None:
    """The choice of files depends on the folder alone, spreads over all of it and keeps to the limit."""
    source = text_folder(tmp_path / "texts")
    assert folder(source, 100) == folder(source, 100)
    assert len(folder(source, 4).files) == 4
    assert set(folder(source, 4).files) < set(folder(source, 100).files)
    chosen = standard_library(40)
    assert len(chosen.files) == 40
    assert len({file.space_id for file in chosen.files}) > 3


def test_a_library_without_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose standard library lies in a zip file is told of --source."""
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(UsageError, match="--source"):
        standard_library(4)


def test_descriptions_are_the_same_in_every_process() -> None:
    """The vector of a text does not depend on Python's random string hash."""
    code = "from memoryos_uow._demo._describe import describe; print(describe('a.txt', b'milk is out again').vector)"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment(PYTHONHASHSEED=seed), capture_output=True, check=True
        ).stdout
        for seed in ("0", "1")
    }
    assert len(seen) == 1


def test_descriptions() -> None:
    """Docstring, counts and first lines are those of the file; a text without words still has a direction."""
    described = describe(
        "pkg/mod.py", b'"""Count things."""\n\nclass A:\n    def f(self): pass\n    async def g(self): pass\n'
    )
    assert described.document == {
        "path": "pkg/mod.py",
        "about": "Count things.",
        "head": '"""Count things."""\n\nclass A:\n    def f(self): pass\n    async def g(self): pass',
    }
    assert described.row == {"lines": 5, "bytes": 80, "functions": 2, "classes": 1}
    note = describe("n.md", b"\xef\xbb\xbf# Title\nof a note\n\nmore")
    assert (note.document["about"], note.row["functions"]) == ("Title of a note", None)
    empty = describe("1", b"")
    assert len(empty.vector) == DIMENSIONS
    assert any(empty.vector)


def test_percentiles_are_exact() -> None:
    """Nearest rank: the smallest value that so many percent do not exceed; None of nothing."""
    assert [nearest_rank(range(1, 101), percent) for percent in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert [nearest_rank([5, 7], percent) for percent in (50, 51)] == [5, 7]
    assert nearest_rank([], 50) is None
    assert spread([3, None, 1]) == Spread(1, 3, 3)
    assert spread([None]) == Spread(None, None, None)


def test_where_nothing_can_be_written_it_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the demo's folder cannot be made here, a temporary one is used; what is in the way stays."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / RUN).write_text("a file is in the way")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = choose_place(None)
    assert place.parent.is_dir()
    assert place.parent.parent == tmp_path
    assert files_of(tmp_path / "here") == {str(RUN): b"a file is in the way"}


def test_the_child_says_where_it_is_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A child tells each step of each file; the next one passes over what the ledger has."""
    files = standard_library(4).files
    job = {"ledger": str(tmp_path / "new.db"), "correlation_id": "c"}
    for part, expected in ((files[:1], [0]), (files[:3], [1, 2]), (files, [3])):
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({**job, "files": part})))
        _worker.main()
        steps = [f"{step} {number}" for number in expected for step in ("begin", "commit", "done")]
        assert capsys.readouterr().out.splitlines() == steps


def test_what_does_not_hold_is_said_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When half of each unit is gone by the time of the proof, the demo says so and ends with exit code 1."""

    def damage_and_prove(ledger: Path) -> Proof:
        stray = ledger.with_name("ledger-sources") / "left"
        stray.write_bytes(b"half")
        with closing(sqlite3.connect(ledger)) as connection, connection:
            connection.execute("DELETE FROM uow_documents")
        return prove(ledger)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_tour, "prove", damage_and_prove)
    result = invoke("demo", "--units", "16", "--seed", "3")
    assert result.exit_code == 1
    for words in (
        "WRONG  0 of 16 committed units are whole in all four stores, 16 are there in part",
        "in store pages is missing",
        "and 7 more of the kind",
        " of no unit, written for a commit",
        "Something does not hold: see above.",
    ):
        assert words in result.stdout


def test_a_unit_whose_process_died_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a kill left a unit that recovery had to end, the summary says what its error type means."""
    screen = Screen(silent=False)
    told: list[str] = []
    monkeypatch.setattr(screen, "text", told.append)
    nothing = Spread(None, None, None)
    _tell.summary(screen, Summary(dict.fromkeys(Status, 0), {}, 0, 0, nothing, nothing, 0, {"OwnerDied": 1}), seconds=1)
    assert any(line.startswith("(OwnerDied: ") for line in told)


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on stderr grows on a terminal; in a pipe there is none."""
    for terminal in (True, False):
        stream = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        with progress(2, "writing") as step:
            step()
            step()
        assert ("2/2" in "".join(stream.written)) is terminal


@pytest.mark.parametrize(
    ("called", "on_path", "expected"),
    [
        ("/somewhere/memoryos_uow/__main__.py", None, "python -m memoryos_uow"),
        (".venv/bin/memoryos-uow", None, ".venv/bin/memoryos-uow"),
        (".venv/bin/memoryos-uow", "/usr/bin/memoryos-uow", "memoryos-uow"),
    ],
)
def test_commands_are_named_as_they_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, called: str, on_path: str | None, expected: str
) -> None:
    """What the demo says to type is how it was called itself, where the plain name would not be found."""
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(shutil, "which", lambda _: on_path)
    assert program_name() == expected


def test_the_whole_demo_inside_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run in the same place takes the next number, and both answers come from what was written."""
    monkeypatch.chdir(tmp_path)
    source = text_folder(tmp_path / "texts")
    for number in (1, 2):
        result = invoke("demo", "--source", source, "--seed", "5")
        assert result.exit_code == 0
        assert f"memoryos-demo/run-{number}/ledger.db" in result.stdout
        assert 'words     "Count" in space files:sub: sub/code.py (' in result.stdout
        assert "likeness  sub/code.py in space files:sub: " in result.stdout


def test_amber_files_are_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's report names no record of a unit of band AMBER, also where it is killed on it or finds it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / "texts" / f"_private{number}.txt").write_text("for few eyes")
    result = invoke("demo", "--source", tmp_path / "texts", "--seed", "5")
    assert result.exit_code == 0
    assert "likeness  a file of band AMBER in space files: a file of band AMBER (1.00)" in result.stdout
    assert "_private" not in result.stdout
    assert "eyes" not in result.stdout
