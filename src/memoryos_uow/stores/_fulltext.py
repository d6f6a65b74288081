"""Full text over documents: one FTS5 table per document store (https://sqlite.org/fts5.html).

The table's row for a document has the document's row id; its first column holds a word made from the space, the others
(c0, c1, ...) the searched fields. Field names are data and never become SQL.

Promise: a query finds documents of its own space only, three times over: the space's word is part of every MATCH, the
caller's part of it can match field columns only and cannot leave its parentheses, and each hit is looked up among the
records of that space. So a stale index row leads nowhere.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._records import Hit
from memoryos_uow.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from memoryos_uow.abc import Reader, Transaction

QUERY_CHARACTERS_MAX: Final = 10_000
"""Longest query. FTS5's time grows with the square of the number of words: 5,000 words take 0.15 s on a 2020s
machine."""

# Words are runs of letters and digits, without regard to case and diacritics.
_TOKENIZER: Final = "unicode61 remove_diacritics 2"
_STRING_OR_PARENTHESIS: Final = re.compile(r'"(?:[^"]|"")*"|["()]')
_DOCUMENT: Final = "store = ? AND space_id = ? AND key = ?"


class IndexEntry(NamedTuple):
    """What the index keeps of one document."""

    row_id: int
    space: Any
    texts: list[Any]


class FullTextIndex:
    """The index of the document store called `store` over the top-level `fields` of its documents."""

    def __init__(self, store: str, fields: tuple[str, ...]) -> None:
        self.fields = fields
        self._store = store
        self._table = index_table(store)
        self._columns = ", ".join(f"c{number}" for number in range(len(fields)))
        self._marks = ", ".join("?" * len(fields))

    # The table

    def refuse_unfit(self, reader: Reader) -> None:
        """Raise StoreError if this SQLite was built without FTS5."""
        if not reader.rows("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"):
            raise StoreError(
                f"The store {self._store!r} is to be searched, but this SQLite has no FTS5.",
                hint="Nothing was written. Use a Python whose SQLite has it, or leave out search=.",
                store=self._store,
            )

    def exists(self, reader: Reader) -> bool:
        """Say whether the ledger has the table."""
        return bool(reader.rows("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (self._table,)))

    def rebuild(self, tx: Transaction, parse: Callable[[Any], Any]) -> None:
        """Make the table anew from the store's documents, whose text `parse` turns into values."""
        documents = tx.stream("SELECT id, space_id, value FROM uow_documents WHERE store = ?", (self._store,))
        self.drop(tx, self._store)
        tx.execute(f"CREATE VIRTUAL TABLE {self._table} USING fts5(space, {self._columns}, tokenize='{_TOKENIZER}')")
        tx.execute_many(
            f"INSERT INTO {self._table} (rowid, space, {self._columns}) VALUES (?, ?, {self._marks})",  # noqa: S608
            ((row_id, space_word(space_id), *self._texts(parse(text))) for row_id, space_id, text in documents),
        )

    def renew(self, tx: Transaction) -> None:
        """Write the index anew from the texts it holds, so that no word of a deleted document is left in it."""
        if self.exists(tx):
            tx.execute(f"INSERT INTO {self._table} ({self._table}) VALUES ('rebuild')")  # noqa: S608 - a name of ours

    @staticmethod
    def drop(tx: Transaction, store: str) -> None:
        """Remove the table of `store` if there is one."""
        tx.execute(f"DROP TABLE IF EXISTS {index_table(store)}")

    # In step with the documents

    def put(self, tx: Transaction, space_id: str, documents: Iterable[tuple[str, object]]) -> None:
        """Index `documents` (key and value), which lie in the record table already."""
        tx.execute_many(
            f"INSERT OR REPLACE INTO {self._table} (rowid, space, {self._columns})"  # noqa: S608
            f" SELECT id, ?, {self._marks} FROM uow_documents WHERE {_DOCUMENT}",
            ((space_word(space_id), *self._texts(value), self._store, space_id, key) for key, value in documents),
        )

    def remove(self, tx: Transaction, space_id: str, keys: Iterable[str]) -> None:
        """Forget the documents with these `keys`, which lie in the record table still."""
        tx.execute_many(
            f"DELETE FROM {self._table} WHERE rowid = (SELECT id FROM uow_documents WHERE {_DOCUMENT})",  # noqa: S608
            ((self._store, space_id, key) for key in keys),
        )

    def _texts(self, document: object) -> list[str]:
        return searched_texts(document, self.fields)

    # For the comparison with the documents

    def entries(self, reader: Reader) -> Iterator[IndexEntry]:
        """Yield every entry, in the order of row ids."""
        sql = f"SELECT rowid, space, {self._columns} FROM {self._table} ORDER BY rowid"  # noqa: S608
        for row_id, space, *texts in reader.stream(sql):
            yield IndexEntry(row_id, space, texts)

    def entry_of(self, row_id: int, space_id: str, document: object) -> IndexEntry:
        """Return the entry that a document should have."""
        return IndexEntry(row_id, space_word(space_id), self._texts(document))

    # Searching

    def search(
        self, reader: Reader, space_id: str, query: object, k: int, *, any_word: bool, syntax: bool
    ) -> list[Hit]:
        """Return the `k` best documents of the space, best first; equal scores in the order of keys.

        Raises:
            UsageError: `query` is not a string, or too long; or it is to be FTS5 syntax and is not.
        """
        expression = syntax_query(query, self._store) if syntax else plain_query(query, self._store, any_word=any_word)
        return self._matching(reader, space_id, expression, k) if expression else []

    def _matching(self, reader: Reader, space_id: str, expression: str, k: int) -> list[Hit]:
        columns = self._columns.replace(",", "")
        match = f"{{space}} : {space_word(space_id)} AND ({{{columns}}} : ({expression}))"
        # CROSS JOIN keeps the order of the tables (https://sqlite.org/optoverview.html, section 8.2): one pass over the
        # matches, each looked up by id. bm25's 0.0 is the weight of the space column, all others have 1.0.
        sql = (
            f"SELECT d.key, bm25({self._table}, 0.0) AS score"  # noqa: S608
            f" FROM {self._table} CROSS JOIN uow_documents AS d ON d.id = {self._table}.rowid"
            f" WHERE {self._table} MATCH ? AND d.store = ? AND d.space_id = ? ORDER BY score, d.key LIMIT ?"
        )
        try:
            rows = reader.rows(sql, (match, self._store, space_id, k))
        except UsageError:
            rows = None  # SQLite's message quotes the query, so nothing may be raised from inside this block
        if rows is None:
            raise _query_refusal(
                "is not FTS5 syntax", "See https://sqlite.org/fts5.html, or leave out syntax=True.", self._store
            )
        return [Hit(key, -score) for key, score in rows]


