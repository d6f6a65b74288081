"""Two questions answered from what was written: one by words, one by likeness."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow._demo._describe import words
from memoryos_uow._demo._ingest import DOCUMENTS, VECTORS
from memoryos_uow._names import Band
from memoryos_uow._records import Hit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow._demo._files import TextFile
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


def ask(ledger: Ledger, files: Sequence[TextFile]) -> Answers:
    """Search the space that has most of `files`; where something is missing, less is found.

    Files of band AMBER are found, but neither named nor quoted: their record ids may not stand in a report.
    """
    space_id = Counter(file.space_id for file in files).most_common(1)[0][0]
    bands = {file.key: file.band for file in files if file.space_id == space_id}
    green = [key for key, band in bands.items() if band == Band.GREEN]
    query, found = _by_words(ledger, space_id, green)
    like = next((hit.key for hit in found if hit.key in green), next(iter(green or bands)))
    vector = ledger[VECTORS].get(like, space_id=space_id)
    nearest = ledger[VECTORS].search(vector, k=HITS + 1, space_id=space_id) if vector else []
    others = [hit for hit in nearest if hit.key != like][:HITS]

    def nameable(key: str) -> str:
        return key if key in green else f"a file of band {bands.get(key, Band.AMBER)}"

    return Answers(
        space_id,
        query,
        by_words=[Hit(nameable(key), score) for key, score in found],
        like=nameable(like),
        by_likeness=[Hit(nameable(key), score) for key, score in others],
    )


def _by_words(ledger: Ledger, space_id: str, green: list[str]) -> tuple[str, list[Hit]]:
    """Return a query that finds something here, and what it finds."""
    for query in _QUERIES:
        hits = ledger[DOCUMENTS].search(query, k=HITS, space_id=space_id)
        if len(hits) == HITS:
            return query, hits
    for key in green:  # another sort of text: take the words of one of its documents
        document = ledger[DOCUMENTS].get(key, {"about": ""}, space_id=space_id)
        telling = [word for word in _WHOLE_WORD.findall(document["about"]) if words(word)]
        if telling:
            query = " ".join(telling[:2])
            return query, ledger[DOCUMENTS].search(query, k=HITS, space_id=space_id)
    return "", []
