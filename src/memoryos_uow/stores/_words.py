"""Full text on PostgreSQL: the words of a document, beside it in its own row (``uow_documents.words``, with an index).

Words are what SQLite's index takes for words: runs of letters and digits, without regard to case and diacritics. They
are found here, not by the database, whose parser and idea of a letter depend on how it was set up.

Promises

- A row is written with its words in one statement, so the index is in step with the documents whatever becomes of a
unit, and removing a row leaves nothing in it.
- A query finds documents of its own store and space only; it is words, never syntax.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._records import Hit
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._fulltext import check_query, searched_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow.abc import Reader, Transaction

# Runs of letters, digits and characters of private use, as FTS5's unicode61 has it.
_WORD: Final = re.compile(r"(?:[^\W_]|[\uE000-\uF8FF\U000F0000-\U000FFFFD\U00100000-\U0010FFFD])+")
_DIACRITICS: Final = dict.fromkeys(range(0x0300, 0x0370))
_FINAL_SIGMA: Final = {0x03C2: 0x03C3}

# https://www.postgresql.org/docs/current/textsearch-limitations.html
_WORD_CHARACTERS_MAX: Final = 500  # a word has fewer than 2,048 bytes
_POSITION_MAX: Final = 16_383
_PLACES_MAX: Final = 255
_BYTES_MAX: Final = 900_000  # of at most 1,048,575, with what goes with each word

_GAP: Final = 100
"""How far apart the words of two fields are, so that no phrase spans them."""
_RANK: Final = 1 | 32
"""How ts_rank takes account of a document's length: divided by 1 plus its logarithm; and scaled into 0 to 1."""

_SEARCH: Final = (
    "SELECT key, CAST(ts_rank(d.words, q.words, CAST(? AS INTEGER)) AS DOUBLE PRECISION) AS score"
    " FROM uow_documents AS d, (SELECT CAST(? AS TSQUERY)) AS q(words)"
    " WHERE d.words @@ q.words AND d.store = ? AND d.space_id = ? ORDER BY score DESC, key LIMIT ?"
)
_FIRST: Final = "SELECT words IS NULL FROM uow_documents WHERE store = ? ORDER BY space_id, key LIMIT 1"
_DOCUMENTS: Final = "SELECT space_id, key, value FROM uow_documents WHERE store = ?"
_FILL: Final = (
    "UPDATE uow_documents AS d SET words = u.words"
    " FROM unnest(CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TSVECTOR[])) AS u(space_id, key, words)"
    " WHERE d.store = ? AND d.space_id = u.space_id AND d.key = u.key"
)
_FILLED_AT_ONCE: Final = 500


class WordIndex:
    """The words of the documents of the store called `store`, in their top-level `fields`."""

    def __init__(self, store: str, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._store = store

    def refuse_unfit(self, reader: Reader) -> None:
        """Refuse nothing: every PostgreSQL that the ledger works on can do it."""

    def exists(self, reader: Reader) -> bool:
        """Say whether the documents have words, going by the first of them: those of a copied ledger have none yet."""
        return reader.rows(_FIRST, (self._store,)) != [(True,)]

    def rebuild(self, tx: Transaction, parse: Callable[[Any], Any]) -> None:
        """Write the words of every document anew; units that write documents wait for that."""
        tx.execute("LOCK TABLE uow_documents IN SHARE ROW EXCLUSIVE MODE")
        documents = tx.stream(_DOCUMENTS, (self._store,))
        while batch := list(islice(documents, _FILLED_AT_ONCE)):
            rows = ((space_id, key, self.words_of(parse(text))) for space_id, key, text in batch)
            tx.execute(_FILL, (*map(list, zip(*rows, strict=True)), self._store))

    @staticmethod
    def drop(tx: Transaction, store: str) -> None:
        """Remove the words of all documents of `store`."""
        tx.execute("UPDATE uow_documents SET words = NULL WHERE store = ? AND words IS NOT NULL", (store,))

    def words_of(self, document: object) -> str:
        """Return what the column holds for a document."""
        return words_of(searched_texts(document, self.fields))

    def search(
        self, reader: Reader, space_id: str, query: object, k: int, *, any_word: bool, syntax: bool
    ) -> list[Hit]:
        """Return the `k` best documents of the space, best first; equal scores in the order of keys.

        Raises:
            UsageError: `query` is not a string, or too long; or it is to be FTS5 syntax.
        """
        text = check_query(query, self._store)
        if syntax:
            raise UsageError(
                "A ledger in a PostgreSQL database does not know FTS5's syntax.",
                hint="Nothing was written. Leave out syntax=True, and give match='all' or match='any'.",
                store=self._store,
            )
        wanted = query_of(text, any_word=any_word)
        if not wanted:
            return []
        rows: list[tuple[Any, ...]] = reader.rows(_SEARCH, (_RANK, wanted, self._store, space_id, k))
        return [Hit(key, score) for key, score in rows]


def words_of(texts: Sequence[str]) -> str:
    """Return the words of a document's searched fields as the text of a ``tsvector``.

    What comes after the first 900 kB of different words is left out, and so is a word's 256th place: PostgreSQL keeps
    no more.
    """
    places: dict[str, list[int]] = {}
    position, size = 0, 0
    for text in texts:
        for word in split(text):
            position += 1
            known = places.get(word)
            if known is None:
                size += len(word.encode()) + 8
                if size > _BYTES_MAX:
                    return _as_text(places)
                known = places[word] = []
            if (len(known) < _PLACES_MAX and position <= _POSITION_MAX) or not known:
                known.append(min(position, _POSITION_MAX))
                size += 2
        position += _GAP
    return _as_text(places)


def _as_text(places: dict[str, list[int]]) -> str:
    ordered = sorted(places.items(), key=lambda entry: entry[0].encode())
    return " ".join(f"'{word}':{','.join(map(str, found))}" for word, found in ordered)


def split(text: str) -> Iterator[str]:
    """Yield the words of `text`, folded."""
    folded = unicodedata.normalize("NFD", text.lower()).translate(_DIACRITICS).translate(_FINAL_SIGMA)
    for word in _WORD.finditer(unicodedata.normalize("NFC", folded)):
        yield word[0][:_WORD_CHARACTERS_MAX]


def query_of(query: str, *, any_word: bool) -> str:
    """Return the ``tsquery`` that finds the words of `query`; "" if it has none.

    What stands between two spaces is a phrase where it has several words, as in ``state-of-the-art``.
    """
    phrases = dict.fromkeys(" <-> ".join(f"'{word}'" for word in split(part)) for part in query.split())
    phrases.pop("", None)
    return (" | " if any_word else " & ").join(f"({phrase})" for phrase in phrases)