def index_table(store: str) -> str:
    """Return the name of the FTS5 table of a store.

    FTS5 adds tables of its own with endings like ``_data``, and SQLite takes upper for lower case. So that no two
    stores meet, names end in ``_text`` (as none of these tables does), then in a number that tells which letters are
    capitals.
    """
    capitals = sum(1 << position for position, letter in enumerate(store) if letter.isupper())
    return f"uow_fts_{store.lower()}_text" + (f"_{capitals:x}" if capitals else "")


def space_word(space_id: str) -> str:
    """Return the word that stands for a space in the index: ``s`` and 64 bits of its SHA-256 in hex."""
    return "s" + hashlib.sha256(space_id.encode()).hexdigest()[:16]


def plain_query(query: object, store: str, *, any_word: bool) -> str:
    """Return the FTS5 expression that finds the words of `query`, whatever characters it holds; "" if it has none.

    Raises:
        UsageError: not a string, or too long.
    """
    text = check_query(query, store)
    # No document holds U+0000 or a lone surrogate. Between words they are as good as a space.
    text = text.replace("\0", " ").encode("utf-8", "replace").decode()
    phrases = ['"' + word.replace('"', '""') + '"' for word in dict.fromkeys(text.split())]
    # Side by side means AND, and other than AND it passes over phrases without any letter or digit.
    return (" OR " if any_word else " ").join(phrases)


def syntax_query(query: object, store: str) -> str:
    """Return `query`, FTS5 syntax by the caller's word, once it is known not to leave the parentheses put around it.

    Raises:
        UsageError: not a string, too long, with U+0000, a lone surrogate, or unbalanced quotes or parentheses.
    """
    text = check_query(query, store)
    if "\0" in text or text.encode("utf-8", "replace").decode() != text:
        raise _query_refusal("has U+0000 or a lone surrogate", "Remove that character.", store)
    depth = 0
    for mark in (found.group() for found in _STRING_OR_PARENTHESIS.finditer(text)):
        depth += (mark == "(") - (mark == ")")
        if depth < 0 or mark == '"':
            break
    else:
        if depth == 0:
            return text.strip()
    raise _query_refusal("has unbalanced quotes or parentheses", "Close what is open.", store)


def check_query(query: object, store: str) -> str:
    """Return `query`.

    Raises:
        UsageError: not a string, or too long.
    """
    if not isinstance(query, str):
        raise _query_refusal(f"must be a string, not {type(query).__name__}", "Pass the words to look for.", store)
    if len(query) > QUERY_CHARACTERS_MAX:
        what = f"is {len(query):,} characters long; the limit is {QUERY_CHARACTERS_MAX:,}"
        raise _query_refusal(what, "Look for fewer words.", store)
    return query


def _query_refusal(what: str, hint: str, store: str) -> UsageError:
    return UsageError(f"The query {what}.", hint=f"Nothing was written. {hint}", store=store)


def searched_texts(document: object, fields: Iterable[str]) -> list[str]:
    """Return the text to index of each of the top-level `fields` of a document."""
    values = document if isinstance(document, dict) else {}
    return [_searchable(values.get(field)) for field in fields]


def _searchable(value: object) -> str:
    """Return the text to index of a field's value: a string, or the strings of a list; "" for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return ""
