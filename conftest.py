"""Runs every example in the documents and in docstrings as a test; `tests.docs.examples` says how they are written."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

from sybil import Sybil
from sybil.parsers.markdown import SkipParser
from sybil.parsers.rest import DocTestParser

from tests.docs.examples import Docstrings, console_blocks, python_blocks, set_up, tear_down

pytest_collect_file = Sybil(
    parsers=[
        python_blocks,
        console_blocks,
        SkipParser(),
        DocTestParser(optionflags=ELLIPSIS | NORMALIZE_WHITESPACE),
    ],
    patterns=["README.md", "ARCHITECTURE.md", "docs/*.md", "docs/*/*.md", "memoryos_uow/*.py", "memoryos_uow/*/*.py"],
    document_types={".py": Docstrings},
    setup=set_up,
    teardown=tear_down,
).pytest()
