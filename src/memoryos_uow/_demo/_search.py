"""Two questions answered from what was written: one by words, one by likeness."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow._demo._describe import words
from memoryos_uow._demo._ingest import DOCUMENTS, VECTORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow._demo._files import TextFile
    from memoryos_uow._records import Hit
    from memoryos_uow.ledger import Ledger

HITS: Final = 3
_QUERIES: Final = ("compression", "client", "command line", "parse")
_WHOLE_WORD: Final = re.compile(r"\b[^\W\d_]{3,}\b")


@dataclass(frozen=True)
class Answers:
    """What was asked in one space, and the best hits."""

    space_id: str
    query: str
    by_words: list[Hit]
    like: str
    by_likeness: list[Hit]
    """Without the record that was asked about, which is the nearest to itself."""
    itself: float
    """How like itself the search found that record: 1, but for rounding."""


def ask(ledger: Ledger, files: Sequence[TextFile]) -> Answers:
    """Search the space that has most of `files`."""
    space_id = Counter(file.space_id for file in files).most_common(1)[0][0]
    keys = [file.key for file in files if file.space_id == space_id]
    query, found = _by_words(ledger, space_id, keys)
    like = found[0].key if found else keys[0]
    vector = ledger[VECTORS].get(like, space_id=space_id)
    nearest = ledger[VECTORS].search(vector, k=HITS + 1, space_id=space_id)
    itself = next((hit.score for hit in nearest if hit.key == like), 0.0)
    others = [hit for hit in nearest if hit.key != like][:HITS]
    return Answers(space_id, query, found, like, others, itself)


def _by_words(ledger: Ledger, space_id: str, keys: list[str]) -> tuple[str, list[Hit]]:
    """Return a query that finds something here, and what it finds."""
    for query in _QUERIES:
        hits = ledger[DOCUMENTS].search(query, k=HITS, space_id=space_id)
        if len(hits) == HITS:
            return query, hits
    for key in keys:  # another sort of text: take the words of one of its documents
        document = ledger[DOCUMENTS].get(key, space_id=space_id)
        telling = [word for word in _WHOLE_WORD.findall(document["about"]) if words(word)]
        if telling:
            query = " ".join(telling[:2])
            return query, ledger[DOCUMENTS].search(query, k=HITS, space_id=space_id)
    return "", []
