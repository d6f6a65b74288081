"""The page on performance has a place for every table, and tables are put where they belong."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.__main__ import TABLES, put_in

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"


def test_page_has_a_place_for_each_table() -> None:
    """What `python -m benchmarks --write` prints finds its place in docs/performance.md, and nothing else is marked."""
    text = PAGE.read_text(encoding="utf-8")
    assert sorted(re.findall(r"<!-- table: ([\w-]+) -->\n", text)) == sorted(TABLES)
    assert text.count("<!-- end -->") == len(TABLES)


def test_a_table_replaces_only_its_own_place() -> None:
    """Putting in one table leaves the others and the text between them."""
    page = "a\n<!-- table: one -->\n<!-- end -->\nb\n<!-- table: two -->\nold\n<!-- end -->\n"
    printed = "## Title\n\nmachine\n\n### Table\n\n| 1 |\n\n"
    put = "\n\nmachine\n\n### Table\n\n| 1 |\n\n<!-- end -->"
    assert put_in(page, "one", printed) == page.replace("one -->\n<!-- end -->", f"one -->{put}")
    assert put_in(page, "two", printed) == page.replace("two -->\nold\n<!-- end -->", f"two -->{put}")
