"""Reads the documents: their sections and tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
REFERENCE: Final = DOCS / "reference"

_CODE: Final = re.compile(r"`([^`]+)`")


def all_pages() -> list[Path]:
    """Return every page: the ones at the root, and all below docs/."""
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def section(page: Path, heading: str) -> str:
    """Return the text below `heading`, up to the next heading of its level or above."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) `?{re.escape(heading)}`?$", text, re.MULTILINE)
    assert found, f"{page.name} has no section {heading}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables in `text`: rows of cells, without the heading row."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert all(len(row) == len(rows[0]) for row in rows), f"a ragged table: {rows[0]}"
        found.append(rows[2:])
    return found


def rows(page: Path, heading: str) -> list[list[str]]:
    """Return the rows of the first table in a section."""
    return tables(section(page, heading))[0]


def code(text: str) -> list[str]:
    """Return what stands in `text` as code."""
    return _CODE.findall(text)


def numbers(text: str) -> list[int]:
    """Return the whole numbers in `text`, written with or without thousands separators."""
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", text)]
