"""The pages hold together: links lead somewhere, examples are run, and what is said of the code's structure is true."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from memoryos_uow import _protocol, _schema
from tests.docs.examples import PACKAGE
from tests.docs.pages import DOCS, ROOT, all_pages, code, rows, tables

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURE = ROOT / "ARCHITECTURE.md"
FENCES = {"python", "output", "console", "text", "sh", ""}
"""Marks of blocks: the first three are run and compared, the others hold nothing that could be run here."""

PAGES = all_pages()


def page_name(page: Path) -> str:
    """The name of a page in the report."""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file, and where it goes on with # a heading in it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / unquote(path)).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_is_of_a_known_sort(page: Path) -> None:
    """No block is marked in a way that would keep it from being run unnoticed, such as py or bash."""
    fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[::2]) <= FENCES
    assert set(fences[1::2]) <= {""}


def test_index_lists_every_page() -> None:
    """From the index each page below docs/ can be reached in one step, the decisions in two."""
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+)", text)}
    pages = {page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"}
    assert pages - linked - {DOCS / "index.md"} == set()


def test_architecture_lists_every_module_once() -> None:
    """The table of floors has each module and package of the library, and no other."""
    listed = [code(row[1])[0] for row in rows(ARCHITECTURE, "The floors")]
    there = {path.stem for path in PACKAGE.glob("*.py")}
    there |= {path.name for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))}
    assert sorted(listed) == sorted(there)


def test_architecture_shows_the_protocol_as_it_is() -> None:
    """The table of transitions is the protocol's own."""
    shown = {
        (code(state)[0], code(event)[0]): (code(after)[0], code(effects))
        for state, event, after, effects in rows(ARCHITECTURE, "The life of a unit")
    }
    assert shown == {
        (state.value, event.name): (after.value, [effect.name for effect in effects])
        for (state, event), (after, effects) in _protocol.transitions().items()
    }


def test_architecture_lists_every_table() -> None:
    """The table of tables has each one that the ledger's schema files make."""
    files = (_schema.BASE, _schema.UP, _schema.LEDGER, _schema.STORES, _schema.SAVED)
    made = {one.name for name in files for one in _schema.created(name) if one.kind != "index"}
    assert {code(row[0])[0] for row in rows(ARCHITECTURE, "The ledger's tables")} == made


def test_decisions_are_numbered_without_gaps_and_have_their_four_parts() -> None:
    """Each record has a number of its own, and says context, choice, what else was possible, and costs."""
    records = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {path.name[:4]} ")
        parts = re.findall(r"^\*\*(.+?)\*\*:", text, re.MULTILINE)
        assert [part for part in parts if part != "Evidence"] == ["Context", "Choice", "Instead of", "Costs"]


def test_tables_are_not_ragged() -> None:
    """Each row of a table has as many cells as its heading."""
    for page in PAGES:
        tables(page.read_text(encoding="utf-8"))


def test_the_tests_in_the_how_to_on_testing_pass(tmp_path: Path) -> None:
    """The page on testing shows whole tests: put together into one file they pass."""
    text = (DOCS / "how-to" / "test-your-code.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_diary.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PACKAGE.parent), "PATH": ""},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{text.count('def test_')} passed" in done.stdout
